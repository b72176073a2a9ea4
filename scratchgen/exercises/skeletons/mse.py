"""Mean squared error: the loss of N samples, each with a number of features.

    L = 1/N Σ_n Σ_i (y_ni − t_ni)²          y (N, D), target t (N, D) → L, a scalar

The square is summed over the features of a sample and averaged over the samples. L is the loss itself, so there is no
dy to come in: return the loss and its gradient dy = ∂L/∂y, of y's shape.

Check it:  scratchgen exercise check mse.py
"""

import numpy as np


def mse(y, target):
    N = len(y)
    r = y - target  # (N, D)
    loss = np.sum(r * r) / N
    # dy = ...
    # return loss, dy
    raise NotImplementedError("write dy")
