"""Every bad input is refused at once, by name, with what was got and what is needed; and nothing has changed."""

import copy
import re
import sys
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import standin
from backends import NUMPY, host, like
from layer_table import changed, every_layer, every_layer_that_learns, randomised, snapshot

import scratchgen as sg
from scratchgen import (
    GAN,
    SGD,
    VAE,
    Adam,
    Autoencoder,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Flatten,
    Layer,
    LeakyReLU,
    Module,
    Parameter,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    backend,
    conv_autoencoder,
    dcgan_optimizers,
    dense_autoencoder,
    frozen,
    init,
    initialise,
    point_gan,
)


def refuses(call, error, *words, owners=()):
    """The call raises this error with these words in its message, and leaves its owners as they were."""
    for p in (p for owner in owners if isinstance(owner, Module) for p in owner.parameters()):
        p.grad[...] = like(p.grad, np.random.default_rng(3).standard_normal(p.grad.shape))
    before = snapshot(*owners)
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert caught.type in (error if isinstance(error, tuple) else (error,))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert changed(before, snapshot(*owners)) == set()


class Emit(Layer):
    """Passes on something else than it was given."""

    def __init__(self, output):
        self.output = output

    def forward(self, x):
        return self.output, lambda dy: x


def refuses_input(layer, x, error, *words, backend=NUMPY):
    """In forward and predict, alone and at the end of a network whose BatchNorm has already seen the batch."""
    network = Sequential(BatchNorm(2).to(backend.name), Sequential(Emit(x), layer))
    good = backend.array(np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32))
    for method in ("forward", "predict"):
        refuses(partial(getattr(layer, method), x), error, *words, owners=[layer])
        refuses(partial(getattr(network, method), good), error, *words, owners=[network])


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


LOSSES = {
    "mse": (sg.mse, ["y", "target"]),
    "bce_with_logits": (sg.bce_with_logits, ["logits", "target"]),
    "softmax_cross_entropy": (sg.softmax_cross_entropy, ["logits", "target"]),
    "gaussian_nll": (sg.gaussian_nll, ["mu", "logvar", "target"]),
    "gaussian_kl": (sg.gaussian_kl, ["mu", "logvar"]),
}
ARGUMENTS = [(name, i) for name, (_, names) in LOSSES.items() for i in range(len(names))]
OPTIMIZERS = {
    "SGD": lambda p: SGD(p, 0.1),
    "SGD with momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "Adam": Adam,
}


# --- shapes -------------------------------------------------------------------------------------------------------

SHAPES = [  # a layer, the shape it gets, and more that it needs to say
    (Dense(3, 4), (3,), "(N, 3)"),
    (Dense(3, 4), (2, 3, 3), "(N, 3)"),
    (Dense(3, 4), (2, 4), "(N, 3)"),
    (Dense(3, 4), (), "(N, 3)"),
    (Conv2d(3, 4, 2), (5, 5, 3), "(N, H, W, 3)"),
    (Conv2d(3, 4, 2), (2, 5, 5, 4), "(N, H, W, 3)"),
    (Conv2d(3, 4, 2), (2, 3, 5, 5), "(N, H, W, 3)"),
    (Conv2d(3, 4, 2), (2, 3), "(N, H, W, 3)"),
    (ConvTranspose2d(3, 4, 2), (5, 5, 3), "(N, H, W, 3)"),
    (ConvTranspose2d(3, 4, 2), (2, 5, 5, 4), "(N, H, W, 3)"),
    (BatchNorm(3), (3,), "(N, ..., 3)"),
    (BatchNorm(3), (2, 4), "(N, ..., 3)"),
    (BatchNorm(3), (2, 3, 5, 5), "(N, ..., 3)"),
    (ReLU(), (), "(N, ...)"),
    (LeakyReLU(), (), "(N, ...)"),
    (Tanh(), (), "(N, ...)"),
    (Sigmoid(), (), "(N, ...)"),
    (Flatten(), (), "(N, ...)"),
    (Reshape(2, 3), (), "(N, ...)"),
    (Reshape(2, 3), (2, 5), "5 elements", "6"),
    (Reshape(2, 3), (3, 2), "2 elements", "6"),
    (Sequential(ReLU(), Dense(3, 4)), (2, 4), "(N, 3)"),
    (Sequential(Dense(3, 4), Tanh(), Dense(5, 2)), (2, 3), "(2, 4)", "(N, 5)"),
]


@pytest.mark.parametrize(("layer", "shape", "needs"), [(a, b, c) for a, b, *c in SHAPES], ids=str)
def test_wrong_shape(layer, shape, needs):
    part = layer.layers[-1] if isinstance(layer, Sequential) else layer
    got = [] if isinstance(layer, Sequential) else [str(shape)]
    refuses_input(layer, ones(*shape), ValueError, str(part), *got, *needs)


@pytest.mark.parametrize(
    ("layer", "size", "words"),
    [
        (Conv2d(2, 3, 3), (2, 5), ["2×5", "3×3"]),
        (Conv2d(2, 3, 5, padding=1), (2, 2), ["2×2", "4×4", "5×5"]),
        (Conv2d(2, 3, (2, 6)), (6, 5), ["6×5", "2×6"]),
        (Conv2d(2, 3, 2, dilation=4), (4, 4), ["4×4", "5×5"]),
        (ConvTranspose2d(2, 3, 2, padding=3), (2, 2), ["2×2", "-3×-3", "1×1"]),
        (ConvTranspose2d(2, 3, (3, 2), padding=(0, 1)), (2, 1), ["2×1", "4×0", "1×1"]),
    ],
    ids=str,
)
def test_images_that_are_too_small(layer, size, words):
    refuses_input(layer, ones(2, *size, 2), ValueError, str(layer), *words)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3)])
def test_batchnorm_needs_two_values_a_channel_to_train(shape):
    layer, x = BatchNorm(3), ones(*shape)
    refuses(lambda: layer.forward(x), ValueError, "BatchNorm(3)", str(shape), "two", owners=[layer])
    assert layer.predict(x).shape == shape
    network = Sequential(BatchNorm(2), Dense(2, 3), Emit(x), BatchNorm(3))
    refuses(lambda: network.forward(ones(4, 2)), ValueError, "BatchNorm(3)", str(shape), owners=[network])


# --- kinds --------------------------------------------------------------------------------------------------------

KINDS = {
    "integers": (lambda x: x.astype(int), TypeError, ["int64", "float32"]),
    "bytes": (lambda x: x.astype(np.uint8), TypeError, ["uint8", "float32"]),
    "booleans": (lambda x: x > 0, TypeError, ["bool", "float32"]),
    "float16": (lambda x: x.astype(np.float16), TypeError, ["float16", "float32"]),
    "complex": (lambda x: x.astype(complex), TypeError, ["complex128", "float32"]),
    "list": (lambda x: x.tolist(), TypeError, ["list", "array"]),
    "None": (lambda x: None, TypeError, ["NoneType", "array"]),
    "a number": (lambda x: 1.0, TypeError, ["float", "array"]),
    "empty batch": (lambda x: x[:0], ValueError, ["(0,"]),
}


def _first(layer):
    """The name of the layer that meets the input of a network, the network itself where there is none."""
    while isinstance(layer, Sequential) and layer.layers:
        layer = layer.layers[0]
    return type(layer).__name__


@every_layer
@pytest.mark.parametrize(("make", "error", "words"), KINDS.values(), ids=KINDS)
def test_wrong_kind_of_input(row, make, error, words, backend):
    layer, bad = row.layer(backend, np.float32), backend.array(make(row.data(dtype=np.float32)[0]))
    refuses_input(layer, bad, error, _first(layer), *words, backend=backend)


@every_layer_that_learns
@pytest.mark.parametrize(("mine", "other"), [("float32", "float64"), ("float64", "float32")])
def test_wrong_float(row, mine, other, backend):
    layer, x, _ = row.draw(backend, mine)
    holder = next(m for m in layer.modules() if any(isinstance(p, Parameter) for p in vars(m).values()))
    words = type(holder).__name__, other, f"needs {mine}", "astype"
    refuses_input(layer, x.astype(other), TypeError, *words, backend=backend)


GRADIENTS = {
    "one row less": (lambda dy: dy[1:], ValueError, ["shape"]),
    "one axis more": (lambda dy: dy[..., None], ValueError, ["shape"]),
    "one row for all": (lambda dy: ones(*[1] * dy.ndim), ValueError, ["shape"]),
    "a 0-d array": (lambda dy: ones(), ValueError, ["shape"]),
    "float64": (lambda dy: dy.astype(np.float64), TypeError, ["float64", "float32"]),
    "float16": (lambda dy: dy.astype(np.float16), TypeError, ["float16", "float32"]),
    "integers": (lambda dy: dy.astype(int), TypeError, ["int64", "float32"]),
    "list": (lambda dy: dy.tolist(), TypeError, ["list", "array"]),
    "None": (lambda dy: None, TypeError, ["NoneType", "array"]),
    "a number": (lambda dy: 1.0, TypeError, ["float", "array"]),
}
every_wrong_dy = pytest.mark.parametrize(("make", "error", "words"), GRADIENTS.values(), ids=GRADIENTS)


def _last(layer):
    """The name of the layer that gives the output of a network, the network itself where there is none."""
    while isinstance(layer, Sequential) and layer.layers:
        layer = layer.layers[-1]
    return type(layer).__name__


@every_layer
@every_wrong_dy
def test_wrong_dy(row, make, error, words, backend):
    layer, x, _ = row.draw(backend, np.float32)
    _, backward = layer.forward(x)
    _, dy = row.data(dtype=np.float32)
    bad = backend.array(make(dy))
    words = [str(bad.shape), str(dy.shape)] if words == ["shape"] else words
    refuses(partial(backward, bad), error, _last(layer), "dy", *words, owners=[layer])
    if layer.parameters():
        refuses(partial(backward, bad, need_dx=False), error, _last(layer), "dy", *words, owners=[layer])
    with frozen(layer):
        refuses(partial(backward, bad), error, _last(layer), "dy", *words, owners=[layer])


@every_layer
@every_wrong_dy
def test_wrong_dy_when_there_is_nothing_to_do(row, make, error, words, backend):
    layer, x, _ = row.draw(backend, np.float32)
    _, backward = layer.forward(x)
    _, dy = row.data(dtype=np.float32)
    with frozen(layer):
        refuses(
            partial(backward, backend.array(make(dy)), need_dx=False),
            error,
            _last(layer),
            "dy",
            *words,
            owners=[layer],
        )


# --- libraries ----------------------------------------------------------------------------------------------------


@every_layer
def test_arrays_that_were_left_on_the_host(row, device):
    """Or on the device, where the layer is on the host."""
    for mine, other in ((device, NUMPY), (NUMPY, device)):
        layer, x, _ = row.draw(mine, np.float32)
        x_there, dy_there = row.data(other, np.float32)
        words = f"is a {other.name} array, needs a {mine.name} array"
        if layer.parameters():
            refuses_input(layer, x_there, TypeError, "x", words, "move x, or the layer", backend=mine)
        _, backward = layer.forward(x)
        refuses(partial(backward, dy_there), TypeError, _last(layer), "dy", words, owners=[layer])


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, i in ARGUMENTS if i])
def test_arguments_of_a_loss_of_two_libraries(name, i, device):
    function, names = LOSSES[name]
    arguments = [ones(4, 3) if j == i else device.array(ones(4, 3)) for j in range(len(names))]
    refuses(
        partial(function, *arguments), TypeError, name, names[i], f"is a numpy array, needs a {device.name} array"
    )


@pytest.mark.parametrize("name", ["SGD with momentum", "Adam"])
def test_parameters_moved_behind_an_optimizer(name, device):
    layer = randomised(Dense(2, 2))
    optimizer = OPTIMIZERS[name](layer.parameters())
    optimizer.step()
    layer.to(device.name)
    words = ["W", "moved", "numpy array", "afterwards"]
    refuses(optimizer.step, TypeError, name.split()[0], *words, owners=[layer, optimizer])


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


# --- constructors -------------------------------------------------------------------------------------------------

FROM_ONE = {  # "layer argument": a constructor in need of an integer ≥ 1
    "Dense in_features": lambda n: Dense(n, 2),
    "Dense out_features": lambda n: Dense(2, n),
    "BatchNorm channels": lambda n: BatchNorm(n),
    "Reshape size": lambda n: Reshape(2, n),
    "Conv2d in_channels": lambda n: Conv2d(n, 2, 3),
    "Conv2d out_channels": lambda n: Conv2d(2, n, 3),
    "Conv2d kernel_size": lambda n: Conv2d(2, 2, n),
    "Conv2d stride": lambda n: Conv2d(2, 2, 3, stride=n),
    "Conv2d dilation": lambda n: Conv2d(2, 2, 3, dilation=n),
    "ConvTranspose2d in_channels": lambda n: ConvTranspose2d(n, 2, 3),
    "ConvTranspose2d out_channels": lambda n: ConvTranspose2d(2, n, 3),
    "ConvTranspose2d kernel_size": lambda n: ConvTranspose2d(2, 2, n),
    "ConvTranspose2d stride": lambda n: ConvTranspose2d(2, 2, 3, stride=n),
    "ConvTranspose2d dilation": lambda n: ConvTranspose2d(2, 2, 3, dilation=n),
}
FROM_ZERO = {
    "Conv2d padding": lambda n: Conv2d(2, 2, 3, padding=n),
    "ConvTranspose2d padding": lambda n: ConvTranspose2d(2, 2, 3, padding=n),
    "ConvTranspose2d output_padding": lambda n: ConvTranspose2d(2, 2, 3, stride=2, output_padding=n),
}
PAIRS = [name for name in (*FROM_ONE, *FROM_ZERO) if "2d" in name and "channels" not in name]


@pytest.mark.parametrize("name", FROM_ONE | FROM_ZERO)
@pytest.mark.parametrize("value", [-1, True, False, 2.0, "2", None, np.array([2, 2])], ids=repr)
def test_integers_of_a_constructor(name, value):
    error, needs = (ValueError, "needs at least") if type(value) is int else (TypeError, "needs an integer")
    refuses(partial((FROM_ONE | FROM_ZERO)[name], value), error, *name.split(), repr(value), needs)


@pytest.mark.parametrize("name", FROM_ONE)
def test_zero_where_there_must_be_one(name):
    for value in (0, (1, 0), (0, 1))[: 3 if name in PAIRS else 1]:
        refuses(partial(FROM_ONE[name], value), ValueError, *name.split(), "is 0, needs at least 1")


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("value", [(), (1,), (1, 1, 1), [1, 1, 1], (1, -1), (-1, 1), (1, 1.0), (True, 1)], ids=repr)
def test_pairs_of_a_constructor(name, value):
    if len(value) != 2:
        error, words = ValueError, [repr(value), "pair"]
    elif -1 in value:
        error, words = ValueError, ["is -1, needs at least"]
    else:
        error, words = TypeError, ["needs an integer"]
    refuses(partial((FROM_ONE | FROM_ZERO)[name], value), error, *name.split(), *words)


@pytest.mark.parametrize(
    ("extra", "how"), [(1, {}), (2, {"stride": 2}), ((0, 2), {"stride": (3, 2)}), (3, {"stride": 2, "dilation": 3})]
)
def test_output_padding_below_stride_or_dilation(extra, how):
    refuses(
        lambda: ConvTranspose2d(2, 2, 3, output_padding=extra, **how),
        ValueError,
        "ConvTranspose2d",
        f"output_padding is {extra}",
        "less than stride",
    )
    wider = {"stride": 4, "dilation": 1} if how else {"dilation": 2}  # either is enough
    ConvTranspose2d(2, 2, 3, output_padding=extra, **wider)


def _optimizer(make, **how):
    return make(Dense(2, 2).parameters(), **how)


NUMBERS = {  # "owner argument": a constructor in need of a number in a range, and numbers outside of it
    "LeakyReLU slope": (LeakyReLU, [-0.1]),
    "BatchNorm eps": (lambda v: BatchNorm(2, eps=v), [0, -1e-5]),
    "BatchNorm momentum": (lambda v: BatchNorm(2, momentum=v), [-0.1, 1.1]),
    "normal std": (init.normal, [0, -0.02]),
    "SGD lr": (lambda v: _optimizer(SGD, lr=v), [0, -0.1]),
    "SGD momentum": (lambda v: _optimizer(SGD, lr=0.1, momentum=v), [-0.1, 1]),
    "Adam lr": (lambda v: _optimizer(Adam, lr=v), [0, -0.1]),
    "Adam betas": (lambda v: _optimizer(Adam, betas=(v, 0.9)), [-0.1, 1]),
    "Adam betas, the second": (lambda v: _optimizer(Adam, betas=(0.9, v)), [-0.1, 1]),
    "Adam eps": (lambda v: _optimizer(Adam, eps=v), [0, -1e-8]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(name):
    make, bad = NUMBERS[name]
    for value in (*bad, float("nan")):
        refuses(partial(make, value), ValueError, *name.split(",")[0].split(), str(value), "needs")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [None, "0.1", [0.1], True], ids=repr)
def test_what_is_no_number(name, value):
    make, _ = NUMBERS[name]
    refuses(partial(make, value), TypeError, *name.split(",")[0].split(), repr(value), "needs")


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 0.99, 0.999), 0.9, None])
def test_betas_are_two(betas):
    error = ValueError if isinstance(betas, tuple) else TypeError
    refuses(partial(_optimizer, Adam, betas=betas), error, "Adam", "betas", str(betas), "two")


@pytest.mark.parametrize("rng", [0, np.random], ids=["a seed", "the global state"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("Dense", lambda rng: Dense(2, 2, rng=rng)),
        ("Conv2d", lambda rng: Conv2d(2, 2, 3, rng=rng)),
        ("ConvTranspose2d", lambda rng: ConvTranspose2d(2, 2, 3, rng=rng)),
        ("initialise", lambda rng: initialise(Dense(2, 2), init.he, rng)),
    ],
)
def test_a_source_of_randomness_is_a_generator(name, make, rng):
    refuses(partial(make, rng), TypeError, name, "rng", "Generator")


@pytest.mark.parametrize("part", [[ReLU()], ReLU, None, "ReLU", np.tanh], ids=repr)
def test_parts_of_a_network_are_layers(part):
    refuses(lambda: Sequential(Dense(2, 2), part), TypeError, "Sequential", "part 1", repr(part), "Layer")


def test_reshape_needs_a_shape():
    refuses(Reshape, ValueError, "Reshape", "no sizes", "shape")
    refuses(lambda: Reshape((2, 3)), TypeError, "Reshape", "(2, 3)", "integer")


@pytest.mark.parametrize(
    ("value", "grad", "error", "words"),
    [
        ([1.0, 2.0], None, TypeError, ["list", "array"]),
        (ones(2, dtype=int), None, TypeError, ["int64", "float32"]),
        (ones(2, dtype=np.float16), None, TypeError, ["float16", "float32"]),
        (ones(2), ones(3), ValueError, ["(3,)", "(2,)"]),
    ],
)
def test_what_a_parameter_is_made_of(value, grad, error, words):
    refuses(lambda: Parameter("gain", value, grad), error, "gain", *words)


# --- losses -------------------------------------------------------------------------------------------------------


def _loss(name, i, bad, shape=(4, 3), backend=NUMPY):
    """A call of the loss with one bad argument, and the name of that argument."""
    function, names = LOSSES[name]
    arguments = [ones(*shape) for _ in names]
    arguments[i] = bad
    return partial(function, *backend.arrays(*arguments)), names[i]


@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
@pytest.mark.parametrize("got", [(4,), (4, 1), (1, 3), (3, 4), (4, 3, 1), (1, 4, 3), (5, 3)], ids=str)
def test_arguments_of_a_loss_have_one_shape(name, i, got, backend):
    call, argument = _loss(name, i, ones(*got), backend=backend)
    refuses(call, ValueError, name, argument, str(got), "(4, 3)")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("got", "other"), [((4,), (4, 1)), ((4, 1), (4,))], ids=str)
def test_a_column_is_not_a_vector(name, got, other):
    """Broadcast to (4, 4) it would be a wrong loss without an error."""
    call, argument = _loss(name, -1, ones(*other), shape=got)
    refuses(call, ValueError, name, argument, str(got), str(other))


@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
@pytest.mark.parametrize("dtype", [int, bool, np.float16], ids=lambda d: d.__name__)
def test_arguments_of_a_loss_are_floats(name, i, dtype):
    call, argument = _loss(name, i, ones(4, 3, dtype=dtype))
    refuses(call, TypeError, name, argument, np.dtype(dtype).name, "float32")
    function, names = LOSSES[name]
    alike = partial(function, *(ones(4, 3, dtype=dtype) for _ in names))
    refuses(alike, TypeError, name, names[0], np.dtype(dtype).name, "float32 or float64")


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, i in ARGUMENTS if i])
@pytest.mark.parametrize(("mine", "other"), [("float32", "float64"), ("float64", "float32")])
def test_arguments_of_a_loss_have_one_float(name, i, mine, other, backend):
    function, names = LOSSES[name]
    arguments = [ones(4, 3, dtype=other if j == i else mine) for j in range(len(names))]
    call = partial(function, *backend.arrays(*arguments))
    refuses(call, TypeError, name, names[i], f"has dtype {other}, needs {mine}")


@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
@pytest.mark.parametrize("bad", [[[1.0] * 3] * 4, None, "target"], ids=["list", "None", "text"])
def test_arguments_of_a_loss_are_arrays(name, i, bad):
    call, argument = _loss(name, i, bad)
    refuses(call, TypeError, name, argument, type(bad).__name__, "array")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0,), ()], ids=str)
def test_a_loss_needs_a_sample(name, shape):
    function, names = LOSSES[name]
    refuses(lambda: function(*(ones(*shape) for _ in names)), ValueError, name, names[0], str(shape), "at least one")


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ([0, 1, 2, 3], ValueError, ["0 to 3", "0 to 2"]),
        ([0, -1, 2, 1], ValueError, ["-1 to 2", "0 to 2"]),
        ([0, 1, 2], ValueError, ["target", "(4, 3)"]),
        ([[0], [1], [2], [1]], ValueError, ["target", "(4, 1)", "(4, 3)"]),
        ([0.0, 1.0, 2.0, 1.0], ValueError, ["target", "(4,)", "(4, 3)"]),
    ],
    ids=["too high", "negative", "too few", "a column", "floats"],
)
def test_labels_out_of_range(labels, error, words, backend):
    call = partial(sg.softmax_cross_entropy, *backend.arrays(ones(4, 3), np.array(labels)))
    refuses(call, error, "softmax_cross_entropy", *words)


@pytest.mark.parametrize("logits", [[[1.0, 2.0]], None], ids=["list", "None"])
def test_logits_of_labels_are_an_array(logits):
    call = partial(sg.softmax_cross_entropy, logits, np.array([0]))
    refuses(call, TypeError, "softmax_cross_entropy", "logits", type(logits).__name__, "array")


def test_no_labels():
    call = partial(sg.softmax_cross_entropy, ones(0, 3), np.array([], int))
    refuses(call, ValueError, "softmax_cross_entropy", "(0, 3)", "at least one")


def test_cross_entropy_is_over_one_axis():
    refuses(
        lambda: sg.softmax_cross_entropy(ones(2, 4, 3), ones(2, 4, 3)),
        ValueError,
        "softmax_cross_entropy",
        "(2, 4, 3)",
        "(N, K)",
    )


# --- domains ------------------------------------------------------------------------------------------------------


def binary(*shape, seed=0):
    """Images of 0 and 1, a fifth of them ink."""
    return (np.random.default_rng(seed).random(shape) < 0.2).astype(np.float32)


OUTSIDE = {  # how images of [0, 1] come to lie elsewhere, and the range that is said
    "[-1, 1]": (lambda u: 2 * u - 1, "from -1 to 1"),
    "0 … 255": (lambda u: 255 * u, "from 0 to 255"),
    "standardised": (lambda u: (u - 0.13) / 0.31, "from -0.4194 to 2.806"),
    "overshoot of a resize": (lambda u: u * 1.02, "from 0 to 1.02"),
    "inverted": (lambda u: -u, "from -1 to "),
    "a NaN": (lambda u: np.where(np.arange(u.size).reshape(u.shape) == 1, np.nan, u), "holds 1 of "),
    "infinity": (lambda u: np.where(u == 1, np.inf, u), "not finite"),
}
every_outside = pytest.mark.parametrize(("spoil", "said"), OUTSIDE.values(), ids=OUTSIDE)
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


@every_outside
def test_targets_of_the_bernoulli_loss_are_in_0_1(spoil, said):
    x, y = binary(8, 6), np.zeros((8, 6), np.float32)
    for dtype in (np.float32, np.float64):
        bad = spoil(x).astype(dtype)
        refuses(partial(sg.bce_with_logits, y.astype(dtype), bad), ValueError, "bce_with_logits: target ", said)
    refuses(partial(sg.Bernoulli().nll, y, spoil(x).astype("f")), ValueError, "target ", said)
    refuses(partial(sg.Bernoulli().log_prob, y, spoil(x).astype("f")), ValueError, "Bernoulli: x ", said)
    model = VAE(Dense(6, 4), Dense(2, 6), 2)
    refuses(partial(model.log_likelihood, spoil(x).astype("f"), 3), ValueError, "VAE: x ", said, owners=[model])


def test_a_domain_has_its_ends_and_what_rounding_makes_of_them():
    ends = np.array([[0, 1, 0.5]], np.float32)
    rounded = (np.float32(1 / 255) * np.array([[0, 255, 128]], np.float32)) * np.float32(1 + 1e-7)
    for target in (ends, rounded, np.nextafter(ends, np.float32(2)), np.nextafter(ends, np.float32(-1))):
        assert np.isfinite(sg.bce_with_logits(np.zeros_like(target), target)[0])
        assert Autoencoder(Dense(3, 2), Dense(2, 3)).loss(target)[0] > 0
    assert rounded.max() > 1
    for beyond in (1 + 2e-6, -2e-6):
        refuses(lambda: sg.bce_with_logits(ends, np.full_like(ends, beyond)), ValueError, "needs 0 to 1")  # noqa: B023


def test_other_losses_of_images_take_any_range():
    x = 255 * binary(8, *IMAGE)
    assert np.isfinite(_autoencoder(loss="squared-error").loss(x)[0])
    assert np.isfinite(_vae(likelihood="gaussian").loss(x, NOISE)[0])


def _is_standin() -> bool:
    return sys.modules.get("cupy") is standin.modules.MODULES["cupy"]


@every_outside
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_on_a_device_the_bernoulli_loss_is_nan_outside(spoil, said, dtype, device):
    """Nobody waits to look. The gradient is what the formula gives."""
    x = binary(4, 3).astype(dtype)
    for target, good in ((spoil(x).astype(dtype), False), (x, True), (x * dtype(1 + 1e-7), True)):
        arrays = device.arrays(np.zeros_like(x), target)
        with standin.no_sync() if _is_standin() else nullcontext():
            loss, dy = sg.bce_with_logits(*arrays)
        assert bool(np.isfinite(host(loss))) == good
        if np.isfinite(target).all():
            np.testing.assert_allclose(host(dy), (0.5 - target) / 4, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["mse", "gaussian_nll", "gaussian_nll, one logvar"])
def test_targets_are_finite(name, bad):
    target = ones(4, 3)
    target[1, 2] = bad
    before = [ones(4, 3)] if name == "mse" else [ones(4, 3), 0.3 if "one" in name else ones(4, 3)]
    function = sg.mse if name == "mse" else sg.gaussian_nll
    with np.errstate(all="ignore"):
        call = partial(function, *before, target)
        refuses(call, ValueError, f"{name.split(',')[0]}: target holds 1 of 12 elements that are not finite")
        y = before[0] * bad  # a network that has run away is no fault of the target's
        assert not np.isfinite(function(y, *before[1:], ones(4, 3))[0])


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


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0.5, 0.5, 0.5], [1, 0, 0]], ["rows of target sum to 1 to 1.5, needs 1"]),
        ([[0.2, 0.2, 0.2], [1, 0, 0]], ["rows of target sum to 0.6 to 1"]),
        ([[0, 0, 0], [1, 0, 0]], ["sum to 0 to 1"]),
        ([[-0.5, 1, 0.5], [1, 0, 0]], ["target goes from -0.5 to 1, needs 0 to 1"]),
        ([[3, 2, 5], [1, 0, 0]], ["target goes from 0 to 5"]),
        ([[np.nan, 0, 0], [1, 0, 0]], ["not finite"]),
    ],
    ids=["two classes", "too little", "nothing", "negative", "counts", "a NaN"],
)
def test_probabilities_of_classes_are_distributions(rows, said):
    target = np.array(rows, np.float32)
    words = [*said, "not finite" if "not finite" in said else "probabilities of the classes, or integer labels"]
    refuses(partial(sg.softmax_cross_entropy, ones(2, 3), target), ValueError, "softmax_cross_entropy", *words)
    smooth = np.full((2, 3), 1 / 3, np.float32)
    assert np.isfinite(sg.softmax_cross_entropy(ones(2, 3), smooth)[0])


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


# --- optimizers ---------------------------------------------------------------------------------------------------

with_memory = pytest.mark.parametrize("name", ["SGD with momentum", "Adam"])


LAYER = Dense(2, 2)
UNFIT = {
    "none": ([], ValueError, ["no parameters"]),
    "none, lazily": (iter(()), ValueError, ["no parameters"]),
    "an array": ([LAYER.W.value], TypeError, ["array", "Parameters"]),
    "None among them": ([LAYER.W, None], TypeError, ["None", "Parameters"]),
    "a layer among them": ([LAYER], TypeError, ["Dense(2, 2)", "Parameters"]),
    "one twice": ([LAYER.W, LAYER.b, LAYER.W], ValueError, ["twice"]),
    "a layer": (LAYER, TypeError, ["Dense(2, 2)", "Parameters"]),
    "a parameter": (LAYER.W, TypeError, ["Parameter('W'", "Parameters"]),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("bad", "error", "words"), UNFIT.values(), ids=UNFIT)
def test_what_an_optimizer_optimises(name, bad, error, words):
    refuses(partial(OPTIMIZERS[name], bad), error, name.split()[0], *words, owners=[LAYER])


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("lr", "error"), [(0, ValueError), (-1.0, ValueError), (None, TypeError)])
def test_a_learning_rate_that_is_set_later(name, lr, error):
    optimizer = OPTIMIZERS[name](Dense(2, 2).parameters())
    refuses(partial(setattr, optimizer, "lr", lr), error, name.split()[0], "lr", str(lr), owners=[optimizer])


@with_memory
def test_parameters_converted_behind_an_optimizer(name):
    layer = randomised(Dense(2, 2), np.float32)
    optimizer = OPTIMIZERS[name](layer.parameters())
    optimizer.step()
    layer.astype(np.float64)
    words = ["W", "float64", "float32", "afterwards"]
    refuses(optimizer.step, TypeError, name.split()[0], *words, owners=[layer, optimizer])


EITHER = (ValueError, TypeError)
STATES = {  # how a state is spoilt in its last array, the error and its words
    "nothing": (lambda state, last: {}, ValueError, ["lacks"]),
    "one missing": (lambda state, last: {k: a for k, a in state.items() if k != last}, ValueError, ["lacks"]),
    "one more": (lambda state, last: state | {"other": ones(2)}, ValueError, ["other"]),
    "shape": (lambda state, last: state | {last: state[last][None]}, ValueError, ["shape"]),
    "broadcastable": (lambda state, last: state | {last: ones(*[1] * (state[last].ndim + 1))}, ValueError, ["shape"]),
    "integers": (lambda state, last: state | {last: state[last].astype(int)}, EITHER, ["int64", "float32"]),
    "float16": (lambda state, last: state | {last: state[last].astype("e")}, EITHER, ["float16", "float32"]),
    "list": (lambda state, last: state | {last: state[last].tolist()}, EITHER, ["list", "array"]),
    "None": (lambda state, last: state | {last: None}, EITHER, ["NoneType", "array"]),
}
every_bad_state = pytest.mark.parametrize(("spoil", "error", "words"), STATES.values(), ids=STATES)


def refuses_state(owner, state, spoil, error, words):
    last = list(state)[-1]
    words = words if "other" in words else [last, *words]
    refuses(partial(owner.load_state, spoil(state, last)), error, type(owner).__name__, *words, owners=[owner])


@with_memory
@every_bad_state
def test_a_state_that_does_not_fit_an_optimizer(name, spoil, error, words, backend):
    layer = randomised(Dense(2, 2), np.float32).to(backend.name)
    optimizer, other = (OPTIMIZERS[name](copy.deepcopy(layer).parameters()) for _ in range(2))
    for p in other.parameters:
        p.grad[...] = 1
    other.step()
    refuses_state(optimizer, other.state(), spoil, error, words)


@every_layer_that_learns
@every_bad_state
def test_a_state_that_does_not_fit_a_layer(row, spoil, error, words, backend):
    layer = row.layer(backend)
    refuses_state(layer, {key: a + 1 for key, a in layer.state().items()}, spoil, error, words)


@pytest.mark.parametrize(("mine", "other"), [("Adam", "SGD"), ("SGD", "Adam"), ("SGD with momentum", "Adam")])
def test_a_state_of_another_optimizer(mine, other):
    mine, other = (OPTIMIZERS[name](randomised(Dense(2, 2)).parameters()) for name in (mine, other))
    refuses(partial(mine.load_state, other.state()), ValueError, type(mine).__name__, "does not fit", "m.0")


@pytest.mark.parametrize(
    ("t", "error", "words"),
    [
        (None, ValueError, ["lacks t"]),
        (np.array(2.0), TypeError, ["t", "float64"]),
        (np.ones(1, int), ValueError, ["(1,)"]),
    ],
    ids=["missing", "a float", "an array"],
)
def test_a_state_without_the_number_of_steps(t, error, words):
    optimizer = _optimizer(Adam)
    state = {name: a for name, a in optimizer.state().items() if name != "t"} | ({} if t is None else {"t": t})
    refuses(partial(optimizer.load_state, state), error, "Adam", *words, owners=[optimizer])


@every_layer
@pytest.mark.parametrize("dtype", [int, np.float16, complex, "uint8"], ids=str)
def test_astype_needs_a_float(row, dtype):
    layer = row.layer()
    refuses(
        lambda: layer.astype(dtype), TypeError, type(layer).__name__, str(np.dtype(dtype)), "float32", owners=[layer]
    )


@pytest.mark.parametrize("name", ["torch", "NumPy", "", None], ids=repr)
def test_unknown_backend(name):
    layer = Dense(2, 2)
    for call in (layer.to, partial(backend.transfer, ones(2)), backend.load_kernels):
        refuses(partial(call, name), ValueError, repr(name), "numpy", "cupy", owners=[layer])


@pytest.mark.parametrize("bad", [[1.0], 1.0, None, "x"], ids=repr)
def test_only_arrays_live_in_a_backend(bad):
    for ask in (backend.backend_of, backend.kernels, backend.array_library):
        refuses(partial(ask, bad), TypeError, type(bad).__name__, "numpy or cupy array")


def test_only_owners_of_parameters_can_be_frozen():
    layer = Dense(2, 2)
    block = frozen(layer, layer.W.value)
    refuses(block.__enter__, TypeError, "frozen", "ndarray", "layer", owners=[layer])
    assert not layer.W.frozen


def test_a_rule_that_draws_a_wrong_shape_initialises_nothing():
    network = randomised(Sequential(Dense(2, 3), Dense(3, 2)))

    def rule(shape, *_):
        return ones(2, 3)  # fits the first layer only

    call = partial(initialise, network, rule, np.random.default_rng(0))
    refuses(call, ValueError, "W", "(2, 3)", "(3, 2)", owners=[network])


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "Bernoulli", "", None], ids=repr)
def test_unknown_loss_of_an_autoencoder(loss):
    for make in (lambda **how: Autoencoder(ReLU(), ReLU(), **how), dense_autoencoder, conv_autoencoder):
        refuses(partial(make, loss=loss), ValueError, "Autoencoder", repr(loss), "bernoulli", "squared-error")


@pytest.mark.parametrize("shape", [(3, 28, 1), (28, 3, 1), (1, 1, 1), (2, 2, 3)], ids=str)
def test_images_too_small_for_convolutions(shape):
    refuses(lambda: conv_autoencoder(shape), ValueError, "conv_autoencoder", f"{shape[0]}×{shape[1]}", "4×4")


@pytest.mark.parametrize("make", [dense_autoencoder, conv_autoencoder])
@pytest.mark.parametrize("latent", [0, -1])
def test_a_code_has_a_dimension(make, latent):
    refuses(partial(make, latent=latent), ValueError, make.__name__, "latent", str(latent), "at least 1")


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


# --- the rest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
def test_infinity_is_no_setting(name):
    make, _ = NUMBERS[name]
    refuses(partial(make, float("inf")), ValueError, *name.split(",")[0].split(), "inf", "needs")


def test_parts_of_an_autoencoder_are_layers():
    refuses(lambda: sg.Autoencoder(1, Dense(2, 2)), TypeError, "Autoencoder", "encoder", "Layer")
    refuses(lambda: sg.Autoencoder(Dense(2, 2), Dense), TypeError, "Autoencoder", "decoder", "Layer")


@pytest.mark.parametrize("build", [sg.dense_autoencoder, sg.conv_autoencoder])
def test_image_shape_is_three_sizes(build):
    refuses(lambda: build((28, 28)), ValueError, build.__name__, "(28, 28)", "(H, W, C)")
    refuses(lambda: build(28), ValueError, build.__name__, "28", "(H, W, C)")
    refuses(lambda: build((28, 28, 0)), ValueError, build.__name__, "image_shape", "at least 1")
    refuses(lambda: build((28, 28, 1.0)), TypeError, build.__name__, "image_shape", "1.0", "integer")
    refuses(lambda: build((28, 28, 1), rng=0), TypeError, build.__name__, "rng", "Generator")


@pytest.mark.parametrize("dtype", [None, "nonsense", "float16"])
def test_astype_needs_a_name_it_knows(dtype):
    layer = Dense(2, 2)
    refuses(lambda: layer.astype(dtype), TypeError, "Dense", str(dtype), "float32 or float64", owners=[layer])


def test_only_modules_can_be_frozen():
    optimizer = _optimizer(Adam)
    for wrong in (optimizer, 3, None):
        refuses(lambda wrong=wrong: frozen(wrong).__enter__(), TypeError, "frozen", type(wrong).__name__, "layer")


def test_a_negative_number_of_steps():
    optimizer = _optimizer(Adam)
    bad = optimizer.state() | {"t": np.array(-1)}
    refuses(partial(optimizer.load_state, bad), ValueError, "Adam", "-1", owners=[optimizer])
