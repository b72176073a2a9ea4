"""A formula as NumPy's calls, each of which writes into memory that is there already: its program, one line an
operation.

    tanh_pullback        def formula(a0, a1, k_1, m0, r0):
                             multiply(a1, a1, out=m0)
                             subtract(k_1, m0, out=m0)
                             multiply(a0, m0, out=r0)
                             return (r0,)

Called as it is, a formula asks for new memory at every operation. Here what nobody reads any more is written over,
and the last call writes the result itself, a block that stays in cache at a time. These are the calls that the
formula itself would make, so the result is the same bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from scratchgen.backend.arrays import Array
from scratchgen.backend.formula import COMPARISONS, ELEMENT, NUMBER, REAL, Operation, Plan
from scratchgen.backend.numpy_ops.memory import workspace

INTEGERS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}  # as wide as the floats


def select(condition: Array, a: Array, b: Array, out: Array) -> None:
    """np.where by bits, out = b ^ ((a ^ b) & mask): several times as fast where the condition alternates."""
    a, b = (v if v.dtype == out.dtype else v.astype(out.dtype) for v in (a, b))  # a comparison may be a branch
    integer = INTEGERS[out.dtype]
    mask, difference = workspace("mask", out.shape, integer), workspace("difference", out.shape, integer)
    np.copyto(mask, condition)
    np.negative(mask, out=mask)  # all bits where the condition holds
    a, b = a.view(integer), b.view(integer)
    np.bitwise_xor(a, b, out=difference)
    np.bitwise_and(difference, mask, out=difference)
    np.bitwise_xor(b, difference, out=out.view(integer))


def scale_unless(condition: Array, a: Array, factor: Array, out: Array) -> None:
    """np.where(condition, a, factor * a): a times 1 or the factor."""
    np.copyto(out, condition)
    if 0 < factor <= 1:
        np.maximum(out, factor, out=out)
    else:
        out[out == 0] = factor
    np.multiply(a, out, out=out)


def scale_unless_positive(a: Array, factor: Array, out: Array) -> None:
    """np.where(a > 0, a, factor * a): the larger of the two where the factor is from 0 to 1."""
    np.multiply(a, factor, out=out)
    if 0 < factor <= 1:
        np.maximum(a, out, out=out)
    else:
        select(a > 0, a, out, out)


FUNCTIONS: dict[str, Callable[..., Any]] = {name: getattr(np, name) for name in (*REAL, *COMPARISONS)}
FUNCTIONS |= {"where": select, "scale_unless": scale_unless, "scale_unless_positive": scale_unless_positive}
FUNCTIONS |= {"copyto": np.copyto}


class Calls:
    """A plan laid out in memory: a function whose parameters are a block of the rows of each array, what is the same
    for all rows, buffers for what is made in between, and where results go.

    `written` says which terms go into arrays of the caller's; the others stay in a buffer, until the next block.
    """

    def __init__(self, plan: Plan, written: tuple[int, ...] = ()):
        self.plan, program = plan, plan.program
        self.rows = [i for i, kind in enumerate(plan.arguments) if kind == ELEMENT]
        self.buffers: list[bool] = []  # whether of booleans
        operations = program.indexed()
        self.once = [(i, op) for i, op in operations if plan.kind(i) not in (NUMBER, ELEMENT)]
        each = _shortened([(i, op) for i, op in operations if plan.kind(i) == ELEMENT], plan)
        self.same = sorted({i for _, op in each for i in op.operands if plan.kind(i) != ELEMENT})
        names = {i: f"a{i}" for i in self.rows} | {i: f"k{i}".replace("-", "_") for i in self.same}
        results = {program.results[term]: f"r{term}" for term in written}  # a value may be several terms
        last = {i: n for n, (_, op) in enumerate(each) for i in op.operands}  # the operation that reads it last
        last |= dict.fromkeys(program.results, len(each))
        free: list[int] = []
        lines = []
        for n, (index, operation) in enumerate(each):
            read = {names[i] for i in operation.operands if last[i] == n}
            over = [buffer for buffer in range(len(self.buffers)) if f"m{buffer}" in read]  # may be written over
            if not operation.name.startswith("scale_"):  # which write before they have read all
                free, over = free + over, []
            names[index] = results.get(index) or f"m{self._buffer(free, index in plan.booleans)}"
            free += over
            operands = ", ".join(names[i] for i in operation.operands)
            lines.append(f"{operation.name}({operands}, out={names[index]})")
        for term in written:
            name = names[program.results[term]]
            lines += [f"copyto(r{term}, {name})"] * (name != f"r{term}")
        lines.append(f"return ({', '.join(names[i] for i in program.results)},)")
        buffers = [f"m{buffer}" for buffer in range(len(self.buffers))]
        parameters = [*(names[i] for i in (*self.rows, *self.same)), *buffers, *(f"r{term}" for term in written)]
        self.roles = [(f"formula {buffer}", boolean) for buffer, boolean in enumerate(self.buffers)]
        self.given = [i for i, kind in enumerate(plan.arguments) if kind == NUMBER]
        self.last: tuple[Any, dict[int, Array]] = None, {}
        self.text = f"def formula({', '.join(parameters)}):\n" + "".join(f"    {line}\n" for line in lines)
        made: dict[str, Callable[..., tuple[Array, ...]]] = {}
        exec(compile(self.text, f"<{plan.name}>", "exec"), FUNCTIONS.copy(), made)
        self.function = made["formula"]

    def _buffer(self, free: list[int], boolean: bool) -> int:
        """A free buffer of this kind, or a new one."""
        buffer = next((buffer for buffer in free if self.buffers[buffer] == boolean), None)
        if buffer is None:
            self.buffers.append(boolean)
            return len(self.buffers) - 1
        free.remove(buffer)
        return buffer

    def all_at_once(self, arguments: Sequence[Any], into: Sequence[Array]) -> tuple[Array, ...]:
        """The terms; those that are written are in the arrays `into`."""
        rows, same = [arguments[p] for p in self.rows], self._same(arguments)
        return self.function(*rows, *same, *self._memory(rows[0]), *into)

    def by_blocks(
        self, arguments: Sequence[Any], into: Sequence[Array], blocks: Iterable[slice]
    ) -> Iterator[tuple[Array, ...]]:
        """The same for each block of rows."""
        rows, same = [arguments[p] for p in self.rows], self._same(arguments)
        for block in blocks:
            cut = [a[block] for a in rows]
            yield self.function(*cut, *same, *self._memory(cut[0]), *[array[block] for array in into])

    def _memory(self, like: Array) -> list[Array]:
        shape, dtype = like.shape, like.dtype
        return [workspace(role, shape, bool if boolean else dtype) for role, boolean in self.roles]

    def _numbers(self, arguments: Sequence[Any]) -> dict[int, Array]:
        """Every plain number as an array; those of the last call again where they are the same."""
        dtype = arguments[0].dtype
        given = dtype, repr([arguments[i] for i in self.given])  # 0.0 equals −0.0, its text does not
        last, numbers = self.last
        if last != given:
            numbers = {i: np.array(number, dtype) for i, number in self.plan.numbers(arguments).items()}
            self.last = given, numbers
        return numbers

    def _same(self, arguments: Sequence[Any]) -> list[Array]:
        """What each block is called with besides its rows: numbers as arrays, for which NumPy needs Python's lock
        less long, and what is made of one value a channel."""
        numbers = self._numbers(arguments)
        if not self.once:
            return [numbers[i] if i in numbers else arguments[i] for i in self.same]
        values: dict[int, Any] = dict(enumerate(arguments)) | numbers
        for index, operation in self.once:
            function = np.where if operation.name == "where" else FUNCTIONS[operation.name]
            values[index] = function(*(values[i] for i in operation.operands))
        return [values[i] for i in self.same]


def _shortened(operations: list[tuple[int, Operation]], plan: Plan) -> list[tuple[int, Operation]]:
    """where(c, a, k·a) with a plain number k as one call, and with c = a > 0 as a shorter one."""
    by_index = dict(operations)
    zeros = {-1 - k for k, constant in enumerate(plan.program.constants) if constant == 0}
    short = []
    for index, operation in operations:
        if operation.name == "where":
            condition, a, b = operation.operands
            scaled = by_index.get(b)
            if scaled and scaled.name == "multiply" and a in scaled.operands:
                factor = scaled.operands[scaled.operands[0] == a]
                if plan.kind(factor) == NUMBER:
                    operation = Operation("scale_unless", (condition, a, factor))
                    test = by_index.get(condition)
                    if test and test.name == "greater" and test.operands[0] == a and test.operands[1] in zeros:
                        operation = Operation("scale_unless_positive", (a, factor))
        short.append((index, operation))
    read = {i for _, operation in short for i in operation.operands} | set(plan.program.results)
    return [(index, operation) for index, operation in short if index in read]


@cache
def calls(plan: Plan, written: tuple[int, ...] = ()) -> Calls:
    """The calls of a plan."""
    return Calls(plan, written)
