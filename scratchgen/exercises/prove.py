"""What the proofs of exercises share: the gradient check of what a student wrote, and what it found in sentences."""

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.exercises.numpy_errors import in_plain_words
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
    are the indices of inputs that take no gradient, apart from those of integers and truth values. `outputs` names
    what forward gives, and `settings` are those of the layer, for the head of its table.
    """

    target: Any
    inputs: tuple[Any, ...]
    expected: Array | Sequence[Array]
    formula: str
    known: Callable[[Array, Gradients], Known] = lambda dy, given: {}
    constant: tuple[int, ...] = ()
    outputs: tuple[str, ...] = ("y",)
    settings: str = ""

    @property
    def is_loss(self) -> bool:
        return not isinstance(self.expected, tuple) and np.ndim(self.expected) == 0

    def gradients(self) -> list[str]:
        """The names of those that are asked for."""
        names = Subject(self.target).input_names(len(self.inputs))
        floats = [k for k, x in enumerate(self.inputs) if x.dtype.kind == "f" and k not in self.constant]
        return [f"d{names[k]}" for k in floats]

    def returned(self) -> list[str]:
        """The names of what the function is to return."""
        if self.is_loss:
            return ["loss", *(self.gradients() or ["backward"])]
        return [self.outputs[0] if len(self.outputs) == 1 else f"({', '.join(self.outputs)})", "backward"]


def contained_proof(prove: Proof) -> Proof:
    """The proof, out of which nothing comes but a Result: what the student's code raises is a fault of it."""

    @wraps(prove)
    def proved(module: Any, rng: np.random.Generator) -> Result:
        try:
            with contained(), np.errstate(all="ignore"):
                result = prove(module, rng)
                return replace(result, faults=list(map(in_plain_words, result.faults)))
        except NotImplementedError as error:
            said = str(error)
            what = said.removeprefix(UNWRITTEN) if said.startswith(UNWRITTEN) else "backward"
            return Result(False, [f"{what} {'are' if ' and ' in what else 'is'} not written yet"])
        except Exception as error:
            return Result(False, [in_plain_words(described(error))])

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
    gradients: list[TensorReport] = []
    for case in cases:
        if otherwise := _returned_otherwise(case):
            return Result(False, [otherwise], "\n\n".join(details), gradients=gradients)
        report = check(case.target, *case.inputs, rng=rng, name=_title(case))
        known = {} if report.ok else _known(case, rng)
        faults = _faults(case, report, known) + _left_out(case, report)
        gradients = [replace(row, hint=known.get(row.name, _hint(case, row))) for row in report.tensors]
        details += [str(_figures(case, report))] if report.tensors else []
        if faults:
            return Result(False, faults, "\n\n".join(details), gradients=gradients)
    return Result(True, [], "\n\n".join(details), gradients=gradients)


def _title(case: Case) -> str | None:
    return f"{type(case.target).__name__}({case.settings})" if case.settings else None


def _figures(case: Case, report: Report) -> Report:
    """The report without what is said as a fault, and without notes on inputs that take no gradient anyway."""
    names = Subject(case.target).input_names(len(case.inputs))
    constant = tuple(f"{names[k]}: backward gives no gradient" for k in case.constant)
    return replace(
        report,
        tensors=[row if row.ok else replace(row, hint="") for row in report.tensors],
        faults=[],
        unchecked=[],
        notes=[note for note in report.notes if not note.startswith(constant)],
    )


def _returned_otherwise(case: Case) -> str:
    """What is wrong where forward does not return what it did in the skeleton; or "". NotImplementedError where the
    backward is that of the skeleton."""
    target = copy.deepcopy(case.target)
    given = getattr(target, "forward", target)(*map(np.copy, case.inputs))
    expected, wanted = tuple_of(case.expected), case.returned()
    names = ", ".join(wanted)
    if given is None:
        return f"it returns None: is a return missing? It is to return {names}"
    parts = tuple_of(given)
    found = tuple_of(parts[0])
    same = len(found) == len(expected) and all(map(close, found, expected))
    as_many = len(parts) in ({len(wanted), 1 + len(case.inputs)} if case.is_loss else {len(wanted)})
    if not as_many and not (same and len(parts) == 2 and (callable(parts[1]) or isinstance(parts[1], tuple | list))):
        alone = "backward alone" if callable(given) else "1 value" if len(parts) == 1 else f"{len(parts)} values"
        return f"it returns {alone}, needs {len(wanted)}{' values' if callable(given) else ''}: {names}"
    if not same and callable(parts[0]):
        return f"the first value is a function: return {names}, in this order"
    if case.is_loss and not same:
        loss = array_of(parts[0])
        if loss is None or loss.ndim:
            return f"the first value is no loss but {_kind(parts[0])}: return {names}, in this order"
        if close(-loss, expected[0]):
            return "the loss has the wrong sign: leave it as it is in the skeleton"
    if len(found) != len(expected):
        return f"the first value is to be {wanted[0]}: return {names}"
    if not same:
        return f"forward no longer gives {case.formula}: leave it as it is in the skeleton"
    if wanted[-1] == "backward" and not callable(parts[1]):
        return (
            f"the second value is no function but {_kind(parts[1])}: return {names}, where nobody has called backward"
        )
    if callable(parts[1]):
        dys = found if len(found) > 1 else found[0]
        try:
            parts[1](*(() if takes_no_argument(parts[1]) else (dys,)))
        except NotImplementedError:
            raise
        except Exception:  # the check meets it again, and tells of it
            pass
    return ""


def _kind(value: Any) -> str:
    shape = np.shape(value) if isinstance(value, np.ndarray) else None
    return type(value).__name__ if shape is None else f"an array of shape {shape}"


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


def _faults(case: Case, report: Report, known: dict[str, str]) -> list[str]:
    said: dict[str, list[str]] = {}  # what is said of several gradients is said once
    for row in report.tensors:
        if not row.ok:
            said.setdefault(known.get(row.name) or _sentence(case, row), []).append(row.name)
    faults = [f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]
    # An exercise is about the mathematics: that float32 stays float32 is not asked here.
    faults += [fault for fault in report.faults if not fault.startswith("for float32")]
    return faults + [f"could not be checked: {what}" for what in report.unchecked]


def _left_out(case: Case, report: Report) -> list[str]:
    """The gradients that backward is to return, and does not. The check itself takes such inputs for constants."""
    wanted, found = case.gradients(), {row.name for row in report.tensors}
    missing = [name for name in wanted if name not in found]
    if not missing or any("raised" in fault for fault in report.faults):
        return []
    is_are = "is" if len(missing) == 1 else "are"
    return [f"{' and '.join(missing)} {is_are} not returned: return {', '.join(wanted)}, in this order"]


def _sentence(case: Case, row: TensorReport) -> str:
    if row.hint:
        return _hint(case, row)
    if row.verdict == "UNPROVED":
        return "the check could not decide whether it is right"
    return f"at {row.index} it is {row.analytic:.5g}, and differences give {row.numeric:.5g}"


def _hint(case: Case, row: TensorReport) -> str:
    """What the check says of it, which counts the outputs from 1, in the words of the exercise."""
    if len(case.outputs) == 1:
        return row.hint
    hint = row.hint.replace(f"of {len(case.outputs)} outputs, ", "")
    return re.sub(r"\boutput (\d)\b", lambda found: case.outputs[int(found[1]) - 1], hint)
