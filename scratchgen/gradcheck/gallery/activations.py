"""Activations: derivatives that are nearly right."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.functions import sigmoid
from scratchgen.gradcheck.gallery.bug import Bug
from scratchgen.gradcheck.gallery.training import Map, both, fit, fit_vectors, labelled
from scratchgen.losses import mse

# Each is (x, *, bug) → y, backward.


def relu_wrong_side(x, *, bug):
    mask = x < 0 if bug else x > 0
    return np.maximum(x, 0), lambda dy: dy * mask


def relu_mask_from_output(x, *, bug):
    y = np.maximum(x, 0)
    mask = y >= 0 if bug else y > 0
    return y, lambda dy: dy * mask


def relu_writes_into_dy(x, *, bug):
    y = np.maximum(x, 0)

    def backward(dy):
        if not bug:
            return dy * (y > 0)
        dy[y <= 0] = 0
        return dy

    return y, backward


def leaky_slope_forgotten(x, *, bug):
    slope = np.where(x > 0, x.dtype.type(1), x.dtype.type(0 if bug else 0.2))
    return np.maximum(x, 0.2 * x), lambda dy: dy * slope


def tanh_of_input(x, *, bug):
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - (x * x if bug else y * y))


def tanh_for_its_derivative(x, *, bug):
    y = np.tanh(x)
    return y, lambda dy: dy * (y if bug else 1 - y * y)


def sigmoid_short(x, *, bug):
    y = sigmoid(x)
    return y, lambda dy: dy * (1 - y if bug else y * (1 - y))


def sigmoid_sign(x, *, bug):
    y = sigmoid(x)
    return y, lambda dy: dy * y * (1 + y if bug else 1 - y)


def softmax_diagonal(x, *, bug):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)

    def backward(dy):
        if bug:
            return dy * y * (1 - y)
        return y * (dy - (dy * y).sum(axis=-1, keepdims=True))

    return y, backward


def log_softmax_without_sum(x, *, bug):
    shifted = x - x.max(axis=-1, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    def backward(dy):
        return dy - np.exp(y) * (dy if bug else dy.sum(axis=-1, keepdims=True))

    return y, backward


def _inside(function: Callable[..., Any], bug: bool) -> list[float]:
    """Between two dense layers."""
    return fit_vectors(Map(function, bug))


def _on_top(function: Callable[..., Any], bug: bool, loss: Callable[..., Any] = mse) -> list[float]:
    """On top of a classifier of three clouds of points."""
    rng, (x, t) = np.random.default_rng(0), labelled()
    one_hot = np.eye(3, dtype=np.float32)[t]
    layers = (L.Dense(2, 8, rng=rng), L.Tanh(), L.Dense(8, 3, rng=rng), Map(function, bug))
    return fit(*layers, x=x, t=one_hot, loss=loss, lr=0.5)


class Shortcut(L.Layer):
    """y = f(x) + x: both terms get the same dy."""

    def __init__(self, inner: L.Layer):
        self.inner = inner

    def forward(self, x):
        y, inner_backward = self.inner.forward(x)
        return y + x, lambda dy: inner_backward(dy) + dy


def _beside_a_shortcut(function: Callable[..., Any], bug: bool) -> list[float]:
    return fit_vectors(Shortcut(Map(function, bug)))


def log_likelihood(log_p: Array, one_hot: Array) -> tuple[Any, Array]:
    return -(one_hot * log_p).sum() / len(log_p), -one_hot / len(log_p)


def _bug(
    function: Callable[..., Any],
    name: str,
    title: str,
    *,
    right: str,
    wrong: str,
    symptom: str,
    cause: str,
    sources: tuple[str, ...] = (),
    caught_by: Literal["gradient", "contract"] = "gradient",
    train: Callable[[Callable[..., Any], bool], list[float]] = _inside,
) -> Bug:
    def make(rng):
        return both(function, rng.standard_normal((5, 4)))

    return Bug(name, title, right, wrong, symptom, sources, caught_by, cause, make, lambda bug: train(function, bug))


BUGS = (
    _bug(
        relu_wrong_side,
        "relu-wrong-side",
        "ReLU lets the wrong side through",
        right="dx = dy · [x > 0]",
        wrong="dx = dy · [x < 0]",
        symptom="layers below learn from the elements that do not count",
        cause=r"x (<|≤|>) 0|wrong side|other side|opposite|inverted",
    ),
    _bug(
        relu_mask_from_output,
        "relu-mask-from-output",
        "ReLU's mask is taken from y ≥ 0, which always holds",
        right="dx = dy · [y > 0]",
        wrong="dx = dy · [y ≥ 0] = dy",
        symptom="it trains, and overfits",
        cause=r"≥|>=|mask|lets .*through|(equals|is) dy\b|x (<|≤) 0",
        sources=("https://github.com/iamtrask/Grokking-Deep-Learning/pull/13",),
    ),
    _bug(
        relu_writes_into_dy,
        "relu-writes-into-dy",
        "ReLU's backward writes into dy",
        right="dx = dy · [y > 0], an array of its own",
        wrong="dy[y ≤ 0] = 0, and dy returned",
        symptom="right in a chain; where two layers get the same dy, as behind a sum, one spoils the other's",
        cause=r"writes into dy",
        caught_by="contract",
        train=_beside_a_shortcut,
    ),
    _bug(
        leaky_slope_forgotten,
        "leaky-slope-forgotten",
        "The slope of a leaky ReLU is missing in its derivative",
        right="dx = dy · (1 where x > 0, else slope)",
        wrong="dx = dy · (1 where x > 0, else 0)",
        symptom="units die as if there were no leak",
        cause=r"slope|x (<|≤) 0|0\.2|negative side|where x is negative",
    ),
    _bug(
        tanh_of_input,
        "tanh-derivative-of-input",
        "tanh′ is taken as 1 − x²",
        right="dx = dy · (1 − y²)",
        wrong="dx = dy · (1 − x²)",
        symptom="right near 0; wrong in sign where |x| > 1",
        cause=r"x²|x ?[·*] ?x|1 [−-] x|x for y|x in the place of y|y²",
    ),
    _bug(
        tanh_for_its_derivative,
        "tanh-for-its-derivative",
        "tanh is taken for its own derivative",
        right="dx = dy · (1 − y²)",
        wrong="dx = dy · y",
        symptom="an odd sign: units below 0 learn the wrong way",
        cause=r"dy ?[·*] ?y\b|1 [−-] y²|y in the place of|1 [−-] y ?[·*] ?y",
        sources=("https://github.com/andersbll/nnet/issues/4",),
    ),
    _bug(
        sigmoid_short,
        "sigmoid-derivative-short",
        "σ′ is taken as 1 − y",
        right="dx = dy · y (1 − y)",
        wrong="dx = dy · (1 − y)",
        symptom="gradients are some times too large; it trains with a smaller learning rate",
        cause=r"factor y\b|times y\b|[·*] ?y\b|\by ?[·*(]|\by²",
    ),
    _bug(
        sigmoid_sign,
        "sigmoid-derivative-sign",
        "σ′ with one sign flipped",
        right="dx = dy · y (1 − y)",
        wrong="dx = dy · y (1 + y)",
        symptom="it trains; the gradient does not fade where y nears 1",
        cause=r"y²|[·*] ?y ?[·*] ?y\b|1 [−-] y|1 \+ y",
    ),
    _bug(
        softmax_diagonal,
        "softmax-diagonal",
        "softmax′ is taken as its diagonal",
        right="dx = y · (dy − Σ dy·y)",
        wrong="dx = dy · y (1 − y)",
        symptom="the check fails, and training is slower than it should be",
        cause=r"\brow\b|off.?diagonal|other (outputs|elements)|Σ|last axis|\bsum (of|over)",
        sources=("https://github.com/SebLague/Neural-Network-Experiments/pull/5",),
        train=_on_top,
    ),
    _bug(
        log_softmax_without_sum,
        "log-softmax-without-sum",
        "log-softmax without the sum over dy",
        right="dx = dy − eʸ · Σ dy",
        wrong="dx = dy − eʸ · dy",
        symptom="under a log-likelihood only the true class moves; it trains slowly",
        cause=r"\brow\b|off.?diagonal|other (outputs|elements)|Σ|last axis|\bsum (of|over)",
        train=lambda function, bug: _on_top(function, bug, log_likelihood),
    ),
)
