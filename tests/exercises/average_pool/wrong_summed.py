# cause: kernel area|9 times|1/k|k²|window
import numpy as np

from scratchgen import Layer


class AvgPool2d(Layer):
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
                y[:, r, q] = window.mean(axis=(1, 2))

        def backward(dy):  # (N, OH, OW, C)
            dx = np.zeros_like(x)
            for r in range(OH):
                for q in range(OW):
                    dx[:, r * s : r * s + k, q * s : q * s + k] += dy[:, r : r + 1, q : q + 1]
            return dx

        return y, backward
