"""Losses: each returns its value and the gradient with respect to every differentiable argument.

    loss, dlogits = bce_with_logits(logits, target)

A loss is the end of the chain, ∂L/∂L = 1, so its gradient comes with it. It sums over the features of a sample and
averages over the batch (axis 0, N samples): a log-likelihood is in nats (1/log 2 bits) per sample. Each loss
is one formula of an element: the term that is summed, then the gradients; `sum_with_map` takes care of both. Shapes
must agree exactly, nothing is broadcast: ValueError or TypeError else.

Targets have a domain, and it is checked: ValueError with the range that was found, and what is needed. On a GPU it
is not, since reading them back would stall it; each loss says what comes of wrong targets there.

Chapter: demos/book/06-losses.md
"""

from math import isfinite, log, pi
from typing import Any

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library, backend_of, formula, sum_with_map


def mse(y: Array, target: Array) -> tuple[Array, Array]:
    """Squared error, L = 1/N Σ_n Σ_i (y_ni − t_ni)²; dy = 2/N (y − t). Any shape (N, ...).

    The mean is over samples alone, so for images it is H·W·C times the mean over all elements.

    Targets are finite; with others L is not finite either, on a GPU.
    """
    N = _check("mse", y=y, target=target)
    loss, dy = sum_with_map(squared_error, y, target, N, over=N)
    _check_finite("mse", loss, target)
    return loss, dy


@formula
def squared_error(y, t, N):
    r = y - t
    return r * r, r * (2 / N)


def bce_with_logits(logits: Array, target: Array) -> tuple[Array, Array]:
    """Binary cross-entropy, the negative log-likelihood of Bernoulli pixels, from logits s with p = σ(s).

    L = −1/N Σ [t log p + (1 − t) log(1 − p)] = 1/N Σ [softplus(s) − t·s]
    dlogits = (σ(s) − t)/N, since softplus′ = σ

    with softplus(s) = log(1 + eˢ), for then log p = s − softplus(s) and log(1 − p) = −softplus(s). Label 1 makes the
    term softplus(−s), label 0 softplus(s).

    It is computed as max(s, 0) + log(1 + e^(−|s|)), and the large terms max(s, 0) − t·s are taken together first, so
    that nothing small is lost beside them; likewise σ(s) − t = (1 − t) − σ(−s) is taken from the side on which σ is
    small. Finite for every finite s, and the gradient never vanishes where p is wrong. Any shape (N, ...).

    Targets are in [0, 1], 0 and 1 for a true likelihood; outside L would fall without bound, and on a GPU it is NaN.
    """
    N = _check("bce_with_logits", logits=logits, target=target)
    if backend_of(target) != "numpy":
        return sum_with_map(guarded_cross_entropy, logits, target, N, over=N)
    checks.between("bce_with_logits", "target", target, 0, 1, checks.UNIT)
    return sum_with_map(cross_entropy, logits, target, N, over=N)


@formula
def cross_entropy(s, t, N):
    e = np.exp(-abs(s))
    q = e / (1 + e)  # σ(−|s|), the probability of the less likely side
    loss = (np.maximum(s, 0) - t * s) + np.log1p(e)
    return loss, np.where(s >= 0, (1 - t) - q, q - t) * (1 / N)


@formula
def guarded_cross_entropy(s, t, N):
    """The same where targets are not checked: NaN where one is not in [0, 1], by the root of a negative number."""
    loss, ds = cross_entropy(s, t, N)
    return loss + 0 * np.sqrt((t + 1e-6) * (1 + 1e-6 - t)), ds


def softmax_cross_entropy(logits: Array, target: Array) -> tuple[Array, Array]:
    """Cross-entropy of the class probabilities p = softmax(s), with log Z = log Σ_k e^{s_k}.

    L = −1/N Σ_nk t_nk log p_nk = 1/N Σ_nk t_nk (log Z_n − s_nk)
    dlogits_k = (p_k Σ_j t_j − t_k)/N, since ∂log Z/∂s_k = p_k

    A constant added to all logits of a row changes neither, so the largest is subtracted first.
    `logits (N, K)`; `target` is integer labels (N,) of 0 … K − 1, or probabilities (N, K), of which each row sums
    to 1. Finite for every finite s. Integer labels are looked at on a GPU too, so that each call waits for it.
    """
    _check("softmax_cross_entropy", logits=logits)
    xp = array_library(logits)
    if logits.ndim != 2:
        beside = f", the target has {target.shape}" if hasattr(target, "shape") else ""
        raise ValueError(f"softmax_cross_entropy: logits has shape {logits.shape}, needs (N, K){beside}")
    if getattr(target, "ndim", None) == 1 and target.dtype.kind in "iu":
        target = _one_hot(target, logits, xp)
    N = _check("softmax_cross_entropy", logits=logits, target=target)
    _check_probabilities(target)
    s = logits - logits.max(axis=1, keepdims=True)
    e = xp.exp(s)
    Z = e.sum(axis=1, keepdims=True)
    loss = (target * xp.where(target > 0, xp.log(Z) - s, 0)).sum() / N  # 0 log 0 = 0: a logit may be −inf
    return loss, (e / Z * target.sum(axis=1, keepdims=True) - target) * (1 / N)


def gaussian_nll(mu: Array, logvar: Array | float, target: Array) -> tuple[Array, Array, Array]:
    """Negative log-likelihood of a normal distribution with mean mu and log-variance logvar; returns L, dmu, dlogvar.

    L = 1/N Σ ½ (log 2π + logvar + (t − mu)² e^{−logvar})
    dmu = (mu − t) e^{−logvar} / N,   dlogvar = ½ (1 − (t − mu)² e^{−logvar}) / N

    `logvar` has mu's shape, or is one value for all (a float or 0-d array): then dlogvar is their sum, 0-d.
    Targets are finite; with others L is not finite either, on a GPU.
    """
    shared = isinstance(logvar, float) or getattr(logvar, "ndim", None) == 0
    N = _check("gaussian_nll", mu=mu, target=target, **({} if shared else {"logvar": logvar}))
    if shared:
        logvar = array_library(mu).asarray(logvar, mu.dtype)
    loss, dmu, dlogvar = sum_with_map(normal, mu, logvar, target, N, log(2 * pi), over=2 * N)  # L has a ½
    _check_finite("gaussian_nll", loss, target)
    return loss, dmu, dlogvar.sum() if shared else dlogvar


@formula
def normal(mu, logvar, t, N, log_2pi):
    inv_std = np.exp(-0.5 * logvar)
    z = (mu - t) * inv_std  # e^{−logvar} itself would overflow for half as small a logvar
    q = z * z
    return q + (logvar + log_2pi), z * inv_std * (1 / N), (1 - q) * (0.5 / N)


def gaussian_kl(mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
    """KL(N(mu, σ²) ‖ N(0, 1)) with σ² = e^logvar, summed over latent dimensions; returns L, dmu, dlogvar.

    KL(q ‖ p) = E_q[log q − log p] = ½ E_q[z² − (z − mu)²/σ² − logvar], where E z² = mu² + σ² and E (z − mu)² = σ²:

    L = 1/N Σ ½ (mu² + σ² − 1 − logvar);   dmu = mu / N,   dlogvar = ½ (σ² − 1) / N

    logvar is the log of the *variance*: a sample of this distribution is mu + exp(½ logvar) · eps. Both may be
    anything; L overflows in float32 from logvar = 89 on. (Kingma & Welling 2014, appendix B.)
    """
    N = _check("gaussian_kl", mu=mu, logvar=logvar)
    return sum_with_map(kl_of_normal, mu, logvar, N, over=2 * N)  # L has a ½


@formula
def kl_of_normal(mu, logvar, N):
    excess = np.expm1(logvar)  # σ² − 1
    return mu * mu + (excess - logvar), mu * (1 / N), excess * (0.5 / N)


def _check_finite(loss: str, value: Array, target: Array) -> None:
    """ValueError when it is the target's fault that a loss is not finite; on a GPU that would wait to be known."""
    if backend_of(target) == "numpy" and not isfinite(value):
        checks.finite(loss, "target", target)


def _check_probabilities(target: Array) -> None:
    """ValueError unless each row is a distribution; not on a GPU, where that would wait."""
    if backend_of(target) != "numpy":
        return
    mend = ": probabilities of the classes, or integer labels"
    checks.between("softmax_cross_entropy", "target", target, 0, 1, mend)
    sums = target.sum(axis=1)
    if abs(sums - 1).max() > 1e-3:  # more than the rounding of a table
        raise ValueError(
            f"softmax_cross_entropy: rows of target sum to {sums.min():.4g} to {sums.max():.4g}, needs 1{mend}"
        )


def _one_hot(labels: Array, logits: Array, xp: Any) -> Array:
    K = logits.shape[1]
    if len(labels) != len(logits):
        raise ValueError(
            f"softmax_cross_entropy: target has {len(labels)} labels {labels.shape}, "
            f"needs {len(logits)}, one for each row of logits {logits.shape}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= K:
        raise ValueError(
            f"softmax_cross_entropy: labels go from {int(labels.min())} to {int(labels.max())}, "
            f"needs 0 to {K - 1}, one for each column of logits {logits.shape}"
        )
    return (labels[:, None] == xp.arange(K)).astype(logits.dtype)


def _check(loss: str, **arrays: Any) -> int:
    """The batch size N, after comparing every argument with the first: shape, dtype and library."""
    (first, a), *others = arrays.items()
    home = checks.library(loss, first, a)
    if a.ndim < 1 or a.size == 0:
        raise ValueError(f"{loss}: {first} has shape {a.shape}, needs (N, ...) with at least one sample")
    checks.float_array(loss, first, a)
    for name, array in others:
        checks.like(loss, name, array, first, shape=a.shape, dtype=a.dtype, home=home)
    return a.shape[0]
