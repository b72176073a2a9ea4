# cause: 1 − y\b(?!²)|y in the place of y²|not squared|missing.*dy · y\b
import numpy as np

from scratchgen import Layer


class Tanh(Layer):
    def forward(self, x):
        y = np.tanh(x)

        def backward(dy):
            return dy * (1 - y)

        return y, backward
