"""What a network consists of: its layers, the shapes of their outputs, and how many elements each learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from math import prod
from typing import NamedTuple, TypeAlias

from scratchgen.backend import backend_of
from scratchgen.layers.activations import LeakyReLU, ReLU, Sigmoid, Tanh
from scratchgen.layers.batchnorm import BatchNorm
from scratchgen.layers.conv import Conv2d, ConvTranspose2d
from scratchgen.layers.dense import Dense
from scratchgen.layers.layernorm import LayerNorm
from scratchgen.layers.module import Module
from scratchgen.layers.pooling import AvgPool2d, MaxPool2d
from scratchgen.layers.random import Random
from scratchgen.layers.sequential import Sequential
from scratchgen.layers.shape import Flatten, Reshape
from scratchgen.notebook import block, indented, strong, table

MOST = 100  # rows
Shape: TypeAlias = "tuple[int | None, ...] | None"  # of a sample: sizes, and None for what is not known


def output_shape(layer: Module, shape: Shape) -> Shape:
    """The shape of a sample of y where x has this one, as far as it is known: nothing is computed, and of a layer
    that is not the library's nothing is known. ValueError where such an x does not fit."""
    match layer:
        case Sequential() if type(layer).forward is Sequential.forward:
            return reduce(lambda x, part: output_shape(part, x), layer.layers, shape)
        case _ if not type(layer).__module__.startswith("scratchgen."):
            return None
        case Dense():
            _fit(shape, (layer.in_features,))
            return (layer.out_features,)
        case Conv2d():
            H, W, _ = _fit(shape, (None, None, layer.in_channels))
            return *(layer.geometry(H, W).small if H and W else (None, None)), layer.out_channels
        case ConvTranspose2d():
            H, W, _ = _fit(shape, (None, None, layer.in_channels))
            return *(layer.geometry(H, W).large if H and W else (None, None)), layer.out_channels
        case MaxPool2d() | AvgPool2d():
            H, W, C = _fit(shape, (None, None, None))
            return *(layer.geometry(H, W).small if H and W else (None, None)), C
        case Flatten():
            return (_elements(shape),)
        case Reshape():
            _fit((_elements(shape),), (prod(layer.shape),))
            return layer.shape
        case BatchNorm() | LayerNorm():
            return None if shape is None else _fit(shape, (*shape[:-1], layer.channels))
        case ReLU() | LeakyReLU() | Tanh() | Sigmoid() | Random():
            return shape
        case _:
            return None


def _fit(shape: Shape, needed: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """What is known of a shape by both; ValueError where they differ."""
    shape = (None,) * len(needed) if shape is None else shape
    if len(shape) != len(needed) or any(a and b and a != b for a, b in zip(shape, needed, strict=True)):
        raise ValueError
    return tuple(a or b for a, b in zip(shape, needed, strict=True))


def _elements(shape: Shape) -> int | None:
    return None if shape is None or None in shape else prod(n for n in shape if n)


class Row(NamedTuple):
    depth: int
    name: str
    text: str
    shape: str
    parameters: str
    is_whole: bool  # has rows of its own parts below it


def rows(
    module: Module, name: str = "", shape: Shape = None, seen: set[int] | None = None, above: tuple[Module, ...] = ()
) -> Iterator[Row]:
    """A row for the module on an x of this shape, and for each of its parts, depth first; `seen` are the parameters
    that were counted before. A part that leads back to what is `above` it is left out."""
    seen = set() if seen is None else seen
    above = (*above, module)
    own = {id(p): p.value.size for p in module._parameters()}
    new = sum(size for key, size in own.items() if key not in seen)
    parts = {
        name: part
        for name, part in module.members()
        if isinstance(part, Module) and not any(part is one for one in above)
    }
    chained, like = isinstance(module, Sequential), getattr(module, "inputs_like", {})
    text = type(module).__name__ if parts or chained else repr(module)
    count = f"{new:,}" if new else "shared" if own else ""
    yield Row(len(above) - 2, name, text, _text(_after(module, shape)), count, bool(parts))
    for part_name, part in parts.items():
        other = parts.get(like.get(part_name, ""))
        x = shape if chained else None if other is None else _after(other, None)
        yield from rows(part, part_name, x, seen, above)
        shape = _after(part, x)
    seen.update(own)


def _after(layer: Module, shape: Shape) -> Shape:
    """`output_shape`; of an x that does not fit no more is known than that it is one."""
    for x in (shape, None):
        with suppress(ValueError):
            return output_shape(layer, x)
    return None


def _text(shape: Shape) -> str:
    """(N, 14, 14, 32); a ? for a size that is not known."""
    if shape is None:
        return ""
    return f"({', '.join(['N', *('?' if n is None else str(n) for n in shape)])})"


def as_html(module: Module) -> str | None:
    """For a notebook: a table of the parts; None where there are none, and the repr says all."""
    _, *found = rows(module)
    if not found:
        return None
    shown: list[tuple[str, ...]] = []
    for row in found[:MOST]:
        name, text, count = indented(row.name, row.depth), row.text, row.parameters
        cells = (name, text, row.shape, count)
        shown.append(tuple(map(strong, cells)) if row.is_whole else cells)
    if len(found) > MOST:
        shown.append(("…", f"and {len(found) - MOST:,} more", "", ""))
    return block(
        type(module).__name__, table(("", "layer", "output", "parameters"), shown, right=(3,)), about=_about(module)
    )


def _about(module: Module) -> str:
    """How much it learns, in which type, and where."""
    parameters = module._parameters()
    if not parameters:
        return "without parameters"
    types = " and ".join(sorted({str(p.value.dtype) for p in parameters}))
    where = " on a GPU" if any(backend_of(p.value) == "cupy" for p in parameters) else ""
    return f"{sum(p.value.size for p in parameters):,} parameters, {types}{where}"
