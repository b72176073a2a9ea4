# cause: shifted|off by one|neighbour|next row|wrong (place|row)
import numpy as np

from scratchgen import Layer, Parameter


class Embedding(Layer):
    def __init__(self, count, features):
        self.W = Parameter("W", np.zeros((count, features)))

    def forward(self, ids):
        W = self.W.value
        y = W[ids]

        def backward(dy):
            np.add.at(self.W.grad, (ids + 1) % len(W), dy)

        return y, backward
