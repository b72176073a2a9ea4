"""In a network or a model: which part is wrong by itself, and where the gradient that a part is given goes wrong."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import copied, is_collection
from scratchgen.gradcheck.numeric import scale_of
from scratchgen.gradcheck.subject import Subject
from scratchgen.layers.sequential import Sequential

MOST = 40  # parts that are looked at
DEPTH = 6


@dataclass
class Call:
    """A call of a part's forward: what went in, what came out, the dy that its backward was given, if it was called,
    and the dx that it made of it."""

    path: str
    part: Any
    number: int  # of the calls of this part, from 0
    inputs: tuple
    output: Any = None
    dy: Any = None
    dx: Any = None


@dataclass
class Trace:
    """The calls of one evaluation, in order; `shift` is added to the output of one of them, (path, number)."""

    calls: list[Call] = field(default_factory=list)
    shift: tuple[str, int, Array] | None = None

    def fields(self, path: str) -> dict[str, Array]:
        """What the parts give, by their names, but for the part at `path` and what is inside of others."""
        top = [c for c in self.calls if not any(c.path.startswith(f"{other.path}.") for other in self.calls)]
        return {
            c.path: c.output for c in top if c.number == 0 and c.path != path and isinstance(c.output, np.ndarray)
        }

    def upstream(self) -> dict[str, Array]:
        """The gradients that backwards of parts have returned, by what they are the gradient of."""
        return {f"d(input of {c.path})": c.dx for c in outermost(self.calls) if c.dx is not None}

    def call(self, path: str, number: int) -> Call:
        return next(c for c in self.calls if (c.path, c.number) == (path, number))


@contextmanager
def traced(subject: Subject) -> Iterator[Trace]:
    """Inside the block every evaluation of the subject fills the trace anew.

    A part is an object with a forward of its own, at any depth.
    """
    trace, patched, function = Trace(), [], subject.function

    @wraps(function)
    def anew(*args: Any, **options: Any) -> Any:
        trace.calls.clear()
        return function(*args, **options)

    subject.function = anew
    try:
        for path, part in _parts(subject.module)[:MOST]:
            if hasattr(part, "__dict__") and "forward" not in vars(part):
                part.forward = _recording(trace, path, part, part.forward)
                patched.append(part)
        yield trace
    finally:
        subject.function = function
        for part in patched:
            del part.forward


def _recording(trace: Trace, path: str, part: Any, forward: Callable) -> Callable:
    def recording(*args: Any, **options: Any) -> Any:
        number = sum(c.path == path for c in trace.calls)
        call = Call(path, part, number, tuple(map(copied, args)))
        trace.calls.append(call)
        result = forward(*args, **options)
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            return result
        output, backward = result
        if trace.shift is not None and trace.shift[:2] == (path, number):
            output = output + trace.shift[2]
        call.output = copied(output)

        def noted(dy: Any, **options: Any) -> Any:
            call.dy = copied(dy) if call.dy is None else call.dy + dy
            dx = backward(dy, **options)
            if isinstance(dx, np.ndarray):
                call.dx = copied(dx) if call.dx is None else call.dx + dx
            return dx

        return output, noted

    return recording


@dataclass(frozen=True)
class Output:
    """What a part gives in one of its calls, in the form of a `Variable`: the gradient of y with respect to it is the
    dy that the part's backward is given."""

    trace: Trace
    path: str
    number: int

    @property
    def name(self) -> str:
        return f"the dy of {self.path}" + (f", call {self.number + 1}" if self.number else "")

    @property
    def sources(self) -> tuple:
        return ((self.path, self.number),)

    def value(self, inputs: list) -> Array:
        return self.trace.call(self.path, self.number).output

    def scale(self, inputs: list) -> Array:
        return scale_of(self.value(inputs))

    def gradient(self, dxs: tuple) -> Array:
        dy = self.trace.call(self.path, self.number).dy
        return np.zeros(self.value([]).shape) if dy is None else np.array(dy)

    def as_argument(self, subject: Subject, inputs: list) -> Callable[[Array], Array]:
        at = np.array(self.value(inputs))

        def of_output(array: Array) -> Array:
            self.trace.shift = self.path, self.number, array - at
            try:
                return subject.evaluate(inputs)[0]
            finally:
                self.trace.shift = None

        return of_output


def calls(subject: Subject, inputs: list) -> list[Call]:
    """The calls of parts in one evaluation and its backward, from the loss down: what was called last first."""
    if subject.module is None or not _parts(subject.module):
        return []
    with traced(subject) as trace:
        y, backward = subject.evaluate(inputs)
        try:
            subject.pull(backward, np.asarray(np.random.default_rng(0).standard_normal(y.shape)))
        except Exception:
            return []
        return trace.calls[::-1]


def outermost(found: list[Call]) -> list[Call]:
    """Those that are not made by another part."""
    paths = {c.path for c in found}
    return [c for c in found if not any(c.path.startswith(f"{path}.") for path in paths)]


def wrong_parts(found: list[Call], check: Callable[..., Any], until: float) -> list[str] | None:
    """Which of the parts are wrong by themselves, and what is said of them: the one nearest to the loss, and perhaps
    one of another class; None where time ran out before one was found. `check(part, *inputs)` gives a report; each is
    checked at the inputs that it gets."""
    seen: set[str] = set()
    said: dict[str, str] = {}  # by path
    classes: set[type] = {Sequential}
    for c in found:
        holds_one = any(path.startswith(f"{c.path}.") for path in said)
        if c.path in seen or holds_one or type(c.part) in classes or not all(map(_is_array, c.inputs)):
            continue
        if time.monotonic() > until:
            return list(said.values()) or None
        seen.add(c.path)
        if (of_part := _said_of(c, check)) is not None:
            said[c.path] = f"{c.path}, {Subject(c.part).name}" + (f": {of_part}" if of_part else "")
            classes.add(type(c.part))
            if len(said) == 2:
                break
    return list(said.values())


def _said_of(c: Call, check: Callable[..., Any]) -> str | None:
    """What a check of the part says is wrong; None where it finds nothing, or cannot check it."""
    try:
        report = check(c.part, *c.inputs)
    except Exception:
        return None
    wrong = next((t for t in report.tensors if t.verdict == "WRONG" and np.isfinite(t.error)), None)
    if report.verdict != "WRONG" or (wrong is None and not report.faults):
        return None  # or its backward is not what it is taken for
    if wrong is not None and wrong.hint:
        return f"{wrong.name}: {wrong.hint}"
    return next(iter(report.faults), "")


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _parts(root: Any) -> list[tuple[str, Any]]:
    """Objects with a forward, at any depth, each once, by where they are."""
    found: list[tuple[str, Any]] = []
    seen = {id(root)}

    def below(owner: Any, prefix: str, depth: int) -> None:
        held = enumerate(owner) if isinstance(owner, list | tuple) else getattr(owner, "__dict__", owner)
        for key, value in list(held.items() if isinstance(held, dict) else held):
            if id(value) in seen or depth > DEPTH:
                continue
            if is_collection(value):
                seen.add(id(value))
                below(value, f"{prefix}{key}.", depth + 1)
            elif callable(getattr(value, "forward", None)) and not isinstance(value, type):
                seen.add(id(value))
                found.append((f"{prefix}{key}", value))
                below(value, f"{prefix}{key}.", depth + 1)

    below(root, "", 0)
    return found
