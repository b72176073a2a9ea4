"""Layers that only rearrange: their pullback puts the elements back."""

from math import prod

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.layers.layer import Layer
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TwoPullbacks


class Flatten(Layer):
    """Each sample as one vector: (N, ...) → (N, features). dx is dy in x's shape.

    Chapter: demos/book/01-pullback.md
    """

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        y = x.reshape(len(x), -1)
        return y, self.pullback(y, dx=lambda dy: dy.reshape(x.shape))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """Linear: u is t in y's shape, dt is du in x's."""
        return self.linear_jvp(x, t)


class Reshape(Layer):
    """Each sample in the given shape: (N, ...) → (N, *shape). dx is dy in x's shape.

    Chapter: demos/book/01-pullback.md
    """

    def __init__(self, *shape: int):
        if not shape:
            raise ValueError("Reshape: got no sizes, needs the shape of one sample, as in Reshape(7, 7, 64)")
        self.shape = tuple(checks.integer("Reshape", "a size", n) for n in shape)

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        if prod(x.shape[1:]) != prod(self.shape):
            raise ValueError(
                f"{self}: x has shape {x.shape}, {prod(x.shape[1:])} elements per sample, needs {prod(self.shape)}"
            )
        y = x.reshape(len(x), *self.shape)
        return y, self.pullback(y, dx=lambda dy: dy.reshape(x.shape))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """Linear: u is t in y's shape, dt is du in x's."""
        return self.linear_jvp(x, t)

    def __repr__(self) -> str:
        return f"Reshape({', '.join(map(str, self.shape))})"
