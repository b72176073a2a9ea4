"""GANs with one mistake in their objective each, beside right ones.

`TinyGAN` writes both losses as functions of the logits that D gives; a wrong one replaces one of these, with the
gradient of the wrong one, so that each passes a gradient check. `WGANGP` has a penalty on the slope of its critic.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.functions import sigmoid
from scratchgen.layers.parameter import Parameter, frozen
from scratchgen.models.model import Model
from scratchgen.optim import Adam

LATENT = 2


def softplus(s: Array) -> Array:
    return np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s)))


class TinyGAN(Model):
    """z (N, 2) → G(z) (N, 2) → a logit s (N, 1). The losses are functions of logits:

    L_D = E softplus(−s(x)) + E softplus(s(G(z))),   L_G = E softplus(−s(G(z)))
    """

    player = {"discriminator_loss": "discriminator", "generator_loss": "generator"}

    def __init__(self, rng: np.random.Generator):
        self.generator: L.Layer = L.Sequential(L.Dense(LATENT, 16, rng=rng), L.Tanh(), L.Dense(16, 2, rng=rng))
        self.discriminator: L.Layer = L.Sequential(L.Dense(2, 16, rng=rng), L.Tanh(), L.Dense(16, 1, rng=rng))
        self.latent = LATENT

    def discriminator_loss(self, real: Array, z: Array) -> tuple[Array, Callable[[], None]]:
        s_real, real_backward = self.discriminator.forward(real)
        s_fake, fake_backward = self.discriminator.forward(self.generator.forward(z)[0])
        loss, ds_real, ds_fake = self.of_d(s_real, s_fake)

        def backward() -> None:
            real_backward(ds_real)
            fake_backward(ds_fake)

        return loss, backward

    def generator_loss(self, z: Array) -> tuple[Array, Callable[[], None]]:
        fake, generator_backward = self.generator.forward(z)
        with frozen(self.discriminator):
            s, through = self.discriminator.forward(fake)
        loss, ds = self.of_g(s)

        def backward() -> None:
            generator_backward(through(ds))

        return loss, backward

    def of_d(self, s_real: Array, s_fake: Array) -> tuple[Array, Array, Array]:
        """L_D, and its gradients at the logits."""
        loss = softplus(-s_real).mean() + softplus(s_fake).mean()
        return loss, -sigmoid(-s_real) / len(s_real), sigmoid(s_fake) / len(s_fake)

    def of_g(self, s_fake: Array) -> tuple[Array, Array]:
        """L_G, and its gradient at the logits."""
        return softplus(-s_fake).mean(), -sigmoid(-s_fake) / len(s_fake)


class BothReal(TinyGAN):
    """One array of labels, all 1, serves both batches."""

    def of_d(self, s_real: Array, s_fake: Array) -> tuple[Array, Array, Array]:
        loss = softplus(-s_real).mean() + softplus(-s_fake).mean()
        return loss, -sigmoid(-s_real) / len(s_real), -sigmoid(-s_fake) / len(s_fake)


class OnlyReal(TinyGAN):
    """D's loss has the real term alone."""

    def of_d(self, s_real: Array, s_fake: Array) -> tuple[Array, Array, Array]:
        return softplus(-s_real).mean(), -sigmoid(-s_real) / len(s_real), np.zeros_like(s_fake)


class LabelledFake(TinyGAN):
    """G's samples keep the label fake in G's own loss."""

    def of_g(self, s_fake: Array) -> tuple[Array, Array]:
        return softplus(s_fake).mean(), sigmoid(s_fake) / len(s_fake)


class Relativistic(TinyGAN):
    """Relativistic average GAN: is this sample more real than the mean of the others?

    L_D = E softplus(−(s(x) − mean s(G))) + E softplus(s(G) − mean s(x))
    """

    def of_d(self, s_real: Array, s_fake: Array) -> tuple[Array, Array, Array]:
        a, b = s_real - s_fake.mean(), s_fake - s_real.mean()
        da, db = -sigmoid(-a) / len(a), sigmoid(b) / len(b)
        ds_real = da - db.sum() / len(s_real)  # the mean is over all, and takes a share of every gradient
        return softplus(-a).mean() + softplus(b).mean(), ds_real, db - da.sum() / len(s_fake)


class RelativisticTwice(Relativistic):
    """Both terms compare each real sample with the mean fake."""

    def of_d(self, s_real: Array, s_fake: Array) -> tuple[Array, Array, Array]:
        a = s_real - s_fake.mean()
        da = -2 * sigmoid(-a) / len(a)
        return 2 * softplus(-a).mean(), da, np.full_like(s_fake, -da.sum() / len(s_fake))


class WGAN(TinyGAN):
    """D is a critic: it raises E s(x) − E s(G(z)), and G raises E s(G(z))."""

    def of_d(self, s_real: Array, s_fake: Array) -> tuple[Array, Array, Array]:
        ds = np.ones_like(s_real) / len(s_real)
        return s_fake.mean() - s_real.mean(), -ds, ds

    def of_g(self, s_fake: Array) -> tuple[Array, Array]:
        return -s_fake.mean(), -np.ones_like(s_fake) / len(s_fake)


class WGANUpsideDown(WGAN):
    """G minimises E s(G(z)), as D does."""

    def of_g(self, s_fake: Array) -> tuple[Array, Array]:
        return s_fake.mean(), np.ones_like(s_fake) / len(s_fake)


def wasserstein(s_real: Array, s_fake: Array) -> tuple[Array, tuple[Array, Array]]:
    """The critic's loss as a function of its own, E s_fake − E s_real, and its gradients."""
    gradients = np.full_like(s_real, -1 / s_real.size), np.full_like(s_fake, 1 / s_fake.size)
    return s_fake.mean() - s_real.mean(), gradients


def wasserstein_negated(s_real: Array, s_fake: Array) -> tuple[Array, tuple[Array, Array]]:
    """Both gradients negated; the caller takes one for the other, and for batches of one size that is right again."""
    loss, (ds_real, ds_fake) = wasserstein(s_real, s_fake)
    return loss, (-ds_real, -ds_fake)


# --- gradient penalties ---


class Critic(L.Layer):
    """s = tanh(x W + b) v + c of a sample of any shape, with its tangent.

    u = ∂s/∂x · t = (a′ ⊙ t W) v with a = tanh(h), a′ = 1 − a². Where u has the gradient du, a has another,
    −2 a · (t W) · (du vᵀ), as ∂a′/∂a = −2 a.
    """

    def __init__(self, n_in: int, rng: np.random.Generator, hidden: int = 16):
        self.W = Parameter("W", rng.standard_normal((n_in, hidden)).astype(np.float32) / np.float32(np.sqrt(n_in)))
        self.b = Parameter("b", np.zeros(hidden, np.float32))
        self.v = Parameter("v", rng.standard_normal((hidden, 1)).astype(np.float32) / np.float32(np.sqrt(hidden)))

    def forward(self, x: Array) -> tuple[Array, Callable]:
        s, _, backward = self.jvp(x, np.zeros_like(x))
        return s, lambda ds: backward(ds, np.zeros_like(ds))[0]

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, Callable]:
        W, v, rows = self.W.value, self.v.value, (len(x), -1)
        X, T = x.reshape(rows), t.reshape(rows)
        a, p = np.tanh(X @ W + self.b.value), T @ W  # (N, hidden)
        slope = 1 - a * a
        learns = not self.W.frozen

        def backward(ds: Array, du: Array) -> tuple[Array, Array]:
            da = ds @ v.T - 2 * a * p * (du @ v.T)
            dh, dp = da * slope, du @ v.T * slope
            if learns:
                self.W.grad += X.T @ dh + T.T @ dp
                self.b.grad += dh.sum(axis=0)
                self.v.grad += a.T @ ds + (slope * p).T @ du
            return (dh @ W.T).reshape(x.shape), (dp @ W.T).reshape(x.shape)

        return a @ v, (slope * p) @ v, backward


class WGANGP(WGAN):
    """A WGAN of images 2×2×2, whose critic is held to slope 1 between real and fake samples:

        P = λ E (‖g‖ − 1)²,   g = ∇ₓ s(x̂),   x̂ = alpha · real + (1 − alpha) · fake

    dP = E v · dg with v = 2λ (1 − 1/‖g‖) g held constant: v goes forward as a tangent, u = ∂s/∂x · v, and dP/dθ is
    the gradient of the mean of u.
    """

    player = {**TinyGAN.player, "gradient_penalty": "discriminator"}
    shape = (2, 2, 2)

    def __init__(self, rng: np.random.Generator, weight: float = 10.0):
        self.generator = L.Sequential(
            L.Dense(LATENT, 16, rng=rng), L.Tanh(), L.Dense(16, 8, rng=rng), L.Reshape(*self.shape)
        )
        self.discriminator = Critic(8, rng)
        self.latent, self.slope_weight = LATENT, weight

    def gradient_penalty(self, real: Array, fake: Array, alpha: Any) -> tuple[Array, Callable[[], None]]:
        x = self.between(real, fake, alpha)
        s, _ = self.discriminator.forward(x)
        g = self.input_gradient(x, s)
        norm = self.norm(g)
        excess = norm - 1
        penalty = self.slope_weight * (excess * excess).sum() / len(x)

        def backward() -> None:
            v = (2 * self.slope_weight / len(x)) * excess * self.direction(g, norm)
            self.pull_tangent(x, v)

        return penalty, backward

    def between(self, real: Array, fake: Array, alpha: Array) -> Array:
        return alpha * real + (1 - alpha) * fake

    def norm(self, g: Array) -> Array:
        """‖g‖ of each sample, in a shape that is broadcast over its elements."""
        return np.sqrt((g * g).sum(axis=(1, 2, 3), keepdims=True))

    def direction(self, g: Array, norm: Array) -> Array:
        """g/‖g‖, the derivative of ‖g‖, and 0 where g is."""
        return g / np.where(norm > 0, norm, 1)

    def input_gradient(self, x: Array, s: Array) -> Array:
        with frozen(self.discriminator):
            _, backward = self.discriminator.forward(x)
        return backward(np.ones_like(s))

    def pull_tangent(self, x: Array, v: Array) -> None:
        """Add the gradients of Σ v · ∇s."""
        s, u, backward = self.discriminator.jvp(x, v)  # type: ignore[attr-defined]  # a critic has it
        backward(np.zeros_like(s), np.ones_like(u))


class DrawsAlpha(WGANGP):
    """One α of [0, 1] for each sample, drawn here."""

    def gradient_penalty(self, real: Array, fake: Array, rng: Any) -> tuple[Array, Callable[[], None]]:
        return super().gradient_penalty(real, fake, self.alpha(real, rng).astype(real.dtype))

    def alpha(self, real: Array, rng: np.random.Generator) -> Array:
        return np.asarray(rng.random((len(real), 1, 1, 1)))


class AlphaOfElements(DrawsAlpha):
    def alpha(self, real: Array, rng: np.random.Generator) -> Array:
        return np.asarray(rng.random(real.shape))


class AlphaNormal(DrawsAlpha):
    def alpha(self, real: Array, rng: np.random.Generator) -> Array:
        return rng.standard_normal((len(real), 1, 1, 1))


class AlphaOfBatch(DrawsAlpha):
    def alpha(self, real: Array, rng: np.random.Generator) -> Array:
        return np.full((len(real), 1, 1, 1), rng.random())


class PenaltyAtRealSamples(WGANGP):
    def between(self, real: Array, fake: Array, alpha: Array) -> Array:
        return real


class NormOfChannels(WGANGP):
    """The norm over the last axis: each pixel is held to slope 1."""

    def norm(self, g: Array) -> Array:
        return np.sqrt((g * g).sum(axis=3, keepdims=True))


class PenaltyOfSigmoid(WGANGP):
    """∇ₓ σ(s) = σ (1 − σ) ∇ₓ s: D's probability, from a GAN before. `weights` is the chain rule's share of s."""

    def input_gradient(self, x: Array, s: Array) -> Array:
        return self.share(s) * super().input_gradient(x, s)

    def share(self, s: Array) -> Array:
        return (sigmoid(s) * sigmoid(-s)).reshape(-1, 1, 1, 1)

    def pull_tangent(self, x: Array, v: Array) -> None:
        """The gradients of Σ σ′(s) · u: σ′(s) moves with s, by σ″ = σ′ (1 − 2σ)."""
        s, u, backward = self.discriminator.jvp(x, v)  # type: ignore[attr-defined]  # a critic has it
        prime = sigmoid(s) * sigmoid(-s)
        backward(prime * (1 - 2 * sigmoid(s)) * u, prime)


class PenaltyWithoutGradient(WGANGP):
    """g is a number by the time that it meets the loss: the penalty is printed, and moves nothing."""

    def pull_tangent(self, x: Array, v: Array) -> None:
        pass


class PenaltyNaN(WGANGP):
    """g/‖g‖ as it is: 0/0 where the critic is flat."""

    def direction(self, g: Array, norm: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return g / norm


# --- what a training shows ---


def distance(a: Array, b: Array) -> float:
    """Energy distance of two sets of points: 0 where they have one distribution."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)

    def apart(p: Array, q: Array) -> float:
        return float(np.sqrt(((p[:, None] - q[None]) ** 2).sum(axis=2) + 1e-12).mean())

    return 2 * apart(a, b) - apart(a, a) - apart(b, b)


def points(n: int = 64, shape: tuple[int, ...] = (2,)) -> Array:
    """Two clouds on either side of where G starts."""
    rng = np.random.default_rng(1)
    features = int(np.prod(shape))
    centre = np.where(rng.random((n, 1)) < 0.5, 1.5, -1.5) * (-1) ** np.arange(features)
    return (centre + 0.1 * rng.standard_normal((n, features))).reshape(n, *shape).astype(np.float32)


def slope(model: WGANGP, real: Array, fake: Array) -> float:
    """The mean of ‖∇s‖ half way between real and fake samples."""
    x = (real + fake) / 2
    g = WGANGP.input_gradient(model, x, model.discriminator.predict(x))
    return float(np.sqrt((g * g).sum(axis=(1, 2, 3))).mean())


def trained(model: TinyGAN, *, steps: int = 400, lr: float = 0.005, clip: float = 0.0) -> list[float]:
    """The distance of G's samples from the data, or the slope of a critic with a penalty on it, step by step of a
    training; it ends where that is not finite."""
    rng = np.random.default_rng(2)
    real = points(shape=getattr(model, "shape", (2,)))
    d_optimizer, g_optimizer = (
        Adam(player.parameters(), lr, (0.5, 0.9)) for player in (model.discriminator, model.generator)
    )
    probe = rng.standard_normal((64, LATENT)).astype(np.float32)
    values: list[float] = []
    for _ in range(steps):
        fake = model.generator.predict(probe)
        value = slope(model, real, fake) if isinstance(model, WGANGP) else distance(real, fake)
        if not np.isfinite(value):
            break
        values.append(value)
        z = rng.standard_normal((len(real), LATENT)).astype(np.float32)
        model.discriminator_loss(real, z)[1]()
        if isinstance(model, WGANGP):
            alpha: Any = rng if isinstance(model, DrawsAlpha) else rng.random((len(real), 1, 1, 1), np.float32)
            model.gradient_penalty(real, model.generator.predict(z), alpha)[1]()
        d_optimizer.step()
        for p in model.discriminator.parameters() if clip else ():
            p.value = np.clip(p.value, -clip, clip)
        model.generator_loss(z)[1]()
        g_optimizer.step()
    return values


def steep(model: WGANGP, by: float = 4.0) -> WGANGP:
    """With a critic that starts with another slope: 0 where its last layer starts at 0, as some do."""
    critic = model.discriminator
    assert isinstance(critic, Critic)
    critic.v.value = by * critic.v.value
    return model
