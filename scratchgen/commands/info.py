"""scratchgen info: what this machine and this installation are."""

import platform
import sys

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen.backend import BackendUnavailable, load_kernels
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
    for blas in threadpool_info():
        if blas["user_api"] == "blas":
            kernels = blas.get("architecture", "unknown")
            name = f"{blas['internal_api']} {blas['version']}"
            print(f"BLAS        {name}, kernels for {kernels}, {blas['num_threads']} threads")
    print(f"GPU         {_gpu()}")
    return 0


def _gpu() -> str:
    try:
        xp = load_kernels("cupy").xp
    except BackendUnavailable as error:
        return f"none: {error}"
    name = xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"].decode()
    return f"{name}, CuPy {xp.__version__}"
