# cause: features|size of axis 1|1/3|number of elements
import numpy as np


def mse(y, target):
    N = len(y)
    r = y - target  # (N, D)
    loss = np.sum(r * r) / N
    dy = 2 * r / r.size
    return loss, dy
