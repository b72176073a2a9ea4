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


def rows_and_columns(owner: str, name: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W), of a square for one integer; TypeError or ValueError for anything else."""
    if not isinstance(size, tuple | list):
        size = checks.integer(owner, name, size)
        return size, size
    if len(size) != 2:
        raise ValueError(f"{owner}: {name} is {size!r}, needs one side in pixels, or (height, width)")
    height, width = (checks.integer(owner, name, n) for n in size)
    return height, width


def middle(size: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Of an image of `size` (width, height) the largest box of the proportions of `shape` (H, W) around its middle:
    left, top, right, bottom.
    """
    width, height = size
    rows, columns = shape
    across = min(width, height * columns / rows)
    down = min(height, width * rows / columns)
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, min(width, left + across), min(height, top + down)


def resized(data: Dataset, size: int | tuple[int, int] | None = None, channels: int | None = None) -> Dataset:
    """The data set with images `(N, H, W, channels)`, None keeping what is; its name says what was done.

    `size` is (H, W), or one side of a square. Of each image the middle is kept, cut to these proportions, in one
    antialiased step (Lanczos). Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B; colour from grey
    repeats it.

    Raises TypeError or ValueError unless the sizes are ≥ 1 and `channels` is 1 or 3.
    """
    height, width, depth = data.image_shape
    shape = (height, width) if size is None else rows_and_columns("resized", "size", size)
    channels = depth if channels is None else channel_count("resized", channels)
    done = []
    if (height, width) != shape:
        done.append(f"resized to {shape[0]} × {shape[1]}")
    if channels != depth:
        done.append("in grey" if channels == 1 else "in RGB")
    if not done:
        return data
    box = middle((width, height), shape)

    def convert(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        result = np.empty((len(images), *shape, channels), np.uint8)
        for old, new in zip(images, result, strict=True):
            image = Image.fromarray(old[..., 0] if depth == 1 else old).convert(MODES[channels])
            new[:] = np.asarray(image.resize(shape[::-1], Image.Resampling.LANCZOS, box)).reshape(new.shape)
        return result

    return replace(
        data,
        name=f"{data.name}, {' '.join(done)}",
        train_images=convert(data.train_images),
        test_images=convert(data.test_images),
    )
