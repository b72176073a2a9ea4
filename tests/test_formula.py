"""Formulas traced into CUDA: that the text says what Python said, what it is kept for, and what is refused."""

import shutil

import numpy as np
import pytest
from kernel_sources import FLOATS, kernels_on_the_standin

from scratchgen import BatchNorm, LeakyReLU, ReLU, Sigmoid, Tanh

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ to run CUDA sources on the CPU")


@pytest.fixture
def ops():
    with kernels_on_the_standin() as ops:
        yield ops


@pytest.fixture
def formula(ops):
    from scratchgen.backend.cupy_ops import formula

    return formula


F4 = np.dtype(np.float32)


def test_the_text_reads_as_the_formula(formula):
    found = formula.traced(lambda dy, y: dy * (1 - y * y), 2, F4)
    assert found.text == (
        "__device__ inline real formula(const real x0, const real x1) {\n"
        "    const real v0 = x1 * x1;\n"
        "    const real v1 = (real)1 - v0;\n"
        "    const real v2 = x0 * v1;\n"
        "    return v2;\n"
        "}\n"
    )
    assert (found.numbers, found.terms) == ((), 0)


UNARY = ("absolute", "cos", "exp", "expm1", "log", "log1p", "negative", "positive", "sin", "sqrt", "square", "tanh")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
COMPARED = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")


def test_every_function_is_tested(formula):
    known = {*formula.OPERATORS, *formula.FUNCTIONS, *formula.COMPARISONS}
    assert known == {*UNARY, *BINARY, *COMPARED, "true_divide"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY + BINARY + COMPARED)
@pytest.mark.parametrize("library", ["cupy", "numpy"])
def test_each_function_is_numpys(ops, name, dtype, library):
    """By the array library's own name, and by NumPy's."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 3, (2, 5, 4)).astype(dtype)
    y[:2] = x[:2]
    xp = ops.xp if library == "cupy" else np
    if name in UNARY:
        found = ops.rowwise(lambda x: getattr(xp, name)(x), ops.from_numpy(x))
        expected = getattr(np, name)(x)
    else:
        found = ops.rowwise(
            lambda x, y: getattr(xp, name)(x, y).astype(x.dtype), ops.from_numpy(x), ops.from_numpy(y)
        )
        expected = getattr(np, name)(x, y).astype(dtype)
    np.testing.assert_allclose(found.get(), expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_operators(ops, dtype):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-3, 3, (2, 50)).astype(dtype)
    formulas = [
        lambda x, y: 1 - x / (2 + abs(y)) * -x + +y,
        lambda x, y: 0.3 / (x * x + 1) - y**2,
        lambda x, y: (x > y) * y + (x <= 0) * (2 * y) + (x != y) * ((y >= 1) * x),
        lambda x, y: (x < y).astype(x.dtype) - (x == y).astype(x.dtype),
        lambda x, y: abs(x) ** 0.5 - x.dtype.type(1.5) * y,
        lambda x, y: True * x + np.float64(0.5).item() * y,
        lambda x, y: (x > 0) + y,
        lambda x, y: x,
    ]
    for f in formulas:
        found = ops.rowwise(f, ops.from_numpy(x), ops.from_numpy(y)).get()
        np.testing.assert_array_equal(found, f(x, y))
        assert found.dtype == dtype
    found = ops.rowwise(lambda x, y: ops.xp.where(x > y, x, 0.5 * y), ops.from_numpy(x), ops.from_numpy(y)).get()
    np.testing.assert_array_equal(found, np.where(x > y, x, dtype(0.5) * y))


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), LeakyReLU(0), LeakyReLU(1.5), Tanh(), Sigmoid()], ids=str)
def test_an_activation_is_one_kernel_each_way(ops, layer):
    import standin

    x = ops.from_numpy(np.random.default_rng(2).standard_normal((6, 5)).astype(np.float32))
    y, backward = layer.forward(x)
    backward(y)
    before = standin.counts().launches
    y, backward = layer.forward(x)
    assert standin.counts().launches - before == 1
    backward(y)
    assert standin.counts().launches - before == 2


def test_the_formula_is_traced_once(formula, monkeypatch):
    traces = []
    plain = formula._trace
    monkeypatch.setattr(formula, "_trace", lambda *args: traces.append(1) or plain(*args))
    monkeypatch.setattr(formula, "_known", {})

    def slopes(slope, inner=None):
        inner = inner or (lambda y: y * slope)
        return lambda x: x * slope + inner(x)

    first = formula.traced(slopes(0.2), 1, F4)
    assert formula.traced(slopes(0.2), 1, F4) is first
    assert len(traces) == 1
    other = formula.traced(slopes(0.3), 1, F4)
    assert (other.text, other.numbers) == (first.text, (0.3, 0.3))  # the same kernel, with other numbers
    assert formula.traced(slopes(1), 1, F4).text != first.text
    assert formula.traced(slopes(True), 1, F4) is not formula.traced(slopes(1), 1, F4)
    assert formula.traced(slopes(0.2), 1, np.dtype(np.float64)) is not first


def test_what_may_change_is_traced_anew(formula):
    """Held by an object or a list it may be another number next time."""

    class Holder:
        slope = 0.2

    holder, numbers = Holder(), [1.5]
    f = lambda x: x * holder.slope * numbers[0]  # noqa: E731
    assert formula.traced(f, 1, F4).numbers == (0.2, 1.5)
    holder.slope, numbers[0] = 0.7, 2.5
    assert formula.traced(f, 1, F4).numbers == (0.7, 2.5)


SLOPE = 0.2


def _of_a_global(x):
    return x * SLOPE


def _by_way_of_another(x):
    return _of_a_global(x) + 1


@pytest.mark.parametrize("f", [_of_a_global, _by_way_of_another, lambda x: (lambda x: x * SLOPE)(x)])
def test_a_global_that_changed_is_seen(formula, monkeypatch, f):
    assert formula.traced(f, 1, F4).numbers == (0.2,)
    monkeypatch.setitem(globals(), "SLOPE", 0.7)
    assert formula.traced(f, 1, F4).numbers == (0.7,)


def test_the_same_text_with_other_globals_is_another_formula(formula):
    found = []
    for K in (0.5, 1.5):
        names = {"K": K}
        exec(compile("def f(x):\n    return x * K\n", "one.py", "exec"), names)
        found.append(formula.traced(names["f"], 1, F4).numbers)
    assert found == [(0.5,), (1.5,)]


def test_not_more_formulas_are_kept_than_there_is_room_for(formula, monkeypatch):
    monkeypatch.setattr(formula, "_known", {})
    monkeypatch.setattr(formula, "MANY", 10)
    for n in range(35):
        beta = 0.3 + n / 7
        assert formula.traced(lambda x, beta=beta: x * beta, 1, F4).numbers == (beta,)
    assert len(formula._known) <= 10


def test_batchnorm_with_another_momentum_is_another_formula(ops):
    """Two layers, one code: each its own numbers."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((8, 3)).astype(np.float32)
    for momentum in (0.1, 0.5, 0.1):
        here, there = BatchNorm(3, momentum=momentum), BatchNorm(3, momentum=momentum).to("cupy")
        here.forward(x)
        there.forward(ops.from_numpy(x))
        np.testing.assert_allclose(there.running_var.get(), here.running_var, rtol=1e-6)


@pytest.mark.parametrize(
    ("f", "says"),
    [
        (lambda x: x if x > 0 else -x, "may not depend on the numbers"),
        (lambda x: float(x), "may not depend"),
        (lambda x: x.sum(), "sum"),
        (lambda x: np.add.reduce(x), "reduce"),
        (lambda x: np.cbrt(x), "cbrt is not known"),
        (lambda x: x**3, r"\*\* takes 2 and 0.5"),
        (lambda x: x**x, r"\*\* takes 2 and 0.5"),
        (lambda x: 2**x, r"\*\* takes 2 and 0.5"),
        (lambda x: x > 0, "returns a comparison"),
        (lambda x: np.maximum(x, 0, where=True), "takes no where"),
        (lambda x: x * np.float64(2), "NumPy float64"),
        (lambda x: x * np.ones(3, np.float32), "arrays must be among the arguments"),
        (lambda x: x.astype(np.float64), "float64"),
        (lambda x: x.astype(np.int32), "int32"),
        (lambda x: (x > 0) + (x < 1), "nothing but bools"),
        (lambda x: -(x > 0), "nothing but bools"),
        (lambda x: (x > 0) * 2 + x, "bools and plain numbers"),
        (lambda x: np.where(x, 1, 2), "."),
        (lambda x: x * "2", "str"),
        (lambda x: None, "NoneType"),
    ],
)
def test_what_is_no_formula_is_refused(ops, f, says):
    x = ops.from_numpy(np.ones(3, np.float32))
    with pytest.raises((TypeError, AttributeError, ValueError), match=says):
        ops.rowwise(f, x)


def test_shapes_and_types_that_do_not_go_together_are_refused(ops):
    x = ops.from_numpy(np.ones((4, 3), np.float32))
    for other in (np.ones((3, 4), np.float32), np.ones(4, np.float32), np.ones((1, 3), np.float32)):
        with pytest.raises(ValueError, match="shapes"):
            ops.rowwise(lambda x, y: x + y, x, ops.from_numpy(other))
    with pytest.raises(TypeError, match="float64"):
        ops.rowwise(lambda x, y: x + y, x, ops.from_numpy(np.ones((4, 3))))
    with pytest.raises(TypeError, match="int64"):
        ops.rowwise(lambda x: x, ops.from_numpy(np.ones(3, np.int64)))
    with pytest.raises(TypeError, match="tuple"):
        ops.rowwise(lambda x: (x, x), x)
    with pytest.raises(TypeError, match="tuple"):
        ops.row_sums(lambda x: x, x)
    with pytest.raises(TypeError, match="tuple"):
        ops.total(lambda x: x, x)
    with pytest.raises(ValueError, match="50 terms"):
        ops.row_sums(lambda x: (x,) * 50, x)


def test_parts_of_arrays(ops):
    """What does not lie in one piece is copied first: a kernel counts on it."""
    x = np.random.default_rng(4).standard_normal((6, 8)).astype(np.float32)
    there = ops.from_numpy(x)
    np.testing.assert_array_equal(ops.rowwise(lambda a: a + 1, there[:, :3]).get(), x[:, :3] + 1)
    np.testing.assert_array_equal(
        ops.rowwise(lambda a, b: a - b, there[:, 4:], there[0, :4]).get(), x[:, 4:] - x[0, :4]
    )
    np.testing.assert_allclose(ops.row_sum(there.T).get(), x.T.sum(axis=0), rtol=1e-5)


def test_nothing_to_do(ops):
    empty = ops.from_numpy(np.ones((0, 3), np.float32))
    assert ops.rowwise(lambda x: x + 1, empty).shape == (0, 3)
    np.testing.assert_array_equal(ops.row_sum(empty).get(), np.zeros(3))


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy", reason="needs CuPy itself: pip install .[gpu-proof]")


def test_real_cupys_functions_are_traced_too(cupy, formula):
    """They ask the symbol, without a GPU: `__cupy_override_elementwise_kernel__` is CuPy's name for that."""
    assert hasattr(cupy, "_core")  # the real one

    def applied(library, name):
        function = getattr(library, name)
        if name in UNARY:
            return formula.traced(lambda x: function(x), 1, F4).text
        return formula.traced(lambda x, y: function(x, y).astype(F4), 2, F4).text

    for name in (*formula.OPERATORS, *formula.FUNCTIONS, *formula.COMPARISONS):
        assert applied(cupy, name) == applied(np, name)
    chosen = formula.traced(lambda x: cupy.where(x > 0, x, 0.2 * x), 1, F4)
    assert "v0 ? x0 : v1" in chosen.text
