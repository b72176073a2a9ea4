import numpy as np

from scratchgen import Layer, Parameter


class LayerNorm(Layer):
    def __init__(self, features, eps=1e-5):
        self.gamma = Parameter("gamma", np.ones(features))
        self.beta = Parameter("beta", np.zeros(features))
        self.eps = eps

    def forward(self, x):
        gamma, beta = self.gamma.value, self.beta.value
        mu = x.mean(axis=1, keepdims=True)  # (N, 1)
        var = ((x - mu) ** 2).mean(axis=1, keepdims=True)  # (N, 1)
        s = 1 / np.sqrt(var + self.eps)
        x_hat = (x - mu) * s  # (N, D)
        y = gamma * x_hat + beta

        def backward(dy):
            D = np.float64(x.shape[1])
            self.gamma.grad += (dy * x_hat).sum(axis=0)
            self.beta.grad += dy.sum(axis=0)
            dx_hat = gamma * dy
            ds = (dx_hat * (x - mu)).sum(axis=1, keepdims=True)
            dvar = -0.5 * s**3 * ds
            dmu = -(dx_hat * s).sum(axis=1, keepdims=True) - 2 * dvar * (x - mu).mean(axis=1, keepdims=True)
            return dx_hat * s + dvar * 2 * (x - mu) / D + dmu / D

        return y, backward
