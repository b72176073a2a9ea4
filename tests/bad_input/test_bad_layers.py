"""Bad input to layers and their constructors, to `frozen`, `to`, `astype` and `initialise`."""

from functools import partial

import numpy as np
import pytest
from backends import NUMPY
from layer_table import every_layer, every_layer_that_learns, randomised
from refusals import every_bad_state, ones, optimizer_of, refuses, refuses_state

from scratchgen import (
    SGD,
    Adam,
    AdamW,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    Parameter,
    RandomCutout,
    RandomFlip,
    RandomShift,
    ReLU,
    Reshape,
    RMSprop,
    Sequential,
    Sigmoid,
    Tanh,
    backend,
    frozen,
    init,
    initialise,
)


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
    *((pool(2), shape, "(N, H, W, C)") for pool in (MaxPool2d, AvgPool2d) for shape in ((4, 4, 3), (2, 12), ())),
    *(
        (make(), shape, "(N, H, W, C)")
        for make in (RandomFlip, RandomShift, RandomCutout)
        for shape in ((4, 4, 3), (2, 12))
    ),
    (Dropout(), (), "(N, ...)"),
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
        (MaxPool2d(3), (2, 5), ["2×5", "3×3"]),
        (AvgPool2d((2, 5), padding=(0, 1)), (6, 2), ["6×2", "6×4", "2×5"]),
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
    "MaxPool2d kernel_size": lambda n: MaxPool2d(n),
    "AvgPool2d kernel_size": lambda n: AvgPool2d(n),
    "AvgPool2d stride": lambda n: AvgPool2d(3, stride=n),
}
FROM_ZERO = {
    "Conv2d padding": lambda n: Conv2d(2, 2, 3, padding=n),
    "ConvTranspose2d padding": lambda n: ConvTranspose2d(2, 2, 3, padding=n),
    "ConvTranspose2d output_padding": lambda n: ConvTranspose2d(2, 2, 3, stride=2, output_padding=n),
    "MaxPool2d padding": lambda n: MaxPool2d(3, padding=n),
}
PAIRS = [name for name in (*FROM_ONE, *FROM_ZERO) if "2d" in name and "channels" not in name]


@pytest.mark.parametrize("name", FROM_ONE | FROM_ZERO)
@pytest.mark.parametrize("value", [-1, True, False, 2.0, "2", None, np.array([2, 2])], ids=repr)
def test_integers_of_a_constructor(name, value):
    if name == "AvgPool2d stride" and value is None:
        pytest.skip("that of the kernel")
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


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(("kernel", "padding"), [(2, 2), (3, 2), ((4, 1), (2, 1)), (1, (0, 1))])
def test_padding_of_at_most_half_a_window(pool, kernel, padding):
    words = f"padding is {padding}, needs at most half of kernel_size {kernel}"
    refuses(lambda: pool(kernel, padding=padding), ValueError, pool.__name__, words)
    pool((4, 2), padding=(2, 1))


NUMBERS = {  # "owner argument": a constructor in need of a number in a range, and numbers outside of it
    "LeakyReLU slope": (LeakyReLU, [-0.1]),
    "BatchNorm eps": (lambda v: BatchNorm(2, eps=v), [0, -1e-5]),
    "BatchNorm momentum": (lambda v: BatchNorm(2, momentum=v), [-0.1, 1.1]),
    "Dropout rate": (Dropout, [-0.1, 1]),
    "RandomShift most": (RandomShift, [-0.1, 1]),
    "RandomCutout share": (RandomCutout, [-0.1, 1.1]),
    "normal std": (init.normal, [0, -0.02]),
    "SGD lr": (lambda v: optimizer_of(SGD, lr=v), [0, -0.1]),
    "SGD momentum": (lambda v: optimizer_of(SGD, lr=0.1, momentum=v), [-0.1, 1]),
    "Adam lr": (lambda v: optimizer_of(Adam, lr=v), [0, -0.1]),
    "Adam betas": (lambda v: optimizer_of(Adam, betas=(v, 0.9)), [-0.1, 1]),
    "Adam betas, the second": (lambda v: optimizer_of(Adam, betas=(0.9, v)), [-0.1, 1]),
    "Adam eps": (lambda v: optimizer_of(Adam, eps=v), [0, -1e-8]),
    "AdamW betas": (lambda v: optimizer_of(AdamW, betas=(0.9, v)), [-0.1, 1]),
    "AdamW weight_decay": (lambda v: optimizer_of(AdamW, weight_decay=v), [-0.1]),
    "RMSprop lr": (lambda v: optimizer_of(RMSprop, lr=v), [0, -0.1]),
    "RMSprop beta": (lambda v: optimizer_of(RMSprop, beta=v), [-0.1, 1]),
    "RMSprop eps": (lambda v: optimizer_of(RMSprop, eps=v), [0, -1e-8]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range(name):
    make, bad = NUMBERS[name]
    for value in (*bad, float("nan"), float("inf")):
        refuses(partial(make, value), ValueError, *name.split(",")[0].split(), str(value), "needs")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [None, "0.1", [0.1], True], ids=repr)
def test_what_is_no_number(name, value):
    make, _ = NUMBERS[name]
    refuses(partial(make, value), TypeError, *name.split(",")[0].split(), repr(value), "needs")


@pytest.mark.parametrize("rng", [0, np.random], ids=["a seed", "the global state"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("Dense", lambda rng: Dense(2, 2, rng=rng)),
        ("Conv2d", lambda rng: Conv2d(2, 2, 3, rng=rng)),
        ("ConvTranspose2d", lambda rng: ConvTranspose2d(2, 2, 3, rng=rng)),
        ("Dropout", lambda rng: Dropout(rng=rng)),
        ("RandomFlip", lambda rng: RandomFlip(rng=rng)),
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


@every_layer_that_learns
@every_bad_state
def test_a_state_that_does_not_fit_a_layer(row, spoil, error, words, backend):
    layer = row.layer(backend)
    refuses_state(layer, {key: a + 1 for key, a in layer.state().items()}, spoil, error, words)


@every_layer
@pytest.mark.parametrize("dtype", [int, np.float16, complex, "uint8", None, "nonsense"], ids=str)
def test_astype_needs_a_float(row, dtype):
    layer = row.layer()
    name = str(dtype if dtype in (None, "nonsense") else np.dtype(dtype))
    refuses(lambda: layer.astype(dtype), TypeError, type(layer).__name__, name, "float32 or float64", owners=[layer])


@pytest.mark.parametrize("name", ["torch", "NumPy", "", None], ids=repr)
def test_unknown_backend(name):
    layer = Dense(2, 2)
    for call in (layer.to, partial(backend.transfer, ones(2)), backend.load_kernels):
        refuses(partial(call, name), ValueError, repr(name), "numpy", "cupy", owners=[layer])


@pytest.mark.parametrize("bad", [[1.0], 1.0, None, "x"], ids=repr)
def test_only_arrays_live_in_a_backend(bad):
    for ask in (backend.backend_of, backend.kernels, backend.array_library):
        refuses(partial(ask, bad), TypeError, type(bad).__name__, "numpy or cupy array")


def test_a_rule_that_draws_a_wrong_shape_initialises_nothing():
    network = randomised(Sequential(Dense(2, 3), Dense(3, 2)))

    def rule(shape, *_):
        return ones(2, 3)  # fits the first layer only

    call = partial(initialise, network, rule, np.random.default_rng(0))
    refuses(call, ValueError, "W", "(2, 3)", "(3, 2)", owners=[network])


# --- the rest -------------------------------------------------------------------------------------------------------


def test_only_modules_can_be_frozen():
    layer = Dense(2, 2)
    for wrong in (layer.W.value, optimizer_of(Adam), 3, None):
        block = frozen(layer, wrong)
        refuses(block.__enter__, TypeError, "frozen", type(wrong).__name__, "layer", owners=[layer])
        assert not layer.W.frozen
