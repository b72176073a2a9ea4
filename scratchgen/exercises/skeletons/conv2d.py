"""Convolution of images: a Dense layer on the pixels under a window, at every place of the window.

    y_nrqo = b_o + Σ_ijc x̄_n,rs+i,qs+j,c W_ijco

    x (N, H, W, in), W (kh, kw, in, out), b (out,) → y (N, OH, OW, out)

x̄, in the code x_pad, is x with p zeros around it, s the stride; r and q count the places of the window, i and j the
elements of the kernel. All places at once: for one i and j, x_pad[tap(i, j)] (N, OH, OW, in) is what lies under that
element of the kernel, a slice. So y is a sum of kh · kw products of matrices.

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y, of y's shape, and returns dx = ∂L/∂x, of x's shape. The gradients of the
parameters it adds, with +=, to self.W.grad and self.b.grad.

Check it:  scratchgen exercise check conv2d.py
"""

import numpy as np

from scratchgen import Layer, Parameter


class Conv2d(Layer):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        kh, kw = kernel_size
        self.W = Parameter("W", np.zeros((kh, kw, in_channels, out_channels)))
        self.b = Parameter("b", np.zeros(out_channels))
        self.stride, self.padding = stride, padding

    def forward(self, x):
        W, b, s, p = self.W.value, self.b.value, self.stride, self.padding
        (kh, kw), (N, height, width, _) = W.shape[:2], x.shape
        OH, OW = (height + 2 * p - kh) // s + 1, (width + 2 * p - kw) // s + 1
        x_pad = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))

        def tap(i, j):
            return slice(None), slice(i, i + s * OH, s), slice(j, j + s * OW, s)

        y = np.zeros((N, OH, OW, W.shape[3]), x.dtype) + b
        for i in range(kh):
            for j in range(kw):
                y += x_pad[tap(i, j)] @ W[i, j]

        def backward(dy):  # (N, OH, OW, out)
            raise NotImplementedError("write backward")

        return y, backward
