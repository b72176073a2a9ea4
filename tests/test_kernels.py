"""The fast kernels against their references, the references against the definition, and the adjoint identities."""

import threading
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scratchgen.backend import numpy_ops, reference
from scratchgen.backend.geometry import Geometry, correlated_size, transposed_size

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
drawn = settings(max_examples=120, deadline=None, derandomize=True)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def problems(draw):
    """(rng, N, C, O, geometry): a geometry of either kind of layer, so output_padding too."""
    rng = draw(seeds)
    N, C, O = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    if draw(st.booleans()):
        large, small = size, tuple(map(correlated_size, size, kernel, stride, padding, dilation))
    else:
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        large, small = tuple(map(transposed_size, size, kernel, stride, padding, dilation, extra)), size
    assume(min(*large, *small) >= 1)
    return rng, N, C, O, Geometry(kernel, stride, padding, dilation, large, small)


def integers(rng, *shape, dtype=np.float32):
    """Small integers: sums of products of them are exact, so the order of summation cannot show."""
    return rng.integers(-4, 5, shape).astype(dtype)


def arrays(problem, draw=integers):
    rng, N, C, O, g = problem
    return draw(rng, N, *g.large, C), draw(rng, *g.kernel, C, O), draw(rng, N, *g.small, O)


@pytest.fixture(params=["block", "band of rows", "whole batch"])
def blocking(request, monkeypatch):
    """Blocks of every kind, though the arrays of a test are small."""
    bytes_, rows = {"block": (700, 7), "band of rows": (1, 1), "whole batch": (1 << 30, 256)}[request.param]
    monkeypatch.setattr(numpy_ops, "BLOCK_BYTES", bytes_)
    monkeypatch.setattr(numpy_ops, "BLOCK_ROWS", rows)


def test_fast_convolution_maps_equal_their_references_bit_for_bit(blocking):
    @drawn
    @given(problems())
    def run(problem):
        x, W, dy = arrays(problem)
        g = problem[-1]
        for name, args in (
            ("correlate", (x, W, g)),
            ("correlate_adjoint_x", (dy, W, g)),
            ("correlate_adjoint_W", (x, dy, g)),
        ):
            fast, plain = getattr(numpy_ops, name)(*args), getattr(reference, name)(*args)
            assert fast.dtype == plain.dtype == np.float32
            np.testing.assert_array_equal(fast, plain, err_msg=name)

    run()


@drawn
@given(problems())
def test_reference_correlation_is_its_definition(problem):
    x, W, _ = arrays(problem)
    _, N, C, O, g = problem
    y = np.zeros((N, *g.small, O))
    (sh, sw), (ph, pw), (dh, dw) = g.stride, g.padding, g.dilation
    for r, c, i, j in product(*map(range, (*g.small, *g.kernel))):
        row, column = r * sh + i * dh - ph, c * sw + j * dw - pw
        if 0 <= row < g.large[0] and 0 <= column < g.large[1]:
            for n, k, o in product(range(N), range(C), range(O)):
                y[n, r, c, o] += x[n, row, column, k] * W[i, j, k, o]
    np.testing.assert_array_equal(reference.correlate(x, W, g), y)


@drawn
@given(problems())
def test_im2col_and_col2im_are_adjoint(problem):
    rng, N, C, _, g = problem
    x, cols = integers(rng, N, *g.large, C), integers(rng, N, *g.small, *g.kernel, C)
    assert np.vdot(reference.im2col(x, g), cols) == np.vdot(x, reference.col2im(cols, g))


@pytest.mark.parametrize("ops", [reference, numpy_ops], ids=["reference", "numpy"])
def test_the_adjoints_are_adjoint(ops):
    """⟨dy, correlate(x, W)⟩ = ⟨adjoint_x(dy, W), x⟩ = ⟨adjoint_W(x, dy), W⟩; exactly, for integers."""

    @drawn
    @given(problems(), st.booleans())
    def run(problem, exact):
        x, W, dy = arrays(problem, integers if exact else lambda rng, *shape: rng.standard_normal(shape))
        g = problem[-1]
        a = np.vdot(dy, ops.correlate(x, W, g))
        b = np.vdot(ops.correlate_adjoint_x(dy, W, g), x)
        c = np.vdot(ops.correlate_adjoint_W(x, dy, g), W)
        bound = 0 if exact else 1e-12 * max(1, np.linalg.norm(dy) * np.linalg.norm(x) * np.linalg.norm(W))
        assert abs(a - b) <= bound
        assert abs(a - c) <= bound

    run()


@drawn
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_sums_over_rows(rng, shape):
    a, b = integers(rng, *shape), integers(rng, *shape)
    np.testing.assert_array_equal(numpy_ops.row_sum(a), reference.row_sum(a))
    np.testing.assert_array_equal(numpy_ops.row_dot(a, b), reference.row_dot(a, b))


def test_sums_over_many_rows_round_well():
    """Half a million float32 rows: added one by one they are off by far more."""
    a = np.random.default_rng(0).random((500_001, 3), np.float32)
    exact = a.astype(np.float64)
    np.testing.assert_allclose(numpy_ops.row_sum(a), exact.sum(axis=0), rtol=2e-6)
    np.testing.assert_allclose(numpy_ops.row_dot(a, a), (exact * exact).sum(axis=0), rtol=2e-6)


@pytest.mark.parametrize("block", [5, 1 << 15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam(block, dtype, monkeypatch):
    monkeypatch.setattr(numpy_ops, "ADAM_BLOCK", block)
    rng = np.random.default_rng(0)
    value, grad = rng.standard_normal((2, 7, 3)).astype(dtype)
    m, v = rng.random((2, 7, 3)).astype(dtype)
    mine, theirs = (m.copy(), v.copy()), (m.copy(), v.copy())
    before = value.copy()
    fast = numpy_ops.adam(value, grad, *mine, 1e-2, 0.8, 0.99, 1e-6, 3)
    plain = reference.adam(value, grad, *theirs, 1e-2, 0.8, 0.99, 1e-6, 3)
    np.testing.assert_array_equal(value, before)
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    for a, b in zip((fast, *mine), (plain, *theirs), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=rtol)


def test_kernels_do_not_hand_out_their_workspace():
    g = Geometry((2, 2), (1, 1), (0, 0), (1, 1), (4, 4), (3, 3))
    rng = np.random.default_rng(0)
    first = [f(*a) for f, a in _calls(rng, g)]
    kept = [a.copy() for a in first]
    for f, a in _calls(rng, g):
        f(*a)
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def _calls(rng, g):
    x, W, dy = arrays((rng, 2, 3, 2, g))
    return (
        (numpy_ops.correlate, (x, W, g)),
        (numpy_ops.correlate_adjoint_x, (dy, W, g)),
        (numpy_ops.correlate_adjoint_W, (x, dy, g)),
    )


def test_kernels_run_side_by_side_in_threads():
    g = Geometry((3, 3), (1, 1), (1, 1), (1, 1), (16, 16), (16, 16))
    rng = np.random.default_rng(0)
    problems = [arrays((rng, 4, 8, 8, g)) for _ in range(4)]
    right = [(reference.correlate(x, W, g), reference.correlate_adjoint_x(dy, W, g)) for x, W, dy in problems]
    wrong = []

    def work(problem, expected):
        x, W, dy = problem
        for _ in range(20):
            found = numpy_ops.correlate(x, W, g), numpy_ops.correlate_adjoint_x(dy, W, g)
            wrong.extend(1 for a, b in zip(found, expected, strict=True) if not np.array_equal(a, b))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(problems, right, strict=True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_no_column_matrix_of_the_whole_batch_is_ever_held(monkeypatch):
    """The largest temporary is a block, whatever the batch."""
    asked = []
    workspace = numpy_ops._workspace
    monkeypatch.setattr(
        numpy_ops,
        "_workspace",
        lambda role, size, dtype: asked.append(size * np.dtype(dtype).itemsize) or workspace(role, size, dtype),
    )
    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (32, 32), (16, 16))
    x = np.ones((64, 32, 32, 16), np.float32)
    W = np.ones((4, 4, 16, 8), np.float32)
    numpy_ops.correlate_adjoint_W(x, numpy_ops.correlate(x, W, g), g)
    whole = 64 * 16 * 16 * 16 * 16 * 4
    assert max(asked) <= numpy_ops.BLOCK_BYTES < whole / 10
