"""The Adam update of all parameters, block by block, so that each element is read and written once."""

from collections.abc import Sequence

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array, Arrays
from scratchgen.backend.numpy_ops.memory import empty, workspace

BLOCK = 1 << 16  # elements: six arrays of them fit in L2
SHARED_BLOCK = 1 << 17  # on several threads: only one of them runs Python at a time, so it must have less to say
COST = 50  # of one element in multiply-adds


def adam(
    values: Arrays, grads: Arrays, ms: Arrays, vs: Arrays, lr: float, beta1: float, beta2: float, eps: float, t: int
) -> list[Array]:
    """See `reference.adam`; the moments are in C order, as they are updated in place."""
    assert all(a.flags.c_contiguous for a in (*ms, *vs))
    results = [empty(value.shape, value.dtype) for value in values]
    work = COST * sum(value.size for value in values)
    blocks = cut((values, grads, ms, vs, results), SHARED_BLOCK if threads.worth_sharing(work) else BLOCK)
    numbers = factors_of_step(lr, beta1, beta2, eps, t)
    # as arrays, for which NumPy needs Python's lock a third less long than for Python's numbers
    factors = {dtype: [np.array(n, dtype) for n in numbers] for dtype in {value.dtype for value in values}}

    def share(part: slice) -> None:
        for p, g, m, v, new in blocks[part]:
            keep_m, take_m, keep_v, take_v, step, least = factors[p.dtype]
            s = workspace("adam", p.shape, p.dtype)
            m *= keep_m
            np.multiply(g, take_m, out=s)
            m += s  # m ← β₁m + (1 − β₁)g
            v *= keep_v
            np.multiply(g, g, out=s)
            s *= take_v
            v += s  # v ← β₂v + (1 − β₂)g²
            np.sqrt(v, out=s)
            s += least
            np.divide(m, s, out=s)
            s *= step
            np.subtract(p, s, out=new)

    threads.over(share, len(blocks), work)
    return results


def factors_of_step(lr: float, beta1: float, beta2: float, eps: float, t: int) -> tuple[float, ...]:
    """β₁, 1 − β₁, β₂, 1 − β₂, and the step and the least root of lr m̂ / (√v̂ + ε) = step · m / (√v + least)."""
    root = (1 - beta2**t) ** 0.5
    return beta1, 1 - beta1, beta2, 1 - beta2, lr * root / (1 - beta1**t), eps * root


def cut(lists: Sequence[Arrays], block: int) -> list[list[Array]]:
    """The arrays of each parameter as vectors, in pieces of at most so many elements."""
    pieces: list[list[Array]] = []
    for arrays in zip(*lists, strict=True):
        flat, size = [a.reshape(-1) for a in arrays], arrays[0].size
        pieces += [flat] if size <= block else [[a[i : i + block] for a in flat] for i in range(0, size, block)]
    return pieces
