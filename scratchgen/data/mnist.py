"""MNIST, the handwritten digits of LeCun, Cortes and Burges: embedded sample, local files or download."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.dataset import Dataset
from scratchgen.data.idx import read_idx, write_idx

# SHA-256 of the published .gz files.
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
FILES = tuple(SHA256)  # training images and labels, test images and labels
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SAMPLE = Path(__file__).parent / "mnist_sample"
SAMPLE_STEPS = (6, 5)  # the sample takes every 6th training digit and every 5th test digit

TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two packets
ROUNDS = 2
PAUSE = 1.0  # seconds between two rounds


class DownloadError(OSError):
    """No mirror gave the file, or it could not be stored; the message says why and what else to do."""


def load_mnist(source: str | os.PathLike[str] | None = None, *, progress: bool = True) -> Dataset:
    """Load MNIST: uint8 images `(N, 28, 28, 1)` in 0 … 255 and uint8 labels `(N,)` in 0 … 9.

    source:
        None        the directory in the environment variable SCRATCHGEN_DATA if it is set, else "sample"
        "sample"    the embedded sample: 10,000 training and 2,000 test digits
        "download"  all 70,000 digits, downloaded once and cached (`download_mnist`, with a bar if `progress`)
        other       a directory which holds the four original files, gzipped or not, itself or in `mnist/`;
                    the files may hold any number of digits

    Raises FileNotFoundError for missing files, IdxError or ValueError for files that are not MNIST,
    DownloadError for a failed download.
    """
    if source is not None and not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be None, a name or a directory, not {type(source).__name__}.")
    said = ""
    variable = os.environ.get("SCRATCHGEN_DATA")
    if source is None and variable:
        folder, said = Path(variable), " (from SCRATCHGEN_DATA)"
    elif source is None or source == "sample":
        folder = SAMPLE
    elif source == "download":
        folder = download_mnist(progress=progress)
    else:
        folder = Path(source)
    folder = folder.expanduser()
    paths = _find(folder, said)
    train, test = _read(*paths[:2]), _read(*paths[2:])
    title, origin = ("MNIST sample", ", embedded") if folder == SAMPLE else ("MNIST", f" from {folder}")
    counts = f"{len(train[0]):,} training and {len(test[0]):,} test digits"
    return Dataset(f"{title} ({counts}{origin})", *train, *test)


def _find(folder: Path, said: str = "") -> list[Path]:
    """Paths of the four files, all in `folder` or all in its sub-folder `mnist`."""
    places = (folder, folder / "mnist")
    found = [{name: path for name in FILES if (path := _spelled(place, name))} for place in places]
    best = max(found, key=len)  # the first of equals
    if len(best) < len(FILES):
        missing = ", ".join(name for name in FILES if name not in best)
        state = "does not hold MNIST" if folder.is_dir() else "is not a directory"
        raise FileNotFoundError(
            f"{folder}{said}: {state}; missing: {missing}; looked in {places[0]} and {places[1]}, with and "
            'without .gz. Give a directory with the four files, "download" to fetch them, or "sample" '
            "for the embedded sample."
        )
    return list(best.values())


def _spelled(folder: Path, name: str) -> Path | None:
    """The file of that name in `folder`, also without .gz or as `….idx3-ubyte`."""
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    candidates = (folder / spelling for spelling in (name, plain, dotted + ".gz", dotted))
    return next((path for path in candidates if path.is_file()), None)


def _read(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read and check images `(N, 28, 28, 1)` and labels `(N,)`."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
        found = f"shape {images.shape} of {images.dtype}"
        raise ValueError(f"{images_path}: has {found}; MNIST needs (N, 28, 28) of uint8 with N ≥ 1.")
    if labels.dtype != np.uint8 or labels.ndim != 1:
        found = f"shape {labels.shape} of {labels.dtype}"
        raise ValueError(f"{labels_path}: has {found}; MNIST needs (N,) of uint8.")
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: has {len(labels)} labels; the images of {images_path.name} need {len(images)}."
        )
    if labels.max() > 9:
        raise ValueError(f"{labels_path}: has a label {labels.max()}; MNIST labels are 0 to 9.")
    return images[..., np.newaxis], labels


def make_sample(originals: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write the embedded sample from the four original files: every 6th training and every 5th test digit.

    Raises ValueError if `originals` does not hold all 60,000 + 10,000 digits.
    """
    data = load_mnist(Path(originals))
    counts = len(data.train_images), len(data.test_images)
    if counts != (60_000, 10_000):
        raise ValueError(f"{originals}: has {counts} digits; the sample is drawn from (60000, 10000).")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (slice(None, None, step) for step in SAMPLE_STEPS)
    sample = (
        data.train_images[train, ..., 0],
        data.train_labels[train],
        data.test_images[test, ..., 0],
        data.test_labels[test],
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
    import pooch  # slow to import, and needed here only

    if isinstance(mirrors, str) or not mirrors:
        raise TypeError(f"mirrors must be a sequence of one or more addresses, not {mirrors!r}.")
    if folder is None:
        folder = Path(os.environ.get("SCRATCHGEN_CACHE") or pooch.os_cache("scratchgen")) / "mnist"
    folder = Path(folder).expanduser().resolve()
    with _quiet(pooch.get_logger()):
        for name in FILES:
            _download(name, folder, mirrors, progress)
    return folder


def _download(name: str, folder: Path, mirrors: Sequence[str], progress: bool) -> None:
    """Have one file in `folder`, from the first mirror that gives it."""
    import pooch
    from requests import RequestException
    from tqdm import tqdm

    def downloader(url: str, temporary: str, _: object) -> None:
        if not progress:
            pooch.HTTPDownloader(timeout=TIMEOUT)(url, temporary, None)
            return
        # pooch replaces the total by the size that the server states; without one, tqdm has no truth value.
        with tqdm(desc=name, total=1, unit="B", unit_scale=True) as bar:
            pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)(url, temporary, None)

    reasons: dict[str, str] = {}
    for attempt in range(ROUNDS):
        if attempt:
            time.sleep(PAUSE)
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}"
            try:
                # Downloads under a temporary name, checks the hash, then moves; removes it if anything fails.
                pooch.retrieve(url, known_hash=SHA256[name], fname=name, path=folder, downloader=downloader)
                return
            except (RequestException, ValueError) as error:  # ValueError: the hash is another
                reasons[url] = str(error)
            except OSError as error:
                raise DownloadError(
                    f"{folder / name}: cannot be stored ({error}); give a folder or set SCRATCHGEN_CACHE."
                ) from error
    listed = "".join(f"\n  {url}: {reason}" for url, reason in reasons.items())
    raise DownloadError(
        f"{name}: no mirror gave it:{listed}\nTry again later, set SCRATCHGEN_DATA to a directory with the "
        'four MNIST files, or use the embedded "sample".'
    )


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from announcing each file; warnings still pass."""
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)
