"""The loops of convolutions: as Python on tiny images, so without Numba too; with faults planted in them; and the
same bits on any number of threads, of plain NumPy and compiled."""

from itertools import product

import numpy as np
import pytest
from drawn import (
    MAPS,
    Problem,
    any_geometry,
    constants,
    drawn,
    few,
    fours,
    integers,
    loops_as_python,
    poison,
    problems,
)
from hypothesis import given
from hypothesis import strategies as st

from scratchgen.backend import compiled, fast, numpy_ops, reference
from scratchgen.backend.compiled import columns as column_loops
from scratchgen.backend.compiled import winograd as winograd_loops
from scratchgen.backend.compiled.compiler import Loop
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns as numpy_columns
from scratchgen.backend.numpy_ops import winograd

tiny = st.integers(1, 3)


@pytest.mark.parametrize(
    ("form", "geometry"),
    [(column_loops, any_geometry(4)), (winograd_loops, fours(9).filter(winograd.fits))],
    ids=["columns", "winograd"],
)
def test_the_loops_as_python_are_the_reference(form, geometry, use_threads):
    use_threads(1)

    @drawn(25)
    @given(problems(geometry, tiny), st.sampled_from([np.float32, np.float64]), st.sampled_from([2, 320]))
    def run(problem, dtype, tiles):
        problem.N, problem.layouts = min(problem.N, 2), ("C",) * 3
        calls = problem.calls(lambda rng, *shape: integers(rng, *shape, dtype=dtype))
        with loops_as_python(), constants(winograd__TILES=tiles):
            for name, args in calls.items():
                found = getattr(form, name)(*args)
                assert found.dtype == dtype
                np.testing.assert_array_equal(found, getattr(reference, name)(*args), err_msg=name)

    run()


FAULTS = {  # a loop, what stands there, and what a slip would make of it: a sign, an offset, the edge of a tile
    "a sign in V": (winograd_loops.inputs, "subtract(c2, c1,", "subtract(c1, c2,"),
    "a row of pixels": (winograd_loops.inputs, "x_rows[n, r + 4] if 0 <= r + 4", "x_rows[n, r + 3] if 0 <= r + 3"),
    "the padding": (winograd_loops.inputs, "half - top", "half"),
    "the last row": (winograd_loops.inputs, "if 0 <= r + 6 < H", "if 0 <= r + 6 < H - 1"),
    "the last tile": (winograd_loops.inputs, "if s < S3", "if s <= S3"),
    "a neighbour's cell": (winograd_loops.inputs_adjoint, "add(lines[a, at : at + run], d0, ", "copy(d0, "),
    "a neighbour's row": (winograd_loops.inputs_adjoint, "if t == 0:", "if t >= 0:"),
    "a sign in dx": (winograd_loops.inputs_adjoint, "add_subtract(d1, d2, d0, dx", "add_subtract(d1, d0, d2, dx"),
    "an unread pixel": (winograd_loops.inputs_adjoint, "1 - top else width", "1 - top else W * C"),
    "an output": (winograd_loops.outputs, "y[n, r + 2, c + j]", "y[n, r + 1, c + j]"),
    "m3": (winograd_loops.outputs, "sums[2, j], sums[3, j]", "sums[2, j], sums[0, j]"),
    "a sign in dM": (winograd_loops.outputs_adjoint, "subtract(d0, d1, dM", "add(d0, d1, dM"),
    "a tile's place": (winograd_loops.outputs_adjoint, "(n * rows + t) * columns", "(n * R + t) * columns"),
    "a half": (winograd_loops.weights, "else 0.5", "else 1.0"),
    "w1 for w0": (winograd_loops.weights, "w[p, half, q, c]", "w[q, half, p, c]"),
    "a row of the kernel": (winograd_loops.weights_adjoint, "half * 2 * C + c", "c"),
    "a sum": (winograd_loops.weights_adjoint, "range(dUs.shape[0])", "range(1)"),
    "a tap": (column_loops.gathered, "j * dw", "j"),
    "the stride": (column_loops.gathered, "(first + r) * sh", "(first + r) * sw"),
    "a row of padding": (column_loops.gathered, "clear(line)", "pass"),
    "the left padding": (column_loops.gathered, "line[pw * C : (pw + W) * C]", "line[: W * C]"),
    "what was there": (column_loops.scattered, "start[c] += ", "start[c] = "),
    "a line before": (column_loops.scattered, "clear(line)", "pass"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_shows(fault, monkeypatch, use_threads):
    """In one of the problems that the test above draws from."""
    use_threads(1)
    poison(monkeypatch)
    loop, right, wrong = FAULTS[fault]
    assert right in loop.text
    broken = Loop(loop.name, loop.text.replace(right, wrong), loop.kinds)
    monkeypatch.setattr(Loop, "of", lambda self, dtype: (broken if self is loop else self).plain(dtype))
    form = column_loops if loop in (column_loops.gathered, column_loops.scattered) else winograd_loops
    if form is column_loops:
        geometries = [Geometry((2, 3), (2, 1), (1, 1), (1, 2), (5, 6), (3, 4))]
    else:
        geometries = [
            Geometry((4, 4), (2, 2), (1, 1), (1, 1), (14, 12), (7, 6)),
            Geometry((4, 4), (2, 2), (0, 0), (1, 1), (8, 11), (3, 4)),
        ]
    for geometry, tiles in product(geometries, (1, 320)):
        for name, args in Problem(3, 3, 2, 2, geometry, ("C",) * 3).calls().items():
            try:
                with constants(winograd__TILES=tiles):
                    found = getattr(form, name)(*args)
            except (ValueError, IndexError):
                return
            if not np.array_equal(found, getattr(reference, name)(*args)):
                return
    pytest.fail("nobody noticed")


@pytest.mark.skipif(fast.numba() is None, reason="nothing to compile with")
@pytest.mark.parametrize("fits", [True, False])
def test_loops_take_fewer_products_from_less_work_on(fits, monkeypatch, use_threads):
    """Than plain NumPy, which takes columns for both."""
    use_threads(2)
    taken = []
    for form in (column_loops, winograd_loops, numpy_columns):
        for name in MAPS:
            f = getattr(form, name)
            monkeypatch.setattr(
                form, name, lambda *a, f=f, form=form, name=name: (taken.append((form, name)), f(*a))[1]
            )
    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (16, 16), (8, 8))
    for name, args in Problem(0, 16 if fits else 3, 64, 64, g, ("C",) * 3).calls().items():
        taken.clear()
        found = getattr(compiled, name)(*args)
        np.testing.assert_array_equal(found, getattr(numpy_ops, name)(*args))
        assert taken == [(winograd_loops if fits else column_loops, name), (numpy_columns, name)]


# --- the same bits on any number of threads -------------------------------------------------------------------------

both = pytest.mark.parametrize("ops", [numpy_ops, compiled], ids=["plain", "compiled"])
SHAPES = {  # of the bench's DCGANs, and others: N, C, O, kernel, stride, padding, side
    "dcgan28, image": (128, 1, 64, 4, 2, 1, 28),
    "dcgan28, inner": (128, 64, 128, 4, 2, 1, 14),
    "dcgan28, base": (128, 128, 100, 7, 1, 0, 7),
    "dcgan28, logit": (128, 128, 1, 7, 1, 0, 7),
    "dcgan64, image": (64, 3, 64, 4, 2, 1, 64),
    "dcgan64, 32": (64, 64, 128, 4, 2, 1, 32),
    "dcgan64, 16": (64, 128, 256, 4, 2, 1, 16),
    "dcgan64, 8": (64, 256, 512, 4, 2, 1, 8),
    "dcgan64, base": (64, 512, 100, 4, 1, 0, 4),
    "an odd side": (33, 32, 48, 3, 2, 1, 15),
    "stride 1": (5, 64, 64, 3, 1, 1, 32),
    "one image": (1, 64, 64, 4, 2, 1, 96),
}


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _assert_the_same_on_any_threads(ops, calls, use_threads, what):
    for name, args in calls.items():
        use_threads(1)
        one = getattr(ops, name)(*args)
        for n in (2, 3, 8):
            use_threads(n)
            np.testing.assert_array_equal(getattr(ops, name)(*args), one, err_msg=f"{what} {name} {n}")


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_bits_on_any_number_of_threads(ops, shape, use_threads):
    N, C, O, k, s, p, side = SHAPES[shape]
    small = (side + 2 * p - k) // s + 1
    g = Geometry((k, k), (s, s), (p, p), (1, 1), (side, side), (small, small))
    _assert_the_same_on_any_threads(ops, Problem(0, N, C, O, g, ("C",) * 3).calls(normal), use_threads, shape)


@both
def test_the_same_bits_of_any_geometry_on_any_number_of_threads(ops, use_threads):
    @drawn(25)
    @given(problems(any_geometry() | fours(), few | st.just(70)), st.sampled_from([1, 5000, 1 << 20]))
    def run(problem, size):
        problem.N *= 9
        with constants(columns__BLOCK_BYTES=size, columns__BLOCK_ROWS=9):
            _assert_the_same_on_any_threads(ops, problem.calls(normal), use_threads, problem)

    run()


def test_sums_of_other_shares_would_round_otherwise(use_threads):
    """So that the tests before this one can fail."""
    use_threads(2)
    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (14, 14), (7, 7))
    with constants(columns__BLOCK_BYTES=1 << 16, columns__BLOCK_ROWS=1):
        for C, sums in ((128, "winograd__SUMS"), (3, "columns__SUMS")):
            args = Problem(0, 500, C, 192 - C, g, ("C",) * 3).calls(normal)[MAPS[2]]
            usual = numpy_ops.correlate_adjoint_W(*args)
            with constants(**{sums: 1}):
                assert (numpy_ops.correlate_adjoint_W(*args) != usual).any()
