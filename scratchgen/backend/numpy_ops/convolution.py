"""Which form a convolution takes on a CPU: decided by its shape alone, from measurements.

dense      one window that covers the image is a Dense layer on all of its pixels
winograd   kernel 4, stride 2, many channels, many tiles: 9 products for 16
cells      kernel 4, stride 2, adjoint in x: scattered in runs four times as long
columns    any other
"""

from math import prod

from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import cells, columns, dense, winograd

MANY_CHANNELS = 64 * 128  # C·O from which the products outweigh the additions around them
HEAVY_WEIGHTS = 256 * 256  # C·O from which moving the weights counts, too
MANY_TILES = 512  # of 2×2 outputs, in the batch
FEW_TILES = 256  # where the weights are heavy
FEW_PRODUCTS = 0.7  # 0.56 where both sizes are even, 0.62 for 7×7, 1 for a single output


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`."""
    O = W.shape[3]
    if geometry.one_window:
        return dense.matmul(x.reshape(len(x), -1), W.reshape(-1, O)).reshape(len(x), 1, 1, O)
    form = winograd if _saves_products(geometry, len(x), *W.shape[2:]) else columns
    return form.correlate(x, W, geometry)


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    C, O = W.shape[2:]
    if geometry.one_window:
        return dense.matmul(dy.reshape(len(dy), O), W.reshape(-1, O).T).reshape(len(dy), *geometry.large, C)
    heavy = cells.fits(geometry) and C * O >= HEAVY_WEIGHTS and len(dy) > 0
    if heavy or _saves_products(geometry, len(dy), C, O):
        return winograd.correlate_adjoint_x(dy, W, geometry)
    form = cells if cells.fits(geometry) and C > 1 else columns
    return form.correlate_adjoint_x(dy, W, geometry)


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    if geometry.one_window:
        dW = dense.matmul(x.reshape(len(x), -1).T, dy.reshape(len(dy), O))
        return dW.reshape(*geometry.kernel, C, O)
    form = winograd if _saves_products(geometry, len(x), C, O) else columns
    return form.correlate_adjoint_W(x, dy, geometry)


def _saves_products(geometry: Geometry, N: int, C: int, O: int) -> bool:
    """Whether fewer products are worth the additions around them: many channels, enough tiles to make up for
    transforming the weights, and few half tiles, which save less."""
    tiles = N * prod(geometry.small) // 4
    products = prod((3 * n + 1) // 2 / (2 * n) for n in geometry.small)  # of those that the plain form takes
    many = C * O >= MANY_CHANNELS and C >= 64 and tiles >= (FEW_TILES if C * O >= HEAVY_WEIGHTS else MANY_TILES)
    return cells.fits(geometry) and many and products <= FEW_PRODUCTS
