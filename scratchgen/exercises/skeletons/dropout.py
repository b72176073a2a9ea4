"""Dropout: each element is set to 0 with probability `rate`, and the others are scaled up to make up for it.

    y = x / (1 − rate) where kept, else 0   x (N, D), kept (N, D) of truth values → y (N, D)

Which elements are kept is drawn outside, so that forward is a function.

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y (N, D) and returns dx = ∂L/∂x (N, D).

Check it:  scratchgen exercise check dropout.py
"""

import numpy as np

from scratchgen import Layer


class Dropout(Layer):
    def __init__(self, rate):
        self.rate = rate

    def forward(self, x, kept):
        rate = self.rate
        y = np.where(kept, x / (1 - rate), 0)

        def backward(dy):
            raise NotImplementedError("write backward")

        return y, backward
