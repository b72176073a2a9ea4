# cause: path|dx (is|equals) dy\b|missing|passes dy on
import numpy as np

from scratchgen import Layer, Parameter


class Residual(Layer):
    def __init__(self, features, hidden):
        self.W = Parameter("W", np.zeros((features, hidden)))
        self.V = Parameter("V", np.zeros((hidden, features)))

    def forward(self, x):
        W, V = self.W.value, self.V.value
        a = np.tanh(x @ W)  # (N, H)
        y = x + a @ V  # (N, D)

        def backward(dy):  # (N, D)
            ds = dy @ V.T * (1 - a * a)
            self.V.grad += a.T @ dy
            self.W.grad += x.T @ ds
            return dy.copy()

        return y, backward
