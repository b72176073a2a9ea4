"""Formulas as lists of NumPy's calls: the same numbers as when they are called, and no memory that is not needed."""

import math
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchgen import BatchNorm, LeakyReLU, ReLU, Sigmoid, Tanh
from scratchgen.backend.numpy_ops import formula, rows

ROWS, WIDTH = 7, 5
rng = np.random.default_rng(0)
X, Y = (rng.standard_normal((ROWS, WIDTH)).astype(np.float32) for _ in range(2))
V = rng.standard_normal((1, WIDTH)).astype(np.float32)


def dead(x, y, v):
    np.exp(x)
    z = x + y
    np.exp(z)
    return z


def several_lives(x, y, v):
    a = x - v
    b = a * a
    c = a + b
    return (a * y - c) / (b + 1) - a


def own_errors(x, y, v):
    with np.errstate(all="ignore"):
        return y / (x - x)


TRACED = {
    "one call": lambda x, y, v: np.tanh(x),
    "two arrays": lambda x, y, v: x * y,
    "a row for all": lambda x, y, v: (x - v) * v,
    "rows among themselves": lambda x, y, v: x * (v * v + 1),
    "numbers": lambda x, y, v: 1 / (2 + np.exp(-x)),
    "a number of NumPy's": lambda x, y, v: x * np.float32(0.3),
    "mirrored": lambda x, y, v: 1 - 2 * x,
    "a power": lambda x, y, v: x**2 + abs(x) ** 0.5 + x**-1 + x**3,
    "a power of two arrays": lambda x, y, v: abs(x) ** y,
    "a comparison": lambda x, y, v: y * (x > 0),
    "a comparison cast": lambda x, y, v: np.maximum((x > 0).astype(x.dtype), 0.2) * y,
    "not": lambda x, y, v: np.logical_not(x > y) * x,
    "one value many times": several_lives,
    "nobody reads it": dead,
    "the same operand twice": lambda x, y, v: (x + y) * (x + y) + x * x,
    "x itself": lambda x, y, v: x,
    "a row": lambda x, y, v: v,
    "a number": lambda x, y, v: 3,
    "another dtype in between": lambda x, y, v: (x.astype(np.float64) * 1e-9 + 1 - 1).astype(np.float32),
    "another dtype at the end": lambda x, y, v: x.astype(np.float64) / 3,
    "another dtype up to the end": lambda x, y, v: x.astype(np.float64) * 1e-9 + 1 - 1,
    "a comparison at the end": lambda x, y, v: x > y,
}
CALLED = {  # more than element-wise functions
    "where": lambda x, y, v: np.where(x > 0, x, y),
    "in place": lambda x, y, v: np.add(x, 1, out=np.empty_like(x)),
    "a sum": lambda x, y, v: x - np.add.reduce(x, axis=-1, keepdims=True),
    "a method": lambda x, y, v: x.clip(0, 1),
    "a choice": lambda x, y, v: x if x.all() else -x,
    "a part": lambda x, y, v: x[:, ::-1] * y,
    "where rows say": lambda x, y, v: np.where(v > 0, x, y),
    "an array like it": lambda x, y, v: np.maximum(x, np.zeros_like(x)),
    "a copy": lambda x, y, v: np.copy(x) - v,
    "as an array": lambda x, y, v: np.asarray(x) - v,
    "nan_to_num": lambda x, y, v: np.nan_to_num(x),
    "a number of axes": lambda x, y, v: x * np.ndim(x),
    "of several at once": lambda x, y, v: np.average([x, y], axis=0, weights=[0.3, 0.7]),
    "a polynomial": lambda x, y, v: np.polyval([1.0, 2.0, 3.0], x),
    "by an own ufunc": lambda x, y, v: np.frompyfunc(math.erf, 1, 1)(x).astype(np.float32),
    "a product of matrices": lambda x, y, v: x @ np.ones((WIDTH, 2)) @ np.ones((2, WIDTH)),
    "a mean of rows": lambda x, y, v: x - np.mean(x, axis=-1, keepdims=True),
    "a sorted row": lambda x, y, v: np.sort(x, axis=-1),
    "its own errors": own_errors,
}
every_formula = pytest.mark.parametrize("name", [*TRACED, *CALLED])


def whole(f, *arrays):
    """f of all rows at once, in the dtype of the first."""
    return np.broadcast_to(f(*arrays), arrays[0].shape).astype(arrays[0].dtype)


def blocks(height):
    return [slice(i, i + height) for i in range(0, ROWS, height)]


@every_formula
@pytest.mark.parametrize("height", [1, 3, ROWS])
def test_a_formula_by_blocks_is_the_formula(name, height):
    f = (TRACED | CALLED)[name]
    of_rows = formula.of(f, [X, Y, V])
    assert type(of_rows) is (formula.Traced if name in TRACED else formula.Called)
    given_ = [a.copy() for a in (X, Y, V)]
    into = np.full_like(X, np.nan)
    of_rows.write(blocks(height), into)
    np.testing.assert_array_equal(into, whole(f, X, Y, V))
    for a, b in zip((X, Y, V), given_, strict=True):
        np.testing.assert_array_equal(a, b)


@every_formula
def test_a_formula_of_a_single_row(name):
    """All matrices are of one row then, and none is the same for every block."""
    f, into = (TRACED | CALLED)[name], np.full_like(V, np.nan)
    formula.of(f, [X[:1], Y[:1], V]).write([slice(0, 1)], into)
    np.testing.assert_array_equal(into, whole(f, X[:1], Y[:1], V))


@every_formula
def test_terms_by_blocks_are_the_terms(name):
    """Of a formula that returns several, one of them twice, and an argument as it is."""
    f = (TRACED | CALLED)[name]
    several = lambda x, y, v: (f(x, y, v), x - y, f(x, y, v) * 2, y)  # noqa: E731
    found = formula.of(several, [X, Y, V]).terms(blocks(3))
    for block, terms in zip(blocks(3), found, strict=True):
        wanted = several(X[block], Y[block], V)
        assert len(terms) == 4
        for term, right in zip(terms, wanted, strict=True):
            np.testing.assert_array_equal(term, right)
            assert np.asarray(term).dtype == np.asarray(right).dtype


@given(st.data())
def test_any_formula_is_itself(data):
    """Random programs: each value is made of two before it, and may be read again much later."""
    operations = [np.add, np.subtract, np.multiply, np.maximum, np.greater, np.minimum]
    program = data.draw(
        st.lists(st.tuples(st.sampled_from(operations), st.integers(0, 30), st.integers(0, 30)), min_size=1)
    )
    outcomes = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=3))

    def f(x, y, v):
        values = [x, y, v, 2.5]
        for operation, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            if operation is np.subtract:  # which NumPy refuses for bools
                a = a * 1.5
            values.append(operation(a, b))
        return tuple(values[i % len(values)] for i in outcomes)

    of_rows = formula.of(f, [X, Y, V])
    assert type(of_rows) is formula.Traced
    with np.errstate(all="ignore"):
        for block, terms in zip(blocks(3), of_rows.terms(blocks(3)), strict=True):
            for term, right in zip(terms, f(X[block], Y[block], V), strict=True):
                np.testing.assert_array_equal(term, right)


def test_a_formula_with_an_array_of_more_axes_from_outside():
    mean = X.reshape(ROWS, 1, WIDTH).mean(keepdims=True)
    into = np.empty_like(X)
    formula.of(lambda x: x - mean, [X]).write(blocks(3), into)
    np.testing.assert_array_equal(into, X - mean[0])


def test_powers_are_those_of_arrays():
    """Of complex numbers these differ from np.power's in the last bit, of others in time."""
    x = (X + 1j * Y).astype(np.complex64)
    for exponent in (2, 0.5, -1, 2.0, 3, 1.5):
        into = np.empty_like(x)
        formula.of(lambda x, exponent=exponent: x**exponent, [x]).write(blocks(3), into)
        np.testing.assert_array_equal(into, np.concatenate([x[block] ** exponent for block in blocks(3)]))


@pytest.mark.parametrize("kind", [list, tuple, namedtuple("Two", "a b")._make])
def test_terms_in_any_kind_of_list(kind):
    found = formula.of(lambda x: kind([x, 2 * x]), [X]).terms(blocks(3))
    for block, (a, b) in zip(blocks(3), found, strict=True):
        np.testing.assert_array_equal(a, X[block])
        np.testing.assert_array_equal(b, 2 * X[block])


def test_memory_is_written_over():
    for f, pieces in (
        (TRACED["one call"], 1),
        (lambda x, y, v: ((x - v) * v + y) * 3 - x, 1),
        (lambda x, y, v: (y - v - (x - v) * v) * v, 2),
        (TRACED["a comparison cast"], 2),  # a comparison takes one of bools
        (several_lives, 4),
    ):
        assert len(formula.of(f, [X, Y, V]).memory) == pieces


def test_what_a_formula_raises_is_raised():
    def f(x, y, v):
        raise TypeError("no, not this")

    with pytest.raises(TypeError, match="no, not this"):
        formula.of(f, [X, Y, V]).write(blocks(3), np.empty_like(X))
    with pytest.raises(ValueError, match="broadcast"):
        rows.rowwise(lambda x: x * np.ones((3, 3, 3)), np.ones((2 * rows.BLOCK, 2)))


@pytest.mark.parametrize(
    "layer", [ReLU(), LeakyReLU(), LeakyReLU(1.0), Tanh(), Sigmoid(), BatchNorm(WIDTH)], ids=repr
)
def test_the_formulas_of_layers_are_traced(layer, monkeypatch):
    """None is called block by block, which would take half as long again."""
    kinds = []
    of = formula.of

    def spy(f, matrices):
        kinds.append(type(of(f, matrices)))
        return of(f, matrices)

    monkeypatch.setattr(formula, "of", spy)
    monkeypatch.setattr(rows, "BLOCK", 2 * WIDTH)
    monkeypatch.setattr(rows, "WIDE", 1)
    layer.forward(X)[1](Y)
    assert len(kinds) >= 2
    assert set(kinds) == {formula.Traced}
