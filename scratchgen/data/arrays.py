"""Images in NumPy's files, .npy and .npz: read a block at a time, and nothing in them is executed.

A .npy is a magic number, a header that is a Python literal (the type, the order of the indices, the shape), and the
values. A .npz is a zip archive of such files.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.dataset import Dataset
from scratchgen.data.folder import TEST_EVERY
from scratchgen.data.levels import Levels, even
from scratchgen.data.limits import check_expansion, check_memory
from scratchgen.data.tally import listed, short
from scratchgen.paths import as_path

ENDINGS = (".npy", ".npz")
BLOCK = 1 << 20  # values that are converted at a time
ZIP_MAGIC = b"PK"
MOST_ARRAYS = 1000  # in a .npz
# What the words in the names of a .npz mean: x_train, y_test, train_images, val_labels, imgs, arr_0, …
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
IMAGES = ("x", "images", "image", "imgs", "img", "data", "pictures", "arr")
LABELS = ("y", "labels", "label", "targets", "target")


@dataclass(frozen=True)
class Stored:
    """An array in a file: what its header states, and the stream that has its values from `offset` on."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    columns_first: bool  # Fortran's order of the indices
    open: Callable[[], IO[bytes]]
    offset: int

    @property
    def words(self) -> list[str]:
        """Those in its name: x and train of "x_train", "X-Train" and "xTrain"."""
        return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", self.name)]

    @property
    def numeric(self) -> bool:
        return self.dtype.kind in "buif" and self.dtype.itemsize <= 8

    @property
    def kind(self) -> str:
        """What its values are."""
        if self.dtype.kind == "f":
            return "floating-point"
        return "8-bit" if self.dtype.kind == "b" or self.dtype == np.uint8 else "integer"

    def blocks(self) -> Iterator[NDArray]:
        """All values in the order of the file, at most BLOCK at a time."""
        with self.open() as stream:
            stream.read(self.offset)
            left = math.prod(self.shape)
            while left:
                content = stream.read(min(left, BLOCK) * self.dtype.itemsize)
                if not content or len(content) % self.dtype.itemsize:
                    raise EOFError(f"{self.name} ends early")
                block = np.frombuffer(content, np.uint8 if self.kind == "8-bit" else self.dtype)
                left -= len(block)
                yield block


def load_arrays(path: str | os.PathLike[str]) -> Dataset:
    """Load the images in a .npy or .npz file as uint8 `(N, H, W, C)`.

    Shapes are (N, H, W), (N, H, W, C) or (N, C, H, W), with C 1 or 3. uint8 stays as it is unless it holds 0 and 1
    alone; floats may go from 0 to 1, from -1 to 1 or from 0 to 255, and other integers may fill some number of bits:
    the range that all images use together becomes 0 … 255 (`levels.Range`), as `notes` say. In a .npz the words in
    the arrays' names tell what they are, as in x_train, y_train, x_test, y_test or train_images, train_labels; one
    array of images will do. Without images for testing every 10th is held out, from the first on. Labels are kept
    where they are integers in 0 … 255.

    Raises FileNotFoundError for no such file, ValueError for one that is damaged or holds something else.
    """
    path = as_path(path)
    with stored(path) as arrays:
        images, labels, notes = _assigned(path, arrays)
        check_memory(path, sum(math.prod(a.shape) for a in images.values()), "fewer images need less")
        pixels, levels = _eight_bit(images)
        found = {part: _labels(labels[part], len(pixels[part])) if part in labels else None for part in pixels}
    notes += levels
    for part, array in images.items():
        pixels[part], note = _channels_last(path, array, pixels[part])
        notes.append(note)
    if any(values is None for values in found.values()):
        if labels:
            names = listed(array.name for array in labels.values())
            notes.append(f"labels are left out ({names}): all images need one, an integer in 0 … 255.")
        found = dict.fromkeys(pixels)
    train, train_labels = pixels["train"], found["train"]
    if "test" in pixels:
        test, test_labels = pixels["test"], found["test"]
    else:
        if len(train) < 2:
            raise ValueError(
                f"{path}: holds {len(train)} images, needs at least 2: one in {TEST_EVERY} is for testing."
            )
        held = np.arange(len(train)) % TEST_EVERY == 0
        train, test = train[~held], train[held]
        train_labels, test_labels = (None if train_labels is None else train_labels[part] for part in (~held, held))
    notes.append(even(train, test))
    counts = f"{len(train):,} training and {len(test):,} test images of {train.shape[1]} × {train.shape[2]}"
    name = f"{path.stem} ({counts} from {path})"
    try:
        return Dataset(name, train, train_labels, test, test_labels, notes=tuple(filter(None, notes)))
    except ValueError as error:  # images of two sizes
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def stored(path: Path) -> Iterator[dict[str, Stored]]:
    """The arrays in a .npy or .npz file, by their names.

    Raises FileNotFoundError for no such file, and ValueError for a damaged one, also while the values are read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a .npy or .npz file is needed here.")
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            if file.read(2) != ZIP_MAGIC:
                file.seek(0)
                yield {"": _header(path, "", file, size, lambda: path.open("rb"))}
                return
        with zipfile.ZipFile(path) as archive:
            yield _members(path, archive, size)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError, struct.error) as error:
        raise ValueError(f"{path}: is damaged ({short(error)}); copy or fetch it again.") from error
    except ValueError as error:  # of ours, or of a library that does not know the path
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: is damaged ({short(error)}); copy or fetch it again.") from error
    except OSError as error:
        if error.filename is not None:  # it cannot be opened
            raise
        raise ValueError(f"{path}: is damaged, or cannot be read ({error.strerror or error}).") from error


def _members(path: Path, archive: zipfile.ZipFile, size: int) -> dict[str, Stored]:
    members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    if len(members) > MOST_ARRAYS:
        raise ValueError(f"{path}: holds {len(members):,} arrays; at most {MOST_ARRAYS:,} are looked at.")
    arrays = {}
    for info in members:
        name = info.filename.removesuffix(".npy")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{path}: {name} is encrypted or packed in a way that NumPy does not write.")
        check_expansion(f"{path}: {name}", min(info.compress_size, size), info.file_size)
        with archive.open(info) as stream:
            arrays[name] = _header(path, name, stream, info.file_size, partial(archive.open, info))
    return arrays


def _header(path: Path, name: str, stream: IO[bytes], size: int, again: Callable[[], IO[bytes]]) -> Stored:
    """What the header at the start of the stream of `size` bytes states, where the values fill the rest of it."""
    subject = f"{path}: {name}" if name else str(path)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, columns_first, dtype = read(stream)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        raise
    except Exception as error:  # what damaged text does to a parser has no narrower type
        raise ValueError(
            f"{subject}: is not a complete NumPy array ({type(error).__name__} in its header)."
        ) from None
    offset = stream.tell()
    needed = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or (needed != size - offset and not dtype.hasobject):  # objects are never opened
        raise ValueError(
            f"{subject}: has {size - offset:,} bytes of values; its shape {shape} of {dtype} needs {needed:,}."
        )
    return Stored(name, shape, dtype, columns_first, again, offset)


def _assigned(path: Path, arrays: Mapping[str, Stored]) -> tuple[dict[str, Stored], dict[str, Stored], list[str]]:
    """Images and labels by part ("train", "test"), and what was left out, in sentences."""
    images: dict[str, list[Stored]] = {}
    labels: dict[str, Stored] = {}
    left = []
    for array in arrays.values():
        part = next((PARTS[word] for word in array.words if word in PARTS), "")
        if any(word in LABELS for word in array.words):
            labels.setdefault(part, array)
        elif array.numeric and len(array.shape) in (3, 4):
            images.setdefault(part, []).append(array)
        else:
            left.append(array.name)
    if "" in images and "train" not in images:
        images["train"] = images.pop("")
        labels = {"train" if part == "" else part: array for part, array in labels.items()}
    chosen = {}
    for part in ("train", "test"):
        candidates = images.pop(part, [])
        named = [array for array in candidates if any(word in IMAGES for word in array.words)]
        if len(candidates) > 1 and len(named) != 1:
            raise ValueError(f"{path}: has several arrays of images ({_found(candidates)}); name one of them images.")
        if candidates:
            chosen[part] = (named or candidates)[0]
            left += [array.name for array in candidates if array is not chosen[part]]
    left += [array.name for others in images.values() for array in others]
    if "train" not in chosen:
        found = _found(arrays.values()) or "nothing"
        objects = any(array.dtype.hasobject for array in arrays.values())
        refused = " Python objects are not opened, since they can run code." if objects else ""
        rows = [array.shape[1] for array in arrays.values() if len(array.shape) == 2]
        if side := next((math.isqrt(n) for n in rows if n > 1 and math.isqrt(n) ** 2 == n), None):
            refused += f" Rows of {side**2} elements may be images.reshape(-1, {side}, {side})."
        raise ValueError(
            f"{path}: holds no images for training but {found}; needs integers or floats of shape (N, H, W), "
            f"(N, H, W, C) or (N, C, H, W).{refused}"
        )
    for part in [part for part in labels if part not in chosen]:
        left.append(labels.pop(part).name)
    notes = [f"left out: {listed(left)}, which are not for training or testing."] if left else []
    return chosen, labels, notes


def _found(arrays: Iterable[Stored]) -> str:
    return listed(f"{array.name} {array.shape} of {array.dtype}".strip() for array in arrays)


def _eight_bit(images: Mapping[str, Stored]) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """The values as 0 … 255, in the shapes of the arrays, and what was made of their levels."""
    levels: dict[str, Levels] = {}
    pixels = {part: np.empty(math.prod(array.shape), np.uint8) for part, array in images.items()}
    for part, array in images.items():
        account = levels.setdefault(array.kind, Levels(array.kind == "floating-point"))
        end = 0
        for block in array.blocks():
            account.add(array.name, block)
            start, end = end, end + len(block)
            if array.kind == "8-bit":
                pixels[part][start:end] = block
    for part, array in images.items():
        span = levels[array.kind].range
        if array.kind != "8-bit":
            end = 0
            for block in array.blocks():
                start, end = end, end + len(block)
                pixels[part][start:end] = span.eight_bit(block)
        elif span.white == 1:
            pixels[part] *= 255
        pixels[part] = pixels[part].reshape(array.shape, order="F" if array.columns_first else "C")
    usual = {kind for kind in levels if kind == "8-bit" and levels[kind].range.white == 255}
    return pixels, [account.sentence(f"{kind} levels") for kind, account in levels.items() if kind not in usual]


def _channels_last(path: Path, array: Stored, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], str]:
    """Images `(N, H, W, C)`, and a sentence where that took a guess."""
    shape = array.shape
    subject = f"{path}: {array.name} has shape {shape}" if array.name else f"{path}: has shape {shape}"
    if 0 in shape:
        raise ValueError(f"{subject}, so there is nothing in it.")
    if len(shape) == 3:
        if shape[-1] in (1, 3, 4) and shape[1] > 4:
            raise ValueError(f"{subject}, which is one image; needs many: (N, H, W), (N, H, W, C) or (N, C, H, W).")
        return np.ascontiguousarray(pixels[..., np.newaxis]), ""
    if shape[3] in (1, 3):
        return np.ascontiguousarray(pixels), ""
    if shape[1] in (1, 3):
        note = f"{array.name} {shape} is taken for (N, C, H, W): channels first.".strip()
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), note
    raise ValueError(f"{subject}; needs 1 channel (grey) or 3 (red, green, blue), on its last or its second axis.")


def _labels(array: Stored, count: int) -> NDArray[np.uint8] | None:
    """Labels `(N,)`, or None where they are not one integer in 0 … 255 for each image."""
    if array.dtype.kind not in "bui" or count == 0 or array.shape not in ((count,), (count, 1)):
        return None
    values = np.concatenate(list(array.blocks()))
    return values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else None
