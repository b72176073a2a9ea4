"""scratchgen info: what this machine and this installation are."""

import importlib.metadata
import os
import platform
import sys
from argparse import Namespace

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen import blas
from scratchgen.backend import BackendUnavailable, fast, load_kernels, threads
from scratchgen.commands.arguments import Commands
from scratchgen.paths import cache_folder
from scratchgen.version import __version__


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "info",
        help="versions, BLAS, threads, compiled loops, and the GPU or why there is none",
        description="Print versions, the BLAS library that multiplies matrices, its threads, whether loops are "
        "compiled, and the GPU or the reason why there is none.",
    )
    parser.set_defaults(main=main)


def main(args: Namespace) -> int:
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
    print(f"compiled    {_compiled()}")
    first, *more = _gpu()
    print(f"GPU         {first}")
    for line in more:
        print(f"            {line}")
    return 0


def _compiled() -> str:
    """What compiles loops, and where they are kept; or what would. Numba, slow to load, is not imported for it."""
    if not fast.installed():
        return 'nothing: pip install "scratchgen-nn[fast]" brings Numba, which makes training on a CPU faster'
    version = f"Numba {importlib.metadata.version('numba')}"
    if not fast.available():
        return f"nothing: {version} is installed, but {fast.SETTING} is {os.environ[fast.SETTING]}"
    try:
        return f"{version}, loops kept in {cache_folder('kernels')}"
    except (OSError, ValueError, RuntimeError) as error:
        return f"{version}, loops kept nowhere: {error}"


def _gpu() -> list[str]:
    """Lines on the GPU, or one that says why there is none."""
    try:
        gpu = load_kernels("cupy").about()
    except BackendUnavailable as error:
        return [f"none: {error}"]
    tensor_cores = "; train --precision tf32 uses its tensor cores" if float(gpu["capability"]) >= 8 else ""
    return [
        f"{gpu['device']}, {gpu['gib']:.1f} GiB, compute capability {gpu['capability']}",
        f"CuPy {gpu['cupy']}, CUDA runtime {gpu['runtime']}, driver for CUDA up to {gpu['driver']}",
        f"precision float32{tensor_cores}",
    ]
