"""The stages of `numpy_ops.winograd` as loops: straight from images to the tiles of all products, and back.

A row of cells is two rows of pixels, and in each of these a cell is a run of 2C elements, as it is in V. So sums
along rows are made of whole rows of pixels, and sums along columns of such runs.
"""

from functools import partial

import numpy as np

from scratchgen.backend.arrays import Array
from scratchgen.backend.compiled.compiler import Count, In2, In4, In5, Loop, Out2, Out4, loop
from scratchgen.backend.compiled.runs import (
    add,
    add_multiple,
    add_subtract,
    add_three,
    clear,
    copy,
    subtract,
    subtract_two,
)
from scratchgen.backend.numpy_ops import winograd
from scratchgen.backend.numpy_ops.winograd import Stages, Tiling

# --- places ---


def first(t, threes):
    """The first output of tile t, and the first of its cells."""
    return 2 * t + min(t, threes)


def place(a, b, n, t, s, N, R, R3, S, S3):
    """Where in V is V[a, b] for tile (t, s) of image n, of N images."""
    rows = R if a < 3 else R3
    columns = S if b < 3 else S3
    return N * (a * R * (3 * S + S3) + rows * b * S) + (n * rows + t) * columns + s


# --- the stages; each along rows and along columns, by the formulas of one dimension ---


@loop(add, subtract, first, place)
def inputs(
    x: In4, V: Out2, start: Count, stop: Count, R: Count, R3: Count, S: Count, S3: Count, top: Count, left: Count
) -> None:
    """x (N, H, W, C) → V (…, 4C): (x0 − x2, x1 + x2, x2 − x1, x3 − x1) of the cells of each tile.

    A row of cells is two rows of pixels, and in each of these a cell is a run of 2C elements.
    """
    N, H, W, C = x.shape
    run = 2 * C
    x_rows = x.reshape(N, H, W * C)
    V_runs = V.reshape(-1, 2, run)
    zeros = np.zeros(W * C, x.dtype)
    lines = np.zeros((4, (first(S, S3) + 1) * run), x.dtype)  # the four sums along rows, with the padding
    begin = left * C
    end = min(begin + W * C, lines.shape[1])
    for n in range(start, stop):
        for t in range(R):
            for half in range(2):
                r = 2 * first(t, R3) + half - top
                x0 = x_rows[n, r] if 0 <= r < H else zeros
                x1 = x_rows[n, r + 2] if 0 <= r + 2 < H else zeros
                x2 = x_rows[n, r + 4] if 0 <= r + 4 < H else zeros
                x3 = x_rows[n, r + 6] if 0 <= r + 6 < H else zeros
                subtract(x0, x2, lines[0, begin:end])
                add(x1, x2, lines[1, begin:end])
                subtract(x2, x1, lines[2, begin:end])
                subtract(x3, x1, lines[3, begin:end])
                for a in range(4 if t < R3 else 3):
                    for s in range(S):
                        at = first(s, S3) * run
                        c0 = lines[a, at : at + run]
                        c1 = lines[a, at + run : at + 2 * run]
                        c2 = lines[a, at + 2 * run : at + 3 * run]
                        subtract(c0, c2, V_runs[place(a, 0, n, t, s, N, R, R3, S, S3), half])
                        add(c1, c2, V_runs[place(a, 1, n, t, s, N, R, R3, S, S3), half])
                        subtract(c2, c1, V_runs[place(a, 2, n, t, s, N, R, R3, S, S3), half])
                        if s < S3:
                            c3 = lines[a, at + 3 * run : at + 4 * run]
                            subtract(c3, c1, V_runs[place(a, 3, n, t, s, N, R, R3, S, S3), half])


@loop(clear, copy, add, subtract, add_subtract, subtract_two, first, place)
def inputs_adjoint(
    dx: Out4, dV: In2, start: Count, stop: Count, R: Count, R3: Count, S: Count, S3: Count, top: Count, left: Count
) -> None:
    """dV → dx: the cells of each tile get (d0, d1 − d2 − d3, d1 + d2 − d0, d3); its last is the first of the next."""
    N, H, W, C = dx.shape
    run = 2 * C
    dx_rows = dx.reshape(N, H, W * C)
    dV_runs = dV.reshape(-1, 2, run)
    lines = np.zeros((4, (first(S, S3) + 1) * run), dx.dtype)
    begin = left * C
    end = min(begin + W * C, lines.shape[1])
    width = end - begin
    for n in range(start, stop):
        for r in range(H):  # a pixel that no window reads gets 0
            clear(dx_rows[n, r, 0 if r > 2 * first(R, R3) + 1 - top else width :])
        for t in range(R):
            for half in range(2):
                for a in range(4 if t < R3 else 3):
                    clear(lines[a, :run])
                    for s in range(S):
                        at = first(s, S3) * run
                        d0 = dV_runs[place(a, 0, n, t, s, N, R, R3, S, S3), half]
                        d1 = dV_runs[place(a, 1, n, t, s, N, R, R3, S, S3), half]
                        d2 = dV_runs[place(a, 2, n, t, s, N, R, R3, S, S3), half]
                        add(lines[a, at : at + run], d0, lines[a, at : at + run])
                        add_subtract(d1, d2, d0, lines[a, at + 2 * run : at + 3 * run])
                        if s < S3:
                            d3 = dV_runs[place(a, 3, n, t, s, N, R, R3, S, S3), half]
                            subtract_two(d1, d2, d3, lines[a, at + run : at + 2 * run])
                            copy(d3, lines[a, at + 3 * run : at + 4 * run])
                        else:
                            subtract(d1, d2, lines[a, at + run : at + 2 * run])
                r = 2 * first(t, R3) + half - top
                d0 = lines[0, begin:end]
                d1 = lines[1, begin:end]
                d2 = lines[2, begin:end]
                d3 = lines[3, begin:end]
                if 0 <= r < H:
                    if t == 0:
                        copy(d0, dx_rows[n, r, :width])
                    else:
                        add(dx_rows[n, r, :width], d0, dx_rows[n, r, :width])
                if 0 <= r + 2 < H:
                    if t < R3:
                        subtract_two(d1, d2, d3, dx_rows[n, r + 2, :width])
                    else:
                        subtract(d1, d2, dx_rows[n, r + 2, :width])
                if 0 <= r + 4 < H:
                    add_subtract(d1, d2, d0, dx_rows[n, r + 4, :width])
                if t < R3 and 0 <= r + 6 < H:
                    copy(d3, dx_rows[n, r + 6, :width])


@loop(add_three, subtract, first, place)
def outputs(y: Out4, M: In2, start: Count, stop: Count, R: Count, R3: Count, S: Count, S3: Count) -> None:
    """M (…, O) → y (N, OH, OW, O): (m0 + m1 + m2, m1 − m2, m1 + m2 + m3) of each tile."""
    N = y.shape[0]
    sums = np.empty((4, 3, y.shape[3]), y.dtype)  # of a tile, along columns
    for n in range(start, stop):
        for t in range(R):
            for s in range(S):
                for a in range(4 if t < R3 else 3):
                    m0 = M[place(a, 0, n, t, s, N, R, R3, S, S3)]
                    m1 = M[place(a, 1, n, t, s, N, R, R3, S, S3)]
                    m2 = M[place(a, 2, n, t, s, N, R, R3, S, S3)]
                    add_three(m0, m1, m2, sums[a, 0])
                    subtract(m1, m2, sums[a, 1])
                    if s < S3:
                        add_three(m1, m2, M[place(a, 3, n, t, s, N, R, R3, S, S3)], sums[a, 2])
                r = first(t, R3)
                c = first(s, S3)
                for j in range(3 if s < S3 else 2):
                    add_three(sums[0, j], sums[1, j], sums[2, j], y[n, r, c + j])
                    subtract(sums[1, j], sums[2, j], y[n, r + 1, c + j])
                    if t < R3:
                        add_three(sums[1, j], sums[2, j], sums[3, j], y[n, r + 2, c + j])


@loop(copy, add, subtract, add_three, add_subtract, first, place)
def outputs_adjoint(dy: In4, dM: Out2, start: Count, stop: Count, R: Count, R3: Count, S: Count, S3: Count) -> None:
    """dy → dM: (d0, d0 + d1 + d2, d0 − d1 + d2, d2) of the outputs of each tile."""
    N = dy.shape[0]
    sums = np.empty((4, 3, dy.shape[3]), dy.dtype)  # of a tile, along rows
    for n in range(start, stop):
        for t in range(R):
            for s in range(S):
                r = first(t, R3)
                c = first(s, S3)
                for j in range(3 if s < S3 else 2):
                    d0 = dy[n, r, c + j]
                    d1 = dy[n, r + 1, c + j]
                    copy(d0, sums[0, j])
                    if t < R3:
                        d2 = dy[n, r + 2, c + j]
                        add_three(d0, d1, d2, sums[1, j])
                        add_subtract(d0, d2, d1, sums[2, j])
                        copy(d2, sums[3, j])
                    else:
                        add(d0, d1, sums[1, j])
                        subtract(d0, d1, sums[2, j])
                for a in range(4 if t < R3 else 3):
                    d0 = sums[a, 0]
                    d1 = sums[a, 1]
                    copy(d0, dM[place(a, 0, n, t, s, N, R, R3, S, S3)])
                    if s < S3:
                        d2 = sums[a, 2]
                        add_three(d0, d1, d2, dM[place(a, 1, n, t, s, N, R, R3, S, S3)])
                        add_subtract(d0, d2, d1, dM[place(a, 2, n, t, s, N, R, R3, S, S3)])
                        copy(d2, dM[place(a, 3, n, t, s, N, R, R3, S, S3)])
                    else:
                        add(d0, d1, dM[place(a, 1, n, t, s, N, R, R3, S, S3)])
                        subtract(d0, d1, dM[place(a, 2, n, t, s, N, R, R3, S, S3)])


def part(a, p):
    """How much of w[p] is in U[a], one of w0, (w0 + w1)/2, (w0 − w1)/2, w1."""
    if a == 0:
        return 1.0 - p
    if a == 3:
        return 0.0 + p
    return -0.5 if a == 2 and p == 1 else 0.5


@loop(clear, add_multiple, part)
def weights(W: In4, U: Out2, a: Count, b: Count) -> None:
    """W (4, 4, C, O) → U[a, b] (4C, O): of the w[p, q] of the 2×2 cells in a window, each of 2 × 2C × O elements."""
    C, O = W.shape[2:]
    w = W.reshape(2, 2, 2, 2 * C, O)
    u = U.reshape(2, 2 * C, O)
    for half in range(2):
        for c in range(2 * C):
            clear(u[half, c])
            for p in range(2):
                for q in range(2):
                    share = U.dtype.type(part(a, p) * part(b, q))
                    if share != 0:
                        add_multiple(u[half, c], share, w[p, half, q, c])


@loop(clear, add_multiple, part)
def weights_adjoint(dW: Out4, dUs: In5, start: Count, stop: Count, rows: Count, columns: Count) -> None:
    """dUs (sums, 4, 4, 4C, O), of which a < rows and b < columns count → dW; of the runs `start` to `stop` of 2C."""
    C, O = dW.shape[2:]
    dw = dW.reshape(2, 2, 2, 2 * C, O)
    for half in range(2):
        for c in range(start, stop):
            for p in range(2):
                for q in range(2):
                    clear(dw[p, half, q, c])
                    for a in range(rows):
                        for b in range(columns):
                            share = dW.dtype.type(part(a, p) * part(b, q))
                            if share != 0:
                                for g in range(dUs.shape[0]):
                                    add_multiple(dw[p, half, q, c], share, dUs[g, a, b, half * 2 * C + c])


# --- the loops as stages ---


def _with_padding(stage: Loop, tiling: Tiling, images: Array, tiles: Array, part: slice) -> None:
    _run(stage, images, tiles, part.start, part.stop, *tiling.sizes, *tiling.geometry.padding)


def _without(stage: Loop, tiling: Tiling, images: Array, tiles: Array, part: slice) -> None:
    _run(stage, images, tiles, part.start, part.stop, *tiling.sizes)


def _weights_adjoint(tiling: Tiling, dW: Array, dUs: Array, part: slice) -> None:
    last_a, last_b = tiling.products[-1]
    _run(weights_adjoint, dW, dUs, part.start, part.stop, last_a + 1, last_b + 1)


def _run(stage: Loop, array: Array, *arguments: Array | int) -> None:
    run = stage.of(array.dtype)
    assert run is not None
    run(array, *arguments)


LOOPS = inputs, inputs_adjoint, outputs, outputs_adjoint, weights, weights_adjoint
STAGES = Stages(
    partial(_with_padding, inputs),
    partial(_with_padding, inputs_adjoint),
    partial(_without, outputs),
    partial(_without, outputs_adjoint),
    partial(_run, weights),
    _weights_adjoint,
)
correlate = partial(winograd.correlate, stages=STAGES)
correlate_adjoint_x = partial(winograd.correlate_adjoint_x, stages=STAGES)
correlate_adjoint_W = partial(winograd.correlate_adjoint_W, stages=STAGES)
