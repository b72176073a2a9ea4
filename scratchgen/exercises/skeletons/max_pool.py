"""Max pooling: the largest pixel under a window, of each channel by itself.

    y_nrqc = max over i, j of x_n,rs+i,qs+j,c                x (N, H, W, C) → y (N, OH, OW, C)

The window has k × k pixels, and s is its stride; windows overlap where s < k. Where several pixels of a window are
equally large, dy goes to one of them (the first, by rows, say) or is shared by them; not each of them gets all of it.

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y, of y's shape, and returns dx = ∂L/∂x, of x's shape.

Check it:  scratchgen exercise check max_pool.py
"""

import numpy as np

from scratchgen import Layer


class MaxPool2d(Layer):
    def __init__(self, kernel_size, stride):
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x):
        k, s = self.kernel_size, self.stride
        N, height, width, C = x.shape
        OH, OW = (height - k) // s + 1, (width - k) // s + 1
        y = np.zeros((N, OH, OW, C), x.dtype)
        for r in range(OH):
            for q in range(OW):
                window = x[:, r * s : r * s + k, q * s : q * s + k]  # (N, k, k, C)
                y[:, r, q] = window.max(axis=(1, 2))

        def backward(dy):  # (N, OH, OW, C)
            raise NotImplementedError("write backward")

        return y, backward
