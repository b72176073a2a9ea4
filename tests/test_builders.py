"""The models that the library builds: architecture, sizes, first weights."""

import numpy as np
import pytest
from small_models import BUILDERS, assert_allclose, assert_array_equal, values

from scratchgen import (
    VAE,
    BatchNorm,
    Bernoulli,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Gaussian,
    LeakyReLU,
    ReLU,
    Reshape,
    Tanh,
    conv_vae,
    dcgan,
    dcgan_optimizers,
    dense_autoencoder,
    dense_gan,
    dense_vae,
    point_gan,
)

# --- architecture ---------------------------------------------------------------------------------------------------

# The outputs of all layers for 28 pixels, and for 64 as PyTorch's DCGAN example comments them, with ngf = ndf = 64.
SHAPES = {
    28: (
        [(1, 1, 100), *[(4, 4, 256)] * 3, *[(7, 7, 128)] * 3, *[(14, 14, 64)] * 3, *[(28, 28, 1)] * 2],
        [*[(14, 14, 64)] * 2, *[(7, 7, 128)] * 3, *[(4, 4, 256)] * 3, (1, 1, 1), (1,)],
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
        ((28, 28), (4, 4), 3),
        ((32, 32), (4, 4), 3),
        ((64, 64), (4, 4), 4),
        ((128, 128), (4, 4), 5),
        ((32, 64), (2, 4), 4),
        ((48, 16), (3, 1), 4),
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
    sides = [(4 - h % 2, 4 - w % 2) for h, w in [image, *halvings(*image, 4)][:-1]]  # 3 along an odd side
    chain = [latent, *inwards[::-1], channels]
    assert up == [(*k, out, n) for k, out, n in zip([base, *sides[::-1]], chain[1:], chain[:-1], strict=True)]
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


@pytest.mark.parametrize(
    ("shape", "expected"), [((28, 28, 1), (0.031608112, -0.021443995)), ((45, 45, 2), (-0.025998175, -0.010145152))]
)
def test_weights_of_a_square_dcgan_are_drawn_as_ever(shape, expected):
    """The first and the last number, as they were when it knew squares only."""
    model = dcgan(shape, 3, 2, smallest=4, rng=np.random.default_rng(7))
    first, *_, last = [p.value for p in model.parameters() if p.name == "W"]
    assert (first.ravel()[0], last.ravel()[-1]) == pytest.approx(expected, rel=1e-6)
