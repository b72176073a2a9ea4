"""The training images nearest to a sample: whether a generator has memorised them."""

from collections.abc import Iterator

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, to_host
from scratchgen.data import to_float
from scratchgen.measures.arrays import finite

PIXELS, SAMPLES = 1 << 22, 512  # pixels of images, and samples, at a time


def nearest_neighbours(samples: Array, images: Array, *, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest images to each sample, nearest first: indices (S, count), Euclidean distances (S, count).

    ‖s − x‖² = ‖s‖² − 2 s·x + ‖x‖² makes the search one matrix product in float32, block by block, so that a few tens
    of MB live at once. It loses digits where s is close to x, so the distances of those found are taken
    anew from their differences.

    `samples (S, ...)` and `images (N, ...)` with the same axes after the first, uint8 (as [0, 1]) or floats.
    TypeError or ValueError for others, for elements that are not finite, and unless 1 ≤ count ≤ N.
    """
    owner = "nearest_neighbours"
    for name, array in (("samples", samples), ("images", images)):
        checks.library(owner, name, array)
        if array.ndim < 2 or array.size == 0:
            raise ValueError(f"{owner}: {name} has shape {array.shape}, needs (N, ...) with at least one image")
    if samples.shape[1:] != images.shape[1:]:
        raise ValueError(f"{owner}: samples are {samples.shape[1:]}, needs {images.shape[1:]} as the images are")
    count = checks.integer(owner, "count", count)
    if count > len(images):
        raise ValueError(f"{owner}: count is {count}, needs at most {len(images)}, the number of images")
    samples, images = to_host(samples), to_host(images)

    found = [_search(_rows("samples", s), images, count) for s in _split(samples, SAMPLES)]
    indices, distances = (np.concatenate(part) for part in zip(*found, strict=True))
    return indices, distances


def _search(s: np.ndarray, images: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances for one block of samples (S, pixels)."""
    best = np.empty((len(s), 0), np.int64)
    lowest = np.empty((len(s), 0), np.float32)  # ‖x‖² − 2 s·x, which ranks as the distance does
    start = 0
    for block in _split(images, max(1, PIXELS // (images.size // len(images)))):
        x = _rows("images", block)
        score = s @ x.T
        score *= -2
        score += np.einsum("ij,ij->i", x, x)
        n = min(count, len(x))
        candidates = np.argpartition(score, n - 1, axis=1)[:, :n]  # (S, n)
        lowest = np.concatenate([lowest, np.take_along_axis(score, candidates, axis=1)], axis=1)
        best = np.concatenate([best, candidates + start], axis=1)
        keep = np.argsort(lowest, axis=1)[:, :count]
        best, lowest = np.take_along_axis(best, keep, axis=1), np.take_along_axis(lowest, keep, axis=1)
        start += len(x)
    columns = [np.linalg.norm(s - _rows("images", images[column]), axis=1) for column in best.T]
    distances = np.stack(columns, axis=1)  # (S, count)
    order = np.argsort(distances, axis=1)
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _split(array: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (array[i : i + size] for i in range(0, len(array), size))


def _rows(name: str, images: np.ndarray) -> np.ndarray:
    """(n, pixels) in float32."""
    x = to_float(images).reshape(len(images), -1).astype(np.float32, copy=False)
    return finite("nearest_neighbours", name, x)
