"""Work on rows (..., C): formulas as one pass each, sums over rows, moments. At most two launches each.

Arrays that do not lie in one piece are copied first.
"""

import numpy as np

from scratchgen.backend.cupy_ops.device import xp
from scratchgen.backend.cupy_ops.formula import Formula, traced
from scratchgen.backend.cupy_ops.launch import (
    BLOCKS,
    THREADS,
    compiled,
    index_type,
    kernel,
    power_of_two,
    quotient,
    source,
)
from scratchgen.backend.cupy_ops.tensors import sums_of_parts

SHARED_BYTES = 48 << 10  # that all threads of a block may share
LANES = 32  # channels side by side in a block, at the most
FEW_LANES = 8  # where few rows are left: more blocks, and fewer rows for each thread
ROWS = 16  # rows for each thread, before more blocks share them


def rowwise(f, *arrays):
    """See `reference.rowwise`; as one kernel."""
    first = arrays[0]
    formula = traced(f, len(arrays), first.dtype)
    if formula.terms:
        raise TypeError("rowwise: the formula returns a tuple, needs one array")
    arrays, places = _placed(arrays)
    y = xp.empty(first.shape, first.dtype)
    n = first.size
    if n == 0:
        return y
    index = index_type(n)
    run = _kernel("rowwise", formula, places, first.dtype, index)
    grid = min(BLOCKS, quotient(n, 4 * THREADS))
    run((grid,), (THREADS,), (y, index(n), index(first.shape[-1]), *arrays, *_numbers(formula, first.dtype)))
    return y


def row_sum(a):
    """See `reference.row_sum`."""
    return row_sums(_itself, a)[0]


def row_sums(f, *arrays):
    """See `reference.row_sums`; in an order of additions that depends on the shape alone."""
    return tuple(_sums(traced(f, len(arrays), arrays[0].dtype), arrays, arrays[0].shape[-1]))


def total(f, *arrays, over: float = 1):
    """See `reference.total`; in one pass, in an order of additions that never changes."""
    first = arrays[0]
    formula = traced(f, len(arrays), first.dtype)
    if not formula.terms:
        raise TypeError("total: the formula returns one array, needs a tuple of them")
    arrays, places = _placed(arrays)
    index = index_type(first.size)
    blocks = max(1, min(THREADS, quotient(first.size, ROWS * THREADS)))
    sums = xp.empty((1, blocks), first.dtype)
    others = [xp.empty(first.shape, first.dtype) for _ in range(formula.terms - 1)]
    run = _kernel("total", formula, places, first.dtype, index, TERMS=formula.terms)
    sizes = index(first.size), index(first.shape[-1]), first.dtype.type(over)
    run((blocks,), (THREADS,), (sums, *sizes, *others, *arrays, *_numbers(formula, first.dtype)))
    return (sums if blocks == 1 else sums_of_parts(sums, over)).reshape(()), *others


def _itself(a):
    return (a,)


def _sums(formula: Formula, arrays, channels: int):
    """The sums over rows of the formula's terms: (terms, channels)."""
    first = arrays[0]
    if not formula.terms:
        raise TypeError("row_sums: the formula returns one array, needs a tuple of them")
    arrays, places = _placed(arrays)
    rows, terms = first.size // channels, formula.terms
    if terms * THREADS * first.itemsize > SHARED_BYTES:
        raise ValueError(f"row_sums: the formula has {terms} terms, more than a block of the GPU has room for")
    index = index_type(first.size)
    run = _kernel("row_sums", formula, places, first.dtype, index, TERMS=terms)
    block, grid = _layout(rows, channels)
    sums = xp.empty((grid[1], terms, channels), first.dtype)
    run(grid, block, (sums, index(rows), index(channels), *arrays, *_numbers(formula, first.dtype)))
    if grid[1] == 1:
        return sums[0]
    block, once = _layout(grid[1], terms * channels, blocks=1)
    result = xp.empty((terms, channels), first.dtype)
    again = _kernel("row_sums", traced(_itself, 1, first.dtype), "i", first.dtype, np.uint32, TERMS=1)
    again(once, block, (result, np.uint32(grid[1]), np.uint32(terms * channels), sums))
    return result


def moments(x):
    """See `reference.moments`; in one pass."""
    channels = x.shape[-1]
    rows, index, dtype = x.size // channels, index_type(x.size), x.dtype
    block, grid = _layout(rows, channels)
    parts = xp.empty((grid[1], channels, 3), dtype)
    run = kernel("moments", "moments_of_rows", dtype, index)
    run(grid, block, (parts, index(rows), index(channels), xp.ascontiguousarray(x)))
    found = xp.empty((2, channels), dtype)
    run = kernel("moments", "moments_of_parts", dtype, np.uint32)
    block, once = _layout(grid[1], channels, blocks=1)
    run(once, block, (found, np.uint32(grid[1]), np.uint32(channels), parts))
    return found[0], found[1]


def _layout(rows: int, channels: int, blocks: int | None = None):
    """Block and grid: channels along x, rows along y, in `blocks` or as many as there is work for."""
    lanes = power_of_two(channels, LANES if blocks is None else FEW_LANES)
    height = THREADS // lanes
    columns = quotient(channels, lanes)
    if blocks is None:
        blocks = max(1, min(quotient(rows, height * ROWS), quotient(BLOCKS // 2, columns)))
    return (lanes, height), (columns, blocks)


def _placed(arrays):
    """The arrays in C order, and where in each a number finds its own: "i", "c" or "1", see Formula.places."""
    first = arrays[0]
    places = []
    for a in arrays:
        if a.dtype != first.dtype:
            raise TypeError(f"formula: got arrays of {first.dtype} and {a.dtype}")
        if a.shape == first.shape:
            places.append("i")
        elif a.shape == first.shape[-1:]:
            places.append("c")
        elif a.ndim == 0:
            places.append("1")
        else:
            raise ValueError(
                f"formula: got shapes {first.shape} and {a.shape}, needs {first.shape[-1:]} or the first"
            )
    return [xp.ascontiguousarray(a) if a.ndim else a for a in arrays], "".join(places)


_kernels: dict[tuple, object] = {}


def _kernel(name: str, formula: Formula, places: str, dtype, index, **constants):
    """The kernel of sources/name.cu with this formula in it."""
    key = (name, formula.text, places, dtype, index)
    known = _kernels.get(key)
    if known is None:
        text = source(name, dtype, index=index, before=formula.text + formula.places(places), **constants)
        known = _kernels[key] = compiled(text, name)
    return known


def _numbers(formula: Formula, dtype):
    return [dtype.type(number) for number in formula.numbers]
