# cause: x²|x · x|x\*\*2|of x, not of y|x in the place of y
import numpy as np

from scratchgen import Layer


class Tanh(Layer):
    def forward(self, x):
        y = np.tanh(x)

        def backward(dy):
            return dy * (1 - x * x)

        return y, backward
