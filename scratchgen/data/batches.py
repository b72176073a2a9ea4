"""Minibatches in an order that a seed fixes and a resumed run can continue."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from scratchgen import checks

_DATA_ORDER = 0xDA7A  # keeps this stream apart from all others of the same seed, such as the initial weights'


def to_float(images: NDArray) -> NDArray:
    """Images as floats: uint8 in 0 … 255 becomes float32 in [0, 1], floats pass through; any shape.

    Raises TypeError for other types.
    """
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a NumPy array, not {type(images).__name__}.")
    if images.dtype == np.uint8:
        return np.divide(images, 255, dtype=np.float32)  # float32 all the way, and 255 gives exactly 1
    if images.dtype in (np.float32, np.float64):
        return images
    raise TypeError(f"images must be uint8, float32 or float64, not {images.dtype}.")


def minibatches(
    images: NDArray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    start: int = 0,
    drop_last: bool = False,
    change: Callable[[NDArray, int], NDArray] | None = None,
) -> Iterator[NDArray]:
    """One epoch of minibatches `(batch_size, …)` in a fresh random order; the last may be shorter.

    `start=k` leaves out the first k batches: with a generator in the same state, a resumed run gets the very
    batches that the interrupted one still had before it. uint8 images come as float32 in [0, 1], floats in
    their own type. `change(batch, index)` may give another batch in the place of each, before it becomes float.
    The order is drawn, and the arguments are checked, at the call.

    Raises TypeError or ValueError for unusable arguments.
    """
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a NumPy array, not {type(images).__name__}.")
    if images.size == 0 or images.ndim == 0:
        raise ValueError(f"images must hold at least one image, not shape {images.shape}.")
    to_float(images[:0])  # checks the type
    batch_size = checks.integer("minibatches", "batch_size", batch_size)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__}.")
    count = len(images) // batch_size if drop_last else -(-len(images) // batch_size)
    if count == 0:
        raise ValueError(f"drop_last leaves no batch: {len(images)} images, batch_size {batch_size}.")
    start = checks.integer("minibatches", "start", start, least=0)
    if start > count:
        raise ValueError(f"start must be 0 to {count}, the number of batches, not {start}.")
    order = rng.permutation(len(images))

    def batch(i: int) -> NDArray:
        chosen = images[order[i * batch_size : (i + 1) * batch_size]]
        return to_float(chosen if change is None else change(chosen, i))

    return map(batch, range(start, count))


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """The generator of one epoch's data order: a function of (seed, epoch) alone, independent of other uses.

    `default_rng([seed, epoch])` would not do: for epoch 0 it is the stream of `default_rng(seed)`.

    Raises TypeError or ValueError unless both are integers ≥ 0.
    """
    entropy = checks.integer("epoch_rng", "seed", seed, least=0)
    key = checks.integer("epoch_rng", "epoch", epoch, least=0)
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(_DATA_ORDER, key)))
