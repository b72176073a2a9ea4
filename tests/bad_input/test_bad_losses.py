"""Bad input to losses: shapes, kinds, libraries, and numbers outside of a loss's domain."""

import sys
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import standin
from backends import NUMPY, host
from refusals import binary, every_outside, ones, refuses

import scratchgen as sg
from scratchgen import VAE, Autoencoder, Dense

LOSSES = {
    "mse": (sg.mse, ["y", "target"]),
    "bce_with_logits": (sg.bce_with_logits, ["logits", "target"]),
    "softmax_cross_entropy": (sg.softmax_cross_entropy, ["logits", "target"]),
    "gaussian_nll": (sg.gaussian_nll, ["mu", "logvar", "target"]),
    "gaussian_kl": (sg.gaussian_kl, ["mu", "logvar"]),
}
ARGUMENTS = [(name, i) for name, (_, names) in LOSSES.items() for i in range(len(names))]


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, i in ARGUMENTS if i])
def test_arguments_of_a_loss_of_two_libraries(name, i, device):
    function, names = LOSSES[name]
    arguments = [ones(4, 3) if j == i else device.array(ones(4, 3)) for j in range(len(names))]
    refuses(
        partial(function, *arguments), TypeError, name, names[i], f"is a numpy array, needs a {device.name} array"
    )


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
