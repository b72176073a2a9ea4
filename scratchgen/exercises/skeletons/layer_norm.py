"""Layer norm: each sample is brought to mean 0 and variance 1 over its features; then a learned scale and shift.

    y = gamma x̂ + beta,   x̂ = (x − mu) / √(var + eps)        x (N, D), gamma and beta (D,) → y (N, D)

mu and var are those of a row: the mean of its D elements, and the mean of their squared distances from it.

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y (N, D) and returns dx = ∂L/∂x (N, D). The gradients of the parameters it adds,
with +=, to self.gamma.grad and self.beta.grad. Mind that x reaches y in three ways: by itself, through the mean and
through the variance.

Check it:  scratchgen exercise check layer_norm.py
"""

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
            raise NotImplementedError("write backward")

        return y, backward
