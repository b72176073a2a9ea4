"""Every built-in layer, loss and model in many configurations: what `scratchgen gradcheck` goes through."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np

from scratchgen import layers as L
from scratchgen import losses
from scratchgen.gradcheck.subject import title
from scratchgen.layers.module import Module
from scratchgen.models import (
    GAN,
    Autoencoder,
    Gaussian,
    conv_autoencoder,
    conv_vae,
    dcgan,
    dense_autoencoder,
    dense_vae,
)

Owner = TypeVar("Owner", bound=Module)


@dataclass(frozen=True)
class Case:
    """One thing to check: `kind` groups the cases of a layer, `label` tells them apart."""

    kind: str
    label: str
    target: Any  # a Layer, or a function
    inputs: tuple


def randomised(owner: Owner, rng: np.random.Generator) -> Owner:
    """The layer or model with every parameter drawn anew: at its initial value a zero bias hides a wrong gradient."""
    for p in owner.parameters():
        p.value = (p.value + 0.3 * rng.standard_normal(p.value.shape)).astype(np.float32)
    return owner


def cases(rng: np.random.Generator) -> Iterator[Case]:
    """The whole grid, with every parameter drawn."""
    layers = (_dense, _conv, _conv_transpose, _batchnorm, _activations, _shapes, _pooling, _random, _networks)
    for build in (*layers, _models):
        for kind, target, inputs in build(rng):
            owner = randomised(getattr(target, "__self__", target), rng)
            shapes = ", ".join("×".join(map(str, x.shape)) for x in inputs)
            yield Case(kind, f"{title(target) if target is owner else kind} on {shapes}", target, inputs)
    for name, function, inputs in _losses(rng):
        yield Case(name, f"{name} on {'×'.join(map(str, inputs[0].shape))}", function, inputs)


def models(rng: np.random.Generator) -> Iterator[tuple[str, Module]]:
    """The models of the grid by their kind, each once, with every parameter drawn."""
    owners = {id(target.__self__): (kind, target.__self__) for kind, target, _ in _models(rng)}
    for kind, owner in owners.values():
        yield kind, randomised(owner, rng)


def kinds() -> list[str]:
    """The names by which cases can be chosen."""
    return list(dict.fromkeys(case.kind for case in cases(np.random.default_rng(0))))


def _dense(rng):
    for n, (n_in, n_out), bias in product((1, 5), ((3, 4), (1, 1), (7, 2)), (True, False)):
        yield "Dense", L.Dense(n_in, n_out, bias=bias, rng=rng), (rng.standard_normal((n, n_in)),)


KERNELS: tuple[Any, ...] = (1, 3, 4, (3, 2), (1, 4))
STRIDES: tuple[Any, ...] = (1, 2, (3, 1))
MARGINS: tuple[tuple[Any, Any], ...] = ((0, 1), (1, 1), ((2, 1), 1), (1, 2), ((0, 2), (2, 1)))  # padding, dilation


def _conv(rng):
    for kernel, stride, (padding, dilation) in product(KERNELS, STRIDES, MARGINS):
        layer = L.Conv2d(2, 3, kernel, stride=stride, padding=padding, dilation=dilation, rng=rng)
        yield "Conv2d", layer, (rng.standard_normal((2, 7, 8, 2)),)
    yield "Conv2d", L.Conv2d(3, 2, 4, stride=2, padding=1, bias=False, rng=rng), (rng.standard_normal((1, 8, 6, 3)),)
    yield "Conv2d", L.Conv2d(2, 2, 2, stride=3, rng=rng), (rng.standard_normal((2, 6, 5, 2)),)  # stride > kernel
    yield "Conv2d", L.Conv2d(2, 3, (3, 4), rng=rng), (rng.standard_normal((2, 3, 4, 2)),)  # to one pixel
    yield "Conv2d", L.Conv2d(2, 3, 3, padding=1, rng=rng), (rng.standard_normal((2, 1, 1, 2)),)  # from one pixel


def _conv_transpose(rng):
    for kernel, stride, (padding, dilation) in product((2, 4, (3, 2)), STRIDES, MARGINS):
        if np.max(padding) > 1 and np.min(kernel) < 3:
            continue
        down, right = (stride, stride) if isinstance(stride, int) else stride
        extra = int(down > 1), int(right > 1)
        layer = L.ConvTranspose2d(
            3, 2, kernel, stride=stride, padding=padding, dilation=dilation, output_padding=extra, rng=rng
        )
        yield "ConvTranspose2d", layer, (rng.standard_normal((2, 4, 3, 3)),)
    one = rng.standard_normal((2, 1, 1, 3))
    yield "ConvTranspose2d", L.ConvTranspose2d(3, 2, 7, rng=rng), (one,)
    yield "ConvTranspose2d", L.ConvTranspose2d(3, 2, 4, stride=2, padding=1, bias=False, rng=rng), (one,)
    wide = L.ConvTranspose2d(3, 2, 3, dilation=2, output_padding=1, rng=rng)  # output_padding ≥ stride
    yield "ConvTranspose2d", wide, (rng.standard_normal((2, 3, 4, 3)),)


def _batchnorm(rng):
    for shape in ((2, 3), (8, 3), (2, 3, 4, 3), (1, 2, 1, 3), (4, 5, 2)):
        yield "BatchNorm", L.BatchNorm(shape[-1]), (3 * rng.standard_normal(shape) + 1,)
    yield "BatchNorm", L.BatchNorm(2, eps=0.1, momentum=0.5), (rng.standard_normal((6, 2)),)
    for shape in ((2, 3), (1, 8), (2, 3, 4, 3), (4, 5, 2)):
        yield "LayerNorm", L.LayerNorm(shape[-1]), (3 * rng.standard_normal(shape) + 1,)
    yield "LayerNorm", L.LayerNorm(2, eps=0.1), (rng.standard_normal((3, 4, 2)),)


def _activations(rng):
    for layer in (L.ReLU(), L.LeakyReLU(), L.LeakyReLU(0), L.LeakyReLU(1.5), L.Tanh(), L.Sigmoid()):
        for shape in ((6, 5), (2, 4, 3, 2)):
            x = rng.standard_normal(shape)
            yield str(layer).split("(")[0], layer, (x + np.copysign(1e-3, x),)  # away from the kink


def _shapes(rng):
    yield "Flatten", L.Flatten(), (rng.standard_normal((3, 2, 4, 2)),)
    yield "Reshape", L.Reshape(2, 4, 2), (rng.standard_normal((3, 16)),)


PLACES: tuple[tuple[Any, Any], ...] = ((None, 0), (None, 1), (1, 0), (1, 1), ((3, 2), (1, 0)))  # stride, padding


def _pooling(rng):
    for pool, kernel, (stride, padding) in product((L.MaxPool2d, L.AvgPool2d), KERNELS[1:4], PLACES):
        layer = pool(kernel, stride=stride, padding=padding)
        yield pool.__name__, layer, (rng.standard_normal((2, 6, 7, 2)),)
    for pool in (L.MaxPool2d, L.AvgPool2d):
        yield pool.__name__, pool(1), (rng.standard_normal((2, 3, 2, 2)),)
        yield pool.__name__, pool((3, 4)), (rng.standard_normal((2, 3, 4, 2)),)  # to one pixel
        yield pool.__name__, pool(2, stride=3), (rng.standard_normal((2, 7, 5, 1)),)  # pixels under no window


def _random(rng):
    for rate, shape in product((0.5, 0.1, 0.9, 0.0), ((6, 5), (2, 4, 3, 2))):
        yield "Dropout", L.Dropout(rate, rng=rng), (rng.standard_normal(shape),)
    for shape in ((6, 4, 5, 2), (3, 3, 2, 1)):
        yield "RandomFlip", L.RandomFlip(rng=rng), (rng.standard_normal(shape),)
        for most in (0.125, 0.5, 0.0):
            yield "RandomShift", L.RandomShift(most, rng=rng), (rng.standard_normal(shape),)
        for share in (0.5, 0.2, 1.0):
            yield "RandomCutout", L.RandomCutout(share, rng=rng), (rng.standard_normal(shape),)


def _networks(rng):
    deep = L.Sequential(
        L.Conv2d(2, 4, 4, stride=2, padding=1, bias=False, rng=rng),
        L.BatchNorm(4),
        L.LeakyReLU(),
        L.Conv2d(4, 3, 3, padding=1, rng=rng),
        L.Tanh(),
        L.ConvTranspose2d(3, 4, 4, stride=2, padding=1, rng=rng),
        L.BatchNorm(4),
        L.ReLU(),
        L.Flatten(),
        L.Dense(8 * 6 * 4, 5, rng=rng),
        L.BatchNorm(5),
        L.Sigmoid(),
        L.Reshape(5, 1),
    )
    yield "Sequential", deep, (rng.standard_normal((4, 8, 6, 2)),)
    yield "Sequential", L.Sequential(), (rng.standard_normal((3, 2)),)
    drawn = L.Sequential(
        L.RandomFlip(rng=rng),
        L.RandomShift(0.2, rng=rng),
        L.RandomCutout(0.3, rng=rng),
        L.Conv2d(2, 4, 3, padding=1, rng=rng),
        L.LeakyReLU(),
        L.MaxPool2d(2),
        L.BatchNorm(4),
        L.AvgPool2d(3, stride=2, padding=1),
        L.Flatten(),
        L.Dropout(0.3, rng=rng),
        L.Dense(16, 3, rng=rng),
    )
    yield "Sequential", drawn, (rng.standard_normal((4, 8, 7, 2)),)
    inner = L.Sequential(L.Dense(4, 4, rng=rng), L.Tanh())
    yield "Sequential", L.Sequential(inner, L.Dense(4, 2, rng=rng), inner.layers[1]), (rng.standard_normal((3, 4)),)


def _losses(rng):
    x, t, logvar = rng.standard_normal((4, 3, 2)), rng.random((4, 3, 2)), rng.standard_normal((4, 3, 2))
    logits, classes = rng.standard_normal((6, 4)), rng.dirichlet(np.ones(4), 6)
    yield "mse", losses.mse, (x, t)
    yield "bce_with_logits", losses.bce_with_logits, (x, t)
    yield "bce_with_logits", losses.bce_with_logits, (10 * x, np.round(t))
    yield "softmax_cross_entropy", losses.softmax_cross_entropy, (logits, classes)
    yield "softmax_cross_entropy", losses.softmax_cross_entropy, (logits, rng.integers(0, 4, 6))
    yield "gaussian_nll", losses.gaussian_nll, (x, logvar, t)
    yield "gaussian_nll", losses.gaussian_nll, (x, np.array(0.3), t)
    yield "gaussian_kl", losses.gaussian_kl, (x, logvar)


def _models(rng):
    for loss in ("bernoulli", "squared-error"):
        model = dense_autoencoder((4, 3, 1), latent=2, hidden=(7, 5), loss=loss, rng=rng)
        yield "Autoencoder", model.loss, (rng.random((3, 4, 3, 1)),)
        model = conv_autoencoder((9, 6, 2), latent=3, width=2, loss=loss, rng=rng)
        yield "Autoencoder", model.loss, (rng.random((2, 9, 6, 2)),)
    normed = Autoencoder(
        L.Sequential(L.Dense(6, 4, bias=False, rng=rng), L.BatchNorm(4), L.Tanh(), L.Dense(4, 2, rng=rng)),
        L.Sequential(L.Dense(2, 6, rng=rng)),
    )
    yield "Autoencoder", normed.loss, (rng.random((5, 6)),)

    for likelihood in ("bernoulli", "gaussian", Gaussian(0.5, learn=False)):
        vae = dense_vae((4, 3, 1), latent=2, hidden=(7,), likelihood=likelihood, beta=1.7, rng=rng)
        yield "VAE", vae.loss, (rng.random((3, 4, 3, 1)), rng.standard_normal((3, 2)))
    vae = conv_vae((6, 6, 2), latent=3, width=2, beta=0.4, rng=rng)
    yield "VAE", vae.loss, (rng.random((2, 6, 6, 2)), rng.standard_normal((2, 3)))

    def small(loss, smoothing):
        generator = L.Sequential(L.Dense(3, 5, rng=rng), L.BatchNorm(5), L.LeakyReLU(0.2), L.Dense(5, 4, rng=rng))
        discriminator = L.Sequential(L.Dense(4, 5, rng=rng), L.BatchNorm(5), L.LeakyReLU(0.2), L.Dense(5, 1, rng=rng))
        return GAN(generator, discriminator, 3, loss=loss, smoothing=smoothing)

    for loss, smoothing in (("non-saturating", 0.0), ("non-saturating", 0.1), ("minimax", 0.0)):
        gan = small(loss, smoothing)
        yield "GAN", gan.discriminator_loss, (rng.standard_normal((6, 4)), rng.standard_normal((5, 3)))
        yield "GAN", gan.generator_loss, (rng.standard_normal((5, 3)),)
        deep = dcgan((8, 8, 2), 4, 2, loss=loss, smoothing=smoothing, rng=rng)
        real = rng.uniform(-1, 1, (3, 8, 8, 2))
        yield "DCGAN", deep.discriminator_loss, (real, rng.standard_normal((4, 4)))
        yield "DCGAN", deep.generator_loss, (rng.standard_normal((4, 4)),)
    wide = dcgan((8, 13, 1), 3, 1, smallest=4, rng=rng)  # 8×13 → 4×7 → 2×4
    yield "DCGAN", wide.discriminator_loss, (rng.uniform(-1, 1, (3, 8, 13, 1)), rng.standard_normal((4, 3)))
    yield "DCGAN", wide.generator_loss, (rng.standard_normal((4, 3)),)
