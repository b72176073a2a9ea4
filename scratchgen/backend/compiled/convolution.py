"""Convolutions by compiled loops; Winograd's form from fewer channels and less work on than in NumPy."""

from types import ModuleType

import numpy as np

from scratchgen.backend import numpy_ops
from scratchgen.backend.arrays import FLOATS, Array
from scratchgen.backend.compiled import columns, winograd
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops.convolution import saves_products

CHANNELS, WORK = 32, 1 << 22  # below those of `numpy_ops.convolution`: in loops the additions cost less


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate`."""
    form = _form(geometry, x, W, *W.shape[2:])
    result: Array = form.correlate(_ready(x), _ready(W), geometry)
    return result


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_x`."""
    form = _form(geometry, dy, W, *W.shape[2:])
    result: Array = form.correlate_adjoint_x(_ready(dy), _ready(W), geometry)
    return result


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """See `reference.correlate_adjoint_W`."""
    form = _form(geometry, x, dy, x.shape[3], dy.shape[3])
    result: Array = form.correlate_adjoint_W(_ready(x), _ready(dy), geometry)
    return result


def _form(geometry: Geometry, a: Array, b: Array, C: int, O: int) -> ModuleType:
    """Which module has the map; numpy_ops for products, and for what no loop is compiled for."""
    single = a.dtype == b.dtype and a.dtype in FLOATS
    if geometry.one_window or len(a) == 0 or not single:
        return numpy_ops
    form = winograd if saves_products(geometry, len(a), C, O, CHANNELS, WORK) else columns
    return form if all(loop.of(a.dtype) for loop in form.LOOPS) else numpy_ops


def _ready(a: Array) -> Array:
    """As loops take it: in C order, aligned; a copy where it lies otherwise."""
    return np.require(a, requirements=("C", "A")).view(np.ndarray)
