# cause: flipped|180|reversed
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
            dy_pad = np.pad(dy, ((0, 0), (p, p), (p, p), (0, 0)))
            dx = np.zeros_like(x)
            for i in range(kh):
                for j in range(kw):
                    self.W.grad[i, j] += np.tensordot(dy_pad[tap(i, j)], x, ((0, 1, 2), (0, 1, 2)))
                    dx += dy_pad[tap(i, j)] @ W[kh - 1 - i, kw - 1 - j]
            self.b.grad += dy.sum(axis=(0, 1, 2))
            return dx

        return y, backward
