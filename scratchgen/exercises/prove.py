"""What the proofs of exercises share: the gradient check of what a student wrote, and what it found in sentences."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.gradcheck import Report, TensorReport, check
from scratchgen.gradcheck.guard import contained, described
from scratchgen.gradcheck.styles import takes_no_argument
from scratchgen.layers.module import Module

Proof = Callable[[Any, np.random.Generator], Result]
UNWRITTEN = "write "  # how the message of a skeleton's NotImplementedError begins


@dataclass(frozen=True)
class Case:
    """Something to check, inputs to check it at, and what forward gives there: `formula` says it in words."""

    target: Any
    inputs: tuple[Any, ...]
    expected: Array | Sequence[Array]
    formula: str


def contained_proof(prove: Proof) -> Proof:
    """The proof, out of which nothing comes but a Result: what the student's code raises is a fault of it."""

    @wraps(prove)
    def proved(module: Any, rng: np.random.Generator) -> Result:
        try:
            with contained(), np.errstate(all="ignore"):
                return prove(module, rng)
        except NotImplementedError as error:
            said = str(error)
            what = said.removeprefix(UNWRITTEN) if said.startswith(UNWRITTEN) else "backward"
            return Result(False, [f"{what} {'are' if ' and ' in what else 'is'} not written yet"])
        except Exception as error:
            return Result(False, [described(error)])

    return proved


def drawn(layer: Any, rng: np.random.Generator) -> Any:
    """The layer, its parameters drawn at random: at zeros and ones a wrong gradient may look right."""
    if not isinstance(layer, Module):
        raise TypeError(f"{type(layer).__name__} is no Layer: keep `from scratchgen import Layer` and derive from it")
    for p in layer.parameters():
        p.value = np.asarray(rng.standard_normal(p.value.shape))
    return layer


def proof(rng: np.random.Generator, *cases: Case) -> Result:
    """The gradient check of every case in turn, up to the first that fails."""
    details: list[str] = []
    for case in cases:
        if moved := _forward_moved(case):
            return Result(False, [moved], "\n\n".join(details))
        report = check(case.target, *case.inputs, rng=rng)
        details.append(str(report))
        if faults := _faults(report):
            return Result(False, faults, "\n\n".join(details))
    return Result(True, [], "\n\n".join(details))


def _forward_moved(case: Case) -> str:
    """What is wrong where forward does not give what it gave in the skeleton; or "". NotImplementedError where the
    backward is that of the skeleton."""
    target = copy.deepcopy(case.target)
    given = getattr(target, "forward", target)(*map(np.copy, case.inputs))
    expected = tuple_of(case.expected)
    found = tuple_of(given[0] if isinstance(given, tuple) else given)
    if len(found) != len(expected) or not all(map(close, found, expected)):
        return f"forward no longer gives {case.formula}: leave it as it is in the skeleton"
    if isinstance(given, tuple) and callable(given[1]):
        dys = found if len(found) > 1 else found[0]
        try:
            given[1](*(() if takes_no_argument(given[1]) else (dys,)))
        except NotImplementedError:
            raise
        except Exception:  # the check meets it again, and tells of it
            pass
    return ""


def tuple_of(value: Any) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def close(a: Any, b: Any, tolerance: float = 1e-9) -> bool:
    """Whether two arrays are equal but for rounding."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind not in "fiub":
        return False
    return bool(np.all(np.abs(a - b) <= tolerance * np.abs(b).max(initial=1e-3)))


def _faults(report: Report) -> list[str]:
    faults = [_sentence(row) for row in report.tensors if not row.ok]
    # An exercise is about the mathematics: that float32 stays float32 is not asked here.
    faults += [fault for fault in report.faults if not fault.startswith("for float32")]
    return faults + [f"could not be checked: {what}" for what in report.unchecked]


def _sentence(row: TensorReport) -> str:
    if row.hint:
        return f"{row.name}: {row.hint}"
    if row.verdict == "UNPROVED":
        return f"{row.name}: the check could not decide whether it is right"
    return f"{row.name}: at {row.index} it is {row.analytic:.5g}, and differences give {row.numeric:.5g}"
