"""The game of a GAN: whose step moves whom, its losses and its value, its noise."""

from math import exp, log

import numpy as np
import pytest
from backends import host
from small_models import (
    LOSSES,
    assert_allclose,
    assert_array_equal,
    assert_no_gradients,
    every_gan,
    every_gan_loss,
    gan_and_batch,
    moved,
    snapshot,
    values,
    without_movement,
)

from scratchgen import GAN, SGD, Adam, Dense, Layer, Sequential, dcgan_optimizers, point_gan
from scratchgen.models.gan import mean_probability


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


def test_a_gan_learns_where_points_lie(backend, rng):
    model = point_gan(2, latent=2, hidden=(32, 32), rng=rng).to(backend.name)
    optimizers = dcgan_optimizers(model, 2e-3)
    centre = np.array([2, -1], np.float32)
    for _ in range(300):
        real = centre + 0.3 * rng.standard_normal((64, 2), np.float32)
        model.train_step(*backend.arrays(real, model.noise(64, rng)), *optimizers)
    fake = host(model.generate(backend.array(model.noise(1000, rng))))
    assert np.abs(fake.mean(axis=0) - centre).max() < 1  # from 2 at first


def test_noise_is_a_function_of_the_generator_that_is_passed():
    model = point_gan()
    first, again = (model.noise(4, np.random.default_rng(3)) for _ in range(2))
    assert_array_equal(first, again)
    assert (model.noise(4, np.random.default_rng(4)) != first).all()
    assert (model.noise(4, rng := np.random.default_rng(3)) != model.noise(4, rng)).all()


def test_a_player_that_is_empty_to_python_is_a_player():
    class Counted(Sequential):
        def __len__(self):
            return 0

    model = GAN(Counted(Dense(2, 2)), Counted(Dense(2, 1)), 2)
    points = np.ones((4, 2), np.float32)
    model.train_step(points, points, *dcgan_optimizers(model))


@pytest.mark.parametrize("term", [1, 2], ids=["real", "fake"])
def test_a_term_that_fails_half_way_leaves_no_gradient(term):
    """As when Ctrl-C comes."""

    class Failing(Layer):
        passes = 0

        def forward(self, x):
            self.passes += 1
            fails = self.passes == term

            def dx(dy):
                if fails:
                    raise KeyboardInterrupt
                return dy

            return x + 0, self.pullback(x, dx=dx)

    model = GAN(Dense(2, 2), Sequential(Dense(2, 2), Failing(), Dense(2, 1)), 2)
    points = np.ones((4, 2), np.float32)
    before = [p.value for p in model.parameters()]
    with pytest.raises(KeyboardInterrupt):
        model.train_step(points, points, *dcgan_optimizers(model))
    assert not any(p.grad.any() for p in model.parameters())
    assert all(p.value is value for p, value in zip(model.parameters(), before, strict=True))


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
