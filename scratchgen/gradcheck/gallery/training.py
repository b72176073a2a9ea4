"""Small trainings that show what a bug does: with it and without, from the same weights, a second at most."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Case
from scratchgen.layers.parameter import Parameter
from scratchgen.losses import mse, softmax_cross_entropy
from scratchgen.optim import SGD

Loss = Callable[[], tuple[Any, Callable[[], object]]]


def both(function: Callable[..., Any], *inputs: Array) -> Case:
    """The case of a function that takes `bug`, whether to have it."""
    return Case(partial(function, bug=True), partial(function, bug=False), inputs)


def pair(build: Callable[[bool, np.random.Generator], Any], rng: np.random.Generator, *inputs: Array) -> Case:
    """The case of what `build(bug, rng)` makes, with the same parameters both times."""
    seed = int(rng.integers(1 << 32))
    return Case(build(True, np.random.default_rng(seed)), build(False, np.random.default_rng(seed)), inputs)


class Map(L.Layer):
    """Such a function as a layer, for a network."""

    def __init__(self, function: Callable[..., Any], bug: bool):
        self.function, self.bug = function, bug

    def forward(self, x: Array) -> tuple[Array, Any]:
        return self.function(x, bug=self.bug)


def descend(loss: Loss, parameters: Iterable[Parameter], *, steps: int = 120, lr: float = 0.1) -> list[float]:
    """The loss before each step of gradient descent.

    It ends where a step cannot be made, and before the first loss that is not finite, or far above what it was."""
    optimizer = SGD(parameters, lr)
    losses: list[float] = []
    with np.errstate(all="ignore"):
        for _ in range(steps):
            value, backward = loss()
            if not abs(value) <= 50 * (1 + abs(losses[0] if losses else value)):
                break
            losses.append(float(value))
            backward()
            optimizer.step()
    return losses


def fit(
    *layers: L.Layer, x: Array, t: Array, loss: Callable[..., Any] = mse, steps: int = 120, lr: float = 0.1
) -> list[float]:
    """Losses of a network that learns to give t for x."""
    network = L.Sequential(*layers)

    def evaluate() -> tuple[Any, Callable[[], object]]:
        y, backward = network.forward(x)
        value, dy = loss(y, t)
        return value, lambda: backward(dy, need_dx=False)

    return descend(evaluate, network.parameters(), steps=steps, lr=lr)


def vectors(n_in: int = 3, n_out: int = 4, samples: int = 32) -> tuple[Array, Array]:
    """x (samples, n_in), and t (samples, n_out), smooth functions of x."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((samples, n_in)).astype(np.float32)
    return x, np.tanh(x @ rng.standard_normal((n_in, n_out)).astype(np.float32))


def labelled(samples: int = 48) -> tuple[Array, Array]:
    """x (samples, 2), and which of three clouds of points each is of."""
    rng = np.random.default_rng(1)
    t = rng.integers(0, 3, samples)
    centres = np.array([[1.5, 0], [-1, 1.2], [-1, -1.2]])
    return (centres[t] + 0.5 * rng.standard_normal((samples, 2))).astype(np.float32), t


def stripes(samples: int = 32) -> tuple[Array, Array]:
    """Images (samples, 6, 6, 2) of stripes, and which way they go: 0 across, 1 down."""
    rng = np.random.default_rng(1)
    t = np.arange(samples) % 2
    across = np.sin(1.5 * np.arange(6) + rng.uniform(0, 6, (samples, 1)))[:, :, None, None] * np.ones((1, 1, 6, 2))
    images = np.where(t[:, None, None, None] == 0, across, across.swapaxes(1, 2))
    return (images + 0.3 * rng.standard_normal(images.shape)).astype(np.float32), t


def fit_vectors(layer: L.Layer, *, n_in: int = 6, n_out: int = 6, **options: Any) -> list[float]:
    """With the layer, which makes vectors of n_out elements of such of n_in, between two others."""
    rng, (x, t) = np.random.default_rng(2), vectors()
    return fit(L.Dense(3, n_in, rng=rng), layer, L.Tanh(), L.Dense(n_out, 4, rng=rng), x=x, t=t, **options)


def fit_stripes(layer: L.Layer, *, channels: int = 3, size: int, lr: float = 0.05, steps: int = 100) -> list[float]:
    """With the layer, which makes images of 3 channels of such ones of `channels`, after a convolution; `size` is how
    many elements it makes of an image of 6×6."""
    rng, (x, t) = np.random.default_rng(2), stripes()
    first = L.Conv2d(2, channels, 3, padding=1, rng=rng)
    last = L.Dense(size, 2, rng=rng)
    layers = (first, L.Tanh(), layer, L.Tanh(), L.Flatten(), last)
    return fit(*layers, x=x, t=t, loss=softmax_cross_entropy, lr=lr, steps=steps)
