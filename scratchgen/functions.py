"""The logistic function, which a layer, a loss and a model share."""

from scratchgen.backend import array_library


def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), exact to rounding for every x: only e^(−|x|) ≤ 1 is ever taken."""
    xp = array_library(x)
    e = xp.exp(-xp.abs(x))
    return xp.maximum(e, x >= 0) / (1 + e)  # 1 or e on top: e ≤ 1
