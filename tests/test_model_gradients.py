"""Every gradient of the models, by two ways: `check` over drawn sizes, and central differences written here."""

import numpy as np
import pytest
from backends import NUMPY, drawn, host, like
from hypothesis import strategies as st
from small_models import LIKELIHOODS, LOSSES, assert_no_gradients, normed_gan, normed_vae, randomised, sizes

from scratchgen import GAN, VAE, Gaussian, conv_autoencoder, conv_vae, dcgan, dense_autoencoder, dense_vae, point_gan
from scratchgen.gradcheck import check

# --- gradients ------------------------------------------------------------------------------------------------------


def prove(backend, loss, *inputs, player):
    """Every gradient of the player's parameters is right to 1e-6, and they are all there."""
    probes = {"elementwise": 60, "directions": 6} if backend.is_host else {"elementwise": 40, "directions": 2}
    report = check(backend.ferry(loss), *inputs, **probes)
    assert report.ok, report
    assert report.error <= 1e-6, report
    assert len(report.tensors) == len(player.parameters()), report


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)

betas = st.sampled_from([0.0, 0.3, 1.0, 4.0])

likelihoods = st.sampled_from(list(LIKELIHOODS.values()))

gan_options = st.fixed_dictionaries({"loss": st.sampled_from(LOSSES), "smoothing": st.sampled_from([0.0, 0.1])})


@drawn(
    8,
    rng=seeds,
    shape=st.tuples(sizes, sizes, sizes),
    latent=sizes,
    loss=st.sampled_from(["bernoulli", "squared-error"]),
)
def test_gradients_of_a_dense_autoencoder(backend, rng, shape, latent, loss):
    model = randomised(dense_autoencoder(shape, latent=latent, hidden=(5, 3), loss=loss, rng=rng), rng)
    prove(backend, model.loss, rng.random((3, *shape)), player=model)


@drawn(6, rng=seeds, size=st.tuples(st.integers(4, 9), st.integers(4, 9)), channels=sizes, latent=sizes)
def test_gradients_of_a_conv_autoencoder(backend, rng, size, channels, latent):
    model = randomised(conv_autoencoder((*size, channels), latent=latent, width=2, rng=rng), rng)
    prove(backend, model.loss, rng.random((2, *size, channels)), player=model)


@drawn(15, rng=seeds, n=sizes, shape=st.tuples(sizes, sizes, sizes), latent=sizes, likelihood=likelihoods, beta=betas)
def test_gradients_of_a_dense_vae(backend, rng, n, shape, latent, likelihood, beta):
    options = {"latent": latent, "hidden": (5,), "likelihood": likelihood(), "beta": beta}
    model = randomised(dense_vae(shape, **options, rng=rng), rng)
    prove(backend, model.loss, rng.random((n, *shape)), rng.standard_normal((n, latent)), player=model)


@drawn(
    8,
    rng=seeds,
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    latent=sizes,
    likelihood=likelihoods,
    beta=betas,
)
def test_gradients_of_a_conv_vae(backend, rng, size, latent, likelihood, beta):
    options = {"latent": latent, "width": 2, "likelihood": likelihood(), "beta": beta}
    model = randomised(conv_vae((*size, 2), **options, rng=rng), rng)
    prove(backend, model.loss, rng.random((2, *size, 2)), rng.standard_normal((2, latent)), player=model)


@drawn(8, rng=seeds, n=st.integers(4, 7), likelihood=likelihoods, beta=betas)
def test_gradients_of_a_vae_with_batchnorm(backend, rng, n, likelihood, beta):
    model = normed_vae(rng, likelihood=likelihood(), beta=beta)
    prove(backend, model.loss, rng.random((n, 6)), rng.standard_normal((n, 2)), player=model)


@drawn(15, rng=seeds, n=st.integers(4, 6), m=st.integers(4, 6), options=gan_options)
def test_gradients_of_both_players(backend, rng, n, m, options):
    model = normed_gan(rng, **options)
    real, z = rng.uniform(-1, 1, (n, 4)), rng.standard_normal((m, 3))
    prove(backend, model.discriminator_loss, real, z, player=model.discriminator)
    prove(backend, model.generator_loss, z, player=model.generator)


every_dcgan = pytest.mark.parametrize(
    "shape", [(16, 16, 2), (10, 10, 3), (12, 12, 1), (14, 14, 2), (8, 14, 1), (11, 8, 2)], ids=str
)


def prove_dcgan(backend, shape, rng, **options):
    model = randomised(dcgan(shape, 3, 2, **options, rng=rng), rng, 0.2)
    real, z = rng.uniform(-1, 1, (2, *shape)), rng.standard_normal((3, 3))
    prove(backend, model.discriminator_loss, real, z, player=model.discriminator)
    prove(backend, model.generator_loss, z, player=model.generator)


@every_dcgan
@pytest.mark.parametrize(("loss", "smoothing"), [("non-saturating", 0.0), ("non-saturating", 0.1), ("minimax", 0.0)])
def test_gradients_of_dcgan(shape, loss, smoothing, rng):
    prove_dcgan(NUMPY, shape, rng, loss=loss, smoothing=smoothing)


@every_dcgan
def test_gradients_of_dcgan_on_a_device(shape, device, rng):
    prove_dcgan(device, shape, rng, smoothing=0.1)


def central_differences(loss, p, h=1e-5) -> np.ndarray:
    """∂loss/∂p, number by number."""
    before, value, gradient = p.value, host(p.value), np.empty(p.value.shape)
    for i in np.ndindex(value.shape):
        ends = []
        for step in (h, -h):
            beside = value.copy()
            beside[i] += step
            p.value = like(before, beside)
            ends.append(float(loss()))
        gradient[i] = (ends[0] - ends[1]) / (2 * h)
    p.value = before
    return gradient


SMALL = {
    "dense autoencoder": lambda rng: dense_autoencoder((3, 2, 1), latent=2, hidden=(4,), rng=rng),
    "conv autoencoder": lambda rng: conv_autoencoder((4, 5, 1), latent=2, width=1, loss="squared-error", rng=rng),
    "dense VAE": lambda rng: dense_vae((3, 2, 1), latent=2, hidden=(4,), beta=0.3, rng=rng),
    "conv VAE": lambda rng: conv_vae((4, 5, 1), latent=2, width=1, likelihood="gaussian", beta=2.0, rng=rng),
    "VAE with BatchNorm": lambda rng: normed_vae(rng, likelihood=Gaussian(0.4, learn=False), beta=0.5),
    "GAN": lambda rng: normed_gan(rng, smoothing=0.1),
    "minimax GAN": lambda rng: normed_gan(rng, loss="minimax"),
    "points": lambda rng: point_gan(2, latent=2, hidden=(4, 3), rng=rng),
    "DCGAN": lambda rng: dcgan((8, 8, 1), 2, 1, rng=rng),
}


@pytest.mark.parametrize("kind", SMALL)
def test_every_gradient_by_a_second_way(kind, backend, rng):
    """Central differences written here, over every parameter; other players take no gradient at all."""
    model = randomised(SMALL[kind](rng), rng).to(backend.name)
    sample = {"DCGAN": (8, 8, 1), "points": (2,)}.get(kind, (4,))
    shape = {"VAE with BatchNorm": (6,)}.get(kind, (3, 2, 1) if "dense" in kind else (4, 5, 1))
    if isinstance(model, GAN):
        real, z = backend.arrays(rng.uniform(-1, 1, (4, *sample)), rng.standard_normal((5, model.latent)))
        losses = [
            (lambda: model.discriminator_loss(real, z), model.discriminator, model.generator),
            (lambda: model.generator_loss(z), model.generator, model.discriminator),
        ]
    else:
        batch = [rng.random((4, *shape))]
        if isinstance(model, VAE):
            batch.append(rng.standard_normal((4, model.latent)))
        batch = backend.arrays(*batch)
        losses = [(lambda: model.loss(*batch), model, None)]
    for evaluate, player, other in losses:
        model.zero_grad()
        evaluate()[1]()
        scale = max(np.abs(host(p.grad)).max() for p in player.parameters())
        for name, p in player.named_parameters().items():
            expected = central_differences(lambda: evaluate()[0], p)  # noqa: B023
            error = np.abs(host(p.grad) - expected).max() / max(np.abs(expected).max(), 1e-2 * scale)
            assert error <= 1e-6, f"{name}: {error:.2g}"
        if other:
            assert_no_gradients(other)
