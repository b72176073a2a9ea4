"""Random changes after which an image is still one of its kind.

At the entrance of a discriminator they apply to real and generated images alike: it cannot learn a small data set by
heart, and the generator, whose gradient goes back through them, need not make changed images.

Each acts on images (N, H, W, C), draws for each sample by itself, and is the identity in `predict`. What was drawn
moves pixels or sets them to 0. That is linear in x, and its adjoint takes dy back the way the pixels came.

(Zhao et al. 2020, Differentiable augmentation for data-efficient GAN training.)
"""

from __future__ import annotations

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.random import Random
from scratchgen.layers.tangent import TwoPullbacks

Spans = list[tuple[slice, slice]]  # rows and columns, of each sample


class _OfImages(Random):
    def predict(self, x: Array) -> Array:
        self.check_input(x, "N", "H", "W", "C")
        return x

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """Linear for what was drawn: u is t changed likewise, and dt is du taken back."""
        return self.linear_jvp(x, t)


class RandomFlip(_OfImages):
    """Mirrors each image left to right with probability ½: y_nabc = x_na(W−1−b)c.

    Column b goes to W − 1 − b, and the same map takes it back. So the adjoint is the map itself: dx is dy with the
    same images mirrored.

    Chapter: demos/book/14-when-gans-fail.md
    """

    def __init__(self, *, rng: np.random.Generator | None = None):
        super().__init__(rng)

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", "H", "W", "C")
        chosen = np.flatnonzero(self.draw().random(len(x)) < 0.5).tolist()
        y = _mirrored(x, chosen)
        return y, self.pullback(y, dx=lambda dy: _mirrored(dy, chosen))


class RandomShift(_OfImages):
    """Moves each image by whole pixels, zeros move in: y_nabc = x_n(a−r)(b−q)c where that is a pixel, else 0.

    r is uniform on the whole numbers from −h to h, where h is the share `most` of the height, rounded; q likewise of
    the width; each image has its own. Pixel (a, b) of x goes to (a + r, b + q), or out of the image, so

        dx_nabc = dy_n(a+r)(b+q)c where that is a pixel, else 0: dy moved by (−r, −q), zeros move in.

    ValueError unless 0 ≤ most < 1.

    Chapter: demos/book/14-when-gans-fail.md
    """

    def __init__(self, most: float = 0.125, *, rng: np.random.Generator | None = None):
        super().__init__(rng)
        self.most = checks.real("RandomShift", "most", most, lambda x: 0 <= x < 1, "a number ≥ 0 and below 1")

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", "H", "W", "C")
        rng = self.draw()
        h, w = (int(self.most * side + 0.5) for side in x.shape[1:3])
        ways = np.stack([rng.integers(-h, h + 1, len(x)), rng.integers(-w, w + 1, len(x))], axis=1).tolist()
        to = [(_stay(r), _stay(q)) for r, q in ways]
        of = [(_stay(-r), _stay(-q)) for r, q in ways]
        y = _moved(x, of, to)
        return y, self.pullback(y, dx=lambda dy: _moved(dy, to, of))

    def __repr__(self) -> str:
        return f"RandomShift({self.most})"


class RandomCutout(_OfImages):
    """Sets a rectangle of each image to 0: y = x · mask, where mask is 0 on the rectangle and 1 elsewhere.

    So dx = dy · mask. The sides of the rectangle are the share `share` of the image's, rounded; its centre is uniform
    over the pixels, one for each image, so that a part of it may lie outside. ValueError unless 0 ≤ share ≤ 1.

    Chapter: demos/book/14-when-gans-fail.md
    """

    def __init__(self, share: float = 0.5, *, rng: np.random.Generator | None = None):
        super().__init__(rng)
        self.share = checks.real("RandomCutout", "share", share, lambda x: 0 <= x <= 1, "a number from 0 to 1")

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", "H", "W", "C")
        rng = self.draw()
        rows, columns = (_around(rng.integers(side, size=len(x)), self._length(side)) for side in x.shape[1:3])
        holes = list(zip(rows, columns, strict=True))
        y = _cut(x, holes)
        return y, self.pullback(y, dx=lambda dy: _cut(dy, holes))

    def _length(self, side: int) -> int:
        return int(self.share * side + 0.5)

    def __repr__(self) -> str:
        return f"RandomCutout({self.share})"


def _mirrored(x: Array, chosen: list[int]) -> Array:
    """A copy with the chosen images mirrored left to right."""
    y = x.copy()
    for n in chosen:
        y[n] = x[n, :, ::-1]
    return y


def _stay(shift: int) -> slice:
    """Where along an axis the pixels lie that were inside before a shift by so many."""
    return slice(shift, None) if shift >= 0 else slice(None, shift)


def _moved(x: Array, of: Spans, to: Spans) -> Array:
    """Zeros, but in each image what stands at `of` in x stands at `to`."""
    y = array_library(x).zeros_like(x)
    for n, ((rows, columns), (new_rows, new_columns)) in enumerate(zip(of, to, strict=True)):
        y[n, new_rows, new_columns] = x[n, rows, columns]
    return y


def _around(centres: np.ndarray, length: int) -> list[slice]:
    """So many pixels around each centre, as far as there are any."""
    starts = centres - length // 2
    return [slice(max(start, 0), start + length) for start in starts.tolist()]


def _cut(x: Array, holes: Spans) -> Array:
    """A copy with zeros in the hole of each image."""
    y = x.copy()
    for n, (rows, columns) in enumerate(holes):
        y[n, rows, columns] = 0
    return y
