# cause: x²|x · x|\(1 − x\)|of x, not of y|x in the place of y
import numpy as np

from scratchgen import Layer


class Sigmoid(Layer):
    def forward(self, x):
        e = np.exp(-abs(x))
        y = np.where(x > 0, 1, e) / (1 + e)

        def backward(dy):
            return dy * x * (1 - x)

        return y, backward
