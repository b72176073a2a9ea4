"""Losses whose gradients are of other losses."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.functions import sigmoid
from scratchgen.gradcheck.gallery.bug import Bug
from scratchgen.gradcheck.gallery.training import both, descend, fit, labelled, vectors
from scratchgen.layers.parameter import Parameter
from scratchgen.losses import bce_with_logits

# Each is (…, *, bug) → loss, and the gradient for each argument that has one.


def mse_without_two(y, target, *, bug):
    r = y - target
    return (r * r).sum() / len(y), (1 if bug else 2) * r / len(y)


def mse_averaged(y, target, *, bug):
    r = y - target
    return (r * r).mean(), 2 * r / (len(y) if bug else r.size)


def bce_clipped(logits, target, *, bug):
    """The gradient of log p with p clipped to [0.01, 0.99]."""
    loss, ds = bce_with_logits(logits, target)
    p = sigmoid(logits)
    inside = (p > 0.01) & (p < 0.99)
    return loss, ds * inside if bug else ds


def kl_half_variance(mu, logvar, *, bug):
    """KL(N(mu, e^logvar) ‖ N(0, 1)), a mean over the batch."""
    N = len(mu)
    loss = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum() / N
    return loss, mu / N, 0.5 * (np.exp(0.5 * logvar if bug else logvar) - 1) / N


def _of(loss: Callable[..., Any], bug: bool) -> Callable[..., Any]:
    return lambda y, t: loss(y, t, bug=bug)


def _train_regression(loss: Callable[..., Any], bug: bool) -> list[float]:
    rng, (x, t) = np.random.default_rng(0), vectors()
    return fit(L.Dense(3, 8, rng=rng), L.Tanh(), L.Dense(8, 4, rng=rng), x=x, t=t, loss=_of(loss, bug))


def _train_sure(bug: bool) -> list[float]:
    """A classifier that begins sure, and wrong about most."""
    rng, (x, t) = np.random.default_rng(0), labelled()
    layer = L.Dense(2, 3, rng=rng)
    layer.W.value = 6 * layer.W.value
    return fit(layer, x=x, t=np.eye(3, dtype=np.float32)[t], loss=_of(bce_clipped, bug), lr=0.3)


def _train_kl(bug: bool) -> list[float]:
    """A normal distribution that moves to N(0, 1) by its KL alone."""
    mu = Parameter("mu", np.full((1, 4), 1.5, np.float32))
    logvar = Parameter("logvar", np.array([[-3.0, -1, 1, 2]], np.float32))

    def loss() -> tuple[Any, Callable[[], None]]:
        value, dmu, dlogvar = kl_half_variance(mu.value, logvar.value, bug=bug)

        def backward():
            mu.grad += dmu
            logvar.grad += dlogvar

        return value, backward

    return descend(loss, [mu, logvar])


BUGS = (
    Bug(
        name="mse-without-two",
        title="The squared error's gradient without the 2",
        right="dy = 2 (y − t) / N",
        wrong="dy = (y − t) / N",
        symptom="half the learning rate; and the wrong balance beside another loss",
        sources=(),
        caught_by="gradient",
        cause=r"factor 2 is missing|half",
        make=lambda rng: both(mse_without_two, rng.standard_normal((4, 3)), rng.random((4, 3))),
        train=lambda bug: _train_regression(mse_without_two, bug),
    ),
    Bug(
        name="mse-averaged-over-features",
        title="The loss is averaged over features too, its gradient is not",
        right="L = Σ (y − t)² / (N·d),  dy = 2 (y − t) / (N·d)",
        wrong="L = Σ (y − t)² / (N·d),  dy = 2 (y − t) / N",
        symptom="d times the learning rate; curves in other units than the steps",
        sources=(),
        caught_by="gradient",
        cause=r"number of features",
        make=lambda rng: both(mse_averaged, rng.standard_normal((4, 3)), rng.random((4, 3))),
        train=lambda bug: _train_regression(mse_averaged, bug),
    ),
    Bug(
        name="cross-entropy-clipped",
        title="Cross-entropy by a clipped p: no gradient where it is sure and wrong",
        right="ds = (σ(s) − t) / N",
        wrong="ds = (σ(s) − t) / N where 0.01 < p < 0.99, else 0",
        symptom="samples that are furthest off are never learned; a GAN whose D is sure stops",
        sources=(),
        caught_by="gradient",
        cause=r"clip|satura|\bsure\b|where .*(logits|\bp\b)|large (inputs|logits)",
        make=lambda rng: both(bce_clipped, 40 * rng.standard_normal((4, 3)), np.round(rng.random((4, 3)))),
        train=_train_sure,
    ),
    Bug(
        name="kl-exp-half-logvar",
        title="The KL's gradient with exp(½ logvar) for the variance",
        right="dlogvar = ½ (exp(logvar) − 1) / N",
        wrong="dlogvar = ½ (exp(½ logvar) − 1) / N",
        symptom="right at logvar = 0, where it starts and wants to be",
        sources=(),
        caught_by="gradient",
        cause=r"½ ?logvar|0\.5 ?[·*]? ?logvar|logvar ?/ ?2|σ|exp\(|e\^|variance",
        make=lambda rng: both(kl_half_variance, rng.standard_normal((4, 3)), rng.random((4, 3))),
        train=_train_kl,
    ),
)
