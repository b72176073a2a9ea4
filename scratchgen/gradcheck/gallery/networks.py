"""Several things put together: paths, products, two layers and their losses, a penalty."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Bug
from scratchgen.gradcheck.gallery.training import Map, both, descend, fit_vectors, pair, vectors
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter

# Functions of (x, *, bug), or of two inputs.


def two_paths(x, *, bug):
    """y = x² + x: x goes two ways."""
    y = x * x + x

    def backward(dy):
        dx = 2 * x * dy
        if bug:
            dx = dy.copy()
        else:
            dx += dy
        return dx

    return y, backward


def path_counted_twice(x, *, bug):
    """y = h² + h with h = sin x: h goes two ways, and all that arrives at it goes on to x once."""
    h = np.sin(x)

    def backward(dy):
        dh = 2 * h * dy
        dx = dh * np.cos(x)
        if bug:
            dh += dy
            dx += dh * np.cos(x)  # and the first part goes on once more
        else:
            dx += dy * np.cos(x)
        return dx

    return h * h + h, backward


def product(a, b, *, bug):
    """y = a · b."""
    return a * b, lambda dy: (dy * a, dy * b) if bug else (dy * b, dy * a)


def product_with_itself(x, *, bug):
    """y = x · sin x, by the product of two inputs."""
    y, backward = product(x, np.sin(x), bug=bug)

    def both_ways(dy):
        da, db = backward(dy)
        return da + db * np.cos(x)

    return y, both_ways


class TwoLayers(Module):
    """Two dense layers with tanh between, trained on the mean squared error over the batch."""

    def __init__(self, rng: np.random.Generator, n_in: int = 3, hidden: int = 4, n_out: int = 2):
        self.W1 = Parameter("W1", 0.7 * rng.standard_normal((n_in, hidden), np.float32))
        self.b1 = Parameter("b1", 0.1 * rng.standard_normal(hidden, np.float32))
        self.W2 = Parameter("W2", 0.7 * rng.standard_normal((hidden, n_out), np.float32))
        self.b2 = Parameter("b2", 0.1 * rng.standard_normal(n_out, np.float32))

    def loss(self, x: Array, t: Array) -> tuple[Any, Callable[[], None]]:
        m, W2 = len(x), self.W2.value
        a1 = np.tanh(x @ self.W1.value + self.b1.value)
        r = a1 @ W2 + self.b2.value - t

        def backward():
            dz2 = 2 * r
            self.W2.grad += a1.T @ dz2 / m
            self.b2.grad += dz2.sum(axis=0) / m
            dz1 = self.through_tanh(dz2 @ W2.T, a1, m)
            self.W1.grad += x.T @ dz1 / m
            self.b1.grad += dz1.sum(axis=0) / m

        return (r * r).sum() / m, backward

    def through_tanh(self, da1, a1, m):
        return da1 * (1 - a1 * a1)


class MeanTwice(TwoLayers):
    def through_tanh(self, da1, a1, m):
        return da1 * (1 - a1 * a1) / m


class MatrixProduct(TwoLayers):
    def through_tanh(self, da1, a1, m):
        return da1 @ (1 - a1.T @ a1)


class Penalised(Module):
    """Linear regression with the penalty λ ‖W‖²."""

    def __init__(self, rng: np.random.Generator, factor: float, n_in: int = 3, n_out: int = 2):
        self.W = Parameter("W", rng.standard_normal((n_in, n_out), np.float32))
        self.factor = factor  # of λ W in the gradient

    def loss(self, x: Array, t: Array) -> tuple[Any, Callable[[], None]]:
        W, decay = self.W.value, 0.3
        r = x @ W - t

        def backward():
            self.W.grad += 2 * x.T @ r / len(x) + self.factor * decay * W

        return (r * r).sum() / len(x) + decay * (W * W).sum(), backward


def _train_two_layers(kind: type[TwoLayers]) -> list[float]:
    network, (x, t) = kind(np.random.default_rng(0), n_out=4, hidden=8), vectors()
    return descend(lambda: network.loss(x, t), network.parameters())


def _train_penalised(factor: float) -> list[float]:
    model, (x, t) = Penalised(np.random.default_rng(0), factor, n_out=4), vectors()
    return descend(lambda: model.loss(x, t), model.parameters(), steps=60)


def _regression(rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.standard_normal((5, 3)), rng.standard_normal((5, 2))


BUGS = (
    Bug(
        name="path-forgotten",
        title="Of two paths that meet in x the second overwrites the first",
        right="dx = 2x · dy,  dx += dy",
        wrong="dx = 2x · dy,  dx = dy",
        symptom="a variable that is used twice gets the gradient of its last use alone",
        sources=("https://github.com/sebgao/cTensor/issues/5",),
        caught_by="gradient",
        cause=r"path|\+=|overwrit|dy ?[·*] ?x\b|x ?[·*] ?dy",
        make=lambda rng: both(two_paths, rng.standard_normal((5, 4))),
        train=lambda bug: fit_vectors(Map(two_paths, bug), lr=0.05),
    ),
    Bug(
        name="path-counted-twice",
        title="What arrives at a node is passed on each time that more arrives",
        right="dh = 2h · dy + dy,  then dx = dh · cos x once",
        wrong="dx = 2h · dy · cos x,  then += (2h · dy + dy) · cos x",
        symptom="7 for 6: a part of the gradient is counted twice, in a graph in which paths meet",
        sources=("https://github.com/karpathy/micrograd/issues/2",),
        caught_by="gradient",
        cause=r"twice|path|too (much|many)",
        make=lambda rng: both(path_counted_twice, rng.standard_normal((5, 4))),
        train=lambda bug: fit_vectors(Map(path_counted_twice, bug)),
    ),
    Bug(
        name="inputs-exchanged",
        title="The gradients of two inputs are exchanged",
        right="da = dy · b,  db = dy · a",
        wrong="da = dy · a,  db = dy · b",
        symptom="none while a and b are the same; else both learn something else",
        sources=(),
        caught_by="gradient",
        cause=r"exchang|swapp|interchang|gradient of (a|b|the other)|is d[ab]\b|d[ab] (stands|is)",
        make=lambda rng: both(product, rng.standard_normal((5, 4)), rng.standard_normal((5, 4))),
        train=lambda bug: fit_vectors(Map(product_with_itself, bug)),
    ),
    Bug(
        name="batch-mean-twice",
        title="The batch is averaged over in a layer's dz and once more in its dW",
        right="dz1 = da1 · (1 − a1²),  dW1 = xᵀ dz1 / m",
        wrong="dz1 = da1 · (1 − a1²) / m,  dW1 = xᵀ dz1 / m",
        symptom="layer 2 is right; layer 1 learns m times more slowly",
        sources=("https://community.deeplearning.ai/t/63071",),
        caught_by="gradient",
        cause=r"divided by (the batch size|m\b|N\b)|1/m|twice",
        make=lambda rng: pair(lambda bug, rng: (MeanTwice if bug else TwoLayers)(rng).loss, rng, *_regression(rng)),
        train=lambda bug: _train_two_layers(MeanTwice if bug else TwoLayers),
    ),
    Bug(
        name="matrix-product-for-elementwise",
        title="A matrix product in the place of the elementwise one",
        right="dz1 = da1 ⊙ (1 − a1²)",
        wrong="dz1 = da1 (1 − a1ᵀ a1)",
        symptom="shapes fit, and values are wrong",
        sources=("https://community.deeplearning.ai/t/402919",),
        caught_by="gradient",
        cause=r"elementwise|matrix product|off.?diagonal|⊙",
        make=lambda rng: pair(
            lambda bug, rng: (MatrixProduct if bug else TwoLayers)(rng).loss, rng, *_regression(rng)
        ),
        train=lambda bug: _train_two_layers(MatrixProduct if bug else TwoLayers),
    ),
    Bug(
        name="weight-decay-sign",
        title="The gradient of the penalty has the wrong sign",
        right="dW = … + 2λ W",
        wrong="dW = … − 2λ W",
        symptom="weights grow instead of shrinking",
        sources=("https://github.com/andersbll/nnet/issues/4",),
        caught_by="gradient",
        cause=r"\bW\b|weights themselves|its (own )?value|penalty|decay",
        make=lambda rng: pair(lambda bug, rng: Penalised(rng, -2 if bug else 2).loss, rng, *_regression(rng)),
        train=lambda bug: _train_penalised(-2 if bug else 2),
    ),
    Bug(
        name="weight-decay-half",
        title="The gradient of λ‖W‖² without the 2",
        right="dW = … + 2λ W",
        wrong="dW = … + λ W",
        symptom="a few per cent off, as λ is small; taken for rounding",
        sources=("https://github.com/jingtinghuang/CS231n-Spring-2017/issues/3",),
        caught_by="gradient",
        cause=r"\bW\b|weights themselves|its (own )?value|penalty|decay",
        make=lambda rng: pair(lambda bug, rng: Penalised(rng, 1 if bug else 2).loss, rng, *_regression(rng)),
        train=lambda bug: _train_penalised(1 if bug else 2),
    ),
)
