"""Inputs on which somebody's layer is tried, where nobody says which it is made for."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import is_float, places
from scratchgen.gradcheck.guard import Exited, described
from scratchgen.gradcheck.styles import NoPair, required
from scratchgen.gradcheck.subject import Subject

WIDTHS = (4, 3, 1, 2, 8, 10, 16, 784)  # tried where no parameter tells how wide an input is
STATE = 3  # the width of the state of a cell, and of the output, where weights are inputs
WEIGHT = re.compile(r"(w|weight|kernel)[a-z]{0,2}\d*$", re.IGNORECASE)  # arguments that are weights, and their shapes
BIAS = re.compile(r"(b|bias)\d*$", re.IGNORECASE)
SCALE = re.compile(r"(gamma|beta|scale|shift)\d*$", re.IGNORECASE)
NOT_FOR_THE_INPUTS = (Exited, RecursionError, MemoryError, NameError, ImportError, OSError, EOFError, Warning)
FLAGS = ("training", "train", "is_training", "train_flg", "training_mode")  # arguments that are simply True


Span = tuple[float, float] | None  # of inputs that are drawn uniformly


class CannotCheck(ValueError):
    """The target cannot be loaded, built or called; the message says why and what to write instead."""


@dataclass(frozen=True)
class Form:
    """An input: its shape, and its kind: "" for floats, "const" for floats that take no gradient, "bool" for truth
    values, an int n for integers from 0 to n − 1."""

    shape: tuple[int, ...]
    kind: str | int = ""

    def draw(self, rng: np.random.Generator, span: Span) -> Array:
        """Floats are normally distributed, or uniformly over a span."""
        if self.kind == "bool":
            return rng.random(self.shape) < 0.7
        if isinstance(self.kind, int):
            return rng.integers(0, self.kind, self.shape)
        return rng.standard_normal(self.shape) if span is None else rng.uniform(*span, self.shape)


@dataclass(frozen=True)
class Trial:
    """Inputs that forward takes, or none; and what they are ("vectors").

    `fits`: gradients have the shapes of what they are for. `why` is the reason where it takes none, or where they do
    not fit; `constant` are the indices of inputs that take no gradient.
    """

    which: str
    inputs: tuple[Any, ...]
    fits: bool = False
    why: str = ""
    constant: frozenset[int] = frozenset()


# What is tried, by the shape of a batch of width w: the first two always, of the others the first that is taken.
KINDS: dict[str, Callable | None] = {
    "vectors": lambda w: (5, w),
    "images": lambda w: (3, 6, 5, w),
    "sequences": lambda w: (3, 6, w),
    "images with their channels first": lambda w: (3, w, 6, 5),
    "images of 28×28": lambda w: (2, 28, 28, w),
    "images of 28×28 with their channels first": lambda w: (2, w, 28, 28),
    "columns": lambda w: (w, 5),
    "a column": lambda w: (w, 1),
    "a vector": lambda w: (w,),
    "integers": None,
}


def trials(target: Any, rng: np.random.Generator, span: Span = None) -> list[Trial]:
    """A small batch of vectors and one of images, as far as the target takes them; where it takes neither, the first
    of other kinds that it takes, integers last. Widths are those of its parameters, then some usual ones.

    Raises CannotCheck where it takes none.
    """
    subject = _subject(target)
    names = required(subject.function) or ["x"]
    shapes = _shapes(subject)
    tried: list[Trial] = []
    for which, shape in KINDS.items():
        if len(tried) < 2 or not any(trial.inputs for trial in tried):
            tried.append(_trial(target, which, _candidates(names, shape, shapes), rng, span))
    if taken := [trial for trial in tried if trial.inputs]:
        return taken
    each = f", once for each of ({', '.join(names)})" if len(names) > 1 else ""
    raise CannotCheck(
        f"{subject.name} took none of the inputs that were tried, of {len(tried)} kinds from vectors to integers: "
        f"{next((trial.why for trial in tried if trial.why), '')}. If that is for their shape, "
        f"give --input-shape{each}"
    )


def has_matrix(target: Any, trial: Trial) -> bool:
    """Whether it has a matrix of weights, perhaps made by its first call: a layer of vectors then, whatever else a
    matrix product takes."""
    subject = _subject(target)
    with subject.in_float64():
        subject.evaluate(trial.inputs)
    return any(len(shape) == 2 for shape in _shapes(subject))


def _trial(target: Any, which: str, candidates: Iterator[tuple], rng: np.random.Generator, span: Span) -> Trial:
    """The first of the candidates that the target takes. Several inputs may be taken by mistake, broadcast, so that
    of these the first is preferred whose gradients have their shapes."""
    subject, first, why = _subject(target), None, ""
    for forms in candidates:
        inputs = tuple(True if form is True else form.draw(rng, span) for form in forms)
        try:
            with subject.in_float64():
                y, backward = subject.evaluate(inputs)
            if y.dtype.kind != "f":
                raise TypeError(f"it made {y.dtype} of them, which has no derivative")
        except NoPair as error:
            raise CannotCheck(str(error)) from error
        except NOT_FOR_THE_INPUTS as error:
            raise CannotCheck(f"forward of {subject.name} raised {described(error)}") from error
        except Exception as error:
            why = why or described(error)
            continue
        misfit = _misfit(subject, y, backward, inputs)
        if not misfit or len(forms) == 1:
            return Trial(which, inputs, not misfit, misfit)
        first = first or Trial(which, inputs, False, misfit)
    return first or Trial(which, (), why=why)


def _misfit(subject: Subject, y: Array, backward: Any, inputs: tuple) -> str:
    """Why backward does not give gradients of the shapes of what they are for; "" where it does."""
    try:
        with subject.in_float64():
            subject.discover(inputs)
            for p in subject.parameters.values():
                p.zero_grad()
            dxs = subject.pull(backward, np.ones(y.shape))
            found = [(dx, x) for dx, x in zip(dxs, inputs, strict=False) if is_float(x) and dx is not None]
            found += [(p.grad, p.value) for p in subject.parameters.values()]
    except Exception as error:
        return described(error)
    shapes = next(((np.shape(g), np.shape(v)) for g, v in found if np.shape(g) != np.shape(v)), None)
    return f"it gives a gradient of shape {shapes[0]} for {shapes[1]}" if shapes else ""


def _subject(target: Any) -> Subject:
    try:
        return Subject(target)
    except Exception as error:
        raise CannotCheck(f"it cannot be checked: {described(error)}") from error


def _shapes(subject: Subject) -> list[tuple[int, ...]]:
    """Of its parameters, and of the arrays that it holds."""
    held = [value for _, value in places(subject.module)] if subject.module is not None else []
    known = (*subject.parameters.values(), *subject.closed_over.values())
    return [p.value.shape for p in known] + [a.shape for a in held if isinstance(a, np.ndarray)]


def _candidates(names: list[str], shape: Callable | None, shapes: list[tuple[int, ...]]) -> Iterator[tuple]:
    """Forms, or True, one for each of the arguments `names`. `shape` gives the shape of a batch by its width, None
    for integers; `shapes` are those of the parameters."""
    known = list(dict.fromkeys(n for s in shapes for n in s if n))
    rows = min((s[0] for s in shapes if len(s) > 1), default=WIDTHS[0])  # of the tables that ids point into
    widths = list(dict.fromkeys((*known, *WIDTHS)))
    batch = [n for n in names if n not in FLAGS]

    def arranged(forms):
        each = iter(forms)
        return tuple(True if n in FLAGS else next(each) for n in names)

    weights = [n for n in batch[1:] if WEIGHT.match(n) or SCALE.match(n)]
    if weights and shape is None:
        yield arranged([Form((5,), rows)] + [Form((rows, STATE))] * (len(batch) - 1))
    elif weights and shape in (KINDS["vectors"], KINDS["columns"]):
        for w, gates in itertools.product(widths, (1, 3, 4)):
            yield arranged(_of_function(batch, w, gates, shape is KINDS["columns"]))
            yield arranged(Form((5, w) if i == 0 else (w,)) for i in range(len(batch)))
    elif weights:
        return
    elif shape is None:  # all integers, or labels beside vectors, or ids beside them
        for ids in ((5,), (3, 6)):
            yield arranged([Form(ids, rows)] * len(batch))
            for w in widths if len(batch) > 1 else ():
                yield arranged([Form((5, w))] * (len(batch) - 1) + [Form(ids, w)])
                yield arranged([Form(ids, rows)] + [Form((5, w))] * (len(batch) - 1))
    else:
        for w in widths:
            if any("mask" in n for n in batch):
                yield arranged(Form(shape(w), "bool" if "mask" in n else "") for n in batch)
            yield arranged([Form(shape(w))] * len(batch))
        for w in widths if len(batch) > 1 else ():  # (x, slope), one for each channel
            yield arranged(Form((w,) if i else shape(w)) for i in range(len(batch)))
        for each in itertools.product(known[:4], repeat=len(batch)) if len(batch) > 1 else ():
            yield arranged(Form(shape(w)) for w in each)  # (x, h) of a cell: each has a width of its own


def _of_function(names: list[str], w: int, gates: int, columns: bool) -> Iterator[Form]:
    """The forms of (x, W, b), of (x, gamma, beta), or of (x, h, Wx, Wh, b) of a cell with so many gates."""
    wide, first = w, True
    for i, name in enumerate(names):
        if WEIGHT.match(name) and i:
            shape, wide = (wide, gates * STATE), STATE
        elif BIAS.match(name) and i:
            yield Form((gates * STATE, 1) if columns else (gates * STATE,))
            continue
        elif SCALE.match(name) and i:
            yield Form((w,))
            continue
        else:
            shape, first = (5, w if first else STATE), False
        yield Form(shape[::-1] if columns else shape)
