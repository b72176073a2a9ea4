"""How long each kernel of a step takes on a GPU by itself: what a real step launches, again on the same arrays.

A kernel of ours is judged by the bytes that must move, what it is given read once and what it returns written once,
and a matrix product by its operations. Each is queued some times behind a large copy, so that the GPU goes from one
to the next without waiting for Python, and its own clock is read before and after.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from scratchgen.backend import backend_of, load_kernels
from scratchgen.backend.formula import Formula
from scratchgen.bench import ceilings
from scratchgen.bench.count import OPERATIONS, listening
from scratchgen.bench.steps import Step, wait

# What a step goes to the GPU by: our kernels, and products. A convolution is its columns and products, as they are
# launched, so that columns which are there already do not count again.
OURS = ("elementwise", "channel_sum", "channel_sums", "sum_with_map", "mean_and_variance", "adam", "matmul")
OF_A_CONVOLUTION = ("launch_columns", "matmul")
REPEATS = 20
READINGS = 3
AHEAD = 10  # copies that keep the GPU busy while Python queues REPEATS calls: 7 ms and more

Found = dict[str, Any]


def times(step: Step) -> dict[str, list[Found]]:
    """{"kernels": [...], "products": [...]}: each kind of call in a step, how often it is made, and its seconds."""
    found: dict[Any, list[Any]] = {}  # by what tells two calls apart: [how many, the function, its arguments]

    def tell(name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        key = (name, *(getattr(a, "flags", None) and a.flags.c_contiguous for a in args), *_key(args))
        found.setdefault(key, [0, function, args])[0] += 1

    ops = load_kernels("cupy")
    convolution = import_module(f"{ops.__name__}.convolution")
    with listening([*((ops, n) for n in OURS), *((convolution, n) for n in OF_A_CONVOLUTION)], tell):
        step.run()
    clock = Clock(ops.xp)
    report: dict[str, list[Found]] = {"kernels": [], "products": []}
    for (name, *_), (calls, function, args) in found.items():
        described = _product if name == "matmul" else _kernel
        timed = {"calls": calls, "seconds": clock.seconds(partial(function, *args))}
        report["products" if name == "matmul" else "kernels"].append(described(name, function, args) | timed)
    return report


class Clock:
    """Seconds of a call on the GPU."""

    def __init__(self, xp: Any):
        self.xp, self.ahead = xp, ceilings.copy()

    def seconds(self, run: Callable[[], object]) -> float:
        """The median of some readings, each of REPEATS calls."""
        run()
        readings = []
        for _ in range(READINGS):
            start, end = (self.xp.cuda.Event() for _ in range(2))
            for _ in range(AHEAD):
                self.ahead()
            start.record()
            for _ in range(REPEATS):
                run()
            end.record()
            end.synchronize()
            readings.append(self.xp.cuda.get_elapsed_time(start, end) / 1e3 / REPEATS)
        wait()
        return float(np.median(readings))


def _key(args: Any) -> tuple[Any, ...]:
    """Arguments as far as they tell two calls apart: an array by its shape, a plain number not at all."""
    return tuple(
        _key(a) if isinstance(a, tuple | list) else getattr(a, "shape", a)
        for a in args
        if not isinstance(a, int | float)
    )


def _kernel(name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Found:
    """A kernel of ours, and the bytes that must move."""
    if name == "launch_columns":
        name, result, given, geometry, *_ = args
        moved, formula = [result, given], f"{_sizes(geometry.kernel)} stride {geometry.stride[0]}"
        shape = _sizes((given if name == "im2col" else result).shape)
    else:
        moved = _arrays(args) + _arrays(function(*args))
        f, shape = args[0], _sizes(moved[0].shape)
        formula = f"{f.__module__.rpartition('.')[2]} {f.__name__}" if isinstance(f, Formula) else ""
    if name == "adam":
        values, _, m, v, *_ = args
        moved += [*m, *v]  # which are written, too
        shape = f"{sum(a.size for a in values):,} in {len(values)} arrays"
    return {"kernel": name, "formula": formula, "shape": shape, "bytes": sum(a.nbytes for a in moved)}


def _product(_: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Found:
    a, b = args
    form = "".join("N" if m.flags.c_contiguous else "T" for m in args)  # whether transposed matters to cuBLAS
    return {"sizes": [*a.shape, b.shape[1]], "form": form, "operations": OPERATIONS["matmul"](a, b)}


def _arrays(value: Any) -> list[Any]:
    """The device's arrays in arguments or results, in order."""
    if isinstance(value, tuple | list):
        return [a for part in value for a in _arrays(part)]
    return [value] if hasattr(value, "nbytes") and backend_of(value) == "cupy" else []


def _sizes(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
