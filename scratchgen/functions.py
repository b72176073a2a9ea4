"""The logistic function, which a layer, a loss and a model share."""

import numpy as np

from scratchgen.backend import Array, formula


@formula
def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), exact to rounding for every x: only e^(−|x|) ≤ 1 is ever taken."""
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)
