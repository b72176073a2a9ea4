"""Patches as columns, for any geometry: `numpy_ops.columns` with loops that gather straight from the images, and
scatter straight into them."""

from functools import partial

import numpy as np

from scratchgen.backend.arrays import Array
from scratchgen.backend.compiled.compiler import Count, In4, In6, Loop, Out4, Out6, loop
from scratchgen.backend.compiled.runs import add, clear, copy
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns


@loop(clear, copy)
def gathered(
    x: In4, cols: Out6, first: Count, sh: Count, sw: Count, ph: Count, pw: Count, dh: Count, dw: Count
) -> None:
    """x (n, H, W, C) → cols (n, rows, OW, kh, kw, C), of the output rows from `first`. Side by side in a row of x lie
    all taps of a row of the kernel, or one of them, where they are dilated."""
    n, H, W, C = x.shape
    rows, ow, kh, kw = cols.shape[1:5]
    taps = kw if dw == 1 else 1
    pixels = x.reshape(n, H, W * C)
    runs = cols.reshape(n, rows, ow, kh, kw // taps, taps * C)
    line = np.zeros(max(W + 2 * pw, (ow - 1) * sw + (kw - 1) * dw + 1) * C, x.dtype)  # a row with its padding
    for m in range(n):
        for r in range(rows):
            for i in range(kh):
                p = (first + r) * sh + i * dh - ph
                if 0 <= p < H:
                    copy(pixels[m, p], line[pw * C : (pw + W) * C])
                else:
                    clear(line)
                for q in range(ow):
                    for j in range(kw // taps):
                        start = line[(q * sw + j * dw) * C :]
                        for c in range(taps * C):
                            runs[m, r, q, i, j, c] = start[c]


@loop(clear, add)
def scattered(
    cols: In6, dx: Out4, first: Count, sh: Count, sw: Count, ph: Count, pw: Count, dh: Count, dw: Count
) -> None:
    """Adjoint of `gathered`: adds every patch to the pixels that it came from."""
    n, H, W, C = dx.shape
    rows, ow, kh, kw = cols.shape[1:5]
    taps = kw if dw == 1 else 1
    pixels = dx.reshape(n, H, W * C)
    runs = cols.reshape(n, rows, ow, kh, kw // taps, taps * C)
    line = np.zeros(max(W + 2 * pw, (ow - 1) * sw + (kw - 1) * dw + 1) * C, dx.dtype)
    for m in range(n):
        for r in range(rows):
            for i in range(kh):
                p = (first + r) * sh + i * dh - ph
                if 0 <= p < H:
                    clear(line)
                    for q in range(ow):
                        for j in range(kw // taps):
                            start = line[(q * sw + j * dw) * C :]
                            for c in range(taps * C):
                                start[c] += runs[m, r, q, i, j, c]
                    add(pixels[m, p], line[pw * C : (pw + W) * C], pixels[m, p])


LOOPS = gathered, scattered


def gather(x: Array, geometry: Geometry, rows: slice, cols: Array) -> None:
    """See `numpy_ops.columns.gather`."""
    _run(gathered, x, cols, geometry, rows)


def scatter(cols: Array, geometry: Geometry, rows: slice, dx: Array) -> None:
    """See `numpy_ops.columns.scatter`."""
    _run(scattered, cols, dx, geometry, rows)


def _run(loop: Loop, one: Array, other: Array, geometry: Geometry, rows: slice) -> None:
    run = loop.of(one.dtype)
    assert run is not None
    run(one, other, rows.start, *geometry.stride, *geometry.padding, *geometry.dilation)


correlate = partial(columns.correlate, gather=gather)
correlate_adjoint_x = partial(columns.correlate_adjoint_x, scatter=scatter)
correlate_adjoint_W = partial(columns.correlate_adjoint_W, gather=gather)
