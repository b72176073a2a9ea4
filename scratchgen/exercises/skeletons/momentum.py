"""Stochastic gradient descent with momentum: a step along a running sum of gradients.

    u ← momentum · u + g
    value ← value − lr · u                  for each parameter, with g its gradient; u starts at 0

Write step: it moves every parameter once, and then sets its gradient to zero (p.zero_grad()), since every backward
adds to it. lr may be changed between two steps. Replace the value, p.value = p.value − …, and do not write into the
array: a backward that has not run yet may still hold it.

Check it:  scratchgen exercise check momentum.py
"""

import numpy as np


class SGD:
    def __init__(self, parameters, lr=0.1, momentum=0.9):
        self.parameters = list(parameters)  # each has value and grad, arrays of one shape
        self.lr = lr
        self.momentum = momentum
        self.u = [np.zeros_like(p.value) for p in self.parameters]

    def step(self):
        raise NotImplementedError("write step")
