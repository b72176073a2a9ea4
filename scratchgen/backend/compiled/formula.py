"""A formula as a loop in Python that Numba compiles: its program, one line an operation.

    tanh_pullback        def tanh_pullback_loop(a0, a1, r0, start, stop):
                             for row in range(start, stop):
                                 x0 = a0[row]; x1 = a1[row]; y0 = r0[row]
                                 for i in range(x0.size):
                                     v2 = x1[i] * x1[i]
                                     v3 = real(1) - v2
                                     v4 = x0[i] * v3
                                     y0[i] = v4

Each element is read once and written once, whatever happens in between, sixteen of them at a time. These are the
operations of the formula in its own order, so the result is NumPy's bit for bit, unless it has one of `functions`.
A term that is summed is added up in each column by itself.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from scratchgen.backend.arrays import Array
from scratchgen.backend.compiled import functions
from scratchgen.backend.compiled.compiler import Loop, inlined
from scratchgen.backend.formula import CHANNEL, ELEMENT, SINGLE, WRITTEN, Operation, Plan

TEXTS = WRITTEN | {
    "absolute": "abs({})",
    "maximum": "{0} if {0} >= {1} or {0} != {0} else {1}",  # NaN is passed on
    "minimum": "{0} if {0} <= {1} or {0} != {0} else {1}",
    "sqrt": "np.sqrt({})",
    "where": "{1} if {0} else {2}",
}
POWER = (functions.scaled, functions.reduced, functions.exp_minus_one_of)
USES = {  # what stands before a loop that has one of these
    "exp": (*POWER, functions.exp),
    "expm1": (*POWER, functions.expm1),
    "log": (functions.log,),
    "log1p": (functions.log, functions.log1p),
    "tanh": (*POWER, functions.exp, functions.tanh),
}


class FormulaLoop:
    """The loop of a plan: `loop`, and `values(arguments)`, which of its parameters are the same for all rows.

    Its parameters: the arrays of elements, (rows, width); what is one value a channel, (width,); numbers; for each
    term of `summed` its sums, (width,), which are added to; for each of `written` where it goes, (rows, width); the
    rows that are done.
    """

    def __init__(self, plan: Plan, summed: tuple[int, ...], written: tuple[int, ...]):
        self.plan, program = plan, plan.program
        operations = program.indexed()
        self.once = [(i, op) for i, op in operations if plan.kind(i) in (SINGLE, CHANNEL)]
        each = [(i, op) for i, op in operations if plan.kind(i) == ELEMENT]
        self.rows = [i for i, kind in enumerate(plan.arguments) if kind == ELEMENT]
        same = sorted({i for _, op in each for i in op.operands if i >= 0 and plan.kind(i) != ELEMENT})
        self.columns = [i for i in same if plan.kind(i) == CHANNEL]
        self.numbers = [i for i in same if plan.kind(i) != CHANNEL]
        self.given = max([*same, 0]) < len(plan.arguments)  # all of them are arguments
        self.terms = len(summed)
        matrices = [f"x{i} = a{i}[row]" for i in self.rows] + [f"y{n} = r{n}[row]" for n in written]
        lines = [f"v{index} = {self._line(operation)}" for index, operation in each]
        lines += [f"s{n}[i] += {self._name(program.results[n])}" for n in summed]
        lines += [f"y{n}[i] = {self._name(program.results[n])}" for n in written]
        parameters: dict[str, tuple[Any, ...]] = {f"a{i}": ("in", 2) for i in self.rows}
        parameters |= {f"x{i}": ("in", 1) for i in self.columns}
        parameters.update({f"k{i}": ("number",) for i in self.numbers})
        parameters |= {f"s{n}": ("out", 1) for n in summed} | {f"r{n}": ("out", 2) for n in written}
        parameters |= {"start": ("count",), "stop": ("count",)}
        name = f"{plan.name}_loop" if plan.name.isidentifier() else "formula_loop"
        text = f"def {name}({', '.join(parameters)}):\n    for row in range(start, stop):\n"
        text += "".join(f"        {line}\n" for line in matrices) + "        for i in range(x0.size):\n"
        text += "".join(f"            {line}\n" for line in lines)
        called = {op.name for _, op in each}
        # of an element in multiply-adds, about: reading and writing, operations, functions
        self.cost = 40 + 10 * len(each) + 100 * len(called & USES.keys())
        uses = dict.fromkeys(function for name in USES if name in called for function in USES[name])
        self.plain = called.isdisjoint(USES)
        self.loop = Loop(name, "\n\n".join([*map(inlined, uses), text]), list(parameters.values()))

    def _line(self, operation: Operation) -> str:
        names = [self._name(i) for i in operation.operands]
        if operation.name == "where":
            condition = operation.operands[0]
            names[0] = f"v{condition}" if self.plan.kind(condition) == ELEMENT else f"{names[0]} != real(0)"
        return TEXTS[operation.name].format(*names)

    def _name(self, index: int) -> str:
        """How a value is written where a real is wanted."""
        kind = self.plan.kind(index)
        if index < 0:
            return f"real({_constant(self.plan.program.constants[-1 - index])})"
        if index in self.plan.booleans and kind == ELEMENT:
            return f"(real(1) if v{index} else real(0))"
        if kind == CHANNEL or (kind == ELEMENT and index < len(self.plan.arguments)):
            return f"x{index}[i]"
        return f"{'v' if kind == ELEMENT else 'k'}{index}"

    def values(self, arguments: Sequence[Any]) -> tuple[list[Array], list[float]]:
        """What is the same for all rows: the columns' values (C,), and the numbers; what is true is 1."""
        if self.given:
            return [arguments[i] for i in self.columns], [float(arguments[i]) for i in self.numbers]
        values: dict[int, Any] = dict(enumerate(arguments)) | self.plan.numbers(arguments)
        for index, operation in self.once:
            values[index] = getattr(np, operation.name)(*(values[i] for i in operation.operands))
        dtype = arguments[0].dtype
        return [values[i].astype(dtype, copy=False) for i in self.columns], [float(values[i]) for i in self.numbers]


def _constant(value: int | float) -> str:
    return repr(value) if np.isfinite(value) else f"np.{value!r}".replace("np.-", "-np.")


@cache
def formula_loop(plan: Plan, summed: tuple[int, ...], written: tuple[int, ...]) -> FormulaLoop | None:
    """The loop of a plan; None where the formula has a function that has none here."""
    names = {op.name for index, op in plan.program.indexed() if plan.kind(index) == ELEMENT}
    return FormulaLoop(plan, summed, written) if names <= TEXTS.keys() else None
