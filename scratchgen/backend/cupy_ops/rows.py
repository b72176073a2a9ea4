"""Work on rows (..., C): formulas as one pass each, sums over rows, mean and variance. At most two launches each.

Arrays that are not contiguous are copied first.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchgen.backend.arrays import Array
from scratchgen.backend.cupy_ops.device import xp
from scratchgen.backend.cupy_ops.formula import text
from scratchgen.backend.cupy_ops.launch import (
    BLOCKS,
    THREADS,
    IndexType,
    Kernel,
    compiled,
    index_type,
    kernel,
    power_of_two,
    quotient,
    source,
)
from scratchgen.backend.cupy_ops.tensors import sums_of_parts
from scratchgen.backend.formula import Formula, Plan
from scratchgen.backend.geometry import Pair
from scratchgen.backend.reference import itself

LANES = 32  # channels side by side in a block, at the most
FEW_LANES = 8  # where few rows are left: more blocks, and fewer rows for each thread
ROWS = 16  # rows for each thread, before more blocks share them


def elementwise(f: Formula, *arguments: Any) -> Array:
    """See `reference.elementwise`; as one kernel."""
    plan = f.plan(arguments, several=False)
    arguments = _contiguous(arguments)
    first = arguments[0]
    y = xp.empty(first.shape, first.dtype)
    n = first.size
    if n == 0:
        return y
    index = index_type(n)
    run, parameters = _kernel("elementwise", plan, arguments, index)
    grid = min(BLOCKS, quotient(n, 4 * THREADS))
    run((grid,), (THREADS,), (y, index(n), index(first.shape[-1]), *parameters))
    return y


def channel_sum(a: Array) -> Array:
    """See `reference.channel_sum`."""
    return channel_sums(itself, a)[0]


def channel_sums(f: Formula, *arguments: Any) -> tuple[Array, ...]:
    """See `reference.channel_sums`; in an order of additions that depends on the shape alone."""
    plan = f.plan(arguments, several=True)
    arguments = _contiguous(arguments)
    first = arguments[0]
    channels, terms = first.shape[-1], len(plan.program.results)
    rows = first.size // channels
    index = index_type(first.size)
    run, parameters = _kernel("channel_sums", plan, arguments, index, TERMS=terms)
    block, grid = _layout(rows, channels)
    sums = xp.empty((grid[1], terms, channels), first.dtype)
    run(grid, block, (sums, index(rows), index(channels), *parameters))
    if grid[1] == 1:
        return tuple(sums[0])
    block, once = _layout(grid[1], terms * channels, blocks=1)
    result = xp.empty((terms, channels), first.dtype)
    again, parameters = _kernel("channel_sums", itself.plan((sums,), several=True), (sums,), np.uint32, TERMS=1)
    again(once, block, (result, np.uint32(grid[1]), np.uint32(terms * channels), *parameters))
    return tuple(result)


def sum_with_map(f: Formula, *arguments: Any, over: float = 1) -> tuple[Array, ...]:
    """See `reference.sum_with_map`; in one pass, in an order of additions that never changes."""
    plan = f.plan(arguments, several=True)
    arguments = _contiguous(arguments)
    first = arguments[0]
    index, terms = index_type(first.size), len(plan.program.results)
    blocks = max(1, min(THREADS, quotient(first.size, ROWS * THREADS)))
    sums = xp.empty((1, blocks), first.dtype)
    others = [xp.empty(first.shape, first.dtype) for _ in range(terms - 1)]
    run, parameters = _kernel("sum_with_map", plan, arguments, index, TERMS=terms)
    sizes = index(first.size), index(first.shape[-1]), first.dtype.type(over)
    run((blocks,), (THREADS,), (sums, *sizes, *others, *parameters))
    return (sums if blocks == 1 else sums_of_parts(sums, over)).reshape(()), *others


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """See `reference.mean_and_variance`; in one pass."""
    channels = x.shape[-1]
    rows, index, dtype = x.size // channels, index_type(x.size), x.dtype
    block, grid = _layout(rows, channels)
    parts = xp.empty((grid[1], channels, 3), dtype)
    run = kernel("mean_and_variance", "of_rows", dtype, index)
    run(grid, block, (parts, index(rows), index(channels), xp.ascontiguousarray(x)))
    found = xp.empty((2, channels), dtype)
    run = kernel("mean_and_variance", "of_parts", dtype, np.uint32)
    block, once = _layout(grid[1], channels, blocks=1)
    run(once, block, (found, np.uint32(grid[1]), np.uint32(channels), parts))
    return found[0], found[1]


def _layout(rows: int, channels: int, blocks: int | None = None) -> tuple[Pair, Pair]:
    """Block and grid: channels along x, rows along y, in `blocks` or as many as there is work for."""
    lanes = power_of_two(channels, LANES if blocks is None else FEW_LANES)
    height = THREADS // lanes
    columns = quotient(channels, lanes)
    if blocks is None:
        blocks = max(1, min(quotient(rows, height * ROWS), quotient(BLOCKS // 2, columns)))
    return (lanes, height), (columns, blocks)


def _contiguous(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments, each array of them in C order, where kernels expect its elements."""
    return tuple(xp.ascontiguousarray(a) if getattr(a, "ndim", 0) else a for a in arguments)


_kernels: dict[tuple[Any, ...], Kernel] = {}


def _kernel(
    name: str, plan: Plan, arguments: Sequence[Any], index: IndexType, **constants: int
) -> tuple[Kernel, list[Any]]:
    """The kernel of sources/name.cu with this formula in it, and the formula's part of its parameters."""
    found, dtype = text(plan), arguments[0].dtype
    key = (name, plan, dtype, index)
    run = _kernels.get(key)
    if run is None:
        run = _kernels[key] = compiled(source(name, dtype, index=index, before=found.source, **constants), name)
    return run, found.parameters(arguments, dtype)
