"""A formula: what happens to each element, written once in NumPy's names, and run by every backend.

    @formula
    def tanh_pullback(dy, y):
        return dy * (1 - y * y)

    dx = tanh_pullback(dy, y)          # arrays of any shape, of NumPy or CuPy

When it is defined it is called with symbols, which write down what happens to them. That is its program,

    v2 = multiply(y, y)    v3 = subtract(1, v2)    v4 = multiply(dy, v3)

from which each backend makes what it runs: NumPy's calls on blocks that stay in cache, or one CUDA kernel.

The first argument is an array (..., C). Each other one has its shape, or is one value per channel (C,), one value for
all (0-d), or a plain Python number. All that the formula needs is among its arguments. It may use + − * /, ** 2
and ** 0.5, comparisons, and the functions of NumPy in REAL, COMPARISONS and `np.where`. Whatever has no meaning for a
single element, or would give other results on another backend, is refused with a TypeError, when the formula is
defined or, where the kind of an argument decides, when it is called; a shape that does not fit, with a ValueError.
"""

import dis
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from scratchgen.backend.arrays import FLOATS, backend_of, kernels

ARITHMETIC = {"add": 2, "subtract": 2, "multiply": 2, "divide": 2, "negative": 1}  # names, and their operands
REAL = ARITHMETIC | dict.fromkeys(("maximum", "minimum"), 2)
REAL |= dict.fromkeys(("absolute", "cos", "exp", "expm1", "log", "log1p", "sin", "sqrt", "square", "tanh"), 1)
COMPARISONS = dict.fromkeys(("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"), 2)

WRITTEN = {  # what C and Python write alike: the operands stand for {}
    "add": "{} + {}",
    "divide": "{} / {}",
    "equal": "{} == {}",
    "exp": "exp({})",
    "expm1": "expm1({})",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "log": "log({})",
    "log1p": "log1p({})",
    "multiply": "{} * {}",
    "negative": "-{}",
    "not_equal": "{} != {}",
    "square": "{0} * {0}",
    "subtract": "{} - {}",
    "tanh": "tanh({})",
}

# What an argument, or a value made of arguments, has one of, from few to many:
NUMBER, SINGLE, CHANNEL, ELEMENT = "n", "s", "c", "e"  # a plain number, a 0-d array, (C,), (..., C)
KINDS = (NUMBER, SINGLE, CHANNEL, ELEMENT)
MOST = 400  # arguments and results: a CUDA kernel has 4 KiB for its parameters


@dataclass(frozen=True)
class Operation:
    """A function of values. Values are known by an index: the arguments' come first, then each operation's result has
    the next; constants have −1, −2, …"""

    name: str
    operands: tuple[int, ...]  # indices
    called: bool = True  # by NumPy's name, not by an operator


@dataclass(frozen=True)
class Program:
    """What a formula does, in order. `results` are indices; `several` says that it returns a tuple."""

    arguments: tuple[str, ...]
    operations: tuple[Operation, ...]
    constants: tuple[int | float, ...]
    results: tuple[int, ...]
    several: bool

    def indexed(self) -> list[tuple[int, Operation]]:
        """Every operation, with the index of its result."""
        return list(enumerate(self.operations, len(self.arguments)))


class Formula:
    """See the module. Called with arrays it gives one array of the first one's shape, element by element."""

    __name__: str

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        _check_plain(function)
        self.function = function
        self.program = _trace(function)
        if repr(_trace(function)) != repr(self.program):  # NaN is not equal to itself, its text is
            raise TypeError(f"formula {function.__name__}: it does something else each time; draw noise outside")
        self._plans: dict[str, Plan] = {}

    def __call__(self, *arguments: Any) -> Any:
        if Symbol in map(type, arguments):  # inside another formula
            return self.function(*arguments)
        self._check_count(arguments)
        return kernels(arguments[0]).elementwise(self, *arguments)

    def plan(self, arguments: Sequence[Any], *, several: bool) -> "Plan":
        """How it is run on arguments of these kinds, by an operation that needs a tuple of terms, or one value.

        TypeError or ValueError for arguments that it cannot have, and for the other kind of result.
        """
        if several != self.program.several:
            found, needed = ("one value", "a tuple of them") if several else ("a tuple", "one value")
            raise TypeError(f"{self}: it returns {found}, needs {needed}")
        self._check_count(arguments)
        kinds = self._kinds(arguments)
        plan = self._plans.get(kinds)
        if plan is None:
            plan = self._plans[kinds] = Plan(self, kinds)
        return plan

    def _check_count(self, arguments: Sequence[Any]) -> None:
        names = self.program.arguments
        if len(arguments) != len(names):
            raise TypeError(f"{self}: got {len(arguments)} arguments, needs {len(names)}: {', '.join(names)}")

    def _kinds(self, arguments: Sequence[Any]) -> str:
        names, first = self.program.arguments, arguments[0]
        shape, dtype = getattr(first, "shape", None), getattr(first, "dtype", None)
        if dtype is None or dtype not in FLOATS:
            got = type(first).__name__ if dtype is None else f"an array of {dtype}"
            raise TypeError(f"{self}: {names[0]} is {got}, needs an array of float32 or float64")
        if not shape:
            raise ValueError(f"{self}: {names[0]} has shape (), needs (..., C)")
        channels = shape[-1:]
        kinds = ELEMENT
        for i in range(1, len(arguments)):
            a = arguments[i]
            if type(a) is float or type(a) is int:
                kinds += NUMBER
                continue
            if type(a) is not type(first) or a.dtype is not dtype:
                self._check_like(names[i], a, first)
            size = a.shape
            if size == shape:
                kinds += ELEMENT
            elif size == channels:
                kinds += CHANNEL
            elif size == ():
                kinds += SINGLE
            else:
                raise ValueError(f"{self}: {names[i]} has shape {size}, needs {shape}, {channels} or ()")
        return kinds

    def _check_like(self, name: str, a: Any, first: Any) -> None:
        """TypeError unless it is an array of the first one's dtype and library."""
        own = getattr(a, "dtype", None) if hasattr(a, "shape") else None
        if own is None or own != first.dtype:
            got = f"a {type(a).__name__}" if own is None else f"an array of {own}"
            raise TypeError(f"{self}: {name} is {got}, needs an array of {first.dtype} or a plain number")
        if backend_of(a) != backend_of(first):
            home = backend_of(first)
            raise TypeError(
                f"{self}: {name} is a {backend_of(a)} array, needs a {home} array, as {self.program.arguments[0]} is"
            )

    def __repr__(self) -> str:
        return f"formula {self.__name__}"


formula = Formula


class Plan:
    """A program for arguments of certain kinds: `kinds` says of each value, by its index, what it has one of;
    `booleans` are those that are true or false.

    What depends on plain numbers alone is worked out once, in Python's numbers, before any array is touched.
    """

    def __init__(self, formula: Formula, kinds: str):
        self.name, self.program, self.arguments = formula.__name__, formula.program, kinds
        self.kinds = dict(enumerate(kinds))
        self.booleans: set[int] = set()
        self._made: list[tuple[int, Callable[..., Any], tuple[int, ...]]] = []  # of plain numbers alone
        for index, operation in self.program.indexed():
            self._add(index, operation)
        if any(self.kinds[i] != ELEMENT for i in self.program.results):
            raise TypeError(f"formula {self.name}: it returns one value for many elements; leave that to the caller")
        names = [operation.name for index, operation in self.program.indexed() if self.kinds[index] == ELEMENT]
        # so few array operations that the memory in between is not worth managing
        self.short = len(names) <= 3 and "where" not in names and CHANNEL not in kinds

    def _add(self, index: int, operation: Operation) -> None:
        kind = self.kinds[index] = max(map(self.kind, operation.operands), key=KINDS.index)
        if operation.name in COMPARISONS:
            self.booleans.add(index)
        if kind == NUMBER and operation.called and operation.name in ARITHMETIC:  # NumPy's would be a np.float64
            raise TypeError(f"formula {self.name}: np.{operation.name} of plain numbers alone; use the operator")
        if kind == NUMBER and operation.name not in ARITHMETIC:
            raise TypeError(
                f"formula {self.name}: {operation.name} of plain numbers alone; work it out before the call"
            )
        if kind == NUMBER:
            self._made.append((index, _PYTHONS[operation.name], operation.operands))
        values = operation.operands[1:] if operation.name == "where" else operation.operands
        if kind != NUMBER and all(self.kind(i) == NUMBER or i in self.booleans for i in values):
            raise TypeError(f"formula {self.name}: {operation.name} {_NO_FLOAT}")

    def kind(self, index: int) -> str:
        """What there is one of; a constant is a plain number."""
        return NUMBER if index < 0 else self.kinds[index]

    def numbers(self, arguments: Sequence[Any]) -> dict[int, float]:
        """Every value that is a plain number, by its index, constants too."""
        found = {-1 - k: value for k, value in enumerate(self.program.constants)}
        found |= {i: arguments[i] for i, kind in enumerate(self.arguments) if kind == NUMBER}
        for index, function, operands in self._made:
            found[index] = function(*(found[i] for i in operands))
        return found


_PYTHONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
}
_NO_FLOAT = (
    "of booleans and plain numbers alone has no float type; use np.where with an array for one of its branches"
)


# --- tracing ---


class Symbol(NDArrayOperatorsMixin):
    """An element in a formula that is being traced: it has no value yet. What is done with it goes into the trace."""

    def __init__(self, trace: "_Trace", index: int, boolean: bool = False):
        self._trace, self._index, self._boolean = trace, index, boolean

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> "Symbol":
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if "out" in options:
            self._trace.refuse(f"{name} writes into its argument; make a new value, y = y + 1")
        if options:
            self._trace.refuse(f"{name} takes no {', '.join(options)} here")
        return self._trace.add(name, operands)

    def __array_function__(self, function: Any, types: Any, operands: tuple[Any, ...], options: Any) -> "Symbol":
        if function is not np.where or options:
            self._trace.refuse(f"np.{function.__name__} is not known; there are {_KNOWN}")
        return self._trace.add("where", operands)

    def __pow__(self, exponent: Any) -> Any:
        if type(exponent) in (int, float) and exponent in (2, 0.5):
            return np.square(self) if exponent == 2 else np.sqrt(self)
        self._trace.refuse("** takes 2 and 0.5")

    def __neg__(self) -> "Symbol":
        return self._trace.add("negative", (self,), called=False)

    def __bool__(self) -> NoReturn:
        self._trace.refuse("what happens may not depend on the values; use np.where, np.maximum or np.minimum")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._trace.refuse(f".{name} is not known: it is an element, not an array")

    def _has_no_value(self, *_: Any, **__: Any) -> NoReturn:
        self._trace.refuse("an element has neither parts nor, while it is traced, a value")

    __float__ = __int__ = __index__ = __len__ = __iter__ = __getitem__ = __setitem__ = __array__ = _has_no_value

    def __matmul__(self, other: Any) -> NoReturn:
        self._trace.refuse("@ is not known for single elements")

    __rmatmul__ = __imatmul__ = __matmul__
    __hash__ = object.__hash__


def _method(name: str, reflected: bool) -> Callable[..., "Symbol"]:
    def method(self: Symbol, other: Any) -> Symbol:
        return self._trace.add(name, (other, self) if reflected else (self, other), called=False)

    return method


for _short, _name in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}.items():
    setattr(Symbol, f"__{_short}__", _method(_name, reflected=False))
    setattr(Symbol, f"__r{_short}__", _method(_name, reflected=True))


_KNOWN = ", ".join((*REAL, *COMPARISONS, "where"))


class _Trace:
    """A program while it is being written down."""

    def __init__(self, name: str):
        self.name = name
        self.operations: list[Operation] = []
        self.constants: list[int | float] = []
        self.arguments = 0
        self.refusal: TypeError | None = None  # which the formula may have caught

    def refuse(self, why: str) -> NoReturn:
        self.refusal = TypeError(f"formula {self.name}: {why}")
        raise self.refusal

    def argument(self) -> Symbol:
        self.arguments += 1
        return Symbol(self, self.arguments - 1)

    def add(self, name: str, operands: tuple[Any, ...], *, called: bool = True) -> Symbol:
        """The symbol for what a function makes of symbols and constants."""
        if name not in REAL and name not in COMPARISONS and name != "where":
            self.refuse(f"{name} is not known; there are {_KNOWN}")
        if name == "where" and (len(operands) != 3 or not getattr(operands[0], "_boolean", False)):
            self.refuse("np.where needs a comparison and two branches")
        values = operands[1:] if name == "where" else operands
        if not any(isinstance(v, Symbol) and not v._boolean for v in values):
            self.refuse(f"{name} {_NO_FLOAT}")
        self.operations.append(Operation(name, tuple(map(self.index, operands)), called))
        return Symbol(self, self.arguments + len(self.operations) - 1, name in COMPARISONS)

    def index(self, value: Any) -> int:
        """Of a symbol, or of a constant, which is kept."""
        if isinstance(value, Symbol):
            if value._trace is not self:
                self.refuse("it uses a value of another formula")
            return value._index
        if type(value) not in (int, float):
            self.refuse(
                f"it uses a {type(value).__name__} from outside; arrays must be among its arguments, "
                "and numbers plain ones of Python's"
            )
        if type(value) is int and abs(value) >= 2**63:
            self.refuse("it has a whole number of 2**63 or more; write it as a float")
        for k, known in enumerate(self.constants):
            if repr(known) == repr(value):  # 0.0 and -0.0 are two constants
                return -1 - k
        self.constants.append(value)
        return -len(self.constants)


def _trace(function: Callable[..., Any]) -> Program:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    trace = _Trace(function.__name__)
    result = function(*[trace.argument() for _ in names])
    if trace.refusal:
        raise trace.refusal
    several = isinstance(result, tuple)
    terms = result if several else (result,)
    if not terms:
        trace.refuse("it returns an empty tuple, needs one value or more")
    for term in terms:
        if not isinstance(term, Symbol) or term._boolean:
            what = "a comparison" if isinstance(term, Symbol) else f"a {type(term).__name__}"
            trace.refuse(f"it returns {what}, needs a value of the arguments' float type, or a tuple of them")
    if len(names) + len(terms) > MOST:
        trace.refuse(f"it has {len(names) + len(terms)} arguments and results, needs {MOST} at the most")
    results = tuple(term._index for term in terms)
    return Program(names, tuple(trace.operations), tuple(trace.constants), results, several)


def _check_plain(function: Any) -> None:
    """TypeError unless it is a plain function of positional arguments that takes nothing from outside."""
    name = getattr(function, "__name__", repr(function))
    if not isinstance(function, FunctionType):
        raise TypeError(f"formula {name}: got a {type(function).__name__}, needs a function")
    code = function.__code__
    if not code.co_argcount or code.co_kwonlyargcount or code.co_flags & 0x0C or function.__defaults__:
        raise TypeError(f"formula {name}: needs positional arguments without defaults, one or more")
    if function.__closure__:
        raise TypeError(f"formula {name}: it takes {', '.join(code.co_freevars)} from outside: make that an argument")
    for instruction in _instructions(code):
        other = instruction.argval
        outside = function.__globals__.get(other, np) if instruction.opname == "LOAD_GLOBAL" else np
        if (outside is not np and not isinstance(outside, Formula)) or instruction.opname == "IMPORT_NAME":
            raise TypeError(f"formula {name}: it takes {other} from outside: make that an argument")


def _instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """All of a function, and of those inside it."""
    yield from dis.get_instructions(code)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _instructions(part)
