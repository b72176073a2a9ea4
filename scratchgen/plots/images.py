"""Images side by side, by Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CELL = 84  # pixels of an image in a row, or as many as it has if these are more
LETTERS = 21  # pixels
INK = 34  # of 255


def image_grid(images: NDArray, columns: int | None = None, *, scale: int = 1, gap: int = 2) -> Image.Image:
    """Images (N, H, W, C) in [0, 1] as one picture, row by row, `scale` pixels for each of theirs, gaps white.

    C is 1 or 3; of other images the first channel is shown. About as wide as high without `columns`.
    """
    N, H, W, C = images.shape
    columns = columns or int(np.ceil(np.sqrt(N)))
    rows = -(-N // columns)
    C = 3 if C == 3 else 1
    height, width = H * scale, W * scale
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, C), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (gap + n * (size + gap) for n, size in zip(divmod(i, columns), (height, width), strict=True))
        pixels = np.rint(255 * np.clip(np.nan_to_num(image[..., :C]), 0, 1)).astype(np.uint8)
        sheet[top : top + height, left : left + width] = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(sheet if C == 3 else sheet[..., 0])


def zoom(image_shape: Sequence[int], target: int = 56) -> int:
    """How many pixels to show for one, so that an image is about `target` wide."""
    return max(1, round(target / image_shape[1]))


def image_rows(rows: Sequence[tuple[str, NDArray]], columns: int = 12) -> Image.Image:
    """Rows of images (N, H, W, C) in [0, 1], each with a label at its left: rows of (label, images)."""
    columns = min(columns, max(len(images) for _, images in rows))
    scale, gap = zoom(rows[0][1].shape[1:], CELL), 3
    strips = [image_grid(images[:columns], columns, scale=scale, gap=gap) for _, images in rows]
    font, spacing = _font(), 6
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [ruler.multiline_textbbox((0, 0), text, font, spacing=spacing) for text, _ in rows]
    label = 16 + max(round(box[2]) for box in boxes) if any(text for text, _ in rows) else 0
    height = max(strips[0].height, round(max(box[3] for box in boxes)) + 2)
    sheet = Image.new(strips[0].mode, (label + strips[0].width, height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for r, ((text, _), strip, box) in enumerate(zip(rows, strips, boxes, strict=True)):
        sheet.paste(strip, (label, r * height + (height - strip.height) // 2))
        middle = r * height + (height - box[1] - box[3]) / 2
        ink = INK if sheet.mode == "L" else (INK,) * 3
        draw.multiline_text((4, middle), text, fill=ink, font=font, spacing=spacing)
    return sheet


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(LETTERS)
