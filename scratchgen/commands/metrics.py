"""scratchgen metrics: the records of a run as a table of figures, or as TensorBoard's event files."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import RUN_HELP, Commands, add_force, path
from scratchgen.commands.results import check_new
from scratchgen.commands.runs import name_of, open_folder
from scratchgen.files import atomic_write, make_folder
from scratchgen.table import markdown_table
from scratchgen.training import RunFolder, epoch_of
from scratchgen.training.records import Records

FIRST = ("kind", "step", "epoch")  # columns
EVENTS = "events.out.tfevents.*"


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "metrics",
        help="the figures of a run as CSV, or for TensorBoard",
        description="Print every record of a run as CSV: a row for each, with its kind (steps: means since the last "
        "record; epoch: means over an epoch and its measures), step, epoch, and a column for each measure. Or, with "
        "--tensorboard, write event files: measures by step, sample sheets and settings.",
    )
    parser.add_argument("RUN", type=path, help=RUN_HELP)
    parser.add_argument("--output", type=path, metavar="FILE", help="a name that ends in .csv (default: print it)")
    parser.add_argument(
        "--tensorboard",
        type=path,
        metavar="DIR",
        help="write TensorBoard's event files into DIR/RUN; then tensorboard --logdir DIR shows them",
    )
    add_force(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    if args.output and args.tensorboard:
        raise UsageError("--output is for CSV: leave it out with --tensorboard")
    folder = open_folder(args.RUN)
    if args.output:
        check_new(args.output, "--output", args.force, ".csv")
    records = folder.records()
    trained = Records(r for r in records if r["kind"] in ("steps", "epoch"))
    if records.unreadable:
        print(f"note: {folder.metrics}: {records.note}", file=sys.stderr)
    if not trained:
        raise UsageError(f"{folder.path} has no records: it was stopped before its first ones, or they were lost")
    if args.tensorboard:
        print(write_events(folder, trained, args.tensorboard / name_of(folder), args.force))
        return 0
    text = as_csv(trained)
    if args.output is None:
        print(text, end="")
        return 0
    with atomic_write(args.output) as stream:
        stream.write(text.encode())
    print(args.output)
    return 0


def as_csv(records: Records) -> str:
    """A row a record, a column a key, in the order in which these first appear; of a list key.0, key.1 …"""
    rows = [dict(_flat(r)) for r in records]
    columns = dict.fromkeys([*FIRST, *(key for row in rows for key in row)])
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers and texts in objects and lists, by their dotted names; floats are written in full by CSV itself."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def write_events(folder: RunFolder, records: Records, target: Path, force: bool) -> Path:
    """The run as event files in the folder `target`: records as scalars by step, "steps" within epochs and "epoch";
    sheets as images; the config as text. Times are those at which training was there, as far as records say them."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UsageError(
            'TensorBoard\'s files are written by tensorboardX: pip install "scratchgen-nn[tensorboard]" brings it'
        ) from None
    config = folder.config()
    before = sorted(target.glob(EVENTS))
    if target.exists() and not target.is_dir():
        raise UsageError(f"--tensorboard: {target} is a file, needs a folder")
    if before and not force:
        raise UsageError(
            f"{target} has event files already: --force replaces them, --tensorboard names another folder"
        )
    make_folder(target)
    for file in before:
        file.unlink()
    time = _clock(folder, records)
    with SummaryWriter(str(target), write_to_disk=True) as writer:
        shown = [(key.replace("_", " "), json.dumps(value, ensure_ascii=False)) for key, value in config.items()]
        writer.add_text("config", "\n".join(markdown_table(("setting", "value"), shown, left=(0, 1))), 0, time(0))
        for r in records:
            for name, value in _flat({key: value for key, value in r.items() if key not in FIRST}):
                if value is not None:
                    writer.add_scalar(f"{r['kind']}/{_tag(name)}", value, r["step"], time(r["step"]))
        for file in folder.sheets():
            step = round(epoch_of(file) * _steps_per_epoch(records))
            pixels = np.asarray(Image.open(file).convert("RGB"))
            writer.add_image("samples", pixels, step, time(step), dataformats="HWC")
    return target


def _tag(name: str) -> str:
    """A measure's name in the characters that TensorBoard's tags have: D(G(z)) is D_G_z."""
    return "_".join("".join(c if c.isalnum() else " " for c in name).split()) if "(" in name else name


def _steps_per_epoch(records: Records) -> float:
    return max((r["step"] / r["epoch"] for r in records if r["epoch"] > 0), default=0.0)


def _clock(folder: RunFolder, records: Records) -> Any:
    """time(step): seconds since 1970, by the seconds that the records of epochs have; the last was the file's."""
    known = [(0, 0.0), *((r["step"], r["seconds"]) for r in records if isinstance(r.get("seconds"), int | float))]
    steps, seconds = zip(*sorted(known), strict=True)
    begun = folder.metrics.stat().st_mtime - seconds[-1]
    return lambda step: begun + float(np.interp(step, steps, seconds))
