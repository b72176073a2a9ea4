# cause: not restored|put back|as it was|writes into x
import numpy as np


def numerical_gradient(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):  # every index, a tuple
        before = x[i]
        x[i] = before + h
        above = f(x)
        x[i] = before - h
        below = f(x)
        g[i] = (above - below) / (2 * h)
    return g
