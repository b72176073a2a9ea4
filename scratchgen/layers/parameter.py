"""A number array that learns: its value, the gradient of the loss with respect to it, and whether it takes one."""

from contextlib import contextmanager

from scratchgen import checks
from scratchgen.backend import array_library, backend_of, transfer


class Parameter:
    """`value`, and `grad` = ∂L/∂value of the same shape, into which every backward adds.

    `value` may be assigned: an array of the same shape, float32 or float64. It is never written into, so whoever
    holds the old array (a pullback that has not run yet) still holds what it was.
    """

    __slots__ = ("_frozen", "_value", "grad", "name")

    def __init__(self, name: str, value, grad=None):
        checks.float_array("Parameter", name, value)
        if grad is not None and grad.shape != value.shape:
            raise ValueError(f"Parameter: {name}: grad has shape {grad.shape}, value has {value.shape}")
        self.name = name
        self._value = value
        self.grad = array_library(value).zeros_like(value) if grad is None else grad
        self._frozen = 0

    @property
    def value(self):
        return self._value

    @value.setter
    def value(self, new):
        checks.float_array("Parameter", self.name, new)
        if new.shape != self._value.shape:
            raise ValueError(f"Parameter: {self.name}: got shape {new.shape}, needs {self._value.shape}")
        if backend_of(new) != backend_of(self.grad) or new.dtype != self.grad.dtype:
            self.grad = transfer(self.grad, backend_of(new)).astype(new.dtype)
        self._value = new

    def assign(self, new) -> None:
        """Set the value to a copy of `new`, an array of any library and float type, in the parameter's own ones."""
        checks.float_array("Parameter", self.name, new)
        self.value = transfer(new, backend_of(self._value)).astype(self._value.dtype)

    @property
    def frozen(self) -> bool:
        """True inside `with frozen(...)`: takes no gradient."""
        return self._frozen > 0

    def zero_grad(self) -> None:
        self.grad[...] = 0

    def __repr__(self):
        return f"Parameter({self.name!r}, {tuple(self._value.shape)}, {self._value.dtype})"


@contextmanager
def frozen(*modules):
    """Inside the block the parameters of these modules take no gradient, and their share of the work is not done.

    An evaluation made inside the block stays without parameter gradients when its backward runs later, and a backward
    that runs inside the block adds none. dx is unchanged. Blocks nest. A backward that a layer writes as a plain
    function, without `self.pullback`, knows nothing of this and adds as ever.
    """
    for module in modules:
        if not callable(getattr(module, "parameters", None)):
            raise TypeError(f"frozen: got a {type(module).__name__}, needs a layer or model")
    parameters = [p for module in modules for p in module.parameters()]
    for p in parameters:
        p._frozen += 1
    try:
        yield
    finally:
        for p in parameters:
            p._frozen -= 1
