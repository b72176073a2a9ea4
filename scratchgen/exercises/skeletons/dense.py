"""Dense: the affine map y = x W + b.

    y_nj = Σ_i x_ni W_ij + b_j             x (N, in), W (in, out), b (out,) → y (N, out)

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y, of y's shape, and returns dx = ∂L/∂x, of x's shape. The gradients of the
parameters it adds, with +=, to self.W.grad and self.b.grad: the layer may be used twice in one loss.

backward stands inside of forward, so it knows x, W and y as they were in this evaluation: nothing needs to be kept on
self.

Check it:  scratchgen exercise check dense.py
"""

import numpy as np

from scratchgen import Layer, Parameter


class Dense(Layer):
    def __init__(self, in_features, out_features):
        self.W = Parameter("W", np.zeros((in_features, out_features)))
        self.b = Parameter("b", np.zeros(out_features))

    def forward(self, x):
        W, b = self.W.value, self.b.value
        y = x @ W + b  # (N, out)

        def backward(dy):  # (N, out)
            raise NotImplementedError("write backward")

        return y, backward
