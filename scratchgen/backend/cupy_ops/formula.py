"""A formula as CUDA text: its program, one line an operation.

    tanh_pullback        __device__ inline real formula(const real x0, const real x1) {
                             const real v2 = x1 * x1;
                             const real v3 = (real)1 - v2;
                             const real v4 = x0 * v3;
                             return v4;
                         }

So a layer's formula is its own GPU kernel: one pass over memory, where each operation by itself would take one. Plain
numbers go to the kernel as parameters: another slope or 1/N needs no other kernel.
"""

import math
from functools import cache

from scratchgen.backend.formula import CHANNEL, ELEMENT, NUMBER, Plan

TEXTS = {
    "absolute": "fabs({})",
    "add": "{} + {}",
    "cos": "cos({})",
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
    "maximum": "larger({}, {})",
    "minimum": "smaller({}, {})",
    "multiply": "{} * {}",
    "negative": "-{}",
    "not_equal": "{} != {}",
    "sin": "sin({})",
    "sqrt": "sqrt({})",
    "square": "{0} * {0}",
    "subtract": "{} - {}",
    "tanh": "tanh({})",
    "where": "{} ? {} : {}",
}
INDEX = {ELEMENT: "(i)", CHANNEL: "(c)"}  # of an argument; one for all is at 0


class Text:
    """What a kernel of `sources/` needs of a plan: `formula`, and how it gets at its arguments."""

    def __init__(self, plan: Plan):
        self.plan, program = plan, plan.program
        used = [p for n, operation in enumerate(program.operations) for p in self._read(program.place(n), operation)]
        # the places that are parameters of the kernel: arrays, and plain numbers that an array meets
        self.arrays = [p for p, kind in enumerate(plan.arguments) if kind != NUMBER]
        self.numbers = list(dict.fromkeys(p for p in used if p >= 0 and plan.kind(p) == NUMBER))
        lines = [
            f"const {'bool' if place in plan.booleans else 'real'} v{place} = {self._line(operation)};"
            for place, operation in self._operations()
        ]
        terms = [self._name(p) for p in program.results]
        parameters = [f"const real x{p}" for p in self.arrays] + [f"const real k{p}" for p in self.numbers]
        if program.several:
            parameters.append(f"real (&out)[{len(terms)}]")
            lines += [f"out[{n}] = {term};" for n, term in enumerate(terms)]
        else:
            lines.append(f"return {terms[0]};")
        head = f"__device__ inline {'void' if program.several else 'real'} formula({', '.join(parameters)})"
        self.formula = f"{head} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

    def _operations(self):
        program = self.plan.program
        for n, operation in enumerate(program.operations):
            if self.plan.kinds[program.place(n)] != NUMBER:
                yield program.place(n), operation

    def _read(self, place: int, operation):
        return operation.operands if self.plan.kinds[place] != NUMBER else ()

    def _line(self, operation) -> str:
        names = [self._name(p) for p in operation.operands]
        if operation.name == "where":
            names[0] = f"v{operation.operands[0]}"
        return TEXTS[operation.name].format(*names)

    def _name(self, place: int) -> str:
        """How a value is written where a real is wanted."""
        if place < 0:
            return _constant(self.plan.program.constants[-1 - place])
        if place in self.plan.booleans:
            return f"(real)v{place}"
        if self.plan.kind(place) == NUMBER:
            return f"k{place}"
        return f"{'x' if place < len(self.plan.arguments) else 'v'}{place}"

    @property
    def source(self) -> str:
        """The text that stands before a kernel: `formula`; ARRAYS, its parameters; AT(i, c), what they are at index i
        in channel c; RESULTS and STORE(i), the arrays of the terms after the first."""
        kinds = self.plan.arguments
        arrays = [f"const real* __restrict__ a{p}" for p in self.arrays] + [f"const real k{p}" for p in self.numbers]
        at = [f"a{p}[{INDEX.get(kinds[p], '0')}]" for p in self.arrays] + [f"k{p}" for p in self.numbers]
        others = range(1, len(self.plan.program.results))
        return (
            f"{self.formula}"
            f"#define ARRAYS , {', '.join(arrays)}\n"
            f"#define AT(i, c) {', '.join(at)}\n"
            f"#define RESULTS {''.join(f', real* __restrict__ y{n}' for n in others)}\n"
            f"#define STORE(i) {' '.join(f'y{n}[i] = out[{n}];' for n in others)}\n"
        )

    def parameters(self, arguments, dtype) -> list:
        """What the kernel is called with for ARRAYS."""
        numbers = self.plan.numbers(arguments) if self.numbers else {}
        return [arguments[p] for p in self.arrays] + [dtype.type(numbers[p]) for p in self.numbers]


def _constant(value: int | float) -> str:
    if value != value:
        return "(real)(0.0 / 0.0)"
    if value in (math.inf, -math.inf):
        return f"(real)({math.copysign(1, value)} / 0.0)"
    return f"(real){value!r}"


@cache
def text(plan: Plan) -> Text:
    """The text of a plan."""
    return Text(plan)
