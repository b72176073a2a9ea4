"""The pullback: what `forward` returns besides y, the linear map dy ↦ dx of that one evaluation.

L is the loss, dy = ∂L/∂y and dx = ∂L/∂x, and ⟨a, b⟩ is the sum of the products of all elements of a and b. To first
order a small step δx moves y = f(x) by J δx, where J is the matrix of all ∂y/∂x, and so the loss by

    ⟨dy, J δx⟩ = ⟨Jᵀ dy, δx⟩

That is ⟨dx, δx⟩ for every δx, so dx = Jᵀ dy. The same holds with a parameter in place of x. J is never formed: each
layer says what Jᵀ does to dy. Where f itself is linear J is f, and Jᵀ is its adjoint f*, the map with
⟨dy, f(x)⟩ = ⟨f*(dy), x⟩. The adjoint of a copy, for one, is a sum: what went to several places moves them all.

For a composition y = g(f(x)), Jᵀ = J_fᵀ J_gᵀ: the pullbacks of the parts, the last one first. That is `chain`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from scratchgen import checks
from scratchgen.backend import Array, array_library, backend_of
from scratchgen.layers.parameter import Parameter, frozen

if TYPE_CHECKING:
    from scratchgen.layers.layer import Layer

Adjoint: TypeAlias = Callable[..., Array]  # of dy, and of what is shared


class Pullback:
    """`dx = backward(dy)` for one evaluation y = f(x): returns ∂L/∂x and adds ∂L/∂p into every p.grad.

    Of y only the shape, dtype and library are kept, which dy must have. A layer gives one function of dy, linear in
    it, for its input, `dx`, and in `grads` one for each parameter (None as key, for a bias that the layer does
    without, is passed over). What several of them need may be computed once by `shared(dy)`, whose results follow dy
    as further arguments.

    The closures hold the arrays of the evaluation, so a pullback may be called late, twice, or after the parameters
    have changed: it is the gradient of the function that was evaluated. `need_dx=False` is for the entrance of a
    network, where nobody asks for dx: it is not computed, and None is returned. What it returns or adds to a
    p.grad is an array of its own, never dy or a view of it. Parameters that are frozen take no gradient.

    TypeError for a key of `grads` that is no Parameter, and for a dy of another dtype or library than y; ValueError
    for a dy of another shape than y, and for a gradient of another shape than its parameter.
    """

    def __init__(
        self,
        layer: "Layer",
        y: Array,
        *,
        dx: Adjoint,
        grads: Mapping[Any, Adjoint] | None = None,
        shared: Callable[[Array], tuple[Array, ...]] | None = None,
    ):
        for p in grads or {}:
            if not isinstance(p, Parameter | None):
                raise TypeError(f"{layer}: grads has the key {p!r}, needs the Parameter itself: {{self.W: ...}}")
        self._layer, self._form = layer, {"shape": y.shape, "dtype": y.dtype, "home": backend_of(y)}
        self._dx, self._shared = dx, shared
        self._grads = [(p, adjoint) for p, adjoint in (grads or {}).items() if p is not None and not p.frozen]

    @property
    def learns(self) -> bool:
        """Whether some parameter takes a gradient from it; if not, there is nothing to do but dx."""
        return any(not p.frozen for p, _ in self._grads)

    def check(self, name: str, dy: Array, of: str) -> None:
        """TypeError or ValueError unless dy, called so, is like y."""
        checks.like(self._layer, name, dy, of, **self._form)

    def __call__(self, dy: Array, *, need_dx: bool = True) -> Any:
        """For each p, p.grad += adjoint(dy); returns dx(dy). The rest sees to it that no two results share memory."""
        self.check("dy", dy, "y")
        live = [(p, adjoint) for p, adjoint in self._grads if not p.frozen]
        if not live and not need_dx:
            return None
        known = (dy, *self._shared(dy)) if self._shared else (dy,)
        taken = {id(owner_of(dy))}  # each result is an array of its own
        gradients = [own_array(adjoint(*known), dy, taken) for _, adjoint in live]
        for (p, _), gradient in zip(live, gradients, strict=True):
            if gradient.shape != p.value.shape:
                raise ValueError(f"{self._layer}: d{p.name} has shape {gradient.shape}, needs {p.value.shape}")
        dx = own_array(self._dx(*known), dy, taken) if need_dx else None
        for p, _ in live:
            p.add_grad(gradients.pop(0))  # handed over, p.grad may become this very array; and let go of, for memory
        return dx


class _PlainPullback(Pullback):
    """A plain function of dy, which a layer may return as well. Its layer's parameters are known, but not to which of
    them it adds."""

    def __init__(self, layer: "Layer", backward: Callable[..., Any]):
        self._backward = backward
        self._frozen = [p for p in layer._parameters() if p.frozen]  # when it was evaluated, and so whenever it runs

    @property
    def learns(self) -> bool:
        return True  # it may add to what is no Parameter of the layer's

    def __call__(self, dy: Array, *, need_dx: bool = True) -> Any:
        with frozen(*self._frozen):
            dx = self._backward(dy)
        return dx if need_dx else None


class _Composition(Pullback):
    """The pullbacks of the parts, the last one first, down to the lowest whose result anybody needs."""

    def __init__(self, parts: Sequence[Pullback]):
        self._parts = parts

    @property
    def learns(self) -> bool:
        return any(part.learns for part in self._parts)

    def __call__(self, dy: Array, *, need_dx: bool = True) -> Any:
        last = len(self._parts) - 1
        lowest = 0 if need_dx else next((i for i, part in enumerate(self._parts) if part.learns), max(last, 0))
        for i in range(last, lowest - 1, -1):
            dy = self._parts[i](dy, need_dx=need_dx or i > lowest)
        return dy


def chain(x: Any, *layers: "Layer") -> tuple[Any, Pullback]:
    """y, backward for one layer after the other: y = f_k(… f_1(x)). backward takes `need_dx` whatever the layers
    are."""
    parts: list[Pullback] = []
    for layer in layers:
        x, backward = layer.forward(x)
        parts.append(backward if isinstance(backward, Pullback) else _PlainPullback(layer, backward))
    return x, parts[0] if len(parts) == 1 else _Composition(parts)


def own_array(gradient: Array, dy: Array, taken: set[int]) -> Array:
    """The gradient where it is a plain array that fills its memory, can be written into and shares memory with none
    in `taken`, ids of owners, which its own joins; else a copy."""
    flags, owner = gradient.flags, owner_of(gradient)
    lent = id(owner) in taken or type(owner) is not type(dy)
    if lent or type(gradient) is not type(dy) or not flags.forc or not getattr(flags, "writeable", True):
        gradient = owner = array_library(dy).array(gradient)
    taken.add(id(owner))
    return gradient


def owner_of(a: Array) -> Any:
    """Whose memory it is: the array's own, or that of the array at which it looks."""
    base = a.base
    return a if base is None else base
