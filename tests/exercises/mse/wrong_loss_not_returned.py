# cause: ^it returns 1 value, needs 2: loss, dy$
import numpy as np


def mse(y, target):
    N = len(y)
    r = y - target  # (N, D)
    loss = np.sum(r * r) / N
    dy = 2 / N * r
    return dy
