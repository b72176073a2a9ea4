"""CIFAR-10, 60,000 small photographs of ten kinds of things: local files, or a download of the binary version.

A file of the binary version is a row of records of 3073 bytes: the label, then 1024 red, 1024 green and 1024 blue
pixels, each row by row.

Source: Krizhevsky 2009, Learning multiple layers of features from tiny images;
https://www.cs.toronto.edu/~kriz/cifar.html, section "Binary version".
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.cifar_python import read_batch
from scratchgen.data.dataset import Dataset
from scratchgen.data.download import DownloadError, data_folder, download_files
from scratchgen.files import atomic_write
from scratchgen.paths import as_path

TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
RECORD = 1 + 3 * 32 * 32  # bytes
MOST_RECORDS = 10_000  # in a published file
INSIDE = "cifar-10-batches-bin"
# Where the files may lie in a folder: unpacked, and the Python version as torchvision, Keras 2 and Keras 3 unpack it.
PLACES = ("", INSIDE, "cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py")
FIRST_LABELS = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]  # of the test images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = {ARCHIVE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"}
MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
SUMS = "SHA256SUMS"  # of the unpacked files


def load_cifar10(source: str | os.PathLike[str], *, progress: bool = True) -> Dataset:
    """Load CIFAR-10: uint8 images `(N, 32, 32, 3)` in 0 … 255 and uint8 labels `(N,)` in 0 … 9.

    source:
        "download"  all 60,000 images, downloaded once and cached (`download_cifar10`, with a bar if `progress`)
        other       a directory which holds data_batch_1.bin … data_batch_5.bin and test_batch.bin, or the files of
                    the Python version, data_batch_1 and so on, itself or where torchvision and Keras put them
                    (`PLACES`); one of the five will do, and the files may hold any number of images

    The files of the Python version are pickles; nothing in them is executed (`cifar_python`).

    Raises FileNotFoundError for missing files, ValueError for files that are not CIFAR-10, DownloadError for a
    failed download.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f'source must be "download" or a directory, not {type(source).__name__}.')
    folder = download_cifar10(progress=progress) if source == "download" else as_path(source)
    found = find(folder)
    missing = [name for name in FILES if name not in found]
    train_paths, test_path = [found[name] for name in TRAIN_FILES if name in found], found.get(TEST_FILE)
    if not train_paths or not test_path:
        state = "does not hold CIFAR-10" if folder.is_dir() else "is not a directory"
        raise FileNotFoundError(
            f"{folder}: {state}; missing: {', '.join(missing)}; looked in it and in {', '.join(PLACES[1:])}. Give a "
            'directory with the files of CIFAR-10, or "download" to fetch them.'
        )
    train, test = _read(train_paths), _read([test_path])
    counts = f"{len(train[0]):,} training and {len(test[0]):,} test images"
    notes = (f"{folder}: {', '.join(missing)} missing, so training goes without.",) if missing else ()
    return Dataset(f"CIFAR-10 ({counts} from {test_path.parent})", *train, *test, CLASSES, notes)


def find(folder: Path) -> dict[str, Path]:
    """Which of the six files lie in `folder` or in one of its sub-folders, whichever has most: name to path."""
    found = []
    for place in (folder / inside for inside in PLACES):
        spelled = {name: (place / name, place / name.removesuffix(".bin")) for name in FILES}
        paths = {name: next((path for path in both if path.is_file()), None) for name, both in spelled.items()}
        found.append({name: path for name, path in paths.items() if path})
    return max(found, key=len)  # the first of equals


def _read(paths: Sequence[Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and labels of the files, one after the other."""
    parts = [_read_records(path) if path.suffix == ".bin" else read_batch(path) for path in paths]
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read_records(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images `(N, 32, 32, 3)` and labels `(N,)` of a file of the binary version."""
    size = path.stat().st_size
    if size == 0 or size % RECORD:
        raise ValueError(
            f"{path}: has {size} bytes; CIFAR-10 needs one or more records of {RECORD} bytes. Copy or fetch it again."
        )
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].copy()
    if labels.max() > 9:
        raise ValueError(f"{path}: has a label {labels.max()}; CIFAR-10 labels are 0 to 9.")
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def download_cifar10(
    folder: str | os.PathLike[str] | None = None, *, mirrors: Sequence[str] = MIRRORS, progress: bool = True
) -> Path:
    """Download the binary version, 170 MB, and unpack its six files into `folder`, unless they are there whole.

    `folder` defaults to `cifar-10` in the cache, as in `download_mnist`; mirrors and hashes are dealt with as
    there. Only the six files are unpacked, under their own names, each appearing whole or not at all; then the
    archive is removed.

    Raises DownloadError, which lists every mirror with its reason.
    """
    folder = data_folder(folder, "cifar-10")
    if _whole(folder):
        return folder
    advice = "Try again where there is a network, or give a directory with the files of CIFAR-10."
    download_files(SHA256, folder, mirrors, advice=advice, progress=progress)
    try:
        _unpack(folder / ARCHIVE, folder)
        (folder / ARCHIVE).unlink()
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{folder}: {ARCHIVE} cannot be unpacked ({error}); give a folder or set SCRATCHGEN_CACHE."
        ) from error
    return folder


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(folder: Path) -> bool:
    """Whether the six files are as they were unpacked."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
        return lines == [f"{_sha256(folder / name)}  {name}" for name in FILES]
    except (OSError, UnicodeDecodeError):
        return False


def _unpack(archive: Path, folder: Path) -> None:
    """Write the six files of the archive, and last their hashes; no name or link in it is ever followed."""
    left = {f"{INSIDE}/{name}": name for name in FILES}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.name not in left:
                    continue
                if not member.isreg() or member.size % RECORD or not 0 < member.size <= MOST_RECORDS * RECORD:
                    raise DownloadError(f"{archive}: its {member.name} is not a file of CIFAR-10 records.")
                content = tar.extractfile(member)
                assert content is not None  # of a regular file
                with content, atomic_write(folder / left.pop(member.name)) as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DownloadError(f"{archive}: is a damaged archive ({error}).") from error
    if left:
        raise DownloadError(f"{archive}: lacks {', '.join(left)}.")
    with atomic_write(folder / SUMS) as file:
        file.write("".join(f"{_sha256(folder / name)}  {name}\n" for name in FILES).encode("ascii"))
