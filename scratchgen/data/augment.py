"""Other views of the same images, so that a few hundred of them last longer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scratchgen.data.resize import MODES

AUGMENTATIONS = ("flip", "crop", "shift")
SMALLEST_CROP = 0.85  # share of each side
MOST_SHIFT = 1 / 16  # of a side


def augmented(images: NDArray[np.uint8], kinds: Sequence[str], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The images uint8 `(N, H, W, C)`, each changed in its own way, drawn from rng; a new array.

    "flip"   mirrored left to right, every second one on average
    "crop"   a part of 85 to 100 % of both sides, anywhere in the image, enlarged to the size of the whole (bilinear)
    "shift"  moved by whole pixels up to a 16th of each side; the pixels at the border are repeated

    Raises ValueError for another kind.
    """
    for kind in kinds:
        if kind not in AUGMENTATIONS:
            raise ValueError(f"augmented: there is no {kind!r}, choose from {', '.join(AUGMENTATIONS)}")
    images = images.copy()
    if "flip" in kinds:
        mirrored = rng.random(len(images)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if "shift" in kinds:
        _shift(images, rng)
    if "crop" in kinds:
        _crop(images, rng)
    return images


def _shift(images: NDArray[np.uint8], rng: np.random.Generator) -> None:
    N, H, W, _ = images.shape
    most = round(H * MOST_SHIFT), round(W * MOST_SHIFT)
    down, right = (rng.integers(-m, m + 1, N) for m in most)
    for image, i, j in zip(images, down, right, strict=True):
        rows, columns = np.clip(np.arange(H) - i, 0, H - 1), np.clip(np.arange(W) - j, 0, W - 1)
        image[:] = image[rows[:, None], columns]


def _crop(images: NDArray[np.uint8], rng: np.random.Generator) -> None:
    N, H, W, C = images.shape
    share = rng.uniform(SMALLEST_CROP, 1, N)
    top, left = rng.random(N) * (1 - share) * H, rng.random(N) * (1 - share) * W
    for i, (s, y, x) in enumerate(np.stack((share, top, left), axis=1).tolist()):
        box = (x, y, min(W, x + s * W), min(H, y + s * H))
        picture = Image.fromarray(images[i, ..., 0] if C == 1 else images[i], MODES[C])
        images[i] = np.asarray(picture.resize((W, H), Image.Resampling.BILINEAR, box)).reshape(H, W, C)
