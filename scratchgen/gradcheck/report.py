"""What a check found, as data and as a table."""

from dataclasses import dataclass, field

import numpy as np

from scratchgen.book import chapter_about, page
from scratchgen.notebook import block, label, listed, table
from scratchgen.table import text_table

HEAD = ("gradient", "shape", "checked", "rel. error", "at", "analytic", "numeric", "cosine", "ratio", "verdict")
KINDS = {"right": "good", "kink": "good", "WRONG": "bad", "UNPROVED": "open"}  # of verdicts


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

    def cells(self) -> tuple[str, ...]:
        """A row below HEAD."""
        return (
            self.name,
            _shape(self.shape),
            self.checked,
            f"{self.error:.1e}",
            self.index if isinstance(self.index, str) else _shape(self.index),
            _number(self.analytic),
            _number(self.numeric),
            _cosine(self.cosine),
            _number(self.norm_ratio),
            self.verdict,
        )


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
        rows = text_table(HEAD, [t.cells() for t in self.tensors], left=range(len(HEAD))) if self.tensors else []
        return "\n".join([self.name, *(f"  {line}" for line in (*rows, *self.sentences()))])

    def sentences(self) -> list[str]:
        """What there is to say besides the figures."""
        said = [f"{t.name}: {t.hint}" for t in self.tensors if t.hint]
        said += [f"FAULT: {fault}" for fault in self.faults]
        said += [f"NOT CHECKED: {what}" for what in self.unchecked]
        said += [f"note: {note}" for note in self.notes]
        said += [f"checked also with {', '.join(self.points)}"] * bool(self.points)
        return said + [f"read: {page(self._chapter())}"] * (self.verdict == "WRONG")

    def _chapter(self) -> str:
        """That of the book which explains what is wrong: a gradient, or else the contract."""
        wrong = [t.hint for t in self.tensors if t.verdict == "WRONG"]
        return chapter_about(self.name, *wrong, otherwise="09-gradient-check" if wrong else "01-pullback")

    def _repr_html_(self) -> str:
        """For a notebook: the same table and sentences."""
        rows = [(*t.cells()[:-1], label(t.verdict, KINDS[t.verdict])) for t in self.tensors]
        found = label(self.verdict, KINDS[self.verdict])
        return block(self.name, table(HEAD, rows) if rows else "", listed(self.sentences()), about=found)


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.5g}"


def _cosine(value: float) -> str:
    """Digits enough to see how far from 1 it is."""
    return "–" if np.isnan(value) else f"{value:.6f}"
