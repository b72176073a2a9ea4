"""Dropout."""

from __future__ import annotations

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, backend_of, transfer
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.random import Random
from scratchgen.layers.tangent import TwoPullbacks


class Dropout(Random):
    """Sets each element to 0 with probability `rate`, and makes up for it by scaling the others.

        y = x · mask,   mask = 1 / (1 − rate) with probability 1 − rate, else 0       any shape with a batch axis

    The scale keeps the mean, E[y] = x (1 − rate) / (1 − rate) = x, so that `predict` has nothing to do: it is the
    identity. For the mask that was drawn y is linear in x, element by element, so ∂y/∂x = mask:

        dx = dy · mask                             the same mask, its scale included

    Each forward pass draws a mask of its own, from `rng` as `Random` says. ValueError unless 0 ≤ rate < 1.
    (Srivastava et al. 2014, who scale the weights for predicting instead; this form is called inverted dropout.)

    Chapter: demos/book/03-activations.md
    """

    def __init__(self, rate: float = 0.5, *, rng: np.random.Generator | None = None):
        super().__init__(rng)
        self.rate = checks.real(
            "Dropout", "rate", rate, lambda x: 0 <= float(np.float32(x)) < 1, "a number ≥ 0 and below 1"
        )

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        kept = np.greater_equal(self.draw().random(x.shape, np.float32), self.rate)  # the same for either float type
        mask = transfer(kept, backend_of(x)).astype(x.dtype) * (1 / (1 - self.rate))
        return x * mask, self.pullback(x, dx=lambda dy: dy * mask)

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """Linear for the mask drawn: u = t · mask, dt = du · mask."""
        return self.linear_jvp(x, t)

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"
