"""Where arrays live, formulas, and the few coarse operations that layers call.

arrays.py       NumPy or CuPy: the arrays decide
formula.py      what happens to each element, written once
operations.py   products, sums over rows, the three maps of a convolution
reference.py    each operation as its formula; numpy_ops/, compiled/ and cupy_ops/ have the fast versions
"""

from scratchgen.backend.arrays import (
    BACKENDS,
    FLOATS,
    Array,
    BackendUnavailable,
    array_library,
    backend_of,
    kernels,
    load_kernels,
    to_host,
    transfer,
)
from scratchgen.backend.formula import formula
from scratchgen.backend.operations import (
    Correlation,
    channel_sum,
    channel_sums,
    matmul,
    mean_and_variance,
    sum_with_map,
)

__all__ = [
    "BACKENDS",
    "FLOATS",
    "Array",
    "BackendUnavailable",
    "Correlation",
    "array_library",
    "backend_of",
    "channel_sum",
    "channel_sums",
    "formula",
    "kernels",
    "load_kernels",
    "matmul",
    "mean_and_variance",
    "sum_with_map",
    "to_host",
    "transfer",
]
