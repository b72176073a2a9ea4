"""The generative adversarial network: a game of two networks, and the two losses that play it."""

import warnings
from math import inf
from types import MappingProxyType

import numpy as np

from scratchgen import checks
from scratchgen.backend import array_library, kernels
from scratchgen.functions import sigmoid
from scratchgen.layers import BatchNorm, Dense, Flatten, Layer, LeakyReLU, Reshape, Sequential, Sigmoid, Tanh, frozen
from scratchgen.layers.pullback import pull
from scratchgen.losses import bce_with_logits
from scratchgen.models.model import Model
from scratchgen.models.networks import stack

LOSSES = ("non-saturating", "minimax")
PRIORS = ("normal", "uniform")
RANGES = {Tanh: (-1, 1), Sigmoid: (0, 1)}  # of a generator that ends in such a layer


class GAN(Model):
    """min over G, max over D of the value function

        V(D, G) = E_x log D(x) + E_z log(1 − D(G(z)))

    D(x) = σ(s(x)) is the probability that x is real, G(z) makes an x from noise z. `discriminator` gives the logits
    s, (N, 1) or more, and the losses are taken from these, finite at any confidence:

        D ascends V:      L_D = E softplus(−s(x)) + E softplus(s(G(z)))      ds = σ(s) − 1 on real, σ(s) on fake
        G descends V:     L_G = −E softplus(s(G(z)))                         ds = −σ(s)            "minimax"
        G ascends log D:  L_G = E softplus(−s(G(z)))                         ds = σ(s) − 1         "non-saturating"

    Early on D knows every fake, σ(s) ≈ 0, and the minimax gradient vanishes just where G must learn the most; the
    non-saturating loss has the same equilibrium and its gradient is then near −1. At the equilibrium D = ½ and
    V = −log 4. (G's loss leaves out the term of V that G cannot change.)

    `smoothing=0.1` gives D the target 0.9 for real samples, fake ones stay at 0 (one-sided: Salimans et al. 2016,
    §3.4).
    `prior` is the density of z: "normal", or "uniform" on [−1, 1]. (Goodfellow et al. 2014, eq. 1, §3 and theorem 1.)

    Real samples that the last layer of G can never make, as pixels of 0 … 255 after a tanh, are warned of: D tells
    them by their range. ValueError for numbers that are not finite, and for noise outside of the prior. Both are seen
    on the CPU alone; on a GPU that would wait for it.
    """

    player = MappingProxyType({"discriminator_loss": "discriminator", "generator_loss": "generator"})

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

    def discriminator_loss(self, real, z):
        """loss, backward for a batch of real samples and one of noise: L_D. backward() moves nothing of G."""
        with self.unchanged_on_error():
            fake, _ = self._fake(z)
            return self._discriminator_loss(real, fake)

    def generator_loss(self, z):
        """loss, backward for a batch of noise: L_G, through a discriminator that takes no gradient."""
        with self.unchanged_on_error():
            fake, generator_backward = self._fake(z)
            loss, discriminator_backward = self._generator_loss(fake)
        return loss, lambda: _end(generator_backward, discriminator_backward())

    def _fake(self, z):
        """G(z), and its pullback. ValueError for noise that the prior does not have."""
        bound = 1 if self.prior == "uniform" else inf
        checks.between("GAN", "z", z, -bound, bound, ", as the prior is")
        return self.generator.forward(z)

    def _discriminator_loss(self, real, fake):
        self._check_real(real, fake)
        _, loss_real, real_backward = self._judge(real, 1 - self.smoothing)
        _, loss_fake, fake_backward = self._judge(fake, 0)

        def backward():
            real_backward()
            fake_backward()

        return loss_real + loss_fake, backward

    def _discriminator_gradients(self, real, fake, watch):
        """L_D, and the pullback of its second half. The batch of real samples is pulled back before the fake one is
        judged, so that the activations of one batch at a time are kept; if the second fails, that is undone."""
        self._check_real(real, fake)
        s_real, loss_real, backward = self._judge(real, 1 - self.smoothing)
        backward()
        try:
            s_fake, loss_fake, backward = self._judge(fake, 0)
            loss = loss_real + loss_fake
            if watch is not None:
                watch("D(x)", _mean_probability(s_real))
                watch("D(G(z))", _mean_probability(s_fake))
                watch("d_loss", loss)
        except BaseException:
            self.discriminator.zero_grad()
            raise
        return loss, backward

    def _judge(self, x, label: float):
        """D's logits of a batch, the loss with this label for all of it, and the pullback to D's parameters."""
        s, backward = self.discriminator.forward(x)
        loss, ds = bce_with_logits(s, self._target(s, label))
        return s, loss, lambda: _end(backward, ds)

    def _check_real(self, real, fake) -> None:
        checks.float_array("GAN", "real", real)
        if real.shape[1:] != fake.shape[1:]:
            raise ValueError(
                f"GAN: real has shape {real.shape}, the generator makes {fake.shape}; needs samples of one shape"
            )
        checks.between("GAN", "real", real, -inf, inf)
        last = _last(self.generator)
        if type(last) in RANGES:
            try:
                checks.between("GAN", "real", real, *RANGES[type(last)], f", the range of {last}, where G ends")
            except ValueError as error:  # a game all the same, but one that D wins by the range alone
                warnings.warn(str(error), stacklevel=4)

    def _generator_loss(self, fake):
        """L_G, and its pullback to the fake samples: D's weights are frozen, dx goes through."""
        with frozen(self.discriminator):
            s, backward = self.discriminator.forward(fake)
        if self.loss_name == "minimax":
            loss, ds = bce_with_logits(s, self._target(s, 0))
            loss, ds = -loss, -ds
        else:
            loss, ds = bce_with_logits(s, self._target(s, 1))
        return loss, lambda: backward(ds)

    @staticmethod
    def _target(s, label: float):
        return array_library(s).full_like(s, label)

    # --- the game ---

    def train_step(self, real, z, d_optimizer, g_optimizer, *, watch=None):
        """One update of D, then one of G against the new D; returns both losses, each before its player's update.

        One pass of G serves both: D takes its samples as they are, and G's gradient goes back through that pass.
        `watch(name, number)` is told them, and the means of D(x) and D(G(z)), as soon as they are there; if it raises
        then, D may have moved and G not.
        """
        self.check_optimizer("d_optimizer", d_optimizer, self.discriminator)
        self.check_optimizer("g_optimizer", g_optimizer, self.generator)
        with self.unchanged_on_error():
            fake, generator_backward = self._fake(z)
            d_loss, backward = self._discriminator_gradients(real, fake, watch)
        backward()
        del backward  # and with it D's activations and old weights
        d_optimizer.step()
        g_loss, discriminator_backward = self._generator_loss(fake)
        if watch is not None:
            watch("g_loss", g_loss)
        dfake = discriminator_backward()
        del discriminator_backward
        _end(generator_backward, dfake)
        del generator_backward, fake, dfake
        g_optimizer.step()
        return d_loss, g_loss

    def discriminator_step(self, real, z, d_optimizer, *, watch=None):
        """One update of D alone, and its loss before: k − 1 of these before each `train_step` make k updates of D for
        one of G. (Goodfellow et al. 2014, Algorithm 1.)"""
        self.check_optimizer("d_optimizer", d_optimizer, self.discriminator)
        with self.unchanged_on_error():
            fake = self._fake(z)[0]
            loss, backward = self._discriminator_gradients(real, fake, watch)
        backward()
        d_optimizer.step()
        return loss

    # --- use ---

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` draws of z, (count, latent), on the host: float32, or what the generator was converted to."""
        count = checks.integer("GAN.noise", "count", count)
        rng = checks.generator("GAN.noise", rng)
        dtype = next((p.value.dtype for p in self.generator.parameters()), np.float32)
        if self.prior == "normal":
            return rng.standard_normal((count, self.latent), dtype)
        return 2 * rng.random((count, self.latent), dtype) - 1

    def generate(self, z):
        """G(z) for inference: BatchNorm by its running statistics. In the range of the generator's last layer."""
        return self.generator.predict(z)

    def value(self, real, z) -> float:
        """V(D, G) for inference, from a batch of real samples and one of noise; −log 4 at the equilibrium."""
        s_real, s_fake = self.discriminator.predict(real), self.discriminator.predict(self.generate(z))
        real_term = bce_with_logits(s_real, self._target(s_real, 1))[0]
        return -(real_term + bce_with_logits(s_fake, self._target(s_fake, 0))[0])


def _last(layer: Layer) -> Layer:
    """The layer that a network ends in, those of shape alone left out."""
    while isinstance(layer, Sequential):
        layer = next((part for part in reversed(layer.layers) if not isinstance(part, Flatten | Reshape)), None)
    return layer


def _mean_probability(s):
    """The mean of σ(s), as a 0-d array."""
    return kernels(s).total(lambda s: (sigmoid(s),), s, over=s.size)[0]


def _end(backward, dy) -> None:
    """Pull back to the entrance of a network, where nobody asks for dx."""
    pull(backward, dy, need_dx=False)


def dense_gan(
    image_shape=(28, 28, 1),
    *,
    latent: int = 100,
    loss: str = "non-saturating",
    smoothing: float = 0.0,
    prior: str = "normal",
    rng=None,
) -> GAN:
    """Fully connected, for images in [−1, 1]: G latent-128-256-512-1024-pixels, D pixels-512-256-1, LeakyReLU 0.2.

    BatchNorm on G's layers of 256 to 1024, tanh at its output.
    """
    rng = checks.generator("dense_gan", rng)
    image_shape = checks.image_shape("dense_gan", image_shape)
    latent = checks.integer("dense_gan", "latent", latent)
    pixels = int(np.prod(image_shape))
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
    hidden=(128, 128, 128),
    loss: str = "non-saturating",
    smoothing: float = 0.0,
    prior: str = "normal",
    rng=None,
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
