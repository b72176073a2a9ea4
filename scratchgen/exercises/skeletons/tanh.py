"""Hyperbolic tangent: y = tanh(x), element by element.

    y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)             x of any shape → y of the same

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y, of y's shape, and returns dx = ∂L/∂x, of x's shape. It needs no other function
than y itself.

Check it:  scratchgen exercise check tanh.py
"""

import numpy as np

from scratchgen import Layer


class Tanh(Layer):
    def forward(self, x):
        y = np.tanh(x)

        def backward(dy):
            raise NotImplementedError("write backward")

        return y, backward
