"""The convolution maps by columns, for any geometry: gather patches, multiply, scatter, a block at a time.

The column matrix of a whole batch never exists. Each thread walks over blocks of output rows, gathers or scatters one
block's columns in a reused buffer, and multiplies it while it is still in the cache.
"""

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops.memory import empty, workspace

BLOCK_BYTES = 1 << 20  # of columns: half of a usual L2 cache
BLOCK_ROWS = 256  # at least: below that a matrix product is bound by reading W, not by arithmetic


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O)
    y = empty((len(x), *geometry.small, O), x.dtype)

    def share(part: slice) -> None:
        for images, rows, cols, windows, padded in _blocks(part, C, geometry, x.dtype):
            if rows.start == 0:
                padded[:, *geometry.interior] = x[images]
            np.copyto(cols, windows)
            np.matmul(cols.reshape(-1, kh * kw * C), matrix, out=y[images, rows].reshape(-1, O))

    threads.over(share, len(x), _work(y.size, kh * kw * C))
    return y


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O).T
    dy = np.ascontiguousarray(dy)
    dx = empty((len(dy), *geometry.large, C), dy.dtype)

    def share(part: slice) -> None:
        for images, rows, cols, _, padded in _blocks(part, C, geometry, dy.dtype):
            if rows.start == 0:
                padded[...] = 0
            np.matmul(dy[images, rows].reshape(-1, O), matrix, out=cols.reshape(-1, kh * kw * C))
            first, last = rows.start * geometry.stride[0], (rows.stop - 1) * geometry.stride[0]
            for i, j, tap_rows, tap_columns in geometry.taps():
                tap_rows = slice(tap_rows.start + first, tap_rows.start + last + 1, tap_rows.step)
                padded[:, tap_rows, tap_columns] += cols[:, :, :, i, j]
            if rows.stop == geometry.small[0]:
                dx[images] = padded[:, *geometry.interior]

    threads.over(share, len(dy), _work(dy.size, kh * kw * C))
    return dx


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`."""
    kh, kw = geometry.kernel
    C, O = x.shape[-1], dy.shape[-1]
    dy = np.ascontiguousarray(dy)

    def share(part: slice) -> Array:
        dW = np.zeros((kh * kw * C, O), x.dtype)
        product = workspace("dW", dW.shape, x.dtype)
        for images, rows, cols, windows, padded in _blocks(part, C, geometry, x.dtype):
            if rows.start == 0:
                padded[:, *geometry.interior] = x[images]
            np.copyto(cols, windows)
            dW += np.matmul(cols.reshape(-1, kh * kw * C).T, dy[images, rows].reshape(-1, O), out=product)
        return dW

    first, *others = threads.over(share, len(x), _work(dy.size, kh * kw * C))
    for dW in others:
        first += dW
    return first.reshape(kh, kw, C, O)


def _work(elements: int, products: int) -> int:
    """In multiply-adds: so many elements of so many products each, which are also moved."""
    return elements * (products + threads.MOVING)


def _blocks(
    part: slice, C: int, geometry: Geometry, dtype: DTypeLike
) -> Iterator[tuple[slice, slice, Array, Array, Array]]:
    """Blocks of output pixels, each with its images, its output rows, a buffer for its columns, the windows of
    the padded images that those columns gather, and the padded images (borders zero) themselves.

    A block is several whole images where their columns fit in BLOCK_BYTES, else a band of rows of one image.
    Blocks of one image come in order, from row 0 to the last, and share `padded`.
    """
    (oh, ow), (kh, kw), N = geometry.small, geometry.kernel, part.stop - part.start
    row_bytes = kh * kw * C * np.dtype(dtype).itemsize
    pixels = max(BLOCK_BYTES // row_bytes, BLOCK_ROWS)
    image_bytes = prod(geometry.padded) * C * np.dtype(dtype).itemsize
    n = max(1, min(N, pixels // (oh * ow), 4 * BLOCK_BYTES // image_bytes))
    band = min(oh, max(1, pixels // ow))

    border = workspace("padded", (n, *geometry.padded, C), dtype)
    border[...] = 0
    for first in range(part.start, part.stop, n):
        images = slice(first, min(first + n, part.stop))
        padded = border[: images.stop - first]
        every_window = _windows(padded, geometry)
        for top in range(0, oh, band):
            rows = slice(top, min(top + band, oh))
            cols = workspace("columns", (len(padded), rows.stop - top, ow, kh, kw, C), dtype)
            yield images, rows, cols, every_window[:, rows], padded


def _windows(padded: Array, geometry: Geometry) -> Array:
    """A view of every patch, (n, OH, OW, kh, kw, C), that copies nothing."""
    image, row, pixel, channel = padded.strides
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    return as_strided(
        padded,
        (len(padded), *geometry.small, *geometry.kernel, padded.shape[-1]),
        (image, sh * row, sw * pixel, dh * row, dw * pixel, channel),
        writeable=False,
    )
