"""Small models in float64, with no parameter at its first value, and what is compared of them."""

import numpy as np
import pytest
from backends import NUMPY, host
from hypothesis import strategies as st

from scratchgen import (
    GAN,
    VAE,
    BatchNorm,
    Bernoulli,
    Dense,
    Gaussian,
    LeakyReLU,
    Sequential,
    Tanh,
    conv_vae,
    dcgan,
    dense_gan,
    dense_vae,
    point_gan,
)


def randomised(model, rng, spread=0.3):
    """In float64, with no parameter at its first value: a bias of 0 hides a wrong gradient."""
    model.astype(np.float64)
    for p in model.parameters():
        p.value = p.value + spread * rng.standard_normal(p.value.shape)
    return model


def snapshot(module) -> dict[str, np.ndarray]:
    return {name: host(array.copy()) for name, array in module.state().items()}


def moved(module, before) -> set[str]:
    return {name for name, array in module.state().items() if not np.array_equal(host(array), before[name])}


def assert_no_gradients(module) -> None:
    assert [name for name, p in module.named_parameters().items() if p.grad.any()] == []


def normed_gan(rng, **options) -> GAN:
    """Points of 4 numbers, BatchNorm in both players."""
    generator = Sequential(Dense(3, 5, bias=False, rng=rng), BatchNorm(5), LeakyReLU(), Dense(5, 4, rng=rng), Tanh())
    judge = Sequential(Dense(4, 5, bias=False, rng=rng), BatchNorm(5), LeakyReLU(), Dense(5, 1, rng=rng))
    return randomised(GAN(generator, judge, 3, **options), rng)


GANS = {
    "normed": (normed_gan, (4,)),
    "points": (lambda rng, **o: randomised(point_gan(2, latent=3, hidden=(5,), **o, rng=rng), rng), (2,)),
    "dense": (lambda rng, **o: randomised(dense_gan((3, 2, 1), latent=3, **o, rng=rng), rng, 0.05), (3, 2, 1)),
    "DCGAN": (lambda rng, **o: randomised(dcgan((16, 16, 1), 3, 2, **o, rng=rng), rng, 0.2), (16, 16, 1)),
}
every_gan = pytest.mark.parametrize("kind", GANS)


def gan_and_batch(kind, rng, backend=NUMPY, **options):
    build, sample = GANS[kind]
    model = build(rng, **options).to(backend.name)
    return [model, *backend.arrays(rng.uniform(-1, 1, (6, *sample)), rng.standard_normal((5, 3)))]


BUILDERS = {
    "dense_vae": lambda **how: dense_vae((8, 8, 1), **how),
    "conv_vae": lambda **how: conv_vae((8, 8, 1), **how),
    "dense_gan": lambda **how: dense_gan((8, 8, 1), **how),
    "dcgan": lambda **how: dcgan((8, 8, 1), **how),
    "point_gan": lambda **how: point_gan(**how),
}


def small_vae() -> VAE:
    encoder = Sequential(BatchNorm(6), Dense(6, 4))
    return VAE(encoder, Sequential(Dense(2, 5), BatchNorm(5), Dense(5, 6)), 2)


LOSSES = ("non-saturating", "minimax")

LIKELIHOODS = {"Bernoulli": Bernoulli, "Gaussian": Gaussian, "Gaussian, fixed": lambda: Gaussian(0.5, learn=False)}


def values(module) -> list[np.ndarray]:
    return [host(p.value) for p in module.parameters()]


def assert_allclose(got, expected, **tolerance) -> None:
    np.testing.assert_allclose(host(got), host(expected), **tolerance)


def assert_array_equal(got, expected) -> None:
    np.testing.assert_array_equal(host(got), host(expected))


sizes = st.integers(1, 4)


def normed_vae(rng, **options) -> VAE:
    encoder = Sequential(Dense(6, 5, bias=False, rng=rng), BatchNorm(5), Tanh(), Dense(5, 4, rng=rng))
    decoder = Sequential(Dense(2, 5, bias=False, rng=rng), BatchNorm(5), LeakyReLU(), Dense(5, 6, rng=rng))
    return randomised(VAE(encoder, decoder, 2, **options), rng)


every_gan_loss = pytest.mark.parametrize("loss", LOSSES)


def without_movement(before, module) -> set[str]:
    """Parameters no number of which moved. Biases ahead of a BatchNorm have no gradient but rounding."""
    return set(module.named_parameters()) - moved(module, before)
