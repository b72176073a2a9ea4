"""All parameters at once: the Adam update, and the squares of their gradients."""

from collections.abc import ItemsView, Sequence
from typing import Any

import numpy as np

from scratchgen.backend.arrays import Array, Arrays
from scratchgen.backend.cupy_ops.device import xp
from scratchgen.backend.cupy_ops.launch import THREADS, kernel, quotient

TENSORS = 64  # in a launch: their table is passed by value, 4 KiB at the most
BLOCKS = 1024  # of one tensor, at the most
_TABLE = np.dtype((np.void, TENSORS * 6 * 8))  # five pointers and a size


def adam(
    values: Arrays, grads: Arrays, ms: Arrays, vs: Arrays, lr: float, beta1: float, beta2: float, eps: float, t: int
) -> list[Array]:
    """See `reference.adam`; as one kernel for up to 64 parameters."""
    results = [xp.empty(value.shape, value.dtype) for value in values]
    factors = (lr, beta1, 1 - beta1, beta2, 1 - beta2, eps, 1 - beta1**t, 1 - beta2**t)
    rows = list(
        zip(map(xp.ascontiguousarray, values), map(xp.ascontiguousarray, grads), ms, vs, results, strict=True)
    )
    for dtype, which in _by_dtype(values):
        for part in _parts(which):
            table, blocks = _table([rows[i] for i in part])
            run = kernel("tensors", "adam", dtype, TENSORS=TENSORS)
            run((blocks, len(part)), (THREADS,), (table, *map(dtype.type, factors)))
    return results


def square_sums(arrays: Arrays) -> Array:
    """See `reference.square_sums`; two kernels for up to 64 arrays, in an order of additions that never changes."""
    sums = []
    for dtype, which in _by_dtype(arrays):
        for part in _parts(which):
            flat = [xp.ascontiguousarray(arrays[i]) for i in part]
            table, blocks = _table([(None, a, None, None, None) for a in flat])
            parts = xp.empty((len(part), blocks), dtype)
            kernel("tensors", "squares", dtype, TENSORS=TENSORS)((blocks, len(part)), (THREADS,), (parts, table))
            sums.append((part, sums_of_parts(parts)))
    if len(sums) == 1:
        return sums[0][1]
    order = np.argsort([i for part, _ in sums for i in part])
    return xp.concatenate([found for _, found in sums])[xp.asarray(order)]


def sums_of_parts(parts: Array, over: float = 1) -> Array:
    """The sum of each row of a matrix, divided by `over`, (R, n) → (R,); the order of additions never changes."""
    found = xp.empty(len(parts), parts.dtype)
    run = kernel("parts", "sums_of_parts", parts.dtype)
    run((len(parts),), (THREADS,), (found, np.uint32(parts.shape[1]), parts.dtype.type(over), parts))
    return found


def _by_dtype(arrays: Arrays) -> ItemsView[Any, list[int]]:
    """For each float type the indices of the arrays that have it."""
    kinds: dict[Any, list[int]] = {}
    for i, a in enumerate(arrays):
        kinds.setdefault(a.dtype, []).append(i)
    return kinds.items()


def _parts(which: list[int]) -> list[list[int]]:
    return [which[i : i + TENSORS] for i in range(0, len(which), TENSORS)]


def _table(rows: Sequence[Sequence[Any]]) -> tuple[Array, int]:
    """The table for a launch, and how many blocks its largest tensor keeps busy. The caller holds the arrays."""
    table = np.zeros((TENSORS, 6), np.uint64)
    table[: len(rows)] = [[*(0 if a is None else a.data.ptr for a in row), row[1].size] for row in rows]
    largest = max(row[1].size for row in rows)
    return table.reshape(-1).view(_TABLE).reshape(()), max(1, min(BLOCKS, quotient(largest, 4 * THREADS)))
