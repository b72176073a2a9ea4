"""Convolution with kernel 4 and stride 2 in 9 products where the plain form takes 16.

Group the padded image into cells of 2×2 pixels, each one "pixel" of 4C channels (`cells`): the window of 4×4 pixels
that moves by 2 becomes one of 2×2 cells that moves by 1. Two outputs of such a window, in one dimension,

    y0 = x0 w0 + x1 w1            m0 = (x0 − x1) w0
    y1 = x1 w0 + x2 w1            m1 =  x1 (w0 + w1)          y0 = m0 + m1,   y1 = m1 + m2
                                  m2 = (x2 − x1) w1

take three products, not four. (Winograd 1980; F(2, 2) in the notation of Lavin & Gray 2016.) In two dimensions the
same is done along rows and along columns: 9 products for a tile of 2×2 outputs, where 16 are plain. A product is here
one of matrices: V[a, b] holds the transformed inputs of all tiles, U[a, b] the transformed weights, and

    x → V (3, 3, tiles, 4C)     W → U (3, 3, 4C, O)     M = V @ U (3, 3, tiles, O) → y

Only additions surround the products, so integers stay exact; floats round like any reordered sum. The chain is linear
in x and linear in W, so the other two maps are its adjoint, each stage transposed and in reverse order:

    dy → dM → dV = dM @ Uᵀ → dx         dy → dM,  x → V,  dU = Vᵀ @ dM → dW

The adjoint of a copy is a sum, that of m2 = x2 − x1 sends dm2 to x2 and −dm2 to x1.
"""

from functools import partial

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops.cells import Cells
from scratchgen.backend.numpy_ops.memory import empty, workspace

TILES = 256  # at a time: rows of a product; enough for BLAS to work at full speed, few enough to stay in cache


def correlate(x, W, geometry: Geometry):
    """See `reference.correlate`."""
    y = empty((len(x), *geometry.small, W.shape[3]), x.dtype)
    tiling = _Tiling(geometry, len(x))

    def share(images: slice, channels: slice) -> None:
        U = _weights(W[..., channels])
        for n, blocks in tiling.blocks(images):
            inputs, outputs = _Inputs(tiling, n, W.shape[2], U), _Outputs(tiling, n, U)
            for block in blocks:
                inputs.read(x[block])
                for a in range(3):
                    inputs.row[a]()
                    for b in range(3):
                        inputs.column[a][b]()
                        np.matmul(inputs.V, U[a, b], outputs.M[b])
                    outputs.sum[a]()
                outputs.write(y[block], channels)

    tiling.run(share, W.shape[3])
    return y


def correlate_adjoint_x(dy, W, geometry: Geometry):
    """See `reference.correlate_adjoint_x`."""
    dx = empty((len(dy), *geometry.large, W.shape[2]), dy.dtype)
    tiling = _Tiling(geometry, len(dy))

    def share(images: slice, channels: slice) -> None:
        U = _weights(W[:, :, channels])
        Ut = U.swapaxes(2, 3)
        for n, blocks in tiling.blocks(images):
            outputs, inputs = _OutputGradients(tiling, n, U), _InputGradients(tiling, n, U)
            for block in blocks:
                outputs.read(dy[block], slice(None))
                for a in range(3):
                    for b in range(3):
                        outputs.column[a][b]()
                        np.matmul(outputs.dM, Ut[a, b], inputs.dV[b])
                    inputs.put_back_columns[a]()
                inputs.put_back_rows()
                inputs.write(dx[block], channels)

    tiling.run(share, W.shape[2])
    return dx


def correlate_adjoint_W(x, dy, geometry: Geometry):
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    dW = empty((4, 4, C, O), x.dtype)
    tiling = _Tiling(geometry, len(x))

    def share(images: slice, channels: slice):
        dU = np.zeros((3, 3, 4 * C, channels.stop - channels.start), x.dtype)
        product = workspace("winograd product", dU.shape[2:], x.dtype)
        for n, blocks in tiling.blocks(images):
            inputs, outputs = _Inputs(tiling, n, C, dU), _OutputGradients(tiling, n, dU)
            for block in blocks:
                inputs.read(x[block])
                outputs.read(dy[block], channels)
                for a in range(3):
                    inputs.row[a]()
                    for b in range(3):
                        inputs.column[a][b]()
                        outputs.column[a][b]()
                        np.matmul(inputs.V.T, outputs.dM, product)
                        np.add(dU[a, b], product, dU[a, b])
        if not tiling.by_images:
            _weights_adjoint(dU, dW[..., channels])
        return dU

    shares = tiling.run(share, O)
    if tiling.by_images:
        _weights_adjoint(sum(shares[1:], shares[0]), dW)
    return dW


class _Tiling:
    """How images are cut into tiles of 2×2 outputs, each made from 3×3 cells; neighbours share a line of cells."""

    def __init__(self, geometry: Geometry, N: int):
        self.geometry, self.N = geometry, N
        self.tiles = tuple(-(-n // 2) for n in geometry.small)  # rounded up: what a last half tile adds is cut off
        self.size = tuple(2 * t + 1 for t in self.tiles)  # in cells
        self.whole = all(n == 2 * t for n, t in zip(geometry.small, self.tiles, strict=True))
        self.each = self.tiles[0] * self.tiles[1]  # tiles of an image
        self.by_images = N * self.each >= TILES * threads.get_threads()

    def run(self, share, channels: int) -> list:
        """share(images, channels) on each thread: a part of the images or, where these are too few to feed BLAS, of
        the channels."""
        if self.by_images:
            shares = [(images, slice(0, channels)) for images in threads.parts(self.N)]
        else:
            shares = [(slice(0, self.N), part) for part in threads.parts(channels, least=16)]
        return threads.run([lambda s=s: share(*s) for s in shares])

    def blocks(self, images: slice):
        """Blocks of images with about TILES tiles: how many images each has, and where they are."""
        n = min(max(1, TILES // self.each), images.stop - images.start)
        full = [slice(i, i + n) for i in range(images.start, images.stop - n + 1, n)]
        yield n, full
        if full[-1].stop < images.stop:
            yield images.stop - full[-1].stop, [slice(full[-1].stop, images.stop)]


# --- the stages; views and calls are made once for many blocks: Python's own time is what threads must share ---


class _Inputs:
    """x (n, H, W, C) → cells (n, rows, columns, 4C) → rows (n, tiles, columns, 4C) → V[a, b] (n·tiles, 4C)."""

    def __init__(self, tiling: _Tiling, n: int, C: int, like):
        (th, tw), dtype = tiling.tiles, like.dtype
        cells = workspace("winograd cells", (n, *tiling.size, 4 * C), dtype)
        cells[...] = 0  # padding stays so
        rows = workspace("winograd rows", (n, th, tiling.size[1], 4 * C), dtype)
        V = workspace("winograd V", (n, th, tw, 4 * C), dtype)
        self.row = _take(cells, 1, rows)
        self.row[1] = _nothing  # the middle rows are taken from the cells as they are
        self.column = [_take(r, 2, V) for r in (rows, cells[:, 1::2], rows)]
        self.V = V.reshape(-1, 4 * C)

        self.cells, self.places = cells, Cells(tiling.geometry, tiling.size, C)

    def read(self, x) -> None:
        self.places.read(x, self.cells)


class _InputGradients:
    """dV[a, b] → dcells → dx, the adjoint of `_Inputs`."""

    def __init__(self, tiling: _Tiling, n: int, like):
        K, dtype, (th, tw) = like.shape[2], like.dtype, tiling.tiles
        dV = workspace("winograd dV", (3, n, th, tw, K), dtype)
        drows = workspace("winograd drows", (3, n, th, tiling.size[1], K), dtype)
        dcells = workspace("winograd dcells", (n, *tiling.size, K), dtype)
        self.put_back_columns = [_put_back(dV, drows[a], 2) for a in range(3)]
        self.put_back_rows = _put_back(drows, dcells, 1)
        self.dV = dV.reshape(3, -1, K)
        self.dcells, self.places = dcells, Cells(tiling.geometry, tiling.size, K // 4)

    def write(self, dx, channels: slice) -> None:
        self.places.write(self.dcells, dx[..., channels])


class _Outputs:
    """M[a, b] (n·tiles, O) → sums (3, 2, n, tiles, tiles, O) over columns → y (n, OH, OW, O)."""

    def __init__(self, tiling: _Tiling, n: int, like):
        O, dtype, (th, tw) = like.shape[3], like.dtype, tiling.tiles
        M = workspace("winograd M", (3, n, th, tw, O), dtype)
        self.sums = workspace("winograd sums", (3, 2, n, th, tw, O), dtype)
        self.sum = [partial(np.add, M[:2], M[1:], self.sums[a]) for a in range(3)]
        self.M = M.reshape(3, -1, O)
        self.part = None if tiling.whole else workspace("winograd y", (n, 2 * th, 2 * tw, O), dtype)

    def write(self, y, channels: slice) -> None:
        n, th, tw = self.sums.shape[2:5]
        whole = y if self.part is None else self.part
        tiles = whole.reshape(n, th, 2, tw, 2, -1)[..., channels if self.part is None else slice(None)]
        np.add(self.sums[:2], self.sums[1:], tiles.transpose(2, 4, 0, 1, 3, 5))
        if self.part is not None:
            y[..., channels] = self.part[:, : y.shape[1], : y.shape[2]]


class _OutputGradients:
    """dy → sums (n, tiles, tiles, 2, O) of the two rows of a tile → dM[a, b] (n·tiles, O): adjoint of `_Outputs`."""

    def __init__(self, tiling: _Tiling, n: int, like):
        O, dtype, (th, tw) = like.shape[3], like.dtype, tiling.tiles
        self.sums = workspace("winograd dy sums", (n, th, tw, 2, O), dtype)
        self.spread = workspace("winograd dM", (n, th, tw, O), dtype)
        self.dM = self.spread.reshape(-1, O)
        self.part = None if tiling.whole else workspace("winograd y", (n, 2 * th, 2 * tw, O), dtype)
        if self.part is not None:
            self.part[...] = 0

    def read(self, dy, channels: slice) -> None:
        n, th, tw, _, _ = self.sums.shape
        if self.part is not None:
            self.part[:, : dy.shape[1], : dy.shape[2]] = dy[..., channels]
            dy, channels = self.part, slice(None)
        tiles = dy.reshape(n, th, 2, tw, 2, -1)[..., channels]
        upper, lower = tiles[:, :, 0], tiles[:, :, 1]
        np.add(upper, lower, self.sums)
        self.column = [_spread(row[..., 0, :], row[..., 1, :], self.spread) for row in (upper, self.sums, lower)]


# --- one dimension ---


def _take(x, axis: int, out) -> list:
    """For every tile (x0 − x1, x1, x2 − x1) along an axis of 2·tiles + 1: three calls, each of which fills `out`."""
    before = (slice(None),) * axis
    x0, x1, x2 = (x[(*before, s)] for s in (slice(0, -1, 2), slice(1, None, 2), slice(2, None, 2)))
    return [partial(np.subtract, x0, x1, out), partial(np.copyto, out, x1), partial(np.subtract, x2, x1, out)]


def _put_back(d, dx, axis: int):
    """The adjoint of all three, as one call: x1 of a tile is its own, x2 is also x0 of the next."""
    before = (slice(None),) * axis
    x1, first, inner, last = (dx[(*before, s)] for s in (slice(1, None, 2), 0, slice(2, -1, 2), -1))
    d0, d0_first = d[0][(*before, slice(1, None))], d[0][(*before, 0)]
    d2, d2_last = d[2][(*before, slice(None, -1))], d[2][(*before, -1)]

    def call() -> None:
        np.subtract(d[1], d[0], x1)
        np.subtract(x1, d[2], x1)
        np.add(d0, d2, inner)
        np.copyto(first, d0_first)
        np.copyto(last, d2_last)

    return call


def _spread(dy0, dy1, out) -> list:
    """The adjoint of y0 = m0 + m1, y1 = m1 + m2: (dy0, dy0 + dy1, dy1), three calls, each of which fills `out`."""
    return [partial(np.copyto, out, dy0), partial(np.add, dy0, dy1, out), partial(np.copyto, out, dy1)]


def _nothing() -> None:
    pass


# --- weights: W (4, 4, C, O) ↔ U (3, 3, 4C, O) ---


def _weights(W):
    _, _, C, O = W.shape
    w = W.reshape(2, 2, 2, 2, C, O)  # cell row p, row in the cell, cell column q, column in the cell
    rows = empty((3, 2, 2, 2, C, O), W.dtype)
    rows[0], rows[2] = w[0].swapaxes(0, 1), w[1].swapaxes(0, 1)  # (q, row in the cell, column in the cell, C, O)
    np.add(rows[0], rows[2], out=rows[1])
    U = empty((3, 3, 2, 2, C, O), W.dtype)
    U[:, 0], U[:, 2] = rows[:, 0], rows[:, 1]
    np.add(rows[:, 0], rows[:, 1], out=U[:, 1])
    return U.reshape(3, 3, 4 * C, O)


def _weights_adjoint(dU, dW) -> None:
    _, _, C, O = dW.shape
    dU = dU.reshape(3, 3, 2, 2, C, O)
    columns = empty((3, 2, 2, 2, C, O), dU.dtype)
    np.add(dU[:, 0], dU[:, 1], out=columns[:, 0])
    np.add(dU[:, 2], dU[:, 1], out=columns[:, 1])
    dw = dW.reshape(2, 2, 2, 2, C, O)
    np.add(columns[0], columns[1], out=dw[0].swapaxes(0, 1))
    np.add(columns[2], columns[1], out=dw[1].swapaxes(0, 1))
