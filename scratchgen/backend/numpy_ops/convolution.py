"""Which form a convolution takes on a CPU: decided by its shape alone, from measurements.

dense      one window that covers the image is a Dense layer on all of its pixels
winograd   kernel 4, stride 2, many channels, many tiles: 16 products for 36
columns    any other
"""

from math import prod

from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns, dense, winograd

MANY_CHANNELS = 64 * 128  # C·O from which the products outweigh the additions around them
HEAVY_WEIGHTS = 256 * 256  # C·O from which moving the weights counts, too
MANY_OUTPUTS = 2048  # in the batch
FEW_OUTPUTS = 1024  # where the weights are heavy


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`."""
    if geometry.one_window:
        return dense.matmul(x.reshape(len(x), -1), W.reshape(-1, W.shape[3])).reshape(len(x), 1, 1, -1)
    form = winograd if saves_products(geometry, len(x), *W.shape[2:]) else columns
    return form.correlate(x, W, geometry)


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    C, O = W.shape[2:]
    if geometry.one_window:
        return dense.matmul(dy.reshape(len(dy), O), W.reshape(-1, O).T).reshape(len(dy), *geometry.large, C)
    form = winograd if saves_products(geometry, len(dy), C, O) else columns
    return form.correlate_adjoint_x(dy, W, geometry)


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    if geometry.one_window:
        dW = dense.matmul(x.reshape(len(x), -1).T, dy.reshape(len(dy), O))
        return dW.reshape(*geometry.kernel, C, O)
    form = winograd if saves_products(geometry, len(x), C, O) else columns
    return form.correlate_adjoint_W(x, dy, geometry)


def saves_products(geometry: Geometry, N: int, C: int, O: int) -> bool:
    """Whether fewer products are worth the additions around them: many channels, and enough outputs to make up for
    transforming the weights."""
    outputs = N * prod(geometry.small)
    many = C * O >= MANY_CHANNELS and C >= 64
    return winograd.fits(geometry) and many and outputs >= (FEW_OUTPUTS if C * O >= HEAVY_WEIGHTS else MANY_OUTPUTS)
