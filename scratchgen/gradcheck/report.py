"""What a check found, as data and as a table."""

from dataclasses import dataclass, field

import numpy as np

from scratchgen.table import text_table

HEAD = ("gradient", "shape", "checked", "rel. error", "at", "analytic", "numeric", "cosine", "ratio", "verdict")


@dataclass
class TensorReport:
    """One gradient beside its numerical value.

    `error` is the largest |analytic − numeric| / max(|analytic|, |numeric|, floor), where the floor is 1 % of the
    tensor's largest gradient, a millionth of the largest of all, or what rounding hides, whichever is most; `index`
    is where. `cosine` and `norm_ratio` compare the two as vectors, over all that was checked; `kinks` counts probes
    on a kink or stepping over one. `verdict` is "right"; "kink": the point lies on one, and right beside it; "WRONG";
    or "UNPROVED": neither, since no step of the difference is precise enough.
    """

    name: str
    shape: tuple[int, ...]
    checked: str = ""
    error: float = 0.0
    index: tuple[int, ...] | str = ()
    analytic: float = float("nan")
    numeric: float = float("nan")
    cosine: float = float("nan")
    norm_ratio: float = float("nan")
    kinks: int = 0
    verdict: str = "right"
    hint: str = ""

    @property
    def ok(self) -> bool:
        return self.verdict in ("right", "kink")


@dataclass
class Report:
    """All gradients of one layer or function.

    `faults` are breaches of the contract beside the gradients; `points` says where gradients were checked besides the
    values given.
    """

    name: str
    tensors: list[TensorReport] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """WRONG if a gradient is, or the contract is broken; UNPROVED if a gradient is neither wrong nor right, or
        something was not checked; right if every gradient is.
        """
        if self.faults or any(t.verdict == "WRONG" for t in self.tensors):
            return "WRONG"
        return "right" if self.tensors and not self.unchecked and all(t.ok for t in self.tensors) else "UNPROVED"

    @property
    def ok(self) -> bool:
        """True when there are gradients, every one is right, and the contract is kept."""
        return self.verdict == "right"

    @property
    def error(self) -> float:
        """The largest relative error of all gradients."""
        return max((t.error for t in self.tensors), default=0.0)

    def __str__(self) -> str:
        rows = [
            (
                t.name,
                _shape(t.shape),
                t.checked,
                f"{t.error:.1e}",
                t.index if isinstance(t.index, str) else _shape(t.index),
                _number(t.analytic),
                _number(t.numeric),
                _cosine(t.cosine),
                _number(t.norm_ratio),
                t.verdict,
            )
            for t in self.tensors
        ]
        lines = [self.name, *(f"  {line}" for line in text_table(HEAD, rows, left=range(len(HEAD))) if rows)]
        lines += [f"  {t.name}: {t.hint}" for t in self.tensors if t.hint]
        lines += [f"  FAULT: {fault}" for fault in self.faults]
        lines += [f"  NOT CHECKED: {what}" for what in self.unchecked]
        lines += [f"  note: {note}" for note in self.notes]
        if self.points:
            lines.append(f"  checked also with {', '.join(self.points)}")
        return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.5g}"


def _cosine(value: float) -> str:
    """Digits enough to see how far from 1 it is."""
    return "–" if np.isnan(value) else f"{value:.6f}"
