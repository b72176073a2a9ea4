"""A formula in Python as a list of NumPy's calls, each of which writes into memory that is there already.

    lambda dy, y: dy * (1 - y * y)        multiply(y, y, out=r)   subtract(1, r, out=r)   multiply(dy, r, out=r)

Called with arrays, a formula asks for new memory at every operation, and its result must then be copied to where it
belongs. Called once with symbols, which write down what happens to them, it becomes a list that is run on block after
block: what nobody reads any more is written over, and the last call writes the result itself. These are the same
calls on the same numbers in the same order, so the result is the same bit for bit.
"""

from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from scratchgen.backend.numpy_ops.memory import workspace


def of(f: Callable, matrices: list):
    """f of matrices, a block of rows at a time; a matrix of one row is the same for every block.

    What f does is found out once, with symbols in the place of the arrays; where it does more than call NumPy's
    element-wise functions, or where there is but one row, it is called for each block instead.
    """
    if all(len(a) == 1 for a in matrices):
        return Called(f, matrices)
    try:
        return Traced(f, matrices)
    except Exception:  # one of f's own is raised again when it is called
        return Called(f, matrices)


class Called:
    """f as it is, called with each block."""

    def __init__(self, f: Callable, matrices: list):
        self.f, self.matrices = f, matrices

    def terms(self, blocks: Iterable[slice]):
        """What f returns for each block of rows."""
        for block in blocks:
            yield self.f(*(a if len(a) == 1 else a[block] for a in self.matrices))

    def write(self, blocks: Iterable[slice], into) -> None:
        """The same, for an f that returns one array, which goes into another."""
        for block in blocks:
            (into[block],) = self.terms([block])


class Traced:
    """f as a list of calls. Its terms lie in memory that the next block's are written into."""

    def __init__(self, f: Callable, matrices: list):
        calls = Calls()
        arguments = [Symbol(calls, a.dtype) if len(a) > 1 else a for a in matrices]
        results = f(*arguments)
        results = tuple(results) if isinstance(results, tuple | list) else (results,)
        symbols = [a for a in arguments if type(a) is Symbol]
        self.matrices = [a for a in matrices if len(a) > 1]
        self.constants = [v for _, operands, _ in calls for v in operands if type(v) is not Symbol]
        self.constants += [v for v in results if type(v) is not Symbol]
        place = {id(value): n for n, value in enumerate((*symbols, *self.constants))}
        self.known = len(symbols) + len(self.constants)  # places with something in them; those of `memory` follow
        self.calls, self.memory = _in_memory(calls, results, place, self.known)
        self.results = [place[id(result)] for result in results]

    def terms(self, blocks: Iterable[slice]):
        for _, values in self._values(blocks):
            self._run(values)
            yield tuple(values[place] for place in self.results)

    def write(self, blocks: Iterable[slice], into) -> None:
        (place,) = self.results
        made = place >= self.known and self.memory[place - self.known] == into.dtype
        for block, values in self._values(blocks):
            if made:
                values[place] = into[block]
            self._run(values)
            if not made:
                np.copyto(into[block], values[place], casting="unsafe")

    def _values(self, blocks: Iterable[slice]):
        """What is in each place at the start of each block."""
        memory = []
        for block in blocks:
            values = [a[block] for a in self.matrices] + self.constants
            shape = values[0].shape
            memory = memory or [workspace(f"formula {n}", shape, dtype) for n, dtype in enumerate(self.memory)]
            yield block, values + [piece[: shape[0]] for piece in memory]

    def _run(self, values: list) -> None:
        for function, reads, makes in self.calls:
            function(*[values[place] for place in reads], out=values[makes])


class Calls(list):
    """What a formula does, in order: functions, their operands, and the symbols for what they make."""

    def __init__(self):
        super().__init__()
        self.errors = np.geterr()  # a formula that sets its own must be called: the calls run without them


class Symbol(NDArrayOperatorsMixin):
    """An array in a formula that is being traced; what is done with it goes to `calls`.

    It has no numbers. Whatever asks for them, or is no element-wise function, gets a TypeError, and the formula is
    called with arrays.
    """

    __module__ = "numpy"  # it stands for an array of NumPy's, and is asked where it lives like one
    __slots__ = ("calls", "dtype")

    def __init__(self, calls: Calls, dtype):
        self.calls, self.dtype = calls, dtype

    def __array_ufunc__(self, ufunc, method, *operands, **options):
        plain = method == "__call__" and not options and ufunc.nout == 1 and ufunc.signature is None
        if not plain or any(getattr(v, "ndim", 0) > 2 for v in operands) or self._has_own_errors():
            return NotImplemented  # which raises TypeError
        dtype = _result(ufunc, *[getattr(operand, "dtype", type(operand)) for operand in operands])
        if dtype.hasobject:
            return NotImplemented
        return self._called(ufunc, operands, dtype)

    def _has_own_errors(self) -> bool:
        return np.geterr() != self.calls.errors

    def __array__(self, *_, **__):
        raise TypeError("an array in a formula that is being traced has no numbers yet")  # np.where begins with them

    def __pow__(self, exponent):
        """As arrays do, for which these three are not np.power."""
        if type(exponent) in (int, float) and np.issubdtype(self.dtype, np.inexact):
            for special, function in ((2, np.square), (0.5, np.sqrt), (-1, np.reciprocal)):
                if exponent == special and (type(exponent) is type(special) or self.dtype.kind == "f"):
                    return function(self)
        return np.power(self, exponent)

    def astype(self, dtype):
        return self._called(_cast, (self,), np.dtype(dtype))

    def _called(self, function: Callable, operands: tuple, dtype) -> "Symbol":
        made = Symbol(self.calls, dtype)
        self.calls.append((function, operands, made))
        return made

    def __bool__(self):
        raise TypeError("what a formula does may not depend on the numbers")


@cache
def _result(ufunc, *dtypes):
    """The dtype of what a function makes of operands of these; Python's own numbers take part by their type."""
    return ufunc.resolve_dtypes((*dtypes, None))[-1]


def _cast(a, out) -> None:
    np.copyto(out, a, casting="unsafe")  # as astype does


def _in_memory(calls: list, results: tuple, place: dict, known: int) -> tuple[list, list]:
    """The calls by places, and the dtypes of the pieces of memory that they write into, with places from `known` on.

    A piece is free from the call on that reads it last: that one may write over what it reads.
    """
    last = {id(value): n for n, (_, operands, _) in enumerate(calls) for value in operands}
    last.update((id(result), len(calls)) for result in results)
    laid, memory, free = [], [], []
    for n, (function, operands, made) in enumerate(calls):
        free += {place[id(v)] for v in operands if last[id(v)] == n and place[id(v)] >= known}
        at = next((at for at in free if memory[at - known] == made.dtype), None)
        if at is None:
            at = known + len(memory)
            memory.append(made.dtype)
        else:
            free.remove(at)
        place[id(made)] = at
        laid.append((function, [place[id(value)] for value in operands], at))
    return laid, memory
