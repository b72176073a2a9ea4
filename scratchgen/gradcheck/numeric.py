"""Derivatives by central differences, with an estimate of their own rounding error and a test for kinks.

For L(x) = ⟨dy, y(x)⟩ along a direction u, (L(x + hu) − L(x − hu)) / 2h is off by h²/6 |L‴| from cutting Taylor's
series and by about ε |L| / h from rounding. Their sum is least near h = ε^(1/3) ≈ 6e-6, where it is about 1e-10.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EPS = float(np.finfo(np.float64).eps)
STEP = 6e-6  # ε^(1/3)


@dataclass(frozen=True)
class Derivative:
    """Of t ↦ L(x + tu) at t = 0: the central difference, and how far the one-sided ones differ.

    `jump` is Σ |dy · (right − left)| over the one-sided derivatives of every number of y: in proportion to h where y
    is smooth, the same for every h on a kink.
    """

    central: float
    jump: float


class Line:
    """L = ⟨dy, y⟩ along lines through a point: `evaluate(array)` gives y with `array` in the place of x."""

    def __init__(self, evaluate: Callable, x: np.ndarray, y: np.ndarray, dy: np.ndarray):
        self.evaluate, self.x, self.y, self.dy = evaluate, x, y, dy
        # A step is 6e-6 · max(1, |x|): where x is large, its own rounding asks for more.
        self.scale = np.maximum(1, np.abs(x))

    def derivative(self, u: np.ndarray, h: float = STEP) -> Derivative:
        """Differences of y are taken before the inner product with dy: they are small, so little is rounded away."""
        ahead, behind = self.x + h * u, self.x - h * u
        y_ahead, y_behind = self.evaluate(ahead), self.evaluate(behind)
        # The steps really taken, after rounding of x ± hu, measured where u is largest.
        at = np.unravel_index(np.argmax(np.abs(u)), u.shape)
        forth, back = (ahead[at] - self.x[at]) / u[at], (self.x[at] - behind[at]) / u[at]
        right, left = self.dy * (y_ahead - self.y) / forth, self.dy * (self.y - y_behind) / back
        return Derivative(
            central=float(np.sum(self.dy * (y_ahead - y_behind))) / (forth + back),
            jump=float(np.sum(np.abs(right - left))),
        )

    def noise(self, h: float = STEP) -> float:
        """About how far rounding alone puts a central difference off."""
        return 4 * EPS * float(np.linalg.norm(self.dy * self.y)) / h

    def refined(self, u: np.ndarray, analytic: float, found: Derivative, size: float, tolerance: float):
        """A second look at a difference from the analytic value, with smaller steps: (verdict, central difference).

        "right": the difference goes away with h, in proportion: L bends sharply. "beside": it goes away at once, when
        the step no longer reaches over a kink beside x. "kink": it stays, as does the jump, since x lies on a kink.
        "WRONG": it stays, and there is no kink.
        """
        before, on_kink = found, False
        for shrink in (8, 64, 512, 4096, 8**5, 8**6):
            noise = self.noise(STEP / shrink)
            if 4 * noise > 10 * tolerance * size:
                break  # from here on rounding would excuse too much
            closer = self.derivative(u, STEP / shrink)
            if abs(analytic - closer.central) <= tolerance * size + 4 * noise:
                in_proportion = found.jump / 3 < closer.jump * shrink < found.jump * 3
                return "right" if in_proportion else "beside", closer.central
            on_kink = closer.jump > before.jump / 2 and closer.jump > 100 * noise
            before = closer
        return "kink" if on_kink else "WRONG", found.central
