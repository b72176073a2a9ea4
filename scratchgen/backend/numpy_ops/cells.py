"""Images as cells of 2×2 pixels (space to depth): a kernel of 4 with stride 2 is on them a 2×2 kernel with stride 1.

Every cell holds 4C channels, (row in the cell, column in the cell, C), so that the runs of memory are four times as
long, and a map onto cells scatters 4 times where one onto pixels scatters 16 times.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry, Pair
from scratchgen.backend.numpy_ops.memory import empty, workspace

BLOCK_BYTES = 1 << 19  # of the products of one tap


def fits(geometry: Geometry) -> bool:
    """Whether this is a kernel of 4 with stride 2."""
    return geometry.kernel == (4, 4) and geometry.stride == (2, 2) and geometry.dilation == (1, 1)


class Cells:
    """Where the pixels of x (n, H, W, C) lie in cells (n, rows, columns, 4C), `size` of them, after padding."""

    def __init__(self, geometry: Geometry, size: Pair, C: int):
        self.C, self.size = C, size
        self.places = list(_places(geometry, size))
        ends = zip(geometry.padding, geometry.large, size, strict=True)
        self.outside = [[*range(p), *range(p + n, 2 * m)] for p, n, m in ends]  # rows and columns of the padding
        self.cover = all(2 * m - p >= n for m, p, n in zip(size, geometry.padding, geometry.large, strict=True))

    def clear(self, cells: Array) -> None:
        """Set to 0 what no pixel fills."""
        cells = self._pixels_of(cells)
        for q in self.outside[0]:
            cells[:, q // 2, :, q % 2] = 0
        for q in self.outside[1]:
            cells[:, :, q // 2, :, q % 2] = 0

    def read(self, x: Array, cells: Array) -> None:
        """Fill the cells with x; what no pixel fills stays as it is."""
        cells = self._pixels_of(cells)
        for place in self.places:
            cells[place.inside] = place.of(x)

    def write(self, cells: Array, x: Array) -> None:
        """Fill x from the cells; a pixel that lies in none of them gets 0: no window reads it."""
        if not self.cover:
            x[...] = 0
        cells = self._pixels_of(cells)
        for place in self.places:
            place.of(x)[...] = cells[place.inside]

    def _pixels_of(self, cells: Array) -> Array:
        """(n, rows, columns, row in the cell, column in the cell, C), a view."""
        return cells.reshape(len(cells), *self.size, 2, 2, self.C)


@dataclass(frozen=True)
class Place:
    """Pixels that lie alike in their cells: one row of each cell, and one or both of its columns.

    In memory the two of a cell are side by side, in x as in the cells: one run of 2C elements.
    """

    inside: tuple[slice | int, ...]  # the index into the pixels of cells: (n, rows, columns, `columns`, C)
    rows: slice  # of x
    columns: slice
    both: int  # 2, or 1 where the cell has but one of them

    def of(self, x: Array) -> Array:
        """These pixels in x (n, H, W, C): a view (n, rows, cells, columns in a cell, C)."""
        part = x[:, self.rows, self.columns]
        n, rows, pixels, C = part.shape
        return part.reshape(n, rows, pixels // self.both, self.both, C)


def _places(geometry: Geometry, size: Pair) -> Iterator[Place]:
    """All of them. Pixel r of x is row (r + padding) % 2 of cell (r + padding) // 2; only at the left and right edge
    may a cell have one pixel of x in a row."""
    (H, W), (ph, pw) = geometry.large, geometry.padding
    edge = pw % 2
    pairs = min((W - edge) // 2, size[1] - (pw + edge) // 2)
    for a in (0, 1):
        r = (a - ph) % 2  # the first row of x that has this place in a cell
        i = (r + ph) // 2
        h = min(len(range(r, H, 2)), size[0] - i)
        if h <= 0:
            continue
        rows, at = slice(r, r + 2 * h - 1, 2), (slice(None), slice(i, i + h))
        j = pw // 2
        if edge:
            yield Place((*at, slice(j, j + 1), a, slice(1, 2)), rows, slice(0, 1), 1)
            j += 1
        if pairs > 0:
            yield Place((*at, slice(j, j + pairs), a, slice(0, 2)), rows, slice(edge, edge + 2 * pairs), 2)
        if edge + 2 * pairs < W and j + pairs < size[1]:
            last = edge + 2 * pairs
            yield Place((*at, slice(j + pairs, j + pairs + 1), a, slice(0, 1)), rows, slice(last, last + 1), 1)


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`; for each of 2×2 taps a product with dy, added to the cells it hits."""
    _, _, C, O = W.shape
    N, (oh, ow) = len(dy), geometry.small
    cells = Cells(geometry, (oh + 1, ow + 1), C)
    taps = W.reshape(2, 2, 2, 2, C, O).transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, O, 4 * C)
    dy = np.ascontiguousarray(dy)
    dx = empty((N, *geometry.large, C), dy.dtype)

    def share(images: slice) -> None:
        n = max(1, min(images.stop - images.start, BLOCK_BYTES // (oh * ow * 4 * C * dy.itemsize)))
        whole = workspace("cells", (n, *cells.size, 4 * C), dy.dtype)
        products = workspace("products", (n, oh, ow, 4 * C), dy.dtype)
        for start in range(images.start, images.stop, n):
            block = slice(start, min(start + n, images.stop))
            part, product = whole[: block.stop - start], products[: block.stop - start]
            matrix = dy[block].reshape(-1, O)
            part[...] = 0
            for p in (0, 1):
                for q in (0, 1):
                    np.matmul(matrix, taps[p, q], out=product.reshape(-1, 4 * C))
                    to = part[:, p : p + oh, q : q + ow]
                    np.add(to, product, out=to)
            cells.write(part, dx[block])

    threads.over(share, N, dy.size * 16 * C)
    return dx
