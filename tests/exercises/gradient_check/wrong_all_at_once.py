# cause: all elements|at once|e_i
import numpy as np


def numerical_gradient(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):  # every index, a tuple
        g[i] = (f(x + h) - f(x - h)) / (2 * h)
    return g
