"""What the tests of the contract share: evaluating a layer, comparing lists of arrays, watching dtypes."""

import sys
from contextlib import contextmanager

import numpy as np
from backends import host, like

from scratchgen import Layer, Parameter
from scratchgen.backend import array_library

FLOATS = (np.float32, np.float64)
ARRAYS = (np.ndarray, np.generic)


def gradients(layer) -> list:
    return [p.grad.copy() for p in layer.parameters()]


def floats(layer) -> list:
    """Parameters and statistics; what is counted neither moves nor converts."""
    return [a for a in layer.state().values() if a.dtype.kind == "f"]


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


LAYOUTS = {
    "Fortran": lambda xp, a: xp.asfortranarray(a),
    "every second": lambda xp, a: xp.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda xp, a: a[::-1].copy()[::-1],
    "batch last": lambda xp, a: xp.ascontiguousarray(xp.moveaxis(a, 0, -1)).transpose(a.ndim - 1, *range(a.ndim - 1)),
}


def _refuse(*_):
    raise AssertionError("this work should not be done")


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
