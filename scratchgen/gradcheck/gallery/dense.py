"""y = x W + b: what goes wrong in three lines."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Bug, Case
from scratchgen.gradcheck.gallery.training import descend, fit_vectors, pair, vectors
from scratchgen.layers.parameter import Parameter
from scratchgen.losses import mse


class Dense(L.Layer):
    """y = x W + b, with the backward that it is given."""

    def __init__(self, n_in: int, n_out: int, pull: Callable[..., Any], rng: np.random.Generator):
        self.W = Parameter("W", 0.5 * rng.standard_normal((n_in, n_out), np.float32))
        self.b = Parameter("b", 0.5 * rng.standard_normal(n_out, np.float32))
        self.pull = pull

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Any]]:
        W = self.W.value
        return x @ W + self.b.value, lambda dy: self.pull(self, x, W, dy)

    def __repr__(self) -> str:
        return "Dense({}, {})".format(*self.W.value.shape)


def right(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)
    return dy @ W.T


# --- each with one line wrong ---


def a_thousandth_off(layer, x, W, dy):
    layer.W.grad += 1.001 * (x.T @ dy)
    layer.b.grad += 1.001 * dy.sum(axis=0)
    return 1.001 * (dy @ W.T)


def bias_forgotten(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    return dy @ W.T


def bias_averaged(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.mean(axis=0)
    return dy @ W.T


def bias_weighted(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += (dy * x.sum(axis=1, keepdims=True)).sum(axis=0)
    return dy @ W.T


def weights_times_batch(layer, x, W, dy):
    layer.W.grad += len(x) * (x.T @ dy)
    layer.b.grad += dy.sum(axis=0)
    return dy @ W.T


def wrong_sign(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)
    return -dy @ W.T


def without_transpose(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)
    return dy @ W


def gradient_transposed(layer, x, W, dy):
    layer.W.grad += dy.T @ x
    layer.b.grad += dy.sum(axis=0)
    return dy @ W.T


def gradient_shape(layer, x, W, dy):
    layer.W.grad = layer.W.grad.T + dy.T @ x
    layer.b.grad += dy.sum(axis=0)
    return dy @ W.T


def assigned(layer, x, W, dy):
    layer.W.grad = x.T @ dy
    layer.b.grad = dy.sum(axis=0)
    return dy @ W.T


def late_weights(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)
    return dy @ layer.W.value.T


def returns_nothing(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)


class OwnCache(Dense):
    """What backward needs is kept on the layer, where the next forward overwrites it."""

    def forward(self, x):
        self.x, W = x, self.W.value
        return x @ W + self.b.value, lambda dy: self.pull(self, self.x, W, dy)


class OwnStep:
    """A layer that makes its step itself, in backward."""

    def __init__(self, n_in: int, n_out: int, bug: bool, rng: np.random.Generator):
        self.W, self.bug = 0.5 * rng.standard_normal((n_in, n_out)), bug

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy, learning_rate):
        W = self.W
        self.W = W - learning_rate * self.x.T @ dy
        return dy @ (self.W if self.bug else W).T


def train_own_steps(bug: bool) -> list[float]:
    rng, (x, t) = np.random.default_rng(0), vectors()
    first, second = OwnStep(3, 8, bug, rng), OwnStep(8, 4, bug, rng)

    def loss():
        h = np.tanh(first.forward(x))
        value, dy = mse(second.forward(h), t.astype(np.float64))
        return value, lambda: first.backward(second.backward(dy, 0.4) * (1 - h * h), 0.4)

    nobody = Parameter("none", np.zeros(1))  # the layers make their own steps
    return descend(loss, [nobody])


def _bug(
    name: str,
    title: str,
    *,
    right_formula: str,
    wrong_formula: str,
    symptom: str,
    cause: str,
    pull: Callable[..., Any] = right,
    layer: type[Dense] = Dense,
    shape: tuple[int, int] = (3, 4),
    train: Callable[[type[Dense], Callable[..., Any]], list[float]] | None = None,
    caught_by: Literal["gradient", "contract"] = "gradient",
    sources: tuple[str, ...] = (),
) -> Bug:
    def make(rng: np.random.Generator) -> Case:
        def build(bug: bool, rng: np.random.Generator) -> Dense:
            return layer(*shape, pull, rng) if bug else Dense(*shape, right, rng)

        return pair(build, rng, rng.standard_normal((5, shape[0])))

    def curve(bug: bool) -> list[float]:
        kind, backward = (layer, pull) if bug else (Dense, right)
        if train is not None:
            return train(kind, backward)
        return fit_vectors(kind(6, 6, backward, np.random.default_rng(0)))

    return Bug(name, title, right_formula, wrong_formula, symptom, sources, caught_by, cause, make, curve)


def _as_first(kind: type[Dense], pull: Callable[..., Any]) -> list[float]:
    """The layer at the entrance of a network, where nobody asks for its dx."""
    rng, (x, t) = np.random.default_rng(0), vectors()
    network = L.Sequential(kind(3, 8, pull, rng), L.Tanh(), L.Dense(8, 4, rng=rng))

    def loss():
        y, backward = network.forward(x)
        value, dy = mse(y, t)
        return value, lambda: backward(dy, need_dx=False)

    return descend(loss, network.parameters())


def _on_two_batches(kind: type[Dense], pull: Callable[..., Any]) -> list[float]:
    """One layer, evaluated on two batches before either goes back: as a discriminator is, on real and fake ones."""
    layer, (x, t) = kind(3, 4, pull, np.random.default_rng(0)), vectors()

    def loss():
        (y, back), (y2, back2) = layer.forward(x[:16]), layer.forward(x[16:])
        (first, dy), (second, dy2) = mse(y, t[:16]), mse(y2, t[16:])
        return first + second, lambda: (back(dy), back2(dy2))

    return descend(loss, layer.parameters(), lr=0.05)


def _step_between(kind: type[Dense], pull: Callable[..., Any]) -> list[float]:
    """The optimizer makes its step before the batch goes back to the layer below."""
    rng, (x, t) = np.random.default_rng(0), vectors()
    first, second = L.Dense(3, 8, rng=rng), kind(8, 4, pull, rng)

    def loss():
        h, first_back = first.forward(x)
        y, second_back = second.forward(np.tanh(h))
        value, dy = mse(y, t)

        def backward():
            second.W.value = second.W.value - 0.4 * np.tanh(h).T @ dy  # an update elsewhere, in between
            first_back(second_back(dy) * (1 - np.tanh(h) ** 2))
            second.W.zero_grad()

        return value, backward

    return descend(loss, [*first.parameters(), *second.parameters()])


BUGS = (
    _bug(
        "a-thousandth-off",
        "Every gradient is a thousandth too large",
        right_formula="dW = xᵀ dy,  db = Σ dy,  dx = dy Wᵀ",
        wrong_formula="1.001 times each",
        symptom="nothing: training looks the same, and a check with a tolerance of 1e-2 passes",
        cause=r"1\.001",
        pull=a_thousandth_off,
    ),
    _bug(
        "bias-gradient-forgotten",
        "The bias takes no gradient",
        right_formula="db = Σ dy",
        wrong_formula="db = 0",
        symptom="biases stay at 0; it trains, a little worse",
        cause=r"zero everywhere|never adds|returns zeros",
        pull=bias_forgotten,
    ),
    _bug(
        "bias-gradient-averaged",
        "The bias's gradient is averaged over the batch",
        right_formula="db = Σ dy",
        wrong_formula="db = Σ dy / N",
        symptom="biases learn N times more slowly than weights",
        cause=r"divided by (the batch size|N\b)|batch averages|mean over the batch",
        pull=bias_averaged,
    ),
    _bug(
        "bias-gradient-weighted",
        "The bias's gradient is summed with the inputs as weights",
        right_formula="db = Σ dy",
        wrong_formula="db = Σ dy · (Σ x)",
        symptom="the bias is wrong, and everything else right",
        cause=r"Σ ?x|sum of x|x\.sum|times x|weighted|dy ?[·*] ?x",
        pull=bias_weighted,
        sources=("https://github.com/rust0258/Deeplearning.ai-Natural-Language-Processing-Specialization/issues/64",),
    ),
    _bug(
        "weight-gradient-times-batch",
        "The weights' gradient is N times too large",
        right_formula="dW = xᵀ dy",
        wrong_formula="dW = N · xᵀ dy",
        symptom="it diverges, or wants another learning rate for every batch size",
        cause=r"multiplied by (the batch size|N\b)",
        pull=weights_times_batch,
        train=_on_two_batches,
    ),
    _bug(
        "wrong-sign",
        "dx has the wrong sign",
        right_formula="dx = dy Wᵀ",
        wrong_formula="dx = −dy Wᵀ",
        symptom="the layers below climb, while those above still lower the loss",
        cause=r"\bsign\b|−1 times|negated",
        pull=wrong_sign,
    ),
    _bug(
        "dx-without-transpose",
        "The weights are not transposed in dx",
        right_formula="dx = dy Wᵀ",
        wrong_formula="dx = dy W",
        symptom="runs where W is square, and the layers below learn something else",
        cause=r"transpos|Wᵀ|W\.T",
        pull=without_transpose,
        shape=(4, 4),
    ),
    _bug(
        "weight-gradient-transposed",
        "The weights' gradient is transposed",
        right_formula="dW = xᵀ dy",
        wrong_formula="dW = dyᵀ x",
        symptom="runs where W is square, and the weights learn something else",
        cause=r"transpos",
        pull=gradient_transposed,
        shape=(4, 4),
    ),
    _bug(
        "weight-gradient-shape",
        "The weights' gradient has another shape",
        right_formula="dW = xᵀ dy",
        wrong_formula="dW = dyᵀ x, assigned",
        symptom="no layer but a square one can make a step",
        cause=r"needs \(3, 4\)|shape",
        pull=gradient_shape,
    ),
    _bug(
        "gradient-assigned",
        "The gradient is assigned, not added",
        right_formula="W.grad += xᵀ dy",
        wrong_formula="W.grad = xᵀ dy",
        symptom="right while a layer is used once; of two batches, as a discriminator's, the last alone counts",
        cause=r"does not add to|\+=",
        pull=assigned,
        train=_on_two_batches,
        caught_by="contract",
        sources=("https://github.com/sebgao/cTensor/issues/5",),
    ),
    _bug(
        "cache-overwritten",
        "What backward needs is kept on the layer",
        right_formula="x of this evaluation, in a local variable",
        wrong_formula="self.x, which the next forward overwrites",
        symptom="right while a layer is used once; two batches give the second one's gradient twice, or raise",
        cause=r"cache is on the layer",
        layer=OwnCache,
        train=_on_two_batches,
        caught_by="contract",
    ),
    _bug(
        "weights-read-late",
        "backward reads the weights as they are when it runs",
        right_formula="dx = dy Wᵀ, with the W of forward",
        wrong_formula="dx = dy Wᵀ, with the W of now",
        symptom="right unless a step lies between forward and backward",
        cause=r"not as they were evaluated|read them once, in forward|after the (update|step)",
        pull=late_weights,
        train=_step_between,
        caught_by="contract",
    ),
    Bug(
        name="weights-updated-before-dx",
        title="dx is pulled back through the weights after their update",
        right="dx = dy Wᵀ,  then W = W − η xᵀ dy",
        wrong="W = W − η xᵀ dy,  then dx = dy Wᵀ",
        symptom="XOR is learned slowly; the larger the learning rate, the worse",
        sources=(
            "https://github.com/CodingTrain/Toy-Neural-Network-JS/issues/72",
            "https://github.com/joelgrus/data-science-from-scratch/issues/31",
        ),
        caught_by="gradient",
        cause=r"updat|after (its|the|their) step|already moved|new weights|η",
        make=lambda rng: pair(lambda bug, rng: OwnStep(3, 4, bug, rng), rng, rng.standard_normal((5, 3))),
        train=train_own_steps,
    ),
    _bug(
        "backward-returns-nothing",
        "backward has no return",
        right_formula="return dy Wᵀ",
        wrong_formula="None",
        symptom="none in the first layer of a network, where nobody asks for dx; above others it raises",
        cause=r"return missing|returned None",
        pull=returns_nothing,
        train=_as_first,
    ),
)
