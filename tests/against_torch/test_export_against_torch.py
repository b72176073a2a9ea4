"""What is exported to PyTorch gives the same there: models, modules of one's own, drawn networks."""

import importlib.util
import sys
from math import prod

import numpy as np
import pytest
from exports import Laplace, drawn
from safetensors.numpy import load_file

from scratchgen import (
    GAN,
    VAE,
    Autoencoder,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    Gaussian,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RandomCutout,
    RandomFlip,
    RandomShift,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    conv_autoencoder,
    conv_vae,
    dcgan,
    dense_autoencoder,
    dense_gan,
    dense_vae,
    point_gan,
)
from scratchgen.export import export_torch

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}


def first(x):
    """A batch with its channels first, as PyTorch has it."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def loaded(paths, **options):
    """What `load` of the exported .py gives."""
    spec = importlib.util.spec_from_file_location("exported", paths[1])
    module = importlib.util.module_from_spec(spec)
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    net = module.load(**options)
    assert not any(part.training for part in net.modules())
    return net


def assert_same(torch, ours, theirs, shape, *, dtype=np.float64, seed: int = 1, samples: int = 3):
    """Both networks give the same for random samples, channels first there; max|difference| by max|value|."""
    x = np.random.default_rng(seed).standard_normal((samples, *shape)).astype(dtype)
    y = first(ours.predict(x))
    with torch.no_grad():
        there = theirs(torch.tensor(first(x))).numpy()
    assert (there.shape, there.dtype) == (y.shape, dtype)
    assert y.std() > 1e-3 * np.abs(y).max()  # it says something
    difference = np.abs(there - y).max() / np.abs(y).max()
    assert difference <= TOLERANCE[dtype], f"relative difference {difference:.2g}"


def named(make, *args, **options):
    words = [str(a) for a in args] + [f"{k}={v}" for k, v in options.items()]
    return pytest.param(lambda: make(*args, **options), id=f"{make.__name__}({', '.join(words)})")


SMALL = {"width": 4}
MODELS = [
    *(named(dense_autoencoder, shape, hidden=(20,), latent=5) for shape in ((6, 5, 1), (3, 5, 3))),
    named(dense_autoencoder, (4, 5, 3), hidden=(20, 10), loss="squared-error"),
    *(named(conv_autoencoder, shape, latent=5, **SMALL) for shape in ((28, 28, 1), (9, 6, 3), (4, 4, 2), (5, 11, 1))),
    named(conv_autoencoder, (9, 6, 3), loss="squared-error", **SMALL),
    *(named(dense_vae, (5, 4, 3), hidden=(20,), latent=5, likelihood=of) for of in ("bernoulli", "gaussian")),
    *(
        named(conv_vae, (9, 6, c), latent=5, likelihood=of, **SMALL)
        for of in ("bernoulli", "gaussian")
        for c in (1, 3)
    ),
    named(dense_gan, (5, 4, 3), latent=6),
    named(dense_gan, (6, 6, 1), latent=6),
    named(point_gan, 2, latent=3, hidden=(8, 8)),
    *(named(dcgan, (n, n, c), latent=6, width=3) for n in (28, 32, 64) for c in (1, 3)),
    *(named(dcgan, (128, 128, c), latent=6, width=2) for c in (1, 3)),
    *(named(dcgan, shape, latent=6, width=2) for shape in ((32, 64, 3), (24, 9, 1))),
]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("make", MODELS)
def test_every_model_gives_the_same_there(tmp_path, torch, make, dtype):
    model = drawn(make(), dtype)
    paths = export_torch(model, tmp_path / "model.safetensors")
    assert "ChannelsLastReshape" not in paths[1].read_text()
    theirs = loaded(paths)
    if isinstance(model, GAN):
        maker, taker, shape = "generator", "discriminator", (model.latent,)
    else:
        maker, taker, shape = "decoder", "encoder", model.decoder.layers[0].W.value.shape[:1]
    assert_same(torch, getattr(model, maker), getattr(theirs, maker), shape, dtype=dtype)
    image = getattr(model, maker).predict(np.zeros((1, *shape), dtype)).shape[1:]
    assert_same(torch, getattr(model, taker), getattr(theirs, taker), image, dtype=dtype)
    assert len(theirs.state_dict()) == len(load_file(paths[0]))
    if isinstance(model, VAE) and isinstance(model.likelihood, Gaussian):
        np.testing.assert_array_equal(theirs.likelihood["logvar"].detach().numpy(), model.likelihood.logvar.value)


def load_into(torch, path, networks):
    """Modules with the weights of the file, by nothing but PyTorch's own loader."""
    from safetensors.torch import load_file as load_tensors

    model = torch.nn.ModuleDict(networks).double()
    model.load_state_dict(load_tensors(path), strict=True)
    return model.eval()


def test_autoencoder_in_modules_of_ones_own(tmp_path, torch):
    nn = torch.nn
    model = drawn(conv_autoencoder((9, 6, 3), latent=5, width=4))
    export_torch(model, tmp_path / "ae.safetensors")
    encoder = nn.Sequential(
        nn.Conv2d(3, 4, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(4, 8, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 2 * 1, 5),
    )
    decoder = nn.Sequential(
        nn.Linear(5, 8 * 2 * 1),
        nn.ReLU(),
        nn.Unflatten(1, (8, 2, 1)),
        nn.ConvTranspose2d(8, 4, 4, 2, 1, output_padding=(0, 1)),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 4, 2, 1, output_padding=(1, 0)),
    )
    theirs = load_into(torch, tmp_path / "ae.safetensors", {"encoder": encoder, "decoder": decoder})
    assert_same(torch, model.encoder, theirs["encoder"], (9, 6, 3))
    assert_same(torch, model.decoder, theirs["decoder"], (5,))


def test_vae_in_modules_of_ones_own(tmp_path, torch):
    """Down to what its users see: the means of q(z|x), the expected pixels."""
    nn = torch.nn
    model = drawn(dense_vae((5, 4, 3), latent=6, hidden=(20,)))
    export_torch(model, tmp_path / "vae.safetensors")
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(60, 20), nn.ReLU(), nn.Linear(20, 12))
    decoder = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 60), nn.Unflatten(1, (3, 5, 4)))
    theirs = load_into(torch, tmp_path / "vae.safetensors", {"encoder": encoder, "decoder": decoder})
    x = np.random.default_rng(0).random((4, 5, 4, 3))
    with torch.no_grad():
        mu, logvar = theirs["encoder"](torch.tensor(first(x))).chunk(2, dim=1)
        pixels = torch.sigmoid(theirs["decoder"](mu)).numpy()
    for ours, there in zip(model.encode(x), (mu, logvar), strict=True):
        np.testing.assert_allclose(there.numpy(), ours, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pixels, first(model.reconstruct(x)), rtol=0, atol=1e-12)


def test_dcgan_in_modules_of_ones_own(tmp_path, torch):
    nn = torch.nn
    model = drawn(dcgan((28, 28, 1), latent=7, width=3))
    export_torch(model, tmp_path / "gan.safetensors")
    generator = nn.Sequential(
        nn.Unflatten(1, (7, 1, 1)),
        nn.ConvTranspose2d(7, 12, 4, 1, 0, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 6, 3, 2, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.ConvTranspose2d(3, 1, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 3, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(3, 6, 4, 2, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.2),
        nn.Conv2d(6, 12, 3, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.LeakyReLU(0.2),
        nn.Conv2d(12, 1, 4, 1, 0, bias=False),
        nn.Flatten(),
    )
    networks = {"generator": generator, "discriminator": discriminator}
    theirs = load_into(torch, tmp_path / "gan.safetensors", networks)
    assert_same(torch, model.generator, theirs["generator"], (7,))
    assert_same(torch, model.discriminator, theirs["discriminator"], (28, 28, 1))


def test_pooling_dropout_and_augmentation(tmp_path, torch):
    nn = torch.nn
    net = drawn(
        Sequential(
            RandomFlip(),
            RandomShift(),
            RandomCutout(),
            Conv2d(3, 4, 3),
            MaxPool2d(3, stride=2, padding=1),
            AvgPool2d((2, 1), stride=1),
            Flatten(),
            Dropout(0.3),
            Dense(3 * 4 * 4, 5),
        )
    )
    paths = export_torch(net, tmp_path / "net.safetensors", input_shapes={"network": (9, 10, 3)})
    theirs = loaded(paths)
    assert [type(part) for part in theirs] == [
        *[nn.Identity] * 3,
        *(nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Linear),
    ]
    assert theirs[7].p == 0.3
    assert_same(torch, net, theirs, (9, 10, 3))


def test_shapes_may_be_given(tmp_path, torch):
    """An autoencoder whose code is an image: what its decoder takes follows from the encoder."""
    model = drawn(Autoencoder(Conv2d(2, 3, 3, stride=2), ConvTranspose2d(3, 2, 3, stride=2)))
    with pytest.raises(ValueError, match="what decoder takes does not follow"):
        export_torch(model, tmp_path / "ae.safetensors")
    theirs = loaded(export_torch(model, tmp_path / "ae.safetensors", input_shapes={"encoder": (7, 5, 2)}))
    assert_same(torch, model.encoder, theirs.encoder, (7, 5, 2))
    assert_same(torch, model.decoder, theirs.decoder, (3, 2, 3))


@pytest.mark.parametrize(
    ("likelihood", "held"),
    [("bernoulli", set()), ("gaussian", {"logvar"}), (Gaussian(learn=False), set()), (Laplace(), {"scale"})],
    ids=["bernoulli", "gaussian", "fixed gaussian", "laplace"],
)
def test_a_likelihood_brings_its_parameters(tmp_path, torch, likelihood, held):
    model = drawn(dense_vae((4, 4, 1), latent=2, hidden=(3,), likelihood=likelihood))
    theirs = loaded(export_torch(model, tmp_path / "vae.safetensors"))
    assert {name for name in theirs.state_dict() if name.startswith("likelihood")} == {
        f"likelihood.{n}" for n in held
    }
    for name in held:
        ours = getattr(model.likelihood, name).value
        np.testing.assert_array_equal(theirs.likelihood[name].detach().numpy(), ours)


def test_no_layers_at_all(tmp_path, torch):
    net = Sequential(Sequential())
    assert_same(
        torch, net, loaded(export_torch(net, tmp_path / "n.safetensors", input_shapes={"network": (3, 2)})), (3, 2)
    )


def test_load_takes_another_path(tmp_path, torch):
    layer = drawn(Dense(3, 2))
    paths = export_torch(layer, tmp_path / "net.safetensors")
    elsewhere = paths[0].rename(tmp_path / "moved.safetensors")
    np.testing.assert_array_equal(loaded(paths, path=elsewhere).weight.detach().numpy(), layer.W.value.T)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 2, 3), (2, 2, 2, 3)])
def test_batchnorm_trains_on_there_as_here(tmp_path, torch, shape):
    """eps and momentum are ours, the vectors are learned, and the statistics move alike."""
    layer = drawn(BatchNorm(3, eps=0.3, momentum=0.7))
    theirs = loaded(export_torch(layer, tmp_path / "bn.safetensors", input_shapes={"network": shape}))
    assert_same(torch, layer, theirs, shape)
    assert theirs.weight.requires_grad
    x = np.random.default_rng(5).standard_normal((6, *shape))
    y, _ = layer.forward(x)
    np.testing.assert_allclose(theirs.train()(torch.tensor(first(x))).detach().numpy(), first(y), atol=1e-12)
    np.testing.assert_allclose(theirs.running_mean.numpy(), layer.running_mean, atol=1e-12)
    np.testing.assert_allclose(theirs.running_var.numpy(), layer.running_var, atol=1e-12)
    assert theirs.num_batches_tracked == 1


CONVOLUTIONS = [
    Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
    Conv2d(2, 3, 3, bias=False),
    ConvTranspose2d(2, 3, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
    ConvTranspose2d(2, 3, (2, 3), dilation=(1, 2), bias=False),
]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_every_argument_of_a_convolution(tmp_path, torch, layer):
    layer = drawn(layer)
    theirs = loaded(export_torch(layer, tmp_path / "conv.safetensors", input_shapes={"network": (7, 5, 2)}))
    assert_same(torch, layer, theirs, (7, 5, 2))


# --- random networks ---------------------------------------------------------------------------------------------


def draw_network(seed: int) -> tuple[Sequential, tuple[int, ...], list[str]]:
    """Layers in any order that fits, some of them nested; the shape of one sample; the names of the layers."""
    rng = np.random.default_rng([2024, seed])
    shape = start = [(4, 3, 2), (3, 5, 4), (12,), (24,), (3, 4)][rng.integers(5)]
    layers = []
    while len(layers) < 10:
        layer = draw_layer(rng, shape)
        x = np.zeros((1, *shape), np.float32)
        shape = layer.predict(x).shape[1:]
        layers.append(layer)
    names = [type(layer).__name__ for layer in layers]
    i, j = sorted(rng.choice(11, 2, replace=False))
    return Sequential(*layers[:i], Sequential(*layers[i:j]), *layers[j:]), start, names


def draw_layer(rng, shape) -> Layer:
    """A layer that takes samples of this shape; more often than not one that cares for their order."""
    n, rank, c = prod(shape), len(shape), shape[-1]
    options = [
        [ReLU(), LeakyReLU(0.3), Tanh(), Sigmoid()][rng.integers(4)],
        BatchNorm(c),
        Reshape(*draw_shape(rng, n)),
    ]
    if rank == 1:
        options += 3 * [Dense(n, (12, 24, 30)[rng.integers(3)], bias=bool(rng.integers(2)), rng=rng)]
        options += 2 * [Reshape(*draw_shape(rng, n, 3))]
    else:
        options += 2 * [Flatten()]
    if rank == 3:
        options += 2 * [Conv2d(c, rng.integers(2, 5), 3, padding=1, rng=rng)]
        if n < 100:
            options += [ConvTranspose2d(c, rng.integers(2, 4), 2, stride=(1, 2), rng=rng)]
    return options[rng.integers(len(options))]


def draw_shape(rng, n: int, rank: int = 0) -> tuple[int, ...]:
    """A shape of n numbers, of 1 to 3 axes."""
    shape = []
    for _ in range((rank or rng.integers(1, 4)) - 1):
        divisors = [d for d in range(2, n) if n % d == 0] or [1]
        shape.append(int(rng.choice(divisors)))
        n //= shape[-1]
    return (*shape, n)


NETWORKS = [draw_network(seed) for seed in range(60)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: "-".join(case[2]))
def test_drawn_networks_give_the_same_there(tmp_path, torch, case, dtype):
    net, shape, _ = case
    drawn(net, dtype)
    theirs = loaded(export_torch(net, tmp_path / "net.safetensors", input_shapes={"network": shape}))
    assert_same(torch, net, theirs, shape, dtype=dtype)


def test_the_drawn_networks_hold_every_order():
    elementwise = {"ReLU", "LeakyReLU", "Tanh", "Sigmoid"}
    found = " | ".join(" ".join(name for name in names if name not in elementwise) for _, _, names in NETWORKS)
    for order in (
        "Conv2d Flatten Dense",
        "Flatten BatchNorm Dense",
        "Dense Reshape Conv",
        "Dense BatchNorm Reshape",
        "Flatten Reshape",
        "Reshape Flatten",
        "Reshape BatchNorm",
        "Reshape Reshape",
    ):
        assert order in found, order
    assert sum("Dense" in names and any("Conv" in name for name in names) for _, _, names in NETWORKS) >= 30
