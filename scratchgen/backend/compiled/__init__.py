"""The kernels on a CPU where Numba is installed: loops compiled to machine code; the rest is that of `numpy_ops`.

compiler.py      from a loop in Python to one in machine code, kept on disk
functions.py     exp, log and tanh for loops
formula.py       a formula as a loop
loops.py         loops that are no formulas
rows.py          formulas, sums over rows, mean and variance
adam.py          the update of all parameters
convolution.py   which form a convolution takes
columns.py       patches as columns, for any geometry
winograd.py      kernel 4 and stride 2 with fewer products
runs.py          what these do to channels that lie side by side
"""

from scratchgen.backend.compiled.adam import adam
from scratchgen.backend.compiled.convolution import correlate, correlate_adjoint_W, correlate_adjoint_x
from scratchgen.backend.compiled.rows import (
    channel_sum,
    channel_sums,
    elementwise,
    mean_and_variance,
    sum_with_map,
)
from scratchgen.backend.numpy_ops import (
    col2im,
    from_numpy,
    im2col,
    matmul,
    patches,
    square_sums,
    to_numpy,
    xp,
)

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
