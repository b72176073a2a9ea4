# cause: mask|lets dy through|where y is 0|equals .*dy.* where|gives .*dy; .*dy · \[[xy] (≠|>) 0\]
import numpy as np

from scratchgen import Layer


class Dropout(Layer):
    def __init__(self, rate):
        self.rate = rate

    def forward(self, x, kept):
        rate = self.rate
        y = np.where(kept, x / (1 - rate), 0)

        def backward(dy):
            return dy / (1 - rate)

        return y, backward
