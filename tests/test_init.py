"""Initial weights and randomness: rules, fans, seeds."""

import numpy as np
import pytest
from backends import NUMPY, host
from comparing import FLOATS, assert_equal
from layer_table import randomised

from scratchgen import (
    SGD,
    Adam,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Reshape,
    Sequential,
    conv_autoencoder,
    dense_autoencoder,
    init,
    initialise,
)
from scratchgen.backend import backend_of

# --- randomness ---------------------------------------------------------------------------------------------------


def _whole_run(seed=0, backend=NUMPY):
    """Build, initialise and train a bit of everything; returns what came out."""
    rng = np.random.default_rng(seed)
    layers = [Dense(3, 4, rng=rng), Conv2d(2, 3, 2, rng=rng), ConvTranspose2d(2, 3, 2, rng=rng)]
    for rule in (init.glorot, init.he, init.normal()):
        network = Sequential(Dense(4, 4, rng=rng), BatchNorm(4), Dense(4, 4, rng=rng))
        initialise(network, rule, rng)
        layers.append(network)
    for model in (
        dense_autoencoder((4, 4, 1), latent=2, hidden=(5,), rng=rng),
        conv_autoencoder((4, 4, 1), width=2, rng=rng),
    ):
        model.to(backend.name)
        for optimizer in (Adam(model.parameters()), SGD(model.parameters(), 0.01, momentum=0.5)):
            model.train_step(backend.array(rng.random((3, 4, 4, 1)).astype(np.float32)), optimizer)
        layers.append(model)
    return [host(a) for layer in layers for a in layer.state().values()]


def test_global_random_state_is_left_alone():
    before = np.random.get_state()  # noqa: NPY002
    _whole_run()
    Dense(2, 2), Conv2d(1, 1, 1), ConvTranspose2d(1, 1, 1), dense_autoencoder(), conv_autoencoder()  # no rng passed
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert_equal([before[1]], [after[1]])
    assert before[2:] == after[2:]


def test_the_same_seed_gives_the_same_run(backend):
    run = _whole_run(backend=backend)
    assert_equal(run, _whole_run(backend=backend))
    assert any((a != b).any() for a, b in zip(run, _whole_run(1, backend), strict=True))


def test_without_a_seed_weights_differ():
    assert (Dense(5, 5).W.value != Dense(5, 5).W.value).any()


# --- initial weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "std", "limit"),
    [
        (init.glorot, (2 / 300) ** 0.5, (6 / 300) ** 0.5),
        (init.he, 0.1, np.inf),
        (init.normal(), 0.02, np.inf),
        (init.normal(3), 3, np.inf),
    ],
    ids=["glorot", "he", "normal", "normal(3)"],
)
def test_mean_and_variance_of_the_rules(rule, std, limit):
    w = rule((300, 400), 200, 100, np.random.default_rng(0))
    n = w.size
    assert (w.shape, w.dtype) == ((300, 400), np.float32)
    assert abs(w.mean()) < 5 * std / n**0.5
    assert w.std() == pytest.approx(std, rel=5 / (2 * n) ** 0.5)
    assert np.abs(w).max() <= limit * (1 + 1e-6)
    kurtosis = 1.8 if limit < np.inf else 3  # of a uniform, of a normal distribution
    assert (w.astype(np.float64) ** 4).mean() == pytest.approx(kurtosis * std**4, rel=0.03)


@pytest.mark.parametrize(
    "layer",
    [
        Dense(7, 5),
        Conv2d(3, 5, (2, 4)),
        Conv2d(3, 5, (2, 4), stride=2),
        Conv2d(3, 5, 3, stride=(1, 2), dilation=2),
        ConvTranspose2d(3, 5, (2, 4)),
        ConvTranspose2d(3, 5, 4, stride=2),
        ConvTranspose2d(3, 5, 3, stride=(1, 2)),
    ],
    ids=str,
)
def test_fans(layer):
    """fan_in is the number of inputs that an output sums over, fan_out of the outputs that an input reaches."""
    rng = np.random.default_rng(0)
    initialise(layer, lambda shape, *_: np.ones(shape, np.float32), rng)
    x = np.ones((1, 7) if isinstance(layer, Dense) else (1, 40, 40, 3), np.float32)
    y, backward = layer.forward(x)
    counts = [a if a.ndim == 2 else a[:, 12:24, 12:24] for a in (y, backward(np.ones_like(y)))]  # far from the edge
    fans = []
    initialise(layer, lambda shape, *rest: fans.append(rest) or np.zeros(shape, np.float32), rng)
    assert fans == [(counts[0].mean(), counts[1].mean(), rng)]


def test_layers_start_with_glorot():
    for make in (
        Dense,
        lambda n, m, **how: Conv2d(n, m, 4, **how),
        lambda n, m, **how: ConvTranspose2d(n, m, 4, **how),
    ):
        layer = make(40, 30, rng=np.random.default_rng(3))
        expected = init.glorot(layer.W.value.shape, *layer.fans, np.random.default_rng(3))
        assert_equal([layer.W.value], [expected])


@pytest.mark.parametrize("dtype", FLOATS)
def test_initialise_draws_every_weight_and_spares_batchnorm(dtype, backend):
    network = Sequential(
        Dense(4, 8), BatchNorm(8), Sequential(Reshape(2, 2, 2), Conv2d(2, 3, 2), ConvTranspose2d(3, 1, 2, bias=False))
    )
    randomised(network, dtype).to(backend.name)
    before = {name: a.copy() for name, a in network.state().items()}
    initialise(network, init.he, np.random.default_rng(0))
    for name, a in network.state().items():
        assert (backend_of(a), a.dtype) == (backend.name, dtype)
        if name.startswith("1."):
            assert_equal([a], [before[name]])
        elif name.endswith(".b"):
            assert not a.any()
        else:
            assert (a != before[name]).all()
