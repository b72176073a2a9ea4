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

Where the number of outputs is odd the last tile has y0 alone, and does without m2: 11 products for 7, not 14.
Only additions surround the products, so integers stay exact; floats round like any reordered sum. The chain is linear
in x and linear in W, so the other two maps are its adjoint, each stage transposed and in reverse order:

    dy → dM → dV = dM @ Uᵀ → dx         dy → dM,  x → V,  dU = Vᵀ @ dM → dW

The adjoint of a copy is a sum, that of m2 = x2 − x1 sends dm2 to x2 and −dm2 to x1.

Many tiles are shared out by images, and all threads use one U. Few tiles leave each thread a part of the channels:
each U[a, b] is then made just before its product, in one buffer, and never leaves the cache. (From three threads on
there may be more than one block of so few tiles, and U is made for each.)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry, Pair
from scratchgen.backend.numpy_ops.cells import Cells
from scratchgen.backend.numpy_ops.memory import empty, workspace

T = TypeVar("T")
Call: TypeAlias = Callable[[], object]

TILES = 256  # at a time: rows of a product, enough for BLAS to work at full speed, few enough to stay in cache
SHARED_TILES = 512  # on several threads: only one of them runs Python at a time, so it must have less to say
LEAST = 256  # of a thread: it takes a part of the channels where it would have fewer


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`."""
    C, O = W.shape[2:]
    y = empty((len(x), *geometry.small, O), x.dtype)
    tiling = _Tiling(geometry, len(x))
    w = _of_cells(W)
    all_of_U = _weights(w) if tiling.by_images else None

    def share(images: slice, channels: slice) -> None:
        U = all_of_U or _in_turn(w[..., channels])
        for n, blocks in tiling.blocks(images):
            inputs = _Inputs(tiling, n, C, x.dtype)
            outputs = _Outputs(tiling, n, channels.stop - channels.start, x.dtype)
            for block in blocks:
                inputs.read(x[block])
                for a in range(3):
                    inputs.row[a]()
                    for b in range(3):
                        inputs.column[a][b]()
                        np.matmul(inputs.V[a][b], U(a, b), outputs.M[a][b])
                    outputs.sum[a]()
                outputs.write(y[block], channels)

    tiling.run(share, O)
    return y


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    C, O = W.shape[2:]
    dx = empty((len(dy), *geometry.large, C), dy.dtype)
    tiling = _Tiling(geometry, len(dy))
    w = _of_cells(W)
    all_of_U = _weights(w) if tiling.by_images else None

    def share(images: slice, channels: slice) -> None:
        U = all_of_U or _in_turn(w[..., channels, :])
        for n, blocks in tiling.blocks(images):
            outputs = _OutputGradients(tiling, n, O, dy.dtype)
            inputs = _InputGradients(tiling, n, channels.stop - channels.start, dy.dtype)
            for block in blocks:
                outputs.read(dy[block], slice(None))
                for a in range(3):
                    for b in range(3):
                        outputs.column[a][b]()
                        np.matmul(outputs.dM[a][b], U(a, b).T, inputs.dV[a][b])
                    inputs.put_back_columns[a]()
                inputs.put_back_rows()
                inputs.write(dx[block], channels)

    tiling.run(share, C)
    return dx


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    dW = empty((4, 4, C, O), x.dtype)
    dw = _of_cells(dW)
    tiling = _Tiling(geometry, len(x))

    def share(images: slice, channels: slice) -> _Sum | _SumIntoW:
        dU = _Sum(dw[..., channels]) if tiling.by_images else _SumIntoW(dw[..., channels])
        for n, blocks in tiling.blocks(images):
            inputs = _Inputs(tiling, n, C, x.dtype)
            outputs = _OutputGradients(tiling, n, channels.stop - channels.start, x.dtype)
            for block in blocks:
                inputs.read(x[block])
                outputs.read(dy[block], channels)
                for a in range(3):
                    inputs.row[a]()
                    for b in range(3):
                        inputs.column[a][b]()
                        outputs.column[a][b]()
                        np.matmul(inputs.V[a][b].T, outputs.dM[a][b], dU.product(a, b))
                    dU.add(a)
        return dU

    shares = tiling.run(share, O)
    if tiling.by_images:
        _weights_adjoint([dU.sum for dU in shares if isinstance(dU, _Sum)], dw)
    return dW


class _Tiling:
    """How images are cut into tiles of 2×2 outputs, each made from 3×3 cells; neighbours share a line of cells.

    The last tile of a row, or of a column, has a single output where their count is odd.
    """

    def __init__(self, geometry: Geometry, N: int):
        self.geometry, self.N, self.small = geometry, N, geometry.small
        self.size: Pair = geometry.small[0] + 1, geometry.small[1] + 1  # in cells
        self.tiles = [((n + 1) // 2, (n + 1) // 2, n // 2) for n in geometry.small]  # that have m0, m1, m2
        self.each = self.tiles[0][0] * self.tiles[1][0]  # tiles of an image
        self.at_once = SHARED_TILES if threads.get_threads() > 1 else TILES
        self.by_images = N * self.each >= LEAST * threads.get_threads()

    def run(self, share: Callable[[slice, slice], T], channels: int) -> list[T]:
        """share(images, channels) on each thread: a part of the images or, where these are too few to feed BLAS, of
        the channels."""
        if self.by_images:
            return threads.run([partial(share, images, slice(0, channels)) for images in threads.parts(self.N)])
        return threads.run([partial(share, slice(0, self.N), part) for part in threads.parts(channels, least=16)])

    def blocks(self, images: slice) -> Iterator[tuple[int, list[slice]]]:
        """Blocks of images with about so many tiles at once: how many images each has, and where they are."""
        n = min(max(1, self.at_once // self.each), images.stop - images.start)
        full = [slice(i, i + n) for i in range(images.start, images.stop - n + 1, n)]
        yield n, full
        if full[-1].stop < images.stop:
            yield images.stop - full[-1].stop, [slice(full[-1].stop, images.stop)]


# --- the stages; views and calls are made once for many blocks: Python's own time is what threads must share ---


def _by_product(
    role: str, n: int, tiling: _Tiling, channels: int, dtype: DTypeLike, *, distinct: int = 1
) -> list[list[Array]]:
    """For each product [a][b] a buffer (n, tiles, tiles, channels); one for b mod `distinct`."""
    memory = workspace(f"winograd {role}", (distinct, n * tiling.each * channels), dtype)
    return [
        [
            memory[b % distinct][: n * rows * columns * channels].reshape(n, rows, columns, channels)
            for b, columns in enumerate(tiling.tiles[1])
        ]
        for rows in tiling.tiles[0]
    ]


def _matrices(arrays: list[list[Array]]) -> list[list[Array]]:
    """Buffers as matrices, a row for each tile."""
    return [[array.reshape(-1, array.shape[3]) for array in row] for row in arrays]


class _Inputs:
    """x (n, H, W, C) → cells (n, rows, columns, 4C) → rows (n, tiles, columns, 4C) → V[a][b] (n·tiles, 4C)."""

    def __init__(self, tiling: _Tiling, n: int, C: int, dtype: DTypeLike):
        K = 4 * C
        self.cells = cells = workspace("winograd cells", (n, *tiling.size, K), dtype)
        memory = workspace("winograd rows", (n, tiling.tiles[0][0], tiling.size[1], K), dtype)
        upper, _, lower = rows = [memory[:, :t] for t in tiling.tiles[0]]
        V = _by_product("V", n, tiling, K, dtype)
        self.row = _take(cells, rows)
        self.row[1] = lambda: None  # the middle rows are taken from the cells as they are
        self.column = [
            _take(_turned(r), map(_turned, v)) for r, v in zip((upper, cells[:, 1::2], lower), V, strict=True)
        ]
        self.V = _matrices(V)
        self.pixels = Cells(tiling.geometry, tiling.size, C)
        self.pixels.clear(cells)  # padding stays 0

    def read(self, x: Array) -> None:
        self.pixels.read(x, self.cells)


class _InputGradients:
    """dV[a][b] → dcells → dx, the adjoint of `_Inputs`."""

    def __init__(self, tiling: _Tiling, n: int, C: int, dtype: DTypeLike):
        K = 4 * C
        dV = _by_product("dV", n, tiling, K, dtype, distinct=3)
        memory = workspace("winograd drows", (3, n, tiling.tiles[0][0], tiling.size[1], K), dtype)
        drows = [memory[a, :, :t] for a, t in enumerate(tiling.tiles[0])]
        self.dcells = workspace("winograd dcells", (n, *tiling.size, K), dtype)
        self.put_back_columns = [_put_back(map(_turned, dV[a]), _turned(drows[a])) for a in range(3)]
        self.put_back_rows = _put_back(drows, self.dcells)
        self.dV = _matrices(dV)
        self.pixels = Cells(tiling.geometry, tiling.size, C)

    def write(self, dx: Array, channels: slice) -> None:
        self.pixels.write(self.dcells, dx[..., channels])


class _Outputs:
    """M[a][b] (n·tiles, O) → sums[a] (n, tiles, OW, O) over columns → y (n, OH, OW, O)."""

    def __init__(self, tiling: _Tiling, n: int, O: int, dtype: DTypeLike):
        M = _by_product("M", n, tiling, O, dtype, distinct=3)
        memory = workspace("winograd sums", (3, n, tiling.tiles[0][0], tiling.small[1], O), dtype)
        self.sums = [memory[a, :, :t] for a, t in enumerate(tiling.tiles[0])]
        self.sum = [_add_up(map(_turned, M[a]), _turned(self.sums[a])) for a in range(3)]
        self.M = _matrices(M)

    def write(self, y: Array, channels: slice) -> None:
        _add_up(self.sums, y[..., channels])()


class _OutputGradients:
    """dy → sums (n, tiles, OW, O) of the two rows of a tile → dM[a][b] (n·tiles, O): adjoint of `_Outputs`."""

    def __init__(self, tiling: _Tiling, n: int, O: int, dtype: DTypeLike):
        self.sums = workspace("winograd dy sums", (n, tiling.tiles[0][0], tiling.small[1], O), dtype)
        dM = _by_product("dM", n, tiling, O, dtype)
        self.turned = [list(map(_turned, row)) for row in dM]
        self.dM = _matrices(dM)

    def read(self, dy: Array, channels: slice) -> None:
        dy = dy[..., channels]
        upper, lower = dy[:, 0::2], dy[:, 1::2]
        _spread(dy, (upper, self.sums, lower))[1]()
        rows = (upper, self.sums, lower)
        self.column = [_spread(_turned(row), out) for row, out in zip(rows, self.turned, strict=True)]


# --- one dimension: along axis 1, the rows; of what is turned, the columns ---


def _turned(x: Array) -> Array:
    """(n, columns, rows, channels): a view, on which NumPy works in the order of its memory."""
    return x.swapaxes(1, 2)


def _take(x: Array, out: Iterable[Array]) -> list[Call]:
    """(x0 − x1, x1, x2 − x1) for each tile: three calls, which fill the three of out."""
    m0, m1, m2 = out
    tiles, full = m1.shape[1], m2.shape[1]
    x0, x1, x2 = (x[:, k : k + 2 * tiles - 1 : 2] for k in range(3))
    return [
        partial(np.subtract, x0, x1, m0),
        partial(np.copyto, m1, x1),
        partial(np.subtract, x2, x1[:, :full], m2),
    ]


def _put_back(d: Iterable[Array], dx: Array) -> Call:
    """The adjoint of all three, as one call: x1 of a tile is its own, x2 is also x0 of the next."""
    d0, d1, d2 = d
    tiles, full = d1.shape[1], d2.shape[1]
    even, odd = dx[:, 0::2], dx[:, 1::2]
    odd_full = odd[:, :full]
    shared = d0[:, 1:], d2[:, : tiles - 1], even[:, 1:tiles]
    first, last = (even[:, :1], d0[:, :1]), (even[:, tiles:], d2[:, tiles - 1 :])

    def call() -> None:
        np.subtract(d1, d0, odd)
        np.subtract(odd_full, d2, odd_full)
        np.add(*shared)
        np.copyto(*first)
        np.copyto(*last)

    return call


def _add_up(m: Iterable[Array], y: Array) -> Call:
    """y0 = m0 + m1 and y1 = m1 + m2 of each tile, as one call."""
    m0, m1, m2 = m
    y0, y1 = y[:, 0::2], y[:, 1::2]
    m1_full = m1[:, : m2.shape[1]]

    def call() -> None:
        np.add(m0, m1, y0)
        np.add(m1_full, m2, y1)

    return call


def _spread(dy: Array, out: Sequence[Array]) -> list[Call]:
    """The adjoint of that: (dy0, dy0 + dy1, dy1) for each tile, three calls, which fill the three of out."""
    dm0, dm1, dm2 = out
    dy0, dy1 = dy[:, 0::2], dy[:, 1::2]
    full = dy1.shape[1]
    sums, alone = (dy0[:, :full], dy1, dm1[:, :full]), (dm1[:, full:], dy0[:, full:])

    def both() -> None:
        np.add(*sums)
        np.copyto(*alone)

    return [partial(np.copyto, dm0, dy0), both, partial(np.copyto, dm2, dy1)]


# --- weights: W (4, 4, C, O) ↔ w[p, q] (2, 2, C, O) of the 2×2 cells of a window ↔ U[a, b] (4C, O) ---


def _of_cells(W: Array) -> Array:
    """w (2, 2, 2, 2, C, O): row and column of a cell in the window, row and column in that cell. A view."""
    return W.reshape(2, 2, 2, 2, *W.shape[2:]).transpose(0, 2, 1, 3, 4, 5)


_TERMS = ((0,), (0, 1), (1,))  # the w of which U[0], U[1], U[2] are made in one dimension


def _in_turn(w: Array) -> Callable[[int, int], Array]:
    """(a, b) → U[a, b] = (w0, w0 + w1, w1)[a] along rows of cells, and [b] along their columns; in one buffer."""
    *_, C, O = w.shape
    u = workspace("winograd U", w.shape[2:], w.dtype)
    U = u.reshape(4 * C, O)

    def make(a: int, b: int) -> Array:
        first, *others = (w[p, q] for p in _TERMS[a] for q in _TERMS[b])
        if not others:
            np.copyto(u, first)
        for other in others:
            np.add(first, other, u)
            first = u
        return U

    return make


def _weights(w: Array) -> Callable[[int, int], Array]:
    """The same from a U (3, 3, 4C, O) that is all there, made on every thread."""
    *_, C, O = w.shape
    U = empty((3, 3, 2, 2, C, O), w.dtype)

    def share(part: slice) -> None:
        u, v = U[..., part], w[..., part]
        for p in (0, 1):
            u[2 * p, 0], u[2 * p, 2] = v[p, 0], v[p, 1]
            np.add(u[2 * p, 0], u[2 * p, 2], out=u[2 * p, 1])
        for b in range(3):
            np.add(u[0, b], u[2, b], out=u[1, b])

    threads.over(share, O, U.size * threads.MOVING)
    matrices = U.reshape(3, 3, 4 * C, O)
    return lambda a, b: matrices[a, b]


class _Sum:
    """dU (3, 3, 4C, O) of all blocks of a thread."""

    def __init__(self, dw: Array):
        *_, C, O = dw.shape
        self.sum = empty((3, 3, 4 * C, O), dw.dtype)
        self.row = workspace("winograd products", (3, 4 * C, O), dw.dtype)
        self.first = True

    def product(self, a: int, b: int) -> Array:
        """The memory that it goes into."""
        return self.sum[a, b] if self.first else self.row[b]

    def add(self, a: int) -> None:
        """What to do when those of a row are there."""
        if not self.first:
            np.add(self.sum[a], self.row, self.sum[a])
        self.first = self.first and a < 2


class _SumIntoW:
    """dw of all blocks of a thread, from one row of dU at a time."""

    def __init__(self, dw: Array):
        *_, C, O = dw.shape
        self.dw, self.first = dw, True
        self.row = workspace("winograd products", (3, 2, 2, C, O), dw.dtype)
        self.matrices = self.row.reshape(3, 4 * C, O)

    def product(self, a: int, b: int) -> Array:
        """The memory that it goes into."""
        return self.matrices[b]

    def add(self, a: int) -> None:
        """What to do when those of a row are there: each belongs to every w of which its U is made."""
        left, middle, right = self.row
        left += middle
        right += middle
        for p in _TERMS[a]:
            if self.first and a == p:  # the first row that reaches this w
                self.dw[p, 0], self.dw[p, 1] = left, right
            else:
                self.dw[p, 0] += left
                self.dw[p, 1] += right
        self.first = self.first and a < 2


def _weights_adjoint(dUs: list[Array], dw: Array) -> None:
    """The adjoint of `_weights`, of the sum of several dU; it writes into the first of them."""
    *_, C, O = dw.shape

    def share(part: slice) -> None:
        du, *others = (dU.reshape(3, 3, 2, 2, C, O)[..., part] for dU in dUs)
        for other in others:
            du += other
        for b in range(3):
            du[0, b] += du[1, b]
            du[2, b] += du[1, b]
        for p in (0, 1):
            np.add(du[2 * p, 0], du[2 * p, 1], out=dw[p, 0, ..., part])
            np.add(du[2 * p, 2], du[2 * p, 1], out=dw[p, 1, ..., part])

    threads.over(share, O, 9 * C * O * threads.MOVING)
