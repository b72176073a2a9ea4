"""Convolution with kernel 4 and stride 2 in 16 products where the plain form takes 36.

Group the padded image into cells of 2×2 pixels, each one "pixel" of 4C channels: the window of 4×4 pixels that moves
by 2 becomes one of 2×2 cells that moves by 1. Three outputs of such a window, in one dimension,

    y0 = x0 w0 + x1 w1        m0 = (x0 − x2) w0
    y1 = x1 w0 + x2 w1        m1 = (x1 + x2) (w0 + w1)/2        y0 = m0 + m1 + m2
    y2 = x2 w0 + x3 w1        m2 = (x2 − x1) (w0 − w1)/2        y1 =      m1 − m2
                              m3 = (x3 − x1) w1                 y2 =      m1 + m2 + m3

take four products, not six; the first two take m0, m1 and m2, three products for four. (Winograd 1980; F(3, 2) in the
notation of Lavin & Gray 2016.) So n outputs are cut into tiles of three and then, where 3 does not divide n, one or
two tiles of two: 7 = 3 + 2 + 2 in 10 products for 14. In two dimensions the same is done along rows and along
columns: 16 products for a tile of 3×3 outputs, where 36 are plain. A product is here one of matrices: V[a, b] holds
the transformed inputs of all tiles, U[a, b] the transformed weights, and

    x → V[a, b] (tiles, 4C)     W → U[a, b] (4C, O)     M[a, b] = V[a, b] @ U[a, b] (tiles, O) → y

Only additions and halves surround the products, so integers stay exact; floats round like any reordered sum. The
chain is linear in x and linear in W, so the other two maps are its adjoint, each stage transposed and in reverse
order:

    dy → dM → dV = dM @ Uᵀ → dx         dy → dM,  x → V,  dU = Vᵀ @ dM → dW

Many tiles are cut into blocks of images, each of which goes through all stages on one thread, in memory that stays in
cache, and all threads use one U. Where few tiles meet many weights there is one block: its stages take all threads
one after the other, and each U[a, b] is made just before its product. Blocks depend on the sizes alone, and dU is
summed over a fixed number of them in turn, so the result is the same bits on any number of threads.

The stages are here in NumPy; `compiled.winograd` has them as loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array, Arrays
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops.memory import empty, workspace

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

TILES = 128  # of a block, about: V and M stay in cache
WEIGHTS = 256  # elements of U[a, b] for a tile, at most: reading them must not take longer than their products
SHARES = 16  # of a stage, at most
SUMS = 4  # of dU, at most


def fits(geometry: Geometry) -> bool:
    """Whether this is a kernel of 4 with stride 2, and at least two outputs a side: no tile has fewer."""
    four_by_two = geometry.kernel == (4, 4) and geometry.stride == (2, 2) and geometry.dilation == (1, 1)
    return four_by_two and min(geometry.small) >= 2


class Tiling:
    """How a batch is cut into blocks of images, and an image into tiles: R of them along rows, R3 of which have three
    outputs, S and S3 along columns.

    The rows of an array V, or M, are the tiles of V[0, 0], of V[0, 1], … in turn: `of` has those of one product.
    Where there is no tile of three there is no a = 3, or no b = 3.
    """

    def __init__(
        self, geometry: Geometry, N: int, C: int, O: int, dtype: DTypeLike, larger: int, blocks: int = 1 << 30
    ):
        self.geometry, self.C, self.O, self.dtype = geometry, C, O, np.dtype(dtype)
        (R, R3), (S, S3) = ((n // 3 + (n % 3 > 0), n // 3 - (n % 3 == 1)) for n in geometry.small)
        self.sizes = R, R3, S, S3
        self.products = [(a, b) for a in range(4 if R3 else 3) for b in range(4 if S3 else 3)]
        most, count = max(TILES * larger, 4 * C * O // WEIGHTS), 1
        while count < min(N, blocks) and 1.4 * count * most < N * R * S:
            count *= 2  # so that two threads, or four, have equal shares
        self.blocks = threads.cut(N, min(N, count))

    def memory(self, role: str, images: slice, channels: int) -> Array:
        """A buffer for every tile of every product."""
        R, R3, S, S3 = self.sizes
        tiles = (images.stop - images.start) * (3 * R + R3) * (3 * S + S3)
        return workspace(f"winograd {role}", (tiles, channels), self.dtype)

    def of(self, V: Array, a: int, b: int) -> Array:
        """V[a, b] (n, tile rows, tile columns, channels), a view."""
        R, R3, S, S3 = self.sizes
        n = len(V) // ((3 * R + R3) * (3 * S + S3))
        rows, columns = R if a < 3 else R3, S if b < 3 else S3
        start = n * (a * R * (3 * S + S3) + rows * b * S)
        return V[start : start + n * rows * columns].reshape(n, rows, columns, V.shape[1])

    def each_image(self, stage: Stage, images: Array, tiles: Array) -> None:
        """A stage between images and the tiles of all products; on every thread, where blocks are not."""
        shares = threads.cut(len(images), min(len(images), SHARES) if len(self.blocks) == 1 else 1)
        threads.run([partial(stage, self, images, tiles, share) for share in shares])

    def each_product(self, f: Callable[[int, int, Array, Array], object], V: Array, M: Array) -> None:
        """f(a, b, V[a, b], M[a, b]) for each product, a row of the matrices for each tile; on every thread."""
        K, O = V.shape[1], M.shape[1]
        threads.run(
            [
                partial(f, a, b, self.of(V, a, b).reshape(-1, K), self.of(M, a, b).reshape(-1, O))
                for a, b in self.products
            ]
        )


Stage = Callable[[Tiling, Array, Array, slice], None]


class Stages(NamedTuple):
    """The stages; the first four take a tiling, images, tiles, and the part of the images that is their share."""

    inputs: Stage  # x (n, H, W, C) → V (…, 4C)
    inputs_adjoint: Stage  # dV → dx
    outputs: Stage  # M (…, O) → y (n, OH, OW, O)
    outputs_adjoint: Stage  # dy → dM
    weights: Callable[[Array, Array, int, int], None]  # W (4, 4, C, O) → U[a, b] (4C, O)
    weights_adjoint: Callable[[Tiling, Array, Array, slice], None]  # dW, dUs (sums, 4, 4, 4C, O), a part of the rows
    larger: int = 1  # so many times as large are blocks: NumPy's many calls must each have much to do


# --- the maps ---


def correlate(x: Array, W: Array, geometry: Geometry, stages: Stages | None = None) -> Array:
    """See `reference.correlate`."""
    C, O = W.shape[2:]
    s = stages or NUMPY
    y = empty((len(x), *geometry.small, O), x.dtype)
    tiling = Tiling(geometry, len(x), C, O, x.dtype, s.larger)
    U = _weights(tiling, W, s)

    def block(images: slice) -> None:
        V, M = tiling.memory("V", images, 4 * C), tiling.memory("M", images, O)
        tiling.each_image(s.inputs, x[images], V)
        tiling.each_product(lambda a, b, V, M: np.matmul(V, U(a, b), out=M), V, M)
        tiling.each_image(s.outputs, y[images], M)

    threads.run([partial(block, images) for images in tiling.blocks])
    return y


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry, stages: Stages | None = None) -> Array:
    """See `reference.correlate_adjoint_x`."""
    C, O = W.shape[2:]
    s = stages or NUMPY
    dx = empty((len(dy), *geometry.large, C), dy.dtype)
    tiling = Tiling(geometry, len(dy), C, O, dy.dtype, s.larger)
    U = _weights(tiling, W, s, transposed=True)

    def block(images: slice) -> None:
        dV, dM = tiling.memory("V", images, 4 * C), tiling.memory("M", images, O)
        tiling.each_image(s.outputs_adjoint, dy[images], dM)
        tiling.each_product(lambda a, b, dV, dM: np.matmul(dM, U(a, b), out=dV), dV, dM)
        tiling.each_image(s.inputs_adjoint, dx[images], dV)

    threads.run([partial(block, images) for images in tiling.blocks])
    return dx


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry, stages: Stages | None = None) -> Array:
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    s = stages or NUMPY
    tiling = Tiling(geometry, len(x), C, O, x.dtype, s.larger, SUMS)
    dUs = workspace("winograd U", (len(tiling.blocks), 4, 4, 4 * C, O), x.dtype)

    def block(images: slice, dU: Array) -> None:
        V, dM = tiling.memory("V", images, 4 * C), tiling.memory("M", images, O)
        tiling.each_image(s.inputs, x[images], V)
        tiling.each_image(s.outputs_adjoint, dy[images], dM)
        tiling.each_product(lambda a, b, V, dM: np.matmul(V.T, dM, out=dU[a, b]), V, dM)

    threads.run([partial(block, images, dU) for images, dU in zip(tiling.blocks, dUs, strict=True)])
    dW = empty((4, 4, C, O), x.dtype)
    shares = threads.cut(2 * C, min(2 * C, SHARES))
    threads.run([partial(s.weights_adjoint, tiling, dW, dUs, share) for share in shares])
    return dW


def _weights(tiling: Tiling, W: Array, stages: Stages, *, transposed: bool = False) -> Callable[[int, int], Array]:
    """(a, b) → U[a, b] (4C, O), or its transpose: all made at once for several blocks, else each when it is asked
    for."""
    C, O = W.shape[2:]

    def make(a: int, b: int) -> Array:
        U = workspace("winograd product", (4 * C, O), W.dtype)
        stages.weights(W, U, a, b)
        return U.T if transposed else U

    if len(tiling.blocks) == 1:
        return make
    Us = workspace("winograd U", (4, 4, *((O, 4 * C) if transposed else (4 * C, O))), W.dtype)
    threads.run([partial(lambda a, b: np.copyto(Us[a, b], make(a, b)), a, b) for a, b in tiling.products])
    return lambda a, b: Us[a, b]


# --- the stages in NumPy; each along rows and along columns, by the formulas of one dimension ---


def _inputs(tiling: Tiling, x: Array, V: Array, part: slice) -> None:
    pixels, cells, inside, image = _padded(tiling, part)
    pixels[inside] = x[part][image]
    K, (R, R3, S, S3) = 4 * tiling.C, tiling.sizes
    whole = workspace("winograd whole", cells.shape, x.dtype)
    whole[...] = cells
    whole = whole.reshape(*cells.shape[:3], K)
    lines = workspace("winograd lines", (4, len(cells), R, cells.shape[2], K), x.dtype)
    _take(whole, list(lines), R, R3)
    for a in range(4):
        v = [tiling.of(V, a, b)[part].swapaxes(1, 2) for b in range(4)]
        _take(lines[a, :, : R if a < 3 else R3].swapaxes(1, 2), v, S, S3)


def _inputs_adjoint(tiling: Tiling, dx: Array, dV: Array, part: slice) -> None:
    pixels, cells, inside, image = _padded(tiling, part)
    K, (R, R3, S, S3) = 4 * tiling.C, tiling.sizes
    lines = workspace("winograd lines", (4, len(cells), R, cells.shape[2], K), dx.dtype)
    for a in range(4):
        dv = [tiling.of(dV, a, b)[part].swapaxes(1, 2) for b in range(4)]
        _put_back(dv, lines[a, :, : R if a < 3 else R3].swapaxes(1, 2), S, S3)
    whole = workspace("winograd whole", (*cells.shape[:3], K), dx.dtype)
    _put_back(list(lines), whole, R, R3)
    cells[...] = whole.reshape(cells.shape)
    if inside != image:
        dx[part] = 0  # a pixel that no window reads
    dx[part][image] = pixels[inside]


def _outputs(tiling: Tiling, y: Array, M: Array, part: slice) -> None:
    R, R3, S, S3 = tiling.sizes
    y = y[part]
    sums = workspace("winograd lines", (4, len(y), R, *y.shape[2:]), y.dtype)
    for a in range(4):
        m = [tiling.of(M, a, b)[part].swapaxes(1, 2) for b in range(4)]
        _add_up(m, sums[a, :, : R if a < 3 else R3].swapaxes(1, 2), S, S3)
    _add_up(list(sums), y, R, R3)


def _outputs_adjoint(tiling: Tiling, dy: Array, dM: Array, part: slice) -> None:
    R, R3, S, S3 = tiling.sizes
    dy = dy[part]
    sums = workspace("winograd lines", (4, len(dy), R, *dy.shape[2:]), dy.dtype)
    _spread(dy, list(sums), R, R3)
    for a in range(4):
        dm = [tiling.of(dM, a, b)[part].swapaxes(1, 2) for b in range(4)]
        _spread(sums[a, :, : R if a < 3 else R3].swapaxes(1, 2), dm, S, S3)


G = ((1, 0), (0.5, 0.5), (0.5, -0.5), (0, 1))  # U[a] = G[a, 0] w0 + G[a, 1] w1


def _weighted(W: Array, U: Array, a: int, b: int) -> None:
    w, u = _of_cells(W), U.reshape(2, -1, U.shape[1])
    u[...] = 0
    for p, q in np.ndindex(2, 2):
        if G[a][p] * G[b][q] != 0:
            u += G[a][p] * G[b][q] * w[p, :, q]


def _weighted_adjoint(tiling: Tiling, dW: Array, dUs: Array, part: slice) -> None:
    dw = _of_cells(dW)[..., part, :]
    a_last, b_last = tiling.products[-1]  # beyond it there is whatever the memory held
    dU, *others = dUs.reshape(len(dUs), 4, 4, 2, -1, tiling.O)[:, : a_last + 1, : b_last + 1, :, part]
    for other in others:
        dU += other
    rows = [_given_back(list(row)) for row in dU]
    for q in range(2):
        dw[0, :, q], dw[1, :, q] = _given_back([row[q] for row in rows])


def _given_back(dU: Arrays) -> tuple[Array, Array]:
    """dw0, dw1."""
    dU0, dU1, dU2, *dU3 = dU
    dw1 = 0.5 * (dU1 - dU2)
    for d in dU3:  # or none
        dw1 += d
    return dU0 + 0.5 * (dU1 + dU2), dw1


def _of_cells(W: Array) -> Array:
    """W (4, 4, C, O) as (2, 2, 2, 2C, O): row of cells, row in a cell, column of cells, column in a cell and C."""
    return W.reshape(2, 2, 2, -1, W.shape[3])


def _padded(tiling: Tiling, part: slice) -> tuple[Array, Array, Any, Any]:
    """Zeros for all pixels of the cells of some images, (n, 2 rows, 2 columns, C); the same memory as cells
    (n, rows, columns, row in a cell, column in a cell, C); where the images lie in it, and which part of them."""
    (oh, ow), (H, W), (top, left) = tiling.geometry.small, tiling.geometry.large, tiling.geometry.padding
    n, rows, columns = part.stop - part.start, oh + 1, ow + 1
    pixels = workspace("winograd pixels", (n, 2 * rows, 2 * columns, tiling.C), tiling.dtype)
    pixels[...] = 0
    cells = pixels.reshape(n, rows, 2, columns, 2, tiling.C).swapaxes(2, 3)
    h, w = min(H, 2 * rows - top), min(W, 2 * columns - left)
    return pixels, cells, np.s_[:, top : top + h, left : left + w], np.s_[:, :h, :w]


# Along axis 1; of what has its axes swapped, along columns:


def _groups(tiles: int, threes: int) -> Iterator[tuple[int, slice, Callable[[Array, int], Array]]]:
    """The tiles of three, then those of two: how many outputs they have, which tiles they are, and a function that
    picks from an array the first, second, … of each of these tiles' outputs, or of its cells."""

    def picker(start: int, step: int, count: int) -> Callable[[Array, int], Array]:
        return lambda array, k: array[:, start + k : start + k + (count - 1) * step + 1 : step]

    if threes:
        yield 3, slice(0, threes), picker(0, 3, threes)
    if tiles > threes:
        yield 2, slice(threes, tiles), picker(3 * threes, 2, tiles - threes)


def _take(x: Array, out: Arrays, tiles: int, threes: int) -> None:
    """(x0 − x2, x1 + x2, x2 − x1, x3 − x1) of the cells of each tile."""
    for outputs, t, pick in _groups(tiles, threes):
        x0, x1, x2 = (pick(x, k) for k in range(3))
        np.subtract(x0, x2, out=out[0][:, t])
        np.add(x1, x2, out=out[1][:, t])
        np.subtract(x2, x1, out=out[2][:, t])
        if outputs == 3:
            np.subtract(pick(x, 3), x1, out=out[3][:, t])


def _put_back(d: Arrays, dx: Array, tiles: int, threes: int) -> None:
    """Its adjoint: (d0, d1 − d2 − d3, d1 + d2 − d0, d3); the last cell of a tile is the first of the next."""
    dx[:, 0] = 0
    for outputs, t, pick in _groups(tiles, threes):
        dx1, dx2 = pick(dx, 1), pick(dx, 2)
        np.subtract(d[1][:, t], d[2][:, t], out=dx1)
        np.add(d[1][:, t], d[2][:, t], out=dx2)
        dx2 -= d[0][:, t]
        if outputs == 3:
            dx1 -= d[3][:, t]
            pick(dx, 3)[...] = d[3][:, t]
    for _, t, pick in _groups(tiles, threes):
        dx0 = pick(dx, 0)
        dx0 += d[0][:, t]


def _add_up(m: Arrays, y: Array, tiles: int, threes: int) -> None:
    """y = (m0 + m1 + m2, m1 − m2, m1 + m2 + m3) of each tile."""
    for outputs, t, pick in _groups(tiles, threes):
        y0, m1, m2 = pick(y, 0), m[1][:, t], m[2][:, t]
        np.add(m1, m2, out=y0)
        if outputs == 3:
            np.add(y0, m[3][:, t], out=pick(y, 2))
        y0 += m[0][:, t]
        np.subtract(m1, m2, out=pick(y, 1))


def _spread(dy: Array, out: Arrays, tiles: int, threes: int) -> None:
    """Its adjoint: (d0, d0 + d1 + d2, d0 − d1 + d2, d2), in a tile of two with d2 = 0."""
    for outputs, t, pick in _groups(tiles, threes):
        d0, d1 = pick(dy, 0), pick(dy, 1)
        out[0][:, t] = d0
        np.add(d0, d1, out=out[1][:, t])
        np.subtract(d0, d1, out=out[2][:, t])
        if outputs == 3:
            d2 = pick(dy, 2)
            out[1][:, t] += d2
            out[2][:, t] += d2
            out[3][:, t] = d2


NUMPY = Stages(_inputs, _inputs_adjoint, _outputs, _outputs_adjoint, _weighted, _weighted_adjoint, larger=2)
