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
    """Of t ↦ L(x + tu) at t = 0: the central difference, and the two one-sided ones."""

    central: float
    right: float
    left: float

    @property
    def jump(self) -> float:
        """|right − left|: about h |L″| where L is smooth, independent of h at a kink."""
        return abs(self.right - self.left)


class Line:
    """L = ⟨dy, y⟩ along lines through a point: `evaluate(array)` gives y with `array` in the place of x."""

    def __init__(self, evaluate: Callable, x: np.ndarray, y: np.ndarray, dy: np.ndarray):
        self.evaluate, self.x, self.y, self.dy = evaluate, x, y, dy

    def step(self, u: np.ndarray) -> float:
        """h = 6e-6 · max(1, |x|), where |x| is the largest number that moves."""
        return STEP * max(1.0, float(np.abs(self.x[u != 0]).max(initial=0)))

    def derivative(self, u: np.ndarray, h: float) -> Derivative:
        """Differences of y are taken before the inner product with dy: they are small, so little is rounded away."""
        ahead, behind = self.x + h * u, self.x - h * u
        y_ahead, y_behind = self.evaluate(ahead), self.evaluate(behind)
        # The steps really taken, after rounding of x ± hu, measured where u is largest.
        at = np.unravel_index(np.argmax(np.abs(u)), u.shape)
        forth, back = (ahead[at] - self.x[at]) / u[at], (self.x[at] - behind[at]) / u[at]
        return Derivative(
            central=self._inner(y_ahead - y_behind) / (forth + back),
            right=self._inner(y_ahead - self.y) / forth,
            left=self._inner(self.y - y_behind) / back,
        )

    def noise(self, h: float) -> float:
        """About how far rounding alone puts a central difference off."""
        return 4 * EPS * float(np.linalg.norm(self.dy * self.y)) / h

    def is_kink(self, u: np.ndarray, analytic: float, found: Derivative, floor: float, tolerance: float) -> bool:
        """Whether a kink within h explains that the analytic derivative differs from the central difference.

        A kink keeps its jump when h shrinks; a smooth function's shrinks along. Beside the kink a smaller step agrees
        with the analytic value; on it, any value from the left to the right derivative is a subgradient.
        """
        h = self.step(u)
        if found.jump < abs(analytic - found.central) or found.jump < 100 * self.noise(h):
            return False
        for smaller in (h / 8, h / 64):
            closer = self.derivative(u, smaller)
            slack = 10 * tolerance * floor + 4 * self.noise(smaller)
            if abs(analytic - closer.central) <= slack:
                return True
            if closer.jump > found.jump / 2:  # still there
                low, high = sorted((closer.left, closer.right))
                if low - slack <= analytic <= high + slack:
                    return True
        return False

    def _inner(self, change) -> float:
        return float(np.sum(self.dy * change))
