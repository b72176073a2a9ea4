# cause: self.b.grad has shape \(4,\), what is added has \(5, 4\): sum over the samples
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
            self.b.grad += dy
            return dy @ W.T

        return y, backward
