# cause: batch size|1/N
import numpy as np


def mse(y, target):
    N = len(y)
    r = y - target  # (N, D)
    loss = np.sum(r * r) / N
    dy = 2 * r
    return loss, dy
