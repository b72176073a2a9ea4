"""CuPy and a GPU that answers, or the sentence that says what is missing: the one place that imports CuPy."""

from scratchgen.backend import BackendUnavailable

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
        return xp.cuda.runtime.driverGetVersion()
    except Exception:
        return 0


def _why_not(error: Exception) -> str:
    """The sentence for what came of asking for the number of devices, or of using the first."""
    installed = f"CuPy {xp.__version__} is installed"
    status, driver = getattr(error, "status", None), _driver_version()
    if driver == 0:
        return f"{installed} but there is no NVIDIA driver: install the driver of your GPU, from nvidia.com/drivers"
    if status == _NO_DEVICE:
        return f"{installed} {_NO_GPU}"
    if status == _INSUFFICIENT_DRIVER:
        supported = f"CUDA {driver // 1000}.{driver % 1000 // 10}"
        return f"{installed} but the NVIDIA driver is too old for it, it supports {supported}: {_INSTALL}"
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
