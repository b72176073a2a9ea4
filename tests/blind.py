"""What the gradient checker says about each of the wrong layers of `wrong_layers.py`, and whether that is the cause.

    python tests/blind.py [NAME ...] [--mended] [--brief]

`--mended` checks the same layers with their mistake put right: the check must find nothing. right: the hints match
`cause`; not matched: there are words, and they do not; unnamed: found, without a hint; not found. What is not matched is
for a reader to judge.
"""

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from wrong_layers import WRONG, mended

from scratchgen.gradcheck import check


def said(report) -> list[str]:
    hints = [f"{t.name}: {t.hint}" for t in report.tensors if t.verdict == "WRONG" and t.hint]
    return hints + [f"FAULT: {fault}" for fault in report.faults]


def judged(report, cause: str) -> str:
    if report.verdict != "WRONG":
        return "not found"
    words = said(report)
    if not words:
        return "unnamed"
    return "right" if re.search(cause, "\n".join(words), re.IGNORECASE | re.DOTALL) else "not matched"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="some of them only")
    parser.add_argument("--mended", action="store_true", help="with the mistake put right")
    parser.add_argument("--brief", action="store_true", help="one line each")
    options = parser.parse_args()
    totals, slow = Counter(), []
    for name in options.names or WRONG:
        entry = WRONG[name]
        target, inputs = (mended(name) if options.mended else entry.make)(np.random.default_rng(0))
        start = time.perf_counter()
        report = check(target, *inputs, rng=np.random.default_rng(0))
        took = time.perf_counter() - start
        verdict = report.verdict if options.mended else judged(report, entry.cause)
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
