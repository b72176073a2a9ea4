"""The kernels on an NVIDIA GPU: CUDA of our own for what moves memory, cuBLAS for products.

    device.py        CuPy and a GPU that answers, or why not; what GPU it is
    formula.py       a formula as CUDA text
    rows.py          formulas element by element, sums over rows, mean and variance
    convolution.py   the three maps, by patches as columns
    tensors.py       the update of all parameters
    launch.py        from sources/*.cu to a kernel

Importing this package is asking for a GPU: it raises BackendUnavailable with the reason where there is none. Nothing
here waits for the GPU, and every result repeats bit for bit: no atomics, sums in an order that the shape decides.
"""

from scratchgen.backend.arrays import Array
from scratchgen.backend.cupy_ops.convolution import (
    col2im,
    correlate,
    correlate_adjoint_W,
    correlate_adjoint_x,
    im2col,
    patches,
)
from scratchgen.backend.cupy_ops.device import about, set_precision, synchronize, xp
from scratchgen.backend.cupy_ops.rows import channel_sum, channel_sums, elementwise, mean_and_variance, sum_with_map
from scratchgen.backend.cupy_ops.tensors import adam, square_sums
from scratchgen.backend.reference import matmul

__all__ = [
    "about",
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
    "set_precision",
    "square_sums",
    "sum_with_map",
    "synchronize",
    "to_numpy",
    "xp",
]


def from_numpy(array: Array) -> Array:
    """A copy of the array in the GPU's memory; CuPy copies by way of page-locked memory, and does not wait."""
    return xp.asarray(array)


def to_numpy(array: Array) -> Array:
    """A copy of the array in the host's memory, when it is there: this waits."""
    return xp.asnumpy(array)
