"""cupy.RawModule and cupy.RawKernel: CUDA sources compiled by g++ through shim.h, and run on the CPU.

What a GPU would take in silence is refused: an argument of another size or kind than the parameter's, an array that
is not C-contiguous, a launch beyond a GPU's limits, a barrier that not every thread reaches.

    SCRATCHGEN_SHIM_FLAGS   more flags for g++, as in "-fsanitize=address,undefined -fno-sanitize-recover=all"
    SCRATCHGEN_SHIM_ORDER   "reverse" runs blocks and threads from the last to the first
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from standin import streams
from standin.arrays import address, lower, ndarray
from standin.ledger import ledger

SHIM = Path(__file__).with_name("shim.h")
FLAGS = ("-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-fno-gnu-unique", "-w")
KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')
DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
OPTIONS = re.compile(  # of NVRTC
    r"-D\w+(=.*)?|-I.*|--?std=c\+\+(14|17|20)|--?fmad=(true|false)|--?use_fast_math|--?ftz=(true|false)|"
    r"--?prec-(sqrt|div)=(true|false)|--?maxrregcount=\d+|-lineinfo|--generate-line-info|"
    r"--?extra-device-vectorization|--?restrict|-default-device|--device-as-default-execution-space|-w|--disable-warnings"
)
SHARED_MEMORY = 48 << 10  # bytes a block may have without being asked for more
# What may be passed to a pointer: the NumPy dtypes for the code of what it points to.
POINTEES = {"f": "f", "d": "d", "?": "?", "B": "B?", "b": "b", "h": "h", "H": "H", "i": "i", "I": "I"}
POINTEES |= {"q": "lq", "Q": "LQ", "P": "LQ"}


class RawKernel:
    """A kernel by its source and name. (cupy.RawKernel.)"""

    __module__ = "cupy"

    def __init__(
        self,
        code,
        name,
        options=(),
        backend="nvrtc",
        *,
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        jitify=None,
    ):
        self.name = self.__name__ = name
        self.code, self.options, self.backend = code, options, backend
        _refuse(options, backend, translate_cucomplex, enable_cooperative_groups, jitify)
        self._compiled = None

    def compile(self, log_stream=None):
        if self._compiled is None:
            self._compiled = _Kernel(_library(self.code, self.options), self.name)

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        self.compile()
        self._compiled.launch(grid, block, args, shared_mem, stream)


class RawModule:
    """The kernels of a source. (cupy.RawModule.)"""

    __module__ = "cupy"

    def __init__(
        self,
        *,
        code=None,
        path=None,
        options=(),
        backend="nvrtc",
        translate_cucomplex=False,
        enable_cooperative_groups=False,
        jitify=None,
        name_expressions=None,
    ):
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if path is not None or name_expressions is not None:
            raise NotImplementedError("the stand-in takes sources with extern kernels: no path, no name_expressions")
        self.code, self.options, self.backend = code, options, backend
        _refuse(options, backend, translate_cucomplex, enable_cooperative_groups, jitify)

    def compile(self, log_stream=None):
        _library(self.code, self.options)

    def get_function(self, name):
        kernel = RawKernel(self.code, name, self.options)
        kernel.compile()
        return kernel


def _refuse(options, backend, translate_cucomplex, enable_cooperative_groups, jitify):
    if not isinstance(options, tuple):
        raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
    for option in options:
        if not OPTIONS.fullmatch(option):
            raise ValueError(f"nvrtc: error: invalid value or unrecognized option {option!r}")
    if backend != "nvrtc" or translate_cucomplex or enable_cooperative_groups or jitify:
        raise NotImplementedError("the stand-in compiles plain sources for NVRTC only")


class CompileException(Exception):
    """g++ does not take the source; its text says why."""


@cache
def _compiler() -> tuple[str, str]:
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        raise RuntimeError("the stand-in needs g++ to run kernels: it is not installed")
    return found, subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout


def _library(code: str, options: tuple) -> ctypes.PyDLL:
    return _built(code, options, os.environ.get("SCRATCHGEN_SHIM_FLAGS", ""))


@cache
def _built(code: str, options: tuple, extra: str) -> ctypes.PyDLL:
    """The source as a library that is loaded: compiled, unless that was done before."""
    compiler, version = _compiler()
    flags = [*FLAGS, *extra.split(), *(option for option in options if option.startswith("-D"))]
    if "address" in extra:
        if "libasan" not in os.environ.get("LD_PRELOAD", ""):
            raise RuntimeError(
                "the address sanitizer must be there first: LD_PRELOAD=$(g++ -print-file-name=libasan.so)"
            )
        flags.append("-fsanitize-sections=shim_shared")
    names = KERNEL.findall(code)
    source = DYNAMIC_SHARED.sub(r"\1 *\2 = (\1 *)shim::dynamic_shared;", code)
    source = "\n".join(['#line 1 "kernel.cu"', source, *(f"SHIM_KERNEL({name})" for name in names), ""])
    text = "\0".join([source, SHIM.read_text(), version, *flags])
    folder = Path(tempfile.gettempdir()) / f"scratchgen-standin-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else: what is in it would be run")
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            (Path(work) / "kernel.cpp").write_text(source)
            header = _header(folder, compiler, version, (*FLAGS, *extra.split()))
            command = [compiler, *flags, "-include", str(header), "-o", "kernel.so", "kernel.cpp"]
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CompileException(done.stderr)
            os.replace(Path(work) / "kernel.so", library)
    return ctypes.PyDLL(str(library))


@cache
def _header(folder: Path, compiler: str, version: str, flags: tuple) -> Path:
    """shim.h, and beside it what g++ makes of it, which halves the time that a kernel takes to compile."""
    text = "\0".join([SHIM.read_text(), version, *flags])
    home = folder / f"shim-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    if not home.exists():
        work = Path(tempfile.mkdtemp(dir=folder))
        shutil.copy(SHIM, work)
        command = [compiler, *flags, "-x", "c++-header", "shim.h", "-o", "shim.h.gch"]
        subprocess.run(command, cwd=work, capture_output=True, check=False)  # without it only slower
        try:
            work.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(work)
    return home / SHIM.name


class _Kernel:
    """A compiled kernel: what its parameters are, and how it is launched."""

    def __init__(self, library, name: str):
        try:
            self._run = getattr(library, f"shim_launch_{name}")
        except AttributeError:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}") from None
        out = (ctypes.c_int * 640)()
        n = getattr(library, f"shim_describe_{name}")(out)
        self._name = name
        self._parameters = [tuple(out[5 * i : 5 * i + 5]) for i in range(n)]
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_char_p]

    def launch(self, grid, block, args, shared_mem, stream):
        sizes = _extent("grid", grid, (2**31 - 1, 65535, 65535)) + _extent("block", block, (1024, 1024, 64))
        if prod(sizes[3:]) > 1024:
            raise ValueError(
                f"CUDA_ERROR_INVALID_VALUE: {self._name}: a block of {prod(block)} threads, at most 1024"
            )
        if shared_mem > SHARED_MEMORY:
            raise ValueError(
                f"CUDA_ERROR_INVALID_VALUE: {self._name}: {shared_mem} B of shared memory, at most 48 KiB"
            )
        if len(args) != len(self._parameters):
            raise TypeError(f"{self._name}: got {len(args)} arguments, has {len(self._parameters)} parameters")
        held = [self._value(i, arg, stream) for i, arg in enumerate(args)]
        pointers = (ctypes.c_void_p * max(len(held), 1))(*(address(value) for value in held))
        backwards = os.environ.get("SCRATCHGEN_SHIM_ORDER") == "reverse"
        error = ctypes.create_string_buffer(256)
        ledger.launched()
        if self._run(pointers, (ctypes.c_uint * 6)(*sizes), shared_mem, backwards, error):
            raise RuntimeError(f"{self._name}: {error.value.decode()}")

    def _value(self, i: int, arg, stream) -> np.ndarray:
        """The argument as bytes in memory, which the kernel's parameter fits."""
        pointer, constant, code, size, alignment = self._parameters[i]
        code, what = chr(code), f"{self._name}: argument {i}"
        if isinstance(arg, ndarray):
            if not pointer:
                raise TypeError(f"{what} is a device array, the parameter is no pointer")
            host = lower(arg, stream or streams._current)
            assert host.flags.c_contiguous, f"{what} is not C-contiguous: strides {host.strides}, shape {host.shape}"
            if code in POINTEES and host.dtype.char not in POINTEES[code]:
                raise TypeError(f"{what} has dtype {host.dtype}, the parameter points to {POINTEES[code]!r}")
            assert address(host) % alignment == 0, f"{what} is not aligned to {alignment} bytes"
            if not (constant or host.flags.writeable):
                raise ValueError(f"{what} was broadcast, and the parameter may be written to")
            return np.array(address(host), np.uintp)
        if isinstance(arg, np.ndarray):
            if arg.size != 1:
                raise TypeError(f"{what} is a numpy.ndarray of shape {arg.shape}: only size one is passed by value")
        elif not isinstance(arg, np.generic):
            raise TypeError(f"{what} is a {type(arg).__name__}, needs a device array or np.int32(...) and the like")
        if pointer:
            raise TypeError(f"{what} is a {arg.dtype}, the parameter is a pointer")
        if arg.dtype.itemsize != size:
            raise TypeError(f"{what} has {arg.dtype.itemsize} bytes ({arg.dtype}), the parameter has {size}")
        if (arg.dtype.kind == "f") != (code in "fd") and (arg.dtype.kind, code) != ("V", "V"):
            raise TypeError(f"{what} is a {arg.dtype}, the parameter's type code is {code!r}")
        return np.ascontiguousarray(arg).reshape(())


def _extent(what: str, extent, most) -> tuple:
    if not isinstance(extent, tuple) or not 1 <= len(extent) <= 3:
        raise TypeError(f"{what} is {extent!r}, needs a tuple of one to three numbers")
    for n, limit in zip(extent, most, strict=False):
        if not isinstance(n, int | np.integer):
            raise TypeError(f"{what} is {extent!r}, needs whole numbers")
        if not 1 <= n <= limit:
            raise ValueError(f"CUDA_ERROR_INVALID_VALUE: {what} is {extent}, needs 1 to {most}")
    return tuple(map(int, extent)) + (1,) * (3 - len(extent))
