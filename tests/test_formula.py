"""Formulas: one text, and the same elements from NumPy's calls, from NumPy block by block and from a CUDA kernel.

`f.function` is the formula as Python has it: what every target is compared with, bit for bit but for exp and its like.
"""

import shutil
from itertools import combinations, product
from math import inf, nan

import numpy as np
import pytest
from drawn import LAYOUTS, constants, drawn, laid, layouts, poison, seeds
from hypothesis import given
from hypothesis import strategies as st
from kernel_sources import FLOATS, kernels_on_the_standin

from scratchgen.backend import formula, numpy_ops
from scratchgen.backend.formula import COMPARISONS, REAL
from scratchgen.backend.numpy_ops import formula as numpy_calls

ROUNDED = ("cos", "exp", "expm1", "log", "log1p", "sin", "tanh")  # by each library in its own way
UNARY = ("absolute", "negative", "sqrt", "square", *ROUNDED)
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
COMPARED = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
BLOCKS = {"rows__FEW": 0, "rows__BLOCK": 12, "rows__WIDE": 6, "rows__LONG": 8}

TARGETS = ("called", "at once", "in blocks", "standin")
every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True)
def uninitialised_memory_is_not_a_number(monkeypatch):
    poison(monkeypatch)


@pytest.fixture(scope="module")
def standin_ops():
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to run CUDA sources on the CPU")
    with kernels_on_the_standin() as ops:
        yield ops


@pytest.fixture
def run(request):
    """run(target, "elementwise", f, x, y): what that target makes of NumPy arrays, as NumPy arrays."""

    def run(target, operation, f, *arguments, **options):
        if target == "standin":
            ops = request.getfixturevalue("standin_ops")
            there = [ops.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a for a in arguments]
            found = getattr(ops, operation)(f, *there, **options)
            return tuple(a.get() for a in found) if isinstance(found, tuple) else found.get()
        sizes = {"called": {}, "at once": BLOCKS | {"rows__BLOCK": 1 << 20, "rows__LONG": 1}, "in blocks": BLOCKS}
        with constants(**sizes[target]), np.errstate(all="ignore"):
            return getattr(numpy_ops, operation)(f, *arguments, **options)

    return run


def written(text: str):
    """The formula of this text, in NumPy's names."""
    return formula(eval(text, {"np": np}))


def plainly(f, *arguments):
    with np.errstate(all="ignore"):
        return f.function(*arguments)


def same(found, wanted, rounded=False):
    """Equal bit for bit, but for 0 and −0, or in a few roundings."""
    wanted = np.asarray(wanted)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if rounded:
        np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(wanted.dtype).eps)
    else:
        np.testing.assert_array_equal(found, wanted)


SPECIAL = (0.0, -0.0, inf, -inf, nan, 1.0, -1.0)
SHAPES = [(7, 5), (3, 1), (1, 9), (2, 3, 4, 3), (11,), (1,), (64, 3), (5, 16)]


def some(shape, dtype, seed=0):
    """x, y of this shape, a, b of one value a channel, s of one for all, n a plain number; all kinds of elements."""
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(0, 2, shape).astype(dtype) for _ in range(2))
    for k, value in enumerate(SPECIAL):
        if k < x.size // 2:
            x.flat[k] = value
            y.flat[(k * k) % y.size] = value
    y.flat[-1] = x.flat[-1]
    a, b = (rng.normal(0, 2, shape[-1:]).astype(dtype) for _ in range(2))
    return {"x": x, "y": y, "a": a, "b": b, "s": np.array(1.25, dtype), "n": 0.3, "m": 3}


def arguments_of(f, named):
    return [named[name] for name in f.program.arguments]


# --- every function, on every kind of argument ---


def test_every_function_is_tested(standin_ops):
    from scratchgen.backend.cupy_ops.formula import TEXTS

    assert {*UNARY, *BINARY} == set(REAL)
    assert set(COMPARED) == set(COMPARISONS)
    assert set(TEXTS) == {*UNARY, *BINARY, *COMPARED, "where"}
    assert set(numpy_calls.FUNCTIONS) == set(TEXTS) | {"scale_unless", "copyto"}


@every_target
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_each_function_of_one_value_is_numpys(run, name, dtype, target):
    for text, shape in product((f"lambda x: np.{name}(x)", f"lambda x, a: x + np.{name}(a)"), [(7, 5), (64, 3)]):
        f, named = written(text), some(shape, dtype)
        arguments = arguments_of(f, named)
        same(run(target, "elementwise", f, *arguments), plainly(f, *arguments), name in ROUNDED)


@every_target
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY + COMPARED)
def test_each_function_of_two_values_is_numpys(run, name, dtype, target):
    """Of each kind with each other; a comparison becomes 0 or 1 beside x."""
    for one, other in ("xy", "yx", "xa", "ax", "xs", "sx", "xn", "nx", "xm", "ab", "as", "na"):
        text = f"np.{name}({one}, {other})"
        text = f"x * {text}" if name in COMPARED else f"x + {text}" if "x" not in one + other else text
        f = written(f"lambda {', '.join(dict.fromkeys('x' + one + other))}: {text}")
        arguments = arguments_of(f, some((64, 3), dtype))
        same(run(target, "elementwise", f, *arguments), plainly(f, *arguments))


CHOICES = [
    "lambda x, y: np.where(x > y, x, y)",
    "lambda x, y: np.where(x > y, 1, y)",
    "lambda x, y: np.where(y > 0, x, 0.5)",
    "lambda x, y: np.where(y > 0, x, x > 1)",
    "lambda x, y: np.where(y > 0, x < 1, x)",
    "lambda x, a: np.where(a > 0, x, a)",
    "lambda x, a, b: np.where(x > 0, a, b)",
    "lambda x, a, b: np.where(x > 0, a, 2)",
    "lambda x, a, b: x + np.where(a > b, a, b)",
    "lambda x, s: np.where(s > 0, x, -x)",
    "lambda x, s: np.where(x > 0, s, -1)",
    "lambda x, n: np.where(x > n, n, x)",
    "lambda x: np.where(x > 0, x, -np.inf)",
    "lambda x: np.where(x > 0, np.nan, x)",
    "lambda x, y, n: np.where(x > 0, y, n * y)",
    "lambda x, y, n: np.where(x > 0, y, y * n)",
    "lambda x, y, n: np.where(x > 0, n * y, y)",
    "lambda x, y, n: np.where(x > 0, y, n * x)",
    "lambda x, y, s: np.where(x > 0, y, s * y)",
    "lambda x, n: np.where(x > 0, x, n * x) + n * x",
    "lambda x, a: np.where(x > 0, a, 2 * a)",
    "lambda x: np.where(x > 0, x, x * x)",
    "lambda x: np.where(x > 0, x, 0 * x)",
    "lambda x: np.where(x > 0, x, -0.0 * x)",
    "lambda x: np.where(x > 0, x + 1, 0.2 * (x + 1))",
    "lambda x, y: (lambda c: np.where(x > 0, c, 0.2 * c) * c)(x + y)",
]


@every_target
@pytest.mark.parametrize("text", CHOICES)
def test_choices(run, text, target):
    f = written(text)
    for dtype, shape in product(FLOATS, [(7, 5), (64, 3)]):
        arguments = arguments_of(f, some(shape, dtype))
        same(run(target, "elementwise", f, *arguments), plainly(f, *arguments))


@pytest.mark.parametrize("factor", [0, -0.0, 0.2, 1, 1.5, -1.5, inf, -inf, nan, 1e-50])
def test_a_share_below_zero_by_any_factor(run, factor):
    """np.where(c, x, k · x), the form for which the CPU has a call of its own; the sign of zeros too."""
    f = written("lambda x, k: np.where(x > 0, x, k * x)")
    for dtype in FLOATS:
        x = some((64, 3), dtype)["x"]
        wanted = plainly(f, x, factor)
        for target in TARGETS[:3]:
            found = run(target, "elementwise", f, x, factor)
            same(found, wanted)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


OPERATORS = [
    "lambda x, y: 1 - x / (2 + abs(y)) * -x",
    "lambda x, y: 0.3 / (x * x + 1) - y**2",
    "lambda x, y: (x > y) * y + (x <= 0) * (2 * y) + (x != y) * ((y >= 1) * x)",
    "lambda x, y: abs(x) ** 0.5 - 1.5 * y",
    "lambda x, y: (x > 0) + y",
    "lambda x, y: (x == y) * x - (y < x) * y",
    "lambda x, y: x",
    "lambda x, y: y",
    "lambda x, a, b: (x - a) * (b * b + 1)",
    "lambda x, n, m: x * (1 - n) + (n * m - 2 / m) * -n",
    "lambda x, a, n: x + a * (1 - n) / n",
    "lambda x, s: (x - s) * (s * s)",
    "lambda x: x * 0.0 + 1 / (x * -0.0)",
    "lambda x: x * 1e300 * 1e-300" if False else "lambda x: x * 1e30 * 1e-30",
    "lambda x: x * 3000000000 - 9007199254740993",
]


@every_target
@pytest.mark.parametrize("text", OPERATORS)
def test_operators(run, text, target):
    f = written(text)
    for dtype, shape in product(FLOATS, SHAPES):
        arguments = arguments_of(f, some(shape, dtype))
        found = run(target, "elementwise", f, *arguments)
        same(found, plainly(f, *arguments))
        assert not any(np.shares_memory(found, a) for a in arguments)


@every_target
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arguments_however_they_lie_in_memory(run, layout, target):
    """And none is written into: they are read-only here."""
    f = written("lambda x, y, a, s: np.where(x > a, x * y, 0.2 * (x * y)) - (y - a) * s")
    g = written("lambda x, y, a, s: (x - a, x * y, y, np.where(y > 0, x, s), x)")
    for shape in SHAPES:
        named = some(shape, np.float32)
        named |= {name: laid(layout, named[name]) for name in "xya"}
        arguments = arguments_of(f, named)
        same(run(target, "elementwise", f, *arguments), plainly(f, *arguments))
        for found, wanted in zip(
            run(target, "sum_with_map", g, *arguments)[1:], plainly(g, *arguments)[1:], strict=True
        ):
            same(found, wanted)
            assert not any(np.shares_memory(found, a) for a in arguments)


def test_nothing_to_do(run):
    empty = np.ones((0, 3), np.float32)
    for target in TARGETS:
        assert run(target, "elementwise", written("lambda x: x + 1"), empty).shape == (0, 3)
        np.testing.assert_array_equal(run(target, "channel_sums", written("lambda x: (x + 1,)"), empty)[0], [0, 0, 0])


# --- terms ---

TERMS = [
    "lambda x, y: (x, x * y, x - y)",
    "lambda x, y: (x, y, x)",
    "lambda x, y: (x + y, x + y, x)",
    "lambda x, y: (lambda v: (v, v, v * v))(x * y)",
    "lambda x, y: (lambda v: (v * v, v, v))(x * y)",
    "lambda x, y: (lambda v: (np.where(v > 0, v, 0.2 * v), v, x))(x * y)",
    "lambda x, y: (lambda v: (v, np.where(x > y, v, y), v + (x > y)))(x * y)",
    "lambda x, a: (x, x * a, (x - a) * x)",
]


@pytest.mark.parametrize("text", TERMS)
def test_terms_that_are_written_and_terms_that_are_not(text):
    """Every choice of them: what is written is in the array that was given, all of it, whoever reads it afterwards."""
    f = written(text)
    arguments = arguments_of(f, some((6, 5), np.float32))
    arguments = [a if a.ndim == 2 else a[None] for a in arguments]
    wanted = plainly(f, *arguments)
    plan = f.plan([a if len(a) == 6 else a[0] for a in arguments], several=True)
    for count in range(4):
        for chosen in combinations(range(3), count):
            calls = numpy_calls.calls(plan, chosen)
            into = [np.full((6, 5), np.nan, np.float32) for _ in chosen]
            terms = calls.all_at_once(arguments, into)
            for found, right in zip((*terms, *into), (*wanted, *(wanted[n] for n in chosen)), strict=True):
                np.testing.assert_array_equal(found, right)
            into = [np.full((6, 5), np.nan, np.float32) for _ in chosen]
            blocks = [slice(0, 4), slice(4, 6)]
            for block, terms in zip(blocks, calls.by_blocks(arguments, into, blocks), strict=True):
                for found, right in zip(terms, wanted, strict=True):
                    np.testing.assert_array_equal(found, right[block])
            for found, n in zip(into, chosen, strict=True):
                np.testing.assert_array_equal(found, wanted[n])


@every_target
@pytest.mark.parametrize("text", TERMS)
def test_sums_and_the_terms_beside_them(run, text, target):
    """Of integers, whose sums are exact. All are arrays of their own."""
    f, rng = written(text), np.random.default_rng(0)
    for dtype, shape in product(FLOATS, [(7, 5), (64, 3), (4, 3, 2), (50,)]):
        named = {name: rng.integers(-4, 5, shape).astype(dtype) for name in "xy"}
        named["a"] = rng.integers(-4, 5, shape[-1:]).astype(dtype)
        arguments = arguments_of(f, named)
        wanted = plainly(f, *arguments)
        exact = [np.asarray(term, np.float64) for term in wanted]
        total, *others = run(target, "sum_with_map", f, *arguments, over=4)
        np.testing.assert_allclose(total, exact[0].sum() / 4, rtol=1e-6)
        assert total.dtype == dtype
        for found, right in zip(others, wanted[1:], strict=True):
            same(found, right)
        held = [*arguments, *others]
        assert not any(np.shares_memory(a, b) for a, b in combinations(held, 2))
        for found, right in zip(run(target, "channel_sums", f, *arguments), exact, strict=True):
            np.testing.assert_allclose(found, right.reshape(-1, shape[-1]).sum(axis=0), rtol=1e-6, atol=1e-6)
            assert found.dtype == dtype


# --- random programs ---


@st.composite
def programs(draw, most=14):
    """A formula as text. Each value is made of others before it, and may be read much later, or never, or be a term
    several times; only what formulas may do is drawn. Nothing is divided: that would tell 0 from −0."""
    rows, channels, numbers = ("x", "y"), ("a", "b"), ("n", "m", "2", "0.3")
    values = [(v, "e") for v in rows] + [(v, "c") for v in channels] + [("s", "s")] + [(v, "n") for v in numbers]
    truths, lines = [("(x > y)", "e"), ("(a < b)", "c")], []

    def pick(among):
        """Often one of the last few."""
        among = among[-4:] if draw(st.booleans()) else among
        return draw(st.sampled_from(among))

    def kind(*operands):
        return max((k for _, k in operands), key="nsce".index)

    for i in range(draw(st.integers(1, most))):
        form = draw(
            st.sampled_from(["two"] * 4 + ["one", "comparison", "choice", "choice of truth", "share", "truth"])
        )
        one, other, truth = pick(values), pick(values), pick(truths)
        if form in ("one", "comparison", "choice", "choice of truth", "share", "truth") and one[1] == "n":
            one = pick(values[:5])
        made_of = {"one": [one], "truth": [truth, one], "two": [one, other], "comparison": [one, other]}
        if form == "two" and kind(one, other) == "n":
            made = f"{one[0]} {draw(st.sampled_from('+-'))} {other[0]}"
        elif form == "two":
            made = f"np.{draw(st.sampled_from(('add', 'subtract', 'multiply', 'maximum', 'minimum')))}({one[0]}, {other[0]})"
        elif form == "one":
            made = f"np.{draw(st.sampled_from(('absolute', 'negative', 'square')))}({one[0]})"
        elif form == "comparison":
            made = f"np.{draw(st.sampled_from(COMPARED))}({one[0]}, {other[0]})"
        elif form == "truth":
            made = f"{truth[0]} * {one[0]}"
        elif form == "share":
            factor = draw(st.sampled_from(["n", "m", "0.3", "s", "-0.5"]))
            lines.append(f"w{i} = {factor} * {one[0]}")
            values.append((f"w{i}", kind(one)))
            made, made_of[form] = f"np.where({truth[0]}, {one[0]}, w{i})", [truth, one]
        else:
            branch = pick(truths) if form == "choice of truth" else other
            branches = (one, branch) if draw(st.booleans()) else (branch, one)
            made = f"np.where({truth[0]}, {branches[0][0]}, {branches[1][0]})"
            made_of[form] = [truth, one, branch]
        lines.append(f"v{i} = {made}")
        (truths if form == "comparison" else values).append((f"v{i}", kind(*made_of[form])))
    terms = [pick([name for name, k in values if k == "e"]) for _ in range(draw(st.integers(2, 4)))]
    body = "".join(f"    {line}\n" for line in lines)
    return f"def f(x, y, a, b, s, n, m):\n{body}    return {', '.join(terms)}\n"


def compiled(text):
    names = {"np": np}
    exec(text, names)
    return formula(names["f"])


SIZES = st.fixed_dictionaries(
    {
        "rows__FEW": st.just(0),
        "rows__BLOCK": st.sampled_from([1, 5, 24, 1 << 17]),
        "rows__WIDE": st.sampled_from([1, 4, 30, 4096]),
        "rows__LONG": st.sampled_from([1, 4, 64]),
    }
)


def random_arguments(f, shape, dtype, seed, one="C", other="C"):
    named = some(shape, dtype, seed)
    named |= {"x": laid(one, named["x"]), "y": laid(other, named["y"]), "a": laid(other, named["a"])}
    return arguments_of(f, named)


@drawn(500)
@given(programs(), seeds, st.sampled_from(SHAPES), layouts, layouts, SIZES, st.sampled_from(FLOATS))
def test_any_program_in_blocks_is_itself(text, seed, shape, one, other, sizes, dtype):
    f = compiled(text)
    arguments = random_arguments(f, shape, dtype, seed, one, other)
    wanted = plainly(f, *arguments)
    with constants(**sizes), np.errstate(all="ignore"):
        _, *others = numpy_ops.sum_with_map(f, *arguments)
        terms = numpy_calls.calls(f.plan(arguments, several=True)).all_at_once(arguments, [])
    for found, right in zip((*others, *terms), (*wanted[1:], *wanted), strict=True):
        same(found, right)


@drawn(25)
@given(programs(24), seeds, st.sampled_from(FLOATS))
def test_any_program_as_a_kernel_is_itself(standin_ops, text, seed, dtype):
    f = compiled(text)
    for shape in SHAPES:
        arguments = random_arguments(f, shape, dtype, seed)
        there = [standin_ops.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        _, *others = standin_ops.sum_with_map(f, *there)
        for found, right in zip(others, plainly(f, *arguments)[1:], strict=True):
            same(found.get(), right)


def test_the_programs_drawn_have_what_matters():
    seen = set()

    @drawn(500)
    @given(programs())
    def look(text):
        f = compiled(text)
        arguments = random_arguments(f, (6, 5), np.float32, 0)
        plan = f.plan(arguments, several=True)
        calls = numpy_calls.calls(plan, tuple(range(1, len(f.program.results))))
        read = [p for op in f.program.operations for p in op.operands]
        seen.update(
            what
            for what, so in {
                "a value that nobody reads": len(calls.text.splitlines()) < len(f.program.operations),
                "one value several times a term": len(set(f.program.results)) < len(f.program.results),
                "an argument as a term": min(f.program.results) < 2,
                "a share": "scale_unless" in calls.text,
                "a choice": "where" in calls.text,
                "what is made once": bool(calls.once),
                "numbers of numbers": bool(plan._made),
                "four pieces of memory": len(calls.pieces) >= 4,
                "pieces of truth values": any(calls.pieces),
                "a piece written over": calls.text.count("out=m0") > 1,
                "a term that is read": any(p in read and p > 6 for p in f.program.results),
                "a truth value as a branch": any(
                    op.name == "where" and plan.booleans & set(op.operands[1:]) for op in f.program.operations
                ),
            }.items()
            if so
        )

    look()
    assert len(seen) == 12, seen
