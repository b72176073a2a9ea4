"""Whole models: a VAE's and a GAN's losses, with one thing wrong in what goes back."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Bug
from scratchgen.gradcheck.gallery.training import descend, pair
from scratchgen.gradcheck.grid import randomised
from scratchgen.losses import bce_with_logits, gaussian_kl
from scratchgen.models import GAN, VAE
from scratchgen.optim import Adam


class WrittenVAE(VAE):
    """The VAE's loss written out, with its backward in one place."""

    def loss(self, x: Array, eps: Array) -> tuple[Any, Callable[[], None]]:
        h, encoder_backward = self.encoder.forward(x)
        mu, logvar = h[:, : self.latent], h[:, self.latent :]
        std = np.exp(0.5 * logvar)
        y, decoder_backward = self.decoder.forward(mu + std * eps)
        reconstruction, dy = bce_with_logits(y, x)
        kl, dmu, dlogvar = gaussian_kl(mu, logvar)

        def backward():
            dz = decoder_backward(dy)
            dh = self.to_encoder(dz, eps, std, dmu, dlogvar)
            encoder_backward(np.concatenate(dh, axis=1))

        return reconstruction + kl, backward

    def to_encoder(self, dz, eps, std, dmu, dlogvar):
        return dz + dmu, dz * eps * (0.5 * std) + dlogvar


class HalfForgotten(WrittenVAE):
    def to_encoder(self, dz, eps, std, dmu, dlogvar):
        return dz + dmu, dz * eps * std + dlogvar


class KLForgotten(WrittenVAE):
    def to_encoder(self, dz, eps, std, dmu, dlogvar):
        return dz, dz * eps * (0.5 * std)


class NoiseForgotten(WrittenVAE):
    def to_encoder(self, dz, eps, std, dmu, dlogvar):
        return dz + dmu, dz * (0.5 * std) + dlogvar


class Detached(GAN):
    """D is shown a copy of the fakes, and nothing comes back to G."""

    def generator_loss(self, z):
        loss, _ = super().generator_loss(z)
        return loss, lambda: None


class ZeroResponses(GAN):
    """G takes the gradient of the squared error between its samples and zeros."""

    def generator_loss(self, z):
        loss, _ = super().generator_loss(z)
        fake, generator_backward = self.generator.forward(z)
        return loss, lambda: generator_backward(2 * fake / len(fake))


class Unfrozen(GAN):
    """D takes a gradient from G's loss."""

    def generator_loss(self, z):
        fake, generator_backward = self.generator.forward(z)
        s, discriminator_backward = self.discriminator.forward(fake)
        loss, ds = bce_with_logits(s, np.ones_like(s))
        return loss, lambda: generator_backward(discriminator_backward(ds))


class FakeForgotten(GAN):
    """D takes a gradient from the real batch alone."""

    def discriminator_loss(self, real, z):
        loss, _ = super().discriminator_loss(real, z)
        s, backward = self.discriminator.forward(real)
        ds = bce_with_logits(s, np.ones_like(s))[1]
        return loss, lambda: backward(ds)


class MovesBoth(GAN):
    """D's loss goes back into G as well."""

    def discriminator_loss(self, real, z):
        loss, backward = super().discriminator_loss(real, z)
        fake, generator_backward = self.generator.forward(z)
        s, through = self.discriminator.forward(fake)
        ds = bce_with_logits(s, np.zeros_like(s))[1]

        def both():
            backward()
            with L.frozen(self.discriminator):
                generator_backward(through(ds))

        return loss, both


def _vae(kind: type[VAE], rng: np.random.Generator) -> VAE:
    return randomised(kind(L.Dense(6, 4, rng=rng), L.Dense(2, 6, rng=rng), 2), rng)


def _gan(kind: type[GAN], rng: np.random.Generator) -> GAN:
    generator = L.Sequential(L.Dense(3, 5, rng=rng), L.Tanh(), L.Dense(5, 4, rng=rng))
    discriminator = L.Sequential(L.Dense(4, 5, rng=rng), L.Tanh(), L.Dense(5, 1, rng=rng))
    return randomised(kind(generator, discriminator, 3), rng)


VAE_STEPS = 20  # between two values of the loss


def _train_vae(kind: type[VAE]) -> list[float]:
    """The loss at the same noise every VAE_STEPS, of binary vectors of two kinds; steps draw theirs anew."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(2, dtype=np.float32)[rng.integers(0, 2, 512)], 3, axis=1)
    model = kind(L.Dense(6, 4, rng=rng), L.Dense(2, 6, rng=rng), 2)

    def loss() -> tuple[Any, Callable[[], None]]:
        return model.loss(x, rng.standard_normal((512, 2)).astype(np.float32))

    same = np.random.default_rng(1).standard_normal((512, 2)).astype(np.float32)
    losses: list[float] = []
    for _ in range(60):
        losses.append(float(model.loss(x, same)[0]))
        if len(descend(loss, model.parameters(), steps=VAE_STEPS)) < VAE_STEPS:
            break
    return losses


DISTANCE = "distance of the two means"  # of G's samples and the data


def _train_gan(kind: type[GAN]) -> list[float]:
    """DISTANCE over the course of the game: a cloud of points, and a G that can move and turn its noise."""
    rng, place = np.random.default_rng(0), np.zeros((1, 2), np.float32)  # the z that G takes to its mean
    generator = L.Dense(2, 2, rng=rng)
    discriminator = L.Sequential(L.Dense(2, 16, rng=rng), L.LeakyReLU(), L.Dense(16, 1, rng=rng))
    gan = kind(generator, discriminator, 2)
    d_optimizer, g_optimizer = (Adam(p.parameters(), 0.01, (0.5, 0.999)) for p in (discriminator, generator))
    centre, distances = np.array([2, -1], np.float32), []
    for _ in range(400):
        distances.append(float(np.linalg.norm(gan.generate(place) - centre)))
        z = gan.noise(64, rng)
        real = centre + 0.5 * rng.standard_normal((64, 2)).astype(np.float32)
        gan.discriminator_loss(real, z)[1]()
        d_optimizer.step()
        gan.generator_loss(z)[1]()
        g_optimizer.step()  # with all that was added since its last one, also in D's turn
    return distances


def _of_vae(
    kind: type[WrittenVAE], name: str, title: str, *, wrong: str, right: str, symptom: str, cause: str
) -> Bug:
    return Bug(
        name,
        title,
        right,
        wrong,
        symptom,
        (),
        "gradient",
        cause,
        lambda rng: pair(
            lambda bug, rng: _vae(kind if bug else WrittenVAE, rng).loss,
            rng,
            rng.random((4, 6)),
            rng.standard_normal((4, 2)),
        ),
        lambda bug: _train_vae(kind if bug else WrittenVAE),
        every=VAE_STEPS,
    )


def _of_gan(
    kind: type[GAN],
    name: str,
    title: str,
    *,
    loss: str,
    wrong: str,
    right: str,
    symptom: str,
    cause: str,
    sources: tuple[str, ...] = (),
) -> Bug:
    def make(rng):
        z, real = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
        inputs = (real, z) if loss == "discriminator_loss" else (z,)
        return pair(lambda bug, rng: getattr(_gan(kind if bug else GAN, rng), loss), rng, *inputs)

    return Bug(
        name,
        title,
        right,
        wrong,
        symptom,
        sources,
        "gradient",
        cause,
        make,
        lambda bug: _train_gan(kind if bug else GAN),
        measure=DISTANCE,
    )


BUGS = (
    _of_vae(
        HalfForgotten,
        "vae-half-forgotten",
        "VAE: the ½ of exp(½ logvar) is forgotten",
        right="dlogvar = dz · eps · ½σ + …",
        wrong="dlogvar = dz · eps · σ + …",
        symptom="it trains, and nearly as well: σ ends too small, as if the reconstruction counted twice for it",
        cause=r"½|factor 2|twice|half|0\.5",
    ),
    _of_vae(
        KLForgotten,
        "vae-kl-forgotten",
        "VAE: the KL is in the loss, and not in its gradient",
        right="dmu = dz + dmu of the KL,  dlogvar = … + that of the KL",
        wrong="dmu = dz,  dlogvar = dz · eps · ½σ",
        symptom="reconstructions are fine, samples from the prior are not",
        cause=r"\bKL\b|\bmu\b",
    ),
    _of_vae(
        NoiseForgotten,
        "vae-noise-forgotten",
        "VAE: the noise is left out of dlogvar",
        right="dlogvar = dz · eps · ½σ + …",
        wrong="dlogvar = dz · ½σ + …",
        symptom="the variance is moved by what should move the mean",
        cause=r"\beps\b|noise",
    ),
    _of_gan(
        Detached,
        "gan-detached",
        "GAN: G's gradient stops at D",
        loss="generator_loss",
        right="dG = Jᵀ ∂L/∂fake",
        wrong="dG = 0",
        symptom="G never changes",
        cause=r"zero everywhere|never adds|gradient is lost",
        sources=("https://github.com/nikhilsinghmus/image2reverb/issues/37",),
    ),
    _of_gan(
        ZeroResponses,
        "gan-zero-responses",
        "GAN: G learns to make zeros, its 'responses'",
        loss="generator_loss",
        right="dG = Jᵀ ∂L/∂fake",
        wrong="dG = Jᵀ 2 (fake − 0) / N",
        symptom="G learns zeros, whatever D says",
        cause=r"\bfake|from D\b|discriminator.*gradient is lost",
        sources=("https://github.com/mlpack/mlpack/pull/1933",),
    ),
    _of_gan(
        Unfrozen,
        "gan-unfrozen",
        "GAN: G's loss moves D too",
        loss="generator_loss",
        right="D frozen while G learns",
        wrong="dD += Jᵀ ∂L_G/∂s",
        symptom="D learns to call fakes real",
        cause=r"another player",
    ),
    _of_gan(
        FakeForgotten,
        "gan-fake-forgotten",
        "GAN: D learns from the real batch alone",
        loss="discriminator_loss",
        right="dD = that of the real batch + that of the fake one",
        wrong="dD = that of the real batch",
        symptom="D calls everything real",
        cause=r"\bfake|one of (the )?two|call 2\b.*gradient is lost",
    ),
    _of_gan(
        MovesBoth,
        "gan-moves-both",
        "GAN: D's loss moves G too",
        loss="discriminator_loss",
        right="G's samples are constants while D learns",
        wrong="dG += Jᵀ ∂L_D/∂fake",
        symptom="G helps D to tell its own samples",
        cause=r"another player",
    ),
)
