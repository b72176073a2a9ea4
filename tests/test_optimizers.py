"""The optimizers: their formulas by hand, and what a step leaves alone."""

import numpy as np
import pytest
from backends import NUMPY, host, like
from comparing import LAYOUTS, assert_close, assert_equal, fill_gradients, shares_memory
from layer_table import randomised

from scratchgen import SGD, Adam, AdamW, Dense, Parameter, RMSprop, Sequential, frozen
from scratchgen.backend import transfer
from scratchgen.recipes import build


@pytest.mark.parametrize(
    "make", [Adam, AdamW, RMSprop, lambda p: SGD(p, 0.1, momentum=0.9)], ids=["Adam", "AdamW", "RMSprop", "SGD"]
)
def test_what_is_frozen_is_not_carried_on_by_momentum(make, backend):
    layer = Sequential(Dense(2, 2), Dense(2, 2)).to(backend.name)
    first, last = layer.layers
    optimizer = make(layer.parameters())
    for p in layer.parameters():
        p.grad[...] = 1
    optimizer.step()
    before = [host(p.value) for p in layer.parameters()]
    with frozen(first):
        for p in last.parameters():
            p.grad[...] = 1
        optimizer.step()
    moved = [bool((host(p.value) != value).any()) for p, value in zip(layer.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize(
    "make",
    [
        lambda p, lr: SGD(p, lr),
        lambda p, lr: SGD(p, lr, np.float64(0.9)),
        Adam,
        lambda p, lr: AdamW(p, lr, weight_decay=np.float64(0.1)),
        lambda p, lr: RMSprop(p, lr, np.float64(0.9)),
    ],
)
def test_a_learning_rate_from_numpy_does_not_widen_the_weights(make, backend):
    p = Parameter("W", backend.array(np.ones(3, np.float32)))
    optimizer = make([p], np.float64(0.1))
    optimizer.step()
    optimizer.lr = np.float64(0.05)
    optimizer.step()
    assert p.value.dtype == p.grad.dtype == np.float32


# --- optimizers ---------------------------------------------------------------------------------------------------


START = np.linspace(-1, 1, 8).reshape(2, 4)


def _steps(backend, make, gradients, value=START) -> list[np.ndarray]:
    """The values of one parameter after each step with the given gradients."""
    p = Parameter("p", transfer(value, backend.name))
    optimizer = make([p])
    values = []
    for g in gradients:
        p.grad[...] = like(p.grad, g)
        optimizer.step()
        values.append(host(p.value))
    return values


G = np.random.default_rng(0).normal(0, 3, (3, 2, 4))


def test_adam_by_hand(backend):
    value, m, v, expected = START, 0, 0, []
    for t, g in enumerate(G, start=1):
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g**2
        value = value - 0.3 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 0.01)
        expected.append(value)
    assert_close(_steps(backend, lambda p: Adam(p, lr=0.3, betas=(0.8, 0.95), eps=0.01), G), expected)


def test_adam_defaults():
    p = [Parameter("p", START)]
    adam = Adam(p)
    assert (adam.lr, adam.betas, adam.eps) == (1e-3, (0.9, 0.999), 1e-8)
    assert_equal(_steps(NUMPY, Adam, G), _steps(NUMPY, lambda p: Adam(p, 1e-3, (0.9, 0.999), 1e-8), G))


@pytest.mark.parametrize("scale", [1e-3, 1, 1e4])
def test_adam_walks_at_lr_under_a_constant_gradient(scale, backend):
    g = scale * np.array([1.0, -2, 3])
    start = np.linspace(-1, 1, 3)
    values = [start, *_steps(backend, lambda p: Adam(p, lr=0.01), [g] * 300, start)]
    np.testing.assert_allclose(np.diff(values, axis=0), np.tile(-0.01 * np.sign(g), (300, 1)), rtol=2e-5)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    "make", [Adam, AdamW, RMSprop, lambda p: SGD(p, 0.1, momentum=0.9)], ids=["Adam", "AdamW", "RMSprop", "SGD"]
)
def test_optimizers_take_any_memory_layout(make, layout, backend):
    start = layout(backend.xp, backend.array(START))
    assert_close(_steps(backend, make, G, start), _steps(NUMPY, make, G))


def test_adamw_by_hand(backend):
    """And with no decay it is Adam."""
    value, m, v, expected = START, 0, 0, []
    for t, g in enumerate(G, start=1):
        m = 0.8 * m + 0.2 * g
        v = 0.95 * v + 0.05 * g**2
        step = (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 0.01)
        value = value - 0.3 * (step + 0.2 * value)
        expected.append(value)
    how = {"lr": 0.3, "betas": (0.8, 0.95), "eps": 0.01}
    assert_close(_steps(backend, lambda p: AdamW(p, **how, weight_decay=0.2), G), expected)
    assert_equal(_steps(backend, lambda p: AdamW(p, weight_decay=0), G), _steps(backend, Adam, G))
    assert AdamW([Parameter("p", START)]).weight_decay == 0.01


def test_adamw_shrinks_a_weight_without_gradient_by_lr_times_the_decay(backend):
    values = _steps(backend, lambda p: AdamW(p, lr=0.1, weight_decay=0.5), [np.zeros_like(START)] * 3)
    assert_close(values, [START * 0.95**t for t in (1, 2, 3)])


def test_rmsprop_by_hand(backend):
    value, v, expected = START, 0, []
    for g in G:
        v = 0.8 * v + 0.2 * g**2
        value = value - 0.3 * g / (np.sqrt(v) + 0.01)
        expected.append(value)
    assert_close(_steps(backend, lambda p: RMSprop(p, 0.3, 0.8, 0.01), G), expected)
    rmsprop = RMSprop([Parameter("p", START)])
    assert (rmsprop.lr, rmsprop.beta, rmsprop.eps) == (1e-3, 0.9, 1e-8)


def test_sgd_by_hand(backend):
    assert_close(_steps(backend, lambda p: SGD(p, 0.1), G), START - 0.1 * np.cumsum(G, axis=0))


def test_sgd_with_momentum_by_hand(backend):
    value, u, expected = START, 0, []
    for g in G:
        u = 0.9 * u + g
        value = value - 0.1 * u
        expected.append(value)
    assert_close(_steps(backend, lambda p: SGD(p, 0.1, momentum=0.9), G), expected)


OPTIMIZERS = {
    "SGD": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "Adam": Adam,
    "AdamW": AdamW,
    "RMSprop": RMSprop,
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@every_optimizer
def test_step_replaces_values_and_zeroes_gradients(make, backend):
    layer = randomised(Dense(3, 4)).to(backend.name)
    optimizer, values = make(layer.parameters()), [p.value for p in layer.parameters()]
    kept = [v.copy() for v in values]
    fill_gradients(layer)
    grads = [p.grad for p in layer.parameters()]
    were = [g.copy() for g in grads]
    optimizer.step()
    assert optimizer.t == 1
    assert_equal(values, kept)
    assert_equal(grads, were)  # whoever holds one keeps what it was
    for p, old in zip(layer.parameters(), values, strict=True):
        assert not shares_memory(p.value, old)
        assert (p.value != old).all()
        assert not p.grad.any()


@every_optimizer
def test_an_optimizer_goes_on_from_its_state(make, backend):
    one, other = (randomised(Dense(3, 4)).to(backend.name) for _ in range(2))
    first, second = make(one.parameters()), make(other.parameters())
    for seed in (1, 2):
        fill_gradients(one, seed)
        first.step()
    other.load_state(one.state())
    second.load_state(first.state())
    for layer, optimizer in ((other, second), (one, first)):  # neither steps on the other's moments
        fill_gradients(layer, 3)
        optimizer.step()
    assert second.t == 3
    assert_equal(other.state().values(), one.state().values())


# --- in a recipe ---


@pytest.mark.parametrize(
    ("settings", "kind", "kept"),
    [
        ({}, Adam, {"betas": (0.5, 0.999)}),  # as configs of 0.1.0 have it
        ({"optimizer": "adam"}, Adam, {"betas": (0.5, 0.999)}),
        ({"optimizer": "adamw", "weight_decay": 0.2}, AdamW, {"betas": (0.5, 0.999), "weight_decay": 0.2}),
        ({"optimizer": "rmsprop"}, RMSprop, {"beta": 0.9}),
        ({"optimizer": "sgd", "momentum": 0.8}, SGD, {"momentum": 0.8}),
    ],
)
def test_a_recipe_makes_the_optimizers_of_its_config(settings, kind, kept):
    game = {"latent": 2, "hidden": [4], "loss": "minimax", "smoothing": 0.0, "prior": "normal", "k": 1, "beta1": 0.5}
    config = {"model": "gan", "seed": 0, "dimensions": 2, "scale": 1, "lr": 0.1, "d_lr": 0.3, **game, **settings}
    optimizers = build(config).optimizers
    assert {key: optimizer.lr for key, optimizer in optimizers.items()} == {"d": 0.3, "g": 0.1}
    for optimizer in optimizers.values():
        assert type(optimizer) is kind
        assert {name: getattr(optimizer, name) for name in kept} == kept


# --- found by readers -----------------------------------------------------------------------------------------------


def test_optimizer_state_is_a_snapshot(backend):
    p = Parameter("W", backend.array(np.ones(3)))
    optimizer = Adam([p])
    p.grad += 1
    optimizer.step()
    state = optimizer.state()
    kept = {name: a.copy() for name, a in state.items()}
    p.grad += 5
    optimizer.step()
    assert_equal(state.values(), kept.values())
    optimizer.load_state(state)
    assert_equal(optimizer.state().values(), kept.values())
