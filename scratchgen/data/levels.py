"""Levels of more than 8 bits, or of floating point, brought to 0 … 255 by the range that a whole data set uses.

A file of 16 bits does not say how many of them its camera filled, nor a floating-point one what is white. Each
picture by itself cannot tell either: its brightest pixel may be grey. So the range is that of all of them together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.tally import listed

DEPTHS = (1, 8, 10, 12, 14, 16)  # bits that sensors and programs fill
BEYOND = 0.1  # of the range: what resampling overshoots, in floating-point pictures
EVEN = 16  # of 255: a picture whose levels have a smaller standard deviation shows next to nothing
MANY = 0.1  # of the pictures
LOOKED_AT = 500  # pictures


class Range(NamedTuple):
    """The levels that become 0 and 255, and in words why these."""

    black: float
    white: float
    why: str

    def eight_bit(self, levels: NDArray) -> NDArray[np.uint8]:
        """The levels as 0 … 255, of any shape: what lies beyond the range is cut off, NaN becomes black."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinities stay so, and are cut off
            scaled = (levels - np.float64(self.black)) * (255 / (self.white - self.black))
        return np.rint(np.nan_to_num(np.clip(scaled, 0, 255), copy=False, nan=0.0)).astype(np.uint8)


class Levels:
    """What range a data set uses: `add` each picture's levels, then ask for the `range` of all."""

    def __init__(self, floating: bool) -> None:
        self.floating = floating
        self.low, self.high = np.inf, -np.inf
        self.names: set[str] = set()
        self.highest = ""  # the name of the picture that reaches `high`
        self.unusable: set[str] = set()  # names of pictures with levels that are NaN or infinite

    def add(self, name: str, levels: NDArray) -> None:
        """Take the levels of a picture, or of a part of it, into account; once more changes nothing."""
        self.names.add(name)
        if self.floating:
            finite = np.isfinite(levels)
            if not finite.all():
                self.unusable.add(name)
                levels = levels[finite]
        if levels.size == 0:
            return
        if levels.max() > self.high:
            self.high, self.highest = float(levels.max()), name
        self.low = min(self.low, float(levels.min()))

    @property
    def range(self) -> Range:
        """The range of all levels so far."""
        low, high = (self.low, self.high) if self.low <= self.high else (0.0, 0.0)
        return _of_floats(low, high) if self.floating else _of_integers(low, high)

    def sentence(self, subject: str) -> str:
        """What the levels that are the `subject` were, and what was made of them."""
        if self.low > self.high:
            return f"{subject} none of which is finite: all is black."
        black, white, why = self.range
        found = f"{subject} from {_text(self.low)} to {_text(self.high)}"
        if len(self.names) > 1:
            found += f" (the highest in {self.highest})"
        cut = ", what lies beyond is cut off" if self.low < black or self.high > white else ""
        found += f": {why} {_text(black)} becomes black and {_text(white)} white{cut}"
        if self.unusable:
            found += f"; NaN becomes black (in {listed(sorted(self.unusable))})"
        return f"{found}."


def _of_integers(low: float, high: float) -> Range:
    for bits in DEPTHS if low >= 0 else ():
        if high < 2**bits:
            return Range(0, 2**bits - 1, f"taken for {bits} bits," if bits > 1 else "taken for 1 bit,")
    return _own(low, high)


def _of_floats(low: float, high: float) -> Range:
    tops = (1, *(2**bits - 1 for bits in DEPTHS if bits > 1))
    top = next((top for top in tops if high <= (1 + BEYOND) * top), None)
    if top == 255 and high < 255 / 32:  # 0 … 1 it is not, and 0 … 255 would leave 5 bits of 8 unused
        top = None
    if top and low >= -BEYOND * top:
        return Range(0, top, f"taken for 0 … {top:,},")
    for half in (0.5, 1):
        if max(-low, high) <= (1 + BEYOND) * half:
            return Range(-half, half, f"taken for -{half} … {half},")
    return _own(low, high)


def _own(low: float, high: float) -> Range:
    """No range that is usual: black is 0, or the lowest level if there are any below, and white the highest."""
    black = min(0.0, low)
    return Range(black, high if high > black else black + 1, "no usual range, so")


def _text(level: float) -> str:
    return f"{level:,.0f}" if float(level).is_integer() and abs(level) < 1e9 else f"{level:.4g}"


def even(*parts: NDArray[np.uint8]) -> str:
    """A sentence where many of the pictures `(N, H, W, C)` use so little of 0 … 255 that they look even, else ""."""
    total = sum(map(len, parts))
    step = max(1, -(-total // LOOKED_AT))
    looked = [picture for part in parts for picture in part[::step]]
    flat = np.array([picture.mean() for picture in looked if picture.std() < EVEN])
    if len(flat) < max(1, MANY * len(looked)):
        return ""
    about = "black" if np.median(flat) < 32 else "white" if np.median(flat) > 223 else "even grey"
    return (
        f"{len(flat):,} of {len(looked):,} pictures {'looked at ' if step > 1 else ''}are nearly {about}: their "
        f"levels differ by less than {EVEN} of 255 (standard deviation); if the originals do not look so, bring "
        "their levels to the full range first."
    )
