"""Which form a convolution takes on a CPU: decided by its shape alone, from measurements.

dense      one window that covers the image is a Dense layer on all of its pixels
winograd   kernel 4, stride 2, many channels, many tiles: 16 products for 36
columns    any other
"""

from math import prod

from scratchgen.backend.arrays import Array
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns, dense, winograd

CHANNELS, WORK = 128, 1 << 25  # C, and outputs·C·O, from which fewer products are worth the additions around them
SCATTERED = 64  # C where columns, too, have additions: they put patches back
FEW_OUTPUTS = 256  # in the batch: too few tiles to make up for transforming the weights


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`."""
    if geometry.one_window:
        matrix = W.reshape(-1, W.shape[3])
        return dense.matmul(x.reshape(len(x), len(matrix)), matrix).reshape(len(x), 1, 1, W.shape[3])
    form = winograd if saves_products(geometry, len(x), *W.shape[2:]) else columns
    return form.correlate(x, W, geometry)


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    C, O = W.shape[2:]
    if geometry.one_window:
        return dense.matmul(dy.reshape(len(dy), O), W.reshape(-1, O).T).reshape(len(dy), *geometry.large, C)
    form = winograd if saves_products(geometry, len(dy), C, O, SCATTERED) else columns
    return form.correlate_adjoint_x(dy, W, geometry)


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    if geometry.one_window:
        dW = dense.matmul(x.reshape(len(x), prod(x.shape[1:])).T, dy.reshape(len(dy), O))
        return dW.reshape(*geometry.kernel, C, O)
    form = winograd if saves_products(geometry, len(x), C, O) else columns
    return form.correlate_adjoint_W(x, dy, geometry)


def saves_products(geometry: Geometry, N: int, C: int, O: int, channels: int = CHANNELS, work: int = WORK) -> bool:
    """Whether Winograd's form pays: from so many channels, and so much work."""
    outputs = N * prod(geometry.small)
    return winograd.fits(geometry) and channels <= C and outputs >= FEW_OUTPUTS and outputs * C * O >= work
