# cause: averag|mean|divided by|count|how often
import numpy as np

from scratchgen import Layer, Parameter


class Embedding(Layer):
    def __init__(self, count, features):
        self.W = Parameter("W", np.zeros((count, features)))

    def forward(self, ids):
        W = self.W.value
        y = W[ids]

        def backward(dy):
            count = np.bincount(ids.ravel(), minlength=len(W))
            total = np.zeros_like(W)
            np.add.at(total, ids, dy)
            self.W.grad += total / np.maximum(count, 1)[:, None]

        return y, backward
