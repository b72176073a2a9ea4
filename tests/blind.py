"""What the gradient checker says about each of the wrong layers of `wrong_layers.py`, and whether that is the cause.

    python tests/blind.py [NAME ...] [--mended] [--brief]

`--mended` checks the same layers with their mistake put right: the check must find nothing. right: the hints match
`cause`; FALSE: they match `never`, what was found to be false or misleading before; unnamed: found, with a place or a
figure at most; not matched: there are other words, for a reader to judge; not found.
"""

import argparse
import re
import sys
import time
from collections import Counter

import numpy as np
from wrong_layers import WRONG, mended

from scratchgen.gradcheck import check

# Hints that give a place, and no cause; a factor names the cause where it is a number of the layer.
PLACE = re.compile(
    r"(each part is right by itself; the dy that [^:]* is given is wrong(: )?)?"
    r"(right at the values given, wrong with [^:]*(: )?)?(d\w+: )?"
    r"(\d+ of \d+ elements are wrong.*|every element lacks a factor of its own.*|cosine near 1.*|it is wrong|"
    r"backward gives [^;]*, which is not the gradient)?"
)
FACTOR = re.compile(r"exactly [\d.]+ times the true gradient")


def said(report) -> list[str]:
    hints = [t.hint for t in report.tensors if t.verdict == "WRONG" and t.hint]
    return hints + [f"FAULT: {fault}" for fault in report.faults]


def judged(report, entry) -> str:
    """right, or why not, by the pattern; FALSE where it says what is known to be false."""
    if report.verdict != "WRONG":
        return "not found"
    words = said(report)
    if entry.never and re.search(entry.never, "\n".join(words)):
        return "FALSE"
    words = [w for w in words if not PLACE.fullmatch(w)]
    if re.search(entry.cause, "\n".join(words), re.IGNORECASE):
        return "right"
    return "unnamed" if all(FACTOR.fullmatch(w) for w in words) else "not matched"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="some of them only")
    parser.add_argument("--mended", action="store_true", help="with the mistake put right")
    parser.add_argument("--brief", action="store_true", help="one line each")
    parser.add_argument("--seed", type=int, default=0, help="of the layers' values and of the check")
    options = parser.parse_args()
    totals, slow = Counter(), []
    for name in options.names or WRONG:
        entry = WRONG[name]
        target, inputs = (mended(name) if options.mended else entry.make)(np.random.default_rng(options.seed))
        start = time.perf_counter()
        report = check(target, *inputs, rng=np.random.default_rng([options.seed, 2]))  # of another dy than x
        took = time.perf_counter() - start
        verdict = report.verdict if options.mended else judged(report, entry)
        totals[verdict] += 1
        slow += [f"{name} {took:.1f} s"] * (took > 3)
        print(f"{verdict:12} {name}  ({took:.1f} s)", flush=True)
        if options.mended:
            if verdict != "right":
                print(report)
        elif not options.brief:
            print(f"    why:  {entry.why}")
            wrong = [f"{t.name} {t.cosine:.3f}" for t in report.tensors if t.verdict == "WRONG"]
            print(f"    rows: {', '.join(wrong)} of {', '.join(t.name for t in report.tensors)}")
            for line in said(report):
                print(f"    says: {line}")
    print(", ".join(f"{count} {verdict}" for verdict, count in totals.most_common()), f"of {totals.total()}")
    if slow:
        print("above 3 s:", ", ".join(slow))
    return 0


if __name__ == "__main__":
    sys.exit(main())
