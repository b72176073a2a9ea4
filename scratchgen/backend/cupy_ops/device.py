"""CuPy and a GPU that answers, or the sentence that says what is missing: the one place that imports CuPy."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scratchgen.backend import Array, BackendUnavailable

PRECISIONS = ("float32", "tf32")
TENSOR_CORES = 80  # compute capability from which they multiply TF32

_INSTALL = (
    "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', for the CUDA version that your NVIDIA driver supports"
)
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100  # cudaError_t
_NO_GPU = "but there is no GPU that CUDA can see: check nvidia-smi and CUDA_VISIBLE_DEVICES"
_LIBRARIES = ("nvrtc", "cublas", "header", "cuda_path", "shared object", "dynamic", "dll")


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


try:
    import cupy as xp
except ModuleNotFoundError as error:
    absent = error.name == "cupy"
    reason = "CuPy is not installed" if absent else f"CuPy is installed but a part of it is not ({error})"
    raise BackendUnavailable(f"{reason}: {_INSTALL}") from error
except OSError as error:
    raise BackendUnavailable(
        f"CuPy is installed but cannot keep its compiled kernels ({error}): "
        "set CUPY_CACHE_DIR to a folder that can be written to"
    ) from error
except Exception as error:
    raise BackendUnavailable(f"CuPy is installed but does not import ({_said(error)}): {_INSTALL}") from error


def _driver_version() -> int:
    """12040 for CUDA 12.4, 0 without a driver."""
    try:
        return int(xp.cuda.runtime.driverGetVersion())
    except Exception:
        return 0


def _version(number: int) -> str:
    """CUDA's 12090 is version 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _why_not(error: Exception) -> str:
    """The sentence for what came of asking for the number of devices, or of using the first."""
    installed = f"CuPy {xp.__version__} is installed"
    status, driver = getattr(error, "status", None), _driver_version()
    if driver == 0:
        return f"{installed} but there is no NVIDIA driver: install the driver of your GPU, from nvidia.com/drivers"
    if status == _NO_DEVICE:
        return f"{installed} {_NO_GPU}"
    if status == _INSUFFICIENT_DRIVER:
        return f"{installed} but the NVIDIA driver is too old for it, it supports CUDA {_version(driver)}: {_INSTALL}"
    if any(word in f"{type(error).__name__} {error}".lower() for word in _LIBRARIES):
        return f"{installed} but CUDA's libraries are not all there ({_said(error)}): {_INSTALL}"
    return f"{installed} but the GPU does not work ({_said(error)}): see what nvidia-smi says"


try:
    if xp.cuda.runtime.getDeviceCount() == 0:
        raise BackendUnavailable(f"CuPy {xp.__version__} is installed {_NO_GPU}")
    xp.asnumpy(xp.arange(4, dtype="float32").reshape(2, 2) @ xp.ones((2, 2), "float32") + 1)  # compiles, cuBLAS
except BackendUnavailable:
    raise
except Exception as error:
    raise BackendUnavailable(_why_not(error)) from error


def about() -> dict[str, Any]:
    """The GPU in use, and the versions of what runs on it."""
    runtime = xp.cuda.runtime
    device = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "device": device["name"].decode(),
        "gib": device["totalGlobalMem"] / 2**30,
        "capability": f"{device['major']}.{device['minor']}",
        "cupy": xp.__version__,
        "runtime": _version(runtime.runtimeGetVersion()),
        "driver": _version(runtime.driverGetVersion()),
    }


def synchronize() -> None:
    """Return when all that is queued on the GPU is done."""
    xp.cuda.runtime.deviceSynchronize()


def page_locked(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """An array on the host that the GPU copies from by itself, uninitialised."""
    from cupyx import empty_pinned

    return empty_pinned(shape, dtype)


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
