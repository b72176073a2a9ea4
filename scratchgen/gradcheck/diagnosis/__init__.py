"""A guess at the bug: why a wrong gradient is wrong, from how it differs from the right one.

    evidence.py    what is known: the two gradients at two points and for several dy, and both as matrices
    patterns.py    a factor, a sign, a shift, a constant, the place
    values.py      the gradient of something else: a flipped kernel, another variable
    formulas.py    the term that is missing or too much; terms.py: those that are tried; fit.py: how
    structure.py   what the matrix of the backward drops, moves or mixes
    words.py       axes, indices and places in a sentence
    parts.py       of a network or a model: the part that is wrong by itself, or where what it is given goes wrong

Something is named where it explains the whole difference to rounding, at two points and for several dy; where nothing
does, nothing is named.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis import patterns
from scratchgen.gradcheck.diagnosis.evidence import Evidence, gather
from scratchgen.gradcheck.diagnosis.formulas import by_formula
from scratchgen.gradcheck.diagnosis.parts import Call, Output, calls, outermost, traced, wrong_parts
from scratchgen.gradcheck.diagnosis.structure import by_structure, by_ties
from scratchgen.gradcheck.diagnosis.values import by_other_values
from scratchgen.gradcheck.learned import with_values
from scratchgen.gradcheck.points import Point
from scratchgen.gradcheck.subject import Subject
from scratchgen.gradcheck.variable import Variable

__all__ = ["explain", "explain_by_parts"]


def explain(subject: Subject, v: Variable, variables: Sequence[Variable], point: Point) -> str | None:
    """What is wrong with the gradient of v at this point, in a sentence; "" where nothing explains it, and None where
    not enough is known of it to tell."""
    evidence = gather(subject, v, variables, point, np.random.default_rng(0))
    if evidence is None:
        return None
    first = evidence.scenes[0]
    wrong = np.abs(first.given - first.true) > 1e-6 * np.abs(first.true).max()
    if wrong.any() and not first.given[wrong].any() and _is_right_at_small_inputs(subject, v, variables, point):
        where = "everywhere" if wrong.all() else f"at {wrong.sum()} of {wrong.size} elements"
        return f"it is zero {where}, and right at smaller inputs: backward cuts it off there, as a clip does"
    said = _said(evidence)
    if said or evidence.ties:
        return said
    if evidence.redraws:
        return (
            "backward gives another gradient when it is called again: it draws at random, where it must use what "
            "forward has drawn, or it writes into what forward has kept"
        )
    return patterns.place(first.given, wrong) or patterns.nearly(first.given, first.true)


def _is_right_at_small_inputs(subject: Subject, v: Variable, variables: Sequence[Variable], point: Point) -> bool:
    moved = {s for other in variables for s in other.sources if isinstance(s, int)}
    small = [0.02 * x if k in moved else x for k, x in enumerate(point.inputs)]
    evidence = gather(subject, v, variables, replace(point, inputs=small), np.random.default_rng(0))
    return evidence is not None and bool(evidence.given().any()) and not _differs(evidence)


def explain_by_parts(subject: Subject, point: Point, check: Callable[..., Any], until: float) -> str:
    """Which part of a network or model is wrong, or where the gradient that a part is given goes wrong; "" where
    there are no parts, or nothing is found by the time `until`, of time.monotonic(). `check(part, *inputs)` gives a
    report on a part."""
    with with_values(point.values):
        return _by_parts(subject, point, check, until)


def _by_parts(subject: Subject, point: Point, check: Callable[..., Any], until: float) -> str:
    found = calls(subject, point.inputs)
    if not found:
        return ""
    parts = wrong_parts(found, check, until)
    if parts:
        said = f"from the loss down, the first part whose own backward is wrong is {parts[0]}"
        return said + (f"; by itself wrong is also {parts[1]}" if len(parts) > 1 else "")
    wrong: list[tuple[Call, Evidence]] = []
    with traced(subject) as trace:
        for c in outermost(found):  # from the loss down
            if time.monotonic() > until:
                break
            if isinstance(c.output, np.ndarray):
                subject.evaluate(point.inputs)
                evidence = gather(subject, Output(trace, c.path, c.number), (), point, np.random.default_rng(0))
                if evidence is None:
                    return ""
                if evidence.true().any() and _differs(evidence):  # else dx alone may be wanted of it
                    wrong.append((c, evidence))
    said = _exchanged(wrong) or (_of_a_call(*_first(wrong)) if wrong else "")
    return f"each part is right by itself; {said}" if said and parts is not None else said


def _first(wrong: list[tuple[Call, Evidence]]) -> tuple[Call, Evidence]:
    """The one that explains the others: a call whose gradient is lost, else the one nearest to the loss."""
    return next(((c, evidence) for c, evidence in wrong if c.dy is None), wrong[0])


def _exchanged(wrong: list[tuple[Call, Evidence]]) -> str:
    """Two calls each of which gets the gradient of the other."""
    for (c, a), (d, b) in combinations(wrong, 2):
        if (
            a.given().shape == b.given().shape
            and np.allclose(a.given(), b.true())
            and np.allclose(b.given(), a.true())
        ):
            calls = (
                f"the calls {d.number + 1} and {c.number + 1} of {c.path}"
                if c.path == d.path
                else f"{d.path} and {c.path}"
            )
            return f"the gradients that {calls} are given are exchanged"
    return ""


def _differs(evidence: Evidence) -> bool:
    given, true = evidence.given(), evidence.true()
    return bool(np.linalg.norm(given - true) > 1e-5 * np.linalg.norm(true))


def _of_a_call(c: Call, evidence: Evidence) -> str:
    which = f"{c.path}, in its call {c.number + 1}," if c.number else c.path
    if c.dy is None:
        return f"y depends on {which} and the backward of that call is never used: its gradient is lost"
    said = _said(evidence) or _of_halves(evidence, c.path)
    return f"the dy that {which} is given is wrong" + (f": {said}" if said else "")


def _of_halves(evidence: Evidence, path: str) -> str:
    """Of an output [mu, logvar], or another in two halves: what is said of each."""
    k = evidence.scenes[0].value.shape[-1] // 2
    if evidence.scenes[0].value.shape[-1] != 2 * k or not k:
        return ""
    noise = any(
        name in ("eps", "epsilon", "noise") and x.shape == evidence.scenes[0].value[..., :k].shape
        for name, x in evidence.scenes[0].fields.items()
    )
    names = ("mu", "logvar") if noise else (f"{path}[:{k}]", f"{path}[{k}:]")
    turned = np.concatenate([np.roll(s.true, k, axis=-1).ravel() for s in evidence.scenes])
    if np.linalg.norm(evidence.given() - turned) <= 1e-5 * np.linalg.norm(turned):
        return f"the gradients of {names[0]} and {names[1]} are exchanged"
    said = []
    for name, half in zip(names, (np.s_[..., :k], np.s_[..., k:]), strict=True):
        scenes = []
        for s in evidence.scenes:
            fields = {n: f for n, f in s.fields.items() if n != path}
            fields = {names[0]: s.value[..., :k], names[1]: s.value[..., k:]} | fields
            jacobian = s.jacobian.reshape(*s.value.shape, -1)[half[0], half[1], :]
            scenes.append(
                replace(
                    s,
                    fields=fields,
                    value=s.value[half],
                    given=s.given[half],
                    true=s.true[half],
                    jacobian=jacobian.reshape(-1, s.jacobian.shape[1]),
                    others={},
                )
            )
        part = replace(evidence, scenes=scenes, pulled=None, name=f"d{name}")
        if _differs(part):
            said.append(f"d{name}: {_said(part) or 'it is wrong'}")
    return "; ".join(said)


def _at_every_point(pattern: Callable[[Array, Array], str], evidence: Evidence) -> str:
    """What a pattern says, where it says the same in all scenes."""
    said = {pattern(scene.given, scene.true) for scene in evidence.scenes}
    return said.pop() if len(said) == 1 else ""


def _said(evidence: Evidence) -> str:
    first = evidence.scenes[0]
    given, true = evidence.given(), evidence.true()
    if evidence.ties:
        return by_ties(evidence)
    if not given.any():
        what = "never adds to it" if evidence.is_parameter else "returns zeros"
        return f"it is zero everywhere: backward {what}"
    if not true.any():
        return "the function does not depend on it, its gradient is zero"
    return (
        patterns.factor(given, true, evidence.sizes, first.scale)
        or by_other_values(evidence)
        or patterns.rearranged(first.given, first.true, is_kernel=evidence.is_parameter and first.given.ndim == 4)
        or by_formula(evidence)
        or by_structure(evidence)
        or _at_every_point(patterns.constant, evidence)
    )
