# cause: 1 − y²|y²|\by\b.*factor|missing.*\by\b
import numpy as np

from scratchgen import Layer


class Sigmoid(Layer):
    def forward(self, x):
        e = np.exp(-abs(x))
        y = np.where(x > 0, 1, e) / (1 + e)

        def backward(dy):
            return dy * (1 - y * y)

        return y, backward
