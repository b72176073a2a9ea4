"""What the check of an objective found, as data and as a table."""

from dataclasses import dataclass, field

from scratchgen.book import chapter_about, page
from scratchgen.table import text_table


@dataclass(frozen=True)
class Finding:
    """One property of an objective: what was expected, what came, and, where these differ, what that means.

    `verdict` is "right" or "WRONG". `says` is a sentence on what is wrong, "" where nothing is, and `why` says why it
    matters.
    """

    check: str
    expected: str
    found: str
    says: str = ""
    why: str = ""

    @property
    def verdict(self) -> str:
        return "WRONG" if self.says else "right"

    def __str__(self) -> str:
        if not self.says:
            return f"{self.check}: right"
        return f"{self.check}: expected {self.expected}, found {self.found}: {self.says}. {self.why}"


@dataclass
class ObjectiveReport:
    """All that was looked at of one model's objective.

    `notes` say what could not be checked because the model does not have it; `unchecked` what should have been and
    could not be.
    """

    name: str
    checks: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """What is wrong."""
        return [c for c in self.checks if c.says]

    @property
    def verdict(self) -> str:
        """WRONG if anything is; UNPROVED if something could not be checked; right otherwise."""
        if self.findings:
            return "WRONG"
        return "UNPROVED" if self.unchecked or not self.checks else "right"

    @property
    def ok(self) -> bool:
        """True when everything was checked and is right."""
        return self.verdict == "right"

    def __str__(self) -> str:
        rows = [(c.check, c.expected, c.found, c.verdict) for c in self.checks]
        head = ("objective", "expected", "found", "verdict")
        lines = [self.name, *(f"  {line}" for line in text_table(head, rows, left=range(4)) if rows)]
        for c in self.findings:
            lines += [f"  {c.check}: {c.says}.", f"    {c.why}"]
        lines += [f"  NOT CHECKED: {what}" for what in self.unchecked]
        lines += [f"  note: {note}" for note in self.notes]
        if self.findings:
            lines.append(f"  read: {page(chapter_about(self.name, otherwise='09-gradient-check'))}")
        return "\n".join(lines)


def figure(value: float) -> str:
    """A figure as the table shows it."""
    return f"{value:.5g}"
