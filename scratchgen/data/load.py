"""One name or folder to one data set: what the command line and most programs call."""

from __future__ import annotations

import os
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from scratchgen.data import arrays, cifar, fashion, labelled, mnist, on_disk, toys
from scratchgen.data.cifar import load_cifar10
from scratchgen.data.dataset import Dataset
from scratchgen.data.download import DownloadError
from scratchgen.data.fashion import is_fashion, load_fashion_mnist
from scratchgen.data.folder import load_folder
from scratchgen.data.mnist import load_mnist, named_source
from scratchgen.data.resize import channel_count, resized, rows_and_columns
from scratchgen.data.toys import Points
from scratchgen.paths import as_path

POINTS = ("ring", "grid", "moons")
SOURCES = ("sample", "mnist", "fashion-mnist", "cifar10", *POINTS)
FORMER = {"download": "mnist"}  # names of versions before, as runs of these have them in config.json
FOLDER_SIZE = 64  # pixels
_TOY_POINTS = 0x7095  # keeps their stream apart from all others of the same seed, such as the initial weights'


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    progress: bool = True,
) -> Dataset | Points:
    """Load a data set by its name, or a folder or file by what is in it; images as `Dataset`, points as `Points`.

    source:
        None                     what the environment variable SCRATCHGEN_DATA says, one of these, if it is set, else
                                 "sample"
        "sample"                 the embedded sample of MNIST, 12,000 digits
        "mnist"                  all of MNIST: from the first place on this disk that has it (`on_disk`), or else
                                 downloaded once and cached
        "fashion-mnist"          Fashion-MNIST, in the same way
        "cifar10"                CIFAR-10, in the same way
        "ring", "grid", "moons"  densities in the plane, the same points each time
        other, or any Path       a folder: CIFAR-10 if it holds files of that, else MNIST or Fashion-MNIST if it holds
                                 IDX files, else images (`load_folder`); or a .npy or .npz file (`load_arrays`)

    A name wins over a folder of that name, which "./name" reaches. `image_size`, (H, W) or one side of a square,
    and `channels` (1 or 3) resize and convert images of every kind; None keeps a data set as it is, and makes it 64
    and 3 for a folder of images. `progress` shows a bar for what takes long.

    Raises FileNotFoundError for neither a name nor a folder or for missing files, ValueError for files that are not
    what they should be, TypeError or ValueError for unusable arguments, DownloadError for a failed download.
    """
    source, named_in = named_source(source)
    shape = None if image_size is None else rows_and_columns("load", "image_size", image_size)
    if channels is not None:
        channels = channel_count("load", channels)
    match source:
        case "ring" | "grid" | "moons":
            if image_size is not None or channels is not None:
                raise ValueError(f"{source}: points have neither image_size nor channels; leave them out.")
            rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(_TOY_POINTS,)))
            return {"ring": toys.ring, "grid": toys.grid, "moons": toys.moons}[source](rng=rng)
        case "sample":
            data = load_mnist("sample", progress=progress)
        case "mnist" | "fashion-mnist" | "cifar10":
            data = _published(source, progress)
        case _:
            path = as_path(source or os.curdir)
            if path.is_file() and path.suffix.lower() in arrays.ENDINGS:
                data = arrays.load_arrays(path)
            elif source == "" or not path.is_dir():
                meant = "" if path.exists() else _meant(str(source).lower())
                raise FileNotFoundError(
                    f"{str(source)!r}{named_in}: is not a directory; give one, a .npy or .npz file, or one of the "
                    f"names {', '.join(SOURCES)}.{meant}"
                )
            elif cifar.find(path):
                data = load_cifar10(path)
            elif labelled.find(path, *mnist.PLACES, *fashion.PLACES)[0]:
                data = _load_idx(path, named_in)
            else:
                return load_folder(path, size=shape or FOLDER_SIZE, channels=channels or 3, progress=progress)
    return resized(data, shape, channels)


def _meant(name: str) -> str:
    """The end of a message about a name that is none."""
    if name in FORMER:
        return f" {name} is not a name any more: say {FORMER[name]}, which is downloaded unless this disk has it."
    close = get_close_matches(name, SOURCES, 1, 0.7)
    return f" Did you mean {close[0]}?" if close else ""


def _published(name: str, progress: bool) -> Dataset:
    """MNIST, Fashion-MNIST or CIFAR-10, from this disk or downloaded."""
    data, passed = on_disk.find(name)
    if data is not None:
        return replace(data, notes=(*data.notes, *passed))
    download = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist, "cifar10": load_cifar10}[name]
    try:
        data = download("download", progress=progress)
    except DownloadError as error:
        looked = ", ".join(map(str, on_disk.places(name)))
        raise DownloadError("\n".join([str(error), f"It was looked for in {looked}.", *passed])) from None
    return replace(data, notes=(*data.notes, *passed))


def _load_idx(folder: Path, named_in: str) -> Dataset:
    """MNIST or Fashion-MNIST, whichever the four IDX files in the folder are."""
    advice = f"Give a directory with the four files, or one of the names {', '.join(SOURCES)}."
    inside = (*mnist.PLACES, *fashion.PLACES)
    paths = labelled.find_all(folder, *inside, title="MNIST or Fashion-MNIST", advice=advice, named_in=named_in)
    chosen = paths[3].parent
    data = load_fashion_mnist(chosen) if is_fashion(paths[3]) else load_mnist(chosen)
    others = [next(iter(found.values())).parent for found in labelled.find(folder, *inside)[1:] if len(found) == 4]
    notes = tuple(f"{other} holds such files, too; give that folder to take them." for other in others)
    return replace(data, notes=(*data.notes, *notes))
