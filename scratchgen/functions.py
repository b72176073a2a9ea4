"""The logistic function and softmax, which layers, losses, models and checks share."""

import numpy as np

from scratchgen.backend import Array, formula


@formula
def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + e⁻ˣ), exact to rounding for every x: only e^(−|x|) ≤ 1 is ever taken."""
    e = np.exp(-abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def softmax(x: Array) -> Array:
    """e^{x_k} / Σ_j e^{x_j} over the last axis of x (..., K); the largest is subtracted first: no overflow."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
