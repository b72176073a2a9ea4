"""Composition."""

from collections.abc import Iterator

from scratchgen.backend import Array
from scratchgen.layers.layer import Layer
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Pullback, chain


class Sequential(Layer):
    """One layer after the other: y = f_k(… f_2(f_1(x))).

    The chain rule runs the pullbacks backwards: dx = f_1*( f_2*( … f_k*(dy))). `layers` lists the parts.
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

    def __repr__(self) -> str:
        return "\n    ".join(["Sequential(", *(f"{layer},".replace("\n", "\n    ") for layer in self.layers)]) + "\n)"
