"""Formulas: one text, and the same elements from NumPy's calls, from NumPy block by block and from a CUDA kernel.

`f.function` is the formula as Python has it: what every target is compared with, bit for bit but for exp and such.
"""

import re
import shutil
from itertools import combinations
from math import inf, nan

import numpy as np
import pytest
from drawn import LAYOUTS, constants, drawn, laid, layouts, loops_as_python, poison, seeds
from hypothesis import given
from hypothesis import strategies as st
from kernel_sources import FLOATS, kernels_on_the_standin

from scratchgen import BatchNorm, LeakyReLU, ReLU, Sigmoid, Tanh, functions, losses
from scratchgen.backend import compiled, formula, numpy_ops
from scratchgen.backend.compiled.formula import TEXTS as loop_texts
from scratchgen.backend.formula import COMPARISONS, REAL, _Trace
from scratchgen.backend.numpy_ops import formula as numpy_calls
from scratchgen.layers import activations, batchnorm
from scratchgen.models import gan, vae

ROUNDED = ("cos", "exp", "expm1", "log", "log1p", "sin", "tanh")  # by each library in its own way
UNARY = ("absolute", "negative", "sqrt", "square", *ROUNDED)
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
COMPARED = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")

IN_BLOCKS = {"rows__FEW": 0, "rows__BLOCK": 12, "rows__WIDE": 6, "rows__LONG": 8}
AT_ONCE = {"rows__FEW": 0, "rows__BLOCK": 1 << 20, "rows__LONG": 1}
IN_PIECES = {
    "compiled_rows__FEW": 0,
    "compiled_rows__PIECE": 24,
    "compiled_rows__LEAST": 24,
    "compiled_rows__WIDE": 7,
}
TARGETS = {"called": {}, "at once": AT_ONCE, "in blocks": IN_BLOCKS, "loops": IN_PIECES}  # on NumPy
SHAPES = [(7, 5), (3, 1), (1, 9), (2, 3, 4, 3), (11,), (1,), (64, 3), (5, 16)]


@pytest.fixture(autouse=True)
def uninitialised_memory_is_not_a_number(monkeypatch):
    poison(monkeypatch)


@pytest.fixture(scope="module")
def standin_ops():
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to run CUDA sources on the CPU")
    with kernels_on_the_standin() as ops:
        yield ops


def written(body: str):
    """The formula of this text, with as many of the arguments x, y, a, b, s, n and m as it names, x the first."""
    names = dict.fromkeys(["x", *re.findall(r"\b[xyabsnm]\b", body)])
    return formula(eval(f"lambda {', '.join(names)}: {body}", {"np": np}))


def some(shape, dtype, seed=0):
    """x, y of this shape, a, b of one value a channel, s of one for all, plain numbers n, m; every kind of value."""
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(0, 2, shape).astype(dtype) for _ in range(2))
    for k, value in enumerate((0.0, -0.0, inf, -inf, nan, 1.0, -1.0)):
        if k < x.size // 2:
            x.flat[k] = value
            y.flat[(k * k) % y.size] = value
    y.flat[-1] = x.flat[-1]
    a, b = (rng.normal(0, 2, shape[-1:]).astype(dtype) for _ in range(2))
    return {"x": x, "y": y, "a": a, "b": b, "s": np.array(1.25, dtype), "n": 0.3, "m": 3}


def arguments_of(f, named):
    return [named[name] for name in f.program.arguments]


def plainly(f, *arguments):
    with np.errstate(all="ignore"):
        return f.function(*arguments)


def on_numpy(target, operation, f, *arguments, **options):
    ops = compiled if target == "loops" else numpy_ops
    with constants(**TARGETS[target]), loops_as_python(), np.errstate(all="ignore"):
        return getattr(ops, operation)(f, *arguments, **options)


def same(found, wanted, rounded=False, what=""):
    """Equal bit for bit, but for 0 and −0; or in a few roundings."""
    wanted = np.asarray(wanted)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), what
    if rounded:
        np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(wanted.dtype).eps, err_msg=what)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=what)


def check_on_numpy(bodies, dtype, shapes, rounded=False):
    """Each by itself, on every target of NumPy's."""
    for body in bodies:
        f = written(body)
        for shape in shapes:
            arguments = arguments_of(f, some(shape, dtype))
            wanted = plainly(f, *arguments)
            for target in TARGETS:
                found = on_numpy(target, "elementwise", f, *arguments)
                same(found, wanted, rounded, f"{body} {target}")
                assert not any(np.shares_memory(found, a) for a in arguments)


def check_as_a_kernel(ops, bodies, dtype, shapes, rounded=False):
    """All of them as the terms of one kernel, which is compiled once."""
    f = written(f"(x, {', '.join(bodies)}, 0 * (x + y + a + b + s + n + m))")
    for shape in shapes:
        arguments = arguments_of(f, some(shape, dtype))
        there = [ops.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        _, *others = ops.sum_with_map(f, *there)
        for body, found, wanted in zip(bodies, others, plainly(f, *arguments)[1:], strict=False):
            same(found.get(), wanted, rounded, body)


# --- every function, on every kind of argument ---


def test_every_function_is_tested(standin_ops):
    from scratchgen.backend.cupy_ops.formula import TEXTS

    assert {*UNARY, *BINARY} == set(REAL)
    assert set(COMPARED) == set(COMPARISONS)
    assert set(TEXTS) == {*UNARY, *BINARY, *COMPARED, "where"}
    assert set(loop_texts) == set(TEXTS) - {"cos", "sin"}  # these NumPy does
    assert set(numpy_calls.FUNCTIONS) == set(TEXTS) | {"scale_unless", "scale_unless_positive", "copyto"}


def of_one(name):
    return [f"np.{name}(x)", f"x * np.{name}(a)", f"x * np.{name}(s)"]


def of_two(name):
    """Of each kind with each other; a comparison becomes 0 or 1 beside x."""
    for one, other in ("xy", "yx", "xa", "ax", "xs", "sx", "xn", "nx", "xm", "ab", "as", "na"):
        body = f"np.{name}({one}, {other})"
        yield f"y * {body}" if name in COMPARED else f"x + {body}" if "x" not in one + other else body


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY + BINARY + COMPARED)
def test_each_function_is_numpys(name, dtype):
    bodies = of_one(name) if name in UNARY else of_two(name)
    check_on_numpy(bodies, dtype, [(64, 3)], name in ROUNDED)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("names", [UNARY[:4], ROUNDED, BINARY, COMPARED], ids=lambda names: names[0])
def test_each_function_is_numpys_in_a_kernel(standin_ops, names, dtype):
    bodies = [body for name in names for body in (of_one(name) if name in UNARY else of_two(name))]
    check_as_a_kernel(standin_ops, bodies, dtype, [(64, 3)], names is ROUNDED)


CHOICES = [
    "np.where(x > y, x, y)",
    "np.where(x > y, 1, y)",
    "np.where(y > 0, x, 0.5)",
    "np.where(y > 0, x, x > 1)",
    "np.where(y > 0, x < 1, x)",
    "np.where(a > 0, x, a)",
    "np.where(x > 0, a, b)",
    "np.where(x > 0, a, 2)",
    "x + np.where(a > b, a, b)",
    "np.where(s > 0, x, -x)",
    "np.where(x > 0, s, -1)",
    "np.where(x > n, n, x)",
    "np.where(x > 0, x, -np.inf)",
    "np.where(x > 0, np.nan, x)",
    "np.where(x > 0, y, n * y)",
    "np.where(x > 0, y, y * n)",
    "np.where(x > 0, n * y, y)",
    "np.where(x > 0, y, n * x)",
    "np.where(x > 0, y, s * y)",
    "np.where(x > 0, x, n * x) + n * x",
    "np.where(x > 0, a, 2 * a)",
    "np.where(x > 0, x, x * x)",
    "np.where(x > 0, x, 0 * x)",
    "np.where(x > 0, x, -0.0 * x)",
    "np.where(x > 0, x, 1.5 * x)",
    "np.where(x > 0, x, -0.5 * x)",
    "np.where(y > 0, x, 1.5 * x)",
    "np.where(x > 0.5, x, 0.2 * x)",
    "np.where(x >= 0, x, 0.2 * x)",
    "np.where(x > 0, x + 1, 0.2 * (x + 1))",
    "(lambda c: np.where(x > 0, c, 0.2 * c) * c)(x + y)",
    "(lambda c: np.where(x > 0, c, 0.2 * c))(x + y) * y",
    "(lambda c, t: np.where(t > c, t, t * n) - c * t)(x - y, x * y)",
]
OPERATORS = [
    "1 - x / (2 + abs(y)) * -x",
    "0.3 / (x * x + 1) - y**2",
    "(x > y) * y + (x <= 0) * (2 * y) + (x != y) * ((y >= 1) * x)",
    "abs(x) ** 0.5 - 1.5 * y",
    "(x > 0) + y",
    "(x == y) * x - (y < x) * y",
    "x",
    "y * 1",
    "(x - a) * (b * b + 1)",
    "x * (1 - n) + (n * m - 2 / m) * -n",
    "x + a * (1 - n) / n",
    "(x - s) * (s * s)",
    "x * 0.0 + 1 / (x * -0.0)",
    "x * 1e30 * 1e-30",
    "x * 3000000000 - 9007199254740993",
]


@pytest.mark.parametrize("dtype", FLOATS)
def test_choices(dtype):
    check_on_numpy(CHOICES, dtype, [(7, 5), (64, 3)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_operators(dtype):
    check_on_numpy([*OPERATORS, "y"], dtype, SHAPES)


@pytest.mark.parametrize("dtype", FLOATS)
def test_choices_and_operators_in_a_kernel(standin_ops, dtype):
    check_as_a_kernel(standin_ops, CHOICES + OPERATORS, dtype, SHAPES)


def test_the_kernel_for_one_value(standin_ops):
    """Of few elements and many, and with 0-d arrays, channels and numbers among its arguments."""
    f = written("(x - a) * s + n * x")
    for shape in [*SHAPES, (5000, 7), (0, 3)]:
        arguments = arguments_of(f, some(shape, np.float32) if 0 not in shape else some_of_nothing(shape))
        there = [standin_ops.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        same(standin_ops.elementwise(f, *there).get(), plainly(f, *arguments))


def some_of_nothing(shape):
    return {**some((2, 3), np.float32), "x": np.ones(shape, np.float32)}


@pytest.mark.parametrize("factor", [0, -0.0, 0.2, 1, 1.5, -1.5, inf, -inf, nan, 1e-50])
def test_a_share_below_zero_by_any_factor(factor):
    """np.where(c, x, k · x), the form for which the CPU has a call of its own; the sign of zeros too."""
    f = written("np.where(x > 0, x, n * x)")
    for dtype in FLOATS:
        x = some((64, 3), dtype)["x"]
        wanted = plainly(f, x, factor)
        for target in TARGETS:
            found = on_numpy(target, "elementwise", f, x, factor)
            same(found, wanted)
            np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted), err_msg=target)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arguments_however_they_lie_in_memory(layout):
    """And none is written into: they are read-only here."""
    f = written("np.where(x > a, x * y, 0.2 * (x * y)) - (y - a) * s")
    g = written("(x - a, x * y, y, np.where(y > 0, x, s), x)")
    for shape in SHAPES:
        named = some(shape, np.float32)
        named |= {name: laid(layout, named[name]) for name in "xya"}
        one, several = arguments_of(f, named), arguments_of(g, named)
        for target in TARGETS:
            same(on_numpy(target, "elementwise", f, *one), plainly(f, *one))
            _, *others = on_numpy(target, "sum_with_map", g, *several)
            for found, wanted in zip(others, plainly(g, *several)[1:], strict=True):
                same(found, wanted)
                assert not any(np.shares_memory(found, a) for a in several)


def test_parts_of_arrays_of_a_device(standin_ops):
    """What does not lie in one piece is copied first: a kernel counts on it."""
    x = np.random.default_rng(4).standard_normal((6, 8)).astype(np.float32)
    there = standin_ops.from_numpy(x)
    same(written("x + 1")(there[:, :3]).get(), x[:, :3] + 1)
    same(written("x - a")(there[:, 4:], there[0, :4]).get(), x[:, 4:] - x[0, :4])
    same(written("x - a")(there.T, there[:, 0]).get(), x.T - x[:, 0])
    np.testing.assert_allclose(standin_ops.channel_sum(there.T).get(), x.T.sum(axis=0), rtol=1e-5)


def test_nothing_to_do(standin_ops):
    empty = np.ones((0, 3), np.float32)
    for ops in (numpy_ops, standin_ops):
        x = ops.from_numpy(empty)
        assert written("x + 1")(x).shape == (0, 3)
        np.testing.assert_array_equal(ops.to_numpy(ops.channel_sums(written("(x + 1,)"), x)[0]), [0, 0, 0])


# --- terms ---

TERMS = [
    "(x, x * y, x - y)",
    "(x, y, x)",
    "(x + y, x + y, x)",
    "(lambda v: (v, v, v * v))(x * y)",
    "(lambda v: (v * v, v, v))(x * y)",
    "(lambda v: (np.where(v > 0, v, 0.2 * v), v, x))(x * y)",
    "(lambda v: (v, np.where(x > y, v, y), v + (x > y)))(x * y)",
    "(x, x * a, (x - a) * x)",
]


@pytest.mark.parametrize("body", TERMS)
def test_terms_that_are_written_and_terms_that_are_not(body):
    """Every choice of them: what is written is in the array that was given, whoever reads it afterwards."""
    f = written(body)
    arguments = arguments_of(f, some((6, 5), np.float32))
    plan, wanted = f.plan(arguments, several=True), plainly(f, *arguments)
    arguments = [a if a.ndim == 2 else a[None] for a in arguments]  # as `rows` gives them
    blocks = [slice(0, 4), slice(4, 6)]
    for chosen in (chosen for count in range(4) for chosen in combinations(range(3), count)):
        calls = numpy_calls.calls(plan, chosen)
        into = [np.full((6, 5), np.nan, np.float32) for _ in chosen]
        for found, right in zip(calls.all_at_once(arguments, into), wanted, strict=True):
            same(found, right)
        for found, n in zip(into, chosen, strict=True):
            same(found, wanted[n])
        into = [np.full((6, 5), np.nan, np.float32) for _ in chosen]
        for block, terms in zip(blocks, calls.by_blocks(arguments, into, blocks), strict=True):
            for found, right in zip(terms, wanted, strict=True):
                same(found, right[block])
        for found, n in zip(into, chosen, strict=True):
            same(found, wanted[n])


def check_sums(sums, body, shape, dtype):
    """Of integers, whose sums are exact. All are arrays of their own."""
    f, rng = written(body), np.random.default_rng(0)
    named = {name: rng.integers(-4, 5, shape).astype(dtype) for name in "xy"}
    named["a"] = rng.integers(-4, 5, shape[-1:]).astype(dtype)
    arguments = arguments_of(f, named)
    wanted = plainly(f, *arguments)
    exact = [np.asarray(term, np.float64) for term in wanted]
    total, *others = sums("sum_with_map", f, *arguments, over=4)
    np.testing.assert_allclose(total, exact[0].sum() / 4, rtol=1e-6)
    assert (total.shape, total.dtype) == ((), dtype)
    for found, right in zip(others, wanted[1:], strict=True):
        same(found, right)
    assert not any(np.shares_memory(a, b) for a, b in combinations([*arguments, *others], 2))
    for found, right in zip(sums("channel_sums", f, *arguments), exact, strict=True):
        np.testing.assert_allclose(found, right.reshape(-1, shape[-1]).sum(axis=0), rtol=1e-6, atol=1e-6)
        assert found.dtype == dtype


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("body", TERMS)
def test_sums_and_the_terms_beside_them(body, target):
    for dtype in FLOATS:
        for shape in ((7, 5), (64, 3), (4, 3, 2), (50,)):
            check_sums(lambda *args, **options: on_numpy(target, *args, **options), body, shape, dtype)


def test_sums_and_the_terms_beside_them_in_kernels(standin_ops):
    def there(operation, f, *arguments, **options):
        found = getattr(standin_ops, operation)(f, *map(standin_ops.from_numpy, arguments), **options)
        return [a.get() for a in found]

    for body in TERMS:
        for shape in ((64, 3), (50,)):
            check_sums(there, body, shape, np.float32)


# --- random programs ---

FORMS = ["one", "comparison", "choice", "choice of truth", "share", "truth"]


@st.composite
def programs(draw, most=14):
    """A formula as text. Each value is made of others before it, and may be read much later, or never, or be a term
    several times; only what formulas may do is drawn. Nothing is divided: that would tell 0 from −0."""
    rows, channels, numbers = ("x", "y"), ("a", "b"), ("n", "m", "2", "0.3")
    values = [(v, "e") for v in rows] + [(v, "c") for v in channels] + [("s", "s")] + [(v, "n") for v in numbers]
    truths, lines = [("(x > y)", "e"), ("(a < b)", "c")], []

    def pick(among):
        """Often one of the last few."""
        return draw(st.sampled_from(among[-4:] if draw(st.booleans()) else among))

    def kind(*operands):
        return max((k for _, k in operands), key="nsce".index)

    for i in range(draw(st.integers(1, most))):
        form = draw(st.sampled_from(["two"] * 4 + FORMS))
        one, other, truth = pick(values), pick(values), pick(truths)
        if form in FORMS and one[1] == "n":
            one = draw(st.sampled_from(values[:5]))
        made_of = [one, other]
        if form == "two" and kind(one, other) == "n":
            made = f"{one[0]} {draw(st.sampled_from('+-'))} {other[0]}"
        elif form == "two":
            two = draw(st.sampled_from(("add", "subtract", "multiply", "maximum", "minimum")))
            made = f"np.{two}({one[0]}, {other[0]})"
        elif form == "one":
            made, made_of = f"np.{draw(st.sampled_from(('absolute', 'negative', 'square')))}({one[0]})", [one]
        elif form == "comparison":
            made = f"np.{draw(st.sampled_from(COMPARED))}({one[0]}, {other[0]})"
        elif form == "truth":
            made, made_of = f"{truth[0]} * {one[0]}", [truth, one]
        elif form == "share":
            lines.append(f"w{i} = {draw(st.sampled_from(['n', 'm', '0.3', 's', '-0.5']))} * {one[0]}")
            values.append((f"w{i}", kind(one)))
            made, made_of = f"np.where({truth[0]}, {one[0]}, w{i})", [truth, one]
        else:
            branch = pick(truths) if form == "choice of truth" else other
            branches = (one, branch) if draw(st.booleans()) else (branch, one)
            made, made_of = f"np.where({truth[0]}, {branches[0][0]}, {branches[1][0]})", [truth, one, branch]
        lines.append(f"v{i} = {made}")
        (truths if form == "comparison" else values).append((f"v{i}", kind(*made_of)))
    terms = [pick([name for name, k in values if k == "e"]) for _ in range(draw(st.integers(2, 4)))]
    body = "".join(f"    {line}\n" for line in lines)
    return f"def f(x, y, a, b, s, n, m):\n{body}    return {', '.join(terms)}\n"


def defined(text):
    names = {"np": np}
    exec(text, names)
    return formula(names["f"])


SIZES = st.fixed_dictionaries(
    {
        "rows__FEW": st.just(0),
        "rows__BLOCK": st.sampled_from([1, 5, 24, 1 << 17]),
        "rows__WIDE": st.sampled_from([1, 4, 30, 4096]),
        "rows__LONG": st.sampled_from([1, 4, 64]),
        "compiled_rows__FEW": st.just(0),
        "compiled_rows__PIECE": st.sampled_from([1, 5, 24, 1 << 17]),
        "compiled_rows__LEAST": st.sampled_from([1, 5, 24, 1 << 17]),
        "compiled_rows__PIECES": st.sampled_from([1, 3, 1000]),
        "compiled_rows__NARROW": st.sampled_from([1, 7, 512]),
        "compiled_rows__WIDE": st.sampled_from([1, 4, 30, 4096]),
    }
)


@drawn(400)
@given(programs(), seeds, st.sampled_from(SHAPES), layouts, layouts, SIZES, st.sampled_from(FLOATS))
def test_any_program_in_blocks_is_itself(text, seed, shape, one, other, sizes, dtype):
    f, named = defined(text), some(shape, dtype, seed)
    named |= {"x": laid(one, named["x"]), "y": laid(other, named["y"]), "a": laid(other, named["a"])}
    arguments = arguments_of(f, named)
    wanted = plainly(f, *arguments)
    with constants(**sizes), loops_as_python(), np.errstate(all="ignore"):
        _, *others = numpy_ops.sum_with_map(f, *arguments)
        terms = numpy_calls.calls(f.plan(arguments, several=True)).all_at_once(arguments, [])
        _, *looped = compiled.sum_with_map(f, *arguments)
    for found, right in zip((*others, *terms, *looped), (*wanted[1:], *wanted, *wanted[1:]), strict=True):
        same(found, right)


@drawn(12)
@given(programs(30), seeds, st.sampled_from(FLOATS))
def test_any_program_as_a_kernel_is_itself(standin_ops, text, seed, dtype):
    f = defined(text)
    for shape in SHAPES:
        arguments = arguments_of(f, some(shape, dtype, seed))
        there = [standin_ops.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        _, *others = standin_ops.sum_with_map(f, *there)
        for found, right in zip(others, plainly(f, *arguments)[1:], strict=True):
            same(found.get(), right)


def test_the_programs_drawn_have_what_matters():
    seen = set()

    @drawn(300)
    @given(programs())
    def look(text):
        f = defined(text)
        program = f.program
        plan = f.plan(arguments_of(f, some((6, 5), np.float32)), several=True)
        calls = numpy_calls.calls(plan, tuple(range(1, len(program.results))))
        read = [p for op in program.operations for p in op.operands]
        seen.update(
            what
            for what, so in {
                "a value that nobody reads": len({*read, *program.results} - set(range(-9, 7)))
                < len(program.operations),
                "one value as several terms": len(set(program.results)) < len(program.results),
                "an argument as a term": min(program.results) < 2,
                "a share": "scale_unless" in calls.text,
                "a choice": "where" in calls.text,
                "what is made once": bool(calls.once),
                "numbers of numbers": bool(plan._made),
                "four buffers": len(calls.buffers) >= 4,
                "buffers of booleans": any(calls.buffers),
                "a piece written over": calls.text.count("out=m0") > 1,
                "a term that is read": any(p in read and p > 6 for p in program.results),
                "a boolean as a branch": any(
                    op.name == "where" and plan.booleans & set(op.operands[1:]) for op in program.operations
                ),
            }.items()
            if so
        )

    look()
    assert len(seen) == 12, seen


# --- what is refused ---

X = np.ones((4, 3), np.float32)
OUTSIDE, ARRAY, SWITCH, SEEN = 0.2, np.ones(3, np.float32), True, []


def of_a_local():
    slope = 0.2
    return lambda x: slope * x


def of_an_import(x):
    from math import pi

    return x * pi


def of_one_inside(x):
    return (lambda y: OUTSIDE * y)(x)


def that_hides_it(x):
    try:
        return x if x > 0 else -x
    except TypeError:
        return x


def in_place(x):
    x += 1
    return x


def into_a_part(x):
    x[0] = 1
    return x


def in_a_loop(x):
    for _ in x:
        pass
    return x


def one_by_one(x):
    yield x


def with_a_default(x, slope=0.2):
    return slope * x


def by_name_only(x, *, slope):
    return slope * x


def of_any_number(*x):
    return x[0]


class Callable:
    def __call__(self, x):
        return x


OUTSIDE_IT = "from outside: make that an argument"
TRUTHS_ALONE = "of booleans and plain numbers alone has no float type"
WHEN_DEFINED = [
    # what decides by the values, or asks for one
    (lambda x: x if x > 0 else -x, "may not depend on the values"),
    (lambda x: x and -x, "may not depend on the values"),
    (lambda x: max(x, 0), "may not depend on the values"),
    (lambda x: -x if 0 < x < 1 else x, "may not depend on the values"),
    (that_hides_it, "may not depend on the values"),
    (lambda x: float(x), "neither parts nor"),
    (lambda x: np.array(x), "neither parts nor"),
    # what comes from outside
    (of_a_local(), f"takes slope {OUTSIDE_IT}"),
    (lambda x: OUTSIDE * x, f"takes OUTSIDE {OUTSIDE_IT}"),
    (lambda x: ARRAY * x, f"takes ARRAY {OUTSIDE_IT}"),
    (lambda x: x if SWITCH else -x, f"takes SWITCH {OUTSIDE_IT}"),
    (lambda x: (SEEN.append(x), x)[1], f"takes SEEN {OUTSIDE_IT}"),
    (of_one_inside, f"takes OUTSIDE {OUTSIDE_IT}"),
    (of_an_import, f"takes math {OUTSIDE_IT}"),
    (lambda x: numpy_ops.xp.exp(x), f"takes numpy_ops {OUTSIDE_IT}"),
    (lambda x: x * np.random.random(), "something else each time"),  # noqa: NPY002
    (lambda x: x * np.random.normal(0, 1, 3), "arrays must be among"),  # noqa: NPY002
    (lambda x: x * np.ones(3), "arrays must be among its arguments"),
    (lambda x: x * np.float64(2), "uses a float64 from outside"),
    (lambda x: np.float32(2) * x, "uses a float32 from outside"),
    (lambda x: x * True, "uses a bool from outside"),
    (lambda x: x * 1j, "uses a complex from outside"),
    (lambda x: x * "2", "uses a str from outside"),
    (lambda x: x * None, "uses a NoneType from outside"),
    (lambda x: x * 2**63, r"2\*\*63 or more"),
    # what is more than one element's
    (lambda x: x.sum(), r"\.sum is not known"),
    (lambda x: x - np.sum(x), "np.sum is not known"),
    (lambda x: np.mean(x), "np.mean is not known"),
    (lambda x: np.add.reduce(x), "add.reduce is not known"),
    (lambda x: np.multiply.outer(x, x), "multiply.outer is not known"),
    (lambda x: np.cumsum(x), "np.cumsum is not known"),
    (lambda x: x @ x, "@ is not known"),
    (lambda x: np.matmul(x, x), "matmul is not known"),
    (lambda x: np.dot(x, x), "np.dot is not known"),
    (lambda x: x.T, r"\.T is not known"),
    (lambda x: x * x.shape[0], r"\.shape is not known"),
    (lambda x: x.astype(np.float64), r"\.astype is not known"),
    (lambda x: x[..., 0], "neither parts nor"),
    (lambda x: x * len(x), "neither parts nor"),
    (in_a_loop, "neither parts nor"),
    (into_a_part, "neither parts nor"),
    (in_place, "writes into its argument"),
    (lambda x: np.add(x, 1, out=x), "writes into its argument"),
    (lambda x: np.maximum(x, 0, where=True), "takes no where"),
    (lambda x: np.add(x, 1, dtype=np.float64), "takes no dtype"),
    (lambda x: np.add(x, 1, casting="unsafe"), "takes no casting"),
    # functions that there are not
    (lambda x: np.cbrt(x), "cbrt is not known; there are add, "),
    (lambda x: +x, "positive is not known"),
    (lambda x: x // 2, "floor_divide is not known"),
    (lambda x: x % 2, "remainder is not known"),
    (lambda x: np.logical_not(x), "logical_not is not known"),
    (lambda x: (x > 0) & (x < 1), "bitwise_and is not known"),
    (lambda x: np.clip(x, 0, 1), "clip is not known"),
    (lambda x: np.zeros_like(x), "np.zeros_like is not known"),
    (lambda x: x**3, r"\*\* takes 2 and 0.5"),
    (lambda x: x**x, r"\*\* takes 2 and 0.5"),
    (lambda x: 2**x, "power is not known"),
    (lambda x: np.power(x, 2), "power is not known"),
    # truth values
    (lambda x: (x > 0) + (x < 1), TRUTHS_ALONE),
    (lambda x: (x > 0) == (x < 1), TRUTHS_ALONE),
    (lambda x: -(x > 0), TRUTHS_ALONE),
    (lambda x: 2 * (x > 0), TRUTHS_ALONE),
    (lambda x: np.exp(x > 0), TRUTHS_ALONE),
    (lambda x: (x > 0) ** 2, TRUTHS_ALONE),
    (lambda x: np.where(x > 0, 1, 0), TRUTHS_ALONE),
    (lambda x: np.where(x > 0, x > 1, x < 2), TRUTHS_ALONE),
    (lambda x: np.where(x > 0, x > 1, 0), TRUTHS_ALONE),
    (lambda x: np.where(x, 1, x), "needs a comparison and two branches"),
    (lambda x: np.where(x > 0), "needs a comparison and two branches"),
    (lambda x: np.where(True, x, 1), "needs a comparison and two branches"),
    # results
    (lambda x: x > 0, "returns a comparison"),
    (lambda x: (x, x > 0), "returns a comparison"),
    (lambda x: 3, "returns a int"),
    (lambda x: 0.5, "returns a float"),
    (lambda x: None, "returns a NoneType"),
    (lambda x: [x], "returns a list"),
    (lambda x: (x, 1), "returns a int"),
    (lambda x: ((x,),), "returns a tuple"),
    (lambda x: (), "empty tuple"),
    (lambda x: (x,) * 400, "it has 401 arguments and results, needs 400 at the most"),
    (one_by_one, "returns a generator"),
    # what is no plain function
    (lambda: 3, "positional arguments without defaults"),
    (with_a_default, "positional arguments without defaults"),
    (by_name_only, "positional arguments without defaults"),
    (of_any_number, "positional arguments without defaults"),
    (np.tanh, "got a ufunc, needs a function"),
    (abs, "got a builtin_function_or_method, needs a function"),
    (Callable(), "got a Callable, needs a function"),
    (3, "got a int, needs a function"),
]


@pytest.mark.parametrize(("function", "says"), WHEN_DEFINED, ids=range(len(WHEN_DEFINED)))
def test_what_is_refused_when_it_is_defined(function, says):
    """No array is there yet, and so no library."""
    with pytest.raises(TypeError, match=says) as error:
        formula(function)
    assert str(error.value).startswith("formula ")


def test_a_value_of_another_formula_is_refused():
    one, other = _Trace("one").argument(), _Trace("other").argument()
    with pytest.raises(TypeError, match="formula one: it uses a value of another formula"):
        one + other


NUMBERS_ALONE = "of plain numbers alone"
WHEN_CALLED = [  # a formula of x, y and perhaps a, and its arguments
    ("y", (X, X[0]), "one value for many elements"),
    ("y * 2", (X, X[0]), "one value for many elements"),
    ("y + 1", (X, X[0, 0:1].reshape(())), "one value for many elements"),
    ("y + 1", (X, 2.0), "one value for many elements"),
    ("np.where(y > 0, y, 1)", (X, X[0]), "one value for many elements"),
    ("x * np.exp(y)", (X, 2.0), f"exp {NUMBERS_ALONE}"),
    ("x * np.maximum(y, 0)", (X, 2), f"maximum {NUMBERS_ALONE}"),
    ("x * y**2", (X, 2), f"square {NUMBERS_ALONE}"),
    ("x * abs(y)", (X, 2), f"absolute {NUMBERS_ALONE}"),
    ("x * np.add(y, 1)", (X, 2), f"np.add {NUMBERS_ALONE}; use the operator"),
    ("x * np.negative(y)", (X, 2), f"np.negative {NUMBERS_ALONE}; use the operator"),
    ("x * (y > 0)", (X, 2.0), f"greater {NUMBERS_ALONE}"),
    ("np.where(y > 0, x, 1)", (X, 2.0), f"greater {NUMBERS_ALONE}"),
    ("np.where(x > 0, y, a)", (X, 2.0, 1), TRUTHS_ALONE),
    ("np.where(x > 0, y, 1)", (X, 2.0), TRUTHS_ALONE),
    ("(x > 0) * y", (X, 2.0), TRUTHS_ALONE),
    ("x + y", (X, np.ones((3, 4), np.float32)), r"y has shape \(3, 4\), needs \(4, 3\), \(3,\) or \(\)"),
    ("x + y", (X, np.ones((4, 1), np.float32)), r"y has shape \(4, 1\)"),
    ("x + y", (X, np.ones((1, 3), np.float32)), r"y has shape \(1, 3\)"),
    ("x + y", (X, np.ones(4, np.float32)), r"y has shape \(4,\)"),
    ("x + y", (X, np.ones(1, np.float32)), r"y has shape \(1,\)"),
    ("x + y", (X[0], X), r"y has shape \(4, 3\)"),
    ("x + y", (X, X.astype(np.float64)), "y is an array of float64, needs an array of float32"),
    ("x + y", (X, np.ones((4, 3), np.int64)), "y is an array of int64, needs an array of float32"),
    ("x + y", (X, X > 0), "y is an array of bool, needs an array of float32"),
    ("x + y", (X, np.ones(3)), "y is an array of float64, needs an array of float32"),
    ("x + y", (X, np.array(1.0)), "y is an array of float64, needs an array of float32"),
    ("x + y", (X, True), "y is a bool, needs an array of float32 or a plain number"),
    ("x + y", (X, "1"), "y is a str, needs an array of float32 or a plain number"),
    ("x + y", (X, [1, 2, 3]), "y is a list, needs an array of float32 or a plain number"),
    ("x + y", (X, None), "y is a NoneType"),
    ("x + y", (X, np.float64(1)), "y is an array of float64, needs an array of float32"),
    ("x + y", (X.astype(np.int64), 1), "x is an array of int64, needs an array of float32 or float64"),
    ("x + y", (X.astype(np.float16), 1), "x is an array of float16"),
    ("x + 1", (np.array(1.0),), r"x has shape \(\), needs \(..., C\)"),
    ("x + y", (np.float32(1), 2.0), r"x has shape \(\)"),
    ("x + y", (X,), "got 1 arguments, needs 2: x, y"),
    ("x + y", (X, 1, 2), "got 3 arguments, needs 2: x, y"),
]


@pytest.mark.parametrize(("body", "arguments", "says"), WHEN_CALLED, ids=range(len(WHEN_CALLED)))
def test_what_is_refused_when_it_is_called(standin_ops, body, arguments, says):
    """By every operation of both libraries, on few elements or many, with one message, before anything is done."""
    one, several = written(body), written(f"({body},)")
    messages = set()
    for ops in (numpy_ops, standin_ops):
        there = [ops.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        for few in (0, 1 << 12):
            for operation, f in (
                (type(one).__call__, one),
                (ops.elementwise, one),
                (ops.channel_sums, several),
                (ops.sum_with_map, several),
            ):
                with constants(rows__FEW=few), pytest.raises((TypeError, ValueError), match=says) as error:
                    operation(f, *there)
                messages.add(f"{type(error.value).__name__} {error.value}")
    assert len(messages) == 1, messages


def test_a_formula_of_the_wrong_form_is_refused(standin_ops):
    """A tuple where one value is needed; and one value, an array that could pass for a tuple, where a tuple is."""
    one, several = written("x"), written("(x, x)")
    for ops in (numpy_ops, standin_ops):
        x = ops.from_numpy(X)
        for sums in (ops.channel_sums, ops.sum_with_map):
            with pytest.raises(TypeError, match="returns one value, needs a tuple of them"):
                sums(one, x)
        for call in (several, lambda x, ops=ops: ops.elementwise(several, x)):
            with pytest.raises(TypeError, match="returns a tuple, needs one value"):
                call(x)


@pytest.mark.parametrize("shape", [(4, 3), (3,), ()])
def test_arrays_of_two_libraries_are_refused(standin_ops, shape):
    f, y = written("x + y"), np.ones(shape, np.float32)
    with pytest.raises(TypeError, match="y is a cupy array, needs a numpy array, as x is"):
        f(X, standin_ops.from_numpy(y))
    for other in (y, np.float32(1)):
        with pytest.raises(TypeError, match="y is a numpy array, needs a cupy array, as x is"):
            f(standin_ops.from_numpy(X), other)


def test_many_terms(standin_ops):
    f = written(f"({', '.join(f'{n} * x' for n in range(60))})")
    for ops in (numpy_ops, standin_ops):
        sums = ops.channel_sums(f, ops.from_numpy(np.ones((40, 3), np.float64)))
        np.testing.assert_array_equal([ops.to_numpy(total) for total in sums], np.outer(range(60), [40, 40, 40]))


def test_without_arguments():
    for arguments, says in (((), "got 0 arguments, needs 1: x"), ((2.0,), "needs a numpy or cupy array")):
        with pytest.raises(TypeError, match=says):
            written("x")(*arguments)


# --- it is traced once ---


def test_a_formula_is_traced_when_it_is_defined_and_never_again(standin_ops, monkeypatch):
    f = written("n * x + n")
    monkeypatch.setitem(formula.__init__.__globals__, "_trace", None)
    for n in (0.2, 0.3, 1, 2):
        for ops in (numpy_ops, standin_ops):
            with constants(**IN_BLOCKS):
                found = f(ops.from_numpy(X), n)
            same(ops.to_numpy(found), np.float32(n) * X + np.float32(n))


def test_other_numbers_are_the_same_kernel_and_the_same_calls(standin_ops):
    from scratchgen.backend.cupy_ops import rows

    f, x = written("(1 - n) * x + n / m"), standin_ops.from_numpy(X)
    f(x, 0.5, 2)
    kernels, plans = len(rows._kernels), len(f._plans)
    for n, m in ((0.1, 3), (2, 7.5), (1, 1)):
        same(f(x, n, m).get(), plainly(f, X, n, m))
    assert (len(rows._kernels), len(f._plans)) == (kernels, plans)


def test_each_layer_its_own_numbers(standin_ops):
    """Two of them, one formula."""
    x = np.random.default_rng(3).standard_normal((8, 3)).astype(np.float32)
    for momentum in (0.1, 0.5, 0.1):
        here, there = BatchNorm(3, momentum=momentum), BatchNorm(3, momentum=momentum).to("cupy")
        here.forward(x)
        there.forward(standin_ops.from_numpy(x))
        np.testing.assert_allclose(there.running_var.get(), here.running_var, rtol=1e-6)


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(), LeakyReLU(0), LeakyReLU(1.5), Tanh(), Sigmoid()], ids=str)
def test_an_activation_is_one_kernel_each_way(standin_ops, layer):
    import standin

    x = standin_ops.from_numpy(np.random.default_rng(2).standard_normal((6, 5)).astype(np.float32))
    y, backward = layer.forward(x)
    backward(y)
    before = standin.counts().launches
    y, backward = layer.forward(x)
    assert standin.counts().launches - before == 1
    backward(y)
    assert standin.counts().launches - before == 2


def test_a_formula_inside_another_is_written_out():
    names = [op.name for op in batchnorm.scale_and_shift.program.operations]
    assert names == ["subtract", "multiply", "multiply", "add"]


def test_a_formula_looks_like_its_function():
    assert activations.tanh_pullback.__name__ == "tanh_pullback"
    assert repr(activations.tanh_pullback) == "formula tanh_pullback"
    assert functions.sigmoid.__doc__ == functions.sigmoid.function.__doc__


# --- the texts read as the formula ---


def plan_of(f):
    """Of the kinds of arguments that the library calls it with."""
    kinds = dict.fromkeys(("mu", "s", "gamma", "beta", "dbeta", "dgamma"), X[0]) if f in BATCHNORM else {}
    kinds |= {"slope": 0.2, "eps": 1e-5, "m": 4, "N": 4, "momentum": 0.1, "correction": 1.5, "weight": 2.0}
    kinds |= {"log_2pi": 1.8}
    if f in vars(vae).values() and "eps" in f.program.arguments:
        kinds["eps"] = X
    return f.plan([kinds.get(name, X) for name in f.program.arguments], several=f.program.several)


BATCHNORM = [f for f in vars(batchnorm).values() if isinstance(f, formula)]
CALLS = {
    activations.tanh_pullback: """\
def formula(a0, a1, k_1, m0, r0):
    multiply(a1, a1, out=m0)
    subtract(k_1, m0, out=m0)
    multiply(a0, m0, out=r0)
    return (r0,)
""",
    activations.leaky_relu: """\
def formula(a0, k1, r0):
    scale_unless_positive(a0, k1, out=r0)
    return (r0,)
""",
    batchnorm.input_gradient: """\
def formula(a0, a1, k2, k3, k8, k9, k13, m0, m1, r0):
    subtract(a0, k9, out=m0)
    subtract(a1, k2, out=m1)
    multiply(m1, k3, out=m1)
    multiply(m1, k13, out=m1)
    subtract(m0, m1, out=m0)
    multiply(k8, m0, out=r0)
    return (r0,)
""",
}
KERNELS = {
    activations.tanh_pullback: """\
__device__ inline real formula(const real x0, const real x1) {
    const real v2 = x1 * x1;
    const real v3 = (real)1 - v2;
    const real v4 = x0 * v3;
    return v4;
}
""",
    activations.leaky_relu: """\
__device__ inline real formula(const real x0, const real k1) {
    const bool v2 = x0 > (real)0;
    const real v3 = k1 * x0;
    const real v4 = v2 ? x0 : v3;
    return v4;
}
""",
    losses.squared_error: """\
__device__ inline void formula(const real x0, const real x1, const real k5, real (&out)[2]) {
    const real v3 = x0 - x1;
    const real v4 = v3 * v3;
    const real v6 = v3 * k5;
    out[0] = v4;
    out[1] = v6;
}
""",
}


@pytest.mark.parametrize("f", CALLS, ids=repr)
def test_numpys_calls_read_as_the_formula(f):
    assert numpy_calls.calls(plan_of(f), (0,)).text == CALLS[f]


@pytest.mark.parametrize("f", KERNELS, ids=repr)
def test_a_kernels_text_reads_as_the_formula(standin_ops, f):
    from scratchgen.backend.cupy_ops.formula import text

    assert text(plan_of(f)).formula == KERNELS[f]


def test_constants_that_have_no_name_in_cuda(standin_ops):
    from scratchgen.backend.cupy_ops.formula import text

    f = written("x * np.inf + x * -np.inf - np.nan * x")
    found = text(f.plan([X], several=False)).formula
    assert all(constant in found for constant in ("(1.0 / 0.0)", "(-1.0 / 0.0)", "(0.0 / 0.0)"))


@pytest.mark.parametrize(
    ("body", "buffers"),
    [
        ("np.tanh(x)", 0),
        ("((x - y) * y + y) * 3 - x", 1),
        ("(y - a - (x - a) * a) * a", 2),
        ("np.maximum(x > y, x) * y", 2),  # one of truth values
        ("x * (a * a + 1) - a", 1),  # what is made of channels alone is made once
        ("(lambda c: (lambda t: (c * y - (c + t)) / (t + 1) - c)(c * c))(x - y)", 4),
    ],
)
def test_memory_is_written_over(body, buffers):
    f = written(body)
    plan = f.plan([X if name in "xy" else X[0] for name in f.program.arguments], several=False)
    assert len(numpy_calls.calls(plan, (0,)).buffers) == buffers


def test_every_formula_of_the_library_has_its_plan(standin_ops):
    """And both texts."""
    from scratchgen.backend.cupy_ops.formula import text

    modules = (activations, batchnorm, losses, vae, gan, functions)
    found = {f for module in modules for f in vars(module).values() if isinstance(f, formula)}
    assert len(found) >= 20
    for f in found:
        plan = plan_of(f)
        numpy_calls.calls(plan, tuple(range(len(f.program.results))))
        assert text(plan).formula.count("\n") <= len(f.program.operations) + len(f.program.results) + 3


# --- planted faults ---


def check_calls():
    numpy_calls.calls.cache_clear()
    check_on_numpy(CHOICES + OPERATORS, np.float32, [(64, 3)])
    for body in TERMS:
        check_sums(lambda *args, **options: on_numpy("in blocks", *args, **options), body, (64, 3), np.float32)


def _whether_it_is_free_or_not(self, free, boolean):
    if boolean not in self.buffers:
        self.buffers.append(boolean)
    return self.buffers.index(boolean)


def _as_below_1(condition, a, factor, out):
    np.copyto(out, condition)
    np.maximum(out, factor, out=out)
    np.multiply(a, out, out=out)


def _the_larger(a, factor, out):
    np.maximum(a, factor * a, out=out)


def _if(condition, a, factor, out):
    np.multiply(a, np.where(condition, factor, 1), out=out, casting="unsafe")


def _else_as_it_was(condition, a, b, out):
    np.copyto(out, a, where=condition)


def _by_arithmetic(condition, a, b, out):
    out[...] = condition * a + ~condition * b


def _swapped(a, b, out):
    np.subtract(b, a, out=out)


def _shared_piece(operations, plan):
    """As if scale_unless might write over what it reads."""
    return [
        (p, type(op)("scale", op.operands) if op.name == "scale_unless" else op)
        for p, op in SHORTENED(operations, plan)
    ]


SHORTENED = numpy_calls._shortened
FAULTS = {  # the name in numpy_ops/formula.py, or in its functions, and what stands there instead
    "memory that is still read": ("_buffer", _whether_it_is_free_or_not),
    "the branches of where": ("where", lambda c, a, b, out: numpy_calls.select(c, b, a, out)),
    "where without its else": ("where", _else_as_it_was),
    "where by arithmetic": ("where", _by_arithmetic),
    "any factor as those below 1": ("scale_unless", _as_below_1),
    "scale_unless for scale_if": ("scale_unless", _if),
    "the larger for any factor": ("scale_unless_positive", _the_larger),
    "the operands of subtract": ("subtract", _swapped),
    "terms that are not copied": ("copyto", lambda a, b: None),
}


@pytest.mark.parametrize(("name", "wrong"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_the_calls_is_found(name, wrong):
    check_calls()
    with pytest.MonkeyPatch.context() as patch:
        if name in numpy_calls.FUNCTIONS:
            patch.setitem(numpy_calls.FUNCTIONS, name, wrong)
        else:
            patch.setattr(numpy_calls.Calls, name, wrong)
        with pytest.raises((AssertionError, ValueError)):
            check_calls()
    numpy_calls.calls.cache_clear()


def test_scale_unless_that_writes_over_what_it_reads_is_found(monkeypatch):
    monkeypatch.setitem(numpy_calls.FUNCTIONS, "scale", numpy_calls.scale_unless)
    monkeypatch.setattr(numpy_calls, "_shortened", _shared_piece)
    with pytest.raises(AssertionError):
        check_calls()
    numpy_calls.calls.cache_clear()


def check_kernels(ops):
    from scratchgen.backend.cupy_ops import formula as emitter
    from scratchgen.backend.cupy_ops import rows

    emitter.text.cache_clear()
    rows._kernels.clear()
    check_as_a_kernel(ops, FOR_KERNELS, np.float32, [(6, 5)])


FOR_KERNELS = [
    *("x - np.where(x > y, y, a)", "y / x - n * s", "(x > a) * y", "np.maximum(x, y) - np.minimum(x, s)", "m - x"),
    *("-abs(x) + np.sqrt(y * y) * (x >= a) + (x < y) * a", "x * (m - n) - 2", "np.where(y <= x, m, x * a)"),
]


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("TEXTS", "subtract", "{1} - {0}"),
        ("TEXTS", "divide", "{1} / {0}"),
        ("TEXTS", "greater", "{} >= {}"),
        ("TEXTS", "less", "{} > {}"),
        ("TEXTS", "where", "{0} ? {2} : {1}"),
        ("TEXTS", "maximum", "smaller({}, {})"),
        ("TEXTS", "absolute", "{}"),
        ("INDEX", "c", "(i)"),
        ("INDEX", "c", "0"),
        ("INDEX", "e", "(c)"),
    ],
)
def test_a_fault_in_a_kernels_text_is_found(standin_ops, monkeypatch, table, key, value):
    from scratchgen.backend.cupy_ops import formula as emitter

    monkeypatch.setitem(getattr(emitter, table), key, value)
    with pytest.raises((AssertionError, RuntimeError)):
        check_kernels(standin_ops)
    monkeypatch.undo()
    check_kernels(standin_ops)
