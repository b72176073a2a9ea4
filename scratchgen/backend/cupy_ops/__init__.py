"""The kernels on an NVIDIA GPU: CUDA of our own for what moves memory, cuBLAS for products.

    device.py        CuPy and a GPU that answers, or why not
    formula.py       a formula as CUDA text
    rows.py          formulas element by element, sums over rows, mean and variance
    convolution.py   the three maps, by patches as columns
    tensors.py       the update of all parameters
    launch.py        from sources/*.cu to a kernel

Importing this package is asking for a GPU: it raises BackendUnavailable with the reason where there is none. Nothing
here waits for the GPU, and every result repeats bit for bit: no atomics, sums in an order that the shape decides.
"""

import numpy as np

from scratchgen.backend import BackendUnavailable
from scratchgen.backend.cupy_ops.convolution import (
    col2im,
    correlate,
    correlate_adjoint_W,
    correlate_adjoint_x,
    im2col,
    patches,
)
from scratchgen.backend.cupy_ops.device import xp
from scratchgen.backend.cupy_ops.rows import channel_sum, channel_sums, elementwise, mean_and_variance, sum_with_map
from scratchgen.backend.cupy_ops.tensors import adam, square_sums
from scratchgen.backend.reference import matmul

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
    "set_precision",
    "square_sums",
    "sum_with_map",
    "to_numpy",
    "xp",
]

PRECISIONS = ("float32", "tf32")
TENSOR_CORES = 80  # compute capability from which they multiply TF32


def from_numpy(array):
    """A copy of the array in the GPU's memory; CuPy copies by way of page-locked memory, and does not wait."""
    return xp.asarray(array)


def to_numpy(array):
    """A copy of the array in the host's memory, when it is there: this waits."""
    return xp.asnumpy(array)


def set_precision(precision: str) -> None:
    """How float32 matrices are multiplied, in the whole process: "float32", or "tf32", on tensor cores, which round
    what they multiply to 10 bits after the point and add up in float32. float64 is not touched.

    BackendUnavailable where the GPU has no such cores.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"set_precision: precision is {precision!r}, needs one of {', '.join(PRECISIONS)}")
    if precision == "tf32" and int(xp.cuda.Device().compute_capability) < TENSOR_CORES:
        found = xp.cuda.Device().compute_capability
        raise BackendUnavailable(
            f"this GPU has no TF32: its compute capability is {found[:-1]}.{found[-1]}, needs 8.0 or more; "
            "--precision float32 does without"
        )
    from cupy._core import _routines_linalg as linalg  # CuPy's other way, CUPY_TF32, is read once only

    mode = linalg.COMPUTE_TYPE_TF32 if precision == "tf32" else linalg.COMPUTE_TYPE_FP32
    linalg.set_compute_type(np.float32, mode)
