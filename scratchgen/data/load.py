"""One name or folder to one data set: what the command line and most programs call."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from scratchgen import checks
from scratchgen.data import cifar, labelled, toys
from scratchgen.data.cifar import load_cifar10
from scratchgen.data.dataset import Dataset
from scratchgen.data.fashion import is_fashion, load_fashion_mnist
from scratchgen.data.folder import load_folder
from scratchgen.data.mnist import load_mnist
from scratchgen.data.resize import channel_count, resized
from scratchgen.data.toys import Points

POINTS = ("ring", "grid", "moons")
SOURCES = ("sample", "mnist", "download", "fashion-mnist", "cifar10", *POINTS)
FOLDER_SIZE = 64  # pixels
_TOY_POINTS = 0x7095  # keeps their stream apart from all others of the same seed, such as the initial weights'


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    progress: bool = True,
) -> Dataset | Points:
    """Load a data set by its name, or a folder by what is in it; images as `Dataset`, points as `Points`.

    source:
        None                     the folder in the environment variable SCRATCHGEN_DATA if it is set, else "sample"
        "sample"                 the embedded sample of MNIST, 12,000 digits
        "mnist", "download"      all of MNIST, downloaded once and cached
        "fashion-mnist"          Fashion-MNIST, downloaded once and cached
        "cifar10"                CIFAR-10, downloaded once and cached
        "ring", "grid", "moons"  densities in the plane, the same points each time
        other, or any Path       a folder: CIFAR-10 if it holds binary files of that, else MNIST or Fashion-MNIST if
                                 it holds IDX files, else images (`load_folder`)

    A name wins over a folder of that name, which "./name" reaches. `image_size` and `channels` (1 or 3) resize and
    convert images of every kind; None keeps a data set as it is, and makes it 64 and 3 for a folder of images.
    `progress` shows a bar for what takes long.

    Raises FileNotFoundError for neither a name nor a folder or for missing files, ValueError for files that are not
    what they should be, TypeError or ValueError for unusable arguments, DownloadError for a failed download.
    """
    if source is not None and not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be None, a name or a directory, not {type(source).__name__}.")
    if image_size is not None:
        image_size = checks.integer("load", "image_size", image_size)
    if channels is not None:
        channels = channel_count("load", channels)
    said = ""
    variable = os.environ.get("SCRATCHGEN_DATA")
    if source is None and variable:
        source, said = Path(variable), " (from SCRATCHGEN_DATA)"
    match source:
        case "ring" | "grid" | "moons":
            if image_size is not None or channels is not None:
                raise ValueError(f"{source}: points have neither image_size nor channels; leave them out.")
            rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(_TOY_POINTS,)))
            return {"ring": toys.ring, "grid": toys.grid, "moons": toys.moons}[source](rng=rng)
        case None | "sample":
            data = load_mnist("sample")
        case "mnist" | "download":
            data = load_mnist("download", progress=progress)
        case "fashion-mnist":
            data = load_fashion_mnist("download", progress=progress)
        case "cifar10":
            data = load_cifar10("download", progress=progress)
        case _:
            folder = Path(source).expanduser()
            if source == "" or not folder.is_dir():
                raise FileNotFoundError(
                    f"{str(source)!r}{said}: is not a directory; give one, or one of the names {', '.join(SOURCES)}."
                )
            if cifar.find(folder) or cifar.is_python_version(folder):
                data = load_cifar10(folder)
            elif labelled.find(folder, "mnist", "fashion-mnist")[0]:
                data = _load_idx(folder, said)
            else:
                return load_folder(folder, size=image_size or FOLDER_SIZE, channels=channels or 3, progress=progress)
    return resized(data, image_size, channels)


def _load_idx(folder: Path, said: str) -> Dataset:
    """MNIST or Fashion-MNIST, whichever the four IDX files in the folder are."""
    advice = f"Give a directory with the four files, or one of the names {', '.join(SOURCES)}."
    inside = ("mnist", "fashion-mnist")
    paths = labelled.find_all(folder, *inside, title="MNIST or Fashion-MNIST", advice=advice, said=said)
    if is_fashion(paths[3]):
        return load_fashion_mnist(paths[3].parent)
    return load_mnist(paths[3].parent)
