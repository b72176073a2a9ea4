"""The VAE: its sampler, its likelihoods, its bound.

What a gradient check cannot see: a wrong sampler has right gradients of a wrong loss, so moments of z are
measured and a linear-Gaussian VAE is held against its likelihood in closed form.
"""

from itertools import product
from math import exp, log, log1p, pi, prod

import numpy as np
import pytest
from backends import host, like
from refusals import ones, refuses
from small_models import (
    LIKELIHOODS,
    assert_allclose,
    assert_array_equal,
    assert_no_gradients,
    randomised,
    snapshot,
    without_movement,
)

import scratchgen as sg
from scratchgen import (
    SGD,
    VAE,
    Adam,
    Bernoulli,
    Dense,
    Flatten,
    Gaussian,
    Layer,
    conv_autoencoder,
    dense_autoencoder,
    dense_vae,
    gaussian_kl,
)
from scratchgen.models import vae as vae_module


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


def test_a_model_without_parameters_draws_samples():
    class Halves(Layer):
        def forward(self, x):
            y = np.concatenate([x, x], axis=1)
            return y, self.pullback(y, dx=lambda dy: dy[:, :2] + dy[:, 2:])

    assert VAE(Halves(), Flatten(), 2).sample(3, np.random.default_rng(0)).shape == (3, 2)
