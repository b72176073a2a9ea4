"""Where arrays live. The arrays decide: `kernels(x)` gives the kernels of the library that x lives in,
`kernels(x).xp` is that library for everything else. There is no global switch.
"""

import importlib
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from scratchgen.backend import fast

# An array of either library. CuPy's, which has the same methods and no types of its own, passes for any.
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Arrays: TypeAlias = Sequence[Array]

BACKENDS = ("numpy", "cupy")
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class BackendUnavailable(RuntimeError):
    """The asked-for array library cannot be used here; the message says what is missing and what to install."""


def backend_of(array: Any) -> str:
    """ "numpy" or "cupy": the library that the array lives in. TypeError for anything that is not an array.

    NumPy's matrix, whose * is another product, and its arrays with a mask, which no kernel heeds, are refused too.
    """
    if type(array) is np.ndarray or isinstance(array, np.generic):
        return "numpy"
    if isinstance(array, np.ndarray):
        if isinstance(array, np.matrix | np.ma.MaskedArray):
            way = "numpy.asarray(x)" if isinstance(array, np.matrix) else "x.filled(0)"
            raise TypeError(f"got a {type(array).__name__}, needs a plain array: {way} makes one")
        return "numpy"
    library = type(array).__module__.partition(".")[0]
    if library in BACKENDS:
        return library
    raise TypeError(f"got a {type(array).__name__}, needs a numpy or cupy array")


def kernels(array: Array) -> ModuleType:
    """The kernels for the library that the array lives in: a module with `xp` and the functions of `reference`."""
    return _imported(backend_of(array))


def load_kernels(backend: str) -> ModuleType:
    """The kernels of a library by its name; ValueError for another, BackendUnavailable says why there are none."""
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    return _imported(backend)


@cache
def _imported(backend: str) -> ModuleType:
    module = "compiled" if backend == "numpy" and fast.available() else f"{backend}_ops"
    return importlib.import_module(f"scratchgen.backend.{module}")


def array_library(array: Array) -> Any:
    """The library (`xp`) that the array lives in: numpy or cupy itself."""
    return kernels(array).xp


def transfer(array: Array, backend: str) -> Array:
    """The array in the given library: itself where it lives there already, a copy else."""
    if backend_of(array) == backend:
        return array
    return load_kernels(backend).from_numpy(to_host(array))


def to_host(array: Array) -> Array:
    """The array in NumPy: itself where it is there already, a copy else."""
    return kernels(array).to_numpy(array)
