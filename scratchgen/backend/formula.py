"""A formula: what happens to each element, written once in NumPy's names, and run by every backend.

    @formula
    def tanh_pullback(dy, y):
        return dy * (1 - y * y)

    dx = tanh_pullback(dy, y)          # arrays of any shape, of NumPy or CuPy

When it is defined it is called once, with symbols that write down what happens to them. That is its program,

    v2 = multiply(y, y)    v3 = subtract(1, v2)    v4 = multiply(dy, v3)

from which each backend makes what it runs: NumPy's calls on blocks that stay in cache, or one CUDA kernel.

The first argument is an array (..., C). Each other one has its shape, or is one value per channel (C,), one value for
all (0-d), or a plain number. Everything that the formula needs is among its arguments. It may use + − * /, ** 2 and
** 0.5, comparisons, and the functions of NumPy in REAL, COMPARISONS and `np.where`. Whatever has no meaning for a
single element, or would give other results on another backend, is refused with a TypeError, when the formula is
defined or, where the kind of an argument decides, when it is called.
"""

import dis
import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from scratchgen.backend.arrays import FLOATS, backend_of, kernels

ARITHMETIC = {"add": 2, "subtract": 2, "multiply": 2, "divide": 2, "negative": 1}  # names, and their operands
REAL = ARITHMETIC | dict.fromkeys(("maximum", "minimum"), 2)
REAL |= dict.fromkeys(("absolute", "cos", "exp", "expm1", "log", "log1p", "sin", "sqrt", "square", "tanh"), 1)
COMPARISONS = dict.fromkeys(("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"), 2)

# What an argument, or a value made of arguments, has one of, from few to many:
NUMBER, SINGLE, CHANNEL, ELEMENT = "n", "s", "c", "e"  # a plain number, a 0-d array, (C,), (..., C)
KINDS = (NUMBER, SINGLE, CHANNEL, ELEMENT)


@dataclass(frozen=True)
class Operation:
    """A function of values, by their places: arguments first, then what each operation makes; constants are −1, −2,
    …"""

    name: str
    operands: tuple[int, ...]
    called: bool = True  # by NumPy's name, not by an operator


@dataclass(frozen=True)
class Program:
    """What a formula does, in order. `results` are places; `several` says that it returns a tuple."""

    arguments: tuple[str, ...]
    operations: tuple[Operation, ...]
    constants: tuple[int | float, ...]
    results: tuple[int, ...]
    several: bool

    def place(self, operation: int) -> int:
        """Where the result of operation number so and so is."""
        return len(self.arguments) + operation


class Formula:
    """See the module. Called with arrays it gives one array of the first one's shape, element by element."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)
        _check_plain(function)
        self.function = function
        self.program = _trace(function)
        if repr(_trace(function)) != repr(self.program):  # NaN is not equal to itself, its text is
            raise TypeError(f"formula {function.__name__}: it does something else each time; draw noise outside")
        self._plans: dict = {}

    def __call__(self, *arguments):
        if Symbol in map(type, arguments):  # inside another formula
            return self.function(*arguments)
        self._check_count(arguments)
        return kernels(arguments[0]).elementwise(self, *arguments)

    def plan(self, arguments, *, several: bool) -> "Plan":
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

    def _check_count(self, arguments) -> None:
        names = self.program.arguments
        if len(arguments) != len(names):
            raise TypeError(f"{self}: got {len(arguments)} arguments, needs {len(names)}: {', '.join(names)}")

    def _kinds(self, arguments) -> str:
        first = arguments[0]
        shape, dtype = getattr(first, "shape", None), getattr(first, "dtype", None)
        if dtype is None or dtype not in FLOATS:
            got = type(first).__name__ if dtype is None else f"an array of {dtype}"
            raise TypeError(f"{self}: {self.program.arguments[0]} is {got}, needs an array of float32 or float64")
        names = self.program.arguments
        kinds = ELEMENT
        for name, a in zip(names[1:], arguments[1:], strict=True):
            if type(a) is float or type(a) is int:
                kinds += NUMBER
                continue
            try:
                own, size = a.dtype, a.shape
            except AttributeError:
                own, size = f"{type(a).__name__}", None
            if own != dtype:
                got = f"a {own}" if size is None else f"an array of {own}"
                raise TypeError(f"{self}: {name} is {got}, needs an array of {dtype} or a plain number")
            if type(a) is not type(first) and backend_of(a) != backend_of(first):
                raise TypeError(
                    f"{self}: {name} is a {backend_of(a)} array, needs a {backend_of(first)} array, as {names[0]} is"
                )
            if size == shape:
                kinds += ELEMENT
            elif size == shape[-1:]:
                kinds += CHANNEL
            elif size == ():
                kinds += SINGLE
            else:
                raise ValueError(f"{self}: {name} has shape {size}, needs {shape}, {shape[-1:]} or ()")
        return kinds

    def __repr__(self):
        return f"formula {self.__name__}"


formula = Formula


class Plan:
    """A program for arguments of certain kinds: of each value, how many there are of it.

    What is made of plain numbers alone is worked out once, in Python's numbers, before any array is touched.
    """

    def __init__(self, formula: Formula, kinds: str):
        self.name, self.program, self.arguments = formula.__name__, formula.program, kinds
        program = formula.program
        self.kinds = dict(enumerate(kinds))
        self.booleans: set[int] = set()
        self._given = [place for place, kind in enumerate(kinds) if kind == NUMBER]
        self._made: list[tuple] = []
        for n, operation in enumerate(program.operations):
            self._add(program.place(n), operation)
        for place in program.results:
            if self.kinds[place] != ELEMENT:
                raise TypeError(
                    f"formula {self.name}: it returns one value for many elements; leave that to the caller"
                )

    def _add(self, place: int, operation: Operation) -> None:
        kinds = [self.kind(p) for p in operation.operands]
        kind = self.kinds[place] = max(kinds, key=KINDS.index)
        if operation.name in COMPARISONS:
            self.booleans.add(place)
        if kind == NUMBER and operation.called and operation.name in ARITHMETIC:  # NumPy's would be a np.float64
            raise TypeError(f"formula {self.name}: np.{operation.name} of plain numbers alone; use the operator")
        if kind == NUMBER and operation.name not in ARITHMETIC:
            raise TypeError(
                f"formula {self.name}: {operation.name} of plain numbers alone; work it out before the call"
            )
        if kind == NUMBER:
            self._made.append((place, _PYTHONS[operation.name], operation.operands))
        values = operation.operands[1:] if operation.name == "where" else operation.operands
        if kind != NUMBER and all(self.kind(p) == NUMBER or p in self.booleans for p in values):
            raise TypeError(
                f"formula {self.name}: {operation.name} of truth values and plain numbers alone has no float type; "
                "use np.where with an array for one of its branches"
            )

    def kind(self, place: int) -> str:
        return NUMBER if place < 0 else self.kinds[place]

    def numbers(self, arguments) -> dict[int, float]:
        """The value of every place that is a plain number, constants too."""
        found = {-1 - k: value for k, value in enumerate(self.program.constants)}
        for place in self._given:
            found[place] = arguments[place]
        for place, function, operands in self._made:
            found[place] = function(*(found[p] for p in operands))
        return found


_PYTHONS: dict[str, Callable] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
}


# --- tracing ---


class Symbol(NDArrayOperatorsMixin):
    """An element in a formula that is being traced: it has no value yet. What is done with it goes into the trace."""

    def __init__(self, trace: "_Trace", place: int, boolean: bool = False):
        self._trace, self.place, self.boolean = trace, place, boolean

    def __array_ufunc__(self, ufunc, method, *operands, **options):
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if "out" in options:
            self._trace.refuse(f"{name} writes into its argument; make a new value, y = y + 1")
        if options:
            self._trace.refuse(f"{name} takes no {', '.join(options)} here")
        return self._trace.add(name, operands)

    def __array_function__(self, function, types, operands, options):
        if function is not np.where or options:
            self._trace.refuse(f"np.{function.__name__} is not known; there are {_KNOWN}")
        return self._trace.add("where", operands)

    def __pow__(self, exponent):
        if type(exponent) in (int, float) and exponent in (2, 0.5):
            return np.square(self) if exponent == 2 else np.sqrt(self)
        return self._trace.refuse("** takes 2 and 0.5")

    def __bool__(self):
        self._trace.refuse("what happens may not depend on the values; use np.where, np.maximum or np.minimum")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self._trace.refuse(f".{name} is not known: it is an element, not an array")

    __float__ = __int__ = __index__ = __len__ = __iter__ = __getitem__ = __setitem__ = __array__ = (
        lambda self, *_, **__: self._trace.refuse("an element has neither parts nor, while it is traced, a value")
    )
    __matmul__ = __rmatmul__ = __imatmul__ = lambda self, _: self._trace.refuse("@ is not known for single elements")
    __hash__ = object.__hash__


def _operator(name: str, reflected: bool):
    def operator(self, *other):
        operands = (*other, self) if reflected else (self, *other)
        return self._trace.add(name, operands, called=False)

    return operator


for _short, _name in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}.items():
    setattr(Symbol, f"__{_short}__", _operator(_name, reflected=False))
    setattr(Symbol, f"__r{_short}__", _operator(_name, reflected=True))
Symbol.__neg__ = _operator("negative", reflected=False)


_KNOWN = ", ".join((*REAL, *COMPARISONS, "where"))


class _Trace:
    """A program as it comes into being."""

    def __init__(self, name: str):
        self.name = name
        self.operations: list[Operation] = []
        self.constants: list[int | float] = []
        self.arguments = 0
        self.refusal: TypeError | None = None  # which the formula may have caught

    def refuse(self, why: str):
        self.refusal = TypeError(f"formula {self.name}: {why}")
        raise self.refusal

    def argument(self) -> Symbol:
        self.arguments += 1
        return Symbol(self, self.arguments - 1)

    def add(self, name: str, operands, *, called: bool = True) -> Symbol:
        """The symbol for a function of symbols and constants."""
        if name not in REAL and name not in COMPARISONS and name != "where":
            self.refuse(f"{name} is not known; there are {_KNOWN}")
        if name == "where":
            if len(operands) != 3 or not isinstance(operands[0], Symbol) or not operands[0].boolean:
                self.refuse("np.where needs a comparison and two branches")
            values = operands[1:]
        else:
            values = operands
        if not any(isinstance(v, Symbol) and not v.boolean for v in values):
            self.refuse(
                f"{name} of truth values and plain numbers alone has no float type; "
                "use np.where with an array for one of its branches"
            )
        self.operations.append(Operation(name, tuple(self.place(v) for v in operands), called))
        return Symbol(self, self.arguments + len(self.operations) - 1, name in COMPARISONS)

    def place(self, value) -> int:
        if isinstance(value, Symbol):
            if value._trace is not self:
                self.refuse("it uses a value of another formula")
            return value.place
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


def _trace(function: Callable) -> Program:
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
        if not isinstance(term, Symbol) or term.boolean:
            what = "a comparison" if isinstance(term, Symbol) else f"a {type(term).__name__}"
            trace.refuse(f"it returns {what}, needs a value of the arguments' float type, or a tuple of them")
    results = tuple(term.place for term in terms)
    return Program(names, tuple(trace.operations), tuple(trace.constants), results, several)


def _check_plain(function) -> None:
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


def _instructions(code):
    """All of a function, and of those inside it."""
    yield from dis.get_instructions(code)
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _instructions(part)
