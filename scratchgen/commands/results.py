"""The files that commands write: whether they may be there, whether there is memory for them, and what goes in."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from scratchgen.commands import UsageError
from scratchgen.commands.runs import name_of, open_folder
from scratchgen.errors import sentence
from scratchgen.files import atomic_write
from scratchgen.training import save_picture

RESULTS = (".png", ".npy")
BEYOND_NUMPY = ("array is too big", "Maximum allowed dimension exceeded")  # ValueErrors of sizes that no memory has


def check_new(file: Path, option: str, force: bool, ending: str = "") -> None:
    """Complains of a file to be written whose name does not end so, in either case of letters; that is there, unless
    it may be replaced; or that has no folder to be in."""
    if ending and file.suffix.lower() != ending:
        raise UsageError(f"{option} is {file}, needs a name that ends in {ending}")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{option} is {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UsageError(f"{option} is {file}: that is a folder, needs the name of a file")
    if os.path.lexists(file) and not force:
        raise UsageError(f"{file} is there already: --force replaces it, {option} chooses another name")


def usual_file(stem: str, *endings: str, force: bool = False, mark: str = "-") -> Path:
    """A file in the working folder: `stem` with the first ending, or with the first number at which no file of any
    ending is there; with `force` the one without a number."""
    stems = chain([stem], (f"{stem}{mark}{i}" for i in count(2)))
    free = (s for s in stems if force or not any(os.path.lexists(s + ending) for ending in endings))
    return Path(next(free) + endings[0])


def output_path(args: argparse.Namespace, what: str) -> Path:
    """For --output: a file whose name says what it is to hold; by default a picture, named after the run and what it
    shows."""
    file = args.output
    if file is None:
        file = usual_file(f"{name_of(open_folder(args.RUN))}-{what}", ".png", force=args.force)
    if file.suffix.lower() not in RESULTS:
        raise UsageError(f"--output is {file}, needs a name that ends in .png (a picture) or .npy (an array)")
    check_new(file, "--output", args.force)
    return file


def write_result(file: Path, array: np.ndarray, picture: Callable[[], Any], note: str | None = None) -> None:
    """The array, or the picture of it that the function makes, by the file's ending; a note on standard error."""
    if note:
        print(f"note: {note}", file=sys.stderr)
    if file.suffix.lower() == ".npy":
        with atomic_write(file) as stream:
            np.save(stream, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    else:
        save_picture(picture(), file)
    print(file)


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """A picture with a line of text above it, in as many lines as it takes."""
    wide = wrap(text, max(20, picture.width // 7))
    sheet = Image.new(picture.mode, (picture.width, picture.height + 16 * len(wide) + 8), "white")
    font = ImageFont.load_default(13) if features.check("freetype2") else ImageFont.load_default()
    for i, line in enumerate(wide):
        ImageDraw.Draw(sheet).text((4, 4 + 16 * i), line, fill="black", font=font)
    sheet.paste(picture, (0, sheet.height - picture.height))
    return sheet


def check_size(what: str, samples: int, elements: int) -> None:
    """Complains of `samples` results of so many elements that are larger than the memory of this machine."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # the system does not say
        return
    needed = 4 * samples * elements
    if needed > memory:
        raise UsageError(
            f"{what} are {needed / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f} GiB of memory"
        )


@contextmanager
def memory_for(what: str, remedy: str = "") -> Iterator[None]:
    """Says what the memory was for, and what would need less, where it is not enough."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{sentence(error)}: there is not enough memory for {what}{remedy}") from error
    except ValueError as error:
        if not str(error).startswith(BEYOND_NUMPY):
            raise
        raise MemoryError(f"there is not enough memory for {what}{remedy}") from error
