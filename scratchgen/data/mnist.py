"""MNIST, the handwritten digits of LeCun, Cortes and Burges: embedded sample, local files or download."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scratchgen.data.dataset import Dataset
from scratchgen.data.download import data_folder, download_files
from scratchgen.data.idx import write_idx
from scratchgen.data.labelled import FILES, find_all, read
from scratchgen.paths import as_path

# Of the published .gz files.
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
CLASSES = tuple("0123456789")
PLACES = ("mnist", "MNIST/raw")  # where the files may lie in a folder: as here, and as torchvision puts them
SAMPLE = Path(__file__).parent / "mnist_sample"
SAMPLE_STEPS = (6, 5)  # the sample takes every 6th training digit and every 5th test digit


def load_mnist(source: str | os.PathLike[str] | None = None, *, progress: bool = True) -> Dataset:
    """Load MNIST: uint8 images `(N, 28, 28, 1)` in 0 … 255 and uint8 labels `(N,)` in 0 … 9.

    source:
        None        what the environment variable SCRATCHGEN_DATA says, one of these, if it is set, else "sample"
        "sample"    the embedded sample: 10,000 training and 2,000 test digits
        "download"  all 70,000 digits, downloaded once and cached (`download_mnist`, with a bar if `progress`)
        other       a directory which holds the four original files, gzipped or not, itself or in `mnist/` or, as
                    torchvision has it, `MNIST/raw/`; the files may hold any number of digits

    Raises FileNotFoundError for missing files, IdxError or ValueError for files that are not MNIST,
    DownloadError for a failed download.
    """
    named, named_in = named_source(source)
    if source is None and named == "mnist":  # the name that `load` has for it
        named = "download"
    if named == "sample":
        folder = SAMPLE
    elif named == "download":
        folder = download_mnist(progress=progress)
    else:
        folder = as_path(named)
    advice = 'Give a directory with the four files, "download" to fetch them, or "sample" for the embedded sample.'
    paths = find_all(folder, *PLACES, title="MNIST", advice=advice, named_in=named_in)
    train, test = read(paths[0], paths[1], "MNIST"), read(paths[2], paths[3], "MNIST")
    title, origin = ("MNIST sample", ", embedded") if folder == SAMPLE else ("MNIST", f" from {folder}")
    counts = f"{len(train[0]):,} training and {len(test[0]):,} test digits"
    return Dataset(f"{title} ({counts}{origin})", *train, *test, CLASSES)


def named_source(source: str | os.PathLike[str] | None) -> tuple[str | os.PathLike[str], str]:
    """The source, for None that of SCRATCHGEN_DATA or the sample, and where it is named, for messages."""
    if source is not None and not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be None, a name or a directory, not {type(source).__name__}.")
    if source is not None:
        return source, ""
    variable = os.environ.get("SCRATCHGEN_DATA")
    return (variable, " (from SCRATCHGEN_DATA)") if variable else ("sample", "")


def make_sample(originals: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write the embedded sample from the four original files: every 6th training and every 5th test digit.

    Raises ValueError if `originals` does not hold all 60,000 + 10,000 digits.
    """
    data = load_mnist(as_path(originals))
    counts = len(data.train_images), len(data.test_images)
    if counts != (60_000, 10_000):
        raise ValueError(f"{originals}: has {counts} digits; the sample is drawn from (60000, 10000).")
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    train_step, test_step = SAMPLE_STEPS
    sample = (
        *(data.train_images[::train_step, ..., 0], np.asarray(data.train_labels)[::train_step]),
        *(data.test_images[::test_step, ..., 0], np.asarray(data.test_labels)[::test_step]),
    )
    for name, array in zip(FILES, sample, strict=True):
        write_idx(folder / name, array)
    return folder


def download_mnist(
    folder: str | os.PathLike[str] | None = None, *, mirrors: Sequence[str] = MIRRORS, progress: bool = True
) -> Path:
    """Download the four original files into `folder`, unless they are there with the right SHA-256.

    `folder` defaults to `mnist` in the directory SCRATCHGEN_CACHE if that variable is set, else in the user's
    cache directory. A file takes its name only once it is whole and its SHA-256 is right; a damaged one is
    fetched anew. Each file is tried on every mirror in turn, twice.

    Raises DownloadError, which lists every mirror with its reason.
    """
    advice = (
        "Try again where there is a network, set SCRATCHGEN_DATA to a directory with the four MNIST files, or use "
        'the embedded "sample".'
    )
    return download_files(SHA256, data_folder(folder, "mnist"), mirrors, advice=advice, progress=progress)
