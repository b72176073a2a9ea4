"""The contract that every layer keeps.

    y, backward = layer.forward(x)    # training: y, and the pullback of this very evaluation
    dx = backward(dy)                 # adds into every p.grad, returns ∂L/∂x
    y = layer.predict(x)              # inference: no pullback, nothing kept
    y, u, backward = layer.jvp(x, t)  # the tangent u = J t, and the pullback of both: `tangent.py`

`d` + a name is ∂L/∂(that name), of the same shape. With several inputs and outputs they are tuples: of a cell
`(h, c), backward = cell.forward(x, h, c)` and `dx, dh, dc = backward((dh, dc))`. A layer of your own is a subclass of
`Layer` whose `forward` returns y and a function of dy; its Parameters and sub-layers are found automatically, in
lists and dicts too. If it returns `self.pullback(y, dx=..., grads={...})`, checks of dy and `need_dx=False` come
with it. A layer made of others defines `predict` too and calls theirs in it, or a BatchNorm among them would use the
statistics of the batch. A layer that draws at random derives from `Random`. What a layer returns may share memory
with what it was given: do not write into it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from scratchgen import checks
from scratchgen.backend import Array, backend_of
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter, frozen
from scratchgen.layers.pullback import Adjoint, Pullback
from scratchgen.layers.tangent import TangentPullback, TwoPullbacks


class Layer(Module):
    """A differentiable map with parameters of its own. Subclasses write `forward`.

    Chapter: demos/book/01-pullback.md
    """

    _instead = "use predict(x), or forward(x) for y and its pullback"

    def forward(self, x: Any) -> Any:
        """y, backward: the value at x, and the pullback of this evaluation."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def predict(self, *inputs: Any, **options: Any) -> Any:
        """The value at x, or at the inputs where there are several, for inference: no pullback, nothing kept."""
        y, _ = self.forward(*inputs, **options)
        return y

    def jvp(self, x: Any, t: Any) -> Any:
        """y, u, backward: the value at x, the tangent u = J t that t, of x's shape, becomes, and the pullback of
        both, `dx, dt = backward(dy, du)`. Layers of the library have it; TypeError for one that has none.
        """
        raise TypeError(
            f"{type(self).__name__} has no jvp(x, t), which a gradient penalty needs: write one that returns y, "
            "u = J t and a backward(dy, du) that gives dx, dt"
        )

    def linear_jvp(self, x: Array, t: Array, bias: Parameter | None = None) -> tuple[Array, Array, TwoPullbacks]:
        """`jvp` of a layer that is affine in x, f(x) = A x + bias, for what it draws: u = A t, and dx = A* dy,
        dt = A* du. What A is made of takes its gradient from both, the bias from dy alone."""
        self.check_tangent(x, t)
        counts = {name: getattr(self, name) for name in type(self).counters}
        y, of_x = self.forward(x)
        after = {name: getattr(self, name) for name in counts}
        try:
            vars(self).update(counts)  # the same draws for t
            with frozen(*(() if bias is None else (bias,))):
                u, of_t = self.forward(t)
        finally:
            vars(self).update(after)
        return y, u if bias is None else u - bias.value, TwoPullbacks(of_x, of_t)

    def check_tangent(self, x: Array, t: Array) -> None:
        """ValueError or TypeError unless t is an array like x."""
        checks.float_array(self, "x", x)
        checks.like(self, "t", t, "x", shape=x.shape, dtype=x.dtype, home=backend_of(x))

    def pullback(
        self,
        y: Array,
        *,
        dx: Adjoint,
        grads: Mapping[Any, Adjoint] | None = None,
        shared: Callable[[Array], tuple[Array, ...]] | None = None,
    ) -> Pullback:
        """`Pullback(self, y, …)`, for `forward` to return."""
        return Pullback(self, y, dx=dx, grads=grads, shared=shared)

    def tangent_pullback(
        self,
        y: Array,
        *,
        dx: Adjoint,
        dt: Adjoint,
        grads: Mapping[Any, Adjoint] | None = None,
        shared: Callable[[Array, Array], tuple[Array, ...]] | None = None,
    ) -> TangentPullback:
        """`TangentPullback(self, y, …)`, for `jvp` to return."""
        return TangentPullback(self, y, dx=dx, dt=dt, grads=grads, shared=shared)

    def check_input(self, x: Array, *shape: Any) -> None:
        """ValueError or TypeError unless x is a float array of this shape, and of the parameters' dtype and library.

        A name in `shape` stands for any size, `...` for any number of axes, a number for itself: ("N", "H", "W", 3).
        """
        checks.float_array(self, "x", x)
        if not _fits(x.shape, shape):
            form = ", ".join("..." if s is ... else str(s) for s in shape)
            raise ValueError(f"{self}: x has shape {x.shape}, needs ({form})")
        if x.size == 0:
            raise ValueError(f"{self}: x is empty, shape {x.shape}; needs at least one sample")
        for p in vars(self).values():
            if isinstance(p, Parameter):
                checks.like(self, "x", x, p.name, dtype=p.value.dtype, home=backend_of(p.value), layer=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _fits(shape: tuple[int, ...], form: tuple[Any, ...]) -> bool:
    if ... in form:
        head = form.index(...)
        tail = len(form) - head - 1
        if len(shape) < head + tail:
            return False
        shape, form = shape[:head] + shape[len(shape) - tail :], form[:head] + form[head + 1 :]
    wrong = [n for n, size in zip(shape, form, strict=False) if n != size and not isinstance(size, str)]
    return len(shape) == len(form) and not wrong
