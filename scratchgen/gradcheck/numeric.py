"""Slopes by central differences, each with a bound on its own error.

For L(t) = ⟨dy, y(x + tu)⟩ the central difference D(h) = (L(h) − L(−h)) / 2h is off, to first order, by

    truncation   h²/6 L‴              shown by another step: D(h) − D(rh) is 6 times that of D(rh), for r = 0.38
    rounding     ε |L| / h, about     measured, see `rounding_of` and `Line.scatter`
    a kink       half of the jump between the slopes on either side, shown by the bend, see `Line.estimate`

Truncation and rounding together are least near h = ε^(1/3) ≈ 6e-6, where they are about 1e-10. A difference from the
backward decides only where all three are far below the tolerance; where they are not, other steps are tried, as
`judge.py` has it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scratchgen.backend import Array

EPS = float(np.finfo(np.float64).eps)
STEP = 6e-6  # ε^(1/3)
LONGEST = 8.0**6 * STEP  # 1.6: x moves by its own size
SHIFTS = (0.11, 0.23, 0.37, 0.47)  # of a step
RATIO = 0.381966  # of two steps: no fraction, or values that are rounded coarsely would agree by chance


def scale_of(x: Array) -> Array:
    """The unit in which each element of x is moved: its own size, but at least the median of all that are not 0; 1
    where all are."""
    others = np.abs(x[x != 0])
    return np.maximum(np.abs(x), np.median(others) if others.size else 1.0)


def perturbed(array: Array, rng: np.random.Generator) -> Array:
    """The array with its last bits drawn anew: every element × (1 + r), r uniform in ±8 ε."""
    return array * (1 + rng.uniform(-8 * EPS, 8 * EPS, array.shape))


@dataclass(frozen=True)
class Probe:
    """A direction u to move along; `weight` is divided out of the slope, `at` is where u is largest.

    `single`: u moves one element of x only, the one at `at`.
    """

    u: Array
    weight: float
    at: tuple[int, ...]
    single: bool

    @classmethod
    def coordinate(cls, scale: Array, index: tuple[int, ...]) -> "Probe":
        """One element of x, by a step of its own scale, which is divided out again."""
        u = np.zeros(scale.shape)
        u[index] = scale[index]
        return cls(u, float(scale[index]), index, single=True)

    @classmethod
    def direction(cls, u: Array) -> "Probe":
        at = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(u)), u.shape))
        return cls(u, 1.0, at, single=False)

    def along(self, gradient: Array) -> float:
        """The slope along u that a gradient gives."""
        return float(gradient[self.at] if self.single else np.sum(gradient * self.u))


@dataclass(frozen=True)
class Estimate:
    """A slope, a bound on its error, and the part of the bound that only a kink accounts for.

    `moved` tells which elements of y changed, `least` by how much at least. Of those that did not, rounding may have
    swallowed the change.
    """

    slope: float
    error: float
    bend: float
    moved: Array
    least: float

    @property
    def still(self) -> bool:
        return not self.moved.any()

    def hides(self, larger: "Estimate") -> bool:
        """Whether elements of y stand still here and move with a larger step."""
        return bool((larger.moved & ~self.moved).any())


class Line:
    """L = ⟨dy, y⟩ along lines through x: `evaluate(array)` gives y with `array` in the place of x.

    `scale` has the unit of each element of x (see `scale_of`), `noise` is how far rounding may put L off.
    """

    def __init__(self, evaluate: Callable[[Array], Array], x: Array, scale: Array, y: Array, dy: Array, noise: float):
        self.evaluate, self.x, self.scale, self.y, self.dy, self.noise = evaluate, x, scale, y, dy, noise

    def rounding(self, probe: Probe, h: float) -> float:
        """About how far rounding alone puts a slope off."""
        return self.noise / (h * probe.weight)

    def step(self, probe: Probe, allowed: float) -> float:
        """6e-6, or as much longer as it takes until rounding puts the slope off by less than is allowed."""
        h = STEP
        while self.rounding(probe, h) > allowed and h < LONGEST:
            h *= 8
        return h

    def slope(self, probe: Probe, h: float = STEP) -> float:
        """The central difference, NaN where y cannot be computed on both sides."""
        try:
            return self._central(probe, *self._sides(probe, h))
        except Exception:  # whatever the target raises outside of its domain
            return float("nan")

    def estimate(self, probe: Probe, h: float) -> Estimate | None:
        """D(rh), and what D(h) and the slopes on either side say of its error; None outside of the domain.

        With s(h) = right − left slope of an element of y, the bend (s(rh)/r − s(h)) / (1/r − 1) is O(h³) where y is
        smooth, since s(h) = h y″ + O(h³), and it is the whole jump of the slope where x lies on a kink. Bends are
        added up in absolute value, over dy, without what rounding of y makes of them.
        """
        try:
            wide, narrow = (self._sides(probe, step) for step in (h, RATIO * h))
        except Exception:
            return None
        slope = self._central(probe, *narrow)
        s, s_narrow = (
            (ahead - self.y) / forth - (self.y - behind) / back for ahead, behind, forth, back in (wide, narrow)
        )
        bends = np.abs(s_narrow / RATIO - s) / (1 / RATIO - 1) - 16 * EPS / h * np.abs(self.y)
        bend = float(np.sum(np.abs(self.dy) * np.maximum(bends, 0))) / probe.weight
        steps = 0.0 if probe.single else abs(slope) * EPS / h  # elements of x ± hu are rounded, each in its own way
        error = abs(self._central(probe, *wide) - slope) + bend + self.rounding(probe, h) + steps
        changes = np.maximum(np.abs(narrow[0] - self.y), np.abs(narrow[1] - self.y))
        least = float(changes[changes > 0].min(initial=np.inf))
        return Estimate(slope, error, bend, changes > 0, least) if np.isfinite(error) else None

    def scatter(self, probe: Probe, h: float) -> float:
        """How far apart slopes of the same step lie around x, once their trend is taken out: the mean of D at x + δu
        and x − δu less D at x is δ² L‴ / 2 where y is smooth, a part of the truncation, and otherwise rounding."""

        def around(shift: float) -> float:
            x = self.x + shift * h * probe.u
            return Line(self.evaluate, x, self.scale, self.y, self.dy, self.noise).slope(probe, h)

        usual = around(0)
        apart = [abs((around(shift) + around(-shift)) / 2 - usual) for shift in SHIFTS]
        return max((a for a in apart if np.isfinite(a)), default=0.0)

    def _sides(self, probe: Probe, h: float) -> tuple[Array, Array, float, float]:
        """y ahead and behind, and the steps that were taken once x ± hu was rounded, measured where u is largest."""
        ahead, behind = self.x + h * probe.u, self.x - h * probe.u
        x, u = self.x[probe.at], probe.u[probe.at]
        return self.evaluate(ahead), self.evaluate(behind), (ahead[probe.at] - x) / u, (x - behind[probe.at]) / u

    def _central(self, probe: Probe, ahead: Array, behind: Array, forth: float, back: float) -> float:
        # Differences of y are taken before the inner product with dy: they are small, so little is rounded away.
        return float(np.sum(self.dy * (ahead - behind))) / ((forth + back) * probe.weight)


SMALL = (1e-10, 1e-10 / 8)


def rounding_of(line: Line, rng: np.random.Generator) -> float:
    """How far rounding may put L off: 4 times the larger of two measures.

    Every element of y is rounded, by ε |y|. But on the way there may have been far larger ones, as in log Σ eˣ − x.
    What they lost is seen in second differences d(h) = y(x + hu) − 2 y + y(x − hu) of steps so small that y″ has no
    part in them: without rounding d(h) − 8 d(h/8) would be 0 where y is smooth, and on a kink as well, since d is in
    proportion to h there. It adds up √6 · √65 ≈ 20 roundings.
    """
    lost = [EPS * float(np.linalg.norm(line.dy * line.y))]
    for _ in range(1 if line.y.size >= 16 else 2):
        u = line.scale * rng.standard_normal(line.x.shape)
        try:
            far, near = (line.evaluate(line.x + h * u) - 2 * line.y + line.evaluate(line.x - h * u) for h in SMALL)
        except Exception:  # x lies at the border of the domain
            continue
        rest = line.dy * (far - 8 * near)
        lost.append(float(np.linalg.norm(rest[np.isfinite(rest)])) / 20)
    return 4 * max(lost)
