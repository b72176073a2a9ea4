"""What the commands on a trained model share: its run folder, its data, and its evaluation."""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.backend import BackendUnavailable, load_kernels
from scratchgen.commands import UsageError
from scratchgen.commands.results import memory_for
from scratchgen.commands.runs import open_folder
from scratchgen.data import FORMER, POINTS, Dataset, Points, load, short_name
from scratchgen.files import printable
from scratchgen.recipes import Recipe, config_of, load_run
from scratchgen.table import aligned
from scratchgen.training import RunFolder


def open_run(args: argparse.Namespace) -> tuple[RunFolder, Recipe]:
    """The run at args.RUN with its trained weights, on args.backend, or else where it was trained if that is here."""
    if args.backend is not None:
        load_kernels(args.backend)
    folder = open_folder(args.RUN)
    with memory_for("its network"):
        return folder, load_run(folder.path, backend=args.backend or _backend_here(folder))


def _backend_here(folder: RunFolder) -> str:
    """The backend that a run was trained on, or "numpy", with a note, where this machine lacks it."""
    backend = config_of(folder).get("backend", "numpy")
    try:
        load_kernels(backend)
    except BackendUnavailable as error:
        print(f"note: {folder.path} was trained on {backend}, and this runs on numpy, since {error}", file=sys.stderr)
        return "numpy"
    return backend


def source_of(config: Mapping[str, Any]) -> str:
    """What a run was trained on, by its name here and now."""
    return FORMER.get(config["data"], config["data"])


def data_of(folder: RunFolder, recipe: Recipe, other: str | None, *, progress: bool = True) -> Any:
    """The data that the run was trained on, or other data in the same form."""
    c = recipe.config
    size, channels = pixels(c.get("image_size")), c.get("channels")
    if other and "image_shape" in c:
        *own, depth = c["image_shape"]
        size, channels = size or pixels(own), channels or depth
    if "image_shape" in c and other in POINTS:
        raise UsageError(f"the run is of images {tuple(c['image_shape'])}, and {other} is of points")
    with where_config_says(folder.path, other), memory_for("the data"):
        source = source_of(c) if other is None else other
        data = load(source, image_size=size, channels=channels, progress=progress)
    if list(getattr(data, "image_shape", ())) != list(c.get("image_shape", ())):
        what = f"images {tuple(c['image_shape'])}" if "image_shape" in c else "points"
        raise UsageError(f"{data.name} does not fit: the run is of {what}")
    if other is None and digest(data) != c.get("data_sha256"):
        source = printable(source_of(c))
        raise UsageError(
            f"{source} is no longer what the run was trained on, so its test images may be training images: to use "
            f"it as it is now, say --data {source}"
        )
    return data


def other_data(recipe: Recipe, data: Dataset | Points) -> str | None:
    """What to say of data that are not those of the training; None for the run's own."""
    if digest(data) == recipe.config.get("data_sha256"):
        return None
    return f"this data is {short_name(data.name)}, and the run was trained on {own_data(recipe)}"


def own_data(recipe: Recipe) -> str:
    """The name of the data that the run was trained on."""
    return short_name(str(recipe.config.get("data_name") or source_of(recipe.config)))


@contextmanager
def where_config_says(run: Path, other: str | None) -> Iterator[None]:
    """Names the run where its own data is not found, which is loaded unless there is `other`."""
    try:
        yield
    except FileNotFoundError as error:
        if other is not None:
            raise
        raise UsageError(f"the data of {run} is not where its config.json says: {error}") from None


def pixels(image_size: int | list[int] | None) -> int | tuple[int, int] | None:
    """--image-size as `load` takes it."""
    if isinstance(image_size, list):
        height, width = image_size
        return height, width
    return image_size


def digest(data: Dataset | Points) -> str:
    """SHA-256 of the training samples."""
    return hashlib.sha256(np.ascontiguousarray(data.samples).data).hexdigest()


def how_far(recipe: Recipe, epochs: int, steps: int, seconds: float) -> str:
    """The state of a run, for its page."""
    return f"{epochs:,} of {recipe.config['epochs']:,} epochs, {steps:,} steps, {seconds:.0f} s"


def evaluate(folder: RunFolder, recipe: Recipe, data: Dataset | Points, **options: Any) -> list[str]:
    """Measure, keep evaluation/ in the run folder, and return what to print."""
    found = recipe.measure(data, **options)
    for name, picture in found.pictures.items():
        with found.part(name):
            folder.save_picture(picture, f"evaluation/{name}")
    found.rows += [(what, f"could not be measured: {why}") for what, why in found.missing.items()]
    records, position = folder.records(), folder.position()
    other = other_data(recipe, data)
    about = {
        "data": f"{data.name}; {other}" if other else data.name,
        "data_sha256": digest(data),
        "step": position.steps,
        "epoch": position.epoch,
    }
    folder.write_measures({**about, "rows": found.rows, **found.values})
    note = [f"note     {folder.metrics}: {records.note}"] if records.unreadable else []
    return ["", *aligned(found.rows, left=(0, 1)), *note]
