"""What the commands on a finished run share: opening it, its data, and where results go."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from scratchgen.backend import BACKENDS, BackendUnavailable, load_kernels
from scratchgen.commands import UsageError
from scratchgen.data import POINTS, Points, load
from scratchgen.errors import sentence
from scratchgen.files import atomic_write, printable
from scratchgen.recipes import Recipe, config_of, load_run
from scratchgen.recipes.options import path
from scratchgen.training import RunFolder, save_picture

RESULTS = (".png", ".npy")
BEYOND_NUMPY = ("array is too big", "Maximum allowed dimension exceeded")  # ValueErrors of sizes that no memory has


def open_run(args) -> tuple[RunFolder, Recipe]:
    """The run at args.RUN with its trained weights, on args.backend, or else where it was trained if that is here."""
    if args.backend is not None:
        load_kernels(args.backend)
    run = RunFolder.open(args.RUN)
    with memory_for("its network"):
        return run, load_run(args.RUN, backend=args.backend or _backend_here(run))


def _backend_here(run: RunFolder) -> str:
    """The backend that a run was trained on, or "numpy", with a note, where this machine lacks it."""
    backend = config_of(run).get("backend", "numpy")
    try:
        load_kernels(backend)
    except BackendUnavailable as error:
        print(f"note: {run.path} was trained on {backend}, and this runs on numpy, since {error}", file=sys.stderr)
        return "numpy"
    return backend


def data_of(args, recipe: Recipe):
    """The data that the run was trained on, or --data in the same form."""
    c = recipe.config
    size, channels = pixels(c.get("image_size")), c.get("channels")
    if args.data and "image_shape" in c:
        *own, depth = c["image_shape"]
        size, channels = size or pixels(own), channels or depth
    if "image_shape" in c and args.data in POINTS:
        raise UsageError(f"the run is of images {tuple(c['image_shape'])}, and {args.data} is of points")
    source = args.data if args.data is not None else c["data"]
    try:
        with memory_for("the data"):
            data = load(source, image_size=size, channels=channels)
    except FileNotFoundError as error:
        if args.data is not None:
            raise
        raise UsageError(f"the data of {args.RUN} is not where its config.json says: {error}") from None
    if list(getattr(data, "image_shape", ())) != list(c.get("image_shape", ())):
        what = f"images {tuple(c['image_shape'])}" if "image_shape" in c else "points"
        raise UsageError(f"{data.name} does not fit: the run is of {what}")
    if args.data is None and digest(data) != c.get("data_sha256"):
        raise UsageError(
            f"{printable(c['data'])} is no longer what the run was trained on, so its test images may be training "
            f"images: to take it as it is now, say --data {printable(c['data'])}"
        )
    return data


def add_run_options(parser, *, data: bool) -> None:
    """RUN and what goes with it."""
    parser.add_argument("RUN", type=path, help="folder of a run, as `scratchgen train` prints it")
    if data:
        parser.add_argument("--data", metavar="NAME|DIR", help="other data of the same form (default: the run's own)")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="cupy runs on an NVIDIA GPU (default: that of the training, or numpy where there is no GPU)",
    )


def pixels(image_size: int | list[int] | None) -> int | tuple[int, int] | None:
    """--image-size as `load` takes it."""
    return tuple(image_size) if isinstance(image_size, list) else image_size


def add_output_options(parser, *, default: str | None, help: str) -> None:
    """--output and --force."""
    parser.add_argument("--output", type=path, metavar="FILE", default=default, help=help)
    add_force(parser)


def add_force(parser) -> None:
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def check_new(file: Path, option: str, force: bool) -> None:
    """Complains of a file to be written that is there, unless it may be replaced, or that has no folder to be in."""
    if not file.absolute().parent.is_dir():
        raise UsageError(f"{option} is {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UsageError(f"{option} is {file}: that is a folder, needs the name of a file")
    if os.path.lexists(file) and not force:
        raise UsageError(f"{file} is there already: --force replaces it, {option} chooses another name")


def output_path(args) -> Path:
    """For --output: a file whose name says what it is to hold."""
    if args.output.suffix.lower() not in RESULTS:
        raise UsageError(f"--output is {args.output}, needs a name that ends in .png (a picture) or .npy (numbers)")
    check_new(args.output, "--output", args.force)
    return args.output


def check_size(what: str, count: int, numbers: int) -> None:
    """Complains of results that are larger than the memory of this machine, before it is asked for them."""
    needed, there = 4 * count * numbers, total_memory()
    if there is not None and needed > there:
        raise UsageError(
            f"{what} are {needed / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f} GiB of memory"
        )


def total_memory() -> int | None:
    """The bytes of memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


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


def write_result(file: Path, numbers: np.ndarray, picture) -> None:
    """The picture, a function that makes it, or the numbers: by the file's ending."""
    if file.suffix.lower() == ".npy":
        with atomic_write(file) as stream:
            np.save(stream, np.ascontiguousarray(numbers, np.float32), allow_pickle=False)
    else:
        save_picture(picture(), file)
    print(file)


def evaluate(folder: RunFolder, recipe: Recipe, data, **options) -> list[str]:
    """Measure, keep evaluation/ in the run folder, and return what to print."""
    found = recipe.measure(data, **options)
    for name, picture in found.pictures.items():
        with found.part(name):
            folder.save_picture(picture, f"evaluation/{name}")
    found.rows += [(what, f"cannot be had: {why}") for what, why in found.missing.items()]
    records = folder.records()
    epoch = max((r["epoch"] for r in records if r["kind"] == "epoch"), default=0)
    folder.write_measures({"data": data.name, "epoch": epoch, "rows": found.rows, **found.values})
    width = max(len(label) for label, _ in found.rows)
    note = [f"note     {folder.metrics}: {records.note}"] if records.unreadable else []
    return ["", *(f"{label:<{width}}  {text}".rstrip() for label, text in found.rows), *note]


def digest(data) -> str:
    """SHA-256 of the training samples."""
    samples = data.train if isinstance(data, Points) else data.train_images
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()
