# cause: not finite|nan|overflow
import numpy as np

from scratchgen import Layer


class Sigmoid(Layer):
    def forward(self, x):
        e = np.exp(-abs(x))
        y = np.where(x > 0, 1, e) / (1 + e)

        def backward(dy):
            e = np.exp(-x)
            return dy * e / (1 + e) ** 2

        return y, backward
