"""The kernels on a CPU: the formulas of `reference`, worked through in blocks that stay in cache.

The convolution maps never hold the column matrix of a whole batch. They walk over blocks of output rows, gather
or scatter one block's columns in a reused buffer, and multiply it while it is still in the L2 cache.
"""

import threading
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from scratchgen.backend.geometry import Geometry
from scratchgen.backend.reference import col2im, im2col

__all__ = [
    "adam",
    "col2im",
    "correlate",
    "correlate_adjoint_W",
    "correlate_adjoint_x",
    "from_numpy",
    "im2col",
    "row_dot",
    "row_sum",
    "to_numpy",
    "xp",
]

xp = np

BLOCK_BYTES = 1 << 20  # of columns: half of a usual L2 cache
BLOCK_ROWS = 256  # at least: below that a matrix product is bound by reading W, not by arithmetic
ADAM_BLOCK = 1 << 15  # numbers: six arrays of them fit in L2
ROWS_AT_ONCE = 1024  # in sums over rows: few enough to stay in cache and to round little, many enough for BLAS


def to_numpy(array):
    """The array itself: it is in the host's memory already."""
    return array


from_numpy = to_numpy


# --- convolution ---


def correlate(x, W, geometry: Geometry):
    """See `reference.correlate`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O)
    y = np.empty((len(x), *geometry.small, O), x.dtype)
    for images, rows, cols, windows, padded in _column_blocks(len(x), C, geometry, x.dtype):
        if rows.start == 0:
            padded[:, *geometry.interior] = x[images]
        np.copyto(cols, windows)
        y_block = y[images, rows]
        np.matmul(cols.reshape(-1, kh * kw * C), matrix, out=y_block.reshape(-1, O))
    return y


def correlate_adjoint_x(dy, W, geometry: Geometry):
    """See `reference.correlate_adjoint_x`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O).T
    dy = np.ascontiguousarray(dy)
    dx = np.empty((len(dy), *geometry.large, C), dy.dtype)
    for images, rows, cols, _, padded in _column_blocks(len(dy), C, geometry, dy.dtype):
        if rows.start == 0:
            padded[...] = 0
        np.matmul(dy[images, rows].reshape(-1, O), matrix, out=cols.reshape(-1, kh * kw * C))
        first, last = rows.start * geometry.stride[0], (rows.stop - 1) * geometry.stride[0]
        for i, j, tap_rows, tap_columns in geometry.taps():
            tap_rows = slice(tap_rows.start + first, tap_rows.start + last + 1, tap_rows.step)
            padded[:, tap_rows, tap_columns] += cols[:, :, :, i, j]
        if rows.stop == geometry.small[0]:
            dx[images] = padded[:, *geometry.interior]
    return dx


def correlate_adjoint_W(x, dy, geometry: Geometry):
    """See `reference.correlate_adjoint_W`."""
    kh, kw = geometry.kernel
    C, O = x.shape[-1], dy.shape[-1]
    dy = np.ascontiguousarray(dy)
    dW = np.zeros((kh * kw * C, O), x.dtype)
    share = np.empty_like(dW)
    for images, rows, cols, windows, padded in _column_blocks(len(x), C, geometry, x.dtype):
        if rows.start == 0:
            padded[:, *geometry.interior] = x[images]
        np.copyto(cols, windows)
        dW += np.matmul(cols.reshape(-1, kh * kw * C).T, dy[images, rows].reshape(-1, O), out=share)
    return dW.reshape(kh, kw, C, O)


def _column_blocks(N: int, C: int, geometry: Geometry, dtype) -> Iterator[tuple]:
    """Blocks of output pixels, each with its images, its output rows, a buffer for its columns, the windows of
    the padded images that those columns gather, and the padded images (borders zero) themselves.

    A block is several whole images where their columns fit in BLOCK_BYTES, else a band of rows of one image.
    Blocks of one image come in order, from row 0 to the last, and share `padded`.
    """
    (oh, ow), (kh, kw) = geometry.small, geometry.kernel
    row_bytes = kh * kw * C * np.dtype(dtype).itemsize
    pixels = max(BLOCK_BYTES // row_bytes, BLOCK_ROWS)
    image_bytes = geometry.padded[0] * geometry.padded[1] * C * np.dtype(dtype).itemsize
    n = max(1, min(N, pixels // (oh * ow), 4 * BLOCK_BYTES // image_bytes))
    band = min(oh, max(1, pixels // ow))

    columns = _workspace("columns", n * band * ow * kh * kw * C, dtype)
    border = _workspace("padded", n * geometry.padded[0] * geometry.padded[1] * C, dtype)
    border[...] = 0
    for first in range(0, N, n):
        images = slice(first, min(first + n, N))
        count = images.stop - first
        padded = border[: count * geometry.padded[0] * geometry.padded[1] * C]
        padded = padded.reshape(count, *geometry.padded, C)
        every_window = _windows(padded, geometry)
        for top in range(0, oh, band):
            rows = slice(top, min(top + band, oh))
            shape = (count, rows.stop - top, ow, kh, kw, C)
            cols = columns[: np.prod(shape)].reshape(shape)
            yield images, rows, cols, every_window[:, rows], padded


def _windows(padded, geometry: Geometry):
    """A view of every patch, (n, OH, OW, kh, kw, C), that copies nothing."""
    image, row, pixel, channel = padded.strides
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    return as_strided(
        padded,
        (len(padded), *geometry.small, *geometry.kernel, padded.shape[-1]),
        (image, sh * row, sw * pixel, dh * row, dw * pixel, channel),
        writeable=False,
    )


_buffers = threading.local()  # one set a thread, so that kernels may run side by side


def _workspace(role: str, size: int, dtype):
    """A flat buffer, kept from call to call, since fresh pages cost more than the work on them; never handed out."""
    key = f"{role}-{np.dtype(dtype).char}"
    buffer = getattr(_buffers, key, None)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size, dtype)
        setattr(_buffers, key, buffer)
    return buffer[:size]


# --- sums over rows ---


def row_sum(a):
    """See `reference.row_sum`; a product with ones for each block, and the sum of those, which rounds less."""
    rows = a.reshape(-1, a.shape[-1])
    total = np.zeros(rows.shape[1], a.dtype)
    ones = np.ones(min(len(rows), ROWS_AT_ONCE), a.dtype)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[start : start + ROWS_AT_ONCE]
        total += ones[: len(block)] @ block
    return total


def row_dot(a, b):
    """See `reference.row_dot`; the products a·b live for one block of rows only."""
    C = a.shape[-1]
    a, b = a.reshape(-1, C), b.reshape(-1, C)
    total = np.zeros(C, a.dtype)
    products = np.empty((min(len(a), ROWS_AT_ONCE), C), a.dtype)
    ones = np.ones(len(products), a.dtype)
    for start in range(0, len(a), ROWS_AT_ONCE):
        stop = start + ROWS_AT_ONCE
        block = np.multiply(a[start:stop], b[start:stop], out=products[: len(a) - start])
        total += ones[: len(block)] @ block
    return total


# --- optimizers ---


def adam(value, grad, m, v, lr: float, beta1: float, beta2: float, eps: float, t: int):
    """See `reference.adam`; block by block, so that each number is read and written once."""
    result = np.empty(value.shape, value.dtype)
    scratch = np.empty(min(ADAM_BLOCK, value.size), value.dtype)
    arrays = [a.reshape(-1) for a in (value, grad, m, v, result)]
    lr_t = lr / (1 - beta1**t)
    root = (1 - beta2**t) ** 0.5
    for start in range(0, value.size, ADAM_BLOCK):
        p, g, m_, v_, new = (a[start : start + ADAM_BLOCK] for a in arrays)
        s = scratch[: len(p)]
        m_ *= beta1
        m_ += np.multiply(g, 1 - beta1, out=s)
        v_ *= beta2
        np.multiply(g, g, out=s)
        s *= 1 - beta2
        v_ += s
        np.sqrt(v_, out=s)
        s /= root
        s += eps
        np.divide(m_, s, out=s)
        s *= lr_t
        np.subtract(p, s, out=new)
    return result
