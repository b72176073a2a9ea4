"""Transposed convolution: each pixel of x lays a kernel, times its value, onto y; where they overlap they add up.

    ȳ_n,rs+i,qs+j,o += Σ_c x_nrqc W_ijoc    for all n, r, q, i, j, o
    y is ȳ without p pixels at each border, plus b_o

    x (N, H, W, in), W (kh, kw, out, in), b (out,) → y (N, s(H − 1) + kh − 2p, s(W − 1) + kw − 2p, out)

s is the stride. It is the adjoint of a convolution with this kernel, so its own adjoint is that convolution. All
pixels at once: for one i and j, y_pad[tap(i, j)] (N, H, W, out) is where that element of the kernel comes to lie.

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y, of y's shape, and returns dx = ∂L/∂x, of x's shape. The gradients of the
parameters it adds, with +=, to self.W.grad and self.b.grad.

Check it:  scratchgen exercise check conv_transpose2d.py
"""

import numpy as np

from scratchgen import Layer, Parameter


class ConvTranspose2d(Layer):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        kh, kw = kernel_size
        self.W = Parameter("W", np.zeros((kh, kw, out_channels, in_channels)))
        self.b = Parameter("b", np.zeros(out_channels))
        self.stride, self.padding = stride, padding

    def forward(self, x):
        W, b, s, p = self.W.value, self.b.value, self.stride, self.padding
        (kh, kw), (N, height, width, _) = W.shape[:2], x.shape

        def tap(i, j):
            return slice(None), slice(i, i + s * height, s), slice(j, j + s * width, s)

        y_pad = np.zeros((N, s * (height - 1) + kh, s * (width - 1) + kw, W.shape[2]), x.dtype)
        for i in range(kh):
            for j in range(kw):
                y_pad[tap(i, j)] += x @ W[i, j].T
        y = y_pad[:, p : y_pad.shape[1] - p, p : y_pad.shape[2] - p] + b

        def backward(dy):  # of y's shape
            raise NotImplementedError("write backward")

        return y, backward
