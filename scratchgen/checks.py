"""Arguments are checked where they come in: each function says who got what, and what it needs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from math import inf, isfinite
from typing import Any

import numpy as np

from scratchgen.backend import FLOATS, Array, backend_of

ROUNDING = 1e-6  # beyond a bound: 255 times the float32 nearest to 1/255 is a little more than 1
UNIT = ": divide pixels of 0 … 255 by 255, take (x + 1) / 2 of those of [−1, 1], and do not standardise"


def integer(owner: object, name: str, value: Any, least: int = 1) -> int:
    """The value as an int; TypeError unless it is a whole number, ValueError below `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{owner}: {name} is {value!r}, needs an integer")
    if value < least:
        raise ValueError(f"{owner}: {name} is {value}, needs at least {least}")
    return int(value)


def real(owner: object, name: str, value: Any, fits: Callable[[float], bool], form: str) -> float:
    """The value as a float; TypeError unless it is one number, ValueError unless it `fits`, which is said as `form`.

    A NumPy float64 among them would make a float32 step float64, so a Python float comes back.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{owner}: {name} is {value!r}, needs {form}")
    number = float(value)
    if not (isfinite(number) and fits(number)):
        raise ValueError(f"{owner}: {name} is {value}, needs {form}")
    return number


def sizes(owner: object, name: str, value: Any) -> tuple[int, ...]:
    """The value as a tuple of ints; TypeError or ValueError unless it is a tuple of positive whole numbers."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{owner}: {name} is {value!r}, needs a tuple of sizes, as in (512, 128)")
    return tuple(integer(owner, name, n) for n in value)


def image_shape(owner: object, shape: Any) -> tuple[int, int, int]:
    """(H, W, C) as ints; TypeError or ValueError unless it is three positive whole numbers."""
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(f"{owner}: image_shape is {shape!r}, needs (H, W, C): channels last, 1 for grey images")
    H, W, C = (integer(owner, "image_shape", n) for n in shape)
    return H, W, C


def float_type(owner: object, dtype: Any) -> np.dtype:
    """float32 or float64 as a NumPy dtype; TypeError for anything else."""
    try:
        found = None if dtype is None else np.dtype(dtype)  # NumPy takes None for float64
    except TypeError:
        found = None
    if found is None or found not in FLOATS:
        raise TypeError(f"{owner}: got dtype {dtype if found is None else found}, needs float32 or float64")
    return found


def generator(owner: object, rng: Any) -> np.random.Generator:
    """rng, or a fresh unseeded one for None; TypeError for a seed or the global state."""
    if rng is None:
        return np.random.default_rng()
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{owner}: rng is {rng!r}, needs a numpy.random.Generator: numpy.random.default_rng(seed)")
    return rng


def library(owner: object, name: str, value: Any) -> str:
    """The library that an array lives in; TypeError for what is no array."""
    try:
        return backend_of(value)
    except TypeError as error:
        raise TypeError(f"{owner}: {name}: {error}") from None


def float_array(owner: object, name: str, value: Any) -> str:
    """The library of a float32 or float64 array; TypeError for anything else."""
    where = library(owner, name, value)
    if value.dtype not in FLOATS:
        hint = ": convert it, x.astype(np.float32)" if value.dtype.kind in "iubf" else ""  # >f4, of files, has kind f
        raise TypeError(f"{owner}: {name} has dtype {value.dtype}, needs float32 or float64{hint}")
    return where


def like(
    owner: object,
    name: str,
    array: Any,
    other: str,
    *,
    shape: tuple[int, ...] | None = None,
    dtype: np.dtype,
    home: str,
    layer: bool = False,
) -> None:
    """TypeError or ValueError unless it is an array of the shape, dtype and library that `other` has; a shape of None
    is any. For a `layer` the message says how it, too, may be converted."""
    where = library(owner, name, array)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{owner}: {name} has shape {array.shape}, needs {shape}, the shape of {other}")
    if array.dtype != dtype:
        mend = f": convert {name}, or the layer with layer.astype({str(array.dtype)!r})" if layer else ""
        raise TypeError(f"{owner}: {name} has dtype {array.dtype}, needs {dtype}, the dtype of {other}{mend}")
    if where != home:
        mend = f": move {name}, or the layer with layer.to({where!r})" if layer else ""
        raise TypeError(f"{owner}: {name} is a {where} array, needs a {home} array, as {other} is{mend}")


def outside(array: Any, low: float, high: float, mend: str = "") -> str:
    """What is wrong with a float array whose elements are not all finite and in [low, high] up to rounding, with how
    a range is mended; "" if nothing is.

    Two passes over memory at its speed. An array on a GPU is not looked at: that would wait for it.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.size == 0:
        return ""
    least, most = float(array.min()), float(array.max())
    if low - ROUNDING <= least and most <= high + ROUNDING and isfinite(least) and isfinite(most):
        return ""
    if not np.isfinite(array).all():
        count = array.size - np.count_nonzero(np.isfinite(array))
        return f"holds {count} of {array.size} elements that are not finite"
    return f"goes from {least:.4g} to {most:.4g}, needs {low:g} to {high:g}{mend}"


def between(owner: object, name: str, array: Any, low: float, high: float, mend: str = "") -> None:
    """ValueError unless every element is finite and in [low, high]; see `outside`."""
    wrong = outside(array, low, high, mend)
    if wrong:
        raise ValueError(f"{owner}: {name} {wrong}")


def finite(owner: object, name: str, array: Any) -> None:
    """ValueError unless every element is finite; see `outside`."""
    between(owner, name, array, -inf, inf)


def warn(text: str) -> None:
    """A warning at the line of the user's that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("scratchgen."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def state(owner: str, mine: Mapping[str, Array], new: Mapping[str, Array]) -> None:
    """ValueError or TypeError unless `new` has the names of `mine`, each with an array of its shape and kind."""
    missing, extra = [name for name in mine if name not in new], [name for name in new if name not in mine]
    if missing or extra:
        faults = [f"it lacks {', '.join(missing)}"] * bool(missing)
        faults += [f"it has {', '.join(extra)}, unknown here"] * bool(extra)
        raise ValueError(f"{owner}: the state does not fit: {'; '.join(faults)}")
    for name, array in mine.items():
        library(owner, name, new[name])
        if new[name].shape != array.shape:
            raise ValueError(f"{owner}: {name} has shape {new[name].shape}, needs {array.shape}")
        if array.dtype in FLOATS:
            float_array(owner, name, new[name])
        elif new[name].dtype.kind != array.dtype.kind:
            raise TypeError(f"{owner}: {name} has dtype {new[name].dtype}, needs {array.dtype}")
