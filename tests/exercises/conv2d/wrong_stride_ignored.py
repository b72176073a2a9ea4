# cause: stride
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
            dx_pad = np.zeros_like(x_pad)
            for i in range(kh):
                for j in range(kw):
                    self.W.grad[i, j] += np.tensordot(x_pad[tap(i, j)], dy, ((0, 1, 2), (0, 1, 2)))
                    dx_pad[:, i : i + OH, j : j + OW] += dy @ W[i, j].T
            self.b.grad += dy.sum(axis=(0, 1, 2))
            return dx_pad[:, p : p + height, p : p + width]

        return y, backward
