"""The kernels on a CPU: the formulas of `reference`, worked through in blocks that stay in cache, on every thread.

    memory.py        aligned arrays, memory that is used again, reused buffers
    convolution.py   which form a convolution takes
    columns.py       patches as columns, for any geometry
    winograd.py      kernel 4 and stride 2 with fewer products
    dense.py         matrix products
    formula.py       a formula as calls that write into memory that is there
    rows.py          formulas in blocks of rows, sums over rows
    adam.py          the update of all parameters

All of them stand on `backend.threads`.
"""

import numpy as xp

from scratchgen.backend import reference, threads
from scratchgen.backend.arrays import Array, Arrays
from scratchgen.backend.numpy_ops.adam import adam
from scratchgen.backend.numpy_ops.convolution import correlate, correlate_adjoint_W, correlate_adjoint_x
from scratchgen.backend.numpy_ops.dense import matmul
from scratchgen.backend.numpy_ops.rows import (
    channel_sum,
    channel_sums,
    elementwise,
    mean_and_variance,
    sum_with_map,
)
from scratchgen.backend.reference import col2im, im2col, patches

__all__ = [
    "adam",
    "channel_sum",
    "channel_sums",
    "col2im",
    "correlate",
    "correlate_adjoint_W",
    "correlate_adjoint_x",
    "elementwise",
    "from_numpy",
    "im2col",
    "matmul",
    "mean_and_variance",
    "patches",
    "square_sums",
    "sum_with_map",
    "to_numpy",
    "xp",
]


def to_numpy(array: Array) -> Array:
    """The array itself: it is in the host's memory already."""
    return array


from_numpy = to_numpy


def square_sums(arrays: Arrays) -> Array:
    """See `reference.square_sums`; several of BLAS's threads would each have a sum of their own."""
    with threads.one_blas_thread:
        return reference.square_sums(arrays)
