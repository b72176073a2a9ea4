"""What the proofs of exercises share: the gradient check of what a student wrote, and what it found in sentences."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.gradcheck import Report, TensorReport, check
from scratchgen.gradcheck.guard import contained, described
from scratchgen.gradcheck.styles import takes_no_argument
from scratchgen.gradcheck.subject import Subject
from scratchgen.layers.module import Module

Gradients: TypeAlias = dict[str, Array]  # by name: "dx", "W.grad"
Known: TypeAlias = dict[str, Gradients]
Proof: TypeAlias = Callable[[Any, np.random.Generator], Result]
UNWRITTEN = "write "  # how the message of a skeleton's NotImplementedError begins


@dataclass(frozen=True)
class Case:
    """Something to check, inputs to check it at, and what forward gives there: `formula` says it in words.

    `known` gives what well-known mistakes make of the gradients, by the sentence on each, for a dy, and for what the
    student's backward made of it: mistakes that lie inside, where a check from outside cannot tell them. `constant`
    are the indices of inputs that take no gradient, apart from those of integers and truth values.
    """

    target: Any
    inputs: tuple[Any, ...]
    expected: Array | Sequence[Array]
    formula: str
    known: Callable[[Array, Gradients], Known] = lambda dy, given: {}
    constant: tuple[int, ...] = ()


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
        if faults := _faults(report, {} if report.ok else _known(case, rng)) + _left_out(case, report):
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
    if not isinstance(given, tuple):
        return "it returns one value alone: return y and backward, or the loss and its gradient, as in the skeleton"
    if callable(given[1]):
        dys = found if len(found) > 1 else found[0]
        try:
            given[1](*(() if takes_no_argument(given[1]) else (dys,)))
        except NotImplementedError:
            raise
        except Exception:  # the check meets it again, and tells of it
            pass
    return ""


def array_of(value: Any) -> Array | None:
    """The value as an array of floats, if it is one."""
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        return None


def tuple_of(value: Any) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def not_finite(name: str, gradient: Any, at: Array, where: str) -> list[str]:
    """What to say of a gradient that is not finite at large arguments."""
    bad = ~np.isfinite(np.broadcast_to(np.asarray(gradient, float), at.shape))
    return (
        [f"{name} is not finite at {where} of {at[bad][0]:g}: an e to a large power overflows"] if bad.any() else []
    )


def close(a: Any, b: Any, tolerance: float = 1e-9) -> bool:
    """Whether two arrays are equal but for rounding."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind not in "fiub":
        return False
    return bool(np.all(np.abs(a - b) <= tolerance * np.abs(b).max(initial=1e-3)))


def _known(case: Case, rng: np.random.Generator) -> dict[str, str]:
    """The sentence on each gradient that is what a well-known mistake makes of it, by its name."""
    subject, inputs = Subject(copy.deepcopy(case.target)), list(case.inputs)
    try:
        y, backward = subject.evaluate(inputs)
        dy = np.ones(()) if not y.ndim else rng.standard_normal(y.shape)
        dxs = subject.pull(backward, dy)
    except Exception:  # which the check told of
        return {}
    names = subject.input_names(len(inputs))
    given = {f"d{name}": dx for name, x, dx in zip(names, inputs, dxs, strict=False) if np.shape(dx) == np.shape(x)}
    given |= {f"{name}.grad": p.grad for name, p in subject.parameters.items()}
    found: dict[str, str] = {}
    for said, gradients in case.known(dy, given).items():
        same = [name for name, gradient in gradients.items() if name in given and close(given[name], gradient)]
        found = dict.fromkeys(same, said) | found
    return found


def _faults(report: Report, known: dict[str, str]) -> list[str]:
    said: dict[str, list[str]] = {}  # what is said of several gradients is said once
    for row in report.tensors:
        if not row.ok:
            said.setdefault(known.get(row.name) or _sentence(row), []).append(row.name)
    faults = [f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]
    # An exercise is about the mathematics: that float32 stays float32 is not asked here.
    faults += [fault for fault in report.faults if not fault.startswith("for float32")]
    return faults + [f"could not be checked: {what}" for what in report.unchecked]


def _left_out(case: Case, report: Report) -> list[str]:
    """The gradients that backward is to return, and does not. The check itself takes such inputs for constants."""
    names = Subject(case.target).input_names(len(case.inputs))
    floats = [k for k, x in enumerate(case.inputs) if x.dtype.kind == "f" and k not in case.constant]
    found = {row.name for row in report.tensors}
    missing = [f"d{names[k]}" for k in floats if f"d{names[k]}" not in found]
    if not missing or any("raised" in fault for fault in report.faults):
        return []
    wanted = ", ".join(f"d{names[k]}" for k in floats)
    return [
        f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not returned: return {wanted}, in this order"
    ]


def _sentence(row: TensorReport) -> str:
    if row.hint:
        return row.hint
    if row.verdict == "UNPROVED":
        return "the check could not decide whether it is right"
    return f"at {row.index} it is {row.analytic:.5g}, and differences give {row.numeric:.5g}"
