"""A formula in Python, traced once into CUDA: f(x, y) is called with symbols, which write down what happens to them.

    lambda dy, y: dy * (1 - y * y)

becomes, one line an operation,

    __device__ inline real formula(const real x0, const real x1) {
        const real v0 = x1 * x1;
        const real v1 = 1 - v0;
        const real v2 = x0 * v1;
        return v2;
    }

and so a layer's text is its own GPU kernel: one pass over memory, where each operation by itself would take one. A
formula may use arithmetic, comparisons, `astype`, `dtype` and the element-wise functions in FUNCTIONS, of its
arguments and of plain numbers. Fractions go to the kernel as parameters, so another slope or 1/N needs no other
kernel. The arithmetic is NumPy's: bool with real is real, plain numbers take the arrays' float type. Bool with
a plain number, which NumPy would turn into int64 or float64, is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType

import numpy as np

from scratchgen.backend.cupy_ops.launch import REALS

OPERATORS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "true_divide": "{} / {}",
    "negative": "-{}",
    "positive": "{}",
    "maximum": "larger({}, {})",
    "minimum": "smaller({}, {})",
}
COMPARISONS = {
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "equal": "{} == {}",
    "not_equal": "{} != {}",
}
FUNCTIONS = {
    "absolute": "fabs({})",
    "cos": "cos({})",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "log": "log({})",
    "log1p": "log1p({})",
    "sin": "sin({})",
    "sqrt": "sqrt({})",
    "square": "{0} * {0}",
    "tanh": "tanh({})",
}
BOOL = np.dtype(bool)


class Symbol:
    """A number in a formula that is being traced: its name in the CUDA text, and its dtype."""

    __module__ = "cupy"  # it stands for an array of CuPy's, and is asked where it lives like one
    __slots__ = ("_trace", "dtype", "name")

    def __init__(self, trace: "Trace", name: str, dtype):
        self._trace, self.name, self.dtype = trace, name, dtype

    def __cupy_override_elementwise_kernel__(self, ufunc, *args, **options):
        return self._trace.apply(ufunc.name.removeprefix("cupy_"), args, options)

    def __array_ufunc__(self, ufunc, method, *args, **options):
        if method != "__call__":
            raise TypeError(f"formula: {ufunc.__name__}.{method} does not work on each number by itself")
        return self._trace.apply(ufunc.__name__, args, options)

    def astype(self, dtype, copy=True):
        dtype = np.dtype(dtype)
        if dtype not in (self._trace.dtype, BOOL):
            raise TypeError(f"formula: astype({dtype}) in a formula of {self._trace.dtype}")
        if dtype == self.dtype:
            return self
        return self._trace.line(f"{self.name} != 0" if dtype == BOOL else f"(real){self.name}", dtype)

    def __bool__(self):
        raise TypeError("formula: what happens may not depend on the numbers; use where, maximum or minimum")

    __float__ = __int__ = __index__ = __len__ = __iter__ = __getitem__ = __bool__
    __hash__ = object.__hash__


def _operator(name: str, mirrored: bool = False):
    def method(self, *others):
        return self._trace.apply(name, (*others, self) if mirrored else (self, *others), {})

    return method


for _name, _function in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "pow": "power",
}.items():
    setattr(Symbol, f"__{_name}__", _operator(_function))
    setattr(Symbol, f"__r{_name}__", _operator(_function, mirrored=True))
for _name, _function in {
    "neg": "negative",
    "pos": "positive",
    "abs": "absolute",
    "gt": "greater",
    "ge": "greater_equal",
    "lt": "less",
    "le": "less_equal",
    "eq": "equal",
    "ne": "not_equal",
}.items():
    setattr(Symbol, f"__{_name}__", _operator(_function))


class Trace:
    """The CUDA text of a formula, as it comes into being."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        self.lines: list[str] = []
        self.numbers: list[float] = []

    def line(self, code: str, dtype) -> Symbol:
        symbol = Symbol(self, f"v{len(self.lines)}", dtype)
        self.lines.append(f"const {'bool' if dtype == BOOL else 'real'} {symbol.name} = {code};")
        return symbol

    def apply(self, name: str, args: tuple, options: dict) -> Symbol:
        """The symbol for a function of symbols and plain numbers."""
        if options:
            raise TypeError(f"formula: {name} takes no {', '.join(options)} here")
        if name == "power":
            return self._power(*args)
        if name == "where":
            condition, *branches = args
            if condition.dtype != BOOL:
                raise TypeError("formula: where needs a comparison for its condition")
            return self.line(f"{condition.name} ? {self._real(branches[0])} : {self._real(branches[1])}", self.dtype)
        if name == "logical_not":
            return self.line(f"!{args[0].name}", BOOL)
        for table, result in ((OPERATORS, self.dtype), (FUNCTIONS, self.dtype), (COMPARISONS, BOOL)):
            if name in table:
                if not any(isinstance(a, Symbol) and a.dtype != BOOL for a in args):
                    raise TypeError(f"formula: {name} of nothing but bools and plain numbers; use astype first")
                return self.line(table[name].format(*map(self._real, args)), result)
        known = ", ".join((*OPERATORS, *FUNCTIONS, *COMPARISONS, "where"))
        raise TypeError(f"formula: {name} is not known here; there are {known}")

    def _power(self, base, exponent) -> Symbol:
        if not isinstance(exponent, Symbol) and exponent == 2:
            return self.apply("square", (base,), {})
        if not isinstance(exponent, Symbol) and exponent == 0.5:
            return self.apply("sqrt", (base,), {})
        raise TypeError("formula: ** takes 2 and 0.5 here")

    def _real(self, value) -> str:
        """How a symbol or a number is written where a real is wanted."""
        if isinstance(value, Symbol):
            return f"(real){value.name}" if value.dtype == BOOL else value.name
        if isinstance(value, np.generic):
            if value.dtype.kind == "f" and value.dtype != self.dtype:
                raise TypeError(f"formula: got a NumPy {value.dtype} number, the arrays are {self.dtype}")
            value = value.item()
        if isinstance(value, bool | int) and abs(value) < 1 << 24:
            return f"(real){int(value)}"
        if isinstance(value, int | float):
            self.numbers.append(float(value))
            return f"k{len(self.numbers) - 1}"
        raise TypeError(
            f"formula: got a {type(value).__name__} from outside; arrays must be among the arguments, "
            "so that each number finds its own"
        )


@dataclass(frozen=True)
class Formula:
    """What became of tracing: CUDA text that defines `formula`, for so many terms, and the numbers it takes."""

    text: str
    numbers: tuple[float, ...]
    terms: int  # 0 where it returns one number, not a tuple

    def places(self, places: str) -> str:
        """How a kernel gets at the arguments, and the terms after the first to their arrays: ARRAYS, AT, RESULTS and
        STORE. For each argument "i" (an array of one number each), "c" (of one a channel) or "1" (of one for all)."""
        arrays = [f"const real* __restrict__ a{n}" for n in range(len(places))]
        arrays += [f"const real k{n}" for n in range(len(self.numbers))]
        at = [f"a{n}[{'0' if place == '1' else f'({place})'}]" for n, place in enumerate(places)]
        at += [f"k{n}" for n in range(len(self.numbers))]
        others = range(1, self.terms)
        return (
            f"#define ARRAYS , {', '.join(arrays)}\n"
            f"#define AT(i, c) {', '.join(at)}\n"
            f"#define RESULTS {''.join(f', real* __restrict__ y{n}' for n in others)}\n"
            f"#define STORE(i) {' '.join(f'y{n}[i] = out[{n}];' for n in others)}\n"
        )


def traced(f: Callable, count: int, dtype) -> Formula:
    """The formula of a function of so many arguments; the same object again for the same code and numbers."""
    dtype = np.dtype(dtype)
    key = _key(f)
    if key is None:
        return _trace(f, count, dtype)
    key = (key, count, dtype)
    known = _known.get(key)
    if known is None:
        if len(_known) >= MANY:
            _known.clear()
        known = _known[key] = _trace(f, count, dtype)
    return known


MANY = 4096  # formulas that are kept: a number that changes at each step makes a new one each time
_known: dict[tuple, Formula] = {}


def _trace(f: Callable, count: int, dtype) -> Formula:
    if dtype not in REALS:
        raise TypeError(f"formula: got arrays of {dtype}, needs float32 or float64")
    trace = Trace(dtype)
    result = f(*(Symbol(trace, f"x{n}", dtype) for n in range(count)))
    several = isinstance(result, tuple)
    if any(isinstance(term, Symbol) and term.dtype == BOOL for term in (result if several else (result,))):
        raise TypeError("formula: it returns a comparison; use astype")
    terms = [trace._real(term) for term in (result if several else (result,))]
    parameters = [f"const real x{n}" for n in range(count)] + [f"const real k{n}" for n in range(len(trace.numbers))]
    if several:
        parameters.append(f"real (&out)[{len(terms)}]")
        end = [f"out[{n}] = {term};" for n, term in enumerate(terms)]
    else:
        end = [f"return {terms[0]};"]
    body = "".join(f"    {line}\n" for line in (*trace.lines, *end))
    head = f"__device__ inline {'void' if several else 'real'} formula({', '.join(parameters)})"
    return Formula(f"{head} {{\n{body}}}\n", tuple(trace.numbers), len(terms) if several else 0)


def _key(f):
    """What a function computes with: its code, and what it holds from outside. None where that might change."""
    if type(f).__name__ == "ufunc":
        return ("ufunc", f)
    if not isinstance(f, FunctionType) or f.__kwdefaults__:
        return None
    held = [cell.cell_contents for cell in f.__closure__ or ()] + list(f.__defaults__ or ())
    held += [f.__globals__[name] for name in _names(f.__code__) if name in f.__globals__]
    keys = [f.__code__]
    for value in held:
        if isinstance(value, int | float | str | ModuleType | np.dtype | None):
            keys.append((type(value), value))
        elif value is not f:  # else it calls itself
            keys.append(_key(value))
            if keys[-1] is None:
                return None
    return tuple(keys)


@cache
def _names(code: CodeType) -> tuple[str, ...]:
    """The names that a function may look up among the globals, those in functions inside it too."""
    inner = [name for part in code.co_consts if isinstance(part, CodeType) for name in _names(part)]
    return (*code.co_names, *inner)
