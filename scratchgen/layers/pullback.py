"""The pullback: what `forward` returns beside y, the linear map dy ↦ dx of that one evaluation.

A small step δx moves y = f(x) by J δx, where J is the matrix of all ∂y/∂x, and the loss by ⟨dy, J δx⟩ = ⟨Jᵀ dy, δx⟩.
That is ⟨dx, δx⟩ for every δx, so dx = Jᵀ dy. J is never formed: each layer says what Jᵀ does to dy. Where f itself is
linear J is f, and Jᵀ is its adjoint f*, the map with ⟨dy, f(x)⟩ = ⟨f*(dy), x⟩.
"""

from scratchgen import checks
from scratchgen.backend import backend_of
from scratchgen.layers.parameter import Parameter, frozen


class Pullback:
    """`dx = backward(dy)` for one evaluation y = f(x): returns ∂L/∂x and adds ∂L/∂p into every p.grad.

    A layer states one adjoint per unknown: `dx` for its input, and in `grads` one for each parameter (None as
    key, for a bias that the layer does without, is passed over). Each is a function of dy, linear in it. What they
    have in common may be computed once by `shared`, whose results follow dy as further arguments.

    The closures hold the arrays of the evaluation, so a pullback may be called late, twice, or after the parameters
    have changed: it is the gradient of the function that was evaluated. `need_dx=False` is for the entrance of a
    network, where nobody asks for dx: it is not computed, and None is returned.
    """

    def __init__(self, layer, y, *, dx, grads=None, shared=None):
        for p in grads or {}:
            if not isinstance(p, Parameter | None):
                raise TypeError(f"{layer}: grads has the key {p!r}, needs the Parameter itself: {{self.W: ...}}")
        self._layer, self._shape, self._dtype, self._home = layer, y.shape, y.dtype, backend_of(y)
        self._dx = dx
        self._shared = shared
        self._grads = [(p, adjoint) for p, adjoint in (grads or {}).items() if p is not None and not p.frozen]

    @property
    def idle(self) -> bool:
        """True when no parameter takes a gradient from this pullback: there is nothing to do but dx."""
        return all(p.frozen for p, _ in self._grads)

    def __call__(self, dy, *, need_dx: bool = True):
        check_gradient(self._layer, dy, self._shape, self._dtype, self._home)
        live = [(p, adjoint) for p, adjoint in self._grads if not p.frozen]
        if not live and not need_dx:
            return None
        known = (dy, *self._shared(dy)) if self._shared else (dy,)
        gradients = [adjoint(*known) for _, adjoint in live]
        for (p, _), shape in zip(live, [gradient.shape for gradient in gradients], strict=True):
            if shape != p.value.shape:
                raise ValueError(f"{self._layer}: d{p.name} has shape {shape}, needs {p.value.shape}")
        dx = self._dx(*known) if need_dx else None
        for p, _ in live:
            p.add_grad(gradients.pop(0))  # given away: nobody else holds it
        return dx


class Chain(Pullback):
    """The pullback of a composition: the pullbacks of its parts, in reverse."""

    def __init__(self, pullbacks):
        self._pullbacks = pullbacks

    @property
    def idle(self) -> bool:
        return all(map(is_idle, self._pullbacks))

    def __call__(self, dy, *, need_dx: bool = True):
        last = 0  # the lowest part that has to run; the topmost one does so always, if only to check dy
        if not need_dx:
            while last < len(self._pullbacks) - 1 and is_idle(self._pullbacks[last]):
                last += 1
        for i in reversed(range(last, len(self._pullbacks))):
            dy = pull(self._pullbacks[i], dy, need_dx=need_dx or i > last)
        return dy if need_dx else None


def still_frozen(layer, backward):
    """The backward of an evaluation of `layer`, which adds nothing later either if the layer is frozen now.

    A Pullback sees to that itself; for a plain function the parameters are frozen again while it runs.
    """
    parameters = [] if isinstance(backward, Pullback) else [p for p in layer._parameters() if p.frozen]
    if not parameters:
        return backward

    def without_gradients(dy):
        with frozen(*parameters):
            return backward(dy)

    return without_gradients


def is_idle(backward) -> bool:
    """Whether a backward adds no parameter gradient; a plain function is taken to add some."""
    return isinstance(backward, Pullback) and backward.idle


def pull(backward, dy, *, need_dx: bool = True):
    """backward(dy), for a Pullback or any function of dy; without dx where that is not needed and can be spared."""
    if need_dx or not isinstance(backward, Pullback):
        return backward(dy)
    return backward(dy, need_dx=False)


def check_gradient(owner, dy, shape, dtype, home) -> None:
    """ValueError or TypeError unless dy is an array of y's shape, dtype and library."""
    where = checks.library(owner, "dy", dy)
    if dy.shape != shape:
        raise ValueError(f"{owner}: dy has shape {dy.shape}, needs {shape}, the shape of y")
    if dy.dtype != dtype:
        raise TypeError(f"{owner}: dy has dtype {dy.dtype}, needs {dtype}, the dtype of y")
    if where != home:
        raise TypeError(f"{owner}: dy is a {where} array, needs a {home} array, as y is")
