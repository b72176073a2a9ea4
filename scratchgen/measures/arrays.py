"""What measures are taken of: arrays on the host, checked once, and worked through in blocks."""

from collections.abc import Iterator

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, to_host
from scratchgen.data import to_float

BLOCK = 500  # images at a time


def blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images (N, ...) in order, BLOCK at a time, uint8 as float32 in [0, 1]."""
    return (to_float(images[i : i + BLOCK]) for i in range(0, len(images), BLOCK))


def vectors(owner: str, name: str, value: Array, least: int = 1) -> np.ndarray:
    """The vectors (N, D) as float64 on the host; TypeError for what is no array of numbers, ValueError for another
    shape, for fewer than `least` rows and for elements that are not finite."""
    checks.library(owner, name, value)
    if value.dtype.kind not in "fiu":
        raise TypeError(f"{owner}: {name} has dtype {value.dtype}, needs real numbers")
    if value.ndim != 2 or value.shape[1] == 0 or len(value) < least:
        raise ValueError(f"{owner}: {name} has shape {value.shape}, needs (N, D) with N ≥ {least}, D ≥ 1")
    return finite(owner, name, to_host(value).astype(np.float64))


def finite(owner: str, name: str, array: np.ndarray) -> np.ndarray:
    """The array itself; ValueError when one of its elements is not finite."""
    if not np.isfinite(array).all():
        raise ValueError(f"{owner}: {name} holds elements that are not finite")
    return array
