"""MNIST, Fashion-MNIST and CIFAR-10 where they lie on many a disk already, looked for before anything is downloaded.

In this order (`places`): the folder that SCRATCHGEN_DATA names; the cache of earlier downloads; the working
directory, and `data` and `datasets` in it and in the home directory, as one gives them to torchvision; Keras's
folder, `~/.keras/datasets`. In each of them the files may lie in the folder itself, or in the sub-folder that
torchvision or Keras makes. A place counts only if the whole data set is there and reads without fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from scratchgen.data import cifar, fashion, labelled, mnist
from scratchgen.data.arrays import load_arrays
from scratchgen.data.dataset import Dataset
from scratchgen.data.download import data_folder
from scratchgen.paths import as_path

CACHED = {"cifar10": "cifar-10"}  # folders in the cache that are not named as the data set
KERAS_FILE = "mnist.npz"
PUBLISHED = {  # counts of training and test images, their shape, and how the test labels begin
    "mnist": ((60_000, 10_000), (28, 28, 1), fashion.FIRST_LABELS_MNIST),
    "fashion-mnist": ((60_000, 10_000), (28, 28, 1), fashion.FIRST_LABELS),
    "cifar10": ((50_000, 10_000), (32, 32, 3), cifar.FIRST_LABELS),
}


def find(name: str) -> tuple[Dataset | None, tuple[str, ...]]:
    """The whole data set "mnist", "fashion-mnist" or "cifar10" from the first place that has it, or None.

    With it come sentences about places before that which have something else under its name: another number of
    images, other labels than the published ones, or damaged files.
    """
    passed: list[str] = []
    for path, load in _candidates(name):
        try:
            data = load(path)
            fault = _fault(name, data)
        except (OSError, ValueError) as error:
            fault = str(error).removeprefix(f"{path}: ")
        if not fault:
            return data, tuple(passed)
        passed.append(f"skipped {path}: {fault.rstrip('.')}.")
    return None, tuple(passed)


def places(name: str) -> list[Path]:
    """Where to look for the data set of that name, in order, each once."""
    variable = os.environ.get("SCRATCHGEN_DATA")
    keras = os.environ.get("KERAS_HOME") or "~/.keras"
    found = [variable] if variable else []
    found += [str(data_folder(None, CACHED.get(name, name)))]
    found += [".", "data", "datasets", "~/data", "~/datasets", f"{keras}/datasets"]
    return list(dict.fromkeys(map(as_path, found)))


def _candidates(name: str) -> Iterator[tuple[Path, Callable[[Path], Dataset]]]:
    """What has the data set's names, and how it is loaded."""
    for place in places(name):
        if name == "cifar10":
            if len(cifar.find(place)) == len(cifar.FILES):
                yield place, cifar.load_cifar10
            continue
        inside, load = (
            (mnist.PLACES, mnist.load_mnist) if name == "mnist" else (fashion.PLACES, fashion.load_fashion_mnist)
        )
        for found in labelled.find(place, *inside):
            if len(found) == len(labelled.FILES):
                yield next(iter(found.values())).parent, load
        if name == "mnist":
            for file in (place, place / KERAS_FILE):
                if file.name == KERAS_FILE and file.is_file():
                    yield file, _load_keras_mnist


def _load_keras_mnist(path: Path) -> Dataset:
    data = load_arrays(path)
    counts = f"{len(data.train_images):,} training and {len(data.test_images):,} test digits"
    return replace(data, name=f"MNIST ({counts} from {path})", classes=mnist.CLASSES)


def _fault(name: str, data: Dataset) -> str:
    """Why it is not the whole published data set, or ""."""
    counts, shape, first = PUBLISHED[name]
    found = len(data.train_images), len(data.test_images)
    if found != counts:
        return f"has {found[0]:,} + {found[1]:,} images, not {counts[0]:,} + {counts[1]:,}"
    if data.image_shape != shape or data.test_labels is None or data.test_labels[: len(first)].tolist() != first:
        return f"is not {name}: its test labels are others"
    return ""
