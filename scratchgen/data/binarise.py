"""Pixels as a model wants them: binary for a Bernoulli likelihood, in [-1, 1] for a generator that ends in tanh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.data.batches import to_float

BINARISATIONS = ("none", "threshold", "dynamic")


def binarise(images: NDArray, how: str, rng: np.random.Generator | None = None) -> NDArray:
    """Binary pixels, 0 or 1, from images in [0, 1] of any shape, in the dtype of the images.

    how:
        "none"       the images themselves
        "threshold"  1 where the pixel is ≥ 1/2
        "dynamic"    1 with the pixel as probability, drawn anew at each call, from `rng`

    A Bernoulli likelihood, p^x (1 - p)^(1 - x), is a distribution over x in {0, 1} only: over [0, 1] it does not
    integrate to 1, so what it gives for grey pixels is no log-density of these (it bounds the mean log-likelihood of
    the binary images drawn from them, loosely), and not to be compared with figures on binary pixels. Those are made
    by one draw for good (fixed binarisation: Salakhutdinov & Murray 2008, On the quantitative analysis of deep belief
    networks) or by a fresh draw each time an image is used (dynamic: Burda, Grosse & Salakhutdinov 2016, Importance
    weighted autoencoders, section 5), which overfits less; figures for the two, or for a threshold, are not
    comparable with each other.

    Raises TypeError for images that are no float32 or float64 array, or without a generator where one is needed;
    ValueError for an unknown `how` or pixels outside [0, 1].
    """
    if how not in BINARISATIONS:
        raise ValueError(f"binarise: how is {how!r}, needs one of {', '.join(BINARISATIONS)}")
    _float_images("binarise", images)
    if how == "dynamic" and not isinstance(rng, np.random.Generator):
        raise TypeError(f"binarise: rng is {rng!r}, dynamic needs a numpy.random.Generator")
    if how == "none":
        return images
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # not: NaN is no probability either
        raise ValueError(f"binarise: pixels go from {images.min()} to {images.max()}, needs 0 to 1")
    return compared(images, how, rng.random(images.shape, images.dtype) if how == "dynamic" and rng else None)


def compared(images: Array, how: str, uniform: Array | None = None) -> Array:
    """What "threshold" and "dynamic" mean, for arrays of any library and shape, without the checks of `binarise`,
    which would wait for a GPU.

    `uniform` is drawn from [0, 1), in the images' shape and dtype, so that 0 never gives 1 and 1 always does.
    """
    binary = images >= 0.5 if how == "threshold" else uniform < images
    return binary.astype(images.dtype)


def to_signed(images: NDArray) -> NDArray:
    """Images in [0, 1], or uint8 in 0 … 255, as floats in [-1, 1], the range of tanh; any shape.

    Raises TypeError for other types.
    """
    return 2 * to_float(images) - 1


def to_unit(images: NDArray) -> NDArray:
    """Images in [-1, 1] as floats in [0, 1], what lies outside being cut off; any shape.

    Raises TypeError unless they are a float32 or float64 array.
    """
    _float_images("to_unit", images)
    return np.clip((images + 1) / 2, 0, 1)


def _float_images(owner: str, images: NDArray) -> None:
    if not isinstance(images, np.ndarray):
        raise TypeError(f"{owner}: images must be a NumPy array, not {type(images).__name__}.")
    if images.dtype not in checks.FLOATS:
        raise TypeError(f"{owner}: images have dtype {images.dtype}, needs float32 or float64: to_float(images)")
