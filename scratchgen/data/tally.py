"""What was left out of a data set, or taken in part, in proportion: counts by kind, each with a few examples."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3  # examples of a kind
LONGEST = 160  # characters of an example, or of what a library says of a damaged file


class Tally:
    """Counts by kind, in the order in which the kinds came up."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: object = None, *, count: int = 1) -> None:
        """One more of a kind, or `count`."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        examples = self.examples.setdefault(kind, [])
        if example is not None and len(examples) < SHOWN:
            examples.append(short(example))

    def sentences(self) -> tuple[str, ...]:
        """One for each kind, as "2,000 left out: empty (a.png, b.png, c.png, …)."."""
        return tuple(f"{count:,} {kind}{self._shown(kind)}." for kind, count in self.counts.items())

    def _shown(self, kind: str) -> str:
        examples = self.examples[kind]
        more = [] if self.counts[kind] <= len(examples) else ["…"]
        return f" ({', '.join([*examples, *more])})" if examples else ""


def short(text: object) -> str:
    """The text in one line of at most LONGEST characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
