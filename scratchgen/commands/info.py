"""scratchgen info: what this machine and this installation are."""

import platform
import sys

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen import blas
from scratchgen.backend import BackendUnavailable, load_kernels, threads
from scratchgen.version import __version__


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "info",
        help="versions, BLAS, threads, and the GPU or why there is none",
        description="Print versions, the BLAS library that multiplies matrices, its threads, and the GPU or the "
        "reason why there is none.",
    )
    parser.set_defaults(run=run)


def run(args) -> int:
    print(f"scratchgen  {__version__}")
    print(f"Python      {platform.python_version()}, {sys.executable}")
    print(f"system      {platform.system()} {platform.machine()}")
    print(f"NumPy       {np.__version__}")
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    for library in libraries:
        kernels = library.get("architecture", "unknown")
        name = f"{library['internal_api']} {library['version']}"
        print(f"BLAS        {name}, kernels for {kernels}, {library['num_threads']} threads")
    openblas = [library["architecture"] for library in libraries if library["internal_api"] == "openblas"]
    for sentence in blas.advice(openblas):
        print(f"            {sentence}")
    print(f"threads     {threads.get_threads()} of {threads.cores()} cores; SCRATCHGEN_THREADS sets them")
    first, *more = _gpu()
    print(f"GPU         {first}")
    for line in more:
        print(f"            {line}")
    return 0


def gpu_name() -> str:
    """The name of the GPU that is used. BackendUnavailable where there is none."""
    runtime = load_kernels("cupy").xp.cuda.runtime
    return runtime.getDeviceProperties(runtime.getDevice())["name"].decode()


def _gpu() -> list[str]:
    """Lines on the GPU, or one that says why there is none."""
    try:
        xp = load_kernels("cupy").xp
    except BackendUnavailable as error:
        return [f"none: {error}"]
    runtime = xp.cuda.runtime
    device = runtime.getDeviceProperties(runtime.getDevice())
    memory, capability = device["totalGlobalMem"] / 2**30, (device["major"], device["minor"])
    tensor_cores = "; train --precision tf32 has tensor cores multiply" if capability >= (8, 0) else ""
    return [
        f"{gpu_name()}, {memory:.1f} GiB, compute capability {capability[0]}.{capability[1]}",
        f"CuPy {xp.__version__}, CUDA runtime {_version(runtime.runtimeGetVersion())}, "
        f"driver for CUDA up to {_version(runtime.driverGetVersion())}",
        f"precision float32{tensor_cores}",
    ]


def _version(number: int) -> str:
    """CUDA's 12090 is version 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
