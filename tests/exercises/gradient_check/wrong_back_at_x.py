# cause: second f is taken at x itself
import numpy as np


def numerical_gradient(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):  # every index, a tuple
        x[i] += h
        up = f(x)
        x[i] -= h
        g[i] = (up - f(x)) / (2 * h)
    return g
