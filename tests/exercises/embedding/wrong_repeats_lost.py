# cause: repeat|several times|occur|more than once|twice
import numpy as np

from scratchgen import Layer, Parameter


class Embedding(Layer):
    def __init__(self, count, features):
        self.W = Parameter("W", np.zeros((count, features)))

    def forward(self, ids):
        W = self.W.value
        y = W[ids]

        def backward(dy):
            self.W.grad[ids] += dy

        return y, backward
