"""The pullback of a tangent: for objectives in which a gradient stands, such as a gradient penalty.

    y, u, backward = layer.jvp(x, t)    # u = J t: a small step ε t of x moves y by ε u
    dx, dt = backward(dy, du)           # the pullback of (x, t) ↦ (y, u)

J depends on x, so that u does, too: beside the Jᵀ dy of `forward`, dx has a term with the second derivatives of f,
where f bends. In t, u is linear with matrix J, so dt = Jᵀ du. Parameters get what moves y, and what moves u.

Why a penalty needs it: let g = ∇ₓ D(x) be the gradient of a network of one output. A penalty φ(g) has ∂φ/∂θ =
⟨v, ∂g/∂θ⟩ with v = ∂φ/∂g, and for a v that is held ⟨v, g⟩ = J v = u. So `backward(0, 1)` of `jvp(x, v)` adds ∂φ/∂θ
to the gradients: no backward pass is differentiated, v goes forward.
(Pearlmutter 1994, Fast exact multiplication by the Hessian, who finds Hessian products so.)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from scratchgen import checks
from scratchgen.backend import Array, backend_of
from scratchgen.layers.pullback import Pullback, own_array, owner_of

if TYPE_CHECKING:
    from scratchgen.layers.layer import Layer

Adjoint: TypeAlias = Callable[..., Array]  # of dy and du, and of what is shared


class TangentPullback:
    """`dx, dt = backward(dy, du)` for one evaluation (y, u) = (f(x), J t); adds into every p.grad.

    The functions `dx` and `dt`, and in `grads` one for each parameter, take dy and du, both of y's shape, and what
    `shared(dy, du)` gives as further arguments. As with a `Pullback`, results are arrays of their own,
    `need_dx=False` spares dx and dt, which are None then, and frozen parameters take no gradient. TypeError and
    ValueError for a dy or du that is not like y.
    """

    def __init__(
        self,
        layer: "Layer",
        y: Array,
        *,
        dx: Adjoint,
        dt: Adjoint,
        grads: Mapping[Any, Adjoint] | None = None,
        shared: Callable[[Array, Array], tuple[Array, ...]] | None = None,
    ):
        self._layer, self._form = layer, {"shape": y.shape, "dtype": y.dtype, "home": backend_of(y)}
        self._dx, self._dt, self._shared = dx, dt, shared
        self._grads = [(p, adjoint) for p, adjoint in (grads or {}).items() if p is not None and not p.frozen]

    def __call__(self, dy: Array, du: Array, *, need_dx: bool = True) -> tuple[Any, Any]:
        for name, array, of in (("dy", dy, "y"), ("du", du, "u")):
            checks.like(self._layer, name, array, of, **self._form)
        live = [(p, adjoint) for p, adjoint in self._grads if not p.frozen]
        if not live and not need_dx:
            return None, None
        known = (dy, du, *(self._shared(dy, du) if self._shared else ()))
        taken = {id(owner_of(dy)), id(owner_of(du))}  # each result is an array of its own
        gradients = [own_array(adjoint(*known), dy, taken) for _, adjoint in live]
        dx, dt = (own_array(f(*known), dy, taken) if need_dx else None for f in (self._dx, self._dt))
        for (p, _), gradient in zip(live, gradients, strict=True):
            p.add_grad(gradient)
        return dx, dt


class TwoPullbacks:
    """Of a map that is affine in x: y and u are one linear map of x and of t, and each goes back by itself."""

    def __init__(self, of_x: Pullback, of_t: Pullback):
        self._of_x, self._of_t = of_x, of_t

    def __call__(self, dy: Array, du: Array, *, need_dx: bool = True) -> tuple[Any, Any]:
        self._of_t.check("du", du, "u")
        return self._of_x(dy, need_dx=need_dx), self._of_t(du, need_dx=need_dx)


class TangentChain:
    """The pullbacks of the parts, the last one first."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = parts

    def __call__(self, dy: Array, du: Array, *, need_dx: bool = True) -> tuple[Any, Any]:
        for i in range(len(self._parts) - 1, -1, -1):
            part = self._parts[i]
            takes = isinstance(part, TangentPullback | TwoPullbacks | TangentChain)
            dy, du = part(dy, du, need_dx=need_dx or i > 0) if takes else part(dy, du)
        return dy, du
