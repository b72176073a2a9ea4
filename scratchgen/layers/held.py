"""What a module holds beside its direct attributes: parts in containers, which are found, and parts that are not."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np

from scratchgen.backend import backend_of
from scratchgen.layers.parameter import Parameter

SEQUENCES, MAPPINGS = (list, tuple, deque), (dict, MappingProxyType)
PLAIN = frozenset((int, float, complex, bool, str, bytes, type(None)))  # hold nothing
CLOSED = (np.generic, type, ModuleType, FunctionType, BuiltinFunctionType)  # are not looked into
WEIGHT = re.compile(r"_*([WwbUV](_?[a-z]{0,2}\d*|_in|_out)|weights?|bias(es)?|gamma|beta|kernels?|theta|params?)\d*")
PLAIN_ARRAY = "a plain array: make it a Parameter, or name it in `buffers` if it is not to be learned"
LOOKS = 10_000  # at so many things: who keeps a figure or a table on a layer keeps no weights there


def is_container(value: Any) -> bool:
    """Whether its parts have an order and names that last, so that they are found: not those of a set."""
    return type(value) not in PLAIN and (
        isinstance(value, SEQUENCES + MAPPINGS) or hasattr(type(value), "__dataclass_fields__")
    )


def contents(container: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of a container by key: an index, the key of a dict, or the name of a field."""
    if isinstance(container, MAPPINGS):
        return iter(container.items())
    if isinstance(container, SEQUENCES):
        return enumerate(container)
    return ((field.name, getattr(container, field.name, None)) for field in fields(container))


def inside(name: str, container: Any, parts: tuple[type, ...], seen: set[int] | None = None) -> list[tuple[str, Any]]:
    """Every instance of `parts` in a container, at any depth, with its dotted name; each container once."""
    seen = set() if seen is None else seen
    seen.add(id(container))
    found: list[tuple[str, Any]] = []
    for key, value in contents(container):
        if type(value) in PLAIN:
            continue
        if isinstance(value, parts):
            found.append((f"{name}.{key}", value))
        elif is_container(value) and id(value) not in seen:
            found += inside(f"{name}.{key}", value, parts, seen)
    return found


# --- what is overlooked ---


def overlooked(root: Any, parts: tuple[type, ...]) -> dict[str, str]:
    """See `Module.overlooked`; `parts` are the classes of what is found. The nearest come first."""
    found = list(root._walk().values())
    seen = {id(part) for _, part in found}
    queue = deque(
        (prefix, name, value, why)
        for prefix, module in found
        if not isinstance(module, Parameter)
        for name, value, why in _of_module(module, (*parts, *SEQUENCES, *MAPPINGS, np.ndarray))
    )
    faults: dict[str, str] = {}
    most = len(seen) + LOOKS
    while queue and len(seen) < most:
        prefix, name, value, why = queue.popleft()
        if type(value) in PLAIN or isinstance(value, CLOSED) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, parts):
            if not _leads_back(value, root):
                faults[prefix + name] = why
        elif not _is_array(value):
            if not is_container(value):
                why = _reason(prefix + name, value)
            queue.extend((prefix, f"{name}.{key}", part, why) for key, part in _contents(value))
        elif value.dtype.kind == "f" and any(WEIGHT.fullmatch(word) for word in name.split(".")):
            faults[prefix + name] = PLAIN_ARRAY
    return faults


def _of_module(module: Any, candidates: tuple[type, ...]) -> Iterator[tuple[str, Any, str]]:
    """Where else than in its attributes, which are found, a module may hold something: name, value, why it is not."""
    held = _attributes(module)
    for name, value in held.items():
        if name not in module.buffers:
            yield name, value, "in __slots__, where nothing is looked for"
    for cls in type(module).__mro__:
        why = f"an attribute of the class {cls.__name__}, which all its instances share: set it in __init__"
        for name, value in vars(cls).items():
            if isinstance(value, candidates) and name not in held and not name.startswith("__"):
                yield name, value, why


def _is_array(value: Any) -> bool:
    """Whether it is an array of elements, not of objects, of any library."""
    try:
        backend_of(value)  # also says so of other things out of NumPy
    except TypeError:
        return False
    return getattr(getattr(value, "dtype", None), "kind", "O") != "O"


def _leads_back(part: Any, root: Any) -> bool:
    """Whether it is a network that `root` is a part of, held for reference."""
    return hasattr(part, "modules") and any(module is root for module in part.modules())


def _reason(name: str, holder: object) -> str:
    """Why what an object holds is not found."""
    if isinstance(holder, set | frozenset):
        return f"in the set {name}, which has no order: hold it in a list"
    if isinstance(holder, np.ndarray):
        return f"in the array {name}: hold it in a list"
    if isinstance(holder, partial | MethodType):
        return f"in the function {name}: hold the layer itself"
    kind = type(holder).__name__
    return f"in {name}, a {kind}, which is not a Module: derive {kind} from Layer, or from Module"


def _contents(value: Any) -> Iterator[tuple[Any, Any]]:
    """What any object holds by name, as far as that can be told."""
    if is_container(value):
        return contents(value)
    if isinstance(value, set | frozenset):
        return enumerate(value)
    if isinstance(value, np.ndarray):
        return enumerate(value.flat)
    if isinstance(value, partial):
        return iter((("func", value.func), *enumerate(value.args), *value.keywords.items()))
    if isinstance(value, MethodType):
        return iter((("__self__", value.__self__),))
    return iter(_attributes(value).items())


def _attributes(value: Any) -> dict[str, Any]:
    """What an object holds in its `__dict__` and `__slots__`."""
    slots = [name for cls in type(value).__mro__ for name in _slots(cls) if isinstance(name, str)]
    held = {name: getattr(value, name) for name in slots if not name.startswith("__") and hasattr(value, name)}
    return {**held, **getattr(value, "__dict__", {})}


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
