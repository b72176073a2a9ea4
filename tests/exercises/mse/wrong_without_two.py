# cause: factor 2|2 is missing|0\.5 times
import numpy as np


def mse(y, target):
    N = len(y)
    r = y - target  # (N, D)
    loss = np.sum(r * r) / N
    dy = r / N
    return loss, dy
