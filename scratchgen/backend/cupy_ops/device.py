"""CuPy and a GPU that answers, or the sentence that says what is missing: the one place that imports CuPy."""

from scratchgen.backend import BackendUnavailable

_INSTALL = (
    "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', for the CUDA version that your NVIDIA driver supports"
)
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100  # cudaError_t

try:
    import cupy as xp
except ImportError as error:
    missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
    reason = "CuPy is not installed" if missing else f"CuPy is installed but does not import ({error})"
    raise BackendUnavailable(f"{reason}: {_INSTALL}") from error


def _driver_version() -> int:
    """12040 for CUDA 12.4, 0 without a driver."""
    try:
        return xp.cuda.runtime.driverGetVersion()
    except Exception:
        return 0


def _why_not(error: Exception) -> str:
    """The sentence for what came of asking for the number of devices, or of using the first."""
    installed = f"CuPy {xp.__version__} is installed"
    status, driver = getattr(error, "status", None), _driver_version()
    if status in (_INSUFFICIENT_DRIVER, _NO_DEVICE) or driver == 0:
        if driver == 0:
            return (
                f"{installed} but there is no NVIDIA driver: install the driver of your GPU, from nvidia.com/drivers"
            )
        if status == _NO_DEVICE:
            return f"{installed} but there is no GPU that CUDA can see: check nvidia-smi and CUDA_VISIBLE_DEVICES"
        supported = f"CUDA {driver // 1000}.{driver % 1000 // 10}"
        return f"{installed} but the NVIDIA driver is too old for it, it supports {supported}: {_INSTALL}"
    said = str(error).strip().splitlines()
    return f"{installed} but the GPU does not answer ({said[0] if said else type(error).__name__}): {_INSTALL}"


try:
    if xp.cuda.runtime.getDeviceCount() == 0:
        raise BackendUnavailable(
            f"CuPy {xp.__version__} is installed but there is no GPU that CUDA can see: "
            "check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    xp.asnumpy(xp.arange(4, dtype="float32").reshape(2, 2) @ xp.ones((2, 2), "float32") + 1)  # compiles, cuBLAS
except BackendUnavailable:
    raise
except Exception as error:
    raise BackendUnavailable(_why_not(error)) from error
