# cause: ^it returns None: is a return missing\? It is to return loss, dy$
import numpy as np


def mse(y, target):
    N = len(y)
    r = y - target  # (N, D)
    loss = np.sum(r * r) / N
    dy = 2 / N * r
