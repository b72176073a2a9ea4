"""The two halves of an autoencoder, fully connected or convolutional, for the models that have an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from scratchgen import checks, init
from scratchgen.backend.geometry import correlated_size, transposed_size
from scratchgen.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Layer, ReLU, Reshape, Sequential


def dense_networks(
    owner: str, image_shape: Any, *, latent: int, heads: int, hidden: Any, rng: np.random.Generator
) -> tuple[Sequential, Sequential]:
    """Fully connected: pixels → hidden … → heads·latent, and latent → … hidden → pixels, with ReLU between."""
    image_shape = checks.image_shape(owner, image_shape)
    latent, hidden = checks.integer(owner, "latent", latent), checks.sizes(owner, "hidden", hidden)
    pixels = prod(image_shape)
    encoder = Sequential(Flatten(), *stack([pixels, *hidden, heads * latent], rng))
    decoder = Sequential(*stack([latent, *reversed(hidden), pixels], rng), Reshape(*image_shape))
    return _with_first_weights(encoder, decoder, rng)


def conv_networks(
    owner: str, image_shape: Any, *, latent: int, heads: int, width: int, rng: np.random.Generator
) -> tuple[Sequential, Sequential]:
    """Convolutional: two strided convolutions down and one Dense; one Dense and two fractional-stride ones back up.

    The encoder ends in heads·latent features. Channels are width and 2·width; images of any size from 4×4 pixels.
    """
    H, W, C = checks.image_shape(owner, image_shape)
    latent, width = checks.integer(owner, "latent", latent), checks.integer(owner, "width", width)
    down: dict[str, Any] = {"kernel_size": 4, "stride": 2, "padding": 1, "rng": rng}
    half = _halved((H, W))
    quarter = _halved(half)
    if min(quarter) < 1:
        raise ValueError(f"{owner}: images are {H}×{W}, needs at least 4×4")
    code = (*quarter, 2 * width)
    encoder = Sequential(
        Conv2d(C, width, **down),  # half the size
        ReLU(),
        Conv2d(width, 2 * width, **down),  # a quarter
        ReLU(),
        Flatten(),
        Dense(prod(code), heads * latent, rng=rng),
    )
    decoder = Sequential(
        Dense(latent, prod(code), rng=rng),
        ReLU(),
        Reshape(*code),
        ConvTranspose2d(2 * width, width, **down, output_padding=_left_over(half, quarter)),
        ReLU(),
        ConvTranspose2d(width, C, **down, output_padding=_left_over((H, W), half)),
    )
    return _with_first_weights(encoder, decoder, rng)


def stack(sizes: Sequence[int], rng: np.random.Generator) -> list[Layer]:
    """Dense layers of these sizes with ReLU between them, none after the last."""
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, rng=rng), ReLU()]
    return layers[:-1]


def _with_first_weights(
    encoder: Sequential, decoder: Sequential, rng: np.random.Generator
) -> tuple[Sequential, Sequential]:
    """He weights where a ReLU follows, Glorot ones at the code, and the output layer near 0.

    An output of large random weights makes large first errors, and the steps against them leave many ReLU units dead.
    """
    for network in (encoder, decoder):
        for layer, following in pairwise(network.layers):
            if isinstance(following, ReLU):
                init.initialise(layer, init.he, rng)
    output = [layer for layer in decoder.layers if hasattr(layer, "fans")][-1]
    init.initialise(output, init.normal(1e-3), rng)
    return encoder, decoder


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    H, W = (correlated_size(n, kernel=4, stride=2, padding=1, dilation=1) for n in size)
    return H, W


def _left_over(size: tuple[int, int], half: tuple[int, int]) -> tuple[int, int]:
    """The output_padding with which a layer that doubles `half` gives `size`."""
    H, W = (
        n - transposed_size(h, kernel=4, stride=2, padding=1, dilation=1, output_padding=0)
        for n, h in zip(size, half, strict=True)
    )
    return H, W
