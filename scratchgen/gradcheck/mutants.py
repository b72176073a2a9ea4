"""A gallery of broken gradients: bugs that published code has had, and the check that finds each.

Every entry is a right layer with one mistake put in. `scratchgen gradcheck --mutants` prints what the checker says of
them; the tests demand that it finds every one. Read an entry, guess what the table will show, then look.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import kernels
from scratchgen.functions import sigmoid
from scratchgen.gradcheck.grid import randomised
from scratchgen.losses import bce_with_logits, gaussian_kl
from scratchgen.models import GAN, VAE


@dataclass(frozen=True)
class Mutant:
    """A wrong layer or function, what is wrong with it, and inputs that show it."""

    bug: str
    target: Any  # a Layer, or a function
    inputs: tuple


def mutants(rng: np.random.Generator) -> Iterator[Mutant]:
    """All of them, with parameters and inputs drawn from rng."""
    vectors, square = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    images, small = rng.standard_normal((3, 6, 5, 2)), rng.standard_normal((3, 3, 4, 2))
    logits, t = rng.standard_normal((4, 3)), rng.random((4, 3))

    def dense(n_in=3, n_out=4):
        return randomised(L.Dense(n_in, n_out, rng=rng), rng)

    def conv(**options):
        return randomised(L.Conv2d(2, 3, 3, padding=1, rng=rng, **options), rng)

    def norm():
        return randomised(L.BatchNorm(2), rng)

    yield Mutant("every gradient × 1.001", _Altered(dense(), dx=_times(1.001), grads=_times(1.001)), (vectors,))
    yield Mutant("bias gradient forgotten", _Altered(dense(), b=_times(0)), (vectors,))
    yield Mutant("bias gradient averaged over the batch", _Altered(dense(), b=_times(1 / 5)), (vectors,))
    yield Mutant("weight gradient not divided by the batch size", _Altered(dense(), W=_times(5)), (vectors,))
    yield Mutant("sign of dx", _Altered(dense(), dx=_times(-1)), (vectors,))
    yield Mutant("dx = dy W instead of dy Wᵀ", _WrongDense(dense(4, 4), dense_without_transpose), (square,))
    yield Mutant("weight gradient transposed", _Altered(dense(4, 4), W=np.transpose), (square,))
    yield Mutant("weight gradient of the wrong shape", _WrongDense(dense(3, 4), dense_gradient_shape), (vectors,))
    yield Mutant("gradient assigned, not added", _WrongDense(dense(), dense_assigns), (vectors,))
    yield Mutant("cache on the layer, overwritten by the next forward", DenseOwnCache(dense()), (vectors,))
    yield Mutant("backward reads the weights as they are now", _WrongDense(dense(), dense_late_weights), (vectors,))
    yield Mutant("backward returns nothing", _WrongDense(dense(), dense_returns_nothing), (vectors,))

    yield Mutant("kernel flipped in dW", _Altered(conv(), W=lambda g: g[::-1, ::-1]), (images,))
    yield Mutant("dx shifted by one pixel", _Altered(conv(), dx=lambda g: np.roll(g, 1, axis=1)), (images,))
    yield Mutant("dx forgets the last row", _Altered(conv(), dx=_without_last_row), (images,))
    yield Mutant("stride ignored in dx: holes stay zero", _Altered(conv(), dx=_every_second_pixel), (images,))
    yield Mutant("transposed convolution: dW of the first image only", ConvTransposeFirstImage(rng), (small,))
    yield Mutant("upsampling keeps one of four gradients", UpsampleKeepsOne(), (small,))
    yield Mutant("max pooling: dy to every element that equals the largest", MaxPoolToAllEqual(2), (images,))
    yield Mutant("max pooling: overlapping windows assign dx, not add", MaxPoolAssigns(3, stride=1), (images,))
    yield Mutant(
        "average pooling: dx not divided by the kernel area", _Altered(L.AvgPool2d(2), dx=_times(4)), (images,)
    )

    yield Mutant("batch norm: mean term missing in dx", BatchNormWithout("mean", norm()), (images,))
    yield Mutant("batch norm: variance term missing in dx", BatchNormWithout("variance", norm()), (images,))
    yield Mutant("batch norm: 1/m missing in dx", BatchNormWithout("1/m", norm()), (images,))
    yield Mutant("batch norm: statistics taken for constants", BatchNormWithout("both", norm()), (images,))

    yield Mutant(
        "ReLU lets the wrong side through", _Elementwise(lambda x: np.maximum(x, 0), lambda x: x < 0), (square,)
    )
    yield Mutant("ReLU writes into dy", ReluWritesIntoDy(), (square,))
    yield Mutant("leaky slope forgotten", _Elementwise(_leaky, lambda x: x > 0), (square,))
    yield Mutant("tanh′ taken as 1 − x²", _Elementwise(np.tanh, lambda x: 1 - x * x), (square,))
    yield Mutant("σ′ taken as 1 − y", _Elementwise(sigmoid, lambda x: 1 - sigmoid(x)), (square,))

    yield Mutant("dropout: mask forgotten in dx", _DropoutWrong(0.3, lambda dy, mask, layer: dy.copy()), (square,))
    yield Mutant(
        "dropout: scale forgotten in dx", _DropoutWrong(0.3, lambda dy, mask, layer: dy * (mask > 0)), (square,)
    )
    yield Mutant(
        "dropout: dx by a new mask", _DropoutWrong(0.3, lambda dy, mask, layer: dy * layer.mask(dy)), (square,)
    )

    yield Mutant("squared error without the 2", mse_without_two, (logits, t))
    yield Mutant("loss averaged over features too, gradient not", mse_averaged, (logits, t))
    yield Mutant("cross-entropy clipped: no gradient where D is sure", bce_clipped, (40 * logits, np.round(t)))
    yield Mutant("softmax′ taken as its diagonal", softmax_diagonal, (logits,))
    yield Mutant("KL with exp(½ logvar) for the variance in its gradient", kl_half_variance, (logits, t))

    x, eps, z = rng.random((4, 6)), rng.standard_normal((4, 2)), rng.standard_normal((5, 3))
    real = rng.standard_normal((5, 4))
    yield Mutant("VAE: ½ of exp(½ logvar) forgotten", WrongVAE(*_vae_networks(rng), half=1.0).loss, (x, eps))
    yield Mutant("VAE: KL in the loss, not in the gradient", WrongVAE(*_vae_networks(rng), kl=0.0).loss, (x, eps))
    yield Mutant("VAE: noise left out of dlogvar", WrongVAE(*_vae_networks(rng), noise=0).loss, (x, eps))
    yield Mutant("GAN: G's gradient stops at D", GANDetached(*_players(rng), 3).generator_loss, (z,))
    yield Mutant("GAN: G's loss moves D too", GANUnfrozen(*_players(rng), 3).generator_loss, (z,))
    yield Mutant("GAN: D forgets the fake batch", GANForgetsFake(*_players(rng), 3).discriminator_loss, (real, z))
    yield Mutant("GAN: D's loss moves G too", GANMovesBoth(*_players(rng), 3).discriminator_loss, (real, z))


def _times(factor: float) -> Callable:
    return lambda gradient: factor * gradient


def _leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def _without_last_row(g):
    g = g.copy()
    g[:, -1] = 0
    return g


def _every_second_pixel(g):
    kept = np.zeros_like(g)
    kept[:, ::2, ::2] = g[:, ::2, ::2]
    return kept


class _Altered(L.Layer):
    """A layer whose gradients are changed after the fact: `dx` of its input, `W`, `b`, or `grads` of them all."""

    def __init__(self, inner, *, dx=None, W=None, b=None, grads=None):
        self.inner, self.dx = inner, dx
        self.changes = {"W": W or grads, "b": b or grads}

    def forward(self, x):
        y, backward = self.inner.forward(x)
        parameters = self.inner.parameters()

        def altered(dy):
            before = [p.grad.copy() for p in parameters]
            dx = backward(dy)
            for p, old in zip(parameters, before, strict=True):
                if self.changes[p.name]:
                    p.grad = old + self.changes[p.name](p.grad - old)
            return self.dx(dx) if self.dx else dx

        return y, altered

    def __repr__(self):
        return repr(self.inner)


class _WrongDense(L.Layer):
    """y = x W + b around the parameters of a right Dense, with a backward of its own."""

    def __init__(self, dense, wrong):
        self.W, self.b, self.wrong = dense.W, dense.b, wrong

    def forward(self, x):
        W = self.W.value
        return x @ W + self.b.value, lambda dy: self.wrong(self, x, W, dy)


def dense_without_transpose(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)
    return dy @ W


def dense_gradient_shape(layer, x, W, dy):
    layer.W.grad = layer.W.grad.T + dy.T @ x
    layer.b.grad += dy.sum(axis=0)
    return dy @ W.T


def dense_assigns(layer, x, W, dy):
    layer.W.grad = x.T @ dy
    layer.b.grad = dy.sum(axis=0)
    return dy @ W.T


def dense_late_weights(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)
    return dy @ layer.W.value.T


def dense_returns_nothing(layer, x, W, dy):
    layer.W.grad += x.T @ dy
    layer.b.grad += dy.sum(axis=0)


class DenseOwnCache(L.Layer):
    def __init__(self, dense):
        self.W, self.b = dense.W, dense.b

    def forward(self, x):
        self.x, W = x, self.W.value

        def backward(dy):
            self.W.grad += self.x.T @ dy
            self.b.grad += dy.sum(axis=0)
            return dy @ W.T

        return x @ W + self.b.value, backward


class ConvTransposeFirstImage(L.ConvTranspose2d):
    def __init__(self, rng):
        super().__init__(2, 3, 4, stride=2, padding=1, rng=rng)

    def forward(self, x):
        ops, W, b, g = kernels(x), self.W.value, self.b, self.geometry(*x.shape[1:3])
        assert b is not None
        y = ops.correlate_adjoint_x(x, W, g) + b.value
        return y, self.pullback(
            y,
            dx=lambda dy: ops.correlate(dy, W, g),
            grads={
                self.W: lambda dy: ops.correlate_adjoint_W(dy[:1], x[:1], g),
                b: lambda dy: dy.sum(axis=(0, 1, 2)),
            },
        )


class UpsampleKeepsOne(L.Layer):
    """Nearest-neighbour upsampling by 2; its adjoint adds up each block of four."""

    def forward(self, x):
        y = x.repeat(2, axis=1).repeat(2, axis=2)
        return y, self.pullback(y, dx=lambda dy: dy[:, ::2, ::2])


class MaxPoolToAllEqual(L.MaxPool2d):
    """The elements under a window that equal its largest get dy each, and so it counts several times."""

    def forward(self, x):
        y, x_t = self.predict(x), self.taps(x, -np.inf)
        return y, self.pullback(y, dx=lambda dy: self.added([dy * (tap == y) for tap in x_t], dy, x.shape[1:3]))


class MaxPoolAssigns(L.MaxPool2d):
    """The last window over a pixel overwrites what the others gave it."""

    def forward(self, x):
        y, _ = super().forward(x)

        def dx(dy):
            dx = np.zeros_like(x)
            for won, part, to in zip(self.taps(x, -np.inf), [dy] * self.window.taps, self.taps(dx, 0), strict=True):
                to[won == y] = part[won == y]
            return dx

        return y, self.pullback(y, dx=dx)


class _DropoutWrong(L.Dropout):
    """A right mask, and a backward of its own."""

    def __init__(self, rate, wrong):
        super().__init__(rate, rng=np.random.default_rng(0))
        self.wrong = wrong

    def mask(self, x):
        return (self.draw().random(x.shape) >= self.rate) / (1 - self.rate)

    def forward(self, x):
        mask = self.mask(x)
        return x * mask, self.pullback(x, dx=lambda dy: self.wrong(dy, mask, self))


class BatchNormWithout(L.BatchNorm):
    """Batch normalisation with one part of dx left out."""

    def __init__(self, part, right):
        super().__init__(right.channels)
        self.part, self.gamma, self.beta = part, right.gamma, right.beta

    def forward(self, x):
        axes = tuple(range(x.ndim - 1))
        gamma, m = self.gamma.value, x.size // self.channels
        inv_std = 1 / np.sqrt(x.var(axis=axes) + self.eps)
        x_hat = (x - x.mean(axis=axes)) * inv_std
        y = gamma * x_hat + self.beta.value
        by_mean = 0 if self.part in ("mean", "both") else 1
        by_var = 0 if self.part in ("variance", "both") else 1
        share = 1 if self.part == "1/m" else 1 / m
        return y, self.pullback(
            y,
            shared=lambda dy: (dy.sum(axis=axes), (dy * x_hat).sum(axis=axes)),
            dx=lambda dy, s, t: gamma * inv_std * (dy - by_mean * s * share - by_var * x_hat * t * share),
            grads={self.gamma: lambda dy, s, t: t, self.beta: lambda dy, s, t: s},
        )


class _Elementwise(L.Layer):
    """y = f(x) with a derivative that is said to be f′."""

    def __init__(self, f, df):
        self.f, self.df = f, df

    def forward(self, x):
        y = self.f(x)
        return y, self.pullback(y, dx=lambda dy: dy * self.df(x))


class ReluWritesIntoDy(L.Layer):
    def forward(self, x):
        y = np.maximum(x, 0)

        def backward(dy):
            dy[y <= 0] = 0
            return dy

        return y, backward


def mse_without_two(y, target):
    r = y - target
    return (r * r).sum() / len(y), r / len(y)


def mse_averaged(y, target):
    r = y - target
    return (r * r).mean(), 2 * r / len(y)


def bce_clipped(logits, target):
    loss, _ = bce_with_logits(logits, target)
    p = np.clip(sigmoid(logits), 0.01, 0.99)
    inside = p == sigmoid(logits)
    return loss, np.where(inside, p - target, 0) / len(logits)


def softmax_diagonal(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    y = e / e.sum(axis=1, keepdims=True)
    return y, lambda dy: dy * y * (1 - y)


def kl_half_variance(mu, logvar):
    N = len(mu)
    loss = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum() / N
    return loss, mu / N, 0.5 * (np.exp(0.5 * logvar) - 1) / N


# --- whole models: each with one mistake in its loss ---


def _vae_networks(rng: np.random.Generator) -> tuple[L.Layer, L.Layer]:
    return randomised(L.Dense(6, 4, rng=rng), rng), randomised(L.Dense(2, 6, rng=rng), rng)


class WrongVAE(VAE):
    """The VAE's loss written out, with the parts of its gradient as factors to get wrong."""

    def __init__(self, encoder, decoder, *, half=0.5, kl=1.0, noise=1):
        super().__init__(encoder, decoder, 2)
        self.half, self.kl, self.with_noise = half, kl, noise

    def loss(self, x, eps):
        h, encoder_backward = self.encoder.forward(x)
        mu, logvar = h[:, : self.latent], h[:, self.latent :]
        std = np.exp(0.5 * logvar)
        y, decoder_backward = self.decoder.forward(mu + std * eps)
        reconstruction, dy = bce_with_logits(y, x)
        kl, dmu, dlogvar = gaussian_kl(mu, logvar)

        def backward():
            dz = decoder_backward(dy)
            dstd = dz * eps**self.with_noise
            dh = [dz + self.kl * dmu, dstd * (self.half * std) + self.kl * dlogvar]
            encoder_backward(np.concatenate(dh, axis=1))

        return reconstruction + kl, backward


def _players(rng: np.random.Generator) -> tuple[L.Layer, L.Layer]:
    generator = L.Sequential(L.Dense(3, 5, rng=rng), L.Tanh(), L.Dense(5, 4, rng=rng))
    discriminator = L.Sequential(L.Dense(4, 5, rng=rng), L.Tanh(), L.Dense(5, 1, rng=rng))
    return randomised(generator, rng), randomised(discriminator, rng)


class GANDetached(GAN):
    def generator_loss(self, z):
        loss, _ = super().generator_loss(z)
        return loss, lambda: None


class GANUnfrozen(GAN):
    def generator_loss(self, z):
        fake, generator_backward = self.generator.forward(z)
        s, discriminator_backward = self.discriminator.forward(fake)
        loss, ds = bce_with_logits(s, np.ones_like(s))
        return loss, lambda: generator_backward(discriminator_backward(ds))


class GANForgetsFake(GAN):
    def discriminator_loss(self, real, z):
        loss, _ = super().discriminator_loss(real, z)
        s, backward = self.discriminator.forward(real)
        ds = bce_with_logits(s, np.ones_like(s))[1]
        return loss, lambda: backward(ds)


class GANMovesBoth(GAN):
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
