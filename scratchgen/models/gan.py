"""The generative adversarial network: a game of two networks, and the two losses that play it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library, formula, sum_with_map
from scratchgen.functions import sigmoid
from scratchgen.layers import BatchNorm, Dense, Flatten, Layer, LeakyReLU, Reshape, Sequential, Sigmoid, Tanh, frozen
from scratchgen.layers.pullback import Pullback, chain
from scratchgen.losses import bce_with_logits
from scratchgen.models.model import Model
from scratchgen.models.networks import stack
from scratchgen.optim import Optimizer

LOSSES = ("non-saturating", "minimax")
PRIORS = ("normal", "uniform")


class Played(NamedTuple):
    """The result of one update: both losses before it, and the logits that D gave."""

    d_loss: Array
    g_loss: Any  # None where D alone moved
    s_real: Array
    s_fake: Array


class GAN(Model):
    """min over G, max over D of the value function

        V(D, G) = E_x log D(x) + E_z log(1 − D(G(z)))

    D(x) = σ(s(x)) is the probability that x is real, G(z) makes an x from noise z. `discriminator` gives the logits
    s, (N, 1) or more, and the losses are taken from these, finite at any confidence. With softplus(s) = log(1 + eˢ),
    whose derivative is the logistic σ, log D = −softplus(−s) and log(1 − D) = −softplus(s):

        D ascends V:      L_D = E softplus(−s(x)) + E softplus(s(G(z)))      ds = σ(s) − 1 on real, σ(s) on fake
        G descends V:     L_G = −E softplus(s(G(z)))                         ds = −σ(s)            "minimax"
        G ascends log D:  L_G = E softplus(−s(G(z)))                         ds = σ(s) − 1         "non-saturating"

    (each ds over N, for E is the mean over a batch, of sums over the logits of a sample). These are binary
    cross-entropies, `bce_with_logits` with label 1 or 0. G's loss leaves out the term of V that G cannot change, and
    its gradient reaches G through D, whose own parameters are frozen meanwhile. Early on D knows every fake,
    σ(s) ≈ 0, and the minimax gradient vanishes just where G must learn the most; the non-saturating one is then −1.

    For a given G, V is largest at D = p / (p + p_G), with p the density of the data and p_G of G's samples: pointwise
    it is p log D + p_G log(1 − D). V is then 2 JS(p ‖ p_G) − log 4, twice the Jensen–Shannon divergence, so the
    equilibrium is p_G = p, D = ½ and V = −log 4 (for each logit). There D is constant, ∂D/∂x = 0, so the gradient of
    the non-saturating loss vanishes as well.

    `smoothing=0.1` gives D the label t = 0.9 for real samples, ds = σ(s) − t; fake ones stay at 0 (one-sided:
    Salimans et al. 2016, §3.4).
    `prior` is the density of z: "normal", or "uniform" on [−1, 1]. (Goodfellow et al. 2014, eq. 1, §3 and theorem 1.)

    Real samples that the last layer of G can never make, as pixels of 0 … 255 after a tanh, raise a warning: D tells
    them by their range. ValueError for real samples that are not finite, and for noise outside of the prior. Both are
    checked on the CPU alone; on a GPU they would force it to wait.

    Chapter: demos/book/13-gan.md
    """

    _instead = (
        "use generate(z), or discriminator_loss(real, z) and generator_loss(z) for the losses and their pullbacks"
    )
    player = MappingProxyType({"discriminator_loss": "discriminator", "generator_loss": "generator"})
    inputs_like = MappingProxyType({"discriminator": "generator"})

    def __init__(
        self,
        generator: Layer,
        discriminator: Layer,
        latent: int,
        *,
        loss: str = "non-saturating",
        smoothing: float = 0.0,
        prior: str = "normal",
    ):
        self.check_networks(generator=generator, discriminator=discriminator)
        for name, value, choices in (("loss", loss, LOSSES), ("prior", prior, PRIORS)):
            if value not in choices:
                raise ValueError(f"GAN: {name} is {value!r}, needs one of {', '.join(map(repr, choices))}")
        self.generator, self.discriminator = generator, discriminator
        self.latent = checks.integer("GAN", "latent", latent)
        self.smoothing = checks.real("GAN", "smoothing", smoothing, lambda x: 0 <= x < 1, "a number ≥ 0 and below 1")
        self.loss_name, self.prior = loss, prior

    # --- the two losses, each with the gradient of its own player ---

    def discriminator_loss(self, real: Array, z: Array) -> tuple[Array, Callable[[], None]]:
        """loss, backward for a batch of real samples and one of noise: L_D. backward() adds gradients of D alone.

        (The running statistics of G move too, as in every forward pass.)
        """
        with self.unchanged_on_error():
            fake, _ = self._fake(z)  # nothing goes back into G
            self._check_real(real, fake)
            _, loss_real, real_backward = self._discriminator_pass(real, 1 - self.smoothing)
            _, loss_fake, fake_backward = self._discriminator_pass(fake, 0)

        def backward():
            real_backward()
            fake_backward()

        return loss_real + loss_fake, backward

    def generator_loss(self, z: Array) -> tuple[Array, Callable[[], None]]:
        """loss, backward for a batch of noise: L_G, through a discriminator that takes no gradient."""
        with self.unchanged_on_error():
            fake, generator_backward = self._fake(z)
            loss, loss_backward = self._loss_of_fakes(fake)
        return loss, lambda: generator_backward(loss_backward(), need_dx=False)

    def _fake(self, z: Array) -> tuple[Array, Pullback]:
        """G(z), and its pullback. ValueError for noise that the prior does not have."""
        bound = 1 if self.prior == "uniform" else inf
        checks.between("GAN", "z", z, -bound, bound, ", as the prior is")
        return chain(z, self.generator)

    def _discriminator_pass(self, x: Array, label: float) -> tuple[Array, Array, Callable[[], None]]:
        """Logits s of a batch; the loss with this label for all of it, one term of L_D; its pullback to D's
        weights."""
        s, backward = chain(x, self.discriminator)
        loss, ds = cross_entropy(s, label)
        return s, loss, lambda: backward(ds, need_dx=False)

    def _loss_of_fakes(self, fake: Array) -> tuple[Array, Callable[[], Array]]:
        """L_G of G's samples, and its pullback to these: D is frozen, and passes the gradient on."""
        with frozen(self.discriminator):
            s, backward = chain(fake, self.discriminator)
        if self.loss_name == "minimax":
            loss, ds = cross_entropy(s, 0)
            return -loss, lambda: backward(-ds)
        loss, ds = cross_entropy(s, 1)
        return loss, lambda: backward(ds)

    def _check_real(self, real: Array, fake: Array) -> None:
        checks.float_array("GAN", "real", real)
        if real.shape[1:] != fake.shape[1:]:
            raise ValueError(
                f"GAN: real has shape {real.shape}, the generator makes {fake.shape}; needs samples of one shape"
            )
        last = _last(self.generator)
        low, high = (-1, 1) if isinstance(last, Tanh) else (0, 1) if isinstance(last, Sigmoid) else (-inf, inf)
        wrong = checks.outside(real, low, high)
        if wrong:
            checks.finite("GAN", "real", real)  # what is left is a game, but one that D wins by the range alone
            checks.warn(f"GAN: real {wrong}, the range of {last}, where G ends")

    # --- the game ---

    def train_step(
        self, real: Array, z: Array, d_optimizer: Optimizer, g_optimizer: Optimizer
    ) -> tuple[Array, Array]:
        """One update of D, then one of G against the new D; returns both losses, each before its player's update."""
        if g_optimizer is None:  # which would mean D alone
            self.check_optimizer("g_optimizer", g_optimizer)
        played = self.play(real, z, d_optimizer, g_optimizer)
        return played.d_loss, played.g_loss

    def discriminator_step(self, real: Array, z: Array, d_optimizer: Optimizer) -> Array:
        """One update of D alone, and its loss before: k − 1 of these before each `train_step` make k updates of D for
        one of G."""
        return self.play(real, z, d_optimizer).d_loss

    def play(self, real: Array, z: Array, d_optimizer: Optimizer, g_optimizer: Optimizer | None = None) -> Played:
        """An update of D and, where G has an optimizer, one of G against the new D.

        (Goodfellow et al. 2014, Algorithm 1, but that G's step has the noise of D's: one pass of G serves both.)
        The terms of L_D are pulled back one by one, so that the activations of one batch at a time are kept (each
        `del` lets go of some); G's gradient goes back through the pass that made its samples. When a backward pass
        fails half way, its player's gradients are zero.
        """
        self.check_optimizer("d_optimizer", d_optimizer, self.discriminator)
        if g_optimizer is not None:
            self.check_optimizer("g_optimizer", g_optimizer, self.generator)
        with self.unchanged_on_error():
            fake, generator_backward = self._fake(z)
            self._check_real(real, fake)
            s_real, loss_real, backward = self._discriminator_pass(real, 1 - self.smoothing)
            with self.discriminator.no_gradient_on_error():
                backward()
                del backward  # and with it the activations of the real batch
                s_fake, loss_fake, backward = self._discriminator_pass(fake, 0)
                backward()
        del backward  # and D's old weights
        d_optimizer.step()  # and zeroes the gradients
        d_loss = loss_real + loss_fake
        if g_optimizer is None:
            return Played(d_loss, None, s_real, s_fake)

        g_loss, loss_backward = self._loss_of_fakes(fake)
        dfake = loss_backward()
        del loss_backward
        with self.generator.no_gradient_on_error():
            generator_backward(dfake, need_dx=False)
        del generator_backward, fake, dfake
        g_optimizer.step()
        return Played(d_loss, g_loss, s_real, s_fake)

    # --- use ---

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` draws of z, (count, latent), on the host: float32, or what the generator was converted to."""
        count = checks.integer("GAN.noise", "count", count)
        rng = checks.generator("GAN.noise", rng)
        dtype = next((p.value.dtype for p in self.generator._parameters()), np.float32)
        if self.prior == "normal":
            return rng.standard_normal((count, self.latent), dtype)
        return 2 * rng.random((count, self.latent), dtype) - 1

    def generate(self, z: Array) -> Array:
        """G(z) for inference: BatchNorm by its running statistics. In the range of the generator's last layer."""
        return self.generator.predict(z)

    def value(self, real: Array, z: Array) -> Array:
        """V(D, G) for inference, from a batch of real samples and one of noise; −log 4 a logit at the
        equilibrium."""
        s_real, s_fake = self.discriminator.predict(real), self.discriminator.predict(self.generate(z))
        return -(cross_entropy(s_real, 1)[0] + cross_entropy(s_fake, 0)[0])


def _last(layer: Layer | None) -> Layer | None:
    """The layer that a network ends in, those of shape alone left out."""
    while isinstance(layer, Sequential):
        layer = next((part for part in reversed(layer.layers) if not isinstance(part, Flatten | Reshape)), None)
    return layer


@formula
def probability(s):
    return (sigmoid(s),)  # of which only the sum is wanted


def mean_probability(s: Array) -> Array:
    """The mean of D = σ(s) over logits s, a 0-d array."""
    return sum_with_map(probability, s, over=s.size)[0]


def cross_entropy(s: Array, label: float) -> tuple[Array, Array]:
    """Binary cross-entropy with one label for all logits, softplus(−s) for 1 and softplus(s) for 0; and its ds."""
    return bce_with_logits(s, array_library(s).full_like(s, label))


def dense_gan(
    image_shape: Sequence[int] = (28, 28, 1),
    *,
    latent: int = 100,
    loss: str = "non-saturating",
    smoothing: float = 0.0,
    prior: str = "normal",
    rng: np.random.Generator | None = None,
) -> GAN:
    """Fully connected, for images in [−1, 1]: G latent-128-256-512-1024-pixels, D pixels-512-256-1, LeakyReLU 0.2.

    BatchNorm on G's layers of 256 to 1024, tanh at its output.
    """
    rng = checks.generator("dense_gan", rng)
    image_shape = checks.image_shape("dense_gan", image_shape)
    latent = checks.integer("dense_gan", "latent", latent)
    pixels = prod(image_shape)
    generator = Sequential(
        Dense(latent, 128, rng=rng),
        LeakyReLU(0.2),
        Dense(128, 256, rng=rng),
        BatchNorm(256),
        LeakyReLU(0.2),
        Dense(256, 512, rng=rng),
        BatchNorm(512),
        LeakyReLU(0.2),
        Dense(512, 1024, rng=rng),
        BatchNorm(1024),
        LeakyReLU(0.2),
        Dense(1024, pixels, rng=rng),
        Tanh(),
        Reshape(*image_shape),
    )
    discriminator = Sequential(
        Flatten(),
        Dense(pixels, 512, rng=rng),
        LeakyReLU(0.2),
        Dense(512, 256, rng=rng),
        LeakyReLU(0.2),
        Dense(256, 1, rng=rng),
    )
    return GAN(generator, discriminator, latent, loss=loss, smoothing=smoothing, prior=prior)


def point_gan(
    dimensions: int = 2,
    *,
    latent: int = 2,
    hidden: Sequence[int] = (128, 128, 128),
    loss: str = "non-saturating",
    smoothing: float = 0.0,
    prior: str = "normal",
    rng: np.random.Generator | None = None,
) -> GAN:
    """Fully connected, for points in the plane (or a space of a few dimensions): both players with ReLU between.

    Weights start Glorot-uniform; from He's larger ones it learns a ring of narrow Gaussians more slowly.
    """
    rng = checks.generator("point_gan", rng)
    dimensions, latent = (
        checks.integer("point_gan", n, v) for n, v in (("dimensions", dimensions), ("latent", latent))
    )
    hidden = checks.sizes("point_gan", "hidden", hidden)
    generator = Sequential(*stack([latent, *hidden, dimensions], rng))
    discriminator = Sequential(*stack([dimensions, *hidden, 1], rng))
    return GAN(generator, discriminator, latent, loss=loss, smoothing=smoothing, prior=prior)
