"""The shortest proof of a backward: it must be the adjoint of the forward's derivative."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np

from scratchgen.backend import Array


def adjoint_error(forward: Callable[[Array], tuple[Array, Callable]], x: Array, rng: np.random.Generator) -> float:
    """|⟨dy, J t⟩ − ⟨dx, t⟩| over the larger of the two, for random dy and t: 0 up to rounding, whatever they are.

    For `y, backward = forward(x)` a small step h·t moves y by h·J t, and the loss by h⟨dy, J t⟩ = h⟨Jᵀ dy, t⟩. So
    with dx = backward(dy) = Jᵀ dy both products are equal. J t is a central difference along t, off by about
    1e-10: `x` is float64, and y smooth there. Parameters, kinks, and what may hide a fault are left to `check`.
    Where `forward` is that of a layer, each evaluation is of a copy, so that a layer that draws repeats its draws.
    """
    h, t = 6e-6, rng.standard_normal(x.shape)
    y, backward = deepcopy(forward)(x)
    dy = rng.standard_normal(y.shape)
    Jt = (deepcopy(forward)(x + h * t)[0] - deepcopy(forward)(x - h * t)[0]) / (2 * h)
    forth, back = np.sum(dy * Jt), np.sum(backward(dy) * t)
    return float(abs(forth - back) / max(abs(forth), abs(back)))
