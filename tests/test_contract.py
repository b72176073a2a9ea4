"""Every sentence of the contract, over every layer of the table where it speaks of all of them."""

import copy
import inspect
import sys
from collections import defaultdict, deque, namedtuple
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from types import MappingProxyType

import numpy as np
import pytest
from backends import NUMPY, host, like
from layer_table import TABLE, changed, every_layer, every_layer_that_learns, over, randomised, snapshot

import scratchgen as sg
from scratchgen import (
    SGD,
    Adam,
    Autoencoder,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    Parameter,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
    bce_with_logits,
    conv_autoencoder,
    dense_autoencoder,
    frozen,
    init,
    initialise,
)
from scratchgen.backend import array_library, backend_of, transfer

FLOATS = (np.float32, np.float64)
ARRAYS = (np.ndarray, np.generic)


def gradients(layer) -> list:
    return [p.grad.copy() for p in layer.parameters()]


def evaluate(layer, x, dy) -> list:
    """y, dx and every parameter gradient, from zero."""
    layer.zero_grad()
    y, backward = layer.forward(x)
    return [y, backward(dy), *gradients(layer)]


def assert_close(got, expected, rtol=1e-12):
    """Two lists of arrays are equal up to the order in which sums are rounded."""
    assert len(got) == len(expected)
    for a, b in zip(map(host, got), map(host, expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=1), equal_nan=False)


def assert_equal(got, expected):
    """Two lists of arrays are equal to the last bit."""
    for a, b in zip(map(host, got), map(host, expected), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def shares_memory(a, b) -> bool:
    """Whether writing into one would show in the other."""
    return (np if isinstance(a, np.ndarray) else array_library(a)).shares_memory(a, b)


def ones_like(y):
    return like(y, np.ones(y.shape))


def fill_gradients(layer, seed=3) -> list:
    """Put random numbers into every gradient and return copies of them."""
    rng = np.random.default_rng(seed)
    for p in layer.parameters():
        p.grad[...] = like(p.grad, rng.standard_normal(p.grad.shape))
    return gradients(layer)


class Watched(np.ndarray):
    """An array that notes every operation it takes part in, with the dtypes of all that goes in and comes out."""

    calls: list = []

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        if out:
            options["out"] = tuple(map(np.asarray, out))
        result = getattr(ufunc, method)(*(np.asarray(a) if isinstance(a, Watched) else a for a in inputs), **options)
        Watched.calls.append((ufunc.__name__, {a.dtype for a in (*inputs, result) if isinstance(a, ARRAYS)}))
        return out[0] if out else result.view(Watched) if isinstance(result, np.ndarray) else result


# --- names --------------------------------------------------------------------------------------------------------

SIGNATURES = {
    sg.Dense: "(in_features, out_features, *, bias=True, rng=None)",
    sg.Conv2d: "(in_channels, out_channels, kernel_size, *, stride=1, padding=0, dilation=1, bias=True, rng=None)",
    sg.ConvTranspose2d: "(in_channels, out_channels, kernel_size, *, stride=1, padding=0, output_padding=0, "
    "dilation=1, bias=True, rng=None)",
    sg.BatchNorm: "(channels, *, eps=1e-05, momentum=0.1)",
    sg.ReLU: "()",
    sg.LeakyReLU: "(slope=0.2)",
    sg.Tanh: "()",
    sg.Sigmoid: "()",
    sg.Flatten: "()",
    sg.Reshape: "(*shape)",
    sg.Sequential: "(*layers)",
    sg.SGD: "(parameters, lr, momentum=0)",
    sg.Adam: "(parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08)",
    sg.Autoencoder: "(encoder, decoder, *, loss='bernoulli')",
    sg.bce_with_logits: "(logits, target)",
    sg.mse: "(y, target)",
    sg.gaussian_kl: "(mu, logvar)",
    sg.Layer.forward: "(self, x)",
    sg.Layer.predict: "(self, *inputs, **options)",
    sg.Autoencoder.loss: "(self, x)",
    sg.Autoencoder.train_step: "(self, x, optimizer)",
    sg.VAE.loss: "(self, x, eps)",
    sg.VAE.train_step: "(self, x, eps, optimizer)",
    sg.VAE.log_likelihood: "(self, x, samples=500, rng=None)",
    sg.GAN.discriminator_loss: "(self, real, z)",
    sg.GAN.generator_loss: "(self, z)",
    sg.GAN.train_step: "(self, real, z, d_optimizer, g_optimizer)",
}


@pytest.mark.parametrize("what", SIGNATURES, ids=lambda f: f.__qualname__)
def test_users_bind_to_these_names(what):
    bare = inspect.signature(what)
    bare = bare.replace(
        parameters=[p.replace(annotation=p.empty) for p in bare.parameters.values()], return_annotation=bare.empty
    )
    assert str(bare) == SIGNATURES[what]


def test_sequential_lists_its_parts():
    parts = [Dense(2, 3), ReLU(), Sequential(Dense(3, 1))]
    assert Sequential(*parts).layers == parts


# --- forward and backward -----------------------------------------------------------------------------------------


@every_layer
def test_forward_returns_a_value_and_its_pullback(row, backend):
    layer, x, dy = row.draw(backend)
    y, backward = layer.forward(x)
    dx = backward(dy)
    assert backend_of(y) == backend_of(dx) == backend.name
    assert callable(backward)
    assert (dx.shape, dx.dtype) == (x.shape, x.dtype)
    assert all(p.grad.shape == p.value.shape and p.grad.dtype == p.value.dtype for p in layer.parameters())


@every_layer
def test_backward_adds_to_the_gradients_every_time(row, backend):
    layer, x, dy = row.draw(backend)
    _, dx, *once = evaluate(layer, x, dy)
    before, arrays = fill_gradients(layer), [p.grad for p in layer.parameters()]
    _, backward = layer.forward(x)
    for times in (1, 2):
        assert_close([backward(dy)], [dx])
        assert_close(gradients(layer), [g0 + times * g for g0, g in zip(before, once, strict=True)])
    assert all(p.grad is array for p, array in zip(layer.parameters(), arrays, strict=True))


@every_layer
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "in reverse"])
def test_two_forwards_then_two_backwards(row, order, backend):
    layer, x, dy = row.draw(backend)
    batches = [(x, dy), row.data(backend, seed=2)]
    alone = [evaluate(layer, x, dy) for x, dy in batches]
    layer.zero_grad()
    evaluations = [layer.forward(x) for x, _ in batches]
    dx = {i: evaluations[i][1](batches[i][1]) for i in order}
    for i in order:
        assert_close([evaluations[i][0], dx[i]], alone[i][:2])
    assert_close(gradients(layer), [a + b for a, b in zip(alone[0][2:], alone[1][2:], strict=True)])


def _assign(layer):
    for p in layer.parameters():
        p.value = 3 - 2 * p.value


CHANGES = {
    "SGD": lambda layer: SGD(layer.parameters(), 0.5).step(),
    "SGD with momentum": lambda layer: SGD(layer.parameters(), 0.5, momentum=0.9).step(),
    "Adam": lambda layer: Adam(layer.parameters(), 0.5).step(),
    "assignment": _assign,
    "initialise": lambda layer: initialise(layer, init.he, np.random.default_rng(5)),
    "load_state": lambda layer: layer.load_state({name: 2 * a + 1 for name, a in layer.state().items()}),
}


@every_layer_that_learns
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_late_backward_is_that_of_what_was_evaluated(row, change, backend):
    layer, x, dy = row.draw(backend)
    expected = evaluate(layer, x, dy)
    y, backward = layer.forward(x)
    fill_gradients(layer)
    change(layer)
    layer.zero_grad()
    assert_close([y, backward(dy), *gradients(layer)], expected)


@every_layer
def test_the_closure_is_the_cache(row, backend):
    """Forward, backward and predict leave every attribute alone, but for gradients and running statistics."""
    layer, x, dy = row.draw(backend)
    before = snapshot(layer)
    layer.predict(x)
    assert changed(before, snapshot(layer)) == set()
    _, backward = layer.forward(x)
    after = snapshot(layer)
    norms = sum(isinstance(m, BatchNorm) for m in layer.modules())
    kept = sorted(name.rpartition(".")[2] for name in changed(before, after))
    assert kept == ["running_mean"] * norms + ["running_var"] * norms
    backward(dy)
    layer.zero_grad()
    assert changed(after, snapshot(layer)) == set()


@every_layer
def test_nothing_writes_into_what_it_is_given(row, backend):
    layer, x, dy = row.draw(backend)
    expected = evaluate(layer, x, dy)
    given = [x, dy, *layer.state().values()]
    kept = [a.copy() for a in given]
    for a in given if backend.is_host else ():
        a.setflags(write=False)  # NumPy itself refuses from here on
    assert_close(evaluate(layer, x, dy), expected)
    layer.predict(x)
    assert_equal(given, kept)


LAYOUTS = {
    "Fortran": lambda xp, a: xp.asfortranarray(a),
    "every second": lambda xp, a: xp.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda xp, a: a[::-1].copy()[::-1],
    "batch last": lambda xp, a: xp.ascontiguousarray(xp.moveaxis(a, 0, -1)).transpose(a.ndim - 1, *range(a.ndim - 1)),
}


@every_layer
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_memory_layout_does_not_matter(row, layout, backend):
    layer, x, dy = row.draw(backend)
    expected = [layer.predict(x), *evaluate(layer, x, dy)]
    layer, layout = row.layer(backend), partial(layout, backend.xp)
    assert_close([layer.predict(layout(x)), *evaluate(layer, layout(x), layout(dy))], expected)
    for p in layer.parameters():
        p.value = layout(p.value)
    assert_close(evaluate(layer, layout(x), layout(dy)), expected[1:])


@every_layer
def test_results_are_nobodys_workspace(row, backend):
    """What one evaluation returned stays as it is through the next ones, of this layer and of its equals."""
    layer, x, dy = row.draw(backend)
    layer.zero_grad()
    y, backward = layer.forward(x)
    results = [y, backward(dy), layer.predict(x), *(p.grad for p in layer.parameters())]
    kept = [a.copy() for a in results]
    evaluate(copy.deepcopy(layer), *row.data(backend, seed=2))
    layer.predict(row.data(backend, seed=2)[0])
    assert_equal(results, kept)


@every_layer
def test_predict_is_forward_without_a_pullback(row, backend):
    layer, x, _ = row.draw(backend)
    y = layer.predict(x)
    assert backend_of(y) == backend.name
    if not row.normalises:
        assert_equal([y], [layer.forward(x)[0]])
    elif isinstance(layer, Sequential):
        for part in layer.layers:
            x = part.predict(x)
        assert_equal([y], [x])


# --- parameters ---------------------------------------------------------------------------------------------------

NAMES = {Dense: ["W", "b"], Conv2d: ["W", "b"], ConvTranspose2d: ["W", "b"], BatchNorm: ["gamma", "beta"]}


@every_layer
def test_parameters_come_in_a_fixed_order(row, backend):
    layer, x, dy = row.draw(backend)
    parameters = layer.parameters()
    evaluate(layer, x, dy)
    again = layer.parameters()
    assert all(a is b for a, b in zip(parameters, again, strict=True))
    assert len({id(p) for p in parameters}) == len(parameters)
    assert list(layer.named_parameters().values()) == parameters
    if not isinstance(layer, Sequential):
        names = [name for name in NAMES.get(type(layer), []) if getattr(layer, name) is not None]
        assert [p.name for p in parameters] == list(layer.named_parameters()) == names


def test_parameters_of_a_network_have_dotted_names():
    inner = Sequential(Conv2d(1, 2, 3), BatchNorm(2))
    network = Sequential(inner, ReLU(), Flatten(), Dense(8, 3, bias=False), inner)
    names = ["0.0.W", "0.0.b", "0.1.gamma", "0.1.beta", "3.W"]
    assert list(network.named_parameters()) == names
    assert sorted(network.state()) == sorted([*names, "0.1.running_mean", "0.1.running_var"])
    model = Autoencoder(inner, Sequential(Dense(3, 8)))
    assert list(model.named_parameters())[-2:] == ["decoder.0.W", "decoder.0.b"]


def test_shapes_of_weights():
    assert Dense(3, 4).W.value.shape == (3, 4)
    assert Conv2d(3, 5, (2, 4)).W.value.shape == (2, 4, 3, 5)
    assert ConvTranspose2d(3, 5, (2, 4)).W.value.shape == (2, 4, 5, 3)
    assert [p.value.shape for p in BatchNorm(6).parameters()] == [(6,), (6,)]
    for layer in (Dense(3, 4), Conv2d(3, 4, 2), ConvTranspose2d(3, 4, 2)):
        assert layer.b.value.shape == (4,)
        assert not layer.b.value.any()
        assert layer.W.value.dtype == layer.b.value.dtype == layer.W.grad.dtype == np.float32
        assert type(layer)(3, 4, *[2] * (layer.W.value.ndim == 4), bias=False).b is None


class TestParameter:
    def test_starts_with_a_zero_gradient(self, backend):
        p = Parameter("W", backend.array(np.ones((2, 3), np.float32)))
        assert_equal([p.grad], [np.zeros((2, 3), np.float32)])
        assert backend_of(p.grad) == backend.name

    def test_assignment_keeps_the_array_and_the_gradient(self, backend):
        p = Parameter("W", backend.array(np.ones(3)))
        old, new, grad = p.value, backend.array(np.zeros(3)), p.grad
        grad[...] = like(grad, [1, 2, 3])
        p.value = new
        assert p.value is new
        assert p.grad is grad
        assert_equal([old, grad], [np.ones(3), np.array([1.0, 2, 3])])

    def test_assignment_of_another_float_carries_the_gradient(self, backend):
        p = Parameter("W", backend.array(np.ones(3)))
        p.grad[...] = like(p.grad, [1, 2, 3])
        p.value = backend.array(np.zeros(3, np.float32))
        assert_equal([p.value, p.grad], [np.zeros(3, np.float32), np.array([1, 2, 3], np.float32)])

    @pytest.mark.parametrize(
        ("new", "error", "words"),
        [
            (np.ones(4), ValueError, ["W", "(4,)", "(3,)"]),
            (np.ones((1, 3)), ValueError, ["W", "(1, 3)", "(3,)"]),
            (np.ones(3, int), TypeError, ["W", "int64", "float32", "float64"]),
            (np.ones(3, np.float16), TypeError, ["W", "float16"]),
            ([1.0, 2.0, 3.0], TypeError, ["W", "list", "array"]),
            (None, TypeError, ["W", "NoneType", "array"]),
        ],
        ids=["shape", "rank", "integers", "float16", "list", "None"],
    )
    def test_refuses_what_does_not_fit(self, new, error, words):
        p = Parameter("W", np.ones(3))
        before = snapshot(p)
        with pytest.raises(error) as caught:
            p.value = new
        assert all(word in str(caught.value) for word in words)
        assert changed(before, snapshot(p)) == set()

    def test_assign_converts_a_copy(self, backend):
        p, new = Parameter("W", backend.array(np.ones(3, np.float32))), np.arange(3.0)
        for given in (new, backend.array(new)):
            p.assign(given)
            assert_equal([p.value, p.grad], [np.arange(3, dtype=np.float32), np.zeros(3, np.float32)])
            assert backend_of(p.value) == backend.name
        q, new = Parameter("W", backend.array(np.ones(3))), backend.array(new)
        q.assign(new)
        new[...] = 7
        assert_equal([q.value], [np.arange(3.0)])


# --- frozen -------------------------------------------------------------------------------------------------------


@every_layer
@pytest.mark.parametrize("where", ["both", "forward", "backward", "backward, after an inner block"])
def test_frozen_parameters_take_no_gradient(row, where, backend):
    layer, x, dy = row.draw(backend)
    y, dx, *_ = evaluate(layer, x, dy)
    before = fill_gradients(layer)
    with frozen(layer) if where in ("both", "forward") else nullcontext():
        frozen_y, backward = layer.forward(x)
    with frozen(layer) if where != "forward" else nullcontext():
        if "inner" in where:
            with frozen(layer):
                pass
        frozen_dx = backward(dy)
    assert_equal([frozen_y, frozen_dx, *gradients(layer)], [y, dx, *before])


@every_layer
def test_thawed_parameters_take_gradients_again(row, backend):
    layer, x, dy = row.draw(backend)
    expected = evaluate(layer, x, dy)
    with suppress(KeyError), frozen(layer), frozen(layer, layer):
        assert all(p.frozen for p in layer.parameters())
        raise KeyError
    assert not any(p.frozen for p in layer.parameters())
    assert_close(evaluate(layer, x, dy), expected)


def test_frozen_parts_leave_the_others_alone(backend):
    row = next(row for row in TABLE if row.name == "convolutions")
    network, x, dy = row.draw(backend)
    _, dx, *expected = evaluate(network, x, dy)
    first, inner = network.layers[0], network.layers[3]
    network.zero_grad()
    with frozen(first, inner):
        assert_equal([network.forward(x)[1](dy)], [dx])
    still = [first.W, *inner.parameters()]
    for p, g in zip(network.parameters(), expected, strict=True):
        assert_close([p.grad], [0 * g if any(p is s for s in still) else g])


def _refuse(*_):
    raise AssertionError("this work should not be done")


KERNELS = (
    "correlate",
    "correlate_adjoint_x",
    "correlate_adjoint_W",
    "matmul",
    "elementwise",
    "channel_sum",
    "channel_sums",
)


@over([row for row in TABLE if row.made.parameters() and not row.normalises])  # BatchNorm's dx needs sums, too
def test_frozen_parameters_cost_nothing(row, backend, monkeypatch):
    layer, x, dy = row.draw(backend)
    for kernel in ("correlate_adjoint_W", "channel_sum", "channel_sums"):
        monkeypatch.setattr(backend.ops, kernel, _refuse)
    with frozen(layer):
        _, inside = layer.forward(x)
    _, outside = layer.forward(x)
    inside(dy)
    with frozen(layer):
        outside(dy)
    if getattr(layer, "b", None):
        with pytest.raises(AssertionError, match="should not"):
            outside(dy)


@every_layer
def test_frozen_and_without_dx_nothing_is_done(row, backend, monkeypatch):
    layer, x, dy = row.draw(backend)
    _, backward = layer.forward(x)
    for kernel in KERNELS:
        monkeypatch.setattr(backend.ops, kernel, _refuse)
    with frozen(layer):
        assert backward(dy, need_dx=False) is None


def test_batchnorm_in_a_frozen_network_still_normalises_by_the_batch(backend):
    network = randomised(Sequential(Dense(3, 4), BatchNorm(4)))
    network.layers[1].gamma.value, network.layers[1].beta.value = np.ones(4), np.zeros(4)
    network.to(backend.name)
    with frozen(network):
        y, _ = network.forward(backend.array(np.random.default_rng(0).standard_normal((50, 3))))
    np.testing.assert_allclose(host(y).mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(host(y).var(axis=0), 1, rtol=1e-3)


# --- the entrance of a network ------------------------------------------------------------------------------------


@every_layer
def test_without_dx_the_gradients_are_the_same(row, backend):
    layer, x, dy = row.draw(backend)
    _, _, *expected = evaluate(layer, x, dy)
    before = fill_gradients(layer)
    _, backward = layer.forward(x)
    assert backward(dy, need_dx=False) is None
    assert_close(gradients(layer), [g0 + g for g0, g in zip(before, expected, strict=True)])


class Untouchable(Layer):
    """Its dx may not be asked for."""

    def forward(self, x):
        return x, self.pullback(x, dx=_refuse)


def _conv():
    return Conv2d(2, 2, 3, padding=1)


ENTRANCES = {  # the network on images (2, 4, 4, 2), and how many convolutions have to pass their gradient down
    "a convolution": (lambda: Sequential(_conv()), 0),
    "two convolutions": (lambda: Sequential(_conv(), ReLU(), _conv()), 1),
    "nested": (lambda: Sequential(Sequential(_conv(), Tanh()), Sequential(_conv(), _conv())), 2),
    "nested alone": (lambda: Sequential(Sequential(Sequential(_conv()))), 0),
    "an activation": (lambda: Sequential(LeakyReLU(), _conv()), 0),
    "shapes": (lambda: Sequential(Flatten(), Reshape(4, 4, 2), _conv(), _conv()), 1),
    "nothing": (lambda: Sequential(Sequential(), _conv()), 0),
    "dx refused": (lambda: Sequential(Untouchable(), Untouchable(), _conv(), _conv()), 1),
    "dx refused, nested": (lambda: Sequential(Sequential(Untouchable()), Sequential(Untouchable(), _conv())), 0),
    "BatchNorm": (lambda: Sequential(Untouchable(), BatchNorm(2), _conv()), 1),
    "no parameters": (lambda: Sequential(Untouchable(), Sequential(Untouchable())), 0),
}


def test_a_plain_function_at_the_entrance_gives_no_dx():
    class Plain(Layer):
        def forward(self, x):
            return 2 * x, lambda dy: 2 * dy

    x = np.ones((2, 3), np.float32)
    _, backward = Sequential(Plain()).forward(x)
    assert backward(x, need_dx=False) is None
    np.testing.assert_array_equal(backward(x), 2 * x)


@pytest.mark.parametrize(("build", "passes"), ENTRANCES.values(), ids=ENTRANCES)
def test_dx_at_the_entrance_is_not_computed(build, passes, backend, monkeypatch):
    network, calls = randomised(build()).to(backend.name), []
    kernel = backend.ops.correlate_adjoint_x
    monkeypatch.setattr(backend.ops, "correlate_adjoint_x", lambda *a: calls.append(a) or kernel(*a))
    y, backward = network.forward(backend.array(np.random.default_rng(0).standard_normal((2, 4, 4, 2))))
    assert backward(ones_like(y), need_dx=False) is None
    assert len(calls) == passes
    assert all(g.any() for g in gradients(network))


def test_frozen_layers_at_the_entrance_are_passed_over(backend, monkeypatch):
    network = randomised(Sequential(_conv(), Tanh(), _conv())).to(backend.name)
    x = backend.array(np.random.default_rng(0).standard_normal((2, 4, 4, 2)))
    monkeypatch.setattr(backend.ops, "correlate_adjoint_x", _refuse)
    for early, late in ((network.layers[0], None), (None, network.layers[0])):
        network.zero_grad()
        with frozen(early) if early else nullcontext():
            y, backward = network.forward(x)
        with frozen(late) if late else nullcontext():
            backward(ones_like(y), need_dx=False)
        assert [host(g).any() for g in gradients(network)] == [False, False, True, True]
    monkeypatch.setattr(backend.ops, "correlate_adjoint_W", _refuse)
    with frozen(network):
        backward(ones_like(y), need_dx=False)


def test_a_transposed_convolution_at_the_entrance_saves_its_correlation(backend, monkeypatch):
    network = randomised(Sequential(ConvTranspose2d(2, 3, 2))).to(backend.name)
    y, backward = network.forward(backend.array(np.ones((1, 3, 3, 2))))
    monkeypatch.setattr(backend.ops, "correlate", _refuse)
    assert backward(ones_like(y), need_dx=False) is None


def test_dense_multiplies_only_what_is_asked_for():
    layer = randomised(Dense(3, 4, bias=False))
    _, backward = layer.forward(np.ones((2, 3)))
    dy = np.ones((2, 4)).view(Watched)

    def products(**how):
        Watched.calls = []
        backward(dy, **how)
        return [name for name, _ in Watched.calls].count("matmul")

    assert [products(), products(need_dx=False)] == [2, 1]
    with frozen(layer):
        assert [products(), products(need_dx=False)] == [1, 0]


# --- layers of one's own ------------------------------------------------------------------------------------------


class Scale(Layer):
    """y = w · x with one number w, written with a plain function for a backward."""

    def __init__(self):
        self.w = Parameter("w", np.full(1, 0.5))

    def forward(self, x):
        w = self.w.value

        def backward(dy):
            self.w.grad += (dy * x).sum()
            return dy * w

        return x * w, backward


def test_a_layer_with_a_plain_backward_works_in_a_network(backend):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    dense, first, last = randomised(Dense(3, 2)), Scale(), Scale()
    W, b = dense.W.value, dense.b.value
    network = Sequential(first, Sequential(dense, last)).to(backend.name)
    _, dx, g_first, dW, db, g_last = evaluate(network, *backend.arrays(x, dy))
    assert [*network.named_parameters()] == ["0.w", "1.0.W", "1.0.b", "1.1.w"]
    assert_close([dx, g_first], [dy @ W.T / 4, [(dy @ W.T / 2 * x).sum()]])
    assert_close([dW, db], [x.T @ dy / 4, dy.sum(axis=0) / 2])
    assert_close([g_last], [(dy * (x / 2 @ W + b)).sum(keepdims=True)[0]])
    network.zero_grad()
    assert network.forward(backend.array(x))[1](backend.array(dy), need_dx=False) is None
    assert_close(gradients(network), [g_first, dW, db, g_last])


def test_parts_of_a_layer_of_ones_own_are_found():
    class Sum(Layer):
        def __init__(self):
            self.parts = [Scale(), Sequential(Scale())]
            self.gain = Parameter("gain", np.ones(1))
            self.pair = (Parameter("left", np.ones(1)), Parameter("right", np.ones(1)))

    assert [*Sum().named_parameters()] == ["parts.0.w", "parts.1.0.w", "gain", "pair.0", "pair.1"]
    assert [*Sum().state()] == [*Sum().named_parameters()]


# --- what is found, and what is overlooked --------------------------------------------------------------------------


class Holder(Layer):
    """A layer of one parameter with any attributes beside."""

    def __init__(self, **held):
        vars(self).update(held)
        self.gain = Parameter("gain", np.ones(1))

    def forward(self, x):
        return x, lambda dy: dy


@dataclass
class Block:
    first: object
    second: object = None


@dataclass(frozen=True, slots=True)
class Record:
    part: object


Pair = namedtuple("Pair", "left right")


class Plain:
    """No Module."""

    def __init__(self, **held):
        vars(self).update(held)


class Slotted:
    __slots__ = ("part",)

    def __init__(self, part):
        self.part = part


def _in_itself():
    parts = [Scale()]
    parts.append(parts)
    return parts


FOUND = {  # what is held as `held`, and the names
    "a list of lists": (lambda: [[Scale()], [Scale(), Scale()]], ["0.0.w", "1.0.w", "1.1.w"]),
    "a tuple in a dict in a list": (lambda: [{"a": (Scale(),), 3: None}], ["0.a.0.w"]),
    "five deep": (lambda: [[[[[Scale()]]]]], ["0.0.0.0.0.w"]),
    "bare parameters": (lambda: {"W": [Parameter("W", np.ones(2))]}, ["W.0"]),
    "a dataclass": (lambda: Block(Scale(), [Scale()]), ["first.w", "second.0.w"]),
    "dataclasses in a list": (lambda: [Block(Scale()), Record(Scale())], ["0.first.w", "1.part.w"]),
    "a named tuple": (lambda: Pair(Scale(), [Scale()]), ["0.w", "1.0.w"]),
    "a deque": (lambda: deque([Scale(), [Scale()]]), ["0.w", "1.0.w"]),
    "a read-only mapping": (lambda: MappingProxyType({"a": Scale()}), ["a.w"]),
    "a default dictionary": (lambda: defaultdict(list, a=[Scale()]), ["a.0.w"]),
    "layers of layers": (lambda: [[Sequential(Scale(), Sequential(Scale()))]], ["0.0.0.w", "0.0.1.0.w"]),
    "a list in itself": (_in_itself, ["0.w"]),
}


@pytest.mark.parametrize(("make", "names"), FOUND.values(), ids=FOUND)
def test_parts_in_containers_are_found_at_any_depth(make, names):
    layer = Holder(held=make())
    names = [f"held.{name}" for name in names] + ["gain"]
    assert [*layer.named_parameters()] == [*layer.state()] == names
    assert [*map(id, layer.parameters())] == [*map(id, layer.named_parameters().values())]
    assert layer.overlooked() == {}
    with frozen(layer):
        assert all(p.frozen for p in layer.named_parameters().values())
    layer.astype(np.float32)
    assert {a.dtype for a in layer.state().values()} == {np.dtype(np.float32)}


def test_what_is_held_twice_counts_once():
    scale, p = Scale(), Parameter("p", np.ones(1))
    layer = Holder(one=[scale, [scale, p]], other={"again": [[scale], p]})
    layer.me = [[layer]]
    assert [*layer.named_parameters()] == ["one.0.w", "one.1.1", "gain"]
    assert len(layer.parameters()) == 3
    shared = [Scale()]
    for _ in range(60):  # one path of 2^60 to each
        shared = [shared, shared]
    assert len(Holder(held=shared).parameters()) == 2


class Ladder(Layer):
    """Dense layers in lists of lists."""

    def __init__(self, rng):
        self.blocks = [[Dense(3, 4, rng=rng), Tanh()], [Dense(4, 1, rng=rng)]]

    def forward(self, x):
        return Sequential(*chain(*self.blocks)).forward(x)


def test_layers_in_lists_of_lists_are_trained_and_saved(tmp_path):
    rng = np.random.default_rng(0)
    layer, copy = Ladder(rng), Ladder(rng)
    before = [p.value for p in layer.parameters()]
    optimizer = Adam(layer.parameters(), 1e-2)
    x = rng.standard_normal((32, 3), np.float32)
    for _ in range(3):
        y, backward = layer.forward(x)
        backward(sg.mse(y, x[:, :1])[1])
        optimizer.step()
    assert len(before) == 4
    assert all((p.value != value).all() for p, value in zip(layer.parameters(), before, strict=True))
    assert not any(p.grad.any() for p in layer.blocks[0][0].parameters())  # they do not pile up
    sg.save_weights(layer, tmp_path / "net.safetensors")
    sg.load_weights(copy, tmp_path / "net.safetensors")
    assert_equal([copy.predict(x)], [layer.predict(x)])


OVERLOOKED = {  # what is held as `held`, and of each thing that is overlooked the name and a word of the reason
    "an object": (lambda: Plain(part=Scale()), {"held.part": "Plain, which is no Module"}),
    "its list": (lambda: Plain(parts=[[Scale()], Scale()]), {"held.parts.0.0": "Plain", "held.parts.1": "Plain"}),
    "objects in a list": (lambda: [Plain(w=Parameter("w", np.ones(2)))], {"held.0.w": "in held.0, a Plain"}),
    "an object in an object": (lambda: Plain(a=Plain(b=Scale())), {"held.a.b": "in held.a, a Plain"}),
    "an object with slots": (lambda: Slotted(Scale()), {"held.part": "Slotted, which is no Module"}),
    "a set": (lambda: {Scale()}, {"held.0": "in the set held, which has no order"}),
    "an array of objects": (lambda: np.array([Scale(), None]), {"held.0": "in the array held"}),
    "a bound method": (lambda: Scale().forward, {"held.__self__": "in the function held"}),
    "a partial function": (lambda: partial(map, Scale()), {"held.0": "in the function held"}),
}


@pytest.mark.parametrize(("make", "expected"), OVERLOOKED.values(), ids=OVERLOOKED)
def test_what_cannot_be_found_is_said(make, expected, tmp_path):
    layer = Sequential(Holder(held=make()))
    expected = {f"0.{name}": word.replace("held", "0.held") for name, word in expected.items()}
    found = layer.overlooked()
    assert found.keys() == expected.keys()
    assert [name for name, word in expected.items() if word not in found[name]] == []
    path = tmp_path / "net.safetensors"
    for call in (layer.parameters, layer.named_parameters, layer.state, partial(sg.save_weights, layer, path)):
        with pytest.warns(UserWarning, match=r"^Sequential: not found, so neither trained nor saved: 0\.held\."):
            call()
    model = Autoencoder(layer, Dense(2, 2).astype(np.float64))
    with pytest.warns(UserWarning, match="^Autoencoder: not found"):
        optimizer = Adam(model.parameters())
    with frozen(layer):  # a training step says nothing
        model.train_step(np.ones((1, 2)), optimizer)
        model.zero_grad()


@pytest.mark.parametrize("name", ["W", "W1", "b", "b2", "W_x", "Wxh", "weight", "weights", "bias", "gamma", "kernel"])
def test_arrays_with_the_name_of_a_weight_are_said(name):
    layer = Holder(**{name: np.ones(3, np.float32)})
    assert [*layer.overlooked()] == [name]
    with pytest.warns(UserWarning, match=rf": {name} \(a plain array: make it a Parameter, or name it in `buffers`"):
        layer.parameters()
    layer.buffers = (name,)
    assert layer.overlooked() == {}
    assert name in layer.state()


def test_arrays_of_weights_in_containers_and_objects_are_said():
    layer = Holder(params={"W1": np.ones(2)}, cell=Plain(W=np.ones(2)), layers=[[{"bias": np.ones(2)}]])
    assert [*layer.overlooked()] == ["params.W1", "cell.W", "layers.0.0.bias"]


def test_many_are_said_in_one_sentence():
    layer = Holder(**{f"W{i}": np.ones(2) for i in range(5)}, box=Plain(part=Scale()))
    with pytest.warns(UserWarning, match="W0, W1, W2 and 2 more") as caught:
        layer.parameters()
    (warning,) = caught
    assert "2 more (a plain array: " in str(warning.message)
    assert "; box.part (in box, a Plain, which is no Module: derive Plain from Layer" in str(warning.message)
    assert warning.filename == __file__


def test_layers_of_the_class_are_said():
    class Shared(Layer):
        inner = Dense(2, 2)
        both = [[Scale()]]
        W = np.ones(2)

    found = Shared().overlooked()
    assert found.keys() == {"inner", "W", "both.0.0"}
    assert "an attribute of the class Shared, which all its instances share: set it in __init__" in found["inner"]
    layer = Shared()
    layer.inner, layer.both, layer.W = Dense(2, 2), [], Parameter("W", np.ones(2))
    assert layer.overlooked() == {}


def _hidden(layer):
    return lambda: layer


def _watched(layer):
    layer.trainer = Plain(model=Sequential(layer, Scale()), optimizer=Adam(layer.parameters()))
    return layer


QUIET = {
    "constants": lambda: Holder(mask=np.ones(3), noise=np.ones(3), table=np.ones((2, 2)), mean=np.ones(3)),
    "what a forward kept": lambda: Holder(x=np.ones(3), dW=np.ones(3), y=[np.ones(3)]),
    "labels and numbers": lambda: Holder(W=3.0, b=np.arange(3), weights=[0.5, 0.5], bias=True, kernel=(3, 3)),
    "a function that holds a network": lambda: Holder(teacher=_hidden(Scale())),
    "a trainer that holds the network": lambda: _watched(Holder()),
    "an optimizer": lambda: _watched(Holder(parts=[[Scale()]])).trainer.model,
    "a generator and a class": lambda: Holder(rng=np.random.default_rng(0), kind=Scale, made=iter([1])),
}


@pytest.mark.parametrize("make", QUIET.values(), ids=QUIET)
def test_nothing_is_said_of_what_is_not_learned(make):
    assert make().overlooked() == {}


@every_layer
def test_nothing_is_overlooked_in_the_layers(row):
    layer, x, _ = row.draw()
    layer.forward(x)
    assert layer.overlooked() == {}


def test_a_figure_on_a_layer_costs_no_search_without_end():
    layer = Holder(figure=[Plain(a=[Plain()]) for _ in range(20_000)])
    assert layer.overlooked() == {}


def test_two_parts_of_one_name_are_refused():
    """A file would hold one of them."""
    layer = Holder(parts={1: Scale(), "1": Scale()})
    assert len(layer.parameters()) == 3
    for call in (layer.named_parameters, layer.state):
        with pytest.raises(ValueError, match=r"Holder: two parts have the name 'parts\.1'"):
            call()


def test_a_layer_may_list_its_own_parameters():
    class Lister(Holder):
        def parameters(self):
            return [*super().parameters(), self.hidden().w]

    scale = Scale()
    layer = Lister(hidden=lambda: scale)
    with frozen(layer):
        assert scale.w.frozen
    scale.w.grad[...] = 1
    layer.zero_grad()
    assert not scale.w.grad.any()


@pytest.mark.parametrize("make", [Adam, lambda p: SGD(p, 0.1, momentum=0.9)], ids=["Adam", "SGD"])
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


def test_predict_of_a_layer_of_ones_own_is_its_forward(backend):
    layer = Scale().to(backend.name)
    assert_equal([layer.predict(backend.array(np.ones((2, 3))))], [np.full((2, 3), 0.5)])


# --- moving and converting ----------------------------------------------------------------------------------------


@every_layer
def test_to_numpy_changes_nothing(row):
    layer = row.layer()
    before, arrays = snapshot(layer), layer.state().values()
    assert layer.to("numpy") is layer
    assert changed(before, snapshot(layer)) == set()
    assert all(a is b for a, b in zip(layer.state().values(), arrays, strict=True))


@every_layer
def test_there_and_back(row, device):
    """Everything goes, gradients too, and comes back to the last bit; parameters stay the objects that they are."""
    layer, parameters = row.layer(), None
    fill_gradients(layer)
    parameters, kept = layer.parameters(), [a.copy() for a in (*layer.state().values(), *gradients(layer))]
    for there in (device.name, "numpy"):
        assert layer.to(there) is layer
        arrays = [*layer.state().values(), *gradients(layer)]
        assert {backend_of(a) for a in arrays} <= {there}
        assert_equal(arrays, kept)
        assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_device_gives_the_numbers_of_the_cpu(row, dtype, device):
    expected = [row.layer(dtype=dtype).predict(row.data(dtype=dtype)[0]), *evaluate(*row.draw(dtype=dtype))]
    layer, x, dy = row.draw(device, dtype)
    found = [layer.predict(x), *evaluate(layer, x, dy), *layer.state().values()]
    here = row.layer(dtype=dtype)
    here.forward(row.data(dtype=dtype)[0])
    assert_close(found, [*expected, *here.state().values()], rtol=1e-12 if dtype == np.float64 else 2e-5)
    assert {(backend_of(a), a.dtype) for a in found} == {(device.name, np.dtype(dtype))}


@every_layer
def test_to_cupy_without_cupy_says_what_to_install(row, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    layer = row.layer()
    before = snapshot(layer)
    with pytest.raises(sg.BackendUnavailable, match=r"CuPy is not installed: pip install .*cuda1[0-9]"):
        layer.to("cupy")
    assert changed(before, snapshot(layer)) == set()


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
def test_astype_converts_in_place(row, dtype, backend):
    layer = row.layer(backend)
    fill_gradients(layer)
    arrays, parameters = [*layer.state().values(), *gradients(layer)], layer.parameters()
    assert layer.astype(dtype) is layer
    assert_equal([*layer.state().values(), *gradients(layer)], [a.astype(dtype) for a in arrays])
    assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))


# --- one float all the way through --------------------------------------------------------------------------------


@contextmanager
def locals_watched():
    """The dtype of every array that the library holds in a variable, or returns, inside the block."""
    seen, before = set(), sys.gettrace()

    def look(frame, event, result):
        if not frame.f_globals.get("__name__", "").startswith("scratchgen"):
            return None
        for name, a in (*frame.f_locals.items(), ("result", result)):
            if isinstance(a, ARRAYS):
                seen.add((f"{frame.f_code.co_name}: {name}", a.dtype))
        return look

    sys.settrace(look)
    try:
        yield seen
    finally:
        sys.settrace(before)


def _strangers(dtype, seen) -> set:
    """Where an array of the other float has been seen, in a variable or in arithmetic."""
    other = np.dtype(np.float64 if dtype == np.float32 else np.float32)
    return {where for where, a in seen if a == other} | {name for name, dtypes in Watched.calls if other in dtypes}


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "optimizer", [Adam, lambda p: SGD(p, 0.1), lambda p: SGD(p, 0.1, momentum=0.9)], ids=["Adam", "SGD", "momentum"]
)
def test_a_step_knows_one_float_only(row, dtype, optimizer):
    layer, x, dy = row.draw(dtype=dtype)
    for p in layer.parameters():
        p.value, p.grad = p.value.view(Watched), p.grad.view(Watched)
    stepper = optimizer(layer.parameters()) if layer.parameters() else None
    Watched.calls = []
    with locals_watched() as seen:
        layer.predict(x.view(Watched))
        y, backward = layer.forward(x.view(Watched))
        dx = backward(dy.view(Watched))
        if stepper:
            stepper.step()
    assert _strangers(dtype, seen) == set()
    arrays = [y, dx, *layer.state().values(), *gradients(layer)]
    if stepper:
        arrays += [a for name, a in stepper.state().items() if name != "t"]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "optimizer", [Adam, lambda p: SGD(p, 0.1), lambda p: SGD(p, 0.1, momentum=0.9)], ids=["Adam", "SGD", "momentum"]
)
def test_a_step_on_a_device_gives_one_float_only(row, dtype, optimizer, device):
    layer, x, dy = row.draw(device, dtype)
    stepper = optimizer(layer.parameters()) if layer.parameters() else None
    arrays = [layer.predict(x), *evaluate(layer, x, dy)]
    if stepper:
        stepper.step()
        arrays += [a for name, a in stepper.state().items() if name != "t"]
    assert {a.dtype for a in (*arrays, *layer.state().values(), *gradients(layer))} == {np.dtype(dtype)}


@pytest.mark.parametrize("make", [lambda p, lr: SGD(p, lr), lambda p, lr: SGD(p, lr, np.float64(0.9)), Adam])
def test_a_learning_rate_from_numpy_does_not_widen_the_weights(make, backend):
    p = Parameter("W", backend.array(np.ones(3, np.float32)))
    optimizer = make([p], np.float64(0.1))
    optimizer.step()
    optimizer.lr = np.float64(0.05)
    optimizer.step()
    assert p.value.dtype == p.grad.dtype == np.float32


@pytest.mark.parametrize(
    "loss", [sg.mse, sg.bce_with_logits, sg.softmax_cross_entropy, sg.gaussian_kl, sg.gaussian_nll]
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_losses_know_one_float_only(loss, dtype):
    arrays = [a.astype(dtype) for a in np.random.default_rng(0).random((3, 4, 5))][
        : 3 if loss is sg.gaussian_nll else 2
    ]
    arrays[1] /= arrays[1].sum(axis=1, keepdims=True)  # also probabilities of classes
    Watched.calls = []
    with locals_watched() as seen:
        results = loss(*(a.view(Watched) for a in arrays))
        if loss is sg.gaussian_nll:
            results += loss(arrays[0].view(Watched), 0.3, arrays[2])
    assert _strangers(dtype, seen) == set()
    assert {a.dtype for a in results} == {np.dtype(dtype)}


# --- state --------------------------------------------------------------------------------------------------------


@every_layer
def test_state_goes_round(row, backend):
    layer, other = row.layer(backend), row.layer(backend, seed=9)
    kept = {name: a.copy() for name, a in layer.state().items()}
    other.load_state(layer.state())
    assert list(other.state()) == list(kept)
    assert_equal(other.state().values(), kept.values())
    assert not any(map(shares_memory, layer.state().values(), other.state().values()))
    x, dy = row.data(backend)
    assert_equal(evaluate(other, x, dy), evaluate(layer, x, dy))


@every_layer
def test_state_goes_into_the_dtype_of_the_layer(row, backend):
    layer, single = row.layer(backend), row.layer(backend, np.float32, seed=9)
    single.load_state(layer.state())
    assert_equal(single.state().values(), [a.astype(np.float32) for a in layer.state().values()])
    assert all(p.grad.dtype == np.float32 for p in single.parameters())


@every_layer
def test_state_goes_from_one_library_into_another(row, device):
    """What a checkpoint holds on either: each keeps its own library."""
    for from_, into in ((device, NUMPY), (NUMPY, device)):
        layer, other = row.layer(from_), row.layer(into, seed=9)
        other.load_state(layer.state())
        assert_equal(other.state().values(), layer.state().values())
        assert {backend_of(a) for a in other.state().values()} <= {into.name}


def test_state_counts_what_is_shared_once(backend):
    shared = Dense(3, 3).to(backend.name)
    network = Sequential(shared, shared, Sequential(shared, ReLU()))
    assert list(network.state()) == ["0.W", "0.b"]
    one, other = Dense(3, 3), Dense(3, 3)
    other.W = one.W
    tied = Sequential(one, other).to(backend.name)
    assert list(tied.state()) == ["0.W", "0.b", "1.b"]
    new = {name: a + 1 for name, a in tied.state().items()}
    tied.load_state(new)
    assert other.W is one.W
    assert_equal(tied.state().values(), new.values())


# --- two faces of one map -----------------------------------------------------------------------------------------

GEOMETRIES = [  # kernel, stride, padding, dilation, (H, W)
    (3, 1, 0, 1, (5, 6)),
    (4, 2, 1, 1, (8, 7)),
    (5, 2, 2, 1, (9, 8)),
    ((3, 2), (2, 3), (1, 0), (1, 2), (8, 9)),
    (3, 1, 1, 2, (7, 5)),
    (2, 3, 0, 1, (7, 8)),
    (1, 1, 0, 1, (3, 3)),
    (4, 2, 1, 1, (28, 28)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "size"), GEOMETRIES)
def test_one_mans_backward_is_the_others_forward(kernel, stride, padding, dilation, size, backend):
    rng = np.random.default_rng(0)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "bias": False}
    conv = randomised(Conv2d(2, 3, kernel, **how)).to(backend.name)
    x = backend.array(rng.standard_normal((4, *size, 2)))
    y, backward = conv.forward(x)
    dy = backend.array(rng.standard_normal(y.shape))

    short = ConvTranspose2d(3, 2, kernel, **how).astype(np.float64).to(backend.name)
    lost = tuple(n - m for n, m in zip(size, short.predict(dy).shape[1:3], strict=True))
    transposed = ConvTranspose2d(3, 2, kernel, **how, output_padding=lost).astype(np.float64).to(backend.name)
    transposed.W.value = conv.W.value

    stamped, correlate = transposed.forward(dy)
    assert_equal([backward(dy), y], [stamped, correlate(x)])
    assert_equal([conv.W.grad], [transposed.W.grad])


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


# --- BatchNorm ----------------------------------------------------------------------------------------------------


class TestBatchNorm:
    x = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 2))
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))

    def test_starts_as_the_plain_normalisation(self):
        layer = BatchNorm(2)
        assert (layer.eps, layer.momentum) == (1e-5, 0.1)
        ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
        assert_equal(
            [layer.gamma.value, layer.beta.value, layer.running_mean, layer.running_var], [ones, zeros, zeros, ones]
        )

    def test_normalises_channels_not_pixels_with_the_biased_variance_and_eps_inside_the_root(self, backend):
        layer = randomised(BatchNorm(2, eps=0.5)).to(backend.name)
        y, _ = layer.forward(backend.array(self.x))
        normal = (self.x - self.mean) / np.sqrt(self.var + 0.5)
        assert_close([y], [host(layer.gamma.value) * normal + host(layer.beta.value)])

    def test_default_eps(self, backend):
        layer = BatchNorm(1).astype(np.float64).to(backend.name)
        x = np.array([[0.001], [-0.001]])  # variance 1e-6, far below eps
        assert_close([layer.forward(backend.array(x))[0]], [x / np.sqrt(1e-6 + 1e-5)])

    def test_vectors_are_images_of_one_pixel(self, backend):
        layer, x = randomised(BatchNorm(2)).to(backend.name), backend.array(self.x)
        assert_close([layer.forward(x)[0].reshape(-1, 2)], [layer.forward(x.reshape(-1, 2))[0]])

    @pytest.mark.parametrize("momentum", [0.1, 0.7, 0, 1])
    def test_running_statistics(self, momentum, backend):
        layer = randomised(BatchNorm(2, momentum=momentum)).to(backend.name)
        mean, var = host(layer.running_mean), host(layer.running_var)
        unbiased = self.x.reshape(-1, 2).var(axis=0, ddof=1)
        for _ in range(2):
            layer.forward(backend.array(self.x))
            mean = (1 - momentum) * mean + momentum * self.mean
            var = (1 - momentum) * var + momentum * unbiased
            assert_close([layer.running_mean, layer.running_var], [mean, var])

    def test_predict_uses_them_and_leaves_them_alone(self, backend):
        layer = randomised(BatchNorm(2, eps=0.5)).to(backend.name)
        before = snapshot(layer)
        normal = (self.x - host(layer.running_mean)) / np.sqrt(host(layer.running_var) + 0.5)
        expected = host(layer.gamma.value) * normal + host(layer.beta.value)
        assert_close([layer.predict(backend.array(self.x))], [expected])
        assert changed(before, snapshot(layer)) == set()

    def test_forward_does_not_use_them(self, backend):
        x = backend.array(self.x)
        y, _ = randomised(BatchNorm(2)).to(backend.name).forward(x)
        layer = randomised(BatchNorm(2)).to(backend.name)
        layer.running_mean, layer.running_var = layer.running_mean + 5, 3 * layer.running_var
        assert_equal([layer.forward(x)[0]], [y])

    def test_old_statistics_are_kept_by_whoever_holds_them(self, backend):
        layer = randomised(BatchNorm(2)).to(backend.name)
        held = layer.state()
        kept = {name: a.copy() for name, a in held.items()}
        layer.forward(backend.array(self.x))
        assert_equal(held.values(), kept.values())


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
@pytest.mark.parametrize("make", [Adam, lambda p: SGD(p, 0.1, momentum=0.9)], ids=["Adam", "SGD"])
def test_optimizers_take_any_memory_layout(make, layout, backend):
    start = layout(backend.xp, backend.array(START))
    assert_close(_steps(backend, make, G, start), _steps(NUMPY, make, G))


def test_sgd_by_hand(backend):
    assert_close(_steps(backend, lambda p: SGD(p, 0.1), G), START - 0.1 * np.cumsum(G, axis=0))


def test_sgd_with_momentum_by_hand(backend):
    value, u, expected = START, 0, []
    for g in G:
        u = 0.9 * u + g
        value = value - 0.1 * u
        expected.append(value)
    assert_close(_steps(backend, lambda p: SGD(p, 0.1, momentum=0.9), G), expected)


OPTIMIZERS = {"SGD": lambda p: SGD(p, 0.1), "momentum": lambda p: SGD(p, 0.1, momentum=0.9), "Adam": Adam}
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


# --- losses -------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
LOSSES = {  # the loss, and its arguments as (N, features)
    "mse": (sg.mse, RNG.random((2, 4, 3))),
    "bce_with_logits": (bce_with_logits, RNG.random((2, 4, 3))),
    "gaussian_nll": (sg.gaussian_nll, RNG.random((3, 4, 3))),
    "gaussian_kl": (sg.gaussian_kl, RNG.random((2, 4, 3))),
    "softmax_cross_entropy": (sg.softmax_cross_entropy, RNG.dirichlet(np.ones(3), (2, 4))),
}
every_loss = pytest.mark.parametrize(("loss", "arguments"), LOSSES.values(), ids=LOSSES)


@every_loss
def test_a_loss_averages_over_the_batch_and_sums_over_features(loss, arguments, backend):
    value, *grads = map(host, loss(*backend.arrays(*arguments)))
    twice, *twice_grads = loss(*backend.arrays(*np.tile(arguments, (1, 2, 1))))
    assert_close([twice, *twice_grads], [value, *(np.tile(g, (2, 1)) / 2 for g in grads)])
    if loss is not sg.softmax_cross_entropy:  # whose features are one choice
        wide, *wide_grads = loss(*backend.arrays(*np.tile(arguments, 2)))
        assert_close([wide, *wide_grads], [2 * value, *(np.tile(g, 2) for g in grads)])


@every_loss
def test_a_loss_writes_into_nothing_and_returns_gradients_of_the_arguments_shape(loss, arguments, backend):
    given = backend.arrays(*arguments)
    for a in given if backend.is_host else ():
        a.setflags(write=False)
    _, *grads = loss(*given)
    assert_equal(given, arguments)
    assert all(g.shape == a.shape and not shares_memory(g, a) for g, a in zip(grads, given, strict=False))


@pytest.mark.parametrize("dtype", FLOATS)
def test_bce_is_finite_and_unclipped_far_out(dtype, backend):
    logits = np.array([[1e4, -1e4, 1e4, -1e4, 50, -50]], dtype)
    target = np.array([[0, 1, 1, 0, 0, 1]], dtype)
    loss, dlogits = map(host, bce_with_logits(*backend.arrays(logits, target)))
    assert loss == pytest.approx(2e4 + 100)
    np.testing.assert_allclose(dlogits, [[1, -1, 0, 0, 1, -1]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_cross_entropy_is_finite_and_unclipped_far_out(dtype, backend):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype)
    loss, dlogits = map(host, sg.softmax_cross_entropy(*backend.arrays(logits, np.array([1, 1]))))
    assert loss == pytest.approx(1e4)
    np.testing.assert_allclose(dlogits, [[0.5, -0.5, 0], [0, 0, 0]])


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
    initialise(layer, lambda shape, *_: np.ones(shape, np.float32), None)
    x = np.ones((1, 7) if isinstance(layer, Dense) else (1, 40, 40, 3), np.float32)
    y, backward = layer.forward(x)
    counts = [a if a.ndim == 2 else a[:, 12:24, 12:24] for a in (y, backward(np.ones_like(y)))]  # far from the edge
    fans = []
    initialise(layer, lambda shape, *rest: fans.append(rest) or np.zeros(shape, np.float32), None)
    assert fans == [(counts[0].mean(), counts[1].mean(), None)]


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


# --- the autoencoder ----------------------------------------------------------------------------------------------

MODELS = {
    "dense": lambda loss: dense_autoencoder(
        (4, 4, 1), latent=3, hidden=(8,), loss=loss, rng=np.random.default_rng(0)
    ),
    "conv": lambda loss: conv_autoencoder((6, 5, 1), latent=3, width=3, loss=loss, rng=np.random.default_rng(0)),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
every_model_loss = pytest.mark.parametrize("loss", ["bernoulli", "squared-error"])


def _images(make, n=16):
    shape = (4, 4, 1) if make is MODELS["dense"] else (6, 5, 1)
    return np.random.default_rng(1).random((n, *shape)).astype(np.float32)


@every_model
@every_model_loss
def test_the_autoencoders_loss_returns_its_pullback(make, loss, backend):
    model, x = randomised(make(loss)).to(backend.name), backend.array(_images(make).astype(np.float64))
    value, backward = model.loss(x)
    y = model.decoder.predict(model.encoder.predict(x))
    expected, dy = (bce_with_logits if loss == "bernoulli" else sg.mse)(y, x)
    assert_close([value], [expected])
    before = fill_gradients(model)
    assert backward() is None
    added = [g - g0 for g, g0 in zip(gradients(model), before, strict=True)]
    _, dz, *decoder = evaluate(model.decoder, model.encoder.predict(x), dy)
    _, _, *encoder = evaluate(model.encoder, x, dz)
    assert_close(added, [*encoder, *decoder], rtol=1e-10)


@every_model
@every_model_loss
def test_a_training_step_moves_every_parameter(make, loss, backend):
    model, x = make(loss).to(backend.name), backend.array(_images(make))
    before = {name: p.value for name, p in model.named_parameters().items()}
    optimizer = Adam(model.parameters(), 0.01)
    expected, _ = model.loss(x)
    assert model.train_step(x, optimizer) == expected
    assert [name for name, p in model.named_parameters().items() if not (p.value != before[name]).any()] == []
    assert not any(g.any() for g in gradients(model))
    for _ in range(20):
        model.train_step(x, optimizer)
    assert model.loss(x)[0] < expected


@every_model
@every_model_loss
def test_coding_is_deterministic(make, loss, backend):
    model, x = make(loss).to(backend.name), backend.array(_images(make))
    before = snapshot(model)
    z = model.encode(x)
    assert z.shape == (16, 3)
    assert_equal([model.encode(x), model.reconstruct(x)], [z, model.decode(z)])
    y = model.decoder.predict(z)
    y = host(y)
    expected = 1 / (1 + np.exp(-y)) if loss == "bernoulli" else y
    np.testing.assert_allclose(host(model.decode(z)), expected, rtol=1e-5)
    assert changed(before, snapshot(model)) == set()


def test_the_autoencoder_asks_for_no_gradient_of_the_images(backend, monkeypatch):
    model = conv_autoencoder((4, 4, 1), width=2).to(backend.name)
    _, backward = model.loss(backend.array(np.ones((2, 4, 4, 1), np.float32)))
    calls, kernel = [], backend.ops.correlate_adjoint_x
    monkeypatch.setattr(backend.ops, "correlate_adjoint_x", lambda *a: calls.append(a) or kernel(*a))
    backward()
    assert len(calls) == 1  # the second convolution of the encoder


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


def test_a_sequential_of_ones_own_keeps_its_own_parameters():
    class Scaled(Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.scale = Parameter("scale", np.ones(2, np.float32))

    assert list(Scaled(Dense(2, 2)).named_parameters()) == ["0.W", "0.b", "scale"]


def test_small_probabilities_and_variances_are_not_lost(backend):
    for s, t in ((20.0, 1.0), (-20.0, 0.0)):
        arguments = backend.arrays(np.full((1, 1), s, np.float32), np.full((1, 1), t, np.float32))
        loss, ds = map(host, sg.bce_with_logits(*arguments))
        assert loss == pytest.approx(np.log1p(np.exp(-20)), rel=1e-6)
        assert abs(ds[0, 0]) == pytest.approx(1 / (1 + np.exp(20)), rel=1e-6)
    mu, logvar = backend.arrays(np.zeros((1, 1), np.float32), np.full((1, 1), -100, np.float32))
    results = sg.gaussian_nll(mu, logvar, mu)
    assert [float(r.sum()) for r in results] == pytest.approx([0.5 * (np.log(2 * np.pi) - 100), 0, 0.5])


def test_statistics_follow_the_float_of_the_step(backend):
    layer = BatchNorm(2).to(backend.name)
    for dtype in (np.float64, np.float32):
        for p in layer.parameters():
            p.value = p.value.astype(dtype)
        x = backend.array(np.random.default_rng(0).random((4, 2)).astype(dtype))
        assert layer.predict(x).dtype == dtype
        layer.forward(x)
        assert layer.running_mean.dtype == layer.running_var.dtype == dtype


def test_the_frozen_entrance_of_a_model_costs_the_decoder_no_dz(backend, monkeypatch):
    model = sg.Autoencoder(Dense(3, 2), Sequential(sg.Reshape(1, 1, 2), sg.Conv2d(2, 3, 1), sg.Flatten()))
    model.to(backend.name)
    monkeypatch.setattr(backend.ops, "correlate_adjoint_x", _refuse)
    _, backward = model.loss(backend.array(np.ones((2, 3), np.float32)))
    with frozen(model.encoder):
        backward()
