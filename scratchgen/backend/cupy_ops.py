"""The kernels on an NVIDIA GPU, and the one place where CuPy is imported.

Importing this module is asking for a GPU: it raises BackendUnavailable with the reason where there is none.
The kernels are the reference's formulas, run by CuPy.
"""

from scratchgen.backend import BackendUnavailable

try:
    import cupy as xp
except ImportError as error:
    raise BackendUnavailable(
        "CuPy is not installed: pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', "
        "whichever CUDA version your NVIDIA driver supports"
    ) from error

try:
    xp.zeros(1, "float32").sum().get()  # the probe: allocates, compiles, launches and copies back
except Exception as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise BackendUnavailable(f"CuPy {xp.__version__} is installed but no GPU answers: {reason}") from error

from scratchgen.backend.reference import (
    adam,
    col2im,
    correlate,
    correlate_adjoint_W,
    correlate_adjoint_x,
    im2col,
    matmul,
    moments,
    row_sum,
    row_sums,
    rowwise,
    unshared,
)

__all__ = [
    "adam",
    "col2im",
    "correlate",
    "correlate_adjoint_W",
    "correlate_adjoint_x",
    "from_numpy",
    "im2col",
    "matmul",
    "moments",
    "row_sum",
    "row_sums",
    "rowwise",
    "to_numpy",
    "unshared",
    "xp",
]


def from_numpy(array):
    """A copy of the array in the GPU's memory."""
    return xp.asarray(array)


def to_numpy(array):
    """A copy of the array in the host's memory."""
    return xp.asnumpy(array)
