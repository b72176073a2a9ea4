"""Which of many steps to believe, where the usual one leaves open whether a slope is right."""

from dataclasses import dataclass, field

import numpy as np

from scratchgen.gradcheck.numeric import STEP, Estimate, Line, Probe

CLOSER, FARTHER = 6, 6  # how often the step may be divided by 8, or multiplied: from 2e-11 to 1.6


@dataclass
class Judge:
    """Tells of one slope whether it is `analytic`, up to `allowed`.

    Steps are tried, smaller ones for kinks and sharp bends, larger ones for rounding, until one has an error far
    below what is allowed. As long as a difference may come from the error of the slope, nothing is called wrong. A
    step is called by k, for the length 8^k · 6e-6.

    `bearable` is the error of a slope up to which a gradient within it passes for right, where no step does better;
    `least` is by how much at least an element of y was seen to change, at whatever point;
    `quick` calls a difference wrong by one step.
    """

    line: Line
    probe: Probe
    analytic: float
    allowed: float
    bearable: float
    least: float = 0.0
    quick: bool = False
    estimates: dict[int, Estimate] = field(default_factory=dict)

    def verdict(self) -> tuple[str, float, float]:
        """(verdict, slope, bound on its error).

        "right"; "beside": right as soon as the step does not reach over a kink any more; "WRONG"; "kink": x lies on
        one, as far as can be seen; "UNPROVED": no step is precise enough.
        """
        for k in self._order():
            if not self._seen(k):
                continue
            if self._error(k) <= self.allowed / 4:
                if self._off(k) <= self.allowed:
                    return self._found("right", k)
                if self._is_confirmed(k) and self._error(k) <= self.allowed / 4:
                    return self._found("WRONG", k)
            if {k, k + 1, k + 2} <= self.estimates.keys() and self._is_kink():
                return self._found("kink", k)
        if not self.estimates:
            return "UNPROVED", float("nan"), float("inf")
        best = min(self.estimates, key=self._error)
        if self._is_kink():
            return self._found("kink", best)
        if self._differs(best):
            return self._found("WRONG" if self._is_confirmed(best) and self._differs(best) else "UNPROVED", best)
        return self._found("right" if self._error(best) <= self.bearable else "UNPROVED", best)

    def _found(self, verdict: str, k: int) -> tuple[str, float, float]:
        if verdict == "right" and self._is_beside_a_kink(k):
            verdict = "beside"
        return verdict, self.estimates[k].slope, self._error(k)

    def _order(self) -> list[int]:
        """The steps to try: away from what limits the usual one, then the other way."""
        smaller = list(range(-1, self._smallest(0, self.bearable / 4) - 1, -1))
        larger = list(range(1, FARTHER + 1))
        by_rounding = self._rounding(0) > self.allowed / 4
        return [0, *larger, *smaller] if by_rounding else [0, *smaller, *larger]

    def _seen(self, k: int) -> bool:
        """Whether the step can be used."""
        if k not in self.estimates:
            found = self.line.estimate(self.probe, 8.0**k * STEP)
            if found is None:
                return False
            self.estimates[k] = found
        return True

    def _off(self, k: int) -> float:
        return abs(self.analytic - self.estimates[k].slope)

    def _differs(self, k: int) -> bool:
        return self._off(k) > self.allowed + 2 * self._error(k)

    def _rounding(self, k: int) -> float:
        return self.line.rounding(self.probe, 8.0**k * STEP)

    def _error(self, k: int) -> float:
        """The bound on an error, borne out by the other steps seen: an error can look small by chance.

        Rounding puts a slope off by 8 times as much in the next smaller step. And where two steps differ by more than
        the error of the one, the other is wrong: the larger, unless the smaller hides a part of y.
        """
        this = self.estimates[k]
        by_rounding = [other.error * 8.0 ** (j - k) for j, other in self.estimates.items() if j < k]
        against = [o for j, o in self.estimates.items() if (j < k and not o.hides(this)) or (j > k and this.hides(o))]
        return max([this.error, *by_rounding, *(abs(this.slope - o.slope) - o.error for o in against)])

    def _smallest(self, k: int, most: float) -> int:
        """The smallest step, below k, at which rounding puts the slope off by no more than `most`; at least k − 1."""
        j = k - 1
        while j > -CLOSER and self._rounding(j - 1) <= most:
            j -= 1
        return j

    def _is_confirmed(self, k: int) -> bool:
        """Whether all steps that would show the difference do: a sharp bend may hide between two of them.

        These are the smaller ones, as far down as rounding lets it be seen; and where y stands still, the larger
        ones, which have to tell whether it is constant or its change was swallowed.
        """
        if self.quick:
            return True
        if any(self._off(j) <= self.allowed and other.error <= self.bearable for j, other in self.estimates.items()):
            return False  # so close an agreement is no chance: it is rounding that spoils the other steps
        this = self.estimates[k]
        larger = (j for j in range(k + 1, 5) if j in self.estimates or (this.still and self._seen(j)))
        moving = next((j for j in larger if this.hides(self.estimates[j])), None)
        if moving is not None and not self._stands_out(moving):
            return False
        if this.still:
            return moving is not None or self._would_be_seen()
        smaller = [j for j in range(self._smallest(k, self._off(k) / 8), k) if self._seen(j)]
        agree = all(self.estimates[j].hides(this) or self._off(j) > self.estimates[j].error for j in smaller)
        return agree and self._stands_out(k)

    def _would_be_seen(self) -> bool:
        """Whether y would change by more than its least change, if the gradient were right."""
        farthest = 8.0 ** max(self.estimates) * STEP * self.probe.weight
        return abs(self.analytic) * farthest >= 4 * self.least * np.abs(self.line.dy).max()

    def _stands_out(self, k: int) -> bool:
        """Whether the difference is beyond the error, and beyond what rounding makes of slopes around x."""
        scatter = self.line.scatter(self.probe, 8.0**k * STEP)
        return self._off(k) > max(self.estimates[k].error, self.allowed + 4 * scatter)

    def _is_kink(self) -> bool:
        """Whether the bend stays, however small the step."""
        last = sorted(self.estimates)[:3]
        bends = [self.estimates[k].bend for k in last]
        return len(last) > 1 and max(bends) < 1.2 * min(bends) and min(bends) > 8 * self._rounding(last[0])

    def _is_beside_a_kink(self, k: int) -> bool:
        """Whether the error fell faster with the step than h², as it does where y is smooth."""
        this, usual = self.estimates[k], self.estimates.get(0)
        return k < 0 and usual is not None and 1e-3 * abs(this.slope) < usual.error > 4 * 64.0**-k * this.error
