# cause: mask|x is 0|y is 0|not linear|dropped|y · dy|dy · y|times y
import numpy as np

from scratchgen import Layer


class Dropout(Layer):
    def __init__(self, rate):
        self.rate = rate

    def forward(self, x, kept):
        rate = self.rate
        y = np.where(kept, x / (1 - rate), 0)

        def backward(dy):
            return dy * y

        return y, backward
