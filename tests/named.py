"""What the checker says of wrong gradients: does it name the cause?

    python tests/named.py           a line each, and the shares
    python tests/named.py --json    the same as data

Over the bugs of the gallery that a gradient check can see, and the wrong answers to exercises, files
exercises/NAME/wrong_*.py whose first line is `# cause: REGEX`. A hint that this regular expression matches names the
cause; one that says something else names it wrongly; figures alone, as "exactly 1.7 times", places alone, or nothing,
leave it unnamed.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np

from scratchgen.exercises.table import EXERCISES
from scratchgen.gradcheck import check
from scratchgen.gradcheck.check import HERE_ALONE
from scratchgen.gradcheck.gallery import BUGS, Bug
from scratchgen.table import text_table

WRONG_ANSWERS = Path(__file__).parent / "exercises"
CAUSE = "# cause: "
RIGHTLY, WRONGLY, UNNAMED = "rightly", "WRONGLY", "unnamed"
ELSEWHERE = re.compile(r"^(\S+: )?right at the values given, wrong with [^:]*(: )?")
# What is said where nothing is known: figures and places.
FIGURES = re.compile(
    r"""([^:]+:\ )?(
        exactly\ [-\d.e]+\ times\ the\ true\ gradient
        | \d+\ of\ \d+\ (elements|probes)\ are\ wrong\b.*
        | cosine\ near\ 1\b.*
        | it\ is\ off\ by\ [-\d.e]+\ everywhere\b.*
        | at\ .*\ it\ is\ .*,\ and\ differences\ give\ .*
        | backward\ is\ not\ linear\ in\ dy\b.*
    )?""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Row:
    """What became of one: the verdict of the check, what it said, and whether that names the cause."""

    kind: str  # "gallery" or "exercise"
    name: str
    verdict: str
    named: str
    hint: str  # the one that names it, or the first
    others: list[str]

    @property
    def found(self) -> bool:
        return self.verdict == "WRONG"


def judged(kind: str, name: str, ok: bool, hints: list[str], cause: str) -> Row:
    """The row of an entry of which the check said this."""
    telling = [hint for hint in hints if not says_figures_alone(hint)]
    right = [hint for hint in hints if re.search(cause, hint)]
    named = RIGHTLY if right else WRONGLY if telling else UNNAMED
    first = (right or telling or hints or [""])[0]
    others = [hint for hint in hints if hint != first]
    return Row(kind, name, "right" if ok else "WRONG", named, first, others)


def says_figures_alone(hint: str) -> bool:
    hint = ELSEWHERE.sub("", hint.replace(f"; {HERE_ALONE}", "").removesuffix(HERE_ALONE))
    return FIGURES.fullmatch(hint) is not None


def of_bug(bug: Bug) -> Row:
    """What the check says of an entry of the gallery."""
    case = bug.make(np.random.default_rng(1))
    report = check(case.wrong, *case.inputs, rng=np.random.default_rng([0, 2]))
    hints = [row.hint for row in report.tensors if row.hint and not row.ok] + report.faults
    return judged("gallery", bug.name, report.ok, hints, bug.cause)


def of_gallery() -> Iterator[Row]:
    yield from (of_bug(bug) for bug in BUGS if bug.caught_by != "objective")


def of_answer(file: Path) -> Row:
    """What the proof of its exercise says of a wrong answer."""
    (exercise,) = (e for e in EXERCISES if e.name == file.parent.name)
    first, *_ = file.read_text(encoding="utf-8").splitlines()
    spec = spec_from_file_location(f"{exercise.name}_{file.stem}", file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    result = exercise.prove(module, np.random.default_rng(0))
    name = f"{exercise.name}/{file.stem}"
    return judged("exercise", name, result.ok, result.faults, first.removeprefix(CAUSE).strip())


def of_exercises() -> Iterator[Row]:
    yield from map(of_answer, sorted(WRONG_ANSWERS.glob("*/wrong_*.py")))


def shares(rows: list[Row]) -> dict[str, int]:
    return {
        "found": sum(row.found for row in rows),
        **{named: sum(row.named == named for row in rows) for named in (RIGHTLY, WRONGLY, UNNAMED)},
        "all": len(rows),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of tables")
    args = parser.parse_args()
    rows = [*of_gallery(), *of_exercises()]
    groups = {kind: [row for row in rows if row.kind == kind] for kind in ("gallery", "exercise")}
    totals = {kind: shares(group) for kind, group in (*groups.items(), ("all", rows)) if group}
    if args.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "totals": totals}, ensure_ascii=False, indent=1))
        return 0
    cells = [(row.name, row.verdict, row.named, _shortened(row.hint)) for row in rows]
    print(*text_table(("entry", "verdict", "named", "hint"), cells, left=range(4)), sep="\n")
    for kind, total in totals.items():
        said = ", ".join(
            f"{total[key]} {word} ({total[key] / total['all']:.0%})"
            for key, word in (
                ("found", "found"),
                (RIGHTLY, "named rightly"),
                (WRONGLY, "wrongly"),
                (UNNAMED, "unnamed"),
            )
        )
        print(f"\n{kind}: of {total['all']} {said}", end="")
    print()
    return 0


def _shortened(hint: str, width: int = 90) -> str:
    hint = " ".join(hint.split())
    return hint if len(hint) <= width else hint[: width - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
