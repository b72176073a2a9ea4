"""Every sentence of the contract, over every layer of the table where it speaks of all of them."""

import copy
import inspect
import sys
from contextlib import nullcontext, suppress
from functools import partial

import numpy as np
import pytest
from backends import NUMPY, host, like
from comparing import (
    FLOATS,
    LAYOUTS,
    Scale,
    Watched,
    _refuse,
    _strangers,
    assert_close,
    assert_equal,
    evaluate,
    fill_gradients,
    floats,
    gradients,
    locals_watched,
    shares_memory,
)
from layer_table import TABLE, changed, every_layer, every_layer_that_learns, over, randomised, snapshot

import scratchgen as sg
from scratchgen import (
    SGD,
    Adam,
    AdamW,
    Autoencoder,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    Parameter,
    ReLU,
    Reshape,
    RMSprop,
    Sequential,
    Tanh,
    frozen,
    init,
    initialise,
)
from scratchgen.backend import backend_of

OPTIMIZERS = {
    "Adam": Adam,
    "AdamW": AdamW,
    "RMSprop": RMSprop,
    "SGD": lambda p: SGD(p, 0.1),
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def ones_like(y):
    return like(y, np.ones(y.shape))


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
    sg.MaxPool2d: "(kernel_size, *, stride=None, padding=0)",
    sg.AvgPool2d: "(kernel_size, *, stride=None, padding=0)",
    sg.Dropout: "(rate=0.5, *, rng=None)",
    sg.RandomFlip: "(*, rng=None)",
    sg.RandomShift: "(most=0.125, *, rng=None)",
    sg.RandomCutout: "(share=0.5, *, rng=None)",
    sg.Flatten: "()",
    sg.Reshape: "(*shape)",
    sg.Sequential: "(*layers)",
    sg.SGD: "(parameters, lr, momentum=0)",
    sg.Adam: "(parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08)",
    sg.AdamW: "(parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)",
    sg.RMSprop: "(parameters, lr=0.001, beta=0.9, eps=1e-08)",
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
    "AdamW": lambda layer: AdamW(layer.parameters(), 0.5).step(),
    "RMSprop": lambda layer: RMSprop(layer.parameters(), 0.5).step(),
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
    if not row.predicts_otherwise:
        assert_equal([y], [layer.forward(x)[0]])
    elif isinstance(layer, Sequential):
        for part in layer.layers:
            x = part.predict(x)
        assert_equal([y], [x])


# --- parameters ---------------------------------------------------------------------------------------------------

NAMES = {
    Dense: ["W", "b"],
    Conv2d: ["W", "b"],
    ConvTranspose2d: ["W", "b"],
    BatchNorm: ["gamma", "beta"],
    LayerNorm: ["gamma", "beta"],
}


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
        assert {backend_of(a) for a in (*floats(layer), *gradients(layer))} <= {there}
        assert_equal([*layer.state().values(), *gradients(layer)], kept)
        assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_device_gives_the_numbers_of_the_cpu(row, dtype, device):
    expected = [row.layer(dtype=dtype).predict(row.data(dtype=dtype)[0]), *evaluate(*row.draw(dtype=dtype))]
    layer, x, dy = row.draw(device, dtype)
    found = [layer.predict(x), *evaluate(layer, x, dy), *floats(layer)]
    here = row.layer(dtype=dtype)
    here.forward(row.data(dtype=dtype)[0])
    assert_close(found, [*expected, *floats(here)], rtol=1e-12 if dtype == np.float64 else 2e-5)
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
    arrays, parameters = [*floats(layer), *gradients(layer)], layer.parameters()
    assert layer.astype(dtype) is layer
    assert_equal([*floats(layer), *gradients(layer)], [a.astype(dtype) for a in arrays])
    assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
@every_optimizer
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
    arrays = [y, dx, *floats(layer), *gradients(layer)]
    if stepper:
        arrays += [a for name, a in stepper.state().items() if name != "t"]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


@every_layer
@pytest.mark.parametrize("dtype", FLOATS)
@every_optimizer
def test_a_step_on_a_device_gives_one_float_only(row, dtype, optimizer, device):
    layer, x, dy = row.draw(device, dtype)
    stepper = optimizer(layer.parameters()) if layer.parameters() else None
    arrays = [layer.predict(x), *evaluate(layer, x, dy)]
    if stepper:
        stepper.step()
        arrays += [a for name, a in stepper.state().items() if name != "t"]
    assert {a.dtype for a in (*arrays, *floats(layer), *gradients(layer))} == {np.dtype(dtype)}


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
    assert_equal(floats(single), [a.astype(np.float32) for a in floats(layer)])
    assert all(p.grad.dtype == np.float32 for p in single.parameters())


@every_layer
def test_state_goes_from_one_library_into_another(row, device):
    """What a checkpoint holds on either: each keeps its own library."""
    for from_, into in ((device, NUMPY), (NUMPY, device)):
        layer, other = row.layer(from_), row.layer(into, seed=9)
        other.load_state(layer.state())
        assert_equal(other.state().values(), layer.state().values())
        assert {backend_of(a) for a in floats(other)} <= {into.name}


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


def test_statistics_follow_the_float_of_the_step(backend):
    layer = BatchNorm(2).to(backend.name)
    for dtype in (np.float64, np.float32):
        for p in layer.parameters():
            p.value = p.value.astype(dtype)
        x = backend.array(np.random.default_rng(0).random((4, 2)).astype(dtype))
        assert layer.predict(x).dtype == dtype
        layer.forward(x)
        assert layer.running_mean.dtype == layer.running_var.dtype == dtype
