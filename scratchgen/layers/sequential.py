"""Composition."""

from collections.abc import Iterator

from scratchgen.backend import Array
from scratchgen.layers.layer import Layer
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Pullback, chain
from scratchgen.layers.tangent import TangentChain, TangentPullback


class Sequential(Layer):
    """One layer after the other: y = f_k(… f_2(f_1(x))).

    The chain rule runs the pullbacks backwards: dx = f_1*( f_2*( … f_k*(dy))). `layers` lists the parts.

    Chapter: demos/book/01-pullback.md
    """

    def __init__(self, *layers: Layer):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: part {i} is {layer!r}, needs a Layer")
        self.layers = list(layers)

    def members(self) -> Iterator[tuple[str, Parameter | Module]]:
        for i, layer in enumerate(self.layers):
            yield str(i), layer
        if len(vars(self)) > 1:  # what a subclass adds
            yield from ((name, member) for name, member in super().members() if not name.startswith("layers."))

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        if not self.layers:
            return x, self._identity(x)
        with self.unchanged_on_error():
            return chain(x, *self.layers)

    def predict(self, x: Array) -> Array:
        if not self.layers:
            self.check_input(x, "N", ...)
        for layer in self.layers:
            x = layer.predict(x)
        return x

    def _identity(self, x: Array) -> Pullback:
        """The pullback of no layers at all."""
        self.check_input(x, "N", ...)
        return self.pullback(x, dx=lambda dy: dy)

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentChain | TangentPullback]:
        """The tangent goes the way of x: t₁ = J_1 t, t₂ = J_2 t₁, …, u; and the pullbacks run backwards."""
        self.check_tangent(x, t)
        if not self.layers:
            return x, t, self.tangent_pullback(x, dx=lambda dy, du: dy, dt=lambda dy, du: du)
        parts = []
        with self.unchanged_on_error():
            for layer in self.layers:
                x, t, backward = layer.jvp(x, t)
                parts.append(backward)
        return x, t, TangentChain(parts)

    def __repr__(self) -> str:
        return "\n    ".join(["Sequential(", *(f"{layer},".replace("\n", "\n    ") for layer in self.layers)]) + "\n)"
