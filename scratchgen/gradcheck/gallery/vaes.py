"""VAEs with one mistake in their objective each, beside the right one.

`TinyVAE` writes the objective out; a wrong one replaces one of its parts. Where a part has a gradient it is that of
the wrong part, so that each of these passes a gradient check.
"""

from collections.abc import Callable
from math import log

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.layers.parameter import Parameter
from scratchgen.losses import gaussian_kl, gaussian_nll
from scratchgen.models.model import Model
from scratchgen.optim import Adam

FEATURES, LATENT = 6, 3
VARIANCE = 0.05  # of p(x|z)


class TinyVAE(Model):
    """x (N, 6) → mu, logvar (N, 3) → z = mu + σ · eps → y (N, 6), with p(x|z) = N(y, VARIANCE).

    loss = −log p(x|z) + KL,   KL = ½ Σ (mu² + e^logvar − 1 − logvar)
    """

    def __init__(self, rng: np.random.Generator):
        self.encoder = L.Sequential(L.Dense(FEATURES, 16, rng=rng), L.Tanh(), L.Dense(16, 2 * LATENT, rng=rng))
        self.decoder = L.Sequential(L.Dense(LATENT, 16, rng=rng), L.Tanh(), L.Dense(16, FEATURES, rng=rng))
        self.latent = LATENT

    def loss(self, x: Array, eps: Array) -> tuple[Array, Callable[[], None]]:
        h, encoder_backward = self.encoder.forward(x)
        mu, logvar = h[:, :LATENT], h[:, LATENT:]
        std, dstd = self.std(logvar)  # σ, dσ/dlogvar
        y, decoder_backward = self.decoder.forward(mu + std * eps)
        reconstruction, dy = self.reconstruction(y, x)
        kl, dmu, dlogvar = self.kl(mu, logvar)

        def backward() -> None:
            dz = decoder_backward(dy)
            encoder_backward(np.concatenate([dz + dmu, dz * eps * dstd + dlogvar], axis=1))

        return reconstruction + kl, backward

    def std(self, logvar: Array) -> tuple[Array, Array]:
        std = np.exp(0.5 * logvar)
        return std, 0.5 * std

    def kl(self, mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
        return gaussian_kl(mu, logvar)

    def reconstruction(self, y: Array, x: Array) -> tuple[Array, Array]:
        value, dy, _ = gaussian_nll(y, log(VARIANCE), x)
        return value, dy


class SampleOfLogvar(TinyVAE):
    """e^logvar is the variance in the KL, and the standard deviation in the sample."""

    def std(self, logvar: Array) -> tuple[Array, Array]:
        std = np.exp(logvar)
        return std, std


class KLAveraged(TinyVAE):
    """np.mean(…, axis=1) in the place of np.sum(…, axis=1)."""

    def kl(self, mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
        value, dmu, dlogvar = gaussian_kl(mu, logvar)
        return value / LATENT, dmu / LATENT, dlogvar / LATENT


class KLRewarded(TinyVAE):
    """The ELBO is what rises and the loss what falls: one of the two signs was turned, not both."""

    def kl(self, mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
        value, dmu, dlogvar = gaussian_kl(mu, logvar)
        return -value, -dmu, -dlogvar


class KLWithoutLogarithm(TinyVAE):
    """½ Σ (mu² + σ² − 1): nothing keeps σ from 0."""

    def kl(self, mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
        N, var = len(mu), np.exp(logvar)
        return 0.5 * (mu * mu + var - 1).sum() / N, mu / N, 0.5 * var / N


class KLReversed(TinyVAE):
    """KL(p ‖ q) = ½ Σ ((1 + mu²)/σ² − 1 + log σ²)."""

    def kl(self, mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
        N, inverse = len(mu), np.exp(-logvar)
        terms = (1 + mu * mu) * inverse
        return 0.5 * (terms - 1 + logvar).sum() / N, mu * inverse / N, 0.5 * (1 - terms) / N


class ReconstructionOfTheBatch(TinyVAE):
    """Summed over the batch, beside a KL for each sample."""

    def reconstruction(self, y: Array, x: Array) -> tuple[Array, Array]:
        value, dy = super().reconstruction(y, x)
        return value * len(x), dy * len(x)


class ReconstructionAveraged(TinyVAE):
    """The mean over all elements, as losses of frameworks are by default, beside a KL that is summed."""

    def reconstruction(self, y: Array, x: Array) -> tuple[Array, Array]:
        value, dy = super().reconstruction(y, x)
        return value / x[0].size, dy / x[0].size


class NoNoise(TinyVAE):
    """The decoder gets mu."""

    def std(self, logvar: Array) -> tuple[Array, Array]:
        return np.zeros_like(logvar), np.zeros_like(logvar)


class WarmUp(TinyVAE):
    """The weight of the KL rises from 0 to 1 during the first steps: the training sets `beta`."""

    def __init__(self, rng: np.random.Generator):
        super().__init__(rng)
        self.beta = 1.0  # as after the warm-up

    def weight(self) -> float:
        return self.beta

    def kl(self, mu: Array, logvar: Array) -> tuple[Array, Array, Array]:
        value, dmu, dlogvar = gaussian_kl(mu, logvar)
        return self.weight() * value, self.weight() * dmu, self.weight() * dlogvar


class WarmUpStuck(WarmUp):
    """The weight was read when the model was made, at the start of the warm-up."""

    def weight(self) -> float:
        return 0.0


class LearnedVariance(TinyVAE):
    """The variance of p(x|z) is a parameter: −log p(x|z) = ½ Σ [log 2πσ² + (x − y)²/σ²]."""

    def __init__(self, rng: np.random.Generator):
        super().__init__(rng)
        self.logvar = Parameter("logvar", np.array([log(VARIANCE)], np.float32))

    def loss(self, x: Array, eps: Array) -> tuple[Array, Callable[[], None]]:
        value, backward = super().loss(x, eps)
        dlogvar = self.dlogvar

        def all_backward() -> None:
            backward()
            self.logvar.grad += dlogvar

        return value, all_backward

    def reconstruction(self, y: Array, x: Array) -> tuple[Array, Array]:
        value, dy, self.dlogvar = gaussian_nll(y, self.logvar.value[0], x)
        return value, dy


class LearnedVarianceWithoutLogarithm(LearnedVariance):
    """½ Σ (x − y)²/σ² alone: it falls for ever as σ grows."""

    def reconstruction(self, y: Array, x: Array) -> tuple[Array, Array]:
        inverse = np.exp(-self.logvar.value[0])
        r = y - x
        value = 0.5 * (r * r).sum() * inverse / len(x)
        self.dlogvar = -value
        return value, r * (inverse / len(x))


class IWAE(TinyVAE):
    """Trained by L_K = log (1/K) Σ_k w_k, with log w = log p(x|z) + log p(z) − log q(z|x).

    Its gradient is Σ_k w̃_k ∇log w_k with w̃ = w / Σ w: `weighted` gives that value and ∂/∂log w of what is trained.
    """

    def bound(self, x: Array, eps: Array) -> tuple[Array, Callable[[], None]]:
        """L_K of a batch, for noise (K, N, latent), and its pullback."""
        K, N, _ = eps.shape
        h, encoder_backward = self.encoder.forward(x)
        mu, logvar = h[:, :LATENT], h[:, LATENT:]
        std, dstd = self.std(logvar)
        z = mu + std * eps  # (K, N, latent)
        y, decoder_backward = self.decoder.forward(z.reshape(K * N, LATENT))
        r = y.reshape(K, N, FEATURES) - x
        log_w = -0.5 * ((r * r) / VARIANCE + log(2 * np.pi * VARIANCE)).sum(axis=2)
        log_w = log_w + 0.5 * (eps * eps + logvar - z * z).sum(axis=2)  # (K, N)
        value, dlog_w = self.weighted(log_w)

        def backward() -> None:
            d = (dlog_w / N)[:, :, None]
            dz = decoder_backward((d * -r / VARIANCE).reshape(K * N, FEATURES)).reshape(z.shape) - d * z
            dlogvar = (dz * eps * dstd + 0.5 * d).sum(axis=0)
            encoder_backward(np.concatenate([dz.sum(axis=0), dlogvar], axis=1))

        return value.mean(), backward

    def weighted(self, log_w: Array) -> tuple[Array, Array]:
        top = log_w.max(axis=0)
        w = np.exp(log_w - top)
        return top + np.log(w.mean(axis=0)), w / w.sum(axis=0)


class IWAEOfWeightedLogarithms(IWAE):
    """Σ w̃ log w, differentiated through w̃ as well."""

    def weighted(self, log_w: Array) -> tuple[Array, Array]:
        w = np.exp(log_w - log_w.max(axis=0))
        w = w / w.sum(axis=0)
        value = (w * log_w).sum(axis=0)
        return value, w * (1 + log_w - value)


class IWAEOfMeanLogarithm(IWAE):
    """The mean of the logarithms, (1/K) Σ log w."""

    def weighted(self, log_w: Array) -> tuple[Array, Array]:
        return log_w.mean(axis=0), np.full_like(log_w, 1 / len(log_w))


# --- what a training shows ---


def data(n: int = 64) -> Array:
    """Points on a bent sheet in six dimensions, with a little noise."""
    rng = np.random.default_rng(1)
    t = rng.standard_normal((n, 2))
    x = np.tanh(t @ rng.standard_normal((2, FEATURES))) + np.sqrt(VARIANCE) * rng.standard_normal((n, FEATURES))
    return x.astype(np.float32)


def surprise(model: TinyVAE, x: Array) -> float:
    """−log p(x) of what the decoder makes of z ~ N(0, I), in nats per sample: whatever a loss says, this is what a
    model of the data is worth. By 64 importance weights, drawn around the encoder's means."""
    rng = np.random.default_rng(2)
    h = model.encoder.predict(x)
    mu, std = h[:, :LATENT], np.clip(np.exp(0.5 * h[:, LATENT:]), 0.05, 2)
    eps = rng.standard_normal((64, *mu.shape))
    z = mu + std * eps
    y = model.decoder.predict(z.reshape(-1, LATENT).astype(np.float32)).reshape(64, *x.shape)
    variance = np.exp(model.logvar.value[0]) if isinstance(model, LearnedVariance) else VARIANCE
    log_w = -0.5 * ((y - x) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=2)
    log_w += (0.5 * (eps**2 - z**2) + np.log(std)).sum(axis=2)
    top = log_w.max(axis=0)
    return -float((top + np.log(np.exp(log_w - top).mean(axis=0))).mean())


def trained(model: TinyVAE, *, steps: int = 250, K: int = 0) -> list[float]:
    """−log p(x) of the data, step by step of a training."""
    rng, x = np.random.default_rng(3), data()
    optimizer = Adam(model.parameters(), 0.01)
    values = []
    for step in range(steps):
        values.append(surprise(model, x))
        if isinstance(model, WarmUp):
            model.beta = min(1.0, step / 100)
        if K and isinstance(model, IWAE):
            _, backward = model.bound(x, rng.standard_normal((K, len(x), LATENT)).astype(np.float32))
        else:
            _, backward = model.loss(x, rng.standard_normal((len(x), LATENT)).astype(np.float32))
        backward()
        if K:  # a bound rises
            for p in model.parameters():
                p.grad = -p.grad
        optimizer.step()
    return values
