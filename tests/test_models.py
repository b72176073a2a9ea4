"""The generative models: gradients, behaviour, statistics, architecture and bad input.

What a gradient check cannot see is here too: a wrong sampler has right gradients of a wrong loss, so moments of z are
measured and a linear-Gaussian VAE is held against its likelihood in closed form.
"""

import copy
import gc
import weakref
from contextlib import nullcontext
from itertools import product
from math import exp, log, log1p, pi, prod

import numpy as np
import pytest
import standin
from backends import NUMPY, drawn, host, like
from hypothesis import strategies as st
from refusals import ones, refuses
from small_models import (
    BUILDERS,
    assert_no_gradients,
    every_gan,
    gan_and_batch,
    moved,
    normed_gan,
    randomised,
    small_vae,
    snapshot,
)

import scratchgen as sg
from scratchgen import (
    GAN,
    SGD,
    VAE,
    Adam,
    Autoencoder,
    BatchNorm,
    Bernoulli,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Gaussian,
    Layer,
    LeakyReLU,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
    conv_autoencoder,
    conv_vae,
    dcgan,
    dcgan_optimizers,
    dense_autoencoder,
    dense_gan,
    dense_vae,
    frozen,
    gaussian_kl,
    point_gan,
)
from scratchgen.gradcheck import check
from scratchgen.models import vae as vae_module
from scratchgen.models.gan import mean_probability

LOSSES = ("non-saturating", "minimax")

LIKELIHOODS = {
    "Bernoulli": Bernoulli,
    "Gaussian": Gaussian,
    "Gaussian, fixed": lambda: Gaussian(0.5, learn=False),
}


def values(module) -> list[np.ndarray]:
    return [host(p.value) for p in module.parameters()]


def assert_allclose(got, expected, **tolerance) -> None:
    np.testing.assert_allclose(host(got), host(expected), **tolerance)


def assert_array_equal(got, expected) -> None:
    np.testing.assert_array_equal(host(got), host(expected))


# --- gradients ------------------------------------------------------------------------------------------------------


def prove(backend, loss, *inputs, player):
    """Every gradient of the player's parameters is right to 1e-6, and they are all there."""
    probes = {"elementwise": 60, "directions": 6} if backend.is_host else {"elementwise": 40, "directions": 2}
    report = check(backend.ferry(loss), *inputs, **probes)
    assert report.ok, report
    assert report.error <= 1e-6, report
    assert len(report.tensors) == len(player.parameters()), report


seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)

sizes = st.integers(1, 4)

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


def normed_vae(rng, **options) -> VAE:
    encoder = Sequential(Dense(6, 5, bias=False, rng=rng), BatchNorm(5), Tanh(), Dense(5, 4, rng=rng))
    decoder = Sequential(Dense(2, 5, bias=False, rng=rng), BatchNorm(5), LeakyReLU(), Dense(5, 6, rng=rng))
    return randomised(VAE(encoder, decoder, 2, **options), rng)


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


def test_a_backward_belongs_to_its_evaluation(backend, rng):
    """D is called twice before either backward, and parameters change in between: the gradients are as they were."""
    model = normed_gan(rng).to(backend.name)
    real, z = backend.arrays(rng.uniform(-0.5, 0.5, (4, 4)), rng.standard_normal((5, 3)))
    for evaluate in (lambda: model.discriminator_loss(real, z), lambda: model.generator_loss(z)):
        model.zero_grad()
        evaluate()[1]()
        expected = [p.grad.copy() for p in model.parameters()]
        model.zero_grad()
        _, backward = evaluate()
        model.discriminator_loss(2 * real, -z), model.generator_loss(-z)
        before = [p.value for p in model.parameters()]
        for p in model.parameters():
            p.value = p.value + 1
        backward()
        for p, e, value in zip(model.parameters(), expected, before, strict=True):
            assert_array_equal(p.grad, e)
            p.value = value


def test_frozen_parts_of_a_vae(backend, rng):
    model = randomised(dense_vae((3, 2, 1), latent=2, hidden=(4,), likelihood="gaussian", rng=rng), rng)
    model.to(backend.name)
    batch = backend.arrays(rng.random((4, 3, 2, 1)), rng.standard_normal((4, 2)))
    model.loss(*batch)[1]()
    expected = {name: p.grad.copy() for name, p in model.named_parameters().items()}
    for part in ("encoder", "decoder", "likelihood"):
        model.zero_grad()
        with sg.frozen(getattr(model, part)):
            _, backward = model.loss(*batch)
        backward()
        for name, p in model.named_parameters().items():
            assert_array_equal(p.grad, 0 if name.startswith(part) else expected[name])


every_gan_loss = pytest.mark.parametrize("loss", LOSSES)


def without_movement(before, module) -> set[str]:
    """Parameters no number of which moved. Biases ahead of a BatchNorm have no gradient but rounding."""
    return set(module.named_parameters()) - moved(module, before)


@every_gan
@every_gan_loss
def test_a_step_moves_the_player_whose_step_it_is(kind, loss, backend, rng):
    model, real, z = gan_and_batch(kind, rng, backend, loss=loss)
    d_optimizer, g_optimizer = dcgan_optimizers(model, 0.01)
    parts = model.discriminator, model.generator

    before = [snapshot(part) for part in parts]
    model.discriminator_step(real, z, d_optimizer)
    assert without_movement(before[0], parts[0]) == set()
    assert not moved(parts[1], before[1]) & set(parts[1].named_parameters())
    assert_no_gradients(model)

    before = [snapshot(part) for part in parts]
    _, backward = model.generator_loss(z)
    backward()
    assert_no_gradients(model.discriminator)
    g_optimizer.step()
    assert without_movement(before[1], parts[1]) == set()
    assert not moved(parts[0], before[0]) & set(parts[0].named_parameters())
    assert_no_gradients(model)

    before = [snapshot(part) for part in parts]
    model.train_step(real, z, d_optimizer, g_optimizer)
    assert [without_movement(b, part) for b, part in zip(before, parts, strict=True)] == [set(), set()]
    assert_no_gradients(model)


@every_gan
@every_gan_loss
def test_a_step_is_one_of_d_and_then_one_of_g_against_the_new_d(kind, loss, backend, rng):
    """One pass of G serves both players, and makes no difference."""
    model, real, z = gan_and_batch(kind, rng, backend, loss=loss, smoothing=0.1)
    twin, _, _ = gan_and_batch(kind, np.random.default_rng(0), backend, loss=loss, smoothing=0.1)
    losses = model.train_step(real, z, SGD(values_of(model, 0), 0.1), SGD(values_of(model, 1), 0.1))
    d_loss = twin.discriminator_step(real, z, SGD(values_of(twin, 0), 0.1))
    g_loss, backward = twin.generator_loss(z)
    backward()
    SGD(values_of(twin, 1), 0.1).step()
    assert losses == (d_loss, g_loss)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert_allclose(p.value, q.value, rtol=1e-12, atol=1e-15)


def values_of(model, player):
    return (model.discriminator, model.generator)[player].parameters()


def test_one_pass_of_g_a_step_and_two_of_d_for_d(backend, rng, monkeypatch):
    """BatchNorm sees real, fake and fake in D, noise once in G: momentum 0.1 counts the passes."""
    model, real, z = gan_and_batch("normed", rng, backend)
    passes = []
    for name in ("generator", "discriminator"):
        network = getattr(model, name)
        forward = network.forward
        monkeypatch.setattr(
            network, "forward", lambda x, n=name, f=forward: (passes.append((n, len(x))), f(x))[1], raising=False
        )
    model.train_step(real, z, *dcgan_optimizers(model))
    assert passes == [("generator", 5), ("discriminator", 6), ("discriminator", 5), ("discriminator", 5)]


@every_gan
@every_gan_loss
def test_d_and_g_descend_their_losses(kind, loss, backend, rng):
    model, real, z = gan_and_batch(kind, rng, backend, loss=loss)
    d, g = (SGD(values_of(model, player), 1e-5) for player in (0, 1))
    before = model.discriminator_step(real, z, d)
    assert model.discriminator_loss(real, z)[0] < before
    before, backward = model.generator_loss(z)
    backward()
    g.step()
    assert model.generator_loss(z)[0] < before


def test_a_vae_learns(backend, rng):
    """Every parameter moves, no gradient is left, and the bound rises on a set of a few patterns."""
    for likelihood in LIKELIHOODS.values():
        model = dense_vae((4, 4, 1), latent=2, hidden=(16,), likelihood=likelihood(), rng=rng).to(backend.name)
        patterns = (rng.random((4, 4, 4, 1)) < 0.5).astype(np.float32)
        optimizer, first, before = Adam(model.parameters(), 0.01), None, snapshot(model)
        for step in range(200):
            x = patterns[rng.integers(0, 4, 32)]
            batch = backend.arrays(x, rng.standard_normal((32, 2), np.float32))
            loss = float(model.train_step(*batch, optimizer))
            first = first or loss
            if step == 0:
                assert without_movement(before, model) == set()
            assert_no_gradients(model)
        assert loss < first - 2


def test_a_gan_learns_where_points_lie(backend, rng):
    model = point_gan(2, latent=2, hidden=(32, 32), rng=rng).to(backend.name)
    optimizers = dcgan_optimizers(model, 2e-3)
    centre = np.array([2, -1], np.float32)
    for _ in range(300):
        real = centre + 0.3 * rng.standard_normal((64, 2), np.float32)
        model.train_step(*backend.arrays(real, model.noise(64, rng)), *optimizers)
    fake = host(model.generate(backend.array(model.noise(1000, rng))))
    assert np.abs(fake.mean(axis=0) - centre).max() < 1  # from 2 at first


def an_autoencoders_step(backend, rng):
    model = conv_autoencoder((6, 5, 1), latent=3, width=2, rng=rng).to(backend.name)
    x, optimizer = backend.array(rng.random((4, 6, 5, 1), np.float32)), Adam(model.parameters())
    return lambda: model.train_step(x, optimizer)


def a_vaes_step(backend, rng):
    model = conv_vae((6, 5, 1), latent=3, width=2, likelihood="gaussian", rng=rng).to(backend.name)
    batch = backend.arrays(rng.random((4, 6, 5, 1), np.float32), rng.standard_normal((4, 3), np.float32))
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
    return lambda: model.train_step(*batch, optimizer)


def a_gans_step(backend, rng):
    model = dcgan((12, 12, 1), 3, 2, smallest=3, smoothing=0.1, rng=rng).to(backend.name)
    batch = backend.arrays(rng.random((4, 12, 12, 1), np.float32), model.noise(4, rng))
    optimizers = dcgan_optimizers(model)
    return lambda: model.train_step(*batch, *optimizers)


STEPS = {"autoencoder": an_autoencoders_step, "VAE": a_vaes_step, "DCGAN": a_gans_step}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_does_not_wait_for_the_device(kind, strict, rng):
    """Nothing of a step is brought to the host, no number and no shape: all of it can be queued."""
    step = STEPS[kind](strict, rng)
    step()  # kernels are compiled in the first
    with standin.no_sync():
        step()


@pytest.mark.parametrize("layer", [Conv2d(3, 4, 4, stride=2, padding=1), ConvTranspose2d(3, 4, 4)], ids=repr)
def test_columns_are_kept_for_the_gradient_of_a_kernel_that_learns_alone(layer, strict, rng, monkeypatch):
    """They are many times as large as the pixels: D's, while G learns, would be held for nothing."""
    made, patches = [], strict.ops.patches

    def noted(*arguments):
        columns = patches(*arguments)
        made.append(weakref.ref(columns))
        return columns

    monkeypatch.setattr(strict.ops, "patches", noted)
    layer = copy.deepcopy(layer).to("cupy")
    x = strict.array(rng.standard_normal((2, 6, 6, 3), np.float32))
    for learns in (False, True):
        made.clear()
        with nullcontext() if learns else frozen(layer):
            y, backward = layer.forward(x)
        gc.collect()
        assert any(columns() is not None for columns in made) == (learns and isinstance(layer, Conv2d))
        backward(y)
        gc.collect()
        assert len(made) == 1, "once for both maps that read them"
        assert made[0]() is None


# --- the sampler and the priors -------------------------------------------------------------------------------------


def test_a_reparameterised_sample_has_the_mean_and_the_variance_asked_for(backend, rng):
    """Within six standard errors; and z is mu where eps is 0, at every variance."""
    mu, logvar = np.array([1.0, -2.0, 0.5]), np.array([-2.0, 1.0, 0.4])
    n = 20_000
    mus, logvars, eps = np.tile(mu, (n, 1)), np.tile(logvar, (n, 1)), rng.standard_normal((n, 3))
    z = host(vae_module.reparameterise(*backend.arrays(mus, logvars, eps))[0])
    var = np.exp(logvar)
    assert (np.abs(z.mean(axis=0) - mu) < 6 * np.sqrt(var / n)).all()
    assert (np.abs(z.var(axis=0) / var - 1) < 6 * np.sqrt(2 / n)).all()
    assert_allclose(z, mu + np.sqrt(var) * eps, rtol=1e-12)
    assert_array_equal(host(vae_module.reparameterise(*backend.arrays(mus, logvars, 0 * eps))[0]), mus)


@pytest.mark.parametrize("spread", [0.1, 1, 5])
def test_the_pullback_of_a_sample_against_central_differences(spread, backend, rng):
    mu, logvar, eps, dz = (
        spread * rng.standard_normal((4, 3)),
        rng.normal(0, spread, (4, 3)),
        *rng.normal(0, 1, (2, 4, 3)),
    )
    _, backward = vae_module.reparameterise(*backend.arrays(mu, logvar, eps))
    h = 1e-6

    def moved(what):
        up, down = (
            host(
                vae_module.reparameterise(
                    *backend.arrays(mu + t * (what == "mu"), logvar + t * (what == "logvar"), eps)
                )[0]
            )
            for t in (h, -h)
        )
        return dz * (up - down) / (2 * h)  # each z is a function of its own mu and logvar alone

    for name, found in zip(("mu", "logvar"), backward(backend.array(dz)), strict=True):
        assert_allclose(host(found), moved(name), rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_sample_is_what_the_loss_decodes(backend, rng):
    """Of the halves of what the encoder says; in training, in use, and for the bound."""
    decoder = Spy(3, 2)
    model = VAE(Constant([0.3, -1.0, 2.0], [-1.0, 0.5, 1.5]), decoder, 3).to(backend.name)
    x, eps = backend.arrays(rng.random((5, 2)), rng.standard_normal((5, 3)))
    z = host(vae_module.reparameterise(*model.encode(x), eps)[0])
    for call in (model.loss, model.terms, model.terms_and_pullback, model.predict_loss, model.reconstruct):
        decoder.seen.clear()
        call(x, eps)
        assert_array_equal(np.concatenate(decoder.seen), z)


def test_noise_of_a_vae(rng):
    """Standard normal, float32, on the host, by the generator that is passed."""
    model = dense_vae((4, 4, 1), latent=50, hidden=(3,), rng=rng)
    noise = model.noise(2000, np.random.default_rng(3))
    assert (noise.shape, noise.dtype, type(noise)) == ((2000, 50), np.float32, np.ndarray)
    assert_array_equal(noise, np.random.default_rng(3).standard_normal((2000, 50), np.float32))
    for count, error in ((0, ValueError), (2.5, TypeError)):
        refuses(lambda count=count: model.noise(count, rng), error, "VAE.noise", "count")
    refuses(lambda: model.noise(2, 7), TypeError, "VAE.noise", "rng", "Generator")


class Constant(Layer):
    """The same posterior for every x, as an encoder: no parameters."""

    def __init__(self, mu, logvar):
        self.row = np.concatenate([mu, logvar])

    def forward(self, x):
        return like(x, np.tile(self.row, (len(x), 1))), lambda dy: None


class Spy(Layer):
    """Passes its input through a Dense layer and keeps it."""

    def __init__(self, latent, pixels):
        self.dense = Dense(latent, pixels, rng=np.random.default_rng(0)).astype(np.float64)
        self.seen = []

    def forward(self, z):
        self.seen.append(host(z))
        return self.dense.forward(z)


@pytest.mark.parametrize("how", ["loss", "train_step", "terms", "reconstruct", "log_likelihood"])
def test_z_has_the_mean_and_the_variance_that_the_kl_speaks_of(how, backend, rng):
    """Var z = exp(logvar): within six standard errors, where std = exp(logvar) would be off by a factor of e."""
    mu, logvar = np.array([1.0, -2.0, 0.5]), np.array([-2.0, 1.0, 0.4])
    n, decoder = 20_000, Spy(3, 2)
    model = VAE(Constant(mu, logvar), decoder, 3).to(backend.name)
    noise = rng.standard_normal((n, 3))
    x, eps = backend.arrays(rng.random((n, 2)), noise)
    if how == "log_likelihood":
        model.log_likelihood(x[:20], n // 20, rng)
    elif how == "train_step":
        model.train_step(x, eps, SGD(model.parameters(), 0.1))
    else:
        getattr(model, how)(x, eps)
    z = np.concatenate(decoder.seen)
    assert z.shape == (n, 3)
    var = np.exp(logvar)
    assert (np.abs(z.mean(axis=0) - mu) < 6 * np.sqrt(var / n)).all()
    assert (np.abs(z.var(axis=0) / var - 1) < 6 * np.sqrt(2 / n)).all()
    assert np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 6 / np.sqrt(n)
    assert host(gaussian_kl(*backend.arrays(mu[None], logvar[None]))[0]) == pytest.approx(
        monte_carlo_kl(z, mu, var), abs=0.05
    )
    if how != "log_likelihood":
        assert_allclose(z, mu + np.sqrt(var) * noise, rtol=1e-14, atol=0 if backend.is_host else 1e-13)


def monte_carlo_kl(z, mu, var):
    """E_q[log q − log p] over draws z of q."""
    return 0.5 * (z**2 - (z - mu) ** 2 / var - np.log(var)).sum(axis=1).mean()


def test_samples_of_a_vae_start_at_the_prior(backend, rng):
    decoder = Spy(3, 2)
    model = VAE(Constant(np.ones(3), np.ones(3)), decoder, 3).to(backend.name)
    pixels = model.sample(20_000, rng)
    (z,) = decoder.seen
    assert z.shape == (20_000, 3)
    assert (np.abs(z.mean(axis=0)) < 6 / np.sqrt(len(z))).all()
    assert (np.abs(z.var(axis=0) - 1) < 6 * np.sqrt(2 / len(z))).all()
    assert_allclose(pixels, 1 / (1 + np.exp(-host(decoder.dense.predict(backend.array(z))))), rtol=1e-12)


@pytest.mark.parametrize(("prior", "variance", "fourth"), [("normal", 1, 3), ("uniform", 1 / 3, 1 / 5)])
def test_noise_of_a_gan(prior, variance, fourth, rng):
    z = point_gan(2, latent=3, prior=prior).noise(50_000, rng)
    assert z.shape == (50_000, 3)
    assert z.dtype == np.float32
    z = z.astype(np.float64)
    n = z.size
    assert abs(z.mean()) < 6 * np.sqrt(variance / n)
    assert abs((z**2).mean() - variance) < 6 * np.sqrt((fourth - variance**2) / n)
    assert (z**4).mean() == pytest.approx(fourth, rel=0.05)
    if prior == "uniform":
        assert np.abs(z).max() <= 1
        assert z.min() < -0.999
        assert z.max() > 0.999


def test_noise_is_a_function_of_the_generator_that_is_passed():
    model = point_gan()
    first, again = (model.noise(4, np.random.default_rng(3)) for _ in range(2))
    assert_array_equal(first, again)
    assert (model.noise(4, np.random.default_rng(4)) != first).all()
    assert (model.noise(4, rng := np.random.default_rng(3)) != model.noise(4, rng)).all()


# --- a VAE whose likelihood is known --------------------------------------------------------------------------------


def linear_vae(backend, W, b, std, mean_map, offset, logvar) -> VAE:
    """x ~ N(b + z W, σ² I), and q(z|x) = N(x · mean_map + offset, e^logvar)."""
    latent, pixels = W.shape
    encoder, decoder = Dense(pixels, 2 * latent).astype(np.float64), Dense(latent, pixels).astype(np.float64)
    encoder.W.value = np.hstack([mean_map, np.zeros((pixels, latent))])
    encoder.b.value = np.concatenate([offset, logvar])
    decoder.W.value, decoder.b.value = W, b
    return VAE(encoder, decoder, latent, likelihood=Gaussian(std, learn=False)).to(backend.name)


def posterior(W, b, std):
    """mean_map, offset and covariance of the exact p(z|x)."""
    S = np.linalg.inv(np.eye(len(W)) + W @ W.T / std**2)
    mean_map = W.T @ S / std**2
    return mean_map, -b @ mean_map, S


def exact_log_likelihood(x, W, b, std):
    """log N(x; b, WᵀW + σ² I)."""
    C = W.T @ W + std**2 * np.eye(len(b))
    r = x - b
    return -0.5 * (len(b) * log(2 * pi) + np.linalg.slogdet(C)[1] + (r * np.linalg.solve(C, r.T).T).sum(axis=1))


def expected_elbo(backend, model, x):
    """The mean of the ELBO over eps, exactly: it is quadratic in eps, and ±√L eᵢ have its second moments."""
    L = model.latent
    points = np.sqrt(L) * np.vstack([np.eye(L), -np.eye(L)])
    batches = (backend.arrays(x, np.tile(eps, (len(x), 1))) for eps in points)
    return np.mean([float(model.terms(*batch).elbo) for batch in batches])


@pytest.fixture
def orthogonal(rng):
    """A model whose exact posterior has a diagonal covariance: the rows of W are orthogonal."""
    W = 1.5 * np.linalg.qr(rng.standard_normal((5, 2)))[0].T * np.array([[1.0], [0.6]])
    return W, rng.standard_normal(5), 0.7


def test_the_bound_is_tight_where_q_is_the_posterior(orthogonal, backend, rng):
    W, b, std = orthogonal
    mean_map, offset, S = posterior(W, b, std)
    assert np.abs(S - np.diag(np.diag(S))).max() < 1e-12
    model = linear_vae(backend, W, b, std, mean_map, offset, np.log(np.diag(S)))
    x = 2 * rng.standard_normal((6, 5))
    exact = exact_log_likelihood(x, W, b, std)
    assert expected_elbo(backend, model, x) == pytest.approx(exact.mean(), rel=1e-12)
    for K in (1, 3, 50):  # p(x, z)/q(z|x) is p(x) at every z
        assert_allclose(model.log_likelihood(backend.array(x), K, rng), exact, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_falls_short_by_the_kl_to_the_posterior(seed, backend):
    """ELBO = log p(x) − KL(q(z|x) ‖ p(z|x)) for any q, and any W."""
    rng = np.random.default_rng(seed)
    W, b, std = rng.standard_normal((3, 5)), rng.standard_normal(5), 0.8
    mean_map, offset, logvar = 0.3 * rng.standard_normal((5, 3)), rng.standard_normal(3), rng.standard_normal(3)
    model, x = linear_vae(backend, W, b, std, mean_map, offset, logvar), rng.standard_normal((4, 5))
    exact_map, exact_offset, S = posterior(W, b, std)
    d = x @ mean_map + offset - (x @ exact_map + exact_offset)
    P = np.linalg.inv(S)
    kl = 0.5 * (np.diag(P) @ np.exp(logvar) - 3 + np.linalg.slogdet(S)[1] - logvar.sum() + ((d @ P) * d).sum(axis=1))
    assert (kl > 0).all()
    assert expected_elbo(backend, model, x) == pytest.approx(
        (exact_log_likelihood(x, W, b, std) - kl).mean(), rel=1e-10
    )
    eps = np.sqrt(3) * np.eye(3)[0] * np.ones((4, 1))
    batch = backend.arrays(x, eps)
    assert host(model.loss(*batch)[0]) == pytest.approx(float(-model.terms(*batch).elbo), rel=1e-12)


@pytest.fixture
def too_wide(orthogonal, backend):
    """The model with a q that is off in mean and 1.5 times too wide."""
    W, b, std = orthogonal
    mean_map, offset, S = posterior(W, b, std)
    return linear_vae(backend, W, b, std, mean_map, offset + 0.3, np.log(2.25 * np.diag(S)))


def test_the_importance_weighted_bound_rises_to_the_likelihood(orthogonal, too_wide, backend, rng):
    """The mean over 20 images, each 100 times: 0.4 nats short at K = 1, within 0.01 at K = 1000."""
    x = np.repeat(orthogonal[1] + 1.5 * rng.standard_normal((20, 5)), 100, axis=0)
    exact = exact_log_likelihood(x, *orthogonal).mean()
    bounds = []
    for K in (1, 10, 100, 1000):
        found = too_wide.log_likelihood(backend.array(x if K < 1000 else x[::4]), K, rng)
        bounds.append(found.mean())
    assert bounds[0] < exact - 0.3
    assert bounds[0] < bounds[1] - 0.1
    assert bounds[1] < bounds[2] - 0.01
    assert abs(bounds[2] - exact) < 0.03
    assert abs(bounds[3] - exact) < 0.01


def test_one_sample_is_the_elbo(too_wide, backend, rng):
    """In expectation, within five standard errors: 0.01 nats."""
    x = rng.standard_normal((5, 5))
    found = too_wide.log_likelihood(backend.array(np.repeat(x, 10_000, axis=0)), 1, rng)
    error = 5 * found.std() / np.sqrt(len(found))
    assert error < 0.1
    assert abs(found.mean() - expected_elbo(backend, too_wide, x)) < error


def test_blocks_make_no_difference(too_wide, backend, rng, monkeypatch):
    x = backend.array(rng.standard_normal((7, 5)))
    whole = too_wide.log_likelihood(x, 40, np.random.default_rng(1))
    decoded, predict = [], too_wide.decoder.predict
    monkeypatch.setattr(too_wide.decoder, "predict", lambda z: (decoded.append(len(z)), predict(z))[1], raising=False)
    for block in (1, 7, 39, 40, 80, 10**6):  # images decoded at a time
        monkeypatch.setattr(vae_module, "BLOCK", 5 * block)
        decoded.clear()
        assert_allclose(too_wide.log_likelihood(x, 40, np.random.default_rng(1)), whole, rtol=1e-12)
        assert max(decoded) <= block
        assert sum(decoded) == 7 * 40


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("std", [0.01, 30.0])
def test_weights_of_many_pixels_do_not_overflow(std, dtype, backend, rng):
    """10⁴ pixels: log p(x) is +3·10⁴ for a small std and −4·10⁴ for a large one, far beyond what exp can take."""
    D = 10_000
    W = np.zeros((1, D))
    W[0, :100] = 0.05
    b = rng.random(D)
    S = 1 / (1 + (W**2).sum() / std**2)
    mean_map = W.T * S / std**2
    logvar = np.array([log(S)])
    model = linear_vae(backend, W, b, std, mean_map, -b @ mean_map, logvar).astype(dtype)
    z = rng.standard_normal((3, 1))
    x = b + z @ W + std * rng.standard_normal((3, D))
    r = x - b
    exact = -0.5 * (
        D * log(2 * pi * std**2)
        - log(S)
        + ((r**2).sum(axis=1) - (r @ W.T)[:, 0] ** 2 * S / std**2) / std**2  # Woodbury
    )
    found = model.log_likelihood(backend.array(x.astype(dtype)), 20, rng)
    assert found.dtype == np.float64
    assert (np.abs(exact) > 2e4).all()
    assert_allclose(found, exact, rtol=1e-10 if dtype is np.float64 else 2e-4)


def test_log_likelihood_of_unlikely_and_likely_images_together(backend, rng):
    """Weights whose logarithms are thousands apart: the largest decides, wherever it stands."""
    model = dense_vae((10, 10, 1), latent=2, hidden=(5,), rng=rng).astype(np.float64)
    for p in model.decoder.parameters():
        p.value = 300 * rng.standard_normal(p.value.shape)
    model.to(backend.name)
    x = backend.array(np.round(rng.random((4, 10, 10, 1))))
    found = model.log_likelihood(x, 50, rng)
    assert np.isfinite(found).all()
    assert (found < -1000).all()


# --- likelihoods, KL and β ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_prob_is_the_negative_loss_of_each_sample(likelihood, dtype, backend, rng):
    likelihood = LIKELIHOODS[likelihood]().astype(dtype).to(backend.name)
    y, x = backend.arrays((5 * rng.standard_normal((4, 6))).astype(dtype), rng.random((4, 6)).astype(dtype))
    found = likelihood.log_prob(y, x)
    assert (found.shape, found.dtype) == ((4,), dtype)
    expected = [-float(likelihood.nll(y[i : i + 1], x[i : i + 1])[0]) for i in range(4)]
    assert_allclose(found, expected, rtol=1e-12 if dtype is np.float64 else 1e-5)
    assert_allclose(likelihood.nll(y, x)[0], -found.mean(), rtol=1e-12 if dtype is np.float64 else 1e-5)
    many = likelihood.log_prob(y[:, None].repeat(3, 1), x[:, None])  # an axis of samples
    assert_allclose(many, np.stack([host(found)] * 3, axis=1), rtol=1e-6)


def test_likelihoods_by_hand(backend):
    y, x = np.array([[0.0, 2.0, -1.0]]), np.array([[1.0, 0.0, 1.0]])
    there = backend.arrays(y, x)
    assert host(Bernoulli().log_prob(*there)[0]) == pytest.approx(-log(2) - log1p(exp(2)) - log1p(exp(1)))
    assert_allclose(Bernoulli().mean(there[0]), 1 / (1 + np.exp(-y)))
    expected = -0.5 * (3 * log(2 * pi * 0.25) + ((x - y) ** 2).sum() / 0.25)
    for likelihood in (Gaussian(0.5), Gaussian(0.5, learn=False)):
        likelihood.astype(np.float64).to(backend.name)
        assert host(likelihood.log_prob(*there)[0]) == pytest.approx(expected, rel=1e-6)
        assert_array_equal(likelihood.mean(there[0]), y)
    assert Gaussian().std == 0.3
    assert Gaussian().logvar.value == pytest.approx(2 * log(0.3))
    assert Gaussian(0.5, learn=False).parameters() == []
    assert Bernoulli().parameters() == []


def test_bernoulli_is_a_distribution(backend):
    """The probabilities of all images add up to 1."""
    images = np.array(list(product([0.0, 1.0], repeat=5)))
    y = np.tile([0.3, -2.0, 4.0, 0.0, 1.0], (32, 1))
    assert np.exp(host(Bernoulli().log_prob(*backend.arrays(y, images)))).sum() == pytest.approx(1)


def test_a_learned_variance_finds_the_mean_square_error(backend, rng):
    """At the optimum σ² is the mean of (x − y)²."""
    likelihood = Gaussian().to(backend.name)
    y, x = rng.standard_normal((50, 4), np.float32), rng.standard_normal((50, 4), np.float32)
    there = backend.arrays(y, x)
    optimizer = Adam(likelihood.parameters(), 0.05)
    for _ in range(500):
        likelihood.nll(*there)[1]()
        optimizer.step()
    assert np.exp(host(likelihood.logvar.value)[0]) == pytest.approx(((x - y) ** 2).mean(), rel=1e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0, 3.0])
def test_beta_weighs_the_kl_and_nothing_else(likelihood, beta, backend, rng):
    make = LIKELIHOODS[likelihood]
    model = dense_vae((3, 2, 1), latent=2, hidden=(4,), likelihood=make(), beta=beta, rng=rng)
    randomised(model, rng)
    x, eps = rng.random((4, 3, 2, 1)), rng.standard_normal((4, 2))
    mu, logvar = model.encode(x)
    kl = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum() / 4
    y = model.decoder.predict(mu + np.exp(logvar / 2) * eps)
    reconstruction = -model.likelihood.log_prob(y.reshape(4, -1), x.reshape(4, -1)).mean()
    model.to(backend.name)
    x, eps = backend.arrays(x, eps)
    assert tuple(map(host, model.terms(x, eps))) == pytest.approx((reconstruction, kl))
    assert host(model.terms(x, eps).elbo) == pytest.approx(-(reconstruction + kl))
    expected = pytest.approx(reconstruction + beta * kl, rel=1e-12)
    assert host(model.loss(x, eps)[0]) == expected
    assert host(model.predict_loss(x, eps)) == expected
    terms, _ = model.terms_and_pullback(x, eps)
    assert tuple(map(host, terms)) == pytest.approx((reconstruction, kl))
    assert host(model.train_step(x, eps, SGD(model.parameters(), 0.1))) == expected


@pytest.mark.parametrize("build", [dense_autoencoder, conv_autoencoder])
@pytest.mark.parametrize("loss", ["bernoulli", "squared-error"])
def test_predict_loss_of_an_autoencoder(build, loss, backend, rng):
    model = randomised(build((6, 5, 1), latent=3, loss=loss, rng=rng), rng, 0.05).to(backend.name)
    x = backend.array(rng.random((4, 6, 5, 1)))
    assert host(model.predict_loss(x)) == pytest.approx(float(model.loss(x)[0]), rel=1e-12)
    z = model.encode(x)
    assert_array_equal(model.encode(x), z)
    assert_array_equal(model.reconstruct(x), model.decode(z))
    y = host(model.decoder.predict(z))
    assert_allclose(model.decode(z), 1 / (1 + np.exp(-y)) if loss == "bernoulli" else y, rtol=1e-12)


def test_inference_keeps_nothing_and_batchnorm_uses_its_running_statistics(backend, rng):
    model = normed_vae(rng).to(backend.name)
    x, eps = backend.arrays(rng.random((8, 6)), rng.standard_normal((8, 2)))
    model.loss(x, eps)
    before = snapshot(model)
    terms = [*map(host, model.terms(x, eps))]
    per_image = [[*map(host, model.terms(x[i : i + 1], eps[i : i + 1]))] for i in range(8)]
    assert_allclose(terms, np.mean(per_image, axis=0))  # of one image alone it is the same
    model.encode(x), model.reconstruct(x), model.reconstruct(x, eps), model.sample(3, rng), model.log_likelihood(x, 3)
    gan, real, z = gan_and_batch("normed", rng, backend)
    gan_before = snapshot(gan)
    gan.generate(z), gan.value(real, z)
    assert_allclose(gan.generate(z)[:1], gan.generate(z[:1]))
    coder = randomised(Autoencoder(Sequential(BatchNorm(6), Dense(6, 2)), Sequential(BatchNorm(2), Dense(2, 6))), rng)
    coder.to(backend.name)
    coder_before = snapshot(coder)
    each = [float(coder.predict_loss(x[i : i + 1])) for i in range(8)]
    assert host(coder.predict_loss(x)) == pytest.approx(np.mean(each), rel=1e-12)
    assert_allclose(coder.reconstruct(x)[:1], coder.reconstruct(x[:1]))
    assert moved(model, before) | moved(gan, gan_before) | moved(coder, coder_before) == set()


def test_reconstructions_are_at_the_mean_or_at_the_sample_given(backend, rng):
    for likelihood in LIKELIHOODS.values():
        model = dense_vae((3, 2, 1), latent=2, hidden=(4,), likelihood=likelihood(), rng=rng)
        model = randomised(model, rng).to(backend.name)
        x, eps = backend.arrays(rng.random((4, 3, 2, 1)), rng.standard_normal((4, 2)))
        mu, logvar = model.encode(x)
        assert_array_equal(model.reconstruct(x), model.reconstruct(x))
        assert_array_equal(model.reconstruct(x), model.decode(mu))
        assert_array_equal(model.reconstruct(x, 0 * eps), model.decode(mu))
        at_sample = model.decode(mu + backend.xp.exp(logvar / 2) * eps)
        assert_allclose(model.reconstruct(x, eps), at_sample, rtol=1e-12)
        assert abs(host(at_sample - model.decode(mu))).max() > 1e-3


@pytest.mark.parametrize("term", [1, 2], ids=["real", "fake"])
def test_a_term_that_fails_half_way_leaves_no_gradient(term):
    class Failing(Layer):
        passes = 0

        def forward(self, x):
            self.passes += 1
            fails = self.passes == term

            def dx(dy):
                if fails:
                    raise MemoryError
                return dy

            return x + 0, self.pullback(x, dx=dx)

    model = GAN(Dense(2, 2), Sequential(Dense(2, 2), Failing(), Dense(2, 1)), 2)
    points = np.ones((4, 2), np.float32)
    before = [p.value for p in model.parameters()]
    with pytest.raises(MemoryError):
        model.train_step(points, points, *dcgan_optimizers(model))
    assert not any(p.grad.any() for p in model.parameters())
    assert all(p.value is value for p, value in zip(model.parameters(), before, strict=True))


def test_a_model_without_parameters_draws_samples():
    class Halves(Layer):
        def forward(self, x):
            y = np.concatenate([x, x], axis=1)
            return y, self.pullback(y, dx=lambda dy: dy[:, :2] + dy[:, 2:])

    assert VAE(Halves(), Flatten(), 2).sample(3, np.random.default_rng(0)).shape == (3, 2)


# --- the value of the game ------------------------------------------------------------------------------------------


def judge_of_one_number(backend, loss, dtype, weight=1.0, smoothing=0.0) -> GAN:
    """G(z) = weight · z and s(x) = x."""
    model = GAN(Dense(1, 1), Dense(1, 1), 1, loss=loss, smoothing=smoothing)
    model.generator.W.value = np.array([[weight]], np.float32)
    model.discriminator.W.value = np.array([[1.0]], np.float32)
    return model.astype(dtype).to(backend.name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_gan_loss
def test_losses_and_gradients_at_logits_of_ten_thousand(loss, dtype, backend):
    """One sample on either side of each player's error; all numbers are exact."""
    model = judge_of_one_number(backend, loss, dtype, 1e4)
    real, z = backend.arrays(np.array([[1e4], [-1e4]], dtype), np.array([[1.0], [-1.0]], dtype))
    d_loss, backward = model.discriminator_loss(real, z)
    backward()
    D, G = model.discriminator, model.generator
    assert d_loss == 1e4  # half the real, half the fake samples cost 10⁴
    assert_array_equal(D.W.grad, [[1e4]])  # σ(s) − 1 = −1 at x = −10⁴, σ(s) = 1 at x = 10⁴, both halved
    assert_array_equal(D.b.grad, [0])
    g_loss, backward = model.generator_loss(z)
    backward()
    sign = 1 if loss == "non-saturating" else -1
    assert g_loss == sign * 5e3
    assert_array_equal(G.W.grad, [[sign * 0.5]])
    assert_array_equal(G.b.grad, [-0.5])
    assert d_loss.dtype == g_loss.dtype == D.W.grad.dtype == dtype
    with np.errstate(all="raise", under="ignore"):  # e^(−10⁴) is 0
        losses = model.train_step(real, z, *dcgan_optimizers(model))
    assert all(np.isfinite(host(loss)) for loss in losses)
    assert all(np.isfinite(a).all() for a in values(model))


def test_a_sure_discriminator_leaves_the_generator_a_gradient(backend):
    """Where D is right by 10⁴, the gradient of the non-saturating loss is −1 for each sample; of minimax it is 0."""
    z = backend.array(np.ones((4, 1), np.float32))
    gradients = {}
    for loss in LOSSES:
        model = judge_of_one_number(backend, loss, np.float32, -1e4)
        model.generator_loss(z)[1]()
        gradients[loss] = host(model.generator.b.grad)[0]
    assert gradients == {"non-saturating": -1, "minimax": 0}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
@every_gan_loss
def test_losses_of_the_game_by_hand(loss, smoothing, backend):
    """One real sample with D(x) = p and one fake with D(G(z)) = q."""
    model = judge_of_one_number(backend, loss, np.float64, 1.0, smoothing)
    s, f = 0.7, -1.3
    p, q = 1 / (1 + exp(-s)), 1 / (1 + exp(-f))
    real, z = backend.arrays(np.array([[s]]), np.array([[f]]))
    smoothed = -(1 - smoothing) * log(p) - smoothing * log(1 - p) - log(1 - q)
    assert host(model.discriminator_loss(real, z)[0]) == pytest.approx(smoothed)
    assert host(model.generator_loss(z)[0]) == pytest.approx(-log(q) if loss == "non-saturating" else log(1 - q))
    assert host(model.value(real, z)) == pytest.approx(log(p) + log(1 - q))
    played = model.play(real, z, Adam(model.discriminator.parameters(), 1e-9))
    assert host(played.d_loss) == pytest.approx(smoothed)
    assert played.g_loss is None
    means = host(mean_probability(played.s_real)), host(mean_probability(played.s_fake))
    assert means == (pytest.approx(p), pytest.approx(q))


@every_gan_loss
def test_the_loss_of_d_is_the_negative_value_and_minimax_is_ds_term_of_it(loss, backend, rng):
    """L_D = −V, and the players' gradients of V are opposite: minimax descends what D ascends."""
    model, real, z = gan_and_batch("points", rng, backend, loss=loss)  # no BatchNorm: inference is training
    value = float(model.value(real, z))
    assert host(model.discriminator_loss(real, z)[0]) == pytest.approx(-value, rel=1e-12)
    if loss == "minimax":
        s_real = host(model.discriminator.predict(real))
        term = -np.log1p(np.exp(-s_real)).mean()
        assert host(model.generator_loss(z)[0]) == pytest.approx(value - term, rel=1e-12)


def test_at_the_equilibrium_the_value_is_minus_log_4(backend, rng):
    model, real, z = gan_and_batch("points", rng, backend)
    for p in model.discriminator.parameters():
        p.value = 0 * p.value  # D = ½ everywhere
    assert host(model.value(real, z)) == pytest.approx(-log(4))
    assert host(model.discriminator_loss(real, z)[0]) == pytest.approx(log(4))
    assert host(model.generator_loss(z)[0]) == pytest.approx(log(2))


def test_batches_of_real_and_fake_may_differ_in_size(backend, rng):
    """Each is averaged over its own samples: doubled batches change nothing."""
    model, real, z = gan_and_batch("points", rng, backend)
    loss, tile = float(model.discriminator_loss(real, z)[0]), backend.xp.tile
    assert host(model.discriminator_loss(tile(real, (2, 1)), z)[0]) == pytest.approx(loss, rel=1e-12)
    assert host(model.discriminator_loss(real, tile(z, (3, 1)))[0]) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("logvar", [-1e4, -80.0, 80.0])
def test_extreme_variances_of_q(logvar, dtype, backend, rng):
    """Collapsed to a point or as wide as float32 can square: losses and gradients are finite, the KL is exact."""
    model = dense_vae((3, 2, 1), latent=2, hidden=(4,), likelihood="bernoulli", rng=rng).astype(dtype)
    head = model.encoder.layers[-1]
    head.b.value = np.array([0.5, -0.5, logvar, logvar], dtype)
    head.W.value = np.zeros_like(head.W.value)
    model.to(backend.name)
    x, eps = backend.arrays(rng.random((3, 3, 2, 1)).astype(dtype), rng.standard_normal((3, 2)).astype(dtype))
    loss, backward = model.loss(x, eps)
    backward()
    assert np.isfinite(host(loss))
    assert all(np.isfinite(host(p.grad)).all() for p in model.parameters())
    assert host(model.terms(x, eps).kl) == pytest.approx(0.25 + exp(logvar) - 1 - logvar, rel=1e-6)
    if logvar < 0:
        assert_allclose(head.b.grad[2:], -0.5, rtol=1e-5)  # the KL's alone: z no longer feels logvar
        assert_allclose(model.reconstruct(x, eps), model.reconstruct(x), rtol=1e-6)
    else:
        assert_allclose(head.b.grad[2:], 0.5 * exp(80), rtol=1e-5)
    assert np.isfinite(model.log_likelihood(x, 5, rng)).all()


# --- architecture ---------------------------------------------------------------------------------------------------

# The outputs of all layers for 28 pixels, and for 64 as PyTorch's DCGAN example comments them, with ngf = ndf = 64.
SHAPES = {
    28: (
        [(1, 1, 100), *[(7, 7, 128)] * 3, *[(14, 14, 64)] * 3, *[(28, 28, 1)] * 2],
        [*[(14, 14, 64)] * 2, *[(7, 7, 128)] * 3, (1, 1, 1), (1,)],
    ),
    64: (
        [
            (1, 1, 100),
            *[(4, 4, 512)] * 3,
            *[(8, 8, 256)] * 3,
            *[(16, 16, 128)] * 3,
            *[(32, 32, 64)] * 3,
            *[(64, 64, 3)] * 2,
        ],
        [*[(32, 32, 64)] * 2, *[(16, 16, 128)] * 3, *[(8, 8, 256)] * 3, *[(4, 4, 512)] * 3, (1, 1, 1), (1,)],
    ),
}


def outputs(network, x) -> list[tuple]:
    shapes = []
    for layer in network.layers:
        x, _ = layer.forward(x)
        shapes.append(x.shape[1:])
    return shapes


@pytest.mark.parametrize(("image", "channels"), [(28, 1), (64, 3)])
def test_shapes_of_dcgan(image, channels, rng):
    model = dcgan((image, image, channels), rng=rng)
    z = model.noise(2, rng)
    assert z.shape == (2, 100)
    generator, discriminator = SHAPES[image]
    assert outputs(model.generator, z) == generator
    assert outputs(model.discriminator, rng.random((2, image, image, channels), np.float32)) == discriminator


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("image", "base", "depth"),
    [
        ((28, 28), (7, 7), 2),
        ((32, 32), (4, 4), 3),
        ((64, 64), (4, 4), 4),
        ((128, 128), (4, 4), 5),
        ((32, 64), (2, 4), 4),
        ((48, 16), (6, 2), 3),
    ],
)
def test_architecture_of_dcgan(image, base, depth, channels, rng):
    """Layer by layer: kinds, windows, no bias, BatchNorm everywhere but at G's output and D's input."""
    width, latent = 3, 5
    model = dcgan((*image, channels), latent, width, rng=rng)
    G, D = model.generator.layers, model.discriminator.layers
    assert [type(layer) for layer in G] == [
        Reshape,
        *[ConvTranspose2d, BatchNorm, ReLU] * depth,
        ConvTranspose2d,
        Tanh,
    ]
    assert [type(layer) for layer in D] == [
        Conv2d,
        LeakyReLU,
        *[Conv2d, BatchNorm, LeakyReLU] * (depth - 1),
        Conv2d,
        Flatten,
    ]
    inwards = [width * 2**i for i in range(depth)]
    up = [layer.W.value.shape for layer in G if hasattr(layer, "fans")]
    down = [layer.W.value.shape for layer in D if hasattr(layer, "fans")]
    sides = [(4, 4)] * depth
    chain = [latent, *inwards[::-1], channels]
    assert up == [(*k, out, n) for k, out, n in zip([base, *sides], chain[1:], chain[:-1], strict=True)]
    chain = [channels, *inwards, 1]
    assert down == [(*k, n, out) for k, n, out in zip([*sides, base], chain[:-1], chain[1:], strict=True)]
    for layer in G + D:
        assert getattr(layer, "b", None) is None
    assert {(layer.eps, layer.momentum) for layer in G + D if isinstance(layer, BatchNorm)} == {(1e-5, 0.1)}
    assert {layer.slope for layer in D if isinstance(layer, LeakyReLU)} == {0.2}
    fake, _ = model.generator.forward(model.noise(2, rng))
    assert fake.shape == (2, *image, channels)
    assert np.abs(fake).max() <= 1
    assert model.discriminator.forward(fake)[0].shape == (2, 1)


def test_first_weights_of_dcgan(rng):
    model = dcgan(rng=rng)
    for layer in model.modules():
        if hasattr(layer, "fans"):
            W = layer.W.value
            assert abs(W.std() / 0.02 - 1) < 6 / np.sqrt(2 * W.size)
            assert abs(W.mean()) < 6 * 0.02 / np.sqrt(W.size)
            assert np.abs(W).max() > 0.05  # normal, not uniform: that ends at 0.035
        elif isinstance(layer, BatchNorm):
            assert (layer.gamma.value == 1).all()
            assert (layer.beta.value == 0).all()
    d, g = dcgan_optimizers(model)
    assert (d.lr, d.betas, g.lr, g.betas) == (2e-4, (0.5, 0.999), 2e-4, (0.5, 0.999))
    assert {id(p) for p in d.parameters} == {id(p) for p in model.discriminator.parameters()}
    assert {id(p) for p in g.parameters} == {id(p) for p in model.generator.parameters()}


SIDES = (8, 9, 10, 11, 12, 14, 16, 20, 25, 27, 28, 30, 33, 48, 63, 100, 112)


@pytest.mark.parametrize("smallest", [7, 4, 2])
@pytest.mark.parametrize("image", [*zip(SIDES, SIDES, strict=True), (8, 28), (30, 64), (33, 16)], ids=str)
def test_other_sizes_of_dcgan(image, smallest, backend, rng):
    model = dcgan((*image, 1), 2, 1, smallest=smallest, rng=rng).to(backend.name)
    fake = x = model.generate(backend.array(model.noise(1, rng)))
    assert fake.shape == (1, *image, 1)
    assert model.discriminator.predict(fake).shape == (1, 1)
    sizes = []
    for layer in model.discriminator.layers:
        x = layer.predict(x)
        sizes += [x.shape[1:3]] if isinstance(layer, Conv2d) else []
    *halved, last = sizes
    assert halved == halvings(*image, smallest)
    assert last == (1, 1)


def halvings(height: int, width: int, smallest: int) -> list[tuple[int, int]]:
    """Half of both sides, rounded up, again and again, until neither has more than `smallest`."""
    sizes = []
    while height > smallest or width > smallest:
        height, width = height // 2 + height % 2, width // 2 + width % 2
        sizes.append((height, width))
    return sizes


@pytest.mark.parametrize(
    ("shape", "expected"), [((28, 28, 1), (0.031608112, -0.021443995)), ((45, 45, 2), (-0.025998175, -0.010145152))]
)
def test_weights_of_a_square_dcgan_are_drawn_as_ever(shape, expected):
    """The first and the last number, as they were when it knew squares only."""
    model = dcgan(shape, 3, 2, smallest=4, rng=np.random.default_rng(7))
    first, *_, last = [p.value for p in model.parameters() if p.name == "W"]
    assert (first.ravel()[0], last.ravel()[-1]) == pytest.approx(expected, rel=1e-6)


def kinds(network) -> list[str]:
    return [
        f"{layer.W.value.shape[0]}-{layer.W.value.shape[1]}" if isinstance(layer, Dense) else type(layer).__name__
        for layer in network.layers
    ]


def test_architecture_of_the_dense_gan(rng):
    model = dense_gan(rng=rng)
    assert kinds(model.generator) == [
        *("100-128", "LeakyReLU", "128-256", "BatchNorm", "LeakyReLU", "256-512", "BatchNorm", "LeakyReLU"),
        *("512-1024", "BatchNorm", "LeakyReLU", "1024-784", "Tanh", "Reshape"),
    ]
    assert kinds(model.discriminator) == ["Flatten", "784-512", "LeakyReLU", "512-256", "LeakyReLU", "256-1"]
    layers = model.generator.layers + model.discriminator.layers
    assert {layer.slope for layer in layers if isinstance(layer, LeakyReLU)} == {0.2}
    assert {(layer.eps, layer.momentum) for layer in layers if isinstance(layer, BatchNorm)} == {(1e-5, 0.1)}
    fake = model.generate(model.noise(2, rng))
    assert fake.shape == (2, 28, 28, 1)
    assert np.abs(fake).max() <= 1
    assert model.discriminator.predict(fake).shape == (2, 1)


def test_architecture_of_the_others(rng):
    points = point_gan(3, latent=4, hidden=(6, 5), rng=rng)
    assert kinds(points.generator) == ["4-6", "ReLU", "6-5", "ReLU", "5-3"]
    assert kinds(points.discriminator) == ["3-6", "ReLU", "6-5", "ReLU", "5-1"]
    default = point_gan(rng=rng)
    assert (kinds(default.generator)[0], kinds(default.generator)[-1]) == ("2-128", "128-2")
    assert (kinds(default.discriminator)[0], kinds(default.discriminator)[-1]) == ("2-128", "128-1")
    vae = dense_vae(rng=rng)
    assert kinds(vae.encoder) == ["Flatten", "784-400", "ReLU", "400-40"]
    assert kinds(vae.decoder) == ["20-400", "ReLU", "400-784", "Reshape"]
    vae = conv_vae(rng=rng)
    assert kinds(vae.encoder) == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Flatten", "3136-40"]
    assert kinds(vae.decoder) == ["20-3136", "ReLU", "Reshape", "ConvTranspose2d", "ReLU", "ConvTranspose2d"]
    assert [a.shape for a in values(vae.encoder)][::2] == [(4, 4, 1, 32), (4, 4, 32, 64), (3136, 40)]
    ae = dense_autoencoder(rng=rng)
    assert kinds(ae.encoder) == ["Flatten", "784-512", "ReLU", "512-128", "ReLU", "128-32"]
    assert kinds(ae.decoder) == ["32-128", "ReLU", "128-512", "ReLU", "512-784", "Reshape"]
    for model in (points, vae, ae):
        assert all(layer.b is not None for layer in model.modules() if hasattr(layer, "fans"))


@pytest.mark.parametrize("build", [dense_vae, conv_vae])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (9, 7, 2), (4, 4, 1)])
def test_vaes_fit_images_of_any_size(build, likelihood, shape, backend, rng):
    model = build(shape, latent=3, likelihood=likelihood, rng=rng).to(backend.name)
    x = backend.array(rng.random((2, *shape), np.float32))
    assert [a.shape for a in model.encode(x)] == [(2, 3), (2, 3)]
    assert model.reconstruct(x).shape == model.sample(2, rng).shape == x.shape
    assert isinstance(model.likelihood, Bernoulli if likelihood == "bernoulli" else Gaussian)
    assert model.log_likelihood(x, 3, rng).shape == (2,)
    assert model.beta == 1


def test_the_first_output_of_a_vae_is_near_zero(rng):
    for build in (dense_vae, conv_vae):
        model = build(rng=rng)
        assert np.abs(model.decoder.predict(rng.standard_normal((8, 20), np.float32))).max() < 0.1


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_hand_on_what_they_are_given(name):
    model = BUILDERS[name](latent=3)
    assert model.latent == 3
    if isinstance(model, VAE):
        assert (model.beta, type(model.likelihood)) == (1, Bernoulli)
        likelihood = Gaussian(0.7, learn=False)
        model = BUILDERS[name](beta=2.5, likelihood=likelihood)
        assert model.beta == 2.5
        assert model.likelihood is likelihood
    else:
        assert (model.loss_name, model.smoothing, model.prior) == ("non-saturating", 0, "normal")
        model = BUILDERS[name](loss="minimax", smoothing=0.25, prior="uniform")
        assert (model.loss_name, model.smoothing, model.prior) == ("minimax", 0.25, "uniform")


def test_first_weights_of_the_other_models(rng):
    """Glorot-uniform in the GANs; in the VAE He ahead of a ReLU, Glorot at the code, 10⁻³ at the pixels."""
    for model in (dense_gan(rng=rng), point_gan(hidden=(200, 100), rng=rng)):
        for layer in model.modules():
            if isinstance(layer, Dense):
                limit = np.sqrt(6 / sum(layer.W.value.shape))
                assert np.abs(layer.W.value).max() <= limit
                assert layer.W.value.std() == pytest.approx(limit / np.sqrt(3), rel=6 / np.sqrt(layer.W.value.size))
                assert not layer.b.value.any()
    vae = dense_vae(rng=rng)
    spreads = [W.std() for W in values(vae)[::2]]
    expected = [np.sqrt(2 / 784), np.sqrt(2 / (400 + 40)), np.sqrt(2 / 20), 1e-3]
    assert_allclose(spreads, expected, rtol=0.05)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_seed_fixes_the_model(name):
    first, again, other = (BUILDERS[name](rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    for a, b in zip(values(first), values(again), strict=True):
        assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(values(first), values(other), strict=True))


# --- one float only -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("build", [dense_vae, conv_vae])
def test_a_vae_knows_one_float(build, likelihood, dtype, backend, rng, monkeypatch):
    model = build((5, 4, 1), latent=2, likelihood=LIKELIHOODS[likelihood](), beta=0.5, rng=rng).astype(dtype)
    model.to(backend.name)
    optimizer = Adam(model.parameters(), np.float64(0.01))
    x, eps = backend.arrays(rng.random((4, 5, 4, 1)).astype(dtype), rng.standard_normal((4, 2)).astype(dtype))
    inside = record_dtypes(monkeypatch, model)
    found = [
        model.train_step(x, eps, optimizer),
        *model.terms_and_pullback(x, eps)[0],
        *model.terms(x, eps),
        model.predict_loss(x, eps),
        model.loss(x, eps)[0],
    ]
    found += [*model.encode(x), model.reconstruct(x), model.reconstruct(x, eps), model.sample(2, rng)]
    found += [*model.state().values(), *optimizer.m, *optimizer.v, *(p.grad for p in model.parameters())]
    assert {a.dtype for a in found} | inside == {np.dtype(dtype)}
    assert model.log_likelihood(x, 2, rng).dtype == np.float64  # a measure


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_gan
@every_gan_loss
def test_a_gan_knows_one_float(kind, loss, dtype, backend, rng, monkeypatch):
    model, real, z = gan_and_batch(kind, rng, backend, loss=loss, smoothing=0.1)
    model.astype(dtype)
    real, z = real.astype(dtype), z.astype(dtype)
    d, g = dcgan_optimizers(model, np.float64(1e-3))
    inside = record_dtypes(monkeypatch, model)
    played = model.play(real, z, d, g)
    found = [*played, mean_probability(played.s_real), *model.train_step(real, z, d, g)]
    found += [model.discriminator_step(real, z, d), model.generate(z), model.value(real, z)]
    found += [*model.state().values(), *d.m, *d.v, *g.m, *g.v, *(p.grad for p in model.parameters())]
    assert {a.dtype for a in found} | inside == {np.dtype(dtype)}


def record_dtypes(monkeypatch, model) -> set:
    """The dtypes of all that goes in and out of any layer of the model, forwards and backwards."""
    seen = set()
    for layer in [m for m in model.modules() if isinstance(m, Layer) and not isinstance(m, Sequential)]:

        def forward(x, original=layer.forward):
            y, backward = original(x)
            seen.update((x.dtype, y.dtype))

            def recorded(dy):
                dx = backward(dy)
                seen.update((dy.dtype, dx.dtype))
                return dx

            return y, recorded

        monkeypatch.setattr(layer, "forward", forward, raising=False)
    return seen


@pytest.mark.parametrize("kind", ["VAE", "GAN"])
def test_a_step_writes_into_nothing_it_is_given(kind, backend, rng):
    """Batches and noise are as they were, and the arrays that the parameters held before."""
    if kind == "GAN":
        model, *batch = gan_and_batch("DCGAN", rng, backend)
        optimizers = dcgan_optimizers(model)
    else:
        model = conv_vae((5, 4, 1), latent=2, likelihood="gaussian", rng=rng).astype(np.float64)
        batch = backend.arrays(rng.random((4, 5, 4, 1)), rng.standard_normal((4, 2)))
        optimizers = [Adam(model.to(backend.name).parameters())]
    arrays = [*batch, *model.state().values()]
    before = [a.copy() for a in arrays]
    for a in arrays if backend.is_host else ():
        a.flags.writeable = False
    model.train_step(*batch, *optimizers)
    for a, b in zip(arrays, before, strict=True):
        assert_array_equal(a, b)


def test_state_holds_the_whole_model(backend, rng):
    """Weights, running statistics and the learned variance go round, and the copy gives the same pixels."""
    for make, latent in (
        (lambda: dense_vae((3, 2, 1), latent=2, hidden=(4,), likelihood="gaussian"), 2),
        (lambda: dcgan((8, 8, 1), 3, 2), 3),
    ):
        model, other = make().to(backend.name), make()
        for p in model.parameters():
            p.value = p.value + like(p.value, rng.standard_normal(p.value.shape))
        z = backend.array(rng.standard_normal((4, latent), np.float32))
        if isinstance(model, GAN):
            model.generator_loss(z)
            assert "generator.2.running_mean" in model.state()
        else:
            assert "likelihood.logvar" in model.state()
        other.load_state(model.state())  # from here to there, and moved only then
        other.to(backend.name)
        use = GAN.generate if isinstance(model, GAN) else VAE.decode
        assert_array_equal(use(model, z), use(other, z))


def test_global_random_state_is_left_alone(rng):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for build in BUILDERS.values():
        build()
    model = small_vae()
    model.sample(2), model.log_likelihood(ones(3, 6), 2)
    point_gan().noise(2, rng)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_pixels_are_counted_by_the_image(rng):
    """`sample` and `decode` give whole images."""
    model = dense_vae((3, 2, 2), latent=2, hidden=(4,), rng=rng)
    assert model.sample(5, rng).shape == (5, 3, 2, 2)
    assert prod(model.decode(ones(1, 2)).shape) == 12
    assert (model.sample(5, rng) > 0).all()
    assert (model.sample(5, rng) < 1).all()


def test_small_log_probabilities_are_not_lost(backend):
    """log_prob takes x·y − softplus(y), which cancels in float32; the loss does not: −784 log(1 + e⁻¹⁷)."""
    y, x = backend.arrays(np.full((1, 784), 17, np.float32), ones(1, 784))
    expected = -784 * np.log1p(np.exp(-17.0))
    assert host(-Bernoulli().nll(y, x)[0]) == pytest.approx(expected, rel=1e-5)
    assert host(Bernoulli().log_prob(y, x)[0]) == pytest.approx(expected, rel=1e-5)
