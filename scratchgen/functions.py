"""The logistic function and its integral, which layers, losses and models share."""

from scratchgen.backend import array_library


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), exact to rounding for every x: only e^(−|x|) ≤ 1 is ever taken."""
    xp = array_library(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


def softplus(x):
    """log(1 + eˣ) = max(x, 0) + log(1 + e^(−|x|)), whose derivative is σ(x); finite for every finite x."""
    xp = array_library(x)
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))
