"""The CUDA kernels, without a GPU: run on the CPU against their references, and compiled for real GPUs by NVRTC.

On integers sums do not round, so results are compared bit for bit; what is only added, multiplied, divided and rooted
is equal bit for bit on any numbers of 1e-38 and more, as the kernels fuse no multiply-adds. The same file runs under
address and undefined-behaviour sanitizers, threads and blocks in both orders, and with faults planted in the sources.

What this cannot catch: how a GPU's exp, log and tanh round; races between blocks, or between threads of a warp that a
round-robin of whole threads does not show; the memory model; launches that a GPU refuses for lack of registers or
shared memory at run time; cuBLAS; and speed. `pytest -m gpu` is for these.
"""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from drawn import any_geometry, drawn, fours, integers, problems
from hypothesis import given
from hypothesis import strategies as st
from kernel_sources import FLOATS, NVRTC, changed_source, kernels_on_the_standin, recorded_texts

from scratchgen.backend import formula, reference

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to run CUDA sources on the CPU")
# drawn for each kernel; fewer in the runs beside it, by sanitizers and in the other order
SHAPES = 40 if "SCRATCHGEN_SHIM_FLAGS" in os.environ else 120


@pytest.fixture(scope="module")
def ops():
    with kernels_on_the_standin() as ops:
        yield ops


def equal(found, expected):
    """The same numbers, dtype and shape; NaN like NaN."""
    found = found.get()
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


def close(found, expected, rounds=1.0):
    """Equal up to so many roundings of the largest number."""
    found = found.get()
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    atol = rounds * np.finfo(expected.dtype).eps * max(1e-30, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


# --- what is drawn ---

sizes = st.one_of(st.integers(1, 40), st.integers(250, 300), st.integers(1, 3000))
channels = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 31, 32, 33, 64, 100]))
shapes = st.one_of(
    st.tuples(sizes, channels), st.tuples(st.integers(1, 4), *[st.integers(1, 9)] * 2, channels), st.tuples(sizes)
)
cases = st.tuples(shapes, st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))


def normal(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


@contextmanager
def rows_per_thread(n: int):
    """So many, before more blocks share the work: a small input is then treated as a large one would be."""
    from scratchgen.backend.cupy_ops import rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "ROWS", n)
        if n >= 1000:
            patch.setattr(rows, "BLOCKS", 1)
        yield


few_or_many = st.sampled_from([1, 5, 16, 1000])


# --- formulas row by row ---


@formula
def _channelwise(x, mu, scale):
    return (x - mu) * scale + 0.25 * x


@drawn(SHAPES)
@given(cases)
def test_drawn_elementwise(ops, case):
    """Rounded as NumPy rounds, each operation by itself."""
    shape, dtype, seed = case
    rng = np.random.default_rng(seed)
    x, mu, scale = normal(rng, *shape, dtype=dtype), *normal(rng, 2, shape[-1], dtype=dtype)
    for rows in (1, 1000):
        with rows_per_thread(rows):
            found = ops.elementwise(_channelwise, *map(ops.from_numpy, (x, mu, scale)))
        equal(found, _channelwise.function(x, mu, scale))


@drawn(SHAPES)
@given(cases, few_or_many)
def test_drawn_channel_sums(ops, case, rows):
    shape, dtype, seed = case
    rng = np.random.default_rng(seed)
    x, y, mu = integers(rng, *shape), integers(rng, *shape), integers(rng, shape[-1])
    x, y, mu = (a.astype(dtype) for a in (x, y, mu))

    @formula
    def terms(x, y, mu):
        return x, (x - mu) * y, y + mu

    with rows_per_thread(rows):
        found = ops.channel_sums(terms, *map(ops.from_numpy, (x, y, mu)))
        equal(ops.channel_sum(ops.from_numpy(y)), reference.channel_sum(y))
    for a, b in zip(found, reference.channel_sums(terms, x, y, mu), strict=True):
        equal(a, b)


@drawn(SHAPES)
@given(cases, few_or_many)
def test_drawn_sum_with_map(ops, case, rows):
    shape, dtype, seed = case
    rng = np.random.default_rng(seed)
    x, y = integers(rng, *shape).astype(dtype), integers(rng, *shape).astype(dtype)
    one = np.array(3, dtype)

    @formula
    def terms(x, y, one):
        return x * y - one, x + one, y - x

    with rows_per_thread(rows):
        found = ops.sum_with_map(terms, *map(ops.from_numpy, (x, y, one)), over=7)
    for a, b in zip(found, reference.sum_with_map(terms, x, y, one, over=7), strict=True):
        equal(a, np.asarray(b))
    equal(ops.sum_with_map(formula(lambda x: (x,)), ops.from_numpy(x))[0], np.asarray(x.sum()))


@drawn(SHAPES)
@given(cases, few_or_many, st.sampled_from([0, 3, 1e4]))
def test_drawn_mean_and_variance(ops, case, rows, centre):
    """Far from zero, too: the mean of the squares less the squared mean would be off by more than the variance."""
    shape, dtype, seed = case
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) + centre).astype(dtype)
    exact = x.astype(np.float64).reshape(-1, shape[-1])
    with rows_per_thread(rows):
        mean, var = ops.mean_and_variance(ops.from_numpy(x))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(mean.get(), exact.mean(axis=0), rtol=20 * eps, atol=20 * eps)
    np.testing.assert_allclose(var.get(), exact.var(axis=0), rtol=100 * eps * max(1, centre), atol=eps)


def test_mean_and_variance_of_one_outlier(ops):
    """The first number far away from all the others, which a pivot for all would be."""
    x = np.random.default_rng(0).standard_normal((20_000, 3)).astype(np.float32)
    x[0] = 1e4
    exact = x.astype(np.float64)
    mean, var = ops.mean_and_variance(ops.from_numpy(x))
    np.testing.assert_allclose(mean.get(), exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(var.get(), exact.var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(70_000, 1), (9_000, 3), (33_000, 64), (5, 3, 700, 129)], ids=str)
def test_many_rows_in_many_blocks(ops, shape):
    x = integers(np.random.default_rng(1), *shape, most=3)
    on_gpu = ops.from_numpy(x)
    equal(ops.channel_sum(on_gpu), reference.channel_sum(x))
    equal(ops.sum_with_map(formula(lambda x: (x * x,)), on_gpu)[0], np.asarray((x * x).sum()))
    var = ops.mean_and_variance(on_gpu)[1]
    np.testing.assert_allclose(var.get(), x.reshape(-1, shape[-1]).astype(float).var(axis=0), rtol=1e-5)
    equal(ops.elementwise(formula(lambda x: x * x), on_gpu), x * x)


def test_counting_in_64_bits(ops, monkeypatch):
    """As for arrays of 2³¹ numbers and more."""
    from scratchgen.backend.cupy_ops import launch

    monkeypatch.setattr(launch, "WIDE", 100)
    rng = np.random.default_rng(2)
    x, mu = integers(rng, 40, 33), integers(rng, 33)
    on_gpu = ops.from_numpy(x)
    equal(ops.elementwise(formula(lambda x, mu: x - mu), on_gpu, ops.from_numpy(mu)), x - mu)
    equal(ops.channel_sum(on_gpu), reference.channel_sum(x))
    np.testing.assert_allclose(ops.mean_and_variance(on_gpu)[1].get(), x.astype(float).var(axis=0), rtol=1e-5)
    equal(ops.sum_with_map(formula(lambda x: (x,)), on_gpu)[0], np.asarray(x.sum()))


def test_nan_is_not_lost(ops):
    x = np.array([[1, np.nan, -2, np.inf]], np.float32)
    on_gpu = ops.from_numpy(x)
    equal(ops.elementwise(formula(lambda x: np.maximum(x, 0)), on_gpu), np.maximum(x, 0))
    equal(ops.elementwise(formula(lambda x: np.minimum(0, x)), on_gpu), np.minimum(0, x))
    assert np.isnan(ops.mean_and_variance(ops.from_numpy(np.array([[1], [np.nan], [2]], np.float32)))[1].get()).all()


# --- convolutions ---


@pytest.mark.parametrize("geometries", [any_geometry(), fours()], ids=["any", "fours"])
def test_drawn_patches(ops, geometries):
    """im2col and col2im, and the three maps on them; in parts of the batch as well."""
    from scratchgen.backend.cupy_ops import convolution

    @drawn(SHAPES)
    @given(problems(geometries, channels=st.sampled_from([1, 2, 3, 4, 8])), st.sampled_from(FLOATS), st.booleans())
    def check(problem, dtype, in_parts):
        with pytest.MonkeyPatch.context() as patch:
            if in_parts:
                patch.setattr(convolution, "COLUMNS_BYTES", 1000)
            if problem.seed % (16 if os.environ.get("SCRATCHGEN_SHIM_FLAGS") else 3) == 0:
                patch.setattr(convolution, "WORTH_A_KERNEL", 0)
            g = problem.geometry
            x, W, dy = (a.astype(dtype) for a in problem.arrays())
            there = dict(zip("xWd", map(ops.from_numpy, (x, W, dy)), strict=True))
            cols = reference.im2col(x, g)
            equal(ops.im2col(there["x"], g), cols)
            equal(ops.col2im(ops.from_numpy(cols), g), reference.col2im(cols, g))
            equal(ops.correlate(there["x"], there["W"], g), reference.correlate(x, W, g))
            equal(ops.correlate_adjoint_x(there["d"], there["W"], g), reference.correlate_adjoint_x(dy, W, g))
            equal(ops.correlate_adjoint_W(there["x"], there["d"], g), reference.correlate_adjoint_W(x, dy, g))
            once = ops.patches(there["x"], g)
            equal(ops.correlate(once, there["W"], g), reference.correlate(x, W, g))
            equal(ops.correlate_adjoint_W(once, there["d"], g), reference.correlate_adjoint_W(x, dy, g))

    check()


# --- all parameters at once ---

tensors = st.lists(st.tuples(shapes, st.sampled_from(FLOATS)), min_size=1, max_size=6)


@drawn(SHAPES)
@given(tensors, st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_drawn_adam(ops, tensors, seed, t):
    rng = np.random.default_rng(seed)
    values, grads, ms, vs = ([normal(rng, *shape, dtype=dtype) for shape, dtype in tensors] for _ in range(4))
    vs = [v * v for v in vs]
    there = [[ops.from_numpy(a) for a in arrays] for arrays in (values, grads, ms, vs)]
    found = ops.adam(*there, 1e-2, 0.9, 0.999, 1e-8, t)
    expected = reference.adam(values, grads, ms, vs, 1e-2, 0.9, 0.999, 1e-8, t)
    for some, others in ((found, expected), (there[2], ms), (there[3], vs)):
        for a, b in zip(some, others, strict=True):
            equal(a, b)


@drawn(SHAPES)
@given(tensors, st.integers(0, 2**32 - 1))
def test_drawn_square_sums(ops, tensors, seed):
    rng = np.random.default_rng(seed)
    arrays = [integers(rng, *shape).astype(dtype) for shape, dtype in tensors]
    equal(ops.square_sums([ops.from_numpy(a) for a in arrays]), reference.square_sums(arrays))


def test_more_tensors_than_a_table_holds(ops):
    rng = np.random.default_rng(3)
    arrays = [integers(rng, n % 7 + 1) for n in range(150)]
    there = [ops.from_numpy(a) for a in arrays]
    equal(ops.square_sums(there), reference.square_sums(arrays))
    zeros = [[np.zeros_like(a) for a in arrays] for _ in range(2)]
    found = ops.adam(there, there, *[[ops.from_numpy(a) for a in z] for z in zeros], 1e-3, 0.9, 0.999, 1e-8, 1)
    for a, b in zip(found, reference.adam(arrays, arrays, *zeros, 1e-3, 0.9, 0.999, 1e-8, 1), strict=True):
        equal(a, b)


# --- sanitizers, orders, planted faults ---

ROOT = Path(__file__).parents[1]


def _drawn_in_another_process(**environment):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "drawn", __file__]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": "", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def _library(name: str) -> str:
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip(f"needs g++'s {name}")
    return found


def sanitized() -> dict:
    return {
        "LD_PRELOAD": f"{_library('libasan.so')} {_library('libubsan.so')}",
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "SCRATCHGEN_SHIM_FLAGS": "-fsanitize=address,undefined -fno-sanitize-recover=all -g",
        "PYTHONMALLOC": "malloc",
    }


@pytest.mark.skipif("SCRATCHGEN_SHIM_FLAGS" in os.environ, reason="this is the inner run")
def test_clean_under_sanitizers():
    found = _drawn_in_another_process(**sanitized())
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    assert " passed" in found.stdout


@pytest.mark.skipif("SCRATCHGEN_SHIM_FLAGS" in os.environ, reason="this is the inner run")
def test_the_order_of_threads_does_not_matter():
    found = _drawn_in_another_process(SCRATCHGEN_SHIM_ORDER="reverse", SCRATCHGEN_SHIM_FLAGS="")
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    assert " passed" in found.stdout


def _check_rows(ops):
    """Every kernel of the rows, in several blocks and in one, with a few rows for each thread and with many."""
    for rows in (1, 1000):
        with rows_per_thread(rows):
            _check_rows_as_they_are(ops)


def _check_rows_as_they_are(ops):
    rng = np.random.default_rng(4)
    for shape in ((1031, 3), (700, 33), (5000, 3), (4801,)):
        x, mu = integers(rng, *shape), integers(rng, shape[-1])
        there = ops.from_numpy(x), ops.from_numpy(mu)
        equal(ops.elementwise(formula(lambda x, mu: x - mu), *there), x - mu)
        equal(ops.channel_sums(formula(lambda x, mu: (x, x - mu)), *there)[1], reference.channel_sum(x - mu))
        sums = ops.sum_with_map(formula(lambda x: (x, -x)), there[0], over=4)
        equal(sums[0], np.asarray(x.sum() / 4, np.float32))
        equal(sums[1], -x)
        if len(shape) > 1:
            mean, var = ops.mean_and_variance(there[0])
            np.testing.assert_allclose(mean.get(), x.astype(float).mean(axis=0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(var.get(), x.astype(float).var(axis=0), rtol=1e-5)


def _check_patches(ops):
    from scratchgen.backend.geometry import Geometry

    rng = np.random.default_rng(5)
    for g in (
        Geometry((4, 3), (2, 1), (1, 2), (1, 2), (7, 6), (3, 6)),
        Geometry((3, 3), (1, 2), (1, 1), (1, 1), (5, 5), (5, 3)),
    ):
        for C in (3, 4):
            x = integers(rng, 2, *g.large, C)
            cols = integers(rng, 2, *g.small, *g.kernel, C)
            equal(ops.im2col(ops.from_numpy(x), g), reference.im2col(x, g))
            equal(ops.col2im(ops.from_numpy(cols), g), reference.col2im(cols, g))


def _check_tensors(ops):
    rng = np.random.default_rng(6)
    arrays = [integers(rng, n) for n in (1, 255, 5000, 257)]
    there = [ops.from_numpy(a) for a in arrays]
    equal(ops.square_sums(there), reference.square_sums(arrays))
    zeros = [[np.zeros_like(a) for a in arrays] for _ in range(2)]
    found = ops.adam(there, there, *[[ops.from_numpy(a) for a in z] for z in zeros], 1e-3, 0.9, 0.999, 1e-8, 3)
    for a, b in zip(found, reference.adam(arrays, arrays, *zeros, 1e-3, 0.9, 0.999, 1e-8, 3), strict=True):
        equal(a, b)


CHECKS = {"rows": _check_rows, "patches": _check_patches, "tensors": _check_tensors}
PLANTED = [
    ("rows", "elementwise.cu", "for (; i < n;", "for (; i + 1 < n;"),
    ("rows", "elementwise.cu", "i += 4 * stride", "i += 5 * stride"),
    ("rows", "elementwise.cu", "AT(i, i % channels)", "AT(i, (i + 1) % channels)"),
    ("rows", "elementwise.cu", "AT(i + k * stride, (i + k * stride) % channels)", "AT(i + k * stride, i % channels)"),
    ("rows", "channel_sums.cu", "for (; row < rows;", "for (; row + 1 < rows;"),
    ("rows", "channel_sums.cu", "row += 4 * stride", "row += 5 * stride"),
    ("rows", "channel_sums.cu", "half = blockDim.y / 2; half > 0", "half = blockDim.y / 2; half > 1"),
    (
        "rows",
        "channel_sums.cu",
        "* TERMS + t) * channels + c] = ",
        "* TERMS + t) * channels + (c + 1) % channels] = ",
    ),
    ("rows", "channel_sums.cu", "shared[me] = sum[t];\n        __syncthreads();", "shared[me] = sum[t];"),
    ("rows", "mean_and_variance.cu", "for (; row < rows;", "for (; row + 1 < rows;"),
    ("rows", "mean_and_variance.cu", "count += 4;", "count += 3;"),
    ("rows", "mean_and_variance.cu", "i < count;", "i + 1 < count;"),
    ("rows", "mean_and_variance.cu", "d * d * a.count * share", "d * d * share"),
    ("rows", "sum_with_map.cu", "for (; i < n;", "for (; i + 1 < n;"),
    ("rows", "sum_with_map.cu", "STORE(i + k * stride)", "STORE(i)"),
    ("rows", "sum_with_map.cu", "sum / over : sum", "sum : sum"),
    ("rows", "common.cuh", "half = blockDim.x / 2", "half = blockDim.x / 4"),
    ("rows", "parts.cu", "i < count;", "i + 1 < count;"),
    ("rows", "parts.cu", "sum / over", "sum"),
    ("patches", "patches.cu", "row >= 0 &&", "row > 0 &&"),
    ("patches", "patches.cu", "row < g.large[0]", "row + 1 < g.large[0]"),
    ("patches", "patches.cu", "column < g.large[1]", "column + 1 < g.large[1]"),
    ("patches", "patches.cu", "e < g.kernel[1] * channels;", "e + 1 < g.kernel[1] * channels;"),
    ("patches", "patches.cu", "i < g.kernel[0]; ++i", "i + 1 < g.kernel[0]; ++i"),
    ("patches", "patches.cu", "r >= g.small[0]", "r >= g.small[0] - 1"),
    ("patches", "patches.cu", "k < PACK", "k + 1 < PACK || PACK == 1 && k < 1"),
    ("patches", "patches.cu", "* g.dilation[1], c =", "* (g.dilation[1] - 1), c ="),
    ("tensors", "tensors.cu", "i < a.size; i += stride) {", "i + 1 < a.size; i += stride) {"),
    ("tensors", "tensors.cu", "i < a.size; i += stride) mine", "i + 1 < a.size; i += stride) mine"),
    ("tensors", "tensors.cu", "i += 4 * stride", "i += 3 * stride"),
    ("tensors", "tensors.cu", "rest2 * g * g", "rest2 * g"),
]
OUT_OF_BOUNDS = [
    ("rows", "elementwise.cu", "for (; i < n;", "for (; i <= n;"),
    ("rows", "elementwise.cu", "i + 3 * stride < n;", "i + 2 * stride < n;"),
    ("rows", "channel_sums.cu", "for (; row < rows;", "for (; row <= rows;"),
    ("patches", "patches.cu", "column < g.large[1]", "column <= g.large[1]"),
    ("patches", "patches.cu", "run >= runs", "run > runs"),
    ("tensors", "tensors.cu", "i < a.size; i += stride) mine", "i <= a.size; i += stride) mine"),
]


@pytest.mark.parametrize(("what", "file", "old", "new"), PLANTED, ids=lambda s: s if len(s) < 30 else "")
def test_a_planted_fault_is_found(ops, what, file, old, new):
    CHECKS[what](ops)
    with changed_source(file, old, new), pytest.raises((AssertionError, RuntimeError)):
        CHECKS[what](ops)


@pytest.mark.skipif("SCRATCHGEN_SHIM_FLAGS" in os.environ, reason="this is the inner run")
@pytest.mark.parametrize("number", range(len(OUT_OF_BOUNDS)))
def test_a_step_out_of_bounds_is_found(number):
    code = (
        "import test_cuda_kernels as t\n"
        "with t.kernels_on_the_standin() as ops:\n"
        f"    what, *change = t.OUT_OF_BOUNDS[{number}]\n"
        "    t.CHECKS[what](ops)\n"
        "    print('right', flush=True)\n"
        "    with t.changed_source(*change):\n"
        "        t.CHECKS[what](ops)\n"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **sanitized(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith("right")
    assert found.returncode != 0
    assert "AddressSanitizer" in found.stderr or "runtime error" in found.stderr


# --- compiled for GPUs ---


def _everything(ops):
    """Runs every layer, loss and optimizer on the stand-in once, and so compiles every kernel that they need."""
    from layer_table import TABLE

    from scratchgen import Adam, losses
    from scratchgen.backend.cupy_ops import convolution

    rng = np.random.default_rng(7)
    for dtype in FLOATS:
        for row in TABLE:
            layer, x, dy = row.draw(dtype=dtype)
            layer.to("cupy")
            backward = layer.forward(ops.from_numpy(x))[1]
            backward(ops.from_numpy(dy))
            layer.predict(ops.from_numpy(x))
            if layer.parameters():
                ops.square_sums([p.grad for p in layer.parameters()])
                Adam(layer.parameters()).step()
        a, b, c = (ops.from_numpy(rng.random((4, 5)).astype(dtype)) for _ in range(3))
        losses.mse(a, b), losses.bce_with_logits(a, b), losses.gaussian_kl(a, b)
        losses.gaussian_nll(a, b, c), losses.gaussian_nll(a, 0.5, c)
        for C in (1, 2, 4):
            convolution.im2col(ops.from_numpy(np.zeros((1, 5, 5, C), dtype)), TABLE[4].made.geometry(5, 5))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_kernel_compiles_for_gpus(ops, arch):
    from scratchgen.backend.cupy_ops import convolution, launch

    nvrtc = NVRTC()
    with recorded_texts() as texts:
        _everything(ops)
        with pytest.MonkeyPatch.context() as patch:  # as for large arrays
            patch.setattr(launch, "WIDE", 0)
            patch.setattr(convolution, "WORTH_A_KERNEL", 0)
            _everything(ops)
    assert any("#define GEOMETRY" in text for text in texts)
    assert any("unsigned long long Index" in text for text in texts)
    files = {p.stem for p in launch.SOURCES.glob("*.cu")}
    used = {name for name in files if any((launch.SOURCES / f"{name}.cu").read_text() in text for text in texts)}
    assert used == files
    options = (*launch.OPTIONS, "-ftz=true", "--device-as-default-execution-space")  # the last two are CuPy's
    faults = {text: nvrtc.compile(text, arch, options) for text in texts}
    assert not {text: log for text, log in faults.items() if log}


def test_nvrtc_refuses_what_is_wrong():
    nvrtc = NVRTC()
    assert "undefined" in nvrtc.compile('extern "C" __global__ void f(float* x) { x[0] = y; }', "sm_90", ())
