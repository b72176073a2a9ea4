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
            dx = np.zeros_like(x)
            for r in range(OH):
                for q in range(OW):
                    rows, columns = slice(r * s, r * s + k), slice(q * s, q * s + k)
                    largest = y[:, r : r + 1, q : q + 1]
                    won = x[:, rows, columns] == largest
                    dx[:, rows, columns] += dy[:, r : r + 1, q : q + 1] * won / won.sum(axis=(1, 2), keepdims=True)
            return dx

        return y, backward
