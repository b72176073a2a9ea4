"""What an object holds, however deep: its arrays, Parameters and Modules, and where each of them is."""

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter


@dataclass(frozen=True)
class Place:
    """An attribute of `owner`, or an item of it where it is a list or dict, which `holder` has under `attribute`."""

    path: str
    owner: Any
    key: Any
    holder: Any
    attribute: str = ""

    def get(self) -> Any:
        return self.owner[self.key] if is_collection(self.owner) else getattr(self.owner, self.key)

    @property
    def settable(self) -> bool:
        return not isinstance(self.owner, tuple)

    def put(self, value: Any) -> None:
        if is_collection(self.owner):
            self.owner[self.key] = value
        else:
            setattr(self.owner, self.key, value)


def places(root: Any) -> list[tuple[Place, Any]]:
    """Every float (an array or a single one), Parameter and Module below `root`, in the order in which they were set.

    An array that is held under several names comes with each. What a module names in `buffers` is left out.
    """
    return list(_below(root, "", root, "", {id(root)}))


def _below(owner: Any, prefix: str, holder: Any, attribute: str, seen: set[int]) -> Iterator[tuple[Place, Any]]:
    buffers = getattr(owner, "buffers", ())
    for key, value in list(items(owner)):
        if key in buffers:
            continue
        place = Place(f"{prefix}{key}", owner, key, holder, attribute)
        if is_float(value):
            yield place, value
        elif is_collection(value) or is_object(value):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Parameter | Module):
                yield place, value
            if not isinstance(value, Parameter):
                inside = (owner, str(key)) if is_collection(value) else (value, "")
                yield from _below(value, f"{place.path}.", *inside, seen)


def items(owner: Any) -> Iterable[tuple[Any, Any]]:
    """What it holds directly, by attribute, key or index."""
    if isinstance(owner, dict):
        return owner.items()
    if isinstance(owner, list | tuple):
        return enumerate(owner)
    slots = [n for c in type(owner).__mro__ for n in vars(c).get("__slots__", ()) if n != "__dict__"]
    return {**{n: getattr(owner, n) for n in slots if hasattr(owner, n)}, **getattr(owner, "__dict__", {})}.items()


def copied(x: Any) -> Any:
    return x.copy() if isinstance(x, np.ndarray) else x


def is_collection(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def is_object(value: Any) -> bool:
    """Whether it is somebody's object, in which something may be held."""
    if isinstance(value, type | types.ModuleType | types.FunctionType | types.MethodType | np.random.Generator):
        return False
    return hasattr(value, "__dict__") or hasattr(type(value), "__slots__")


def is_float64(value: Any) -> bool:
    """A float64 array."""
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def is_float(value: Any) -> bool:
    """A float array, or a single float."""
    return isinstance(value, float) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f")
