"""The GPU as CuPy sees it."""

from scratchgen.backend import load_kernels

MIB = 2**20


def about() -> dict:
    """The device and the versions of what runs on it."""
    xp = load_kernels("cupy").xp
    runtime = xp.cuda.runtime
    device = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "device": device["name"].decode(),
        "gib": device["totalGlobalMem"] / 2**30,
        "capability": f"{device['major']}.{device['minor']}",
        "cupy": xp.__version__,
        "runtime": version(runtime.runtimeGetVersion()),
        "driver": version(runtime.driverGetVersion()),
    }


def version(number: int) -> str:
    """CUDA's 12090 is version 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def wait() -> None:
    """Return when all that is queued is done."""
    load_kernels("cupy").xp.cuda.runtime.deviceSynchronize()
