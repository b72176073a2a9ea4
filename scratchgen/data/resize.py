"""Images of one size and one number of channels from images of any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scratchgen import checks
from scratchgen.data.dataset import Dataset

MODES = {1: "L", 3: "RGB"}  # Pillow's names of 8-bit grey and colour


def channel_count(owner: str, channels: int) -> int:
    """1 or 3; TypeError or ValueError for anything else."""
    if checks.integer(owner, "channels", channels) not in MODES:
        raise ValueError(f"{owner}: channels is {channels}, needs 1 (grey) or 3 (red, green, blue)")
    return int(channels)


def middle_square(image: Image.Image, size: int) -> Image.Image:
    """The shorter side brought to `size` pixels and the middle square cut out, in one antialiased step (Lanczos)."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))


def resized(data: Dataset, size: int | None = None, channels: int | None = None) -> Dataset:
    """The data set with images `(N, size, size, channels)`, None keeping what is; its name says what was done.

    Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B; colour from grey repeats it.

    Raises TypeError or ValueError unless `size` ≥ 1 and `channels` is 1 or 3.
    """
    height, width, depth = data.image_shape
    if size is not None:
        size = checks.integer("resized", "size", size)
    channels = depth if channels is None else channel_count("resized", channels)
    done = []
    if size is not None and (height, width) != (size, size):
        done.append(f"resized to {size} × {size}")
    if channels != depth:
        done.append("in grey" if channels == 1 else "in RGB")
    if not done:
        return data

    def convert(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shape = (height, width) if size is None else (size, size)
        result = np.empty((len(images), *shape, channels), np.uint8)
        for old, new in zip(images, result, strict=True):
            image = Image.fromarray(old[..., 0] if depth == 1 else old).convert(MODES[channels])
            new[:] = np.asarray(image if size is None else middle_square(image, size)).reshape(new.shape)
        return result

    return replace(
        data,
        name=f"{data.name}, {' '.join(done)}",
        train_images=convert(data.train_images),
        test_images=convert(data.test_images),
    )
