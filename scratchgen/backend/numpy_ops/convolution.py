"""Which form a convolution takes on a CPU: decided by its shape alone, from measurements (`scratchgen bench`)."""

from math import prod

from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns, dense, winograd


def correlate(x, W, geometry: Geometry):
    """See `reference.correlate`."""
    kh, kw, C, O = W.shape
    if _is_dense(geometry):
        return dense.matmul(x.reshape(len(x), -1), W.reshape(-1, O)).reshape(len(x), 1, 1, O)
    form = winograd if _many_products(geometry, len(x), C, O) else columns
    return form.correlate(x, W, geometry)


def correlate_adjoint_x(dy, W, geometry: Geometry):
    """See `reference.correlate_adjoint_x`."""
    kh, kw, C, O = W.shape
    if _is_dense(geometry):
        return dense.matmul(dy.reshape(len(dy), O), W.reshape(-1, O).T).reshape(len(dy), kh, kw, C)
    form = winograd if _many_products(geometry, len(dy), C, O) else columns
    return form.correlate_adjoint_x(dy, W, geometry)


def correlate_adjoint_W(x, dy, geometry: Geometry):
    """See `reference.correlate_adjoint_W`."""
    C, O = x.shape[3], dy.shape[3]
    if _is_dense(geometry):
        dW = dense.matmul(x.reshape(len(x), -1).T, dy.reshape(len(dy), O))
        return dW.reshape(*geometry.kernel, C, O)
    form = winograd if _many_products(geometry, len(x), C, O) else columns
    return form.correlate_adjoint_W(x, dy, geometry)


def _is_dense(geometry: Geometry) -> bool:
    """One window that covers the image: a Dense layer on all of its pixels."""
    return geometry.kernel == geometry.large and geometry.padding == (0, 0) and geometry.dilation == (1, 1)


def _many_products(geometry: Geometry, N: int, C: int, O: int) -> bool:
    """Whether fewer products are worth the additions around them."""
    return winograd.fits(geometry) and min(C, O) >= 32 and N * prod(geometry.small) >= 512
