"""Loops that are no formulas, each written as what it computes."""

import numpy as np

from scratchgen.backend.compiled.compiler import In, In2, Number, Out, loop


@loop()
def adam(
    p: In,
    g: In,
    m: Out,
    v: Out,
    new: Out,
    keep_m: Number,
    take_m: Number,
    keep_v: Number,
    take_v: Number,
    step: Number,
    least: Number,
) -> None:
    """m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  new = p − step · m / (√v + least)."""
    for i in range(p.size):
        mi = keep_m * m[i] + take_m * g[i]
        vi = keep_v * v[i] + take_v * (g[i] * g[i])
        m[i] = mi
        v[i] = vi
        new[i] = p[i] - step * (mi / (np.sqrt(vi) + least))


@loop()
def mean_and_squares(x: In2, mean: Out, rest: Out, squares: Out, rows: Number) -> None:
    """The mean of each column of x, as it is rounded, and Σ (x − mean), which is what that leaves, and Σ (x − mean)²;
    the three vectors are 0 before."""
    for row in range(x.shape[0]):
        xs = x[row]
        for i in range(xs.size):
            mean[i] += xs[i]
    for i in range(mean.size):
        mean[i] /= rows
    for row in range(x.shape[0]):
        xs = x[row]
        for i in range(xs.size):
            d = xs[i] - mean[i]
            rest[i] += d
            squares[i] += d * d
