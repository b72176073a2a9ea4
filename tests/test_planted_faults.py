"""The suite on the stand-in is red where the code is at fault: faults of the kinds that a GPU would find, planted.

Each is put into code that works, and then a test of the suite is called as it stands, which passed just before.
"""

from functools import partial

import numpy as np
import pytest
import test_contract
import test_gradients
import test_losses
import test_models
import test_optimizers
from layer_table import TABLE, Row
from standin.signatures import needs_cupy

from scratchgen import SGD, Dense, LeakyReLU, ReLU, losses
from scratchgen.backend import kernels, to_host
from scratchgen.models import gan as gan_module
from scratchgen.models import vae as vae_module


def turns_red(test, words: str, plant) -> None:
    """The test passes; with the fault planted it fails, and says so in these words."""
    test()
    plant()
    with pytest.raises((AssertionError, AttributeError, TypeError, ValueError), match=words):
        test()


# --- in a layer -----------------------------------------------------------------------------------------------------


def _unwritten(xp, x, slope):
    y = xp.empty_like(x)
    y[1:] = xp.maximum(x, slope * x)[1:]
    return y


def _silenced(xp, x, slope):
    with xp.errstate(over="ignore"):
        return xp.maximum(x, slope * x)


def _in_place(xp, x, slope):
    x.setflags(write=False)
    return xp.maximum(x, slope * x)


FORMULAS = {  # LeakyReLU's y, and what is said of it
    "np.where": (lambda xp, x, slope: np.where(x > 0, x, slope * x), "where"),
    "np.maximum": (lambda xp, x, slope: np.maximum(x, slope * x), "maximum"),
    "np.multiply, out": (
        lambda xp, x, slope: xp.maximum(x, np.multiply(x, slope, out=np.empty(x.shape))),
        "multiply",
    ),
    "np.full_like": (lambda xp, x, slope: xp.maximum(x, x * np.full_like(x, slope)), "full_like"),
    "np.asarray": (lambda xp, x, slope: np.maximum(np.asarray(x), slope * np.asarray(x)), "Implicit conversion"),
    "np.array of its rows": (lambda xp, x, slope: np.array([*x]), "Implicit conversion"),
    "a NumPy array beside it": (lambda xp, x, slope: xp.maximum(x, x * np.full(5, slope, x.dtype)), "numpy.ndarray"),
    "a NumPy array in a function": (lambda xp, x, slope: xp.maximum(x, np.zeros(5, x.dtype)), "numpy.ndarray"),
    "a NumPy array written into it": (
        lambda xp, x, slope: xp.zeros_like(x).__setitem__(..., np.ones(5, x.dtype)),
        "numpy.ndarray",
    ),
    "where=": (lambda xp, x, slope: xp.maximum(x, slope * x, where=x > 0), "where"),
    "initial=": (lambda xp, x, slope: x + xp.sum(x, initial=0), "initial"),
    "a method's initial=": (lambda xp, x, slope: x + x.max(initial=0), "initial"),
    "errstate": (_silenced, "has no attribute 'errstate'"),
    "setflags": (_in_place, "has no attribute 'setflags'"),
    "memory that was not written": (_unwritten, "NaN|nan"),
    "float64 from a scalar": (lambda xp, x, slope: xp.maximum(x, np.float64(slope) * x), "float64"),
}


# what NumPy takes, so does the stand-in where there is no CuPy to say that it does not
OF_NUMPY = {"initial=", "a method's initial="}


@pytest.mark.parametrize(
    ("formula", "words"),
    [pytest.param(*row, marks=needs_cupy if name in OF_NUMPY else (), id=name) for name, row in FORMULAS.items()],
)
def test_in_a_layer(formula, words, strict, monkeypatch):
    def forward(self, x):
        ops, slope = kernels(x), self.slope
        y = formula(ops.xp, x, slope)
        return y, self.pullback(y, dx=lambda dy: ops.xp.where(y > 0, dy, slope * dy))

    row = Row(LeakyReLU(), (6, 5))
    test = partial(test_contract.test_a_device_gives_the_numbers_of_the_cpu, row, np.float32, strict)

    def plant():
        right = LeakyReLU.forward
        monkeypatch.setattr(LeakyReLU, "forward", lambda *a: (right if isinstance(a[1], np.ndarray) else forward)(*a))

    turns_red(test, words, plant)


# --- in a kernel ----------------------------------------------------------------------------------------------------


IN_LAYERS = (
    *("correlate", "correlate_adjoint_x", "correlate_adjoint_W", "matmul"),
    *("elementwise", "channel_sum", "channel_sums", "mean_and_variance"),
)


def _plant_in_a_kernel(monkeypatch, ops, name) -> None:
    """Make its result a thousandth too large, or the first of its results."""
    right = getattr(ops, name)

    def a_thousandth_more(*arguments, **options):
        results = right(*arguments, **options)
        if not isinstance(results, tuple | list):
            return 1.001 * results
        return type(results)([1.001 * results[0], *results[1:]])

    monkeypatch.setattr(ops, name, a_thousandth_more)


@pytest.mark.parametrize("name", [*IN_LAYERS, "sum_with_map", "adam"])
def test_in_a_kernel(name, strict, monkeypatch):
    def test():
        if name in IN_LAYERS:
            for row in (row for row in TABLE if row.name in ("convolutions", "perceptron")):
                test_contract.test_a_device_gives_the_numbers_of_the_cpu(row, np.float64, strict)
        elif name == "sum_with_map":
            test_losses.test_bce_is_finite_and_unclipped_far_out(np.float64, strict)
        else:
            test_optimizers.test_adam_by_hand(strict)

    turns_red(test, "Not equal|Obtained", partial(_plant_in_a_kernel, monkeypatch, strict.ops, name))


@pytest.mark.parametrize("name", ["channel_sum", "sum_with_map"])
def test_gradient_checks_reach_the_kernels_of_a_device(name, strict, monkeypatch):
    def test():
        rng = np.random.default_rng(0)
        if name == "channel_sum":
            test_gradients.prove(strict, Dense(3, 2), rng.standard_normal((4, 3)), rng=rng)
        else:
            test_gradients.prove(strict, losses.mse, *rng.standard_normal((2, 4, 3)), rng=rng)

    turns_red(test, "WRONG", partial(_plant_in_a_kernel, monkeypatch, strict.ops, name))


# --- in losses, optimizers and models -------------------------------------------------------------------------------


BCE = "bce_with_logits"
SUMS = {  # of squares, as a loss might take them
    "np.square": lambda r: np.square(r).sum(),
    "np.sum": lambda r: np.sum(r * r),
    "np.vdot": lambda r: np.vdot(r, r),
    "a matrix of NumPy's": lambda r: (r @ np.eye(r.shape[1]) * r).sum(),
}


@pytest.mark.parametrize("total", SUMS.values(), ids=SUMS)
def test_in_a_loss(total, strict, monkeypatch):
    arguments = test_losses.LOSSES["mse"][1]
    test = test_losses.test_a_loss_averages_over_the_batch_and_sums_over_features

    def planted(y, target):
        r = y - target
        return total(r) / len(r), r * (2 / len(r))

    plant = partial(monkeypatch.setattr, losses, "mse", planted)
    turns_red(lambda: test(lambda *a: losses.mse(*a), arguments, strict), "numpy", plant)


def test_in_an_optimizer(strict, monkeypatch):
    test = partial(test_optimizers.test_step_replaces_values_and_zeroes_gradients, partial(SGD, lr=0.1), strict)
    update = lambda self: [np.subtract(p.value, self.lr * p.grad) for p in self.parameters]  # noqa: E731
    turns_red(test, "subtract", partial(monkeypatch.setattr, SGD, "_updated", update))


@pytest.mark.parametrize(("kind", "module", "loss"), [("VAE", vae_module, "gaussian_kl"), ("DCGAN", gan_module, BCE)])
def test_in_a_model(kind, module, loss, strict, monkeypatch):
    test = partial(test_models.test_a_step_does_not_wait_for_the_device, kind, strict, np.random.default_rng(0))
    right = getattr(module, loss)
    penalised = lambda a, b: (np.sum(a * a), *right(a, b)[1:])  # noqa: E731
    turns_red(test, "numpy", partial(monkeypatch.setattr, module, loss, penalised))


# --- a step that waits ----------------------------------------------------------------------------------------------

WAITS = {  # what a layer may do with its y that makes the host wait for the device
    "float": lambda y: float(y.sum()),
    "int": lambda y: int(y.sum()),
    "if": lambda y: 1 if y.max() > 0 else 0,
    "assert": lambda y: bool((y >= 0).all()),
    "the larger": lambda y: max(y.min(), y.max()),
    "item": lambda y: y.sum().item(),
    "get": lambda y: y.get(),
    "to_host": to_host,
    "tolist": lambda y: y.tolist(),
    "text": lambda y: f"{y.sum()}",
    "a mask": lambda y: y[y > 0],
    "nonzero": lambda y: y.nonzero(),
    "unique": lambda y: kernels(y).xp.unique(y),
    "synchronize": lambda y: kernels(y).xp.cuda.Stream.null.synchronize(),
    "the device": lambda y: kernels(y).xp.cuda.Device().synchronize(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("kind", test_models.STEPS)
def test_a_layer_that_waits(kind, wait, strict, monkeypatch):
    test = partial(test_models.test_a_step_does_not_wait_for_the_device, kind, strict, np.random.default_rng(0))
    right = ReLU.forward

    def forward(self, x):
        y, backward = right(self, x)
        wait(y)
        return y, backward

    turns_red(test, "synchron", partial(monkeypatch.setattr, ReLU, "forward", forward))


def test_a_loss_that_is_looked_at(strict, monkeypatch):
    test = partial(test_models.test_a_step_does_not_wait_for_the_device, "DCGAN", strict, np.random.default_rng(0))
    right = getattr(gan_module, BCE)

    def looked_at(*arguments):
        loss, gradient = right(*arguments)
        return float(loss), gradient

    turns_red(test, "synchron", partial(monkeypatch.setattr, gan_module, BCE, looked_at))
