"""What a gradient is taken with respect to."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.learned import with_values
from scratchgen.gradcheck.numeric import scale_of
from scratchgen.gradcheck.subject import Subject


@dataclass(frozen=True)
class Variable:
    """What a gradient is taken with respect to: an input, by its index, or a parameter; or several, as one vector."""

    name: str
    sources: tuple[Any, ...]

    def parts(self, inputs: list) -> list[Array]:
        return [inputs[s] if isinstance(s, int) else s.value for s in self.sources]

    def value(self, inputs: list) -> Array:
        return _joined(self.parts(inputs))

    def scale(self, inputs: list) -> Array:
        """The unit in which each element is moved, see `scale_of`."""
        return _joined([scale_of(part) for part in self.parts(inputs)])

    def gradient(self, dxs: tuple) -> Array:
        """What backward gave: an array of its own, for a parameter what was added since its grad was zero."""
        given = [(dxs[s] if s < len(dxs) else None) if isinstance(s, int) else s.grad for s in self.sources]
        return _joined([np.array(g) for g in given])

    def as_argument(self, subject: Subject, inputs: list) -> Callable[[Array], Array]:
        """y as a function of an array in its place."""
        first, *more = self.sources
        if not more and isinstance(first, int):
            before, after = inputs[:first], inputs[first + 1 :]
            return lambda array: subject.evaluate([*before, array, *after])[0]
        if not more:
            return lambda array: subject.evaluate_with(first, array, inputs)
        shapes = [np.shape(part) for part in self.parts(inputs)]
        ends = np.cumsum([prod(shape) for shape in shapes[:-1]])

        def of_all(array: Array) -> Array:
            parts = zip(self.sources, np.split(array, ends), shapes, strict=True)
            values = {s: part.reshape(shape) for s, part, shape in parts}
            moved = [values.pop(k, x) for k, x in enumerate(inputs)]
            with with_values(values):
                return subject.evaluate(moved)[0]

        return of_all


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate([a.ravel() for a in arrays])


def sizes_of(inputs: list, y: Array) -> dict[str, int]:
    """The counts by which a sum may have been divided or multiplied by mistake."""
    if not (inputs and np.ndim(inputs[0])):
        return {}
    shape = inputs[0].shape
    sizes = {"the batch size": shape[0]}
    if len(shape) > 1:
        sizes |= {"the number of features": prod(shape[1:]), "the number of elements": prod(shape)}
    if len(shape) > 2:
        sizes["the number of rows"] = prod(shape[:-1])
    if y.ndim > 2:
        sizes["the number of output rows"] = prod(y.shape[:-1])
    return sizes
