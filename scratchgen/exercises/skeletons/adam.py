"""Adam: a step of about lr in every coordinate, whatever the scale of its gradient.

    m ← β₁ m + (1 − β₁) g,     m̂ = m / (1 − β₁ᵗ)             m and v start at 0; t is 1 in the first step
    v ← β₂ v + (1 − β₂) g²,    v̂ = v / (1 − β₂ᵗ)
    value ← value − lr · m̂ / (√v̂ + eps)                      for each parameter, with g its gradient

Write step: it moves every parameter once, and then sets its gradient to zero (p.zero_grad()), since every backward
adds to it. Replace the value, p.value = p.value − …, and do not write into the array.

Check it:  scratchgen exercise check adam.py
"""

import numpy as np


class Adam:
    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.parameters = list(parameters)  # each has value and grad, arrays of one shape
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.t = 0
        self.m = [np.zeros_like(p.value) for p in self.parameters]
        self.v = [np.zeros_like(p.value) for p in self.parameters]

    def step(self):
        raise NotImplementedError("write step")
