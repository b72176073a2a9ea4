"""Batch normalisation."""

import numpy as np

from scratchgen import checks
from scratchgen.backend import kernels
from scratchgen.layers.layer import Layer
from scratchgen.layers.parameter import Parameter


class BatchNorm(Layer):
    """Every channel to mean 0 and variance 1 over the batch, then to a learned scale and shift.

        y = gamma · x̂ + beta,   x̂ = (x − mu) · s,   s = 1 / √(var + eps)          (..., C) → (..., C)

    mu and var (biased: divided by m) are taken over the m rows, all axes but the last, so that vectors (N, C) and
    images (N, H, W, C) are one case. x reaches x̂ in three ways, by itself, through mu and through var (in which mu
    cancels: ∂var/∂mu = −2 mean(x − mu) = 0); with Σ and mean over the rows and dx̂ = gamma · dy

        dmu  = −s Σ dx̂,      dvar = −½ s³ Σ dx̂ (x − mu) = −½ s² Σ dx̂ · x̂
        dx   = s dx̂ + dmu / m + dvar · 2 (x − mu) / m
             = s (dx̂ − mean(dx̂) − x̂ · mean(dx̂ · x̂))

    and dgamma = Σ dy · x̂, dbeta = Σ dy are the same two sums. (Ioffe & Szegedy 2015, Algorithm 1 and §3.)

    `predict` uses the running statistics, running = (1 − momentum) · running + momentum · batch, with the batch
    variance unbiased (divided by m − 1). `gamma (C,)` starts at 1, `beta (C,)` at 0.
    ValueError when there is only one row: x̂ would be 0 whatever x is.
    """

    buffers = ("running_mean", "running_var")

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1):
        self.channels = checks.integer("BatchNorm", "channels", channels)
        self.eps = checks.real("BatchNorm", "eps", eps, lambda x: x > 0, "a positive number")
        self.momentum = checks.real("BatchNorm", "momentum", momentum, lambda x: 0 <= x <= 1, "a number from 0 to 1")
        self.gamma = Parameter("gamma", np.ones(self.channels, np.float32))
        self.beta = Parameter("beta", np.zeros(self.channels, np.float32))
        self.running_mean = np.zeros(self.channels, np.float32)
        self.running_var = np.ones(self.channels, np.float32)

    def forward(self, x):
        self.check_input(x, "N", ..., self.channels)
        m = x.size // self.channels  # rows
        if m == 1:
            raise ValueError(f"{self}: x has shape {x.shape}, one value per channel; needs two or more to normalise")
        ops, gamma, beta = kernels(x), self.gamma.value, self.beta.value
        mu, var = ops.moments(x)  # (C,), (C,)
        sqrt, eps = ops.xp.sqrt, self.eps
        s = ops.rowwise(lambda var: 1 / sqrt(var + eps), var)  # (C,)

        def scale_and_shift(x, mu, scale, beta):  # gamma · x̂ + beta, with scale = gamma · s
            return (x - mu) * scale + beta

        def two_terms(dy, x, mu, s):  # of the sums that are dbeta and dgamma
            return dy, dy * ((x - mu) * s)

        def three_ways(dy, x, mu, mean_dy, s_mean, scale):  # dx, with s_mean = s · mean(dy · x̂)
            return (dy - mean_dy - (x - mu) * s_mean) * scale

        scale = gamma * s
        y = ops.rowwise(scale_and_shift, x, mu, scale, beta)  # (..., C)

        keep, take = 1 - self.momentum, self.momentum

        def running_average(running, batch, weight):
            return ops.rowwise(lambda running, batch: keep * running + weight * batch, running, batch)

        running_mean, running_var = self._running(x.dtype)
        self.running_mean = running_average(running_mean, mu, take)
        self.running_var = running_average(running_var, var, take * (m / (m - 1)))  # of the unbiased variance
        return y, self.pullback(
            y,
            shared=lambda dy: ops.row_sums(two_terms, dy, x, mu, s),  # Σ dy, Σ dy · x̂
            dx=lambda dy, dbeta, dgamma: ops.rowwise(three_ways, dy, x, mu, dbeta / m, s * dgamma / m, scale),
            grads={
                self.gamma: lambda dy, dbeta, dgamma: dgamma,
                self.beta: lambda dy, dbeta, dgamma: dbeta,
            },
        )

    def predict(self, x):
        self.check_input(x, "N", ..., self.channels)
        mean, var = self._running(x.dtype)
        s = 1 / kernels(x).xp.sqrt(var + self.eps)
        return self.gamma.value * ((x - mean) * s) + self.beta.value

    def _running(self, dtype):
        """The running statistics in the dtype of the step."""
        return self.running_mean.astype(dtype, copy=False), self.running_var.astype(dtype, copy=False)

    def __repr__(self):
        extra = f", eps={self.eps:g}" if self.eps != 1e-5 else ""
        extra += f", momentum={self.momentum:g}" if self.momentum != 0.1 else ""
        return f"BatchNorm({self.channels}{extra})"
