# cause: ^it returns None: is a return missing\? It is to return y, backward$
import numpy as np

from scratchgen import Layer, Parameter


class Dense(Layer):
    def __init__(self, in_features, out_features):
        self.W = Parameter("W", np.zeros((in_features, out_features)))
        self.b = Parameter("b", np.zeros(out_features))

    def forward(self, x):
        W, b = self.W.value, self.b.value
        y = x @ W + b  # (N, out)

        def backward(dy):  # (N, out)
            self.W.grad += x.T @ dy
            self.b.grad += dy.sum(axis=0)
            return dy @ W.T
