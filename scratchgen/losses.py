"""Losses: each returns its value and the gradient with respect to every differentiable argument.

    loss, dlogits = bce_with_logits(logits, target)

A loss sums over the features of a sample and averages over the batch (axis 0, N samples): it is in nats per sample
where it is a log-likelihood. Shapes must agree exactly, nothing is broadcast: ValueError or TypeError else.
"""

from math import log, pi

import numpy as np

from scratchgen import checks
from scratchgen.backend import array_library, formula, sum_with_map


def mse(y, target):
    """Squared error, L = 1/N Σ_n Σ_i (y_ni − t_ni)²; dy = 2/N (y − t). Any shape (N, ...)."""
    N = _check("mse", y=y, target=target)
    return sum_with_map(squared_error, y, target, N, over=N)


@formula
def squared_error(y, t, N):
    r = y - t
    return r * r, r * (2 / N)


def bce_with_logits(logits, target):
    """Binary cross-entropy, the negative log-likelihood of Bernoulli pixels, from logits s with p = σ(s).

    L = −1/N Σ [t log p + (1 − t) log(1 − p)] = 1/N Σ [softplus(s) − t·s]
    dlogits = (σ(s) − t)/N, since softplus′ = σ

    softplus(s) = log(1 + eˢ) = max(s, 0) + log(1 + e^(−|s|)): the large terms max(s, 0) − t·s are taken together
    first, so that nothing small is lost beside them; likewise σ(s) − t = (1 − t) − σ(−s) is taken from the side on
    which σ is small. Finite for every finite s, and the gradient never vanishes where p is wrong. Targets are in
    [0, 1], 0 and 1 for a true likelihood. Any shape (N, ...).
    """
    N = _check("bce_with_logits", logits=logits, target=target)
    return sum_with_map(cross_entropy, logits, target, N, over=N)


@formula
def cross_entropy(s, t, N):
    e = np.exp(-abs(s))
    q = e / (1 + e)  # σ(−|s|), the probability of the less likely side
    loss = (np.maximum(s, 0) - t * s) + np.log1p(e)
    return loss, np.where(s >= 0, (1 - t) - q, q - t) * (1 / N)


def softmax_cross_entropy(logits, target):
    """Cross-entropy of the class probabilities p = softmax(s), with log Z = log Σ_k e^{s_k}.

    L = −1/N Σ_nk t_nk log p_nk = 1/N Σ_nk t_nk (log Z_n − s_nk)
    dlogits_k = (p_k Σ_j t_j − t_k)/N, since ∂log Z/∂s_k = p_k

    One number added to all logits of a row changes neither, so the largest is subtracted first.
    `logits (N, K)`; `target` is integer labels (N,), or probabilities (N, K). Finite for every finite s.
    ValueError when a label is not in 0 … K − 1: to know that of integer labels on a GPU, each call waits for it.
    """
    _check("softmax_cross_entropy", logits=logits)
    xp = array_library(logits)
    if logits.ndim != 2:
        beside = f", the target has {target.shape}" if hasattr(target, "shape") else ""
        raise ValueError(f"softmax_cross_entropy: logits has shape {logits.shape}, needs (N, K){beside}")
    if getattr(target, "ndim", None) == 1 and target.dtype.kind in "iu":
        target = _one_hot(target, logits, xp)
    N = _check("softmax_cross_entropy", logits=logits, target=target)
    s = logits - logits.max(axis=1, keepdims=True)
    e = xp.exp(s)
    Z = e.sum(axis=1, keepdims=True)
    loss = (target * (xp.log(Z) - s)).sum() / N
    return loss, (e / Z * target.sum(axis=1, keepdims=True) - target) * (1 / N)


def gaussian_nll(mu, logvar, target):
    """Negative log-likelihood of a normal distribution with mean mu and log-variance logvar; returns L, dmu, dlogvar.

    L = 1/N Σ ½ (log 2π + logvar + (t − mu)² e^{−logvar})
    dmu = (mu − t) e^{−logvar} / N,   dlogvar = ½ (1 − (t − mu)² e^{−logvar}) / N

    `logvar` has mu's shape, or is one number for all (a float or 0-d array): then dlogvar is summed to one number.
    """
    shared = isinstance(logvar, float) or getattr(logvar, "ndim", None) == 0
    N = _check("gaussian_nll", mu=mu, target=target, **({} if shared else {"logvar": logvar}))
    if shared:
        logvar = array_library(mu).asarray(logvar, mu.dtype)
    loss, dmu, dlogvar = sum_with_map(normal, mu, logvar, target, N, log(2 * pi), over=2 * N)  # L has a ½
    return loss, dmu, dlogvar.sum() if shared else dlogvar


@formula
def normal(mu, logvar, t, N, log_2pi):
    inv_std = np.exp(-0.5 * logvar)
    z = (mu - t) * inv_std  # e^{−logvar} itself would overflow for half as small a logvar
    q = z * z
    return q + (logvar + log_2pi), z * inv_std * (1 / N), (1 - q) * (0.5 / N)


def gaussian_kl(mu, logvar):
    """KL(N(mu, σ²) ‖ N(0, 1)) with σ² = e^logvar, summed over latent dimensions; returns L, dmu, dlogvar.

    L = 1/N Σ ½ (mu² + σ² − 1 − logvar);   dmu = mu / N,   dlogvar = ½ (σ² − 1) / N

    logvar is the log of the *variance*: a sample of this distribution is mu + exp(½ logvar) · eps.
    (Kingma & Welling 2014, appendix B.)
    """
    N = _check("gaussian_kl", mu=mu, logvar=logvar)
    return sum_with_map(kl_of_normal, mu, logvar, N, over=2 * N)  # L has a ½


@formula
def kl_of_normal(mu, logvar, N):
    excess = np.expm1(logvar)  # σ² − 1
    return mu * mu + (excess - logvar), mu * (1 / N), excess * (0.5 / N)


def _one_hot(labels, logits, xp):
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


def _check(loss: str, **arrays) -> int:
    """The batch size N, after comparing every argument with the first: library, shape and dtype."""
    homes = {name: checks.library(loss, name, array) for name, array in arrays.items()}
    (first, a), *others = arrays.items()
    if a.ndim < 1 or a.size == 0:
        raise ValueError(f"{loss}: {first} has shape {a.shape}, needs (N, ...) with at least one sample")
    for name, array in others:
        if array.shape != a.shape:
            raise ValueError(f"{loss}: {name} has shape {array.shape}, needs {a.shape}, the shape of {first}")
    for name, array in arrays.items():
        checks.float_array(loss, name, array)
        if array.dtype != a.dtype:
            raise TypeError(f"{loss}: {name} has dtype {array.dtype}, needs {a.dtype}, the dtype of {first}")
        if homes[name] != homes[first]:
            raise TypeError(f"{loss}: {name} is a {homes[name]} array, needs {homes[first]}, as {first} is")
    return a.shape[0]
