"""The modules cupy, cupy.cuda, cupy.linalg, cupyx …: named as the real ones, with what the stand-in has."""

import sys
from contextlib import contextmanager
from types import ModuleType

import numpy as np

from standin import device, kernels
from standin.arrays import ndarray
from standin.functions import FUNCTIONS, missing
from standin.signatures import table
from standin.ufuncs import ufunc

OWN = ("cupy", "cupyx")  # and all below them
OURS = "scratchgen.backend.cupy_"  # the library's modules that hold what they imported from there


class _Module(ModuleType):
    """A module that says of an unknown name what Python's say."""

    def __getattr__(self, name):
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _module(name: str, content: dict) -> _Module:
    module = _Module(name)
    module.__path__ = []
    vars(module).update(content)
    return module


def _modules() -> dict[str, ModuleType]:
    known = table()
    same = {name: getattr(np, name) for name in known["others"] if hasattr(np, name) and _is_plain(getattr(np, name))}
    plain = {name: function for name, function in FUNCTIONS.items() if "." not in name}
    classes = {"ndarray": ndarray, "ufunc": ufunc, "RawKernel": kernels.RawKernel, "RawModule": kernels.RawModule}
    absent = {name: missing(f"cupy.{name}") for name in ("ElementwiseKernel", "ReductionKernel", "fuse")}
    pools = {name: getattr(device, name) for name in ("get_default_memory_pool", "get_default_pinned_memory_pool")}
    modules = {
        "cupy": _module("cupy", {**same, **plain, **classes, **absent, **pools, "is_available": device.is_available}),
        "cupy._core": _module("cupy._core", device.CORE),
        "cupy._core._routines_linalg": _module("cupy._core._routines_linalg", device.CORE | device.COMPUTE_TYPES),
        "cupy.cuda": _module("cupy.cuda", device.CUDA),
        "cupy.cuda.runtime": _module("cupy.cuda.runtime", _public(device.runtime)),
        "cupy.cuda.compiler": _module("cupy.cuda.compiler", {"CompileException": kernels.CompileException}),
        "cupy.linalg": _module("cupy.linalg", _below("linalg")),
        "cupyx": _module("cupyx", device.CUPYX),
    }
    modules["cupy"].__version__ = known["version"]
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(modules[parent], last, module)
    return modules


def _is_plain(value) -> bool:
    """Numbers, None and classes of scalars, which CuPy takes from NumPy as they are."""
    if isinstance(value, type):
        return issubclass(value, np.generic) or value in (bool, np.dtype, np.finfo, np.iinfo, np.ndindex)
    return isinstance(value, int | float | type(None))


def _below(prefix: str) -> dict:
    return {name.partition(".")[2]: f for name, f in FUNCTIONS.items() if name.partition(".")[0] == prefix}


def _public(cls) -> dict:
    return {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}


MODULES = _modules()
_depth = 0
_kept: dict[str, ModuleType] = {}  # scratchgen's modules as they were imported on the stand-in


def _ours(name: str) -> bool:
    return name.partition(".")[0] in OWN or name.startswith(OURS)


@contextmanager
def installed():
    """Inside, `import cupy` is the stand-in, and so is scratchgen's backend "cupy"; outside, all is as it was."""
    global _depth
    if _depth:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
        return
    outside = {name: module for name, module in sys.modules.items() if _ours(name)}
    _exchange({**MODULES, **_kept})
    _depth = 1
    try:
        yield
    finally:
        _depth = 0
        _kept.update({name: module for name, module in sys.modules.items() if name.startswith(OURS)})
        _exchange(outside)


def _exchange(modules: dict[str, ModuleType]):
    """Put these in the place of every module of CuPy's, and of the library's that rest on it."""
    import scratchgen.backend as backend

    for name in [name for name in sys.modules if _ours(name)]:
        del sys.modules[name]
    for name in [name for name in vars(backend) if name.startswith("cupy_")]:
        delattr(backend, name)
    sys.modules.update(modules)
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        if parent == backend.__name__:
            setattr(backend, last, module)
    backend.arrays._imported.cache_clear()
