"""Batch and layer normalisation: three ways from x to y, and the one that is left out.

With x̂ = (x − μ)/σ, x goes into y by itself, through the mean μ and through the variance σ²:

    dx = γ/σ · (dy − Σ dy / m − x̂ Σ dy·x̂ / m)       sums over the m elements that the mean is of
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Bug, Case
from scratchgen.gradcheck.gallery.training import fit_stripes, fit_vectors, pair
from scratchgen.layers.parameter import Parameter

EPS = 1e-5


class BatchNorm(L.Layer):
    """y = γ x̂ + β, with the dx that it is given: of dy, x̂, the scale γ/σ, s = Σ dy, t = Σ dy·x̂, m, and x."""

    def __init__(self, channels: int, dx: Callable[..., Array], rng: np.random.Generator):
        self.gamma = Parameter("gamma", 1 + 0.3 * rng.standard_normal(channels, np.float32))
        self.beta = Parameter("beta", 0.3 * rng.standard_normal(channels, np.float32))
        self.dx = dx

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        axes, gamma = tuple(range(x.ndim - 1)), self.gamma.value
        m = x.size // x.shape[-1]
        inv_std = 1 / np.sqrt(x.var(axis=axes) + EPS)
        x_hat = (x - x.mean(axis=axes)) * inv_std

        def backward(dy):
            s, t = dy.sum(axis=axes), (dy * x_hat).sum(axis=axes)
            self.beta.grad += s
            self.gamma.grad += t
            return self.dx(dy, x_hat, gamma * inv_std, s, t, m, x)

        return gamma * x_hat + self.beta.value, backward


def right(dy, x_hat, scale, s, t, m, x):
    return scale * (dy - s / m - x_hat * t / m)


def without_mean(dy, x_hat, scale, s, t, m, x):
    return scale * (dy - x_hat * t / m)


def without_variance(dy, x_hat, scale, s, t, m, x):
    return scale * (dy - s / m)


def statistics_constant(dy, x_hat, scale, s, t, m, x):
    return scale * dy


def sums_for_means(dy, x_hat, scale, s, t, m, x):
    return scale * (dy - s - x_hat * t)


def term_too_many(dy, x_hat, scale, s, t, m, x):
    """The mean moves the variance, too: by Σ (x − μ) = 0, where here stands Σ x."""
    inv_std = 1 / np.sqrt(x.var(axis=tuple(range(x.ndim - 1))) + EPS)
    dvar = -scale * t * inv_std / 2
    dmean = -scale * s - 2 * dvar * x.reshape(-1, x.shape[-1]).sum(axis=0) / m
    return scale * dy + 2 * dvar * (x_hat / inv_std) / m + dmean / m


class LayerNorm(L.Layer):
    """y = γ x̂ + β, normalised over the last axis."""

    def __init__(self, features: int, bug: bool, rng: np.random.Generator):
        self.gamma = Parameter("gamma", 1 + 0.3 * rng.standard_normal(features, np.float32))
        self.beta = Parameter("beta", 0.3 * rng.standard_normal(features, np.float32))
        self.bug = bug

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        gamma, rows = self.gamma.value, tuple(range(x.ndim - 1))
        mean = partial(np.mean, axis=-1, keepdims=True)
        inv_std = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + EPS)
        x_hat = (x - mean(x)) * inv_std

        def backward(dy):
            self.beta.grad += dy.sum(axis=rows)
            self.gamma.grad += (dy * x_hat).sum(axis=rows)
            dx_hat = dy * gamma
            dx = dx_hat - mean(dx_hat)
            if not self.bug:
                dx -= x_hat * mean(dx_hat * x_hat)
            return dx * inv_std

        return gamma * x_hat + self.beta.value, backward


def _bug(
    name: str,
    title: str,
    *,
    wrong: str,
    symptom: str,
    cause: str,
    dx: Callable[..., Array],
    formula: str = "dx = γ/σ · (dy − Σ dy / m − x̂ Σ dy·x̂ / m)",
    sources: tuple[str, ...] = (),
    samples: int = 3,
) -> Bug:
    def make(rng: np.random.Generator) -> Case:
        images = 1 + rng.standard_normal((samples, 4, 3, 2))
        return pair(lambda bug, rng: BatchNorm(2, dx if bug else right, rng), rng, images)

    def train(bug: bool) -> list[float]:
        return fit_stripes(BatchNorm(3, dx if bug else right, np.random.default_rng(0)), size=108, lr=0.2)

    return Bug(name, title, formula, wrong, symptom, sources, "gradient", cause, make, train)


VARIANCE = r"variance|x̂ ?[·*]|x_hat|Σ ?dy ?[·*] ?(x̂|y|x)|standard deviation"

BUGS = (
    _bug(
        "batch-norm-mean-term",
        "Batch norm: the term through the mean is missing",
        wrong="dx = γ/σ · (dy − x̂ Σ dy·x̂ / m)",
        symptom="dx does not sum to 0 over a channel; it trains with a smaller learning rate",
        cause=r"\bmean\b",
        dx=without_mean,
    ),
    _bug(
        "batch-norm-variance-term",
        "Batch norm: the term through the variance is missing",
        wrong="dx = γ/σ · (dy − Σ dy / m)",
        symptom="it trains; the scale of the layer below grows, which the right gradient never moves",
        cause=VARIANCE,
        dx=without_variance,
    ),
    _bug(
        "batch-norm-statistics-constant",
        "Batch norm: mean and variance are taken for constants",
        wrong="dx = γ/σ · dy",
        symptom="as with the statistics of a whole epoch; it diverges at learning rates that batch norm should allow",
        cause=rf"\bmean\b|{VARIANCE}|statistics|constant",
        dx=statistics_constant,
    ),
    _bug(
        "batch-norm-sums-for-means",
        "Batch norm: sums in the place of means",
        wrong="dx = γ/σ · (dy − Σ dy − x̂ Σ dy·x̂)",
        symptom="dx is far too large",
        cause=r"1/m|not divided|\bmeans?\b|Σ ?dy|\bsum (of|over)",
        dx=sums_for_means,
    ),
    _bug(
        "batch-norm-term-too-many",
        "Batch norm: a term too many in the mean's gradient, divided by m twice",
        wrong="dμ = −Σ dx̂/σ − 2 dσ² Σ x / m, and dx = … + dμ / m",
        symptom="hard to see at a large m; the code that it was reported of sums x − μ, which is 0, and so was right",
        cause=r"too (many|much)|the mean is (missing or )?wrong|constant per channel(?!.*is missing)",
        dx=term_too_many,
        formula="dμ = −Σ dx̂/σ,  dx = dx̂/σ + 2 dσ² (x − μ)/m + dμ/m",
        sources=("https://github.com/apache/mxnet/issues/1053",),
    ),
    Bug(
        name="layer-norm-variance-term",
        title="Layer norm: the path through the variance is missing",
        right="dx = (dx̂ − mean dx̂ − x̂ mean(dx̂·x̂)) / σ",
        wrong="dx = (dx̂ − mean dx̂) / σ",
        symptom="it trains; the scale of what comes in grows",
        sources=(),
        caught_by="gradient",
        cause=VARIANCE,
        make=lambda rng: pair(lambda bug, rng: LayerNorm(5, bug, rng), rng, rng.standard_normal((4, 5))),
        train=lambda bug: fit_vectors(LayerNorm(6, bug, np.random.default_rng(0))),
    ),
)
