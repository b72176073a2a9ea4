"""Work on rows (..., C): a formula applied to cache-sized blocks of rows on every thread, and sums over rows."""

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.numpy_ops import formula
from scratchgen.backend.numpy_ops.memory import empty, workspace
from scratchgen.backend.reference import itself

BLOCK = 1 << 17  # elements of each array at a time: a few such arrays fit in L2, and Python's own time is small beside
SHARED_BLOCK = 1 << 18  # on several threads: only one of them runs Python at a time, so it must have less to say
WIDE = 4096  # elements side by side at least, so that NumPy's inner loop is long where a row of C is short
COST = 128  # of the work on one element, in multiply-adds: it decides whether threads are worth waking


def elementwise(f, *arguments):
    """See `reference.elementwise`; block by block, so that what f makes in between never leaves the cache."""
    first, plan = arguments[0], f.plan(arguments)
    if plan.program.several:
        raise TypeError(f"{f}: it returns a tuple, needs one value")
    if first.size <= BLOCK:
        return f.function(*arguments)
    y = empty(first.shape, first.dtype)
    into, *matrices = _wide(y, *arguments)
    calls = formula.calls(plan)
    threads.over(
        lambda part: calls.write(matrices, _blocks(part, into), into), len(into), first.size * COST
    )
    return y


def channel_sum(a):
    """See `reference.channel_sum`."""
    return channel_sums(itself, a)[0]


def channel_sums(f, *arguments):
    """See `reference.channel_sums`; for each block products with ones, and the sum of those, which rounds less."""
    first, plan = arguments[0], f.plan(arguments)
    C, dtype = first.shape[-1], first.dtype
    if first.size <= BLOCK:
        ones = np.ones(first.size // C, dtype)
        with threads.one_blas_thread:
            return tuple(ones @ term.reshape(-1, C) for term in f.function(*arguments))
    matrices = _wide(*arguments)
    calls = formula.calls(plan)

    def share(part: slice) -> list:
        totals = []
        for terms in calls.terms(matrices, _blocks(part, matrices[0])):
            ones = np.ones(len(terms[0]), dtype)
            totals.append([ones @ term for term in terms])
        return totals

    parts = [block for part in threads.over(share, len(matrices[0]), first.size * COST) for block in part]
    return tuple(np.concatenate(sums).reshape(-1, C).sum(axis=0) for sums in zip(*parts, strict=True))


def mean_and_variance(x):
    """See `reference.mean_and_variance`; in one pass: from each block's own mean m_b and its squares around that,

    Σ (x − mu)² = Σ_b [Σ (x − m_b)² + n (m_b − mu)²].   (Chan et al. 1983.)
    """
    C, dtype = x.shape[-1], x.dtype
    if x.size <= BLOCK:
        ones, x = np.ones(x.size // C, dtype), x.reshape(-1, C)
        with threads.one_blas_thread:
            mean, squares = _mean_and_squares(x, ones)
            return mean, squares / len(x)
    (rows,) = _wide(x)

    def share(part: slice) -> list:
        found = []
        for block in _blocks(part, rows):
            x = rows[block]
            ones = np.ones(len(x), dtype)
            mean, squares = _mean_and_squares(x, ones)
            found.append((len(x), mean.reshape(-1, C), squares.reshape(-1, C)))
        return found

    found = [block for part in threads.over(share, len(rows), x.size * COST) for block in part]
    counts = np.repeat([n for n, _, _ in found], [len(mean) for _, mean, _ in found]).astype(dtype)
    means, squares = (np.concatenate([block[i] for block in found]) for i in (1, 2))  # (groups of rows, C)
    m = x.size // C
    with threads.one_blas_thread:
        mu = means[0] + counts @ (means - means[0]) / m
        return mu, (squares.sum(axis=0) + counts @ (means - mu) ** 2) / m


def _mean_and_squares(x, ones):
    """Mean, and sum of squares around it; the mean is mended by that of what is left, lest its rounding count."""
    mean = (ones @ x) / len(x)
    x = np.subtract(x, mean, out=workspace("deviations", x.shape, mean.dtype))
    rest = (ones @ x) / len(x)
    x *= x
    return mean + rest, ones @ x - len(x) * rest * rest


def _wide(*arguments):
    """Arrays (..., C) as matrices whose rows are k rows side by side, vectors (C,) as one such row, numbers as they are.

    The work on every element stays the same, but NumPy's inner loop over it is longer.
    """
    shape, C = arguments[0].shape, arguments[0].shape[-1]
    count = arguments[0].size // C
    k = 1
    while k * C < WIDE and count % (2 * k) == 0 and count > 2 * k:
        k *= 2

    def matrix(a):
        if getattr(a, "ndim", 0) == 0:
            return a
        if a.shape == shape:
            return a.reshape(count // k, k * C)
        return (np.tile(a, k) if k > 1 else a)[None]

    return [matrix(a) for a in arguments]


def _blocks(part: slice, rows):
    size = BLOCK if part.stop - part.start == len(rows) else SHARED_BLOCK
    height = max(1, size // rows.shape[1])
    for start in range(part.start, part.stop, height):
        yield slice(start, min(start + height, part.stop))
