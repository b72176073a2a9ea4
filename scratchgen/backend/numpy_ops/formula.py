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

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from scratchgen.backend.formula import COMPARISONS, ELEMENT, NUMBER, REAL, Operation, Plan
from scratchgen.backend.numpy_ops.memory import workspace

INTEGERS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}  # as wide as the floats


def select(condition, a, b, out) -> None:
    """np.where by bits, out = b ^ ((a ^ b) & mask): several times as fast as NumPy's where truth values alternate."""
    a, b = (v if v.dtype == out.dtype else v.astype(out.dtype) for v in (a, b))  # a comparison may be a branch
    integer = INTEGERS[out.dtype]
    mask, difference = workspace("mask", out.shape, integer), workspace("difference", out.shape, integer)
    np.copyto(mask, condition)
    np.negative(mask, out=mask)  # all bits where the condition holds
    a, b = a.view(integer), b.view(integer)
    np.bitwise_xor(a, b, out=difference)
    np.bitwise_and(difference, mask, out=difference)
    np.bitwise_xor(b, difference, out=out.view(integer))


def scale_unless(condition, a, factor, out) -> None:
    """np.where(condition, a, factor * a): a times 1 or the factor."""
    np.copyto(out, condition)
    if 0 < factor <= 1:
        np.maximum(out, factor, out=out)
    else:
        out[out == 0] = factor
    np.multiply(a, out, out=out)


FUNCTIONS: dict[str, Callable] = {name: getattr(np, name) for name in (*REAL, *COMPARISONS)}
FUNCTIONS |= {"where": select, "scale_unless": scale_unless, "copyto": np.copyto}


class Calls:
    """A plan laid out in memory. `written` are the numbers of the terms that go into arrays of the caller's; the
    others stay in memory that the next block's are written into. What is the same for all rows is made once."""

    def __init__(self, plan: Plan, written: tuple[int, ...] = ()):
        self.plan, program = plan, plan.program
        self.rows = [p for p, kind in enumerate(plan.arguments) if kind == ELEMENT]
        self.pieces: list[bool] = []  # of memory: whether of truth values
        operations = [(program.place(n), operation) for n, operation in enumerate(program.operations)]
        self.once = [(p, op) for p, op in operations if plan.kind(p) not in (NUMBER, ELEMENT)]
        each = _shortened([(p, op) for p, op in operations if plan.kind(p) == ELEMENT], plan)
        self.same = sorted({p for _, op in each for p in op.operands if plan.kind(p) != ELEMENT})
        names = {p: f"a{p}" for p in self.rows} | {p: f"k{p}".replace("-", "_") for p in self.same}
        results = {program.results[term]: f"r{term}" for term in written}  # a place may be several terms
        last = {p: n for n, (_, op) in enumerate(each) for p in op.operands}
        last |= dict.fromkeys(program.results, len(each))
        free: list[int] = []
        lines = []
        for n, (place, operation) in enumerate(each):
            read = {names[p] for p in operation.operands if last[p] == n}
            over = [piece for piece in range(len(self.pieces)) if f"m{piece}" in read]  # read for the last time
            if operation.name != "scale_unless":
                free, over = free + over, []
            names[place] = results.get(place) or f"m{self._piece(free, place in plan.booleans)}"
            free += over
            operands = ", ".join(names[p] for p in operation.operands)
            lines.append(f"{operation.name}({operands}, out={names[place]})")
        for term in written:
            name = names[program.results[term]]
            lines += [f"copyto(r{term}, {name})"] * (name != f"r{term}")
        lines.append(f"return ({', '.join(names[p] for p in program.results)},)")
        pieces = [f"m{piece}" for piece in range(len(self.pieces))]
        parameters = [*(names[p] for p in (*self.rows, *self.same)), *pieces, *(f"r{term}" for term in written)]
        self.roles = [(f"formula {piece}", boolean) for piece, boolean in enumerate(self.pieces)]
        given = range(len(plan.arguments))
        self.as_given = [(p, plan.kind(p) == NUMBER) for p in self.same] if set(self.same) <= set(given) else None
        self.text = f"def formula({', '.join(parameters)}):\n" + "".join(f"    {line}\n" for line in lines)
        made: dict = {}
        exec(compile(self.text, f"<{plan.name}>", "exec"), FUNCTIONS.copy(), made)
        self.function = made["formula"]

    def _piece(self, free: list[int], boolean: bool) -> int:
        """A free piece of memory of this kind, or a new one."""
        piece = next((piece for piece in free if self.pieces[piece] == boolean), None)
        if piece is None:
            self.pieces.append(boolean)
            return len(self.pieces) - 1
        free.remove(piece)
        return piece

    def all_at_once(self, arguments, into):
        """The terms, with those that are written in the arrays `into`."""
        rows, same = [arguments[p] for p in self.rows], self._same(arguments)
        return self.function(*rows, *same, *self._memory(rows[0]), *into)

    def by_blocks(self, arguments, into, blocks: Iterable[slice]):
        """The same for each block of rows."""
        rows, same = [arguments[p] for p in self.rows], self._same(arguments)
        for block in blocks:
            cut = [a[block] for a in rows]
            yield self.function(*cut, *same, *self._memory(cut[0]), *[array[block] for array in into])

    def _memory(self, like) -> list:
        shape, dtype = like.shape, like.dtype
        return [workspace(role, shape, bool if boolean else dtype) for role, boolean in self.roles]

    def _same(self, arguments) -> list:
        """What each block is called with besides its rows: numbers as arrays, for which NumPy needs Python's lock
        less long, and what is made of one value a channel."""
        dtype = arguments[0].dtype
        if self.as_given:
            return [np.array(arguments[p], dtype) if number else arguments[p] for p, number in self.as_given]
        values = {place: np.array(number, dtype) for place, number in self.plan.numbers(arguments).items()}
        for place, argument in enumerate(arguments):
            values.setdefault(place, argument)
        for place, operation in self.once:
            function = np.where if operation.name == "where" else FUNCTIONS[operation.name]
            values[place] = function(*(values[p] for p in operation.operands))
        return [values[p] for p in self.same]


def _shortened(operations: list[tuple[int, Operation]], plan: Plan) -> list[tuple[int, Operation]]:
    """where(c, a, k·a) with a plain number k as one call."""
    by_place = dict(operations)
    short = []
    for place, operation in operations:
        if operation.name == "where":
            condition, a, b = operation.operands
            scaled = by_place.get(b)
            if scaled and scaled.name == "multiply" and a in scaled.operands:
                factor = scaled.operands[scaled.operands[0] == a]
                if plan.kind(factor) == NUMBER:
                    operation = Operation("scale_unless", (condition, a, factor))
        short.append((place, operation))
    read = {p for _, operation in short for p in operation.operands} | set(plan.program.results)
    return [(place, operation) for place, operation in short if place in read]


@cache
def calls(plan: Plan, written: tuple[int, ...] = ()) -> Calls:
    """The calls of a plan."""
    return Calls(plan, written)
