# cause: 1\.42857 times|1 − rate|scale|twice
import numpy as np

from scratchgen import Layer


class Dropout(Layer):
    def __init__(self, rate):
        self.rate = rate

    def forward(self, x, kept):
        rate = self.rate
        y = np.where(kept, x / (1 - rate), 0)

        def backward(dy):
            return dy * kept / (1 - rate) ** 2

        return y, backward
