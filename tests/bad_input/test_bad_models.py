"""Bad input to models: settings, batches, noise, networks that do not meet, and optimizers of others."""

import copy
import re
from functools import partial

import numpy as np
import pytest
import refusals
from refusals import binary, every_outside, ones
from small_models import (
    BUILDERS,
    assert_no_gradients,
    every_gan,
    gan_and_batch,
    moved,
    normed_gan,
    small_vae,
    snapshot,
)

from scratchgen import (
    GAN,
    VAE,
    Adam,
    Autoencoder,
    BatchNorm,
    Dense,
    Flatten,
    Gaussian,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    conv_autoencoder,
    conv_vae,
    dcgan,
    dcgan_optimizers,
    dense_autoencoder,
    dense_gan,
    dense_vae,
    frozen,
    point_gan,
)


def refuses(*call, owners=()):
    """In one sentence."""
    assert "\n" not in refusals.refuses(*call, owners=owners)


def test_noise_that_was_left_on_the_host(device):
    model = VAE(Sequential(BatchNorm(6), Dense(6, 4)), Sequential(Dense(2, 5), BatchNorm(5), Dense(5, 6)), 2)
    optimizer = Adam(model.to(device.name).parameters())
    x, eps = device.array(ones(3, 6)), ones(3, 2)
    words = "VAE", "eps is a numpy array", f"needs a {device.name} array"
    refuses(lambda: model.train_step(x, eps, optimizer), TypeError, *words, owners=[model, optimizer])
    refuses(lambda: model.reconstruct(x, eps), TypeError, *words, owners=[model])


@pytest.mark.parametrize("which", ["real", "z"])
def test_samples_that_were_left_on_the_host(which, device):
    model = point_gan(hidden=(4,)).to(device.name)
    optimizers = dcgan_optimizers(model)
    real, z = (ones(3, 2) if which == name else device.array(ones(3, 2)) for name in ("real", "z"))
    call = partial(model.train_step, real, z, *optimizers)
    refuses(call, TypeError, "is a numpy array", f"needs a {device.name} array", owners=[model, *optimizers])


IMAGE = (4, 4, 1)
NOISE = np.random.default_rng(1).standard_normal((8, 2), np.float32)


def _with_batchnorm(width, *ends):
    return Sequential(Flatten(), Dense(ends[0], width), BatchNorm(width), ReLU(), Dense(width, ends[1]))


def _vae(**how):
    decoder = Sequential(_with_batchnorm(5, 2, 16), Reshape(*IMAGE))
    return VAE(_with_batchnorm(5, 16, 4), decoder, 2, **how)


def _autoencoder(**how):
    return Autoencoder(_with_batchnorm(5, 16, 2), Sequential(_with_batchnorm(5, 2, 16), Reshape(*IMAGE)), **how)


TAKERS = {  # a model, and its calls with images x
    "Autoencoder": (
        _autoencoder,
        {
            "loss": lambda m, o, x: m.loss(x),
            "train_step": lambda m, o, x: m.train_step(x, o),
            "predict_loss": lambda m, o, x: m.predict_loss(x),
        },
    ),
    "VAE": (
        _vae,
        {
            "loss": lambda m, o, x: m.loss(x, NOISE),
            "train_step": lambda m, o, x: m.train_step(x, NOISE, o),
            "predict_loss": lambda m, o, x: m.predict_loss(x, NOISE),
            "terms": lambda m, o, x: m.terms(x, NOISE),
        },
    ),
}


@every_outside
@pytest.mark.parametrize(("name", "call"), [(name, call) for name, (_, calls) in TAKERS.items() for call in calls])
def test_pixels_of_a_bernoulli_model_are_in_0_1(name, call, spoil, said):
    make, calls = TAKERS[name]
    model = make()
    optimizer = Adam(model.parameters())
    use = partial(calls[call], model, optimizer)
    use(binary(8, *IMAGE))
    bad = spoil(binary(8, *IMAGE)).astype(np.float32)
    mend = "not finite" if "from" not in said else "needs 0 to 1: divide pixels of 0 … 255 by 255, take (x + 1) / 2"
    refuses(partial(use, bad), ValueError, f"{name}: x ", said, mend, owners=[model, optimizer])


def test_other_losses_of_images_take_any_range():
    x = 255 * binary(8, *IMAGE)
    assert np.isfinite(_autoencoder(loss="squared-error").loss(x)[0])
    assert np.isfinite(_vae(likelihood="gaussian").loss(x, NOISE)[0])


@pytest.mark.parametrize("likelihood", ["squared-error", "gaussian"])
def test_images_of_a_model_are_finite(likelihood):
    x = binary(8, *IMAGE)
    x[1, 2, 3] = np.nan
    if likelihood == "gaussian":
        model = _vae(likelihood="gaussian")
        call = lambda: model.train_step(x, NOISE, optimizer)  # noqa: E731
    else:
        model = _autoencoder(loss="squared-error")
        call = lambda: model.train_step(x, optimizer)  # noqa: E731
    optimizer = Adam(model.parameters())
    refuses(call, ValueError, "holds 1 of 128 elements that are not finite", owners=[model, optimizer])


# --- noise and real samples of a game -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_noise_is_finite(bad):
    eps, z = NOISE.copy(), NOISE.copy()
    eps[2, 1] = z[2, 1] = bad
    vae, gan, x = _vae(), _gan(Tanh()), binary(8, *IMAGE)
    optimizers = [Adam(vae.parameters()), *dcgan_optimizers(gan)]
    for call in (
        lambda: vae.loss(x, eps),
        lambda: vae.train_step(x, eps, optimizers[0]),
        lambda: vae.terms(x, eps),
        lambda: vae.reconstruct(x, eps),
    ):
        refuses(call, ValueError, "VAE: eps holds 1 of 16 elements", owners=[vae, optimizers[0]])
    for call in (
        lambda: gan.discriminator_loss(x, z),
        lambda: gan.generator_loss(z),
        lambda: gan.discriminator_step(x, z, optimizers[1]),
        lambda: gan.train_step(x, z, *optimizers[1:]),
    ):
        refuses(call, ValueError, "GAN: z holds 1 of 16 elements", owners=[gan, *optimizers])


def _gan(*end, **how):
    generator = Sequential(_with_batchnorm(5, 2, 16), *end, Reshape(*IMAGE))
    return GAN(generator, _with_batchnorm(5, 16, 1), 2, **how)


def test_noise_is_of_the_prior():
    gan = _gan(Tanh(), prior="uniform")
    optimizers = dcgan_optimizers(gan)
    gan.train_step(binary(8, *IMAGE), gan.noise(8, np.random.default_rng(0)), *optimizers)
    call = partial(gan.train_step, binary(8, *IMAGE), 3 * NOISE, *optimizers)
    refuses(call, ValueError, "GAN: z goes from", "needs -1 to 1, as the prior is", owners=[gan, *optimizers])


RANGES = {  # where a generator ends, images that it can never make, and the words
    "tanh, 0 … 255": ((Tanh(),), lambda u: 255 * u, "real goes from 0 to 255, needs -1 to 1, the range of Tanh()"),
    "tanh, standardised": ((Tanh(),), lambda u: (u - 0.13) / 0.31, "from -0.4194 to 2.806, needs -1 to 1"),
    "tanh in a network in it": ((Sequential(Tanh(), Flatten()),), lambda u: 2 * u, "from 0 to 2, needs -1 to 1"),
    "sigmoid": ((Sigmoid(),), lambda u: 2 * u - 1, "real goes from -1 to 1, needs 0 to 1, the range of Sigmoid()"),
}


@pytest.mark.parametrize(("end", "spoil", "words"), RANGES.values(), ids=RANGES)
def test_real_images_that_a_generator_can_never_make_are_said(end, spoil, words):
    """A game all the same, so it is played; once for each place that plays it, as warnings are."""
    gan = _gan(*copy.deepcopy(end))
    optimizers = dcgan_optimizers(gan)
    real = spoil(binary(8, *IMAGE))
    for call in (
        lambda: gan.discriminator_loss(real, NOISE),
        lambda: gan.discriminator_step(real, NOISE, optimizers[0]),
        lambda: gan.train_step(real, NOISE, *optimizers),
    ):
        with pytest.warns(UserWarning, match=f"^GAN: .*{re.escape(words)}") as caught:
            call()
        assert [w.filename for w in caught] == [__file__]


def test_real_samples_of_a_generator_without_a_range():
    gan = _gan(Dense(16, 16))
    gan.train_step(255 * binary(8, *IMAGE), NOISE, *dcgan_optimizers(gan))
    bad = binary(8, *IMAGE)
    bad[3, 3, 3] = np.nan
    optimizers = dcgan_optimizers(gan)
    call = partial(gan.train_step, bad, NOISE, *optimizers)
    refuses(call, ValueError, "GAN: real holds 1 of 128 elements", owners=[gan, *optimizers])


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "Bernoulli", "", None], ids=repr)
def test_unknown_loss_of_an_autoencoder(loss):
    for make in (lambda **how: Autoencoder(ReLU(), ReLU(), **how), dense_autoencoder, conv_autoencoder):
        refuses(partial(make, loss=loss), ValueError, "Autoencoder", repr(loss), "bernoulli", "squared-error")


@pytest.mark.parametrize("shape", [(3, 28, 1), (28, 3, 1), (1, 1, 1), (2, 2, 3)], ids=str)
def test_images_too_small_for_convolutions(shape):
    for build in (conv_autoencoder, conv_vae):
        refuses(lambda: build(shape), ValueError, build.__name__, f"{shape[0]}×{shape[1]}", "4×4")  # noqa: B023


def _normed(pixels_out):
    """An autoencoder of 6 pixels that gives so many back, with BatchNorm on either side."""
    encoder = Sequential(Dense(6, 4), BatchNorm(4), Dense(4, 2))
    return Autoencoder(encoder, Sequential(Dense(2, 5), BatchNorm(5), Dense(5, pixels_out)))


@pytest.mark.parametrize(
    ("model", "x", "error", "words"),
    [
        (_normed(6), ones(3, 5), ValueError, ["Dense(6, 4)", "(3, 5)", "(N, 6)"]),
        (_normed(6), ones(3, 6, dtype=np.float64), TypeError, ["Dense(6, 4)", "float64", "float32"]),
        (_normed(6), ones(3, 6).tolist(), TypeError, ["Dense(6, 4)", "list", "array"]),
        (_normed(6), ones(1, 6), ValueError, ["BatchNorm(4)", "(1, 4)", "two"]),
        (_normed(7), ones(3, 6), ValueError, ["bce_with_logits", "(3, 6)", "(3, 7)"]),
        (
            Autoencoder(Sequential(BatchNorm(6)), Dense(5, 6)),
            ones(3, 6),
            ValueError,
            ["Dense(5, 6)", "(3, 6)", "(N, 5)"],
        ),
    ],
    ids=["shape", "float", "list", "one sample", "other pixels", "networks that do not meet"],
)
def test_batches_that_do_not_fit_an_autoencoder(model, x, error, words, backend):
    model, x = copy.deepcopy(model).to(backend.name), backend.array(x)
    optimizer = Adam(model.parameters())
    refuses(lambda: model.loss(x), error, *words, owners=[model, optimizer])
    refuses(lambda: model.train_step(x, optimizer), error, *words, owners=[model, optimizer])


def _lacking(kind):
    """A model, a call that trains it by optimizers one of which lacks a parameter, and which that is."""
    x = binary(8, *IMAGE)
    if kind == "VAE":
        model = _vae(likelihood="gaussian")  # whose logvar is learned, too
        optimizer = Adam([*model.encoder.parameters(), *model.decoder.parameters()])
        return model, lambda: model.train_step(x, NOISE, optimizer), [optimizer], [model.likelihood.logvar]
    if kind == "Autoencoder":
        model = _autoencoder()
        optimizer = Adam(model.decoder.parameters())
        return model, lambda: model.train_step(x, optimizer), [optimizer], model.encoder.parameters()
    model = _gan(Tanh())
    optimizers = [Adam(n.parameters()) for n in (model.discriminator, model.generator)]
    at = 0 if kind == "discriminator" else 1
    network = (model.discriminator, model.generator)[at]
    optimizers[at] = Adam(network.parameters()[1:])
    return model, lambda: model.train_step(x, NOISE, *optimizers), optimizers, network.parameters()[:1]


@pytest.mark.parametrize("kind", ["Autoencoder", "VAE", "discriminator", "generator"])
def test_an_optimizer_that_lacks_what_it_should_train(kind):
    """Made too early, or of a part: what it lacks would never move, and its gradients would pile up."""
    model, call, optimizers, lacking = _lacking(kind)
    words = f"lacks {len(lacking)} of ", repr(lacking[0]), "make it of all, or freeze"
    refuses(call, ValueError, *words, owners=[model, *optimizers])
    model.zero_grad()
    before = [p.value.copy() for p in lacking]
    with frozen(*lacking):
        call()
    assert all(np.array_equal(p.value, value) for p, value in zip(lacking, before, strict=True))
    assert not any(p.grad.any() for p in model.parameters())


@every_gan
def test_the_optimizer_of_the_wrong_player_is_refused(kind, backend, rng):
    model, real, z = gan_and_batch(kind, rng, backend)
    d, g = dcgan_optimizers(model)
    both = Adam(model.parameters())
    before = snapshot(model)
    for wrong in ((g, d), (d, d), (g, g), (both, g), (d, both)):
        with pytest.raises(ValueError, match=r"GAN: ._optimizer holds .* parameters that are not its player"):
            model.train_step(real, z, *wrong)
    for wrong in (g, both):
        with pytest.raises(ValueError, match=r"GAN: d_optimizer holds .* that are not its player"):
            model.discriminator_step(real, z, wrong)
    assert moved(model, before) == set()
    assert_no_gradients(model)
    assert (d.t, g.t, both.t) == (0, 0, 0)


@pytest.mark.parametrize(("image", "smallest"), [((3, 3), 7), ((7, 7), 4), ((7, 64), 4), ((64, 7), 4), ((8, 8), 9)])
def test_sizes_that_dcgan_refuses(image, smallest):
    words = f"at least 8 pixels a side, and one of more than smallest = {smallest}$"
    with pytest.raises(ValueError, match=f"dcgan: images are {image[0]}×{image[1]}, needs {words}"):
        dcgan((*image, 1), smallest=smallest)


@pytest.mark.parametrize(
    ("x", "eps", "error", "words"),
    [
        (ones(3, 6), ones(3, 3), ValueError, ["VAE", "eps", "(3, 3)", "(3, 2)"]),
        (ones(3, 6), ones(4, 2), ValueError, ["VAE", "eps", "(4, 2)", "(3, 2)"]),
        (ones(3, 6), ones(1, 2), ValueError, ["VAE", "eps", "(1, 2)", "(3, 2)"]),
        (ones(3, 6), ones(2), ValueError, ["VAE", "eps", "(2,)", "(3, 2)"]),
        (ones(3, 6), ones(3, 2, dtype=np.float64), TypeError, ["VAE", "eps", "float64", "float32"]),
        (ones(3, 6), ones(3, 2, dtype=np.int64), TypeError, ["VAE", "eps", "int64", "float32"]),
        (ones(3, 6), ones(3, 2).tolist(), TypeError, ["VAE", "eps", "list", "array"]),
        (ones(3, 6), None, TypeError, ["VAE", "eps", "None", "array"]),
        (ones(3, 6).tolist(), ones(3, 2), TypeError, ["list", "array"]),
        (None, ones(3, 2), TypeError, ["None", "array"]),
        (3.0, ones(3, 2), TypeError, ["float", "array"]),
        (ones(3, 6, dtype=np.int64), ones(3, 2), TypeError, ["x has", "x.astype(np.float32)"]),
        (ones(3, 5), ones(3, 2), ValueError, ["BatchNorm(6)", "(3, 5)"]),
        (ones(1, 6), ones(1, 2), ValueError, ["BatchNorm(6)", "(1, 6)", "two"]),
        (ones(0, 6), ones(0, 2), ValueError, ["BatchNorm(6)", "empty", "(0, 6)"]),
        (ones(3, 6, dtype=np.float64), ones(3, 2, dtype=np.float64), TypeError, ["float64", "float32"]),
    ],
)
def test_batches_that_do_not_fit_a_vae(x, eps, error, words, backend):
    model = small_vae().to(backend.name)
    x, eps = backend.arrays(x, eps)
    optimizer = Adam(model.parameters())
    refuses(lambda: model.loss(x, eps), error, *words, owners=[model])
    refuses(lambda: model.train_step(x, eps, optimizer), error, *words, owners=[model])
    if "BatchNorm(6)" not in words:
        refuses(lambda: model.terms(x, eps), error, *words, owners=[model])
    if "eps" in words and eps is not None:
        refuses(lambda: model.reconstruct(x, eps), error, *words, owners=[model])
    if "array" in words and "eps" not in words:
        refuses(lambda: model.log_likelihood(x, 2), error, "array", owners=[model])
    if "empty" in words:
        refuses(lambda: model.log_likelihood(x, 2), error, "empty", owners=[model])
    assert optimizer.t == 0


def test_networks_that_do_not_make_a_vae():
    batch = ones(3, 6), ones(3, 2)
    wrong = VAE(Sequential(BatchNorm(6), Dense(6, 2)), Dense(2, 6), 2)  # mu alone
    words = "VAE", "encoder", "(3, 2)", "(N, 4)", "mu and logvar"
    refuses(lambda: wrong.loss(*batch), ValueError, *words, owners=[wrong])
    refuses(lambda: wrong.encode(batch[0]), ValueError, "VAE", "encoder", "(3, 2)", "(N, 4)")
    wrong = VAE(Sequential(BatchNorm(6), Dense(6, 4)), Dense(3, 6), 2)
    refuses(lambda: wrong.loss(*batch), ValueError, "Dense(3, 6)", "(3, 2)", owners=[wrong])
    wrong = VAE(Sequential(BatchNorm(6), Dense(6, 4)), Dense(2, 7), 2)
    refuses(lambda: wrong.loss(*batch), ValueError, "bce_with_logits", "(3, 6)", "(3, 7)", owners=[wrong])
    wrong = VAE(Sequential(BatchNorm(6), Dense(6, 4)), Dense(2, 1), 2)  # one pixel for six
    refuses(lambda: wrong.loss(*batch), ValueError, "bce_with_logits", "(3, 6)", "(3, 1)", owners=[wrong])
    image = VAE(Sequential(BatchNorm(6), Reshape(2, 2, 1)), Dense(2, 6), 2)
    refuses(lambda: image.encode(ones(3, 6)), ValueError)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"likelihood": "poisson"}, ValueError, ["likelihood", "'poisson'", "'bernoulli'", "'gaussian'"]),
        ({"likelihood": ""}, ValueError, ["likelihood", "''"]),
        ({"beta": -0.1}, ValueError, ["beta", "-0.1", "at least 0"]),
        ({"beta": float("nan")}, ValueError, ["beta", "nan"]),
        ({"beta": float("inf")}, ValueError, ["beta", "inf"]),
        ({"beta": "1"}, TypeError, ["beta", "'1'"]),
        ({"beta": None}, TypeError, ["beta", "None"]),
    ],
    ids=str,
)
def test_settings_of_a_vae(how, error, words):
    refuses(lambda: VAE(Dense(2, 4), Dense(2, 2), 2, **how), error, "VAE", *words)
    refuses(lambda: dense_vae((3, 2, 1), **how), error, "VAE", *words)
    refuses(lambda: conv_vae((4, 4, 1), **how), error, "VAE", *words)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"loss": "wasserstein"}, ValueError, ["loss", "'wasserstein'", "'non-saturating'", "'minimax'"]),
        ({"loss": None}, ValueError, ["loss", "None"]),
        ({"prior": "gaussian"}, ValueError, ["prior", "'gaussian'", "'normal'", "'uniform'"]),
        ({"smoothing": 1.0}, ValueError, ["smoothing", "1.0", "below 1"]),
        ({"smoothing": -0.1}, ValueError, ["smoothing", "-0.1", "≥ 0"]),
        ({"smoothing": float("nan")}, ValueError, ["smoothing", "nan"]),
        ({"smoothing": "0.1"}, TypeError, ["smoothing", "'0.1'"]),
    ],
    ids=str,
)
def test_settings_of_a_gan(how, error, words):
    refuses(lambda: GAN(Dense(2, 2), Dense(2, 1), 2, **how), error, "GAN", *words)
    for build in ("dense_gan", "dcgan", "point_gan"):
        refuses(partial(BUILDERS[build], **how), error, "GAN", *words)


AND_AUTOENCODERS = BUILDERS | {"dense_autoencoder": dense_autoencoder, "conv_autoencoder": conv_autoencoder}


@pytest.mark.parametrize("name", AND_AUTOENCODERS)
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"latent": 0}, ValueError),
        ({"latent": -3}, ValueError),
        ({"latent": 2.5}, TypeError),
        ({"latent": "2"}, TypeError),
        ({"rng": 7}, TypeError),
    ],
    ids=str,
)
def test_settings_of_the_builders(name, how, error):
    words = [name, "Generator"] if "rng" in how else ["latent", str(how["latent"]), "needs"]
    refuses(lambda: AND_AUTOENCODERS[name](**how), error, *words)


@pytest.mark.parametrize(
    ("build", "how", "error"),
    [
        (dense_vae, {"hidden": (0,)}, ValueError),
        (dense_vae, {"hidden": (3.5,)}, TypeError),
        (dense_vae, {"hidden": 400}, TypeError),
        (point_gan, {"hidden": 128}, TypeError),
        (point_gan, {"hidden": (0,)}, ValueError),
        (point_gan, {"dimensions": 0}, ValueError),
        (point_gan, {"dimensions": 2.0}, TypeError),
        (conv_vae, {"width": 0}, ValueError),
        (conv_vae, {"width": 1.5}, TypeError),
        (dcgan, {"width": 0}, ValueError),
        (dcgan, {"width": "64"}, TypeError),
        (dcgan, {"image_shape": (7, 32, 1)}, ValueError),
    ],
)
def test_sizes_of_the_builders(build, how, error):
    refuses(lambda: build(**how), error, "needs")


@pytest.mark.parametrize("build", [dense_autoencoder, conv_autoencoder, dense_vae, conv_vae, dense_gan, dcgan])
@pytest.mark.parametrize(
    ("shape", "error", "needs"),
    [
        ((28, 28), ValueError, "(H, W, C)"),
        (28, ValueError, "(H, W, C)"),
        (None, ValueError, "(H, W, C)"),
        ((28, 28, 1, 1), ValueError, "(H, W, C)"),
        ((28, 28, 0), ValueError, "at least 1"),
        ((28, 28, -1), ValueError, "at least 1"),
        ((28, 28, 1.0), TypeError, "integer"),
    ],
    ids=str,
)
def test_image_shape_is_height_width_and_channels(build, shape, error, needs):
    refuses(lambda: build(shape), error, build.__name__, "image_shape", needs)


def test_parts_of_a_model_are_layers():
    layer = Dense(2, 2)
    for make, name in (
        (lambda part: VAE(part, layer, 1), "VAE: encoder"),
        (lambda part: VAE(layer, part, 1), "VAE: decoder"),
        (lambda part: GAN(part, layer, 2), "GAN: generator"),
        (lambda part: GAN(layer, part, 2), "GAN: discriminator"),
        (lambda part: Autoencoder(part, layer), "Autoencoder: encoder"),
        (lambda part: Autoencoder(layer, part), "Autoencoder: decoder"),
    ):
        for part in (None, Dense, lambda x: x, 3):
            refuses(lambda: make(part), TypeError, name, "needs a Layer")  # noqa: B023
    for latent, error in ((0, ValueError), (2.0, TypeError), (True, TypeError), (None, TypeError)):
        refuses(lambda: VAE(layer, layer, latent), error, "VAE: latent")  # noqa: B023
        refuses(lambda: GAN(layer, layer, latent), error, "GAN: latent")  # noqa: B023


@pytest.mark.parametrize(
    ("std", "error"),
    [(0, ValueError), (-1.0, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)],
)
def test_the_spread_of_a_gaussian(std, error):
    for learn in (True, False):
        refuses(lambda: Gaussian(std, learn=learn), error, "Gaussian", "std")  # noqa: B023


@pytest.mark.parametrize(
    ("real", "z", "error", "words"),
    [
        (ones(3, 5), ones(3, 3), ValueError, ["real", "(3, 5)", "(3, 4)"]),
        (ones(3, 1), ones(3, 3), ValueError, ["real", "(3, 1)", "(3, 4)"]),
        (ones(3, 2, 2), ones(3, 3), ValueError, ["real", "(3, 2, 2)", "(3, 4)"]),
        (ones(0, 4), ones(3, 3), ValueError, ["empty", "(0, 4)"]),
        (ones(3, 4, dtype=np.float64), ones(3, 3), TypeError, ["float64", "float32"]),
        (ones(3, 4, dtype=np.int64), ones(3, 3), TypeError, ["int64", "float32"]),
        (ones(3, 4).tolist(), ones(3, 3), TypeError, ["real", "array"]),
        (None, ones(3, 3), TypeError, ["real", "array"]),
        (ones(3, 4), ones(3, 2), ValueError, ["Dense(3, 5", "(3, 2)"]),
        (ones(3, 4), ones(0, 3), ValueError, ["empty", "(0, 3)"]),
        (ones(3, 4), ones(3, 3, dtype=np.float64), TypeError, ["float64", "float32"]),
        (ones(3, 4), ones(3, 3).tolist(), TypeError, ["list", "array"]),
        (ones(3, 4), ones(1, 3), ValueError, ["BatchNorm", "(1, 5)", "two"]),
    ],
)
def test_batches_that_do_not_fit_a_gan(real, z, error, words, backend, rng):
    """Running statistics that G had changed already are put back."""
    model = normed_gan(rng).astype(np.float32).to(backend.name)
    real, z = backend.arrays(real, z)
    d, g = dcgan_optimizers(model)
    refuses(lambda: model.discriminator_loss(real, z), error, *words, owners=[model])
    refuses(lambda: model.train_step(real, z, d, g), error, *words, owners=[model])
    refuses(lambda: model.discriminator_step(real, z, d), error, *words, owners=[model])
    if "real" not in words and len(real) and real.dtype == np.float32:
        refuses(lambda: model.generator_loss(z), error, *words, owners=[model])
    assert (d.t, g.t) == (0, 0)


def test_players_that_do_not_meet_change_nothing(backend, rng):
    """D refuses what G makes: G's running statistics are as before."""
    model = GAN(Sequential(Dense(3, 5), BatchNorm(5)), Sequential(BatchNorm(5), Dense(5, 4), Dense(3, 1)), 3)
    d, g = dcgan_optimizers(model.to(backend.name))
    real, z = backend.arrays(rng.random((4, 5), np.float32), model.noise(4, rng))
    for call in (
        lambda: model.generator_loss(z),
        lambda: model.discriminator_loss(real, z),
        lambda: model.discriminator_step(real, z, d),
        lambda: model.train_step(real, z, d, g),
    ):
        refuses(call, ValueError, "Dense(3, 1)", "(4, 4)", "(N, 3)", owners=[model])


def test_arguments_in_use(rng):
    vae, gan = small_vae(), normed_gan(rng)
    for samples, error in ((0, ValueError), (-1, ValueError), (2.5, TypeError), (None, TypeError)):
        refuses(lambda: vae.log_likelihood(ones(3, 6), samples), error, "VAE.log_likelihood", "samples")  # noqa: B023
    refuses(lambda: vae.log_likelihood(ones(3, 6), 2, 7), TypeError, "VAE.log_likelihood", "rng", "Generator")
    refuses(lambda: vae.log_likelihood(ones(3, 6, dtype=np.float64), 2), TypeError, "float64", "float32")
    for count, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        refuses(lambda: vae.sample(count, rng), error, "VAE.sample", "count")  # noqa: B023
        refuses(lambda: gan.noise(count, rng), error, "GAN.noise", "count")  # noqa: B023
    refuses(lambda: vae.sample(2, 7), TypeError, "VAE.sample", "rng", "Generator")
    refuses(lambda: gan.noise(2, np.random.RandomState(0)), TypeError, "GAN.noise", "rng", "Generator")
    refuses(lambda: vae.decode(ones(3, 3)), ValueError, "Dense(2, 5)", "(3, 3)")
    refuses(lambda: gan.generate(ones(3, 2, dtype=np.float64)), ValueError, "(3, 2)")


@pytest.mark.parametrize("likelihood", [None, 5, Gaussian, [], Dense(2, 2)], ids=repr)
def test_a_likelihood_is_a_name_or_an_object_with_its_methods(likelihood):
    refuses(lambda: VAE(Dense(2, 4), Dense(2, 2), 2, likelihood=likelihood), TypeError, "VAE", "likelihood")


def test_log_likelihood_does_not_broadcast_pixels():
    model = VAE(Dense(6, 4), Dense(2, 1), 2)  # one pixel for six: loss() refuses it
    refuses(lambda: model.log_likelihood(ones(3, 6), 2), ValueError, "(3, 6)")


@pytest.mark.parametrize("wrong", ["None", "parameters", "converted behind it"])
@pytest.mark.parametrize("kind", ["AE", "VAE", "GAN, D's", "GAN, G's"])
def test_a_wrong_optimizer_is_refused_before_anything_changes(kind, wrong):
    rng = np.random.default_rng(0)
    if kind == "AE":
        model = Autoencoder(Dense(6, 2), Dense(2, 6))
        batch, optimizers, at = [rng.random((3, 6))], [Adam(model.parameters())], 0
    elif kind == "VAE":
        model = small_vae()
        batch, optimizers, at = [rng.random((3, 6)), rng.random((3, 2))], [Adam(model.parameters())], 0
    else:
        model = normed_gan(rng).astype(np.float32)
        batch, optimizers = [rng.random((3, 4)), rng.random((3, 3))], list(dcgan_optimizers(model))
        at = 1 if kind == "GAN, G's" else 0
    if wrong == "None":
        optimizers[at] = None
    elif wrong == "parameters":
        optimizers[at] = optimizers[at].parameters
    model.astype(np.float64)
    if "GAN" in kind or wrong != "converted behind it":  # renew the others
        for i, o in enumerate(optimizers):
            if isinstance(o, Adam) and not (wrong == "converted behind it" and i == at):
                optimizers[i] = Adam(o.parameters)
    refuses(lambda: model.train_step(*batch, *optimizers), TypeError, owners=[model])


def test_the_optimizer_of_another_model_is_refused():
    """Nothing of this model would ever move, and its gradients would pile up."""
    model, other = point_gan(hidden=(4,)), point_gan(hidden=(4,))
    real = z = ones(3, 2)
    refuses(lambda: model.train_step(real, z, *dcgan_optimizers(other)), ValueError, "optimizer", owners=[model])
