"""The files that commands write: whether they may be there, whether there is memory for them, and what goes in."""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.errors import sentence
from scratchgen.files import atomic_write
from scratchgen.training import save_picture

RESULTS = (".png", ".npy")
BEYOND_NUMPY = ("array is too big", "Maximum allowed dimension exceeded")  # ValueErrors of sizes that no memory has


def check_new(file: Path, option: str, force: bool) -> None:
    """Complains of a file to be written that is there, unless it may be replaced, or that has no folder to be in."""
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{option} is {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UsageError(f"{option} is {file}: that is a folder, needs the name of a file")
    if os.path.lexists(file) and not force:
        raise UsageError(f"{file} is there already: --force replaces it, {option} chooses another name")


def output_path(args: argparse.Namespace) -> Path:
    """For --output: a file whose name says what it is to hold."""
    if args.output.suffix.lower() not in RESULTS:
        raise UsageError(f"--output is {args.output}, needs a name that ends in .png (a picture) or .npy (numbers)")
    check_new(args.output, "--output", args.force)
    return args.output


def write_result(file: Path, array: np.ndarray, picture: Callable[[], Any]) -> None:
    """The array, or the picture of it that the function makes: by the file's ending."""
    if file.suffix.lower() == ".npy":
        with atomic_write(file) as stream:
            np.save(stream, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    else:
        save_picture(picture(), file)
    print(file)


def check_size(what: str, count: int, elements: int) -> None:
    """Complains of `count` results of so many elements that are larger than the memory of this machine."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # the system does not say
        return
    needed = 4 * count * elements
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
