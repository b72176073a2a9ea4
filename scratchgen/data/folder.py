"""A folder of one's own images, of any size and kind, as a data set."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from scratchgen import checks
from scratchgen.data.dataset import Dataset
from scratchgen.data.resize import MODES, channel_count, middle_square

# Formats that are known by their first bytes. Pillow has more, some without such a mark, one that runs a program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# What looks like an image by its name. Pillow reads no HEIC by itself, but the user should hear of such files.
EXTENSIONS = (
    *(".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
TEST_EVERY = 10
ORIENTATION = 0x0112  # EXIF tag
# What brings an image of EXIF orientation 2 … 8 upright (EXIF 2.3, section 4.6.4).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_folder(path: str | os.PathLike[str], *, size: int = 64, channels: int = 3, progress: bool = True) -> Dataset:
    """Load the images in a folder and its sub-folders as uint8 `(N, size, size, channels)`, without labels.

    Of each image the shorter side is brought to `size` pixels and the middle square is kept, upright by its EXIF
    orientation, on white where it is transparent, the first frame if it moves. `channels` is 1 (grey) or 3. Every
    10th image, in the order of the paths from the first on, is held out for testing. Hidden files, and those whose
    names are no images', are left out, and links to folders are not followed; images that cannot be read are
    skipped and listed in `notes`.

    Levels of 16 bits are scaled to 8. Levels of 32 bits are taken for 16-bit ones; floating-point levels for
    0 … 1, 0 … 255 or 0 … 65535, the least of these ranges that holds them; an image beyond is skipped.

    Raises FileNotFoundError for a missing folder, TypeError or ValueError for unusable arguments, ValueError when
    fewer than two images can be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a directory, not {type(path).__name__}.")
    size = checks.integer("load_folder", "size", size)
    channels = channel_count("load_folder", channels)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: is not a directory; a folder with images is needed here.")
    candidates, others, notes = _list(folder)

    # Where an image goes depends on the number of those before it alone: images 0, 10, 20, … are for testing.
    tests = -(-len(candidates) // TEST_EVERY)
    train = np.empty((len(candidates), size, size, channels), np.uint8)  # pages that stay unused cost nothing
    test = np.empty((tests, size, size, channels), np.uint8)
    count = 0
    for file in _bar(candidates, progress):
        place, rest = divmod(count, TEST_EVERY)
        target = test[place] if rest == 0 else train[count - place - 1]
        try:
            target[:] = _decode(file, size, channels)
        except Exception as error:  # what damaged bytes do to a decoder has no narrower type
            notes.append(f"{file.relative_to(folder)}: skipped, {_reason(file, error)}.")
        else:
            count += 1
    if count < 2:
        found = "no image" if count == 0 else "only one image"
        raise ValueError(
            f"{folder}: holds {found} that can be read, needs at least 2; it has {_seen(others, candidates)}"
            + "".join(f"\n  {note}" for note in notes[:10])
            + f"\n  and {len(notes) - 10:,} more" * (len(notes) > 10)
        )
    tests = -(-count // TEST_EVERY)
    counts = f"{count - tests:,} training and {tests:,} test images of {size} × {size}"
    return Dataset(
        f"{folder.resolve().name} ({counts} from {folder})",
        train[: count - tests],
        None,
        test[:tests],
        None,
        notes=tuple(notes),
    )


def _list(folder: Path) -> tuple[list[Path], Counter[str], list[str]]:
    """Files that look like images, in the order of their paths; counts of others by extension; what went wrong."""
    candidates, others, notes = [], Counter(), []

    def unreadable(error: OSError) -> None:
        notes.append(f"{error.filename}: skipped, {error.strerror}.")

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if name.startswith("."):
                others["hidden"] += 1
            elif path.suffix.lower() in EXTENSIONS:
                candidates.append(path)
            else:
                others[path.suffix.lower() or "without extension"] += 1
    return sorted(candidates, key=lambda path: path.relative_to(folder).parts), others, notes


def _bar(files: list[Path], progress: bool):
    if not progress or not files:
        return files
    from scratchgen.progress import tqdm

    return tqdm(files, desc="images", unit="", leave=False, disable=None)


def _seen(others: Counter[str], candidates: list[Path]) -> str:
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{n:,} {kind}" for kind, n in ranked[:5]]
    total = others.total()
    listed = f" ({', '.join(kinds)}{', …' if len(others) > 5 else ''})" if kinds else ""
    return f"{len(candidates):,} files that look like images and {total:,} others{listed}."


def _reason(file: Path, error: Exception) -> str:
    if file.is_file() and file.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "it states more pixels than an image should have"
    return f"it cannot be read ({str(error).rstrip('.') or type(error).__name__})"


def _decode(file: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """The pixels `(size, size, channels)` of one file."""
    if not file.is_file():
        raise OSError("it is no regular file, or a link to nothing")
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata; what matters is an error
        with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            # A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves twice the pixels needed: much faster.
            image.draft(None, (2 * size, 2 * size))
            image.load()
            small = middle_square(_eight_bit(image).convert(MODES[channels]), size)
            try:
                turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
            except Exception:  # damaged EXIF data: the image is taken as it is
                turn = None
    if turn is not None:  # a middle square can as well be turned after as before
        small = small.transpose(turn)
    return np.asarray(small).reshape(size, size, channels)


def _eight_bit(image: Image.Image) -> Image.Image:
    """The image in one of Pillow's 8-bit modes, on white where it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image)
        low, high = levels.min(), levels.max()
        tops = (1, 255, 65535) if image.mode == "F" else (65535,)
        top = next((top for top in tops if low >= 0 and high <= top), None)  # None for NaN, too
        if top is None:
            raise ValueError(f"its levels go from {low} to {high}, needs 0 to {tops[-1]}")
        grey = np.rint(levels * np.float32(255 / top)).astype(np.uint8)
        if "transparency" in image.info:  # one level that stands for nothing
            grey[levels == image.info["transparency"]] = 255
        return Image.fromarray(grey)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
