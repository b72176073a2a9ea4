"""Layers that draw at random, under the contract: a resumed run draws what it would have drawn, on any backend."""

from __future__ import annotations

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.layers.layer import Layer


class Random(Layer):
    """Draws anew in every forward pass, and is the identity in `predict`. Subclasses write `forward`, with `draw()`.

    What is drawn is a function of two whole numbers: `seed`, drawn from `rng` when the layer is made, and `passes`,
    the number of forward passes so far, which `draw` counts. Both are part of `state()`, so that a checkpoint holds
    them, and both stay on the host, where all is drawn. For what was drawn y is a function of x alone; backward is
    the pullback of that function. A gradient check evaluates it again and again with the same `passes`.

    Frozen or not makes no difference: there are no parameters. A copy of a layer draws what the original does.

    Chapter: demos/book/03-activations.md
    """

    counters = ("seed", "passes")

    def __init__(self, rng: np.random.Generator | None = None):
        self.seed = np.array(checks.generator(type(self).__name__, rng).integers(2**63))
        self.passes = np.array(0)

    def draw(self) -> np.random.Generator:
        """The generator of this forward pass: call it once, after `check_input`."""
        rng = np.random.default_rng((int(self.seed), int(self.passes)))
        self.passes = np.array(int(self.passes) + 1)
        return rng

    def predict(self, x: Array) -> Array:
        self.check_input(x, "N", ...)
        return x
