"""The compiled kernels: their functions to units in the last place, every formula of the library, Adam and sums.

By Numba where it is installed; without it the same loops as Python, on fewer elements.
"""

import sys

import numpy as np
import pytest
from drawn import LAYOUTS, compiled_or_python, constants, drawn, integers, laid, layouts, poison, seeds
from hypothesis import given
from hypothesis import strategies as st

from scratchgen import losses, models  # noqa: F401  all that has formulas
from scratchgen.backend import compiled, fast, formula, numpy_ops, reference
from scratchgen.backend.compiled import functions
from scratchgen.backend.compiled.compiler import Loop, inlined
from scratchgen.backend.compiled.formula import USES
from scratchgen.backend.formula import Formula

NUMBA = fast.available() and fast.numba() is not None
FLOATS = (np.float32, np.float64)
AT_ONCE = {"compiled_rows__FEW": 0, "rows__FEW": 0}
PIECES = {
    **AT_ONCE,
    "compiled_rows__PIECE": 600,
    "compiled_rows__LEAST": 600,
    "compiled_rows__WIDE": 50,
    "compiled_rows__NARROW": 50,
    "compiled_adam__PIECE": 40,
}


@pytest.fixture(autouse=True)
def uninitialised_memory_is_not_a_number(monkeypatch):
    poison(monkeypatch)
    with compiled_or_python():
        yield


@pytest.fixture(autouse=True)
def what_numpy_says_of_numbers():
    with np.errstate(all="ignore"):
        yield


# --- functions: errors in units in the last place, against float64 ---

WORST = {"exp": 1.0, "expm1": 1.6, "log": 0.9, "log1p": 1.5, "tanh": 1.4}
RANGES = {  # where something happens
    "exp": [(-104, 89), (-1, 1), (-88, -87), (88, 88.8)],
    "expm1": [(-20, 89), (-1, 1), (-1e-3, 1e-3)],
    "log": [(0, 4), (0.999, 1.001), (0, 1e-37)],
    "log1p": [(-1, 4), (-1e-3, 1e-3), (-1, -0.999), (0, 1e30)],
    "tanh": [(-10, 10), (-0.7, 0.7), (0.62, 0.63), (-1e-3, 1e-3)],
}


def called(name, x):
    """The function of each element."""
    text = f"def {name}_of_each(x, y):\n    for i in range(x.size):\n        y[i] = {name}(x[i])\n"
    each = Loop(f"{name}_of_each", "\n\n".join([*map(inlined, USES[name]), text]), [("in", 1), ("out", 1)])
    y = np.full_like(x, np.nan)
    loop = each.of(x.dtype)
    assert loop is not None
    loop(x, y)
    return y


def drawn_floats(name):
    """Of every bit pattern, and from ranges: a million; a few thousand where each takes a hundred times as long."""
    rng, count = np.random.default_rng(0), 250_000 if NUMBA else 1000
    parts = [rng.integers(0, 2**32, 2 * count, dtype=np.uint32).view(np.float32)]
    parts += [rng.uniform(*bounds, count).astype(np.float32) for bounds in RANGES[name]]
    return np.concatenate(parts)


@pytest.mark.parametrize("name", WORST)
def test_a_function_is_as_near_as_its_module_says(name):
    said = functions.__doc__.replace("\n", " ")
    assert f"{name} {WORST[name]}" in said
    x = drawn_floats(name)
    exact = getattr(np, name)(x.astype(np.float64))
    found, rounded = called(name, x), exact.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    # at the border of overflow it may be the largest float32, or infinite
    over = finite & np.isinf(found)
    assert (np.abs(rounded[over]) >= np.nextafter(np.finfo(np.float32).max, 0, dtype=np.float32)).all()
    usual = finite & ~over
    error = np.abs(found[usual] - exact[usual]) / np.spacing(np.abs(rounded[usual])).astype(np.float64)
    worst = np.argmax(error)
    assert error[worst] <= WORST[name], (x[usual][worst], found[usual][worst], error[worst])
    assert error.mean() < 0.4


tiny, least, most = np.finfo(np.float32).tiny, np.float32(1e-45), np.finfo(np.float32).max
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, least, -least, tiny, -tiny, tiny / 3, most, -most, 1, -1],
    np.float32,
)


@pytest.mark.parametrize("name", WORST)
def test_special_values_are_numpys(name):
    """Zeros with their sign, infinities, NaN, numbers below the smallest normal one, the largest."""
    wanted = getattr(np, name)(SPECIAL)
    found = called(name, SPECIAL)
    np.testing.assert_allclose(found, wanted, rtol=3e-7, atol=0)
    plain = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found[plain]), np.signbit(wanted[plain]))


def test_the_borders_of_exp():
    """Where it becomes infinite, 0, and a number below the smallest normal one."""
    edges = np.array([88.722839, -103.972084, -87.33655, 128 * np.log(2), -149 * np.log(2)], np.float32)
    x = (edges.view(np.int32)[:, None] + np.arange(-40, 41, dtype=np.int32)).view(np.float32).reshape(-1)
    for name in ("exp", "expm1"):
        found, exact = called(name, x), getattr(np, name)(x.astype(np.float64))
        assert np.array_equal(np.isinf(found), np.isinf(exact.astype(np.float32))), name
        inside = np.isfinite(found)
        step = np.spacing(np.abs(exact[inside]).astype(np.float32))
        assert (np.abs(found[inside] - exact[inside]) <= WORST[name] * step).all(), name


# --- every formula of the library ---


def formulas():
    """All of them, by module and name."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[:1] == ["scratchgen"]]
    return {
        f"{module.__name__}.{name}".removeprefix("scratchgen."): f
        for module in modules
        for name, f in vars(module).items()
        if isinstance(f, Formula) and f.function.__module__ == module.__name__
    }


LIBRARY = formulas()
CHANNELS = {"mu", "s", "gamma", "beta", "dbeta", "dgamma"}  # one value a channel, where x is of rows
NUMBERS = {
    "slope": 0.2,
    "eps": 1e-5,
    "momentum": 0.1,
    "N": 64,
    "m": 462,
    "weight": 0.7,
    "log_2pi": 1.8378770664093453,
}


def arguments_of(f, shape, dtype, rng):
    """Such as the library calls it with; positive where a root or a logarithm is taken."""
    names = f.program.arguments
    batchnorm = "batchnorm" in f.function.__module__
    arguments = []
    for name in names:
        size = shape[-1:] if batchnorm and name in CHANNELS else shape
        if name in NUMBERS:
            arguments.append(NUMBERS[name])
        elif name == "t":
            arguments.append(rng.random(size).astype(dtype))
        elif name in ("var", "std", "s") and batchnorm:
            arguments.append(rng.uniform(0.5, 2, size).astype(dtype))
        else:
            arguments.append(rng.normal(0, 2, size).astype(dtype))
    return arguments


def rounded(f):
    return any(operation.name in USES for operation in f.program.operations)


def assert_near(found, wanted, exactly, what=""):
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), what
    if exactly:
        np.testing.assert_array_equal(found, wanted, err_msg=what)
    else:
        few = 8 * np.finfo(wanted.dtype).eps
        np.testing.assert_allclose(found, wanted, rtol=few, atol=few, err_msg=what)


def plain(f, arguments):
    """The formula as it stands, those that it calls too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Formula, "__call__", lambda self, *arguments: self.function(*arguments))
        return f.function(*arguments)


def check_formula(f, arguments, what=""):
    """By every kernel that takes it, against the formula as it stands; sums against float64."""
    terms = plain(f, arguments)
    if not f.program.several:
        assert_near(compiled.elementwise(f, *arguments), np.asarray(terms), not rounded(f), what)
        return
    terms = [np.asarray(term) for term in terms]
    dtype = arguments[0].dtype
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    total, *maps = compiled.sum_with_map(f, *arguments, over=3)
    size = np.abs(terms[0].astype(np.float64)).sum() / 3
    assert abs(total - terms[0].astype(np.float64).sum() / 3) <= tolerance * size, what
    assert total.dtype == dtype
    for found, wanted in zip(maps, terms[1:], strict=True):
        assert_near(found, wanted, not rounded(f), what)
    for found, term in zip(compiled.channel_sums(f, *arguments), terms, strict=True):
        term = term.reshape(-1, term.shape[-1]).astype(np.float64)
        assert (found.shape, found.dtype) == (term.shape[1:], dtype), what
        least = 8 * np.finfo(dtype).eps * len(term) if rounded(f) else 0
        assert (np.abs(found - term.sum(axis=0)) <= tolerance * np.abs(term).sum(axis=0) + least).all(), what


def test_the_library_has_formulas():
    assert len(LIBRARY) > 20
    assert {name.split(".")[0] for name in LIBRARY} >= {"layers", "losses", "models", "functions", "backend"}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LIBRARY)
def test_a_formula_of_the_library(name, dtype):
    """In one piece, and in many with a tail in rows and in channels; on every number of threads."""
    f, rng = LIBRARY[name], np.random.default_rng(0)
    for shape in [(66, 7), (5, 3, 4, 11), (1234,), (9, 130)]:
        arguments = arguments_of(f, shape, dtype, rng)
        with constants(**PIECES):
            check_formula(f, arguments, f"{name} {shape}")
        with constants(**AT_ONCE):
            check_formula(f, arguments, f"{name} {shape} in one piece")


@pytest.mark.skipif(not NUMBA, reason="needs Numba: the extra `fast`")
@pytest.mark.parametrize("name", LIBRARY)
def test_a_formula_of_the_library_on_large_arrays(name, use_threads):
    """Cut as in use: several pieces, and a tail that fits neither a piece nor a row of it."""
    use_threads(2)
    f, rng = LIBRARY[name], np.random.default_rng(0)
    for shape in [(60_001, 7), (300_011,)]:
        check_formula(f, arguments_of(f, shape, np.float32, rng), f"{name} {shape}")


@pytest.mark.parametrize("name", LIBRARY)
def test_a_formula_of_the_library_on_special_values(name):
    """NaN, infinities and zeros among the elements come out as NumPy has them."""
    f = LIBRARY[name]
    arguments = arguments_of(f, (66, 7), np.float32, np.random.default_rng(0))
    for n, a in enumerate(arguments):
        if isinstance(a, np.ndarray) and a.shape == (66, 7):
            a.flat[n::9] = np.resize(SPECIAL[:5], a.flat[n::9].shape)
    with constants(**AT_ONCE):
        if f.program.several:
            _, *found = compiled.sum_with_map(f, *arguments)
            wanted = plain(f, arguments)[1:]
        else:
            found, wanted = [compiled.elementwise(f, *arguments)], [plain(f, arguments)]
        for one, other in zip(found, wanted, strict=True):
            assert_near(one, np.asarray(other), not rounded(f), name)


def mapped(a, tmp_path):
    file = np.memmap(tmp_path / "a", a.dtype, "w+", shape=a.shape)
    file[...] = a
    file.flush()
    return np.memmap(tmp_path / "a", a.dtype, "r", shape=a.shape)


def unaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    b = np.ndarray(a.shape, a.dtype, raw)
    b[...] = a
    b.flags.writeable = False
    return b


KINDS = {name: (lambda a, path, name=name: laid(name, a)) for name in LAYOUTS}
KINDS |= {
    "unaligned": lambda a, path: unaligned(a),
    "mapped": mapped,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_arrays_of_every_kind(kind, dtype, tmp_path):
    """However they lie in memory, read-only, not on a multiple of their size, in a file; an array comes out."""
    rng = np.random.default_rng(0)
    x, y = integers(rng, 66, 7, dtype=dtype), integers(rng, 66, 7, dtype=dtype)
    a, b = integers(rng, 2, 7, dtype=dtype)
    odd = KINDS[kind](x, tmp_path)
    one, several = formula(lambda x, y, a, b: (x - a) * y + b), formula(lambda x, y, a: (x * y, x - a, y))
    for blocks in (PIECES, AT_ONCE):
        with constants(**blocks):
            found = compiled.elementwise(one, odd, y, a, b)
            np.testing.assert_array_equal(found, one.function(x, y, a, b))
            assert type(found) is np.ndarray
            assert type(compiled.elementwise(one, y, odd, a, b)) is np.ndarray
            for sums in ("channel_sums", "sum_with_map"):
                got = getattr(compiled, sums)(several, y, odd, a)
                for found, wanted in zip(got, getattr(reference, sums)(several, y, x, a), strict=True):
                    np.testing.assert_array_equal(found, wanted)
                    assert not isinstance(found, np.memmap)
            for found, wanted in zip(compiled.mean_and_variance(odd), reference.mean_and_variance(x), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6)
            channels = KINDS[kind](np.array([a, b])[:1].repeat(7, 0)[:, :7], tmp_path / "..").reshape(-1)[:7]
            np.testing.assert_array_equal(
                compiled.elementwise(one, x, y, channels, b), one.function(x, y, channels, b)
            )


# --- Adam, sums over rows, mean and variance ---

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4)
pieces = st.fixed_dictionaries(
    {
        "compiled_rows__FEW": st.just(0),
        "compiled_rows__PIECE": st.sampled_from([1, 7, 30, 1 << 17]),
        "compiled_rows__LEAST": st.sampled_from([1, 7, 30, 1 << 17]),
        "compiled_rows__PIECES": st.sampled_from([1, 3, 1000]),
        "compiled_rows__NARROW": st.sampled_from([1, 7, 512]),
        "compiled_rows__WIDE": st.sampled_from([1, 5, 16, 2048]),
        "compiled_adam__PIECE": st.sampled_from([1, 4, 17, 1 << 16]),
    }
)
SEVERAL = formula(lambda x, y, a: (x * y, x - a, y * a))


@pytest.mark.parametrize("n", [1, 2, 3, 8], ids="{} threads".format)
def test_sums_of_integers_are_exact(n, use_threads):
    use_threads(n)

    @drawn(60)
    @given(seeds, shapes, layouts, pieces, st.sampled_from(FLOATS))
    def run(seed, shape, layout, blocks, dtype):
        rng = np.random.default_rng(seed)
        x, y = laid(layout, integers(rng, *shape, dtype=dtype)), integers(rng, *shape, dtype=dtype)
        a = integers(rng, shape[-1], dtype=dtype)
        with constants(**blocks):
            np.testing.assert_array_equal(compiled.channel_sum(x), reference.channel_sum(x), strict=True)
            for sums in ("channel_sums", "sum_with_map"):
                found, wanted = (getattr(ops, sums)(SEVERAL, x, y, a) for ops in (compiled, reference))
                for one, other in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(one, other, strict=True)

    run()


@pytest.mark.parametrize("n", [1, 2, 3, 8], ids="{} threads".format)
def test_mean_and_variance_that_are_whole_numbers(n, use_threads):
    """±k around a whole number: every mean, deviation and square is exact, wherever the pieces end."""
    use_threads(n)

    @drawn(60)
    @given(seeds, st.integers(1, 6), st.integers(1, 5), pieces, st.sampled_from(FLOATS))
    def run(seed, log_rows, C, blocks, dtype):
        rng = np.random.default_rng(seed)
        centre, k = integers(rng, C, dtype=dtype), integers(rng, C, dtype=dtype)
        signs = np.tile([1, -1], 2 ** (log_rows - 1)).astype(dtype)
        x = centre + signs[:, None] * k
        with constants(**blocks):
            mu, var = compiled.mean_and_variance(x)
        np.testing.assert_allclose(mu, centre, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(var, k * k, rtol=1e-5, atol=1e-5)

    run()


@pytest.mark.parametrize("centre", [0, 1e4, -1e5])
@pytest.mark.parametrize("shape", [(5000, 3), (120, 130), (40_000, 1)], ids=str)
def test_mean_and_variance_far_from_zero_are_numpys(centre, shape):
    """As near as `numpy_ops`, or nearer, to those in float64."""
    shape = shape if NUMBA else (shape[0] // 10, shape[1])
    x = (centre + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    exact = x.astype(np.float64)
    with constants(compiled_rows__FEW=0):
        found = compiled.mean_and_variance(x)
    for wanted, mine, theirs in zip(
        (exact.mean(axis=0), exact.var(axis=0)), found, numpy_ops.mean_and_variance(x), strict=True
    ):
        step = np.spacing(np.maximum(np.abs(wanted), 0.1).astype(np.float32))
        assert (np.abs(mine - wanted) <= np.abs(theirs - wanted) + 8 * step).all()


@pytest.mark.parametrize("n", [1, 2, 3, 8], ids="{} threads".format)
def test_adam_is_its_reference(n, use_threads):
    """In float64 up to a few roundings; the moments of small integers and powers of two bit for bit."""
    use_threads(n)

    @drawn(40)
    @given(seeds, st.lists(shapes, min_size=1, max_size=4), layouts, pieces, st.sampled_from(FLOATS))
    def run(seed, sizes, layout, blocks, dtype):
        rng = np.random.default_rng(seed)
        values, grads, ms = ([integers(rng, *size, dtype=dtype) for size in sizes] for _ in range(3))
        vs = [np.abs(integers(rng, *size, dtype=dtype)) for size in sizes]
        grads = [laid(layout, g) for g in grads]
        results = []
        for ops in (compiled, reference):
            moments = [m.copy() for m in ms], [v.copy() for v in vs]
            with constants(**blocks):
                new = ops.adam(values, grads, *moments, 2**-7, 0.5, 0.75, 2**-10, 2)
            results.append((new, [*moments[0], *moments[1]]))
        (new, moments), (wanted, exact) = results
        for one, other in zip(moments, exact, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        few = 4 * np.finfo(dtype).eps
        for one, other in zip(new, wanted, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=few, atol=few)

    run()


def some_results(x, y, a):
    """Of every kernel that has sums, or shares."""
    moments = [x.copy()], [np.abs(y)]
    yield from compiled.channel_sums(SEVERAL, x, y, a)
    yield from compiled.sum_with_map(SEVERAL, x, y, a)
    yield from compiled.mean_and_variance(x)
    yield from compiled.adam([x], [y], *moments, 1e-2, 0.9, 0.99, 1e-8, 3)
    yield from (*moments[0], *moments[1], compiled.channel_sum(x))


@pytest.mark.parametrize("shape", [(60_001, 7), (300_007,), (9, 30_001)] if NUMBA else [(601, 7)], ids=str)
def test_the_same_bits_on_any_number_of_threads(shape, use_threads):
    rng = np.random.default_rng(0)
    x, y, a = (rng.standard_normal(size).astype(np.float32) for size in (shape, shape, shape[-1:]))
    found = {}
    with constants(
        compiled_rows__FEW=0, **({} if NUMBA else {"compiled_rows__PIECE": 600, "compiled_rows__LEAST": 600})
    ):
        for n in (1, 2, 3, 8):
            use_threads(n)
            found[n] = list(some_results(x, y, a))
        with constants(compiled_rows__PIECE=900, compiled_rows__LEAST=900, compiled_rows__WIDE=100):
            other = list(some_results(x, y, a))
    for n in (2, 3, 8):
        for one, wanted in zip(found[n], found[1], strict=True):
            np.testing.assert_array_equal(one, wanted, strict=True)
    assert any((one != wanted).any() for one, wanted in zip(other, found[1], strict=True))  # it could have shown
