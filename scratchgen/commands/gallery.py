"""The gallery of bugs on the command line: the list, one of them live, and all of them one after another."""

import argparse
from collections.abc import Callable, Sequence
from math import log10
from pathlib import Path
from textwrap import fill

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.commands.gradcheck import checked
from scratchgen.commands.results import check_new
from scratchgen.gradcheck.gallery import BUGS, SUBJECTS, Bug, Case, find
from scratchgen.plots import Panel, curves
from scratchgen.training import save_picture

MARKS = {"gradient": "", "contract": " +", "objective": " *"}  # of the checks in the list
WIDTH = 100  # of the list
COLUMNS, ROWS = 64, 12  # of the chart
RANGE = 20  # largest over smallest value from which on a chart is logarithmic


def list_bugs() -> int:
    """By subject, in lines of WIDTH, with a mark where another check than that of gradients finds it."""
    indent = max(len(bug.name) for bug in BUGS) + 4
    for subject, bugs in SUBJECTS.items():
        print(subject)
        for bug in bugs:
            first = f"  {bug.name}".ljust(indent)
            text = bug.title + MARKS[bug.caught_by]
            print(fill(text, WIDTH, initial_indent=first, subsequent_indent=" " * indent))
        print()
    print(
        f"{len(BUGS)} bugs; scratchgen gradcheck --gallery NAME shows one. gradcheck finds them by their gradients,"
    )
    print("with + by what else a layer promises, and with * only gradcheck --objective does")
    return 0


def show_all(args: argparse.Namespace) -> int:
    """The check's report on each that it can see."""
    missed = 0
    for bug in BUGS:
        if bug.caught_by != "objective":
            case = bug.make(np.random.default_rng([args.seed, 1]))
            report = checked(case.wrong, case.inputs, args, name=f"{bug.name}: {bug.title}")
            missed += report.ok
            print(report, end="\n\n")
    print("MISSED some" if missed else "every one was found")
    return 1 if missed else 0


def show(args: argparse.Namespace) -> int:
    """One of them: its formulas, what the check says with it and without, and a training with it and without."""
    try:
        bug = find(args.gallery)
    except KeyError as error:
        raise UsageError(f"{error.args[0]} (scratchgen gradcheck --gallery lists all)") from None
    if args.output:
        check_new(args.output, "--output", args.force, ".png")

    facts = [("right", bug.right), ("wrong", bug.wrong), ("symptom", bug.symptom)]
    facts += [("reported" if i == 0 else "", address) for i, address in enumerate(bug.sources)]
    print(f"{bug.name}: {bug.title}\n")
    for what, text in facts:
        print(fill(text, 110, initial_indent=f"  {what:9}", subsequent_indent=" " * 11, break_on_hyphens=False))
    print()
    case = bug.make(np.random.default_rng([args.seed, 1]))
    found = _by_objective(case) if bug.caught_by == "objective" else _by_gradients(case, args)
    with_it, without = bug.train(True), bug.train(False)
    print(f"A small training: {bug.measure} over its steps, without the bug (·) and with it (x)\n")
    print(*(f"  {line}" for line in chart(without, with_it, bug.every)), sep="\n")
    stop = f", where it stops, in step {len(with_it) * bug.every}" if len(with_it) < len(without) else ""
    print(f"\n  at the end it is {without[-1]:.4g} without the bug, and {with_it[-1]:.4g} with it{stop}\n")
    if args.output:
        _draw(bug, without, with_it, args.output)
        print(args.output)
    else:
        print(f"--output {bug.name}.png draws the two curves as a picture")
    return 0 if found else 1


def _by_gradients(case: Case, args: argparse.Namespace) -> bool:
    """Print what the check of gradients says; whether it finds the bug, and nothing without it."""
    wrong = checked(case.wrong, case.inputs, args, name="With the bug")
    right = checked(case.right, case.inputs, args, name="Without the bug")
    error = f"Without the bug: {right.verdict}, the largest relative error is {right.error:.1e}"
    print(wrong, error if right.ok else right, sep="\n\n", end="\n\n")
    return right.ok and not wrong.ok


def _by_objective(case: Case) -> bool:
    """The same of the check of objectives."""
    from scratchgen.gradcheck.objective import objective

    wrong, right = objective(case.wrong, *case.inputs), objective(case.right, *case.inputs)
    print("A gradient check cannot see it: backward is right, the derivative of a loss that is not the one meant.")
    print("The check of the objective says, with the bug:\n")
    print(wrong, "Without the bug: right" if right.ok else f"Without the bug:\n{right}", sep="\n\n", end="\n\n")
    return right.ok and not wrong.ok


def chart(without: Sequence[float], with_it: Sequence[float], every: int = 1) -> list[str]:
    """Two curves as lines of text, of values `every` so many steps."""
    values = [*without, *with_it]
    low, high = min(values), max(values)
    logarithmic = _is_logarithmic(values)
    height: Callable[[float], float] = log10 if logarithmic else float
    bottom, span = height(low), (height(high) - height(low)) or 1.0
    steps = max(len(without), len(with_it), 2)
    cells = [[" "] * COLUMNS for _ in range(ROWS)]
    for curve, mark in ((without, "·"), (with_it, "x")):
        for column in range(COLUMNS):
            begin, end = column * steps // COLUMNS, (column + 1) * steps // COLUMNS
            for value in curve[begin : max(begin + 1, end)]:
                row = ROWS - 1 - round((height(value) - bottom) / span * (ROWS - 1))
                cells[row][column] = mark
    labels = [""] * ROWS
    for row in (0, ROWS // 2, ROWS - 1):
        at = bottom + span * (ROWS - 1 - row) / (ROWS - 1)
        labels[row] = f"{10**at if logarithmic else at:.3g}"
    width = max(map(len, labels))
    lines = [f"{label:>{width}} │{''.join(row)}".rstrip() for label, row in zip(labels, cells, strict=True)]
    last = str(steps * every)
    return [
        *lines,
        f"{'':{width}} └{'─' * COLUMNS}",
        f"{'':{width}}  0{last:>{COLUMNS - 1}}{'  (logarithmic)' if logarithmic else ''}",
    ]


def _is_logarithmic(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > RANGE * min(values)


def _draw(bug: Bug, without: Sequence[float], with_it: Sequence[float], file: Path) -> None:
    """The two curves as a picture."""
    steps = max(len(without), len(with_it))
    records: list[dict[str, float]] = [{"epoch": i, "step": i} for i in range(0, steps * bug.every, bug.every)]
    for key, curve in (("without", without), ("with", with_it)):
        for record, value in zip(records, curve, strict=False):
            record[key] = value
    panel = Panel(
        bug.measure,
        {"without": "without the bug", "with": "with it"},
        log=_is_logarithmic([*without, *with_it]),
        title=bug.name,
    )
    save_picture(curves(records, [panel]), file)
