"""scratchgen compare: runs beside each other, as a table and as a page."""

import argparse
import os
from itertools import combinations

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import RUN_HELP, Commands, add_output_options, path
from scratchgen.commands.results import check_new, usual_file
from scratchgen.commands.runs import open_folder
from scratchgen.files import atomic_write
from scratchgen.report.comparison import FEWEST, MOST, Comparison
from scratchgen.report.comparison_page import page, rows_of_measures
from scratchgen.table import aligned


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="runs beside each other: settings, measures, curves, samples",
        description=f"Compare {FEWEST} to {MOST} runs: print the settings in which they differ and the last and best "
        "values of each measure that they share, and write a page with their curves laid over each other and their "
        "last sheets side by side.",
    )
    parser.add_argument("RUN", type=path, nargs="+", help=RUN_HELP)
    add_output_options(parser, default="compare.html", help="the page, a name that ends in .html")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    if not FEWEST <= len(args.RUN) <= MOST:
        raise UsageError(f"compare takes {FEWEST} to {MOST} runs, and {len(args.RUN)} is given")
    folders = [open_folder(run) for run in args.RUN]
    for one, other in combinations(folders, 2):
        if os.path.samefile(one.path, other.path):
            raise UsageError(f"{one.path} is given twice: compare it with another run")
    file = args.output or usual_file("compare", ".html", force=args.force)
    check_new(file, "--output", args.force, ".html")
    comparison = Comparison(folders)
    text = page(comparison)
    print(*_table(comparison), "", sep="\n")
    with atomic_write(file) as stream:
        stream.write(text.encode(errors="replace"))
    print(file)
    return 0


def _table(comparison: Comparison) -> list[str]:
    """What is printed."""
    rows = [["", *(run.name for run in comparison.runs)]]
    if comparison.differ:
        rows += [["settings that differ", *_none(comparison)]]
        rows += [[f"  {name}", *values] for name, values in comparison.differ]
    rows += [["reached", *_none(comparison)]]
    rows += [[f"  {name}", *values] for name, values in rows_of_measures(comparison)]
    same = ", ".join(f"{name} {value}" for name, value in comparison.same)
    return [*aligned(rows), "", f"the same: {same}"]


def _none(comparison: Comparison) -> list[str]:
    return [""] * len(comparison.runs)
