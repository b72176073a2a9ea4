import numpy as np

from scratchgen import Layer, Parameter


class BatchNorm(Layer):
    def __init__(self, features, eps=1e-5):
        self.gamma = Parameter("gamma", np.ones(features))
        self.beta = Parameter("beta", np.zeros(features))
        self.eps = eps

    def forward(self, x):
        gamma, beta = self.gamma.value, self.beta.value
        mu = x.mean(axis=0, keepdims=True)  # (1, D)
        var = ((x - mu) ** 2).mean(axis=0, keepdims=True)  # (1, D)
        s = 1 / np.sqrt(var + self.eps)
        x_hat = (x - mu) * s  # (N, D)
        y = gamma * x_hat + beta

        def backward(dy):
            self.gamma.grad += (dy * x_hat).sum(axis=0)
            self.beta.grad += dy.sum(axis=0)
            d = gamma * dy  # of x_hat
            return s * (d - d.mean(axis=0, keepdims=True) - x_hat * (d * x_hat).mean(axis=0, keepdims=True))

        return y, backward
