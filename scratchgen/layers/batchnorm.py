"""Batch normalisation."""

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library, channel_sums, formula, mean_and_variance
from scratchgen.layers.layer import Layer
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TangentPullback


@formula
def inverse_std(var, eps):
    return 1 / np.sqrt(var + eps)


@formula
def x_hat(x, mu, s):
    return (x - mu) * s


@formula
def scale_and_shift(x, mu, s, gamma, beta):
    return gamma * x_hat(x, mu, s) + beta


@formula
def terms_of_dbeta_and_dgamma(dy, x, mu, s):
    return dy, dy * x_hat(x, mu, s)


@formula
def input_gradient(dy, x, mu, s, gamma, dbeta, dgamma, m):
    return gamma * s * (dy - dbeta / m - x_hat(x, mu, s) * (dgamma / m))


@formula
def dot(a, b):
    return (a * b,)


@formula
def tangent_gradient(dx, x, mu, s, gamma, n_t, n_du, sum_tx, sum_dux, sum_dun, m):
    return dx - gamma * (s / m) * (x_hat(x, mu, s) * sum_dun + n_du * sum_tx + n_t * sum_dux)


@formula
def running_average(running, batch, momentum):
    return (1 - momentum) * running + momentum * batch


class BatchNorm(Layer):
    """Normalises each channel over the batch to mean 0 and variance 1 (up to eps); then a learned scale and shift.

        y = gamma · x̂ + beta,   x̂ = (x − mu) · s,   s = 1 / √(var + eps)          (..., C) → (..., C)

    mu and var (biased: divided by m) are taken over the m rows, all axes but the last, so that vectors (N, C) and
    images (N, H, W, C) are one case. x reaches x̂ in three ways: by itself, through mu and through var. (That mu is in
    var, too, adds nothing: ∂var/∂mu = −2 mean(x − mu) = 0.) With Σ over the rows, dx̂ = gamma · dy, ∂s/∂var = −½ s³,

        dbeta = Σ dy,        dgamma = Σ dy · x̂
        dmu   = −s Σ dx̂ = −s gamma dbeta
        dvar  = −½ s³ Σ dx̂ (x − mu) = −½ s² gamma dgamma           as x − mu = x̂ / s
        dx    = s dx̂ + dmu · ∂mu/∂x + dvar · ∂var/∂x,              ∂mu/∂x = 1 / m, ∂var/∂x = 2 (x − mu) / m
              = gamma s (dy − dbeta / m − x̂ · dgamma / m)

    x̂ is computed again in the backward pass: two operations an element cost less than to keep an array of x's size.

    (Ioffe & Szegedy 2015, Algorithm 1 and §3.)

    `predict` uses the running statistics, running = (1 − momentum) · running + momentum · batch, with the batch
    variance unbiased (divided by m − 1). `gamma (C,)` starts at 1, `beta (C,)` at 0.
    ValueError when there is only one row: x̂ would be 0 whatever x is.

    Chapter: demos/book/05-batch-normalisation.md
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

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ..., self.channels)
        m = x.size // self.channels  # rows
        if m == 1:
            raise ValueError(f"{self}: x has shape {x.shape}, one value per channel; needs two or more to normalise")
        gamma, beta = self.gamma.value, self.beta.value
        mu, var = mean_and_variance(x)  # (C,), (C,)
        s = inverse_std(var, self.eps)  # (C,)
        y = scale_and_shift(x, mu, s, gamma, beta)  # (..., C)

        running_mean, running_var = self._running(x.dtype)
        self.running_mean = running_average(running_mean, mu, self.momentum)
        self.running_var = running_average(running_var, var * (m / (m - 1)), self.momentum)  # unbiased
        return y, self.pullback(
            y,
            shared=lambda dy: channel_sums(terms_of_dbeta_and_dgamma, dy, x, mu, s),  # (C,), (C,)
            dx=lambda dy, dbeta, dgamma: input_gradient(dy, x, mu, s, gamma, dbeta, dgamma, m),
            grads={
                self.gamma: lambda dy, dbeta, dgamma: dgamma,
                self.beta: lambda dy, dbeta, dgamma: dbeta,
            },
        )

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """u = gamma n(t) with n(t) = s (t − mean t − x̂ mean(t x̂)): J is symmetric, the map of dx is that of u.

        ⟨du, u⟩ = gamma s Q with Q = Σ du t − Σ du Σ t / m − Σ du x̂ Σ t x̂ / m, where s and x̂ depend on x. With
        ∂s/∂x = −s² x̂ / m and Σ w ∂x̂/∂x = n(w) for a w that is held, and s Q = Σ du n(t),

            dgamma = Σ dy x̂ + Σ du n(t),    dbeta = Σ dy,    dt = gamma n(du)
            dx = gamma n(dy) − (gamma s / m) (x̂ Σ du n(t) + n(du) Σ t x̂ + n(t) Σ du x̂)
        """
        self.check_tangent(x, t)
        y, _ = self.forward(x)
        gamma, m = self.gamma.value, x.size // self.channels
        mu, var = mean_and_variance(x)
        s, one = inverse_std(var, self.eps), array_library(x).ones_like(gamma)

        def n(w: Array) -> tuple[Array, Array]:
            """n(w), and Σ w x̂."""
            sum_w, sum_wx = channel_sums(terms_of_dbeta_and_dgamma, w, x, mu, s)
            return input_gradient(w, x, mu, s, one, sum_w, sum_wx, m), sum_wx

        n_t, sum_tx = n(t)

        def shared(dy: Array, du: Array) -> tuple[Array, ...]:
            return *channel_sums(terms_of_dbeta_and_dgamma, dy, x, mu, s), *n(du), *channel_sums(dot, du, n_t)

        def dx(dy, du, dbeta, dgamma, n_du, sum_dux, sum_dun):
            dx = input_gradient(dy, x, mu, s, gamma, dbeta, dgamma, m)
            return tangent_gradient(dx, x, mu, s, gamma, n_t, n_du, sum_tx, sum_dux, sum_dun, m)

        back = self.tangent_pullback(
            y,
            shared=shared,
            dx=dx,
            dt=lambda dy, du, dbeta, dgamma, n_du, *_: gamma * n_du,
            grads={
                self.gamma: lambda dy, du, dbeta, dgamma, n_du, sum_dux, sum_dun: dgamma + sum_dun,
                self.beta: lambda dy, du, dbeta, *_: dbeta,
            },
        )
        return y, gamma * n_t, back

    def predict(self, x: Array) -> Array:
        self.check_input(x, "N", ..., self.channels)
        mean, var = self._running(x.dtype)
        return scale_and_shift(x, mean, inverse_std(var, self.eps), self.gamma.value, self.beta.value)

    def _running(self, dtype: np.dtype) -> tuple[Array, Array]:
        """The running statistics in x's dtype: parameters may be assigned in another, and buffers do not follow."""
        return self.running_mean.astype(dtype, copy=False), self.running_var.astype(dtype, copy=False)

    def __repr__(self) -> str:
        extra = f", eps={self.eps:g}" if self.eps != 1e-5 else ""
        extra += f", momentum={self.momentum:g}" if self.momentum != 0.1 else ""
        return f"BatchNorm({self.channels}{extra})"
