"""The gradient check itself: a gradient by central differences.

    g_i = (f(x + h e_i) − f(x − h e_i)) / (2 h)              e_i is 1 at element i and 0 elsewhere

f takes an array of x's shape and returns a scalar; x is a float64 array of any shape, and is afterwards what it was
before. Return g, of x's shape. It is what every other exercise is checked with.

Check it:  scratchgen exercise check gradient_check.py
"""

import numpy as np


def numerical_gradient(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):  # every index, a tuple
        raise NotImplementedError("write numerical_gradient")
    return g
