"""A sheet of images, for a notebook or a file: `scratchgen.show`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from math import isqrt
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scratchgen import checks
from scratchgen.backend import Array, to_host
from scratchgen.plots.images import INK, image_grid
from scratchgen.plots.style import load_matplotlib

MOST = 1024  # images
CELL, ALONE, WIDEST = 84, 280, 1600  # pixels: of an image among others, of a single one, of a sheet
LETTERS, LINE, GAP = 12, 18, 2  # pixels, of titles and between images
MEND = (
    ": of logits show the sigmoid (decode and reconstruct of a model give it); divide pixels of 0 … 255 by 255, and "
    "take (x + 1) / 2 of those of [−1, 1]"
)


def show(
    images: Array | Sequence[Any], *, columns: int | None = None, titles: Iterable[object] | None = None
) -> Image.Image:
    """Images side by side, row by row: a Pillow image, which a notebook displays, and which can be saved.

        scratchgen.show(images[:16], columns=8, titles=labels[:16])
        scratchgen.show(run.generate(z)).save("samples.png")

    `images` are floats in [0, 1], or bytes (uint8) of 0 … 255; NumPy's or CuPy's, or a list of those of one shape:

        (N, H, W, C)     C is 1, grey, or 3, red, green and blue
        (N, H, W)        grey; one image (H, W, C) where the last size is 1 or 3
        (N, H·W)         square ones as vectors, grey or, of 3·H·W elements, coloured
        (H, W), (H·W,)   one image: of two equal sizes, or of a width that is no square

    About as wide as high without `columns`; a sheet of more than 1600 pixels is reduced to that. `titles` stand above
    the images. ValueError or TypeError for anything else: another range, as logits have, or what is not finite.
    """
    pixels = _pixels(_array(images))
    count = len(pixels)
    columns = columns if columns is None else min(checks.integer("show", "columns", columns), count)
    columns = columns or int(np.ceil(np.sqrt(count)))
    words = None if titles is None else _words(titles, count)
    cell = ALONE if count == 1 else CELL
    most = max(1, WIDEST // columns // pixels.shape[2])
    scale = min(most, max(1, round(cell / max(pixels.shape[1:3]))))
    sheet = (
        image_grid(pixels, columns, scale=scale, gap=GAP) if words is None else _titled(pixels, columns, scale, words)
    )
    if sheet.width > WIDEST or sheet.height > 4 * WIDEST:
        share = min(WIDEST / sheet.width, 4 * WIDEST / sheet.height)
        size = (max(1, round(sheet.width * share)), max(1, round(sheet.height * share)))
        sheet = sheet.resize(size, Image.Resampling.BOX)
    return sheet


def _array(images: Any) -> np.ndarray:
    """What was given as one NumPy array."""
    if isinstance(images, list | tuple):
        if not images:
            raise ValueError("show: got no images")
        found = [_array(image) if not isinstance(image, int | float) else np.asarray(image) for image in images]
        shapes = sorted({image.shape for image in found})
        if len(shapes) > 1:
            raise ValueError(f"show: the images have shapes {shapes[0]} and {shapes[1]}, needs one shape")
        return np.stack(found)
    checks.library("show", "images", images)
    return to_host(images)


def _pixels(array: np.ndarray) -> np.ndarray:
    """As (N, H, W, C) in [0, 1]."""
    shaped = _shaped(array)
    if array.dtype == np.uint8:
        return shaped / np.float32(255)
    if array.dtype == bool:
        return shaped.astype(np.float32)
    if array.dtype.kind != "f":
        way = ""
        if array.dtype.kind in "iu":
            way = ": images.astype(np.uint8) of pixels of 0 … 255, or images / 16 where 16 is white"
        raise TypeError(f"show: images have dtype {array.dtype}, needs floats in [0, 1] or uint8{way}")
    checks.between("show", "the array", array, 0, 1, MEND)
    return shaped


def _shaped(array: np.ndarray) -> np.ndarray:
    """As (N, H, W, C)."""
    shape = array.shape
    if array.size == 0:
        raise ValueError(f"show: images have shape {shape}, which has no pixels")
    match shape:
        case (_, _, _, 1 | 3):
            found = array
        case (H, W, 1 | 3):
            found = array[None]
        case (_, _, n) if n != 4:  # as many as colours with their opacity
            found = array[..., None]
        case (H, W) if H == W or not _of_squares(W):
            found = array[None, :, :, None]
        case (*_, n) if len(shape) < 3 and (side := _of_squares(n)):
            found = array.reshape(-1, side, side, n // side**2)
        case _:
            raise ValueError(f"show: images have shape {shape}, needs {_needed(shape)}")
    if len(found) > MOST:
        raise ValueError(f"show: {len(found):,} images are too many for a sheet: choose some, as in images[:64]")
    return found


def _of_squares(n: int) -> int:
    """The side of a square image of n elements, grey or of three colours; 0 where it is none."""
    return next((isqrt(n // c) for c in (1, 3) if n % c == 0 and isqrt(n // c) ** 2 == n // c), 0)


def _needed(shape: tuple[int, ...]) -> str:
    match shape:
        case (_, 1 | 3, _, _):
            return "(N, H, W, C): channels come last, images.transpose(0, 2, 3, 1)"
        case (_, _, _, C) | (_, _, C):
            return f"(N, H, W, C) with 1 channel or 3, not {C}: choose some, as in images[..., :{3 if C > 3 else 1}]"
        case (n,):
            return f"(N, H, W, C), or the pixels of a square image, and {n} is no square"
        case _:
            return "(N, H, W, C), (N, H, W) or (N, H·W)"


def _words(titles: Iterable[object], count: int) -> list[str]:
    if isinstance(titles, str):
        raise TypeError(f"show: titles is {titles!r}, needs one for each image: [{titles!r}] for a single one")
    words = [" ".join(str(title).split()) for title in titles]
    if len(words) != count:
        raise ValueError(f"show: got {len(words)} titles for {count} image{'s' * (count > 1)}, needs one for each")
    return words


def _titled(pixels: np.ndarray, columns: int, scale: int, words: list[str]) -> Image.Image:
    """The same sheet with room for a line above each image; what is too long ends in …"""
    strips = [
        image_grid(pixels[i : i + columns], columns, scale=scale, gap=GAP) for i in range(0, len(pixels), columns)
    ]
    height, width = LINE + strips[0].height, pixels.shape[2] * scale
    sheet = Image.new(strips[0].mode, (strips[0].width, height * len(strips)), "white")
    draw, letters = ImageDraw.Draw(sheet), _font()
    for r, strip in enumerate(strips):
        sheet.paste(strip, (0, r * height + LINE))
    for i, text in enumerate(words):
        shown = text
        while shown and draw.textlength(shown, letters) > width:
            shown = shown.rstrip("…")[:-1] + "…" if len(shown.rstrip("…")) > 1 else ""
        r, c = divmod(i, columns)
        left = GAP + c * (width + GAP) + (width - draw.textlength(shown, letters)) / 2
        draw.text((left, r * height + 2), shown, fill=INK if sheet.mode == "L" else (INK,) * 3, font=letters)
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont:
    """matplotlib's, which has Greek letters and signs of mathematics, as Pillow's own has not."""
    return ImageFont.truetype(f"{load_matplotlib().get_data_path()}/fonts/ttf/DejaVuSans.ttf", LETTERS)
