"""Work on rows (..., C): a formula applied to cache-sized blocks of rows on every thread, and sums over rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.formula import CHANNEL, Formula, Plan
from scratchgen.backend.numpy_ops import formula
from scratchgen.backend.numpy_ops.memory import empty, workspace
from scratchgen.backend.reference import itself

FEW = 1 << 12  # elements up to which a formula is simply called; one of a few operations, up to a block
BLOCK = 1 << 17  # elements of each array at a time: a few such fit in L2, and Python's own time is small beside
WIDE = 4096  # elements side by side at least, so that NumPy's inner loop is long where a row of C is short
LONG = 64  # channels from which rows need not be put side by side
COST = 128  # of the work on one element, in multiply-adds: it decides whether threads are worth waking


def elementwise(f: Formula, *arguments: Any) -> Array:
    """See `reference.elementwise`; block by block, so that what f makes in between never leaves the cache."""
    plan = f.plan(arguments, several=False)
    first = arguments[0]
    if first.size <= (BLOCK if plan.short else FEW):
        return _own(f.function(*arguments), arguments)
    make = np.empty if first.size <= BLOCK else empty  # what NumPy has just let go of is still in the cache
    y = make(first.shape, first.dtype)
    _run(plan, arguments, [y], (0,), lambda terms: None)
    return y


def channel_sum(a: Array) -> Array:
    """See `reference.channel_sum`."""
    return channel_sums(itself, a)[0]


def channel_sums(f: Formula, *arguments: Any) -> tuple[Array, ...]:
    """See `reference.channel_sums`; for each block products with ones, and the sum of those, which rounds less."""
    plan = f.plan(arguments, several=True)
    first = arguments[0]
    C = first.shape[-1]

    def sums(terms: tuple[Array, ...]) -> list[Array]:
        matrices = [term.reshape(-1, term.shape[-1]) for term in terms]
        ones = np.ones(len(matrices[0]), first.dtype)
        return [ones @ matrix for matrix in matrices]

    if first.size <= FEW:  # so few that BLAS, too, works on them by one thread
        return tuple(sums(f.function(*arguments)))
    with threads.one_blas_thread:
        found = _run(plan, arguments, [], (), sums)
    return tuple(np.concatenate(sums).reshape(-1, C).sum(axis=0) for sums in zip(*found, strict=True))


def sum_with_map(f: Formula, *arguments: Any, over: float = 1) -> tuple[Array, ...]:
    """See `reference.sum_with_map`; the sums of the blocks are added up in their order."""
    plan = f.plan(arguments, several=True)
    first = arguments[0]
    if first.size <= FEW:
        term, *others = f.function(*arguments)
        results: list[Array] = []
        for other in others:
            results.append(_own(other, (*arguments, *results)))
        return term.sum() / over, *results
    into = [empty(first.shape, first.dtype) for _ in plan.program.results[1:]]
    written = tuple(range(1, len(plan.program.results)))
    found = _run(plan, arguments, into, written, lambda terms: terms[0].sum())
    return np.sum(found) / over, *into


def _own(result: Array, others: Sequence[Any]) -> Array:
    """The result of a formula, as a copy where it is one of its arguments, or another result."""
    return result.copy() if any(result is other for other in others) else result


def _run(
    plan: Plan,
    arguments: Sequence[Any],
    into: list[Array],
    written: tuple[int, ...],
    look: Callable[[tuple[Array, ...]], Any],
) -> list[Any]:
    """look(terms) for the terms of each block of rows, in order; the terms `written` go into the arrays `into`."""
    calls, first = formula.calls(plan, written), arguments[0]
    if first.size <= BLOCK and (CHANNEL not in plan.arguments or first.shape[-1] >= LONG):
        return [look(calls.all_at_once(arguments, into))]
    matrices = _wide(*arguments, *into)
    given, into = matrices[: len(arguments)], matrices[len(arguments) :]
    return _over_blocks(given[0], lambda blocks: [look(terms) for terms in calls.by_blocks(given, into, blocks)])


def _over_blocks(matrix: Array, work: Callable[[list[slice]], list[Any]]) -> list[Any]:
    """What work(blocks) finds for each block of rows, in order, on every thread.

    The blocks depend on the sizes alone, so that sums do not depend on how many threads there are.
    """
    rows, width = matrix.shape
    height = max(1, BLOCK // width)
    blocks = [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
    shares = threads.over(lambda part: work(blocks[part]), len(blocks), rows * width * COST)
    return [found for share in shares for found in share]


def mean_and_variance(x: Array) -> tuple[Array, Array]:
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

    def work(blocks: list[slice]) -> list[tuple[int, Array, Array]]:
        found = []
        for block in blocks:
            x = rows[block]
            ones = np.ones(len(x), dtype)
            mean, squares = _mean_and_squares(x, ones)
            found.append((len(x), mean.reshape(-1, C), squares.reshape(-1, C)))
        return found

    found = _over_blocks(rows, work)
    counts = np.repeat([n for n, _, _ in found], [len(mean) for _, mean, _ in found]).astype(dtype)
    means, squares = (np.concatenate([block[i] for block in found]) for i in (1, 2))  # (groups of rows, C)
    m = x.size // C
    with threads.one_blas_thread:
        mu = means[0] + counts @ (means - means[0]) / m
        return mu, (squares.sum(axis=0) + counts @ (means - mu) ** 2) / m


def _mean_and_squares(x: Array, ones: Array) -> tuple[Array, Array]:
    """Mean, and sum of squares around it; the mean is mended by that of what is left, lest its rounding count."""
    mean = (ones @ x) / len(x)
    x = np.subtract(x, mean, out=workspace("deviations", x.shape, mean.dtype))
    rest = (ones @ x) / len(x)
    x *= x
    return mean + rest, np.maximum(ones @ x - len(x) * rest * rest, 0)  # rounding may take it below


def _wide(*arguments: Any) -> list[Any]:
    """Arrays (..., C) as matrices whose rows are k rows side by side, vectors (C,) as one such row; what is one value
    for all stays as it is.

    The work on every element stays the same, but NumPy's inner loop over it is longer.
    """
    shape, C = arguments[0].shape, arguments[0].shape[-1]
    count = arguments[0].size // C
    k = 1
    while k * C < WIDE and count % (2 * k) == 0 and count > 2 * k:
        k *= 2

    def matrix(a: Any) -> Any:
        if getattr(a, "ndim", 0) == 0:
            return a
        if a.shape == shape:
            return a.reshape(count // k, k * C)
        return (np.tile(a, k) if k > 1 else a)[None]

    return [matrix(a) for a in arguments]
