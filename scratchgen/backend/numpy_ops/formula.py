"""A formula as NumPy's calls, each of which writes into memory that is there already.

    tanh_pullback        multiply(y, y, out=r)   subtract(1, r, out=r)   multiply(dy, r, out=r)

Called as it is, a formula asks for new memory at every operation. Here its program is run on block after block: what
nobody reads any more is written over, and the last call writes the result itself. What is the same for all rows is made
once. These are the calls that the formula itself would make, so the result is the same bit for bit.
"""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from scratchgen.backend.formula import COMPARISONS, ELEMENT, NUMBER, REAL, Plan
from scratchgen.backend.numpy_ops.memory import workspace

INTEGERS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}  # as wide as the floats


def select(condition, a, b, out) -> None:
    """np.where by bits, out = b ^ ((a ^ b) & mask): several times as fast as NumPy's where truth values alternate."""
    integer = INTEGERS[out.dtype]
    mask = workspace("mask", out.shape, integer)
    np.copyto(mask, condition)
    np.negative(mask, out=mask)  # all bits where the condition holds
    a, b, bits = a.view(integer), b.view(integer), out.view(integer)
    difference = workspace("difference", out.shape, integer)
    np.bitwise_xor(a, b, out=difference)
    np.bitwise_and(difference, mask, out=difference)
    np.bitwise_xor(b, difference, out=bits)


FUNCTIONS: dict[str, Callable] = {name: getattr(np, name) for name in (*REAL, *COMPARISONS)} | {"where": select}


class Calls:
    """A plan laid out in memory: a piece is free from the call on that reads it last."""

    def __init__(self, plan: Plan):
        self.plan, program = plan, plan.program
        self.once: list[tuple[Callable, tuple[int, ...], int]] = []  # per channel or for all
        self.each: list[tuple[Callable, tuple[int, ...], int]] = []  # per element
        self.pieces: list[bool] = []  # of memory: whether of truth values
        self.piece_of: dict[int, int] = {}  # by place
        last = {p: n for n, operation in enumerate(program.operations) for p in operation.operands}
        last |= dict.fromkeys(program.results, len(program.operations))
        free: list[int] = []
        for n, operation in enumerate(program.operations):
            place = program.place(n)
            if plan.kinds[place] == NUMBER:
                continue
            if plan.kinds[place] != ELEMENT:
                function = np.where if operation.name == "where" else FUNCTIONS[operation.name]
                self.once.append((function, operation.operands, place))
                continue
            free += {self.piece_of[p] for p in operation.operands if last[p] == n and p in self.piece_of}
            boolean = place in plan.booleans
            piece = next((piece for piece in free if self.pieces[piece] == boolean), None)
            if piece is None:
                piece = len(self.pieces)
                self.pieces.append(boolean)
            else:
                free.remove(piece)
            self.piece_of[place] = piece
            self.each.append((FUNCTIONS[operation.name], operation.operands, place))

    def terms(self, arguments, blocks: Iterable[slice]):
        """The formula's terms for each block of rows, in memory that the next block's are written into."""
        for _, values in self._values(arguments, blocks):
            self._run(values)
            yield tuple(values[place] for place in self.plan.program.results)

    def write(self, arguments, blocks: Iterable[slice], into) -> None:
        """The one term of a formula, into an array."""
        (place,) = self.plan.program.results
        for block, values in self._values(arguments, blocks):
            if place in self.piece_of:
                values[place] = into[block]
            self._run(values)
            if place not in self.piece_of:  # an argument as it is
                into[block] = values[place]

    def _values(self, arguments, blocks: Iterable[slice]):
        """What is in each place at the start of each block. Arguments are matrices, and plain numbers."""
        plan, dtype = self.plan, arguments[0].dtype
        count = len(arguments) + len(plan.program.operations)
        common = [None] * (count + len(plan.program.constants))
        common[: len(arguments)] = arguments
        for place, number in plan.numbers(arguments).items():
            common[place] = np.array(number, dtype)  # for which NumPy holds Python's lock less long than for a number
        for function, operands, place in self.once:
            common[place] = function(*(common[p] for p in operands))
        rows = [place for place, kind in enumerate(plan.arguments) if kind == ELEMENT]
        memory = None
        for block in blocks:
            values = common.copy()
            for place in rows:
                values[place] = arguments[place][block]
            shape = values[0].shape
            if memory is None:
                memory = [
                    workspace(f"formula {n}", shape, bool if boolean else dtype)
                    for n, boolean in enumerate(self.pieces)
                ]
            for place, piece in self.piece_of.items():
                values[place] = memory[piece][: shape[0]]
            yield block, values

    def _run(self, values: list) -> None:
        for function, operands, place in self.each:
            function(*[values[p] for p in operands], out=values[place])


@cache
def calls(plan: Plan) -> Calls:
    """The calls of a plan."""
    return Calls(plan)
