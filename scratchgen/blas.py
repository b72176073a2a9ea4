"""The kernels that NumPy's BLAS runs, chosen before NumPy loads it.

NumPy's wheels bring OpenBLAS, which looks at the processor once, when it is loaded, and reads its settings from the
environment then. Two of its choices cost this library much:

    OPENBLAS_CORETYPE        A processor that is newer than the wheel is taken for an old one. An AMD Zen 5, say, has
                             AVX-512, but gets the AVX2 kernels of Haswell: half the speed. "SkylakeX" stands for
                             AVX-512. Intel's processors are known by name, and stay as OpenBLAS has them.
    OPENBLAS_THREAD_TIMEOUT  After a product its threads stay awake for 2^26 cycles, about 30 ms, and take a core from
                             the threads of this library, which share the cores with them. 2^20 cycles, half a
                             millisecond, is enough from one product to the next.

`import scratchgen` sets both, if NumPy is not loaded yet and the user has not set them; never an instruction set that
the processor (and the operating system, whose list of flags this is) does not have. SCRATCHGEN_BLAS=default leaves
everything alone. This file imports nothing of the package, and is imported first.
"""

import os
import platform
import sys
from pathlib import Path

AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # all that OpenBLAS's SkylakeX kernels use
WITH_AVX512 = {"SkylakeX", "Cooperlake", "SapphireRapids", "Zen5"}  # OpenBLAS's names
AWAKE = "20"  # the threads' timeout: 2^20 cycles
chosen: dict[str, str] = {}  # what `select` put into the environment


def select() -> bool:
    """Put the settings into the environment where the user has none; False where that is too late or not wanted."""
    if "numpy" in sys.modules or os.environ.get("SCRATCHGEN_BLAS") == "default":
        return False
    wanted = {"OPENBLAS_THREAD_TIMEOUT": AWAKE}
    vendor, flags = processor()
    if vendor != "GenuineIntel" and flags >= AVX512:
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX"
    for name, value in wanted.items():
        if name not in os.environ:
            os.environ[name] = chosen[name] = value
    return True


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, set[str]]:
    """Vendor and instruction set flags that all cores have; empty where nobody says so, as outside of Linux."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "", set()
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return "", set()
    entries = [tuple(part.strip() for part in line.partition(":")[::2]) for line in lines]
    flags = [set(value.split()) for name, value in entries if name == "flags"]
    return next((value for name, value in entries if name == "vendor_id"), ""), set.intersection(*flags or [set()])


def threads_rest() -> bool:
    """Whether BLAS's threads go to sleep soon after a product, so that they may be used beside the library's own."""
    return _timeout.isdecimal() and int(_timeout) <= 22


def advice(architectures: list[str]) -> list[str]:
    """What is lost with the BLAS that is loaded, whose kernels are for these architectures, and what mends it."""
    vendor, flags = processor()
    said, otherwise = [], ", or import scratchgen before numpy"
    if os.environ.get("SCRATCHGEN_BLAS") == "default":
        otherwise = ", or unset SCRATCHGEN_BLAS"
    if flags >= AVX512 and architectures and not WITH_AVX512 & set(architectures):
        known = vendor == "GenuineIntel"
        here = os.environ.get("OPENBLAS_CORETYPE", "SkylakeX") != "SkylakeX"
        said.append(
            f"the processor has AVX-512 but OpenBLAS runs its {architectures[0]} kernels, at about half the speed: "
            "set OPENBLAS_CORETYPE=SkylakeX before Python starts"
            f"{', in place of what it says now' if here else '' if known else otherwise}"
        )
    if architectures and not threads_rest():
        said.append(
            "OpenBLAS keeps its threads awake beside the library's, which therefore leaves them alone: "
            f"set OPENBLAS_THREAD_TIMEOUT={AWAKE} before Python starts{otherwise}"
        )
    return said


_timeout = os.environ.get("OPENBLAS_THREAD_TIMEOUT", "")
if select():
    _timeout = os.environ["OPENBLAS_THREAD_TIMEOUT"]
