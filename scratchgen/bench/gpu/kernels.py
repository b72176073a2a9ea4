"""How long each kernel of a step takes on the GPU by itself: the calls of a real step, made again on the same arrays.

A kernel of ours is judged by the bytes that must move, what it is given read once and what it returns written once,
and a matrix product by its operations. Each is queued some times behind a large copy, so that the GPU goes from one
to the next without waiting for Python, and its own clock is read before and after.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from scratchgen.backend import backend_of, load_kernels
from scratchgen.bench.count import listening
from scratchgen.bench.gpu import ceilings
from scratchgen.bench.gpu.device import wait
from scratchgen.bench.steps import Step

OURS = ("rowwise", "row_sum", "row_sums", "moments", "total", "adam")
CONVOLUTIONS = ("correlate", "correlate_adjoint_x", "correlate_adjoint_W")
REPEATS = 20
READINGS = 3
AHEAD = 10  # copies that keep the GPU busy while Python queues REPEATS calls: 7 ms and more


def times(step: Step) -> dict:
    """{"kernels": [...], "products": [...]}: each kind of call in a step, how often it is made, and its seconds."""
    ops = load_kernels("cupy")
    clock = Clock(ops.xp)
    kernels, products = {}, {}  # by what tells two calls apart: [how many, what, its run, bytes or operations]
    for name, args in recorded(step):
        if name in OURS:
            _add(kernels, *_kernel(ops, name, args))
        elif name == "matmul":
            _add(products, *_product(*args))
        else:
            for columns in _columns(ops, name, *args):
                _add(kernels, *columns)
            _add(products, *_product(*_matrices(ops, name, *args)))
    return {
        "kernels": [_entry(clock, found, "bytes") for found in kernels.values()],
        "products": [_entry(clock, found, "operations") for found in products.values()],
    }


def recorded(step: Step) -> list[tuple[str, tuple]]:
    """Every call of a kernel in one step, with its arguments."""
    calls = []
    with listening((*OURS, *CONVOLUTIONS, "matmul"), lambda name, args: calls.append((name, args)), "cupy"):
        step.run()
    return calls


class Clock:
    """Seconds of a call on the GPU."""

    def __init__(self, xp):
        self.xp, self.ahead = xp, ceilings.copy()

    def seconds(self, run: Callable[[], object]) -> float:
        """The median of some readings, each of REPEATS calls."""
        run()
        readings = []
        for _ in range(READINGS):
            start, end = (self.xp.cuda.Event() for _ in range(2))
            for _ in range(AHEAD):
                self.ahead.run()
            start.record()
            for _ in range(REPEATS):
                run()
            end.record()
            end.synchronize()
            readings.append(self.xp.cuda.get_elapsed_time(start, end) / 1e3 / REPEATS)
        wait()
        return float(np.median(readings))


def _add(found: dict, key: tuple, what: dict, run, work: int) -> None:
    found.setdefault(key, [0, what, run, work])[0] += 1


def _entry(clock: Clock, found: list, unit: str) -> dict:
    calls, what, run, work = found
    return {**what, "calls": calls, "seconds": clock.seconds(run), unit: work}


def _kernel(ops, name: str, args: tuple):
    """One of ours, called as in the step."""
    kernel = getattr(ops, name)
    given = _arrays(args)
    formula = _formula(args[0]) if callable(args[0]) else ""
    returned = _arrays(kernel(*args))
    moved = sum(a.nbytes for a in given + returned)
    if name == "adam":
        moved += sum(a.nbytes for a in _arrays(args[2:4]))  # m and v are written, too
        shape = f"{sum(a.size for a in _arrays(args[0])):,} in {len(args[0])} arrays"
    else:
        shape = _shape(given[0])
    code = getattr(args[0], "__code__", args[0]) if callable(args[0]) else None
    key = (name, code, *(a.shape for a in given))
    return key, {"kernel": name, "formula": formula, "shape": shape}, lambda: kernel(*args), moved


def _columns(ops, name: str, first, second, geometry):
    """The im2col or col2im of a convolution; nothing where the patches are the images."""
    if geometry.whole:
        return
    large, channels = (second, 2) if name == "correlate_adjoint_x" else (first, -1)
    C = large.shape[channels]
    shape = len(first), *geometry.small, *geometry.kernel, C
    image = len(first), *geometry.large, C
    moved = (prod(shape) + prod(image)) * first.itemsize
    what = {
        "formula": f"{geometry.kernel[0]}×{geometry.kernel[1]} stride {geometry.stride[0]}",
        "shape": _sizes(image),
    }
    if name == "correlate_adjoint_x":
        cols = ops.xp.ones(shape, first.dtype)
        yield ("col2im", geometry, image), {"kernel": "col2im", **what}, lambda: ops.col2im(cols, geometry), moved
    else:
        yield ("im2col", geometry, image), {"kernel": "im2col", **what}, lambda: ops.im2col(first, geometry), moved


def _matrices(ops, name: str, first, second, geometry):
    """The two matrices that a convolution multiplies."""
    if name == "correlate_adjoint_x":
        kh, kw, C, O = second.shape
        return first.reshape(-1, O), second.reshape(kh * kw * C, O).T
    cols = ops.im2col(first, geometry).reshape(-1, prod(geometry.kernel) * first.shape[-1])
    if name == "correlate":
        return cols, second.reshape(cols.shape[1], -1)
    return cols.T, second.reshape(-1, second.shape[-1])


def _product(a, b):
    """a @ b; whether they are transposed matters to cuBLAS."""
    (M, K), N = a.shape, b.shape[1]
    form = "".join("N" if m.flags.c_contiguous else "T" for m in (a, b))
    return (M, K, N, form), {"sizes": [M, K, N], "form": form}, lambda: a @ b, 2 * M * K * N


def _formula(f) -> str:
    """A formula by the layer or loss that it is of, and its name or its arguments."""
    code = getattr(f, "__code__", None)
    if code is None:
        return getattr(f, "__name__", str(f))
    owner, name = f.__qualname__.split(".")[0], f.__name__
    arguments = ", ".join(code.co_varnames[: code.co_argcount])
    return f"{owner} λ({arguments})" if name == "<lambda>" else name if name == owner else f"{owner} {name}"


def _arrays(value) -> list:
    """The device's arrays in arguments or results, in order."""
    if isinstance(value, tuple | list):
        return [a for part in value for a in _arrays(part)]
    return [value] if hasattr(value, "nbytes") and backend_of(value) == "cupy" else []


def _shape(array) -> str:
    return _sizes(array.shape)


def _sizes(sizes) -> str:
    return "×".join(map(str, sizes))
