"""Layer normalisation."""

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library, channel_sum
from scratchgen.layers.layer import Layer
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TangentPullback


class LayerNorm(Layer):
    """Normalises each sample over all of its elements to mean 0 and variance 1 (up to eps); then a learned scale and
    shift of each channel.

        y = gamma · x̂ + beta,   x̂ = (x − mu) · s,   s = 1 / √(var + eps)          (N, ..., C) → (N, ..., C)

    mu, var and s belong to a sample: one sample does not see another, so that, unlike with BatchNorm, the gradient of
    a critic's score with respect to its input is that of each sample by itself, as a gradient penalty needs. With
    m elements a sample, means over these, and d = gamma · dy, the three ways through x, mu and var are BatchNorm's:

        dbeta = Σ dy,   dgamma = Σ dy · x̂          over samples and pixels
        dx = n(d),   n(w) = s (w − mean w − x̂ mean(w x̂))

    Here gamma stands inside of the means, as it differs within a sample. There are no running statistics: `predict`
    is forward. `gamma (C,)` starts at 1, `beta (C,)` at 0. ValueError when a sample has one element only.
    (Ba, Kiros & Hinton 2016; in a critic: Gulrajani et al. 2017, §4.)

    Chapter: demos/book/05-batch-normalisation.md
    """

    def __init__(self, channels: int, *, eps: float = 1e-5):
        self.channels = checks.integer("LayerNorm", "channels", channels)
        self.eps = checks.real("LayerNorm", "eps", eps, lambda x: x > 0, "a positive number")
        self.gamma = Parameter("gamma", np.ones(self.channels, np.float32))
        self.beta = Parameter("beta", np.zeros(self.channels, np.float32))

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        gamma, beta = self.gamma.value, self.beta.value
        x_hat, s = self._normalised(x)
        y = gamma * x_hat + beta
        return y, self.pullback(
            y,
            dx=lambda dy: self._n(gamma * dy, x_hat, s),
            grads={self.gamma: lambda dy: channel_sum(dy * x_hat), self.beta: channel_sum},
        )

    def predict(self, x: Array) -> Array:
        return self.gamma.value * self._normalised(x)[0] + self.beta.value

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """u = gamma n(t). With e = gamma du, ⟨du, u⟩ = Σ e n(t) = s Q, Q = Σ e t − Σ e Σ t / m − Σ e x̂ Σ t x̂ / m,
        where s and x̂ depend on x: ∂s/∂x = −s² x̂ / m, and Σ w ∂x̂/∂x = n(w) for a w that is held. So

            dgamma = Σ dy x̂ + Σ du n(t),    dbeta = Σ dy,    dt = n(e)
            dx = n(gamma dy) − s (x̂ mean(e n(t)) + n(e) mean(t x̂) + n(t) mean(e x̂))
        """
        self.check_tangent(x, t)
        gamma, beta = self.gamma.value, self.beta.value
        x_hat, s = self._normalised(x)
        n_t = self._n(t, x_hat, s)
        y = gamma * x_hat + beta

        def shared(dy: Array, du: Array) -> tuple[Array, Array]:
            e = gamma * du
            return e, self._n(e, x_hat, s)

        def dx(dy: Array, du: Array, e: Array, n_e: Array) -> Array:
            bent = x_hat * _mean(e * n_t) + n_e * _mean(t * x_hat) + n_t * _mean(e * x_hat)
            return self._n(gamma * dy, x_hat, s) - s * bent

        back = self.tangent_pullback(
            y,
            shared=shared,
            dx=dx,
            dt=lambda dy, du, e, n_e: n_e,
            grads={
                self.gamma: lambda dy, du, e, n_e: channel_sum(dy * x_hat + du * n_t),
                self.beta: lambda dy, du, e, n_e: channel_sum(dy),
            },
        )
        return y, gamma * n_t, back

    def _normalised(self, x: Array) -> tuple[Array, Array]:
        """x̂ and s, the one like x, the other (N, 1, ...)."""
        self.check_input(x, "N", ..., self.channels)
        if x.size == len(x):
            raise ValueError(f"{self}: x has shape {x.shape}, one element a sample; needs two or more to normalise")
        centred = x - _mean(x)
        s = 1 / array_library(x).sqrt(_mean(centred * centred) + self.eps)
        return centred * s, s

    def _n(self, w: Array, x_hat: Array, s: Array) -> Array:
        """What a step w of x does to x̂, and what a w for x̂ gives to x: the map is symmetric."""
        return s * (w - _mean(w) - x_hat * _mean(w * x_hat))

    def __repr__(self) -> str:
        return f"LayerNorm({self.channels}{f', eps={self.eps:g}' if self.eps != 1e-5 else ''})"


def _mean(a: Array) -> Array:
    """Over the elements of each sample: (N, ...) → (N, 1, ...)."""
    return a.mean(axis=tuple(range(1, a.ndim)), keepdims=True)
