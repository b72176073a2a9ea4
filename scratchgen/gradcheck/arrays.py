"""What an object holds, however deep: its arrays, Parameters and Modules, and where each of them is."""

import types
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scratchgen.layers.layer import Module
from scratchgen.layers.parameter import Parameter


@dataclass(frozen=True)
class Place:
    """An attribute of `owner`, or an item of it where it is a list or dict, which `holder` has under `attribute`."""

    path: str
    owner: object
    key: object
    holder: object
    attribute: str = ""

    def get(self):
        return self.owner[self.key] if is_collection(self.owner) else getattr(self.owner, self.key)

    @property
    def settable(self) -> bool:
        return not isinstance(self.owner, tuple)

    def put(self, value) -> None:
        if is_collection(self.owner):
            self.owner[self.key] = value
        else:
            setattr(self.owner, self.key, value)


def places(root) -> list[tuple[Place, object]]:
    """Every float (an array or a single one), Parameter and Module below `root`, in the order in which they were set.

    An array that is held under several names comes with each. What a module names in `buffers` is left out.
    """
    return list(_below(root, "", root, "", {id(root)}))


def _below(owner, prefix, holder, attribute, seen) -> Iterator[tuple[Place, object]]:
    buffers = getattr(owner, "buffers", ())
    for key, value in list(items(owner)):
        if key in buffers:
            continue
        place = Place(f"{prefix}{key}", owner, key, holder, attribute)
        if is_float(value):
            yield place, value
        elif is_collection(value) or _is_object(value):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Parameter | Module):
                yield place, value
            if not isinstance(value, Parameter):
                inside = (owner, str(key)) if is_collection(value) else (value, "")
                yield from _below(value, f"{place.path}.", *inside, seen)


def items(owner):
    if isinstance(owner, dict):
        return owner.items()
    if isinstance(owner, list | tuple):
        return enumerate(owner)
    slots = [n for c in type(owner).__mro__ for n in vars(c).get("__slots__", ()) if n != "__dict__"]
    return {**{n: getattr(owner, n) for n in slots if hasattr(owner, n)}, **getattr(owner, "__dict__", {})}.items()


def is_collection(value) -> bool:
    return isinstance(value, dict | list | tuple)


def _is_object(value) -> bool:
    """Whether it is somebody's object, in which something may be held."""
    if isinstance(value, type | types.ModuleType | types.FunctionType | types.MethodType | np.random.Generator):
        return False
    return hasattr(value, "__dict__") or hasattr(type(value), "__slots__")


def is_float(value) -> bool:
    """A float array, or a single float."""
    return isinstance(value, float) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f")
