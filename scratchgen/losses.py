"""Losses: each returns its value and the gradient with respect to every differentiable argument.

    loss, dlogits = bce_with_logits(logits, target)

A loss sums over the features of a sample and averages over the batch (axis 0, N samples): it is in nats per sample
where it is a log-likelihood. Shapes must agree exactly, nothing is broadcast: ValueError or TypeError else.

Targets have a domain, and it is checked: ValueError with the range that was found, and what is needed. Only on a GPU
nobody looks, as that would wait for it; what comes of it there is said with each loss.
"""

from math import inf, isfinite, log, pi

from scratchgen import checks
from scratchgen.backend import array_library, backend_of, kernels


def mse(y, target):
    """Squared error, L = 1/N Σ_n Σ_i (y_ni − t_ni)²; dy = 2/N (y − t). Any shape (N, ...).

    Targets are any finite numbers; with others L is not finite either, on a GPU.
    """
    N = _check("mse", y=y, target=target)

    def terms(y, t):
        r = y - t
        return r * r, r * (2 / N)

    loss, dy = kernels(y).total(terms, y, target, over=N)
    _check_finite("mse", loss, target)
    return loss, dy


def bce_with_logits(logits, target):
    """Binary cross-entropy, the negative log-likelihood of Bernoulli pixels, from logits s with p = σ(s).

    L = −1/N Σ [t log p + (1 − t) log(1 − p)] = 1/N Σ [softplus(s) − t·s]
    dlogits = (σ(s) − t)/N, since softplus′ = σ

    softplus(s) = log(1 + eˢ) = max(s, 0) + log(1 + e^(−|s|)): the large terms max(s, 0) − t·s are taken together
    first, so that nothing small is lost beside them; likewise σ(s) − t = (1 − t) − σ(−s) is taken from the side on
    which σ is small. Finite for every finite s, and the gradient never vanishes where p is wrong. Any shape (N, ...).

    Targets are in [0, 1], 0 and 1 for a true likelihood; outside L would fall without bound, and on a GPU it is NaN.
    """
    N = _check("bce_with_logits", logits=logits, target=target)
    checks.between("bce_with_logits", "target", target, 0, 1, checks.UNIT)
    on_host = backend_of(target) == "numpy"
    ops = kernels(logits)
    xp = ops.xp

    def terms(s, t):
        e = xp.exp(-xp.abs(s))
        q = e / (1 + e)  # σ(−|s|), the probability of the less likely side
        h = (s >= 0).astype(s.dtype)  # 1 where that side is 0: (1 − t) − q there, q − t elsewhere
        nll = (xp.maximum(s, 0) - t * s) + xp.log1p(e)
        if not on_host:
            nll = nll + 0 * xp.sqrt((t + checks.ROUNDING) * (1 + checks.ROUNDING - t))  # NaN outside of [0, 1]
        return nll, ((h - t) - (2 * h - 1) * q) * (1 / N)

    return ops.total(terms, logits, target, over=N)


def softmax_cross_entropy(logits, target):
    """Cross-entropy of the class probabilities p = softmax(s), with log Z = log Σ_k e^{s_k}.

    L = −1/N Σ_nk t_nk log p_nk = 1/N Σ_nk t_nk (log Z_n − s_nk)
    dlogits_k = (p_k Σ_j t_j − t_k)/N, since ∂log Z/∂s_k = p_k

    One number added to all logits of a row changes neither, so the largest is subtracted first.
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
    loss = (target * (xp.log(Z) - s)).sum() / N
    return loss, (e / Z * target.sum(axis=1, keepdims=True) - target) * (1 / N)


def gaussian_nll(mu, logvar, target):
    """Negative log-likelihood of a normal distribution with mean mu and log-variance logvar; returns L, dmu, dlogvar.

    L = 1/N Σ ½ (log 2π + logvar + (t − mu)² e^{−logvar})
    dmu = (mu − t) e^{−logvar} / N,   dlogvar = ½ (1 − (t − mu)² e^{−logvar}) / N

    `logvar` has mu's shape, or is one number for all (a float or 0-d array): then dlogvar is summed to one number.
    Targets are any finite numbers; with others L is not finite either, on a GPU.
    """
    shared = isinstance(logvar, float) or getattr(logvar, "ndim", None) == 0
    N = _check("gaussian_nll", mu=mu, target=target, **({} if shared else {"logvar": logvar}))
    ops = kernels(mu)
    xp = ops.xp
    if shared:
        logvar = xp.asarray(logvar, mu.dtype)

    def terms(mu, logvar, t):
        inv_std = xp.exp(-0.5 * logvar)
        z = (mu - t) * inv_std  # e^{−logvar} itself would overflow for half as small a logvar
        q = z * z
        return q + (logvar + log(2 * pi)), z * inv_std * (1 / N), (1 - q) * (0.5 / N)

    loss, dmu, dlogvar = ops.total(terms, mu, logvar, target, over=2 * N)  # L has a ½
    _check_finite("gaussian_nll", loss, target)
    return loss, dmu, dlogvar.sum() if shared else dlogvar


def gaussian_kl(mu, logvar):
    """KL(N(mu, σ²) ‖ N(0, 1)) with σ² = e^logvar, summed over latent dimensions; returns L, dmu, dlogvar.

    L = 1/N Σ ½ (mu² + σ² − 1 − logvar);   dmu = mu / N,   dlogvar = ½ (σ² − 1) / N

    logvar is the log of the *variance*: a sample of this distribution is mu + exp(½ logvar) · eps. Both are any
    numbers; L overflows in float32 from logvar = 89 on. (Kingma & Welling 2014, appendix B.)
    """
    N = _check("gaussian_kl", mu=mu, logvar=logvar)
    ops = kernels(mu)

    def terms(mu, logvar):
        excess = ops.xp.expm1(logvar)  # σ² − 1
        return mu * mu + (excess - logvar), mu * (1 / N), excess * (0.5 / N)

    return ops.total(terms, mu, logvar, over=2 * N)  # L has a ½


def _check_finite(loss: str, value, target) -> None:
    """ValueError when it is the target's fault that a loss is not finite; on a GPU that would wait to be known."""
    if backend_of(target) == "numpy" and not isfinite(value):
        checks.between(loss, "target", target, -inf, inf)


def _check_probabilities(target) -> None:
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
