"""Labelled images in four IDX files, as MNIST came and others after it: finding, reading and checking them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.idx import read_idx

FILES = (  # training images and labels, test images and labels
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def find(folder: Path, *inside: str) -> list[dict[str, Path]]:
    """Which of the four files lie in `folder` and in its sub-folders `inside`: name to path, the fullest first."""
    places = (folder, *(folder / name for name in inside))
    found = [{name: path for name in FILES if (path := _spelled(place, name))} for place in places]
    return sorted(found, key=len, reverse=True)  # stable: the first of equals stays first


def find_all(folder: Path, *inside: str, title: str, advice: str, named_in: str = "") -> list[Path]:
    """Paths of the four files, all in `folder` or all in one of its sub-folders `inside`.

    Raises FileNotFoundError that names the missing ones.
    """
    best = find(folder, *inside)[0]  # halves in two places are not put together: they may be of two data sets
    if len(best) < len(FILES):
        missing = ", ".join(name for name in FILES if name not in best)
        state = f"does not hold {title}" if folder.is_dir() else "is not a directory"
        looked = " and ".join(str(place) for place in (folder, *(folder / name for name in inside)))
        raise FileNotFoundError(
            f"{folder}{named_in}: {state}; missing: {missing}; looked in {looked}, with and without .gz. {advice}"
        )
    return list(best.values())


def _spelled(folder: Path, name: str) -> Path | None:
    """The file of that name in `folder`, also without .gz or as `….idx3-ubyte`."""
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    candidates = (folder / spelling for spelling in (name, plain, dotted + ".gz", dotted))
    return next((path for path in candidates if path.is_file()), None)


def read(images_path: Path, labels_path: Path, title: str) -> Labelled:
    """Images `(N, 28, 28, 1)` and labels `(N,)` in 0 … 9.

    Raises IdxError for a damaged file, ValueError for one that is not of the data set `title`.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
        found = f"shape {images.shape} of {images.dtype}"
        raise ValueError(f"{images_path}: has {found}; {title} needs (N, 28, 28) of uint8 with N ≥ 1.")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        found = f"shape {labels.shape} of {labels.dtype}"
        raise ValueError(f"{labels_path}: has {found}; {title} needs (N,) of uint8.")
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: has {len(labels)} labels; the images of {images_path.name} need {len(images)}."
        )
    if labels.max() > 9:
        raise ValueError(f"{labels_path}: has a label {labels.max()}; {title} labels are 0 to 9.")
    return images[..., np.newaxis], labels
