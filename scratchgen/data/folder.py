"""A folder of one's own images, of any size and kind, as a data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.dataset import Dataset
from scratchgen.data.levels import even
from scratchgen.data.limits import check_memory
from scratchgen.data.picture import Pictures, Unusable
from scratchgen.data.resize import channel_count, rows_and_columns
from scratchgen.data.tally import Tally
from scratchgen.paths import as_path

# What looks like an image by its name. Pillow reads no HEIC by itself, but the user should hear of such files.
EXTENSIONS = (
    *(".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
# What systems put beside one's own files, thumbnails among them.
SYSTEM = (
    *("$recycle.bin", "@eadir", "__macosx", "desktop.ini", "ehthumbs.db", "system volume information", "thumbs.db"),
)
TEST_EVERY = 10


def load_folder(
    path: str | os.PathLike[str], *, size: int | tuple[int, int] = 64, channels: int = 3, progress: bool = True
) -> Dataset:
    """Load the images in a folder and its sub-folders as uint8 `(N, H, W, channels)`, without labels.

    `size` is (H, W), or one side of a square. Of each image the middle is kept, cut to these proportions and
    brought to this size, upright by its EXIF orientation, on white where it is transparent, the first frame if it
    moves. `channels` is 1 (grey) or 3. Every 10th image, in the order of the paths from the first on, is held out
    for testing. Links to folders are followed, each folder being taken once. What is left out is counted in `notes`,
    by kind with examples: hidden and system files, not named as images, files that cannot be read or are
    larger than photographs (`picture.MOST_PIXELS`).

    Levels of more than 8 bits and of floating point are scaled to 8 bits by the range that all such images use
    together (`levels.Range`), which `notes` name.

    Raises FileNotFoundError for a missing folder, TypeError or ValueError for unusable arguments, ValueError when
    fewer than two images can be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a directory, not {type(path).__name__}.")
    shape = rows_and_columns("load_folder", "size", size)
    channels = channel_count("load_folder", channels)
    folder = as_path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: is not a directory; a folder with images is needed here.")
    files, tally = find_images(folder)

    needed = len(files) * shape[0] * shape[1] * channels
    check_memory(f"{folder}: {len(files):,} images of {shape[0]} × {shape[1]}", needed, "smaller ones need less")
    # Where an image goes depends on the number of those before it alone: images 0, 10, 20, … are for testing.
    tests = -(-len(files) // TEST_EVERY)
    train = np.empty((len(files), *shape, channels), np.uint8)  # pages that stay unused cost nothing
    test = np.empty((tests, *shape, channels), np.uint8)

    def place(index: int) -> NDArray[np.uint8]:
        rank, rest = divmod(index, TEST_EVERY)
        return test[rank] if rest == 0 else train[index - rank - 1]

    pictures = Pictures(shape, channels)
    count, deep = 0, []
    for file in _bar(files, progress):
        name = str(file.relative_to(folder))
        try:
            place(count)[:], kind, span = pictures.decode(file, name)
        except Unusable as error:
            tally.add(f"left out: {error.kind}", f"{name}: {error.detail}" if error.detail else name)
        else:
            if kind is not None:
                deep.append((count, file, name, kind, span))
            count += 1
    if count < 2:
        found = "no image" if count == 0 else "only one image"
        listed = "".join(f"\n  {sentence}" for sentence in tally.sentences()) or ("" if count else " it is empty.")
        raise ValueError(
            f"{folder}: holds {found} that can be read, needs at least 2{';' if listed else '.'}{listed}"
        )
    for index, file, name, kind, span in deep:
        if span != pictures.levels[kind].range:  # what came later uses another
            try:
                place(index)[:] = pictures.decode(file, name, again=True)[0]
            except Unusable as error:
                raise ValueError(f"{file}: has changed while the folder was read ({error.kind}).") from None
    tests = -(-count // TEST_EVERY)
    train, test = train[: count - tests], test[:tests]
    notes = [*tally.sentences(), *pictures.tally.sentences()]
    for kind, name in ("float", "floating-point levels"), ("integer", "levels of 16 bits or more"):
        if n := sum(kind == other for _, _, _, other, _ in deep):
            notes.append(pictures.levels[kind].sentence(f"{name}, in {n:,} image{'' if n == 1 else 's'},"))
    notes.append(even(train, test))
    counts = f"{count - tests:,} training and {tests:,} test images of {shape[0]} × {shape[1]}"
    return Dataset(
        f"{folder.resolve().name} ({counts} from {folder})", train, None, test, None, notes=tuple(filter(None, notes))
    )


def find_images(folder: Path) -> tuple[list[Path], Tally]:
    """Files that look like images, in the order of their paths, and what was left out.

    Links to folders are followed after the folders themselves: what is reached in both ways is taken where it lies.
    """
    files: list[Path] = []
    tally, others = Tally(), Counter[str]()
    top = os.path.realpath(folder)
    visited: set[str] = set()
    waiting, links = [folder], list[Path]()
    while waiting or links:
        linked = not waiting
        parent = links.pop(0) if linked else waiting.pop()
        real = os.path.realpath(parent)
        if real in visited or (real != top and _holds(real, top)):
            tally.add("left out: folders taken already, which a link reaches again", parent.relative_to(folder))
            continue
        visited.add(real)
        if linked:
            tally.add("followed: links to folders", parent.relative_to(folder))
        try:
            with os.scandir(parent) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            tally.add(f"left out: cannot be opened, {error.strerror}", parent.relative_to(folder))
            continue
        for entry in entries:
            path = parent / entry.name
            link = entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
                tally.add("left out: hidden and system files")
            elif os.path.isdir(path) if link else entry.is_dir():
                (links if link else waiting).append(path)
            elif link and not os.path.exists(path):
                tally.add("left out: broken links", path.relative_to(folder))
            elif path.suffix.lower() in EXTENSIONS:
                files.append(path)
            else:
                others[path.suffix.lower() or "without extension"] += 1
    if others:
        ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
        kinds = [f"{n:,} {kind}" for kind, n in ranked[:5]] + ["…"] * (len(others) > 5)
        tally.add(f"left out: not named as images ({', '.join(kinds)})", count=others.total())
    return sorted(files, key=lambda path: path.relative_to(folder).parts), tally


def _holds(outer: str, inner: str) -> bool:
    """Whether one folder lies, however deep, in another."""
    return Path(outer) in Path(inner).parents


def _bar(files: list[Path], progress: bool) -> Iterable[Path]:
    if not progress or not files:
        return files
    from scratchgen.progress import tqdm

    return tqdm(files, desc="images", unit="", leave=False, disable=None)
