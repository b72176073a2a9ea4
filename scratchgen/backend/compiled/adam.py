"""The Adam update of all parameters in one pass: each element is read and written once."""

from scratchgen.backend import numpy_ops, threads
from scratchgen.backend.arrays import Array, Arrays
from scratchgen.backend.compiled import loops
from scratchgen.backend.compiled.rows import plain
from scratchgen.backend.numpy_ops.adam import cut, factors_of_step
from scratchgen.backend.numpy_ops.memory import empty

PIECE = 1 << 16  # elements
COST = 100  # of one element in multiply-adds


def adam(
    values: Arrays, grads: Arrays, ms: Arrays, vs: Arrays, lr: float, beta1: float, beta2: float, eps: float, t: int
) -> list[Array]:
    """See `reference.adam`; the moments are in C order, as they are updated in place."""
    assert all(a.flags.c_contiguous for a in (*ms, *vs))
    compiled = {value.dtype: loops.adam.of(value.dtype) for value in values}
    found = {dtype: loop for dtype, loop in compiled.items() if loop is not None}
    if len(found) < len(compiled):
        return numpy_ops.adam(values, grads, ms, vs, lr, beta1, beta2, eps, t)
    numbers = factors_of_step(lr, beta1, beta2, eps, t)
    results = [empty(value.shape, value.dtype) for value in values]
    pieces = cut(([*map(plain, values)], [*map(plain, grads)], ms, vs, results), PIECE)

    def share(part: slice) -> None:
        for piece in pieces[part]:
            found[piece[0].dtype](*piece, *numbers)

    work = COST * sum(value.size for value in values)
    if threads.worth_sharing(work):
        threads.over(share, len(pieces), work)
    else:
        share(slice(None))
    return results
