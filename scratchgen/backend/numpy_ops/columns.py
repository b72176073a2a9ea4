"""The convolution maps by columns, for any geometry: gather patches, multiply, scatter, a block at a time.

The column matrix of a whole batch never exists. Each thread walks over blocks of output rows, gathers or scatters one
block's columns in a reused buffer, and multiplies it while it is still in the cache. Blocks depend on the sizes
alone, so the result is the same bits on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops.memory import empty, workspace

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

BLOCK_BYTES = 1 << 20  # of columns: half of a usual L2 cache
BLOCK_ROWS = 256  # at least: below that a matrix product is bound by reading W, not by arithmetic
SUMS_BYTES = 1 << 25  # of the partial sums of dW, about
SUMS = 8  # at most

Gather: TypeAlias = Callable[[Array, Geometry, slice, Array], None]
Scatter: TypeAlias = Callable[[Array, Geometry, slice, Array], None]


def gather(x: Array, geometry: Geometry, rows: slice, cols: Array) -> None:
    """Copy the patches of the output rows `rows`, from images x (n, H, W, C) to cols (n, rows, OW, kh, kw, C)."""
    padded, inside, interior = _padded(len(x), x.shape[3], geometry, rows, x.dtype)
    padded[interior] = x[inside]
    image, row, pixel, channel = padded.strides
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    np.copyto(cols, as_strided(padded, cols.shape, (image, sh * row, sw * pixel, dh * row, dw * pixel, channel)))


def scatter(cols: Array, geometry: Geometry, rows: slice, dx: Array) -> None:
    """Adjoint of `gather`: adds every patch to the pixels that it came from; of as many taps together as reach each
    pixel once."""
    padded, inside, interior = _padded(len(dx), dx.shape[3], geometry, rows, dx.dtype)
    image, row, pixel, channel = padded.strides
    together = geometry.stride[1] if geometry.dilation[1] == 1 else 1
    for i, j, tap_rows, tap_columns in _band(geometry, rows).taps():
        if j % together == 0:
            some = cols[:, :, :, i, j : j + together]
            strides = image, row * tap_rows.step, pixel * tap_columns.step, pixel, channel
            pixels = as_strided(padded[:, tap_rows, tap_columns.start :], some.shape, strides)
            pixels += some
    dx[inside] += padded[interior]


def correlate(x: Array, W: Array, geometry: Geometry, gather: Gather = gather) -> Array:
    """See `reference.correlate`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O)
    y = empty((len(x), *geometry.small, O), x.dtype)
    blocks = Blocks(len(x), C, geometry, x.dtype)

    def share(part: slice) -> None:
        for images, rows, cols in blocks.of(part):
            gather(x[images], geometry, rows, cols)
            np.matmul(cols.reshape(-1, kh * kw * C), matrix, out=y[images, rows].reshape(-1, O))

    threads.over(share, len(blocks.images), _work(y.size, kh * kw * C))
    return y


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry, scatter: Scatter = scatter) -> Array:
    """See `reference.correlate_adjoint_x`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O).T
    dy = np.ascontiguousarray(dy)
    dx = empty((len(dy), *geometry.large, C), dy.dtype)
    blocks = Blocks(len(dy), C, geometry, dy.dtype)

    def share(part: slice) -> None:
        for images, rows, cols in blocks.of(part):
            if rows.start == 0:
                dx[images] = 0
            np.matmul(dy[images, rows].reshape(-1, O), matrix, out=cols.reshape(-1, kh * kw * C))
            scatter(cols, geometry, rows, dx[images])

    threads.over(share, len(blocks.images), _work(dy.size, kh * kw * C))
    return dx


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry, gather: Gather = gather) -> Array:
    """See `reference.correlate_adjoint_W`; the sum of a fixed number of partial sums, in order."""
    kh, kw = geometry.kernel
    C, O = x.shape[-1], dy.shape[-1]
    dy = np.ascontiguousarray(dy)
    blocks = Blocks(len(x), C, geometry, x.dtype)

    def share(part: slice) -> Array:
        dW = np.zeros((kh * kw * C, O), x.dtype)
        product = workspace("dW", dW.shape, x.dtype)
        for images, rows, cols in blocks.of(part):
            gather(x[images], geometry, rows, cols)
            dW += np.matmul(cols.reshape(-1, kh * kw * C).T, dy[images, rows].reshape(-1, O), out=product)
        return dW

    sums = min(SUMS, max(1, SUMS_BYTES // (kh * kw * C * O * x.itemsize)))
    parts = threads.cut(len(blocks.images), max(1, min(len(blocks.images), sums)))
    dW, *others = threads.run([partial(share, part) for part in parts])
    for other in others:
        dW += other
    return dW.reshape(kh, kw, C, O)


def _work(elements: int, products: int) -> int:
    """In multiply-adds: so many elements of so many products each, which are also moved."""
    return elements * (products + threads.MOVING)


class Blocks:
    """Blocks of output pixels: several whole images where their columns fit in BLOCK_BYTES, else bands of rows of one
    image. `images` are the groups of images, which threads share out."""

    def __init__(self, N: int, C: int, geometry: Geometry, dtype: DTypeLike):
        (oh, ow), itemsize = geometry.small, np.dtype(dtype).itemsize
        pixels = max(BLOCK_BYTES // (prod(geometry.kernel) * C * itemsize), BLOCK_ROWS)
        n = max(1, min(pixels // (oh * ow), 4 * BLOCK_BYTES // (prod(geometry.padded) * C * itemsize)))
        self.images = [slice(first, min(first + n, N)) for first in range(0, N, n)]
        band = min(oh, max(1, pixels // ow))
        self.bands = [slice(top, min(top + band, oh)) for top in range(0, oh, band)]
        self.shape, self.dtype = (ow, *geometry.kernel, C), dtype

    def of(self, part: slice) -> Iterator[tuple[slice, slice, Array]]:
        """The images, the output rows and a buffer for the columns of each block of the images of `part`, in turn."""
        for images in self.images[part]:
            for rows in self.bands:
                shape = (images.stop - images.start, rows.stop - rows.start, *self.shape)
                yield images, rows, workspace("columns", shape, self.dtype)


def _band(geometry: Geometry, rows: slice) -> Geometry:
    """The same window on these output rows alone."""
    return replace(geometry, small=(rows.stop - rows.start, geometry.small[1]))


def _padded(n: int, C: int, geometry: Geometry, rows: slice, dtype: DTypeLike) -> tuple[Array, Any, Any]:
    """Zeros for the part of n padded images under the windows of these output rows; where that part lies in the
    images, and the images in it."""
    (H, W), (top, left) = geometry.large, geometry.padding
    first = rows.start * geometry.stride[0] - top
    height = (rows.stop - rows.start - 1) * geometry.stride[0] + (geometry.kernel[0] - 1) * geometry.dilation[0] + 1
    padded = workspace("padded", (n, height, geometry.padded[1], C), dtype)
    padded[...] = 0
    begin = min(max(first, 0), H)
    end = max(begin, min(first + height, H))
    return padded, np.s_[:, begin:end], np.s_[:, begin - first : end - first, left : left + W]
