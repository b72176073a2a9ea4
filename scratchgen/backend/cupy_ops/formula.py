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
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from scratchgen.backend.formula import CHANNEL, ELEMENT, NUMBER, WRITTEN, Operation, Plan

TEXTS = WRITTEN | {
    "absolute": "fabs({})",
    "cos": "cos({})",
    "maximum": "larger({}, {})",
    "minimum": "smaller({}, {})",
    "sin": "sin({})",
    "sqrt": "sqrt({})",
    "where": "{} ? {} : {}",
}
INDEX = {ELEMENT: "(i)", CHANNEL: "(c)"}  # of an argument; one for all is at 0


class Text:
    """What a kernel of `sources/` needs of a plan: `formula`, and how it gets at its arguments."""

    def __init__(self, plan: Plan):
        self.plan, program = plan, plan.program
        operations = [(i, op) for i, op in program.indexed() if plan.kind(i) != NUMBER]
        used = [i for _, op in operations for i in op.operands]
        # the values that are parameters of the kernel: arrays, and plain numbers that an array meets
        self.arrays = [i for i, kind in enumerate(plan.arguments) if kind != NUMBER]
        self.numbers = list(dict.fromkeys(i for i in used if i >= 0 and plan.kind(i) == NUMBER))
        lines = [
            f"const {'bool' if index in plan.booleans else 'real'} v{index} = {self._line(operation)};"
            for index, operation in operations
        ]
        terms = [self._name(i) for i in program.results]
        parameters = [f"const real x{i}" for i in self.arrays] + [f"const real k{i}" for i in self.numbers]
        if program.several:
            parameters.append(f"real (&out)[{len(terms)}]")
            lines += [f"out[{n}] = {term};" for n, term in enumerate(terms)]
        else:
            lines.append(f"return {terms[0]};")
        head = f"__device__ inline {'void' if program.several else 'real'} formula({', '.join(parameters)})"
        self.formula = f"{head} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

    def _line(self, operation: Operation) -> str:
        names = [self._name(i) for i in operation.operands]
        if operation.name == "where":
            names[0] = f"v{operation.operands[0]}"
        return TEXTS[operation.name].format(*names)

    def _name(self, index: int) -> str:
        """How a value is written where a real is wanted."""
        if index < 0:
            return _constant(self.plan.program.constants[-1 - index])
        if index in self.plan.booleans:
            return f"(real)v{index}"
        if self.plan.kind(index) == NUMBER:
            return f"k{index}"
        return f"{'x' if index < len(self.plan.arguments) else 'v'}{index}"

    @property
    def source(self) -> str:
        """The text that stands before a kernel: `formula`; ARRAYS, its parameters; AT(i, c), what they are at index i
        in channel c; RESULTS and STORE(i), the arrays of the terms after the first."""
        kinds = self.plan.arguments
        arrays = [f"const real* __restrict__ a{i}" for i in self.arrays] + [f"const real k{i}" for i in self.numbers]
        at = [f"a{i}[{INDEX.get(kinds[i], '0')}]" for i in self.arrays] + [f"k{i}" for i in self.numbers]
        others = range(1, len(self.plan.program.results))
        return (
            f"{self.formula}"
            f"#define ARRAYS , {', '.join(arrays)}\n"
            f"#define AT(i, c) {', '.join(at)}\n"
            f"#define RESULTS {''.join(f', real* __restrict__ y{n}' for n in others)}\n"
            f"#define STORE(i) {' '.join(f'y{n}[i] = out[{n}];' for n in others)}\n"
        )

    def parameters(self, arguments: Sequence[Any], dtype: np.dtype[Any]) -> list[Any]:
        """What the kernel is called with for ARRAYS."""
        numbers = self.plan.numbers(arguments) if self.numbers else {}
        return [arguments[i] for i in self.arrays] + [dtype.type(numbers[i]) for i in self.numbers]


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
