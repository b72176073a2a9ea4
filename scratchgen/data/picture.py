"""One image file of any kind to pixels of one size: upright, on white, cut to the middle, never larger in memory than
its decoder makes it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from scratchgen.data.levels import Levels, Range
from scratchgen.data.resize import MODES, middle
from scratchgen.data.tally import Tally

# Formats that are known by their first bytes. Pillow has more, some without such a mark, one that runs a program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 200_000_000  # what a photograph has: the largest sensors of telephones, 16,320 × 12,240
MOST_BYTES = 4 * MOST_PIXELS  # while it is decoded
# Bytes that decoding takes for each pixel (measured; Pillow keeps three channels in four bytes), where its library
# has copies of its own.
BYTES = {"AVIF": 10, "JPEG2000": 20, "WEBP": 16}
BYTES_OF_MODE = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # of others 4
PROGRESSIVE = 6  # a progressive JPEG's coefficients, kept whole whatever the size asked for
STRIP = 1 << 20  # pixels that are converted at a time
MOVING = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # formats whose further frames are further images
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
SAME_SIDES = (UPRIGHT[2], UPRIGHT[3], UPRIGHT[4])  # width stays width

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs of each file is on the terminal


class Unusable(Exception):
    """A file that is left out: `kind` says why, for all files alike, and `detail` what is its own."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail


class Pictures:
    """Decodes files to `(H, W, channels)`; keeps account of the levels that they use, and of what is made of them."""

    def __init__(self, shape: tuple[int, int], channels: int) -> None:
        self.shape, self.channels = shape, channels
        self.levels = {"integer": Levels(floating=False), "float": Levels(floating=True)}
        self.tally = Tally()

    def decode(
        self, file: Path, name: str, *, again: bool = False
    ) -> tuple[NDArray[np.uint8], str | None, Range | None]:
        """The pixels of one file, and for one of more than 8 bits the kind and the range of its levels.

        That range is what the files so far use; when another comes out in the end, decode it `again`.

        Raises Unusable.
        """
        try:
            with _pillow(file) as image:
                whole = image.size
                # A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves twice the pixels needed: much faster.
                image.draft(None, (2 * max(self.shape),) * 2)
                _check_size(image, whole)
                if not again:
                    self._remark(image, name)
                with _silent_libtiff(image):
                    image.load()
                return self._pixels(image, name)
        except Unusable:
            raise
        except UnidentifiedImageError:
            if file.stat().st_size == 0:
                raise Unusable("empty") from None
            if file.suffix.lower() in (".heic", ".heif"):
                raise Unusable("HEIC, which Pillow does not read: convert them to JPEG or PNG") from None
            raise Unusable("no image of a known format") from None
        except MemoryError:
            raise Unusable("larger than the memory that is left") from None
        except OSError as error:
            if error.errno is not None:
                raise Unusable(f"cannot be opened, {error.strerror}") from None
            raise Unusable("damaged", str(error)) from None
        except Exception as error:  # what damaged bytes do to a decoder has no narrower type
            raise Unusable("damaged", str(error) or type(error).__name__) from None

    def _remark(self, image: Image.Image, name: str) -> None:
        """Keep account of what is not taken as it is."""
        if image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(part[-1]) for part in getattr(image, "tile", ())):
            self.tally.add("taken with the upper 8 of the 16 bits of their colours", name)
        try:
            moves = image.format in MOVING and getattr(image, "is_animated", False)
        except Exception:  # damaged behind the first frame
            moves = False
        if moves:
            self.tally.add("taken with the first of their frames alone", name)

    def _pixels(self, image: Image.Image, name: str) -> tuple[NDArray[np.uint8], str | None, Range | None]:
        """Of a decoded image."""
        kind = "float" if image.mode == "F" else "integer" if image.mode.startswith("I") else None
        span = None
        if kind is not None:
            for strip in _strips(image):
                self.levels[kind].add(name, np.asarray(strip))
            span = self.levels[kind].range
        try:
            orientation = image.getexif().get(ORIENTATION)
        except Exception:  # damaged EXIF data: the image is taken as it is
            orientation = None
        turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
        # The middle can as well be turned after it is cut out as before.
        lying = turn is not None and turn not in SAME_SIDES
        shape = self.shape[::-1] if lying else self.shape
        small = cut(image, shape, MODES[self.channels], lambda strip: _eight_bit(strip, span))
        if turn is not None:
            small = small.transpose(turn)
        return np.asarray(small).reshape(*self.shape, self.channels), kind, span


def _check_size(image: Image.Image, whole: tuple[int, int]) -> None:
    """Unusable where it is larger than a photograph; `whole` is its size, of which a JPEG may give less."""
    width, height = whole
    needed = (BYTES.get(image.format or "") or BYTES_OF_MODE.get(image.mode, 4)) * image.width * image.height
    if image.format == "TIFF":
        needed *= 2  # a strip, which may be all of it, is unpacked first
    if "progression" in image.info:
        needed += PROGRESSIVE * width * height
    if width * height > MOST_PIXELS or needed > MOST_BYTES:
        limit = f"{MOST_PIXELS // 10**6} million pixels, or {MOST_BYTES // 10**6} MB while it is decoded"
        raise Unusable(f"larger than {limit}", f"{width:,} × {height:,} pixels")


@contextmanager
def _pillow(file: Path) -> Iterator[Image.Image]:
    """The opened file; Pillow's global settings are put back."""
    if not file.is_file():
        raise Unusable("no regular file")
    Image.init()
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # Pillow refuses twice as many before it says how many there are
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on odd metadata; what matters is an error
            with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                yield image
    except Image.DecompressionBombError as error:
        pixels = f"{2 * MOST_PIXELS // 10**6} million pixels or more"
        raise Unusable(f"larger than {MOST_PIXELS // 10**6} million pixels", pixels) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _silent_libtiff(image: Image.Image) -> Iterator[None]:
    """libtiff writes what is wrong to the standard error of the process, beneath Python: a line for each file."""
    try:
        kept = os.dup(2) if image.format == "TIFF" else None
    except OSError:  # there is no standard error
        kept = None
    if kept is None:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def cut(
    image: Image.Image, shape: tuple[int, int], mode: str, flatten: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """The middle of the image in the proportions of `shape`, brought to that many rows and columns, antialiased.

    It is flattened, and its rows are brought to their length by a Lanczos filter, a strip at a time, so that no
    second copy of the image is made; then the columns are.
    """
    height, width = shape
    left, top, right, bottom = middle(image.size, shape)
    reach = 3 * max(1, (bottom - top) / height) + 2  # rows beyond the box that the Lanczos kernel sees
    first, last = max(0, int(top - reach)), min(image.height, int(bottom + reach) + 1)
    narrow = Image.new(mode, (width, last - first))
    for start, strip in zip(_starts(image, first, last), _strips(image, first, last), strict=True):
        strip = flatten(strip).convert(mode)
        box = (left, 0, right, strip.height)
        narrow.paste(strip.resize((width, strip.height), Image.Resampling.LANCZOS, box), (0, start - first))
    return narrow.resize((width, height), Image.Resampling.LANCZOS, (0, top - first, width, bottom - first))


def _starts(image: Image.Image, first: int, last: int) -> range:
    return range(first, last, max(1, STRIP // image.width))


def _strips(image: Image.Image, first: int = 0, last: int | None = None) -> Iterator[Image.Image]:
    """The rows from `first` up to `last`, about STRIP pixels at a time."""
    last = image.height if last is None else last
    starts = _starts(image, first, last)
    for start in starts:
        yield image.crop((0, start, image.width, min(start + starts.step, last)))


def _eight_bit(image: Image.Image, span: Range | None) -> Image.Image:
    """The image in one of Pillow's 8-bit modes, on white where it is transparent."""
    if span is not None:
        levels = np.asarray(image)
        grey = span.eight_bit(levels)
        if "transparency" in image.info:  # one level that stands for nothing
            grey[levels == image.info["transparency"]] = 255
        return Image.fromarray(grey)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
