"""A number array that learns: its value, the gradient of the loss with respect to it, and whether it takes one."""

from contextlib import contextmanager

from scratchgen import checks
from scratchgen.backend import array_library, backend_of, kernels, transfer


class Parameter:
    """`value`, and `grad` = ∂L/∂value of the same shape, into which every backward adds.

    `value` may be assigned: an array of the same shape, float32 or float64. The library never writes into it, and
    neither should you (`p.value = p.value - step`, not `-=`): a pullback that has not run yet holds the old array.
    """

    __slots__ = ("_frozen", "_grad", "_is_zero", "_value", "name")

    def __init__(self, name: str, value, grad=None):
        checks.float_array("Parameter", name, value)
        self.name = name
        self._value = value
        self._frozen = 0
        self._is_zero = False  # True where grad stands for zero, whatever its numbers are until somebody looks
        self.grad = array_library(value).zeros_like(value) if grad is None else grad

    @property
    def value(self):
        return self._value

    @value.setter
    def value(self, new):
        checks.float_array("Parameter", self.name, new)
        if new.shape != self._value.shape:
            raise ValueError(f"Parameter: {self.name}: got shape {new.shape}, needs {self._value.shape}")
        if backend_of(new) != backend_of(self._grad) or new.dtype != self._grad.dtype:
            self._grad = transfer(self._grad, backend_of(new)).astype(new.dtype)
        self._value = new

    @property
    def grad(self):
        """∂L/∂value. While the parameter is frozen this is a copy, so that `p.grad += ...` has no effect."""
        if self._is_zero:
            self._grad[...] = 0
            self._is_zero = False
        return self._grad.copy() if self._frozen else self._grad

    @grad.setter
    def grad(self, new):
        if new.shape != self._value.shape:
            raise ValueError(f"Parameter: {self.name}: grad got shape {new.shape}, needs {self._value.shape}")
        if not self._frozen:
            self._grad, self._is_zero = new, False

    def add_grad(self, gradient) -> None:
        """grad += gradient. Where grad is zero and nobody else holds the gradient's memory it becomes grad itself,
        which spares a pass over both: so give it away, and do not write into it afterwards."""
        if gradient.shape != self._value.shape:
            raise ValueError(
                f"Parameter: {self.name}: gradient has shape {gradient.shape}, needs {self._value.shape}"
            )
        if self._frozen:
            return
        if self._is_zero and gradient.dtype == self._grad.dtype and kernels(gradient).unshared(gradient):
            self._grad, self._is_zero = gradient, False
        else:
            self.grad += gradient

    def assign(self, new) -> None:
        """Set the value to a copy of `new`, an array of any library and float type, in the parameter's own ones."""
        checks.float_array("Parameter", self.name, new)
        self.value = transfer(new, backend_of(self._value)).astype(self._value.dtype)

    @property
    def frozen(self) -> bool:
        """True inside `with frozen(...)`: takes no gradient."""
        return self._frozen > 0

    def zero_grad(self) -> None:
        """Set the gradient to zero: at once where somebody else holds its array, else when it is next looked at."""
        if kernels(self._grad).unshared(self._grad):
            self._is_zero = True
        else:
            self._grad[...] = 0

    def __repr__(self):
        return f"Parameter({self.name!r}, {tuple(self._value.shape)}, {self._value.dtype})"


@contextmanager
def frozen(*modules):
    """Inside the block these modules' parameters take no gradient, and their share of the work is not done.

    An evaluation made inside the block stays without parameter gradients when its backward runs later, and a backward
    that runs inside the block adds none. dx is unchanged. Blocks nest.
    """
    parameters = []
    for module in modules:
        if isinstance(module, Parameter):
            parameters.append(module)
        elif callable(getattr(module, "parameters", None)):
            parameters += module.parameters()
        else:
            raise TypeError(f"frozen: got a {type(module).__name__}, needs a layer, a model or a Parameter")
    for p in parameters:
        p._frozen += 1
    try:
        yield
    finally:
        for p in parameters:
            p._frozen -= 1
