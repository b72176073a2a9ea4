"""Derivatives by central differences, each with a bound on its own error.

For L(t) = ⟨dy, y(x + tu)⟩ the central difference D(h) = (L(h) − L(−h)) / 2h is off, to first order, by

    truncation   h²/6 L‴                                    shown by D(h) − D(h/2), which is 3/4 of it
    rounding     ε |L| / h, about                           measured, see `rounding`
    a kink       (right − left) / 2, the one-sided slopes   shown by the bend, see `Line.look`

Truncation and rounding together are least near h = ε^(1/3) ≈ 6e-6, where they are about 1e-10. A difference from the
backward decides only where all three are far below the tolerance; where they are not, another step is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EPS = float(np.finfo(np.float64).eps)
STEP = 6e-6  # ε^(1/3)
RATIO = 0.381966  # of two steps: no fraction, or values that are rounded coarsely would agree by chance
CLOSER, FARTHER = 6, 6  # how often the step may be divided by 8, or multiplied: from 2e-11 to 1.6


def scale_of(x: np.ndarray) -> np.ndarray:
    """The size by which each number is measured: its own, but at least that of half the others; 1 beside zeros."""
    others = np.abs(x[x != 0])
    return np.maximum(np.abs(x), np.median(others) if others.size else 1.0)


def stirred(array: np.ndarray, rng: np.random.Generator, size: float = 8 * EPS) -> np.ndarray:
    """The array with its last bits drawn anew: every number × (1 + r), r uniform in ±size."""
    return array * (1 + rng.uniform(-size, size, array.shape))


@dataclass(frozen=True)
class Probe:
    """A direction u to move along; `weight` is divided out of the slope, `at` is where u is largest.

    `single`: u moves one number of x only, the one at `at`.
    """

    u: np.ndarray
    weight: float
    at: tuple[int, ...]
    single: bool

    @classmethod
    def coordinate(cls, scale: np.ndarray, index: tuple[int, ...]) -> "Probe":
        """One number of x, by a step of its own scale, which is divided out again."""
        u = np.zeros(scale.shape)
        u[index] = scale[index]
        return cls(u, float(scale[index]), index, single=True)

    @classmethod
    def direction(cls, u: np.ndarray) -> "Probe":
        at = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(u)), u.shape))
        return cls(u, 1.0, at, single=False)

    def along(self, gradient: np.ndarray) -> float:
        """The slope that a gradient stands for."""
        return float(gradient[self.at] if self.single else np.sum(gradient * self.u))


@dataclass(frozen=True)
class Look:
    """A slope, a bound on its error, and the part of the bound that only a kink accounts for.

    `still`: not a single number of y changed, which may be so since rounding swallowed the change.
    """

    slope: float
    error: float
    bend: float
    still: bool


class Line:
    """L = ⟨dy, y⟩ along lines through x: `evaluate(array)` gives y with `array` in the place of x.

    `scale` is the size by which each number of x is measured, `noise` how far rounding may put L off.
    """

    def __init__(
        self, evaluate: Callable, x: np.ndarray, scale: np.ndarray, y: np.ndarray, dy: np.ndarray, noise: float
    ):
        self.evaluate, self.x, self.scale, self.y, self.dy, self.noise = evaluate, x, scale, y, dy, noise

    def rounding(self, probe: Probe, h: float) -> float:
        """About how far rounding alone puts a slope off."""
        return self.noise / (h * probe.weight)

    def step(self, probe: Probe, allowed: float) -> float:
        """6e-6, or as much longer as it takes until rounding puts the slope off by less than is allowed."""
        h = STEP
        while self.rounding(probe, h) > allowed and h < 8.0**FARTHER * STEP:
            h *= 8
        return h

    def slope(self, probe: Probe, h: float = STEP) -> float:
        """The central difference, NaN where y cannot be had on both sides."""
        try:
            ahead, behind, forth, back = self._sides(probe, h)
        except Exception:  # whatever the target raises outside of its domain
            return float("nan")
        # Differences of y are taken before the inner product with dy: they are small, so little is rounded away.
        return float(np.sum(self.dy * (ahead - behind))) / ((forth + back) * probe.weight)

    def look(self, probe: Probe, h: float) -> Look | None:
        """D(rh), r = 0.38, and what its neighbour D(h) and the one-sided slopes say of its error; None outside of the
        domain.

        With s(h) = right − left slope of a number of y, the bend (s(rh)/r − s(h)) / (1/r − 1) is O(h³) where y is
        smooth, since s(h) = h y″ + O(h³), and it is the whole jump of the slope where x lies on a kink. Bends are
        added up in absolute value, over dy, without what rounding of y makes of them.
        """
        try:
            sides = [self._sides(probe, step) for step in (h, RATIO * h)]
        except Exception:
            return None
        wide, narrow = (
            float(np.sum(self.dy * (ahead - behind))) / ((forth + back) * probe.weight)
            for ahead, behind, forth, back in sides
        )
        s, s_narrow = ((ahead - self.y) / forth - (self.y - behind) / back for ahead, behind, forth, back in sides)
        bends = np.abs(s_narrow / RATIO - s) / (1 / RATIO - 1) - 16 * EPS / h * np.abs(self.y)
        bend = float(np.sum(np.abs(self.dy) * np.maximum(bends, 0))) / probe.weight
        steps = 0.0 if probe.single else abs(narrow) * EPS / h  # those of the other numbers, as x ± hu is rounded
        error = abs(wide - narrow) + bend + self.rounding(probe, h) + steps
        still = all(np.array_equal(side, self.y) for ahead, behind, *_ in sides for side in (ahead, behind))
        return Look(narrow, error, bend, still) if np.isfinite(error) else None

    def judge(self, probe: Probe, analytic: float, allowed: float, bearable: float, quick: bool = False):
        """Whether the slope is `analytic`, up to `allowed`: (verdict, slope, bound on its error).

        Steps are tried, smaller ones for kinks and sharp bends, larger ones for rounding, until one has an error far
        below what is allowed. As long as a difference may come from the error of the slope, nothing is called wrong.

        "right"; "beside": right as soon as the step does not reach over a kink any more; "WRONG"; "kink": x lies on
        one, as far as can be seen; "UNPROVED": no step is precise enough, not even up to a `bearable` error. `quick`
        calls a difference wrong by one step.
        """
        looks: dict[int, Look] = {}  # by k, for the step 8^k · STEP

        def seen(k):
            look = looks.get(k) or self.look(probe, 8.0**k * STEP)
            if look is not None:
                looks[k] = look
            return look is not None

        def error(k):
            """The bound on an error, borne out by other steps: an error can look small by chance.

            Rounding puts a slope off by 8 times as much in the next smaller step. And where two steps differ by more
            than the error of the smaller one, the larger is wrong; or the smaller one, if y stood still there.
            """
            by_rounding = [look.error * 8.0 ** (j - k) for j, look in looks.items() if j < k]
            trusted = [j for j in looks if (j > k if looks[k].still else j < k) and not looks[j].still]
            contradiction = [abs(looks[k].slope - looks[j].slope) - looks[j].error for j in trusted]
            return max([looks[k].error, *by_rounding, *contradiction])

        def off(k):
            return abs(analytic - looks[k].slope)

        def excluded(k):
            """Whether every step that would show the difference does: a sharp bend may hide between two of them.

            These are the smaller ones, as far down as rounding lets it be seen; and where y stands still, larger
            ones, which have to tell whether it is constant or its change was swallowed.
            """
            if quick:
                return True
            if any(off(j) <= allowed and look.error <= bearable for j, look in looks.items()):
                return False  # so close an agreement is no chance: it is rounding that spoils the other steps
            if looks[k].still:
                moving = (j for j in range(k + 1, 5) if seen(j) and not looks[j].still)
                return all(off(j) > looks[j].error for j in [*moving][:1])
            smaller = [j for j in range(self._smallest(probe, k, off(k) / 8), k) if seen(j)]
            return all(looks[j].still or off(j) > looks[j].error for j in smaller)

        def found(verdict, k):
            return verdict, looks[k].slope, error(k)

        for k in self._order(probe, allowed, bearable):
            if not seen(k):
                continue
            if error(k) <= allowed / 4 and off(k) <= allowed:
                return found("beside" if _suddenly(looks, k) else "right", k)
            if error(k) <= allowed / 4 and excluded(k) and error(k) <= allowed / 4:
                return found("WRONG", k)
            if {k, k + 1, k + 2} <= looks.keys() and self._on_kink(probe, looks):
                return found("kink", k)
        if not looks:
            return "UNPROVED", float("nan"), float("inf")
        best = min(looks, key=error)
        if self._on_kink(probe, looks):
            return found("kink", best)
        if off(best) > allowed + 2 * error(best) and excluded(best) and off(best) > allowed + 2 * error(best):
            return found("WRONG", best)
        if error(best) <= bearable:
            return found("beside" if _suddenly(looks, best) else "right", best)
        return found("UNPROVED", best)

    def _order(self, probe, allowed, bearable) -> list[int]:
        """The steps to try, as powers of 8: away from what limits the usual one, then the other way."""
        smaller = list(range(-1, self._smallest(probe, 0, bearable / 4) - 1, -1))
        larger = list(range(1, FARTHER + 1))
        return [0, *larger, *smaller] if self.rounding(probe, STEP) > allowed / 4 else [0, *smaller, *larger]

    def _smallest(self, probe, k: int, most: float) -> int:
        """The smallest step below 8^k · STEP at which rounding puts the slope off by no more than `most`; at least
        the next one."""
        j = k - 1
        while j > -CLOSER and self.rounding(probe, 8.0 ** (j - 1) * STEP) <= most:
            j -= 1
        return j

    def _on_kink(self, probe, looks: dict[int, Look]) -> bool:
        """Whether the bend stays, however small the step."""
        last = sorted(looks)[:3]
        bends = [looks[k].bend for k in last]
        rounding = self.rounding(probe, 8.0 ** last[0] * STEP)
        return len(last) > 1 and max(bends) < 1.2 * min(bends) and min(bends) > 8 * rounding

    def _sides(self, probe, h):
        """y ahead and behind, and the steps that were taken once x ± hu was rounded, measured where u is largest."""
        ahead, behind = self.x + h * probe.u, self.x - h * probe.u
        x, u = self.x[probe.at], probe.u[probe.at]
        return self.evaluate(ahead), self.evaluate(behind), (ahead[probe.at] - x) / u, (x - behind[probe.at]) / u


def _suddenly(looks: dict[int, Look], k: int) -> bool:
    """Whether the error fell faster with the step than h², as it does where y is smooth."""
    return k < 0 and 0 in looks and 1e-3 * abs(looks[k].slope) < looks[0].error > 4 * 64.0**-k * looks[k].error
