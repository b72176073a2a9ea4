"""The three maps of a convolution: patches as columns, and one matrix product by cuBLAS."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from scratchgen.backend.arrays import Array
from scratchgen.backend.cupy_ops.device import xp
from scratchgen.backend.cupy_ops.launch import THREADS, kernel, power_of_two, quotient
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.reference import matmul

COLUMNS_BYTES = 1 << 30  # of columns at a time; a batch that has more goes through in parts
WORTH_A_KERNEL = 1 << 20  # elements from which a geometry has kernels of its own
LINE = 16  # bytes that a thread reads at once where channels allow it


def im2col(x: Array, geometry: Geometry) -> Array:
    """See `reference.im2col`; without a copy where the patches are the images themselves."""
    N, C = len(x), x.shape[-1]
    cols_shape = (N, *geometry.small, *geometry.kernel, C)
    x = xp.ascontiguousarray(x)
    if geometry.whole:
        return x.reshape(cols_shape)
    cols = xp.empty(cols_shape, x.dtype)
    runs = N * geometry.small[0] * geometry.small[1] * geometry.kernel[0]
    if cols.size:
        launch_columns("im2col", cols, x, geometry, C, runs, geometry.kernel[1])
    return cols


def col2im(cols: Array, geometry: Geometry) -> Array:
    """See `reference.col2im`; every pixel gathers its own patches."""
    N, C = len(cols), cols.shape[-1]
    cols = xp.ascontiguousarray(cols)
    if geometry.whole:
        return cols.reshape(N, *geometry.large, C)
    x = xp.empty((N, *geometry.large, C), cols.dtype)
    if x.size:
        launch_columns("col2im", x, cols, geometry, C, N * geometry.large[0] * geometry.large[1], 1)
    return x


def launch_columns(
    name: str, result: Array, given: Array, geometry: Geometry, C: int, count: int, pixels: int
) -> None:
    """One of the two kernels, which share out `count` runs of so many pixels among blocks."""
    pack = LINE // result.itemsize
    if C % pack or _address(result) % LINE or _address(given) % LINE:
        pack = 1
    lanes = power_of_two(pixels * C // pack, THREADS // 8)
    height = THREADS // lanes
    known: dict[str, int | str] = {}
    if max(result.size, given.size) >= WORTH_A_KERNEL:
        known = {"GEOMETRY": ", ".join(map(str, _sizes(geometry).reshape(-1))), "CHANNELS": C // pack}
    run = kernel("patches", name, result.dtype, PACK=pack, **known)
    parameters = (result, given, _table(geometry), np.int32(C // pack), np.int32(count))
    run((quotient(count, height),), (lanes, height), parameters)


def _address(a: Any) -> int:
    return int(a.data.ptr)


def _sizes(g: Geometry) -> Array:
    return np.array([g.kernel, g.stride, g.padding, g.dilation, g.large, g.small], np.int32)


@cache
def _table(g: Geometry) -> Array:
    """A geometry as the kernels take it, by value."""
    sizes = _sizes(g)
    return sizes.reshape(-1).view(np.dtype((np.void, sizes.nbytes))).reshape(())


def patches(x: Array, geometry: Geometry) -> Array:
    """See `reference.patches`: all columns (N, OH, OW, kh, kw, C), where they fit in COLUMNS_BYTES."""
    return im2col(x, geometry) if len(_parts(x, geometry)) == 1 else x


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`; x may be its patches."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O)
    ys = [matmul(cols.reshape(-1, kh * kw * C), matrix) for _, cols in _columns(x, geometry)]
    return _joined(ys).reshape(len(x), *geometry.small, O)


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    kh, kw, C, O = W.shape
    matrix = W.reshape(kh * kw * C, O).T
    parts = [
        col2im(matmul(dy[part].reshape(-1, O), matrix).reshape(-1, *geometry.small, kh, kw, C), geometry)
        for part in _parts(dy, geometry, C)
    ]
    return _joined(parts)


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`; x may be its patches."""
    (kh, kw), C, O = geometry.kernel, x.shape[-1], dy.shape[-1]
    terms = (matmul(cols.reshape(-1, kh * kw * C).T, dy[part].reshape(-1, O)) for part, cols in _columns(x, geometry))
    dW = next(terms)
    for term in terms:
        dW += term
    return dW.reshape(kh, kw, C, O)


def _columns(x: Array, geometry: Geometry) -> Iterator[tuple[slice, Array]]:
    """Parts of the batch, and the columns of each; x itself where it is columns already."""
    if x.ndim == 6:
        yield slice(None), x
    else:
        for part in _parts(x, geometry):
            yield part, im2col(x[part], geometry)


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else xp.concatenate(parts)


def _parts(x: Array, geometry: Geometry, channels: int | None = None) -> list[slice]:
    """The batch in parts whose columns fit in COLUMNS_BYTES."""
    taps = geometry.kernel[0] * geometry.kernel[1] * geometry.small[0] * geometry.small[1]
    one = taps * (channels or x.shape[-1]) * x.itemsize
    height = max(1, COLUMNS_BYTES // max(1, one))
    return [slice(i, i + height) for i in range(0, max(1, len(x)), height)]
