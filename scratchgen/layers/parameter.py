"""An array that learns: its value, the gradient of the loss with respect to it, and whether it takes one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scratchgen import checks
from scratchgen.backend import Array, array_library, backend_of, transfer


class Parameter:
    """`value`, and `grad` = ∂L/∂value of the same shape, into which every backward adds.

    `value` may be assigned: an array of the same shape, float32 or float64. The library never writes into it, and
    neither should you (`p.value = p.value - step`, not `-=`): a pullback that has not run yet holds the old array.
    """

    __slots__ = ("_frozen", "_grad", "_value", "name")

    def __init__(self, name: str, value: Array, grad: Array | None = None):
        checks.float_array("Parameter", name, value)
        self.name = name
        self._value = value
        self._frozen = 0
        self._grad: Array | None = None  # stands for zero, as long as nobody has looked
        if grad is not None:
            self.grad = grad

    @property
    def value(self) -> Array:
        return self._value

    @value.setter
    def value(self, new: Array) -> None:
        checks.float_array("Parameter", self.name, new)
        if new.shape != self._value.shape:
            raise ValueError(f"Parameter: {self.name}: got shape {new.shape}, needs {self._value.shape}")
        grad = self._grad
        if grad is not None and (backend_of(new) != backend_of(grad) or new.dtype != grad.dtype):
            self._grad = transfer(grad, backend_of(new)).astype(new.dtype)
        self._value = new

    @property
    def grad(self) -> Array:
        """∂L/∂value. While the parameter is frozen this is a copy, so that `p.grad += ...` has no effect."""
        if self._grad is None:
            self._grad = array_library(self._value).zeros_like(self._value)
        return self._grad.copy() if self._frozen else self._grad

    @grad.setter
    def grad(self, new: Array) -> None:
        home = checks.library("Parameter", f"{self.name}.grad", new)
        if new.shape != self._value.shape:
            raise ValueError(f"Parameter: {self.name}: grad got shape {new.shape}, needs {self._value.shape}")
        if new.dtype != self._value.dtype or home != backend_of(self._value):
            raise TypeError(
                f"Parameter: {self.name}: grad got a {home} array of {new.dtype}, needs the value's "
                f"{backend_of(self._value)} and {self._value.dtype}"
            )
        if not self._frozen:
            self._grad = new

    def add_grad(self, gradient: Array) -> None:
        """grad += gradient. Where grad is zero the gradient's array becomes grad itself, which spares a pass over
        both: so hand over an array that nobody else holds, and do not write into it afterwards. What cannot be
        written into, or is the value itself, is copied. ValueError for another shape."""
        if gradient.shape != self._value.shape:
            raise ValueError(
                f"Parameter: {self.name}: gradient has shape {gradient.shape}, needs {self._value.shape}"
            )
        if self._frozen:
            return
        if self._grad is None and gradient.dtype == self._value.dtype:
            plain = type(gradient) is type(self._value) and getattr(gradient.flags, "writeable", True)
            self._grad = (
                gradient if plain and gradient is not self._value else array_library(gradient).array(gradient)
            )
        else:
            self.grad += gradient

    def assign(self, new: Array) -> None:
        """Set the value to a copy of `new`, an array of any library and float type, in the parameter's own ones."""
        checks.float_array("Parameter", self.name, new)
        self.value = transfer(new, backend_of(self._value)).astype(self._value.dtype)

    @property
    def frozen(self) -> bool:
        """True inside `with frozen(...)`: takes no gradient."""
        return self._frozen > 0

    def zero_grad(self) -> None:
        """Set the gradient to zero, by letting go of its array: whoever holds that keeps what it was."""
        self._grad = None

    def __getstate__(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """For copies and pickles: they are no part of the `with frozen(...)` that the original may be in."""
        state: Any = super().__getstate__()  # of a subclass, what it adds too
        attributes, slots = state
        return attributes, slots | {"_frozen": 0}

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {tuple(self._value.shape)}, {self._value.dtype})"


@contextmanager
def frozen(*modules: Any) -> Iterator[None]:
    """Inside the block these modules' parameters take no gradient, and their share of the work is not done.

    An evaluation made inside the block stays without parameter gradients when its backward runs later, and a backward
    that runs inside the block adds none. dx is unchanged, and BatchNorm's statistics move as ever. Blocks nest.
    """
    parameters = []
    for module in modules:
        if isinstance(module, Parameter):
            parameters.append(module)
        elif callable(getattr(module, "parameters", None)):
            parameters += getattr(module, "_parameters", module.parameters)()
        else:
            raise TypeError(f"frozen: got a {type(module).__name__}, needs a layer, a model or a Parameter")
    for p in parameters:
        p._frozen += 1
    try:
        yield
    finally:
        for p in parameters:
            p._frozen -= 1
