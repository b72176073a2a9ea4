"""Work on rows (..., C) by compiled loops: formulas, sums over rows, mean and variance.

An array is taken as a matrix of about `WIDE` columns, k rows of C channels side by side: the inner loop is then long
where C is short, and each column is a sum of its own, so that few elements are added to one another before the sums
are added up in float64. What is summed is cut by its size alone, so the result is the same on any number of threads.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from scratchgen.backend import numpy_ops, threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.compiled.formula import FormulaLoop, formula_loop
from scratchgen.backend.compiled.loops import mean_and_squares
from scratchgen.backend.formula import Formula, Plan
from scratchgen.backend.numpy_ops.memory import empty
from scratchgen.backend.reference import itself

FEW = 1 << 12  # elements up to which NumPy is as fast
WIDE = 2048  # columns of a matrix, about
PIECES, LEAST = 16, 1 << 15  # so many pieces are summed by themselves, at most, and so many elements, at least
NARROW = 512  # columns for mean and variance: each column has one of its own, which takes work
PIECE = 1 << 17  # elements for these, about: they stay in cache from the first pass to the second
COST = 100  # of mean and variance of an element, in multiply-adds


def elementwise(f: Formula, *arguments: Any) -> Array:
    """See `reference.elementwise`."""
    first = arguments[0]
    found = first.size > FEW and _found(f.plan(arguments, several=False), first, (), (0,))
    if not found:
        return numpy_ops.elementwise(f, *arguments)
    y = empty(first.shape, first.dtype)
    _run(*found, arguments, [y])
    return y


def channel_sum(a: Array) -> Array:
    """See `reference.channel_sum`."""
    return channel_sums(itself, a)[0]


def channel_sums(f: Formula, *arguments: Any) -> tuple[Array, ...]:
    """See `reference.channel_sums`."""
    first, terms = arguments[0], len(f.program.results)
    found = first.size > FEW and _found(f.plan(arguments, several=True), first, tuple(range(terms)), ())
    if not found:
        return numpy_ops.channel_sums(f, *arguments)
    C = first.shape[-1]
    sums = _run(*found, arguments, [], C)
    return tuple(
        np.concatenate([part[n].reshape(-1, C) for part in sums]).sum(axis=0, dtype=np.float64).astype(first.dtype)
        for n in range(terms)
    )


def sum_with_map(f: Formula, *arguments: Any, over: float = 1) -> tuple[Array, ...]:
    """See `reference.sum_with_map`."""
    first, written = arguments[0], tuple(range(1, len(f.program.results)))
    found = first.size > FEW and _found(f.plan(arguments, several=True), first, (0,), written)
    if not found:
        return numpy_ops.sum_with_map(f, *arguments, over=over)
    into = [empty(first.shape, first.dtype) for _ in written]
    sums = _run(*found, arguments, into)
    total = sum(part.sum(dtype=np.float64) for part in sums) / over
    return first.dtype.type(total), *into


def _found(
    plan: Plan, first: Array, summed: tuple[int, ...], written: tuple[int, ...]
) -> tuple[FormulaLoop, Callable[..., None]] | None:
    """The loop of a plan, and what it is compiled to; None where nothing compiles."""
    found = formula_loop(plan, summed, written)
    if found is None or not (found.plain or first.dtype == np.float32):
        return None
    compiled = found.loop.of(first.dtype)
    return None if compiled is None else (found, compiled)


def _run(
    found: FormulaLoop, compiled: Callable[..., None], arguments: Sequence[Any], into: Sequence[Array], C: int = 1
) -> list[Array]:
    """Run the loop on all rows; the sums, (terms, columns of all pieces) each. C is that of sums by channels."""
    first = arguments[0]
    columns, numbers = found.values(arguments)
    if columns:
        C = first.shape[-1]
    arrays = [plain(arguments[i]).reshape(-1) for i in found.rows]
    outputs = [a.reshape(-1) for a in into]
    return [
        _run_matrix(
            found,
            compiled,
            [a[start:stop].reshape(-1, width) for a in arrays],
            [*(_tiled(a, width) for a in columns), *numbers],
            [a[start:stop].reshape(-1, width) for a in outputs],
        )
        for start, stop, width in _parts(first.size, C, WIDE)
    ]


def _run_matrix(
    found: FormulaLoop, compiled: Callable[..., None], matrices: list[Array], same: list[Any], into: list[Array]
) -> Array:
    """Run the loop on all rows of the matrices; the sums, (terms, columns of all pieces). A map without sums is cut
    as there are threads, which does not show."""
    rows, width = matrices[0].shape
    height = max(1, LEAST // width, -(-rows // PIECES)) if found.terms else 1
    pieces = -(-rows // height)
    sums = np.zeros((found.terms, pieces, width), matrices[0].dtype)

    def share(part: slice) -> None:
        if not found.terms:
            compiled(*matrices, *same, *into, part.start, part.stop)
            return
        for piece in range(part.start, part.stop):
            top = piece * height
            compiled(*matrices, *same, *sums[:, piece], *into, top, min(top + height, rows))

    work = rows * width * found.cost
    if threads.worth_sharing(work):
        threads.over(share, pieces, work)
    else:
        share(slice(0, pieces))
    return sums.reshape(found.terms, pieces * width)


@lru_cache(256)
def _parts(size: int, C: int, wide: int) -> list[tuple[int, int, int]]:
    """Start, stop and width of the matrix of about `wide` columns that so many elements are, and of a narrow one that
    the last few rows of C may be."""
    width = C * max(1, min(wide, size) // C)
    whole = size - size % width
    parts = [(0, whole, width)] if whole else []
    return parts + [(whole, size, C if C > 1 else size - whole)] * (whole < size)


@lru_cache(256)
def _pieces(size: int, C: int) -> list[tuple[int, int, int]]:
    """The same, cut into pieces of so many rows that they stay in cache from a first pass to a second."""
    return [
        (top, min(top + width * max(1, PIECE // width), stop), width)
        for start, stop, width in _parts(size, C, NARROW)
        for top in range(start, stop, width * max(1, PIECE // width))
    ]


def plain(a: Array) -> Array:
    """The array as a loop can have it: itself, or a copy where it lies otherwise in memory."""
    if type(a) is np.ndarray and a.flags.c_contiguous and a.flags.aligned:
        return a
    return np.require(a, requirements=("C", "A")).view(np.ndarray)


def _tiled(a: Array, width: int) -> Array:
    """(C,) as often as it takes to be (width,)."""
    tiled = np.empty((width // a.size, a.size), a.dtype)
    tiled[...] = a
    return tiled.reshape(-1)


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """See `reference.mean_and_variance`; in one pass over memory: from the mean m_b and the squares around it of each
    piece and column,

    Σ (x − mu)² = Σ_b [Σ (x − m_b)² + n_b (m_b − mu)²].   (Chan et al. 1983.)
    """
    compiled = mean_and_squares.of(x.dtype) if x.size > FEW else None
    if compiled is None:
        return numpy_ops.mean_and_variance(x)
    C, flat = x.shape[-1], plain(x).reshape(-1)
    pieces = _pieces(x.size, C)

    def share(part: slice) -> list[tuple[int, Array]]:
        found = []
        for start, stop, width in pieces[part]:
            piece = flat[start:stop].reshape(-1, width)
            mean_rest_squares = np.zeros((3, width), x.dtype)
            compiled(piece, *mean_rest_squares, len(piece))
            found.append((len(piece), mean_rest_squares.reshape(3, -1, C)))
        return found

    found = [piece for part in threads.over(share, len(pieces), x.size * COST) for piece in part]
    counts = np.concatenate([np.full(part.shape[1], n, np.float64) for n, part in found])
    means, rests, squares = (np.concatenate([part[k] for _, part in found]).astype(np.float64) for k in range(3))
    rests /= counts[:, None]  # what rounding took from the means: far from 0 it is more than all else
    means += rests
    squares = np.maximum(squares - counts[:, None] * rests**2, 0)  # rounding may take it below
    m = x.size // C
    mu = counts @ means / m
    var = (squares.sum(axis=0) + counts @ (means - mu) ** 2) / m
    return mu.astype(x.dtype), var.astype(x.dtype)
