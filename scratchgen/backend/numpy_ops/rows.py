"""Work on rows (..., C): a formula applied to cache-sized blocks of rows on every thread, and sums over rows."""

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.numpy_ops.memory import empty

BLOCK = 1 << 17  # numbers of each array at a time: a few such arrays fit in L2, and Python's own time is small beside
WIDE = 4096  # numbers side by side at least, so that NumPy's inner loop is long where a row of C is short
COST = 16  # of the work on one number, in multiply-adds: it decides whether threads are worth waking


def rowwise(f, *arrays):
    """See `reference.rowwise`; block by block, so that what f makes in between never leaves the cache."""
    first = arrays[0]
    if first.size <= BLOCK:
        return f(*arrays)
    y = empty(first.shape, first.dtype)
    into, *rows = _wide(y, *arrays)

    def share(part: slice) -> None:
        for block in _blocks(part, into.shape[1]):
            into[block] = f(*(a if len(a) == 1 else a[block] for a in rows))

    threads.over(share, len(into), first.size * COST)
    return y


def row_sum(a):
    """See `reference.row_sum`."""
    return row_sum_of(_itself, a)


def _itself(a):
    return a


def row_sum_of(f, *arrays):
    """See `reference.row_sum_of`; for each block a product with ones, and the sum of those, which rounds less."""
    C, dtype = arrays[0].shape[-1], arrays[0].dtype
    rows = _wide(*arrays)
    height, width = rows[0].shape

    def share(part: slice):
        total = np.zeros(width, dtype)
        for block in _blocks(part, width):
            terms = f(*(a if len(a) == 1 else a[block] for a in rows))
            total += np.ones(len(terms), dtype) @ terms
        return total

    totals = threads.over(share, height, arrays[0].size * COST)
    return np.add.reduce(np.concatenate(totals).reshape(-1, C), axis=0)


def _wide(*arrays):
    """Arrays (..., C) as matrices whose rows are k rows side by side, vectors (C,) as one such row.

    The work on every number stays the same, but NumPy's inner loop over it is longer.
    """
    shape, C = arrays[0].shape, arrays[0].shape[-1]
    count = arrays[0].size // C
    k = 1
    while k * C < WIDE and count % (2 * k) == 0:
        k *= 2
    return [a.reshape(count // k, k * C) if a.shape == shape else np.tile(a, k)[None] for a in arrays]


def _blocks(part: slice, width: int):
    height = max(1, BLOCK // width)
    for start in range(part.start, part.stop, height):
        yield slice(start, min(start + height, part.stop))
