"""The fast kernels against their references, the references against the definition, and the adjoint identities.

Integers make every sum exact, so a kernel must give its reference's elements bit for bit, whatever form it takes, in
blocks of whatever size, on however many threads.
"""

import gc
import threading
import weakref
from functools import partial
from itertools import product
from time import monotonic, sleep

import numpy as np
import pytest
from drawn import (
    LAYOUTS,
    MAPS,
    Problem,
    any_geometry,
    compiled_or_python,
    constants,
    drawn,
    few,
    fours,
    integers,
    laid,
    layouts,
    poison,
    problems,
    seeds,
)
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from scratchgen.backend import Correlation, compiled, fast, formula, load_kernels, numpy_ops, reference, threads
from scratchgen.backend.compiled import columns as column_loops
from scratchgen.backend.compiled import winograd as winograd_loops
from scratchgen.backend.geometry import Geometry
from scratchgen.backend.numpy_ops import columns, convolution, dense, winograd
from scratchgen.backend.numpy_ops import formula as numpy_formula

NUMBA = fast.available() and fast.numba() is not None
OPS = pytest.mark.parametrize("ops", [numpy_ops, compiled], ids=["numpy", "compiled"])
LARGE = pytest.mark.parametrize(  # of more elements than Python goes through in a test
    "ops",
    [
        numpy_ops,
        pytest.param(compiled, marks=pytest.mark.skipif(not NUMBA, reason="needs Numba: the extra `fast`")),
    ],
    ids=["numpy", "compiled"],
)
on_threads = pytest.mark.parametrize("n", [1, 2, 3, 5], ids="{} threads".format)


@pytest.fixture(autouse=True)
def uninitialised_memory_is_not_a_number(request, monkeypatch):
    if "memory_as_it_is" not in request.fixturenames:
        poison(monkeypatch)
    with compiled_or_python():
        yield


@pytest.fixture(autouse=True)
def what_blas_says_of_the_numbers_beside_its_own():
    """It computes on a few more than it needs, and NumPy warns of what comes of those; results are looked at here."""
    with np.errstate(invalid="ignore", over="ignore"):
        yield


@pytest.fixture
def memory_as_it_is():
    """For a test that needs what buffers held before."""


def assert_same(found, wanted, what=""):
    """Equal to the last bit, and of one dtype; 0 and −0 are one number."""
    assert found.dtype == wanted.dtype, what
    np.testing.assert_array_equal(found, wanted, err_msg=str(what))


def normal(rng, *shape):
    return rng.standard_normal(shape)


# --- the reference is right -----------------------------------------------------------------------------------------


@drawn(60)
@given(problems(any_geometry(5), st.integers(1, 3)))
def test_reference_correlation_is_its_definition(problem):
    x, W, _ = problem.arrays()
    N, C, O, g = problem.N, problem.C, problem.O, problem.geometry
    y = np.zeros((N, *g.small, O))
    (sh, sw), (ph, pw), (dh, dw) = g.stride, g.padding, g.dilation
    for r, c, i, j in product(*map(range, (*g.small, *g.kernel))):
        row, column = r * sh + i * dh - ph, c * sw + j * dw - pw
        if 0 <= row < g.large[0] and 0 <= column < g.large[1]:
            for n, k, o in product(range(N), range(C), range(O)):
                y[n, r, c, o] += x[n, row, column, k] * W[i, j, k, o]
    np.testing.assert_array_equal(reference.correlate(x, W, g), y)


@drawn(100)
@given(problems(any_geometry()))
def test_im2col_and_col2im_are_adjoint(problem):
    g, rng = problem.geometry, np.random.default_rng(problem.seed)
    x, cols = integers(rng, problem.N, *g.large, 2), integers(rng, problem.N, *g.small, *g.kernel, 2)
    assert np.vdot(reference.im2col(x, g), cols) == np.vdot(x, reference.col2im(cols, g))


@pytest.mark.parametrize("ops", [reference, numpy_ops], ids=["reference", "numpy"])
@pytest.mark.parametrize("geometry", [any_geometry(), fours()], ids=["any", "kernel 4, stride 2"])
def test_the_adjoints_are_adjoint(ops, geometry):
    """⟨dy, correlate(x, W)⟩ = ⟨adjoint_x(dy, W), x⟩ = ⟨adjoint_W(x, dy), W⟩; exactly, for integers."""

    @drawn(40)
    @given(problems(geometry), st.booleans())
    def run(problem, exact):
        calls = problem.calls(integers if exact else normal)
        y, dx, dW = (getattr(ops, name)(*args) for name, args in calls.items())
        (x, W, _), (dy, _, _), _ = calls.values()
        bound = 0 if exact else 1e-12 * max(1, np.linalg.norm(dy) * np.linalg.norm(x) * np.linalg.norm(W))
        assert abs(np.vdot(dy, y) - np.vdot(dx, x)) <= bound
        assert abs(np.vdot(dy, y) - np.vdot(dW, W)) <= bound

    run()


# --- every form of a convolution, on every geometry that it fits ----------------------------------------------------

BYTES = st.sampled_from([1, 700, 5000, 1 << 30])
COLUMNS = {"columns__BLOCK_BYTES": BYTES, "columns__BLOCK_ROWS": few}
WINOGRAD = {  # in one block whose stages are shared out, or in several; dU in one sum or in several
    "winograd__TILES": st.sampled_from([1, 2, 3, 7, 20, 256]),
    "winograd__WEIGHTS": st.sampled_from([1, 256]),
    "winograd__SHARES": st.sampled_from([1, 3, 16]),
    "winograd__SUMS": st.sampled_from([1, 2, 4]),
}
wide = st.one_of(few, st.sampled_from([33, 40, 81]))  # longer than a vector register, and not a multiple of one


def tiled(largest=11):
    """What Winograd's form has tiles for."""
    return fours(largest).filter(winograd.fits)


FORMS = {  # the form, geometries, channels, the sizes of its blocks
    "columns": (columns, any_geometry(), few, COLUMNS),
    "columns, 4 by 2": (columns, fours(), few, COLUMNS),
    "winograd": (winograd, tiled(), few, WINOGRAD),
    "winograd, wide": (winograd, tiled(6), wide, WINOGRAD),
    "chosen": (numpy_ops, st.one_of(any_geometry(), fours()), few, {}),
}
if fast.numba() is not None:
    FORMS |= {
        "columns, compiled": (column_loops, any_geometry(), few, COLUMNS),
        "columns, compiled, wide": (column_loops, any_geometry(5), wide, COLUMNS),
        "winograd, compiled": (winograd_loops, tiled(), few, WINOGRAD),
        "winograd, compiled, wide": (winograd_loops, tiled(6), wide, WINOGRAD),
        "chosen, compiled": (compiled, st.one_of(any_geometry(), fours()), few, {}),
    }


def called(form, name, arguments):
    """What the form's map gives; loops are given arrays as `compiled` gives them, in C order."""
    if form in (column_loops, winograd_loops):
        arguments = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
    return getattr(form, name)(*arguments)


@on_threads
@pytest.mark.parametrize("form", FORMS)
def test_a_form_equals_the_reference_bit_for_bit(form, n, use_threads):
    use_threads(n)
    module, geometries, channels, blocks = FORMS[form]

    @drawn(60)
    @given(problems(geometries, channels), st.fixed_dictionaries(blocks), st.sampled_from([np.float32, np.float64]))
    def run(problem, blocks, dtype):
        calls = problem.calls(lambda rng, *shape: integers(rng, *shape, dtype=dtype))
        with constants(**blocks):
            for name, args in calls.items():
                assert_same(called(module, name, args), getattr(reference, name)(*args), name)

    run()


@pytest.mark.parametrize("form", FORMS)
def test_a_form_rounds_as_the_reference_does_in_double_precision(form, use_threads):
    use_threads(2)
    module, geometries, channels, blocks = FORMS[form]

    @drawn(25)
    @given(problems(geometries, channels), st.fixed_dictionaries(blocks))
    def run(problem, blocks):
        calls = problem.calls(normal)
        with constants(**blocks):
            for name, args in calls.items():
                found, wanted = (called(ops, name, args) for ops in (module, reference))
                assert found.dtype == np.float64
                assert np.linalg.norm(found - wanted) <= 1e-12 * max(1e-3, np.linalg.norm(wanted)), name

    run()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_takes_arrays_however_they_lie_in_memory(form, layout, use_threads):
    use_threads(2)
    module, _, _, _ = FORMS[form]
    g = Geometry((4, 4), (2, 2), (1, 2), (1, 1), (7, 6), (3, 4))
    for name, args in Problem(7, 5, 3, 2, g, (layout,) * 3).calls().items():
        assert_same(called(module, name, args), getattr(reference, name)(*args), name)


def test_the_geometries_drawn_have_the_corners_that_matter():
    """What the tests above say they cover, they do cover."""
    seen = set()

    @drawn(60)
    @given(fours())
    def look(g):
        (ph, pw), (H, W), (oh, ow) = g.padding, g.large, g.small
        seen.update(
            what
            for what, so in {
                "no padding": g.padding == (0, 0),
                "unequal padding": ph != pw,
                "padding 3": 3 in g.padding,
                "odd padding": pw % 2 == 1,
                "smaller than the kernel": H < 4 or W < 4,
                "one pixel": 1 in g.large,
                "not square": H != W,
                "a pixel that no window reads": 2 * (oh - 1) + 4 < H + ph or 2 * (ow - 1) + 4 < W + pw,
                "half a tile": oh % 2 == 1 or ow % 2 == 1,
                "one output": g.small == (1, 1),
            }.items()
            if so
        )

    look()
    assert len(seen) == 10, seen


@pytest.mark.parametrize(
    "g",
    [
        Geometry((4, 4), (2, 2), (0, 0), (1, 1), (7, 9), (2, 3)),
        Geometry((4, 4), (2, 2), (0, 1), (1, 1), (5, 6), (1, 3)),
        Geometry((4, 4), (2, 2), (0, 0), (1, 1), (5, 4), (1, 1)),
        Geometry((1, 2), (3, 3), (0, 0), (1, 1), (6, 7), (2, 2)),
        Geometry((2, 2), (1, 1), (0, 0), (3, 3), (4, 4), (1, 1)),
    ],
    ids=str,
)
def test_a_pixel_that_no_window_reads_has_gradient_0(g):
    problem = Problem(3, 2, 3, 2, g, ("C",) * 3)
    dy, W, _ = problem.calls()["correlate_adjoint_x"]
    dy, W = np.ones_like(dy), np.ones_like(W)
    read = reference.col2im(np.ones((2, *g.small, *g.kernel, 3), np.float32), g) > 0
    assert not read.all()
    for form in (columns, numpy_ops, compiled, *((winograd,) if winograd.fits(g) else ())):
        np.testing.assert_array_equal(form.correlate_adjoint_x(dy, W, g) != 0, read)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(
    "form", [winograd, columns, numpy_ops, compiled], ids=["winograd", "columns", "plain", "compiled"]
)
def test_single_precision_rounds_little(form, name, use_threads):
    """Against the reference in float64, relative to the norm; Winograd's sums of inputs cost less than a bit."""
    use_threads(2)
    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (16, 16), (8, 8))
    calls = Problem(5, 70, 64, 128, g, ("C",) * 3).calls(normal)
    args = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in calls[name]]
    exact = getattr(reference, name)(*(a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args))
    error = np.linalg.norm(getattr(form, name)(*args) - exact) / np.linalg.norm(exact)
    assert error <= 3e-6


# --- which form is taken --------------------------------------------------------------------------------------------

CHOICES = {  # shape: the form of each map; (N, C, O, kernel, stride, padding, large)
    "an image under one window": ((3, 5, 7, 4, 2, 0, (4, 4)), ("dense", "dense", "dense")),
    "a row under one window": ((2, 3, 4, (1, 5), 1, 0, (1, 5)), ("dense", "dense", "dense")),
    "one window, but padded": ((2, 3, 4, 3, 1, 1, (3, 3)), ("columns", "columns", "columns")),
    "kernel 3": ((2, 64, 128, 3, 1, 1, (8, 8)), ("columns", "columns", "columns")),
    "kernel 4, stride 1": ((2, 3, 4, 4, 1, 1, (8, 8)), ("columns", "columns", "columns")),
    "grey images": ((2, 1, 8, 4, 2, 1, (8, 8)), ("columns", "columns", "columns")),
    "few channels": ((2, 3, 8, 4, 2, 1, (8, 8)), ("columns", "columns", "columns")),
    "many channels": ((16, 128, 64, 4, 2, 1, (32, 32)), ("winograd", "winograd", "winograd")),
    "some channels": ((16, 64, 128, 4, 2, 1, (32, 32)), ("columns", "winograd", "columns")),
    "many channels, few tiles": ((2, 64, 128, 4, 2, 1, (8, 8)), ("columns", "columns", "columns")),
    "many channels, tiles of 3 and 2": (
        (90, 128, 64, 4, 2, 1, (14, 14)),
        ("winograd", "winograd", "winograd"),
    ),
    "many channels, one output a column": ((600, 64, 128, 4, 2, 1, (2, 14)), ("columns", "columns", "columns")),
    "heavy weights, kernel 3": ((1, 256, 256, 3, 1, 1, (4, 4)), ("columns", "columns", "columns")),
    "heavy weights, few tiles": ((2, 256, 256, 4, 2, 1, (4, 4)), ("columns", "columns", "columns")),
    "heavy weights, some tiles": ((16, 256, 256, 4, 2, 1, (16, 16)), ("winograd", "winograd", "winograd")),
}


@pytest.mark.parametrize("shape", CHOICES)
def test_the_form_that_a_shape_takes(shape, monkeypatch, use_threads):
    """One call of one form, and that gives what the reference gives."""
    use_threads(2)
    (N, C, O, kernel, stride, padding, large), forms = CHOICES[shape]
    taken = []
    for form, names in {columns: MAPS, winograd: MAPS, dense: ["matmul"]}.items():
        for name in names:
            monkeypatch.setattr(form, name, _counted(getattr(form, name), form.__name__.rpartition(".")[2], taken))
    kernel, stride, padding = (n if isinstance(n, tuple) else (n, n) for n in (kernel, stride, padding))
    small = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(large, padding, kernel, stride, strict=True))
    g = Geometry(kernel, stride, padding, (1, 1), large, small)
    calls = Problem(11, N, C, O, g, ("C",) * 3).calls(lambda rng, *shape: integers(rng, *shape, most=2))
    for name, form in zip(MAPS, forms, strict=True):
        taken.clear()
        assert_same(getattr(convolution, name)(*calls[name]), getattr(reference, name)(*calls[name]), name)
        assert taken == [form], name


def _counted(f, form, taken):
    def call(*args):
        taken.append(form)
        return f(*args)

    return call


@drawn(100)
@given(
    problems(
        st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda n: Geometry(n, (1, 1), (0, 0), (1, 1), n, (1, 1)))
    )
)
def test_one_window_that_covers_the_image(problem):
    for name, args in problem.calls().items():
        assert_same(getattr(numpy_ops, name)(*args), getattr(reference, name)(*args), name)


# --- memory ---------------------------------------------------------------------------------------------------------


def _some_calls(seed):
    """A call of every map by every form, and of the others that have memory of their own."""
    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (9, 10), (4, 5))
    calls = Problem(seed, 3, 4, 40, g, ("C",) * 3).calls()
    rng = np.random.default_rng(seed)
    x, values = integers(rng, 60, 3), [integers(rng, n) for n in (1, 7, 30)]
    yield from ((getattr(form, name), calls[name]) for form in (columns, winograd, numpy_ops) for name in MAPS)
    for ops in (numpy_ops, compiled):
        yield ops.matmul, (x, x.T)
        yield ops.elementwise, (DOUBLE, x)
        yield ops.channel_sum, (x,)
        yield lambda x, ops=ops: np.stack([a.sum() for a in ops.sum_with_map(TERMS, x, x)]), (x,)
        yield lambda x, ops=ops: np.stack(ops.mean_and_variance(x)), (x,)
        yield partial(_adam_at_once, ops), (*values, *(abs(v) for v in values))


DOUBLE = formula(lambda a: 2 * a)
TERMS = formula(lambda x, y: (x, x * y, y))


def _adam_at_once(ops, *arrays):
    values, vs = arrays[:3], arrays[3:]
    return np.concatenate(_adam(ops, values, values, [v.copy() for v in values], [v.copy() for v in vs]))


SMALL = {
    "rows__FEW": 0,
    "rows__BLOCK": 20,
    "rows__WIDE": 6,
    "adam__BLOCK": 8,
    "adam__SHARED_BLOCK": 8,
    "compiled_rows__FEW": 0,
    "compiled_rows__PIECE": 20,
    "compiled_rows__LEAST": 20,
    "compiled_rows__WIDE": 6,
    "compiled_adam__PIECE": 8,
    "winograd__TILES": 2,
}


@on_threads
def test_kernels_do_not_hand_out_their_workspace(n, use_threads, memory_as_it_is):
    use_threads(n)
    with constants(**SMALL, columns__BLOCK_BYTES=700):
        first = [f(*a) for f, a in _some_calls(0)]
        kept = [a.copy() for a in first]
        for seed in (1, 2):
            for f, a in _some_calls(seed):
                f(*a)
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_buffer_held_before_does_not_show(use_threads, memory_as_it_is):
    """Buffers are one for each role: larger and smaller images, other paddings and other channels in turn."""
    use_threads(2)
    sizes = [(9, 9), (4, 5), (12, 7), (5, 4), (2, 9), (9, 9)]
    with constants(winograd__TILES=3, columns__BLOCK_BYTES=900):
        for i, (large, padding, C) in enumerate(product(sizes, [(1, 1), (3, 1), (2, 3)], [1, 3])):
            small = tuple((n + 2 * p - 4) // 2 + 1 for n, p in zip(large, padding, strict=True))
            calls = Problem(i, 5, C, 2, Geometry((4, 4), (2, 2), padding, (1, 1), large, small), ("C",) * 3).calls()
            for form in (columns, compiled, *((winograd,) if min(small) > 1 else ())):
                for name, args in calls.items():
                    assert_same(getattr(form, name)(*args), getattr(reference, name)(*args), name)


@pytest.mark.parametrize("n", [1, 3])
def test_kernels_run_side_by_side_in_threads(n, use_threads, memory_as_it_is):
    """The user's own threads, each of which may have the library's work for it."""
    use_threads(n)
    wrong = []
    with constants(**SMALL, columns__BLOCK_BYTES=700):
        right = [[f(*a) for f, a in _some_calls(seed)] for seed in range(4)]

        def work(seed):
            for _ in range(6):
                for i, (f, a) in enumerate(_some_calls(seed)):
                    if not np.array_equal(f(*a), right[seed][i]):
                        wrong.append((seed, i))

        users = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for t in users:
            t.start()
        for t in users:
            t.join()
    assert not wrong


@pytest.mark.parametrize("n", [1, 2])
def test_no_column_matrix_of_the_whole_batch_is_ever_held(n, monkeypatch, use_threads):
    """The largest temporary is a block, whatever the batch."""
    use_threads(n)
    asked = {}

    def watch(module):
        workspace = module.workspace

        def note(role, shape, dtype):
            asked[role] = max(asked.get(role, 0), int(np.prod(shape)) * np.dtype(dtype).itemsize)
            return workspace(role, shape, dtype)

        monkeypatch.setattr(module, "workspace", note)

    for module in (columns, winograd):
        watch(module)
    g = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (32, 32), (16, 16))
    calls = Problem(0, 64, 16, 8, g, ("C",) * 3).calls()
    whole = 64 * 16 * 16 * 16 * 16 * 4  # bytes of im2col(x)
    for form in (columns, winograd):
        for name in MAPS:
            getattr(form, name)(*calls[name])
    assert asked["columns"] <= columns.BLOCK_BYTES < whole / 10
    assert asked["padded"] <= 4 * columns.BLOCK_BYTES
    assert max(asked.values()) < whole / 3
    assert {"columns", "winograd V", "winograd M", "winograd lines"} <= asked.keys()


def test_no_padded_copy_of_the_whole_batch_is_ever_held(monkeypatch, use_threads):
    """Large images of which few pixels are read: the columns are small then, the images are not."""
    use_threads(1)
    asked = []
    workspace = columns.workspace

    def note(role, shape, dtype):
        asked.append(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return workspace(role, shape, dtype)

    monkeypatch.setattr(columns, "workspace", note)
    g = Geometry((1, 1), (16, 16), (0, 0), (1, 1), (64, 64), (4, 4))
    calls = Problem(0, 60, 16, 2, g, ("C",) * 3).calls()
    for name in MAPS:
        assert_same(getattr(columns, name)(*calls[name]), getattr(reference, name)(*calls[name]), name)
    assert max(asked) <= 4 * columns.BLOCK_BYTES < 60 * 64 * 64 * 16 * 4 / 3


@pytest.mark.parametrize("keep", [True, False])
def test_patches_are_kept_for_one_pair_of_calls(keep, monkeypatch):
    """From a forward to the first backward of it, whichever of the two calls comes first; a second one keeps none."""
    made = []

    def patches(x, geometry):
        copy = x.copy()  # where the kernels would be given patches
        made.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(load_kernels("numpy"), "patches", patches)
    g, rng = Geometry((2, 2), (1, 1), (0, 0), (1, 1), (4, 4), (3, 3)), np.random.default_rng(0)
    x, W, dy = (rng.standard_normal(shape) for shape in ((2, 4, 4, 3), (2, 2, 3, 5), (2, 3, 3, 5)))

    def held():
        return [patch() is not None for patch in made]

    for first, second in ((0, 1), (1, 0)):
        made.clear()
        A = Correlation(W, g, keep_patches=keep)
        calls = (lambda A=A: A(x), lambda A=A: A.adjoint_in_W(x, dy))
        calls[first]()
        assert held() == [keep]
        calls[second]()
        assert held() == [False] * (1 if keep else 2)
        calls[1]()
        assert held() == [False] * (2 if keep else 3)


def test_kernels_keep_nothing_of_what_they_were_given(use_threads):
    """Nor does a thread that waits for work: the arrays of the last step would stay until the next."""
    use_threads(3)
    gc.disable()
    try:
        for i, (f, args) in enumerate(_some_calls(0)):
            args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
            held = [weakref.ref(a) for a in (*args, f(*args)) if isinstance(a, np.ndarray)]
            del args, f
            until = monotonic() + 5  # a worker lets go a moment after its share has ended
            while any(a() is not None for a in held) and monotonic() < until:
                sleep(0.001)
            assert not [a() for a in held if a() is not None], i
    finally:
        gc.enable()


# --- matrix products ------------------------------------------------------------------------------------------------


@on_threads
@pytest.mark.parametrize("blas_threads", [False, True], ids=["our threads", "BLAS's threads"])
def test_matmul(n, blas_threads, use_threads, monkeypatch):
    use_threads(n)
    monkeypatch.setattr(dense, "BLAS_THREADS", blas_threads)

    @drawn(60)
    @given(seeds, *[st.integers(1, 17)] * 3, layouts, layouts, st.sampled_from([np.float32, np.float64]))
    def run(seed, M, K, N, one, other, dtype):
        rng = np.random.default_rng(seed)
        a, b = laid(one, integers(rng, M, K, dtype=dtype)), laid(other, integers(rng, K, N, dtype=dtype))
        assert_same(numpy_ops.matmul(a, b), a @ b)
        assert_same(numpy_ops.matmul(b.T, a.T), (a @ b).T)

    run()


def test_only_threads_that_rest_are_used_beside_the_librarys():
    """OpenBLAS's own, which heed the timeout, where they give the bits of one; not OpenMP's, nor others'."""
    kinds = {
        ("openblas", "pthreads", "SkylakeX"): True,
        ("openblas", "pthreads", "Haswell"): False,
        ("openblas", "openmp", "SkylakeX"): False,
        ("openblas", "disabled", "SkylakeX"): False,
        ("mkl", "intel", "SkylakeX"): False,
        ("blis", "pthreads", "SkylakeX"): False,
    }
    for (library, layer, architecture), even in kinds.items():
        of = {"internal_api": library, "threading_layer": layer, "architecture": architecture}
        assert dense._is_even(of) == even
    assert not dense._is_even({"internal_api": "openblas"})


def test_gradient_norms_hold_blas_to_one_thread(monkeypatch):
    held, enter = [], type(threads.one_blas_thread).__enter__
    monkeypatch.setattr(type(threads.one_blas_thread), "__enter__", lambda self: held.append(self) or enter(self))
    x = np.arange(7, dtype=np.float32)
    np.testing.assert_array_equal(numpy_ops.square_sums([x, x[:3]]), [91, 5])
    assert held


@OPS
@pytest.mark.parametrize("value", [7190848.8, 148289.6, 0.1])
def test_the_variance_of_what_is_constant_is_never_below_0(ops, value):
    """Rounding takes it there; the root of it would be NaN."""
    for shape in ((8493, 7), (500, 7), (70_000, 3)) if NUMBA or ops is numpy_ops else ((500, 7),):
        _, var = ops.mean_and_variance(np.full(shape, value, np.float32))
        assert (var >= 0).all()


def test_products_leave_the_cores_that_others_have(monkeypatch):
    """Where products often take far longer than the best, the next ones are one thread's, for a while."""
    crowd = dense.Crowd()
    work, usual, slow = int(2 * dense.LARGE), 1e-3, 6e-3

    def seen(*products):
        for seconds in products:
            crowd.saw(work, seconds)
            crowd.saw(int(dense.LARGE / 2), 1.0)  # a small one says nothing
        return crowd.expected()

    assert not seen(usual, slow, slow, slow, *[usual] * 20)  # nor do those that wake threads
    assert not seen(usual, slow, slow, slow)
    assert seen(slow)
    assert [crowd.expected() for _ in range(dense.ALONE)] == [True] * (dense.ALONE - 2) + [False] * 2
    assert seen(*[slow, usual, usual] * 4)  # one in three
    assert crowd.alone == 2 * dense.ALONE - 1
    crowd.alone = 0
    assert not seen(*[usual] * 20)
    assert seen(*[slow] * 4)
    assert crowd.alone == dense.ALONE - 1

    held, enter = [], type(threads.one_blas_thread).__enter__
    monkeypatch.setattr(type(threads.one_blas_thread), "__enter__", lambda self: held.append(self) or enter(self))
    monkeypatch.setattr(dense, "BLAS_THREADS", True)
    monkeypatch.setattr(dense, "crowd", crowd)
    a, b = (np.random.default_rng(i).standard_normal((300, 300), np.float32) for i in range(2))
    crowd.alone = 0
    product = numpy_ops.matmul(a, b)
    assert not held
    crowd.alone = 2
    np.testing.assert_array_equal(numpy_ops.matmul(a, b), product)
    assert held


def test_matmul_on_ones_of_every_shape(use_threads):
    """Each part of the rows or columns is written: 1 to 40 of them on 3 threads, tall and wide."""
    use_threads(3)
    for n in range(1, 41):
        for M, N in ((n, 2), (2, n)):
            assert_same(numpy_ops.matmul(np.ones((M, 3)), np.ones((3, N))), np.full((M, N), 3.0))


# --- rows -----------------------------------------------------------------------------------------------------------

ROWS = st.fixed_dictionaries(
    {
        "rows__FEW": st.sampled_from([0, 0, 0, 30, 1 << 12]),
        "rows__BLOCK": st.sampled_from([1, 5, 24, 100, 1 << 17]),
        "rows__WIDE": st.sampled_from([1, 4, 30, 4096]),
        "rows__LONG": st.sampled_from([1, 4, 64]),
        "compiled_rows__FEW": st.sampled_from([0, 0, 0, 30, 1 << 12]),
        "compiled_rows__PIECE": st.sampled_from([1, 5, 24, 100, 1 << 17]),
        "compiled_rows__LEAST": st.sampled_from([1, 5, 24, 100, 1 << 17]),
        "compiled_rows__PIECES": st.sampled_from([1, 3, 1000]),
        "compiled_rows__NARROW": st.sampled_from([1, 7, 512]),
        "compiled_rows__WIDE": st.sampled_from([1, 4, 30, 4096]),
    }
)
FORMULAS = {  # by their arguments: x, y of rows; a, b one value a channel
    "x": (lambda x: -x,),
    "xy": (lambda x, y: x * y - x,),
    "xab": (lambda x, a, b: x * a + b,),
    "xayb": (lambda x, a, y, b: (x - a) * y + b,),
}
SEVERAL = {
    "x": (lambda x: (x,), lambda x: (x * x, x)),
    "xy": (lambda x, y: (x, x * y),),
    "xyab": (lambda x, y, a, b: (x, x * ((y - a) * b), y),),
    "xayb": (lambda x, a, y, b: (x + a, y + b),),
}
FORMULAS, SEVERAL = (
    [(formula(f), arguments) for arguments, fs in some.items() for f in fs] for some in (FORMULAS, SEVERAL)
)
shapes = st.one_of(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.tuples(st.sampled_from([8, 48, 64, 96, 97]), st.integers(1, 5)),  # rows that fit side by side, by 2, 4, 8 …
)


@OPS
@on_threads
def test_a_formula_row_by_row(n, ops, use_threads):
    use_threads(n)

    @drawn(150)
    @given(seeds, shapes, layouts, layouts, ROWS, st.sampled_from([np.float32, np.float64]))
    def run(seed, shape, one, other, blocks, dtype):
        rng = np.random.default_rng(seed)
        x, y = laid(one, integers(rng, *shape, dtype=dtype)), laid(other, integers(rng, *shape, dtype=dtype))
        scale, shift = integers(rng, 2, shape[-1], dtype=dtype)
        named = {"x": x, "y": y, "a": scale, "b": laid(other, shift)}
        with constants(**blocks):
            for f, names in FORMULAS:
                args = [named[name] for name in names]
                assert_same(ops.elementwise(f, *args), reference.elementwise(f, *args), names)

    run()


@OPS
@on_threads
def test_sums_over_rows(n, ops, use_threads):
    use_threads(n)

    @drawn(150)
    @given(seeds, shapes, layouts, layouts, ROWS, st.sampled_from([np.float32, np.float64]))
    def run(seed, shape, one, other, blocks, dtype):
        rng = np.random.default_rng(seed)
        x, y = laid(one, integers(rng, *shape, dtype=dtype)), laid(other, integers(rng, *shape, dtype=dtype))
        scale, shift = integers(rng, 2, shape[-1], dtype=dtype)
        named = {"x": x, "y": y, "a": scale, "b": laid(other, shift)}
        with constants(**blocks):
            assert_same(ops.channel_sum(x), reference.channel_sum(x))
            for f, names in SEVERAL:
                args = [named[name] for name in names]
                for sums in ("channel_sums", "sum_with_map"):
                    found, wanted = (getattr(module, sums)(f, *args) for module in (ops, reference))
                    assert type(found) is tuple
                    assert len(found) == len(wanted)
                    for a, b in zip(found, wanted, strict=True):
                        assert_same(a, b, (sums, names))
                        assert sums == "channel_sums" or not any(np.shares_memory(a, arg) for arg in args)

    run()


SUMS = {
    "channel_sum": lambda ops, x: ops.channel_sum(x),
    "channel_sums": lambda ops, x: np.stack(ops.channel_sums(SQUARES, x)),
    "sum_with_map": lambda ops, x: np.append(*ops.sum_with_map(SQUARES, x)),
    "mean_and_variance": lambda ops, x: np.stack(ops.mean_and_variance(x)),
}
SQUARES = formula(lambda x: (x, x * x))


@LARGE
@pytest.mark.parametrize("sums", SUMS.values(), ids=SUMS)
@pytest.mark.parametrize("shape", [(40_001, 7), (3000, 130), (9, 70_001), (300_007,), (1 << 18, 2)], ids=str)
def test_sums_are_the_same_bits_on_any_number_of_threads(sums, shape, ops, use_threads):
    """The blocks depend on the sizes alone."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = []
    for n in (1, 2, 3, 5):
        use_threads(n)
        found.append(sums(ops, x))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@LARGE
def test_the_sums_of_other_blocks_would_round_otherwise(ops):
    """So that the test before this one can fail."""
    x = np.random.default_rng(0).standard_normal((40_001, 7)).astype(np.float32)
    for sums in SUMS.values():
        with constants(
            rows__BLOCK=30_000, compiled_rows__WIDE=70, compiled_rows__PIECE=30_000, compiled_rows__LEAST=30_000
        ):
            other = sums(ops, x)
        assert (other != sums(ops, x)).any()


@OPS
@on_threads
def test_mean_and_variance(n, ops, use_threads):
    use_threads(n)

    @drawn(150)
    @given(seeds, shapes, layouts, ROWS, st.sampled_from([1e-6, 1e-13]))
    def run(seed, shape, layout, blocks, tolerance):
        dtype = np.float32 if tolerance > 1e-10 else np.float64
        rng = np.random.default_rng(seed)
        x = laid(layout, (rng.standard_normal(shape) * 3 + rng.standard_normal(shape[-1])).astype(dtype))
        with constants(**blocks):
            mu, var = ops.mean_and_variance(x)
        assert mu.dtype == var.dtype == dtype
        exact_mu, exact_var = reference.mean_and_variance(x.astype(np.float64))
        scale = np.abs(x).max()
        np.testing.assert_allclose(mu, exact_mu, rtol=0, atol=4 * tolerance * scale)
        np.testing.assert_allclose(var, exact_var, rtol=0, atol=8 * tolerance * scale**2)

    run()


BIG = [(131_073, 1), (40_000, 1), (33_001, 5), (64, 32, 32, 16), (7, 150_000)]


@LARGE
@pytest.mark.parametrize("shape", BIG, ids=str)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("centre", [1e4, 1e5])
def test_mean_and_variance_far_from_zero(shape, n, centre, ops, use_threads):
    """10⁴ ± 1: the mean of the squares less the square of the mean would be off by more than the variance.

    The mean is right to a step of float32.
    """
    use_threads(n)
    rng = np.random.default_rng(0)
    x = (centre + rng.standard_normal(shape, np.float32)).astype(np.float32)
    mu, var = ops.mean_and_variance(x)
    exact = x.reshape(-1, shape[-1]).astype(np.float64)
    step = np.spacing(np.float32(centre))
    np.testing.assert_allclose(mu, exact.mean(axis=0), rtol=0, atol=1.5 * step)
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-7 * centre)


@pytest.mark.parametrize("shape", [(1000, 5), (300_000, 2)], ids=str)
def test_sums_hold_blas_to_one_thread(shape, use_threads, monkeypatch):
    use_threads(1)
    x, entered, kind = np.ones(shape, np.float32), [], type(threads.one_blas_thread)
    enter = kind.__enter__
    monkeypatch.setattr(kind, "__enter__", lambda self: entered.append(self) or enter(self))
    for sums in (numpy_ops.channel_sum, partial(numpy_ops.channel_sums, SQUARES), numpy_ops.mean_and_variance):
        entered.clear()
        sums(x)
        assert entered


@LARGE
@pytest.mark.parametrize(
    "shape",
    [(4096, 1), (64, 64), (2, 2048), (819, 5), (20_000, 5), (130_000, 1), (1000, 128), (300_000, 2)],
    ids=str,
)
def test_sums_do_not_depend_on_the_threads_of_blas(shape, ops, use_threads):
    """Which another thread of the user's may have changed, or be using."""
    use_threads(1)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = []
    for blas_threads in (1, 2, 3):
        threadpool_limits(blas_threads)
        found.append(np.stack([ops.channel_sum(x), *ops.channel_sums(SQUARES, x), *ops.mean_and_variance(x)]))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@LARGE
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("shape", [(500_001, 3), (2**19, 2), (120_000, 1), (5, 60_000)], ids=str)
def test_sums_over_many_rows_round_well(shape, n, ops, use_threads):
    """Half a million float32 rows: added one by one they are off by far more."""
    use_threads(n)
    a = np.random.default_rng(0).random(shape, np.float32)
    exact = a.astype(np.float64)
    np.testing.assert_allclose(ops.channel_sum(a), exact.sum(axis=0), rtol=4e-6)
    _, squares = ops.channel_sums(SQUARES, a)
    np.testing.assert_allclose(squares, (exact * exact).sum(axis=0), rtol=4e-6)


def test_work_on_rows_is_done_in_blocks(monkeypatch, use_threads):
    """What a formula makes in between is never as large as the array."""
    use_threads(1)
    seen = []
    x = np.ones((1 << 15, 32), np.float32)
    plain = numpy_formula.workspace

    def workspace(role, shape, dtype):
        seen.append(np.prod(shape))
        return plain(role, shape, dtype)

    monkeypatch.setattr(numpy_formula, "workspace", workspace)
    numpy_ops.elementwise(formula(lambda x: (x + 1) * (x - 1)), x)
    numpy_ops.channel_sums(formula(lambda x: (x + 1,)), x)
    assert max(seen) <= x.size / 4
    assert sum(seen) == 3 * x.size  # two values in between, and one


# --- Adam -----------------------------------------------------------------------------------------------------------

SIZES = [(7, 3), (1,), (4, 4, 2, 3), (65,), (2, 1)]


def _moving(rng, dtype):
    """values, grads, ms, vs."""
    values, grads, ms = ([rng.standard_normal(s).astype(dtype) for s in SIZES] for _ in range(3))
    return values, grads, ms, [rng.random(s).astype(dtype) for s in SIZES]


def _adam(ops, values, grads, ms, vs, t=3):
    return ops.adam(values, grads, ms, vs, 1e-2, 0.8, 0.99, 1e-6, t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 5, 1 << 16])
@OPS
@on_threads
def test_adam(n, block, dtype, ops, use_threads):
    """Like the reference up to rounding, and the same bit for bit in blocks of any size on any number of threads."""
    values, grads, ms, vs = _moving(np.random.default_rng(0), dtype)
    found = {}
    for case, module, threads_used, size in (
        ("reference", reference, 1, 1),
        ("one block", ops, 1, 1 << 20),
        ("blocks", ops, n, block),
    ):
        use_threads(threads_used)
        moments = [m.copy() for m in ms], [v.copy() for v in vs]
        with constants(adam__BLOCK=size, adam__SHARED_BLOCK=size, compiled_adam__PIECE=size):
            news = [_adam(module, values, grads, *moments, t) for t in (1, 2, 7)]
        assert all(a.dtype == dtype for new in news for a in new)
        assert [a.shape for a in news[0]] == SIZES
        found[case] = [a for arrays in (*news, *moments) for a in arrays]
    rtol = 2e-6 if dtype == np.float32 else 1e-14
    for a, b, c in zip(*found.values(), strict=True):
        np.testing.assert_allclose(c, a, rtol=rtol, atol=rtol)
        np.testing.assert_array_equal(c, b)


@OPS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_adam_takes_arrays_however_they_lie_in_memory(layout, ops, use_threads):
    """And writes into the moments alone: values and gradients are read-only here."""
    use_threads(2)
    values, grads, ms, vs = _moving(np.random.default_rng(1), np.float64)
    values, grads = ([laid(layout, a) for a in arrays] for arrays in (values, grads))
    results = []
    for module in (ops, reference):
        moments = [m.copy() for m in ms], [v.copy() for v in vs]
        with constants(adam__BLOCK=5, adam__SHARED_BLOCK=5, compiled_adam__PIECE=5):
            results.append([*_adam(module, values, grads, *moments), *moments[0], *moments[1]])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


@OPS
def test_adam_of_parameters_in_two_dtypes(ops, use_threads):
    """Each is what it is without the other."""
    use_threads(2)
    both = [_moving(np.random.default_rng(2), dtype) for dtype in (np.float32, np.float64)]
    together = [a + b for a, b in zip(*both, strict=True)]
    copies = [[a.copy() for a in arrays] for arrays in together]
    alone = [new for arrays in both for new in _adam(ops, *arrays)]
    for a, b in zip(_adam(ops, *copies), alone, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@OPS
def test_adam_gives_new_values(ops, use_threads):
    """In memory of their own: a pullback may hold the old ones."""
    use_threads(2)
    values, grads, ms, vs = _moving(np.random.default_rng(2), np.float64)
    before = [a.copy() for a in (*values, *grads)]
    news = _adam(ops, values, grads, ms, vs)
    for a, b in zip((*values, *grads), before, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not any(np.shares_memory(a, other) for other in (*news, *ms, *vs))


@OPS
def test_adam_after_a_gradient_that_overflows(ops):
    """Its square is infinite: the next steps are small, not NaN."""
    m, v, w = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    with np.errstate(over="ignore"):
        for t, g in enumerate((1, 1e30, 1, 1), 1):
            (w,) = ops.adam([w], [np.full(3, g, np.float32)], [m], [v], 0.1, 0.5, 0.999, 1e-8, t)
    assert np.isinf(v).all()
    assert np.isfinite(w).all()


@OPS
def test_mean_and_variance_of_integers_are_those_of_floats(ops):
    x = np.arange(35).reshape(7, 5)
    for of_all, of_one in zip(ops.mean_and_variance(x), reference.mean_and_variance(x), strict=True):
        np.testing.assert_allclose(of_all, of_one)
    np.testing.assert_allclose(ops.mean_and_variance(x > 9)[0], (x > 9).mean(axis=0))


@pytest.mark.parametrize("C", [3, 64, 256])
def test_a_convolution_of_no_images(C):
    """Of any form: there is nothing, and the gradient of W is 0."""
    g, W = Geometry((4, 4), (2, 2), (1, 1), (1, 1), (4, 4), (2, 2)), np.ones((4, 4, C, C), np.float32)
    x, dy = np.zeros((0, 4, 4, C), np.float32), np.zeros((0, 2, 2, C), np.float32)
    assert numpy_ops.correlate(x, W, g).shape == dy.shape
    assert numpy_ops.correlate_adjoint_x(dy, W, g).shape == x.shape
    assert not numpy_ops.correlate_adjoint_W(x, dy, g).any()
