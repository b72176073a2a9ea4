"""The rules of the layer contract that a right gradient alone does not show."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import copied, is_float64
from scratchgen.gradcheck.guard import described, guarded
from scratchgen.gradcheck.learned import ArrayParameter, with_values
from scratchgen.gradcheck.numeric import perturbed
from scratchgen.gradcheck.styles import takes_no_argument
from scratchgen.gradcheck.subject import Subject, parted
from scratchgen.layers.layer import Layer


def breaches(subject: Subject, inputs: list, rng: np.random.Generator) -> list[str]:
    """Every rule that `subject` breaks at `inputs`, in a sentence.

    All targets: nothing writes into an input, a y or a dy; backward is linear. Layers also: gradients are added, an
    evaluation keeps its own cache, a backward is that of the parameters that were evaluated, float32 stays float32,
    predict gives what forward gives, and what is learned is found. Each is checked by itself, so that none hides
    another: what raises in one is a breach, and the next is checked.
    """
    y, backward = subject.evaluate(inputs)
    if not callable(backward):
        return []
    dy = np.ones(()) if takes_no_argument(backward) else rng.standard_normal(y.shape)
    found: list[str] = []
    for rule, doing in (*FOR_ALL, *(FOR_LAYERS if subject.keeps_contract else ())):
        try:
            found += rule(subject, inputs, dy)
        except Exception as error:
            found.append(f"{doing} raised {described(error)}")
    return found


def _nothing_is_written(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    lent, given = list(map(copied, inputs)), dy.copy()
    _, backward = subject.evaluate(lent, lend=True)
    subject.pull(backward, given)
    if not np.array_equal(given, dy):
        yield "backward writes into dy, which belongs to the caller"
    for name, x, before in zip(subject.input_names(len(inputs)), lent, inputs, strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, before):
            yield f"it writes into {name}, which belongs to the caller"


def _backward_is_linear(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    if takes_no_argument(subject.evaluate(inputs)[1]):
        return
    before = {name: np.array(p.value) for name, p in subject.parameters.items()}
    if not _agree(_gradients(subject, inputs, -1e3 * dy), _times(-1e3, subject, inputs, dy)):
        moved = [name for name, step in subject.step.items() if np.any(step)]
        moved += [name for name, p in subject.parameters.items() if not np.array_equal(p.value, before[name])]
        if moved:
            yield (
                f"backward is not linear in dy: it updates {', '.join(moved)} and uses what it has updated: take "
                "every gradient with the weights as they were in forward, and move them afterwards"
            )
            return
        yield "backward is not linear in dy: −1000 times dy does not give −1000 times the gradients"


def _buffers_are_not_used_again(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    outputs, backward = subject.evaluate(list(map(copied, inputs)), lend=True)
    dxs = subject.pull(backward, dy.copy())
    ys, gradients = list(map(np.array, outputs)), [None if dx is None else np.array(dx) for dx in dxs]
    _, again = subject.evaluate(_elsewhere(inputs), lend=True)
    if not all(map(np.array_equal, outputs, ys)):
        yield "a second forward changes the y of the first: it is a buffer that is used again"
    subject.pull(again, 2 * dy)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(dxs, gradients, strict=True) if b is not None):
        yield "a second backward changes the dx of the first: it is a buffer that is used again"


# --- layers ---


def _forward_returns_backward(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    form = subject.call(inputs).form
    if form == "flat":
        yield "a network calls `y, backward = layer.forward(x)`: end forward in `return (a, b), backward`"
    if form == "beside":
        yield (
            "a network calls `y, backward = layer.forward(x)`, and this forward returns no backward: keep what it "
            "needs in local variables of forward, write backward inside forward, and end in `return y, backward`"
        )


def _gradients_are_arrays_of_their_own(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    """The library takes the arrays over that it is given, so that they may be added to: no two may share memory, nor
    one with an input, y or a value. With dy a dx may: what calls backward sees to that."""
    if subject.call(inputs).form == "beside":
        return
    names = subject.input_names(len(inputs))
    parameters = {name: p for name, p in subject.parameters.items() if not isinstance(p, ArrayParameter)}
    lent = list(map(copied, inputs))
    outputs, backward = subject.evaluate(lent, lend=True)
    held = dict(zip(names, lent, strict=True)) | {f"y[{i}]": y for i, y in enumerate(outputs)}
    held |= {name: p.value for name, p in parameters.items()}
    for turn in ("", " of another backward"):
        for p in parameters.values():
            p.zero_grad()
        given = dy.copy()
        dxs = [None if _share_memory(dx, given) else dx for dx in subject.pull(backward, given)]
        found = {f"d{name}{turn}": dx for name, dx in zip(names, dxs, strict=False)}
        found |= {f"{name}.grad{turn}": p.grad for name, p in parameters.items()}
        for name, array in found.items():
            other = next((other for other, b in held.items() if _share_memory(array, b)), None)
            if other:
                yield (
                    f"{name} and {other} are one array, or parts of one: a gradient must be an array of its own, "
                    "since others are added to it; return a copy"
                )
                return
            held[name] = array


def _share_memory(a, b) -> bool:
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.shares_memory(a, b)


def _gradients_are_added(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    if subject.call(inputs).form == "beside":
        return
    values = {name: np.array(p.value) for name, p in subject.parameters.items()}
    _gradients(subject, inputs, dy)
    subject.pull(subject.evaluate(inputs)[1], dy.copy())  # on top of the first
    sums = {name: np.array(p.grad) for name, p in subject.parameters.items()}
    for name, p in subject.parameters.items():
        twice = _times(2, subject, inputs, dy, only=name)
        if not isinstance(p, ArrayParameter) and not _agree({name: sums[name]}, twice):
            yield f"backward does not add to {name}.grad: write `{name}.grad += ...`, since two evaluations share it"
        if not np.array_equal(p.value, values[name]):
            yield f"it writes into the value of {name}"


def _evaluations_are_their_own(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    if subject.call(inputs).form == "beside":
        return
    first = _times(1, subject, inputs, dy)
    _, backward = subject.evaluate(inputs)
    subject.evaluate(_elsewhere(inputs))
    if not _agree(_pulled(subject, backward, dy), first):
        yield (
            "a second forward changes what the first one's backward gives: the cache is on the layer; "
            "keep it in local variables that backward closes over"
        )
        return
    _, backward = subject.evaluate(inputs)
    held = [p for p in subject.parameters.values() if not isinstance(p, ArrayParameter)]
    with with_values({p: p.value + 0.1 * (1 + np.abs(p.value)) for p in held}):
        late = _pulled(subject, backward, dy)
    if not _agree(late, first):
        yield (
            "backward uses the parameters as they are when it runs, not as they were evaluated: read them once, in "
            "forward (W = self.W.value), and let backward close over that"
        )


def _predict_agrees(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    """Only what keeps running statistics or counts may predict another value, and it may not move them."""
    module = subject.module
    if subject.call(inputs).form != "pair" and type(module).predict is Layer.predict:
        return  # which relies on the pair
    kept = [(m, name) for m in module.modules() for name in (*m.buffers, *type(m).counters)]
    state = [(m, name, np.array(getattr(m, name))) for m, name in kept]
    predicted = guarded("predict", module.predict, *map(copied, inputs))
    if any(not np.array_equal(getattr(m, name), a) for m, name, a in state):
        yield "predict changes running statistics or counts: call predict of the layers inside, not forward"
    if state:
        return

    def outputs(last_bits: np.random.Generator | None = None) -> dict:
        found = subject.call(perturbed(x, last_bits) if last_bits and is_float64(x) else copied(x) for x in inputs)
        return _named(map(np.array, found.outputs))

    several = isinstance(predicted, tuple | list) and len(outputs()) > 1
    if not _agree(_named(map(np.asarray, predicted if several else (predicted,))), outputs):
        yield "predict does not give the y of forward"


def _float32_stays(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    single = Subject(subject.target, dtype=np.float32)
    names = single.input_names(len(inputs))
    found = single.call(x.astype(np.float32) if is_float64(x) else copied(x) for x in inputs)
    arrays = {f"y[{i}]" if found.several else "y": y for i, y in enumerate(found.outputs)}
    if all(_is_single(y) for y in arrays.values()) and callable(found.backward):
        dys = parted(dy.astype(np.float32), [np.shape(y) for y in found.outputs])
        dxs = single.pull(found.backward, dys if found.several else dys[0])
        arrays |= {f"d{name}": dx for name, dx, x in zip(names, dxs, inputs, strict=False) if is_float64(x)}
    for name, array in arrays.items():
        if not _is_single(array):
            yield (
                f"for float32 x, {name} comes out as {array.dtype}: an array, or a NumPy scalar, inside is float64: "
                "use .astype(x.dtype), or float(...)"
            )


def _what_is_learned_is_found(subject: Subject, inputs: list, dy: Array) -> Iterator[str]:
    arrays = {name: p for name, p in subject.parameters.items() if isinstance(p, ArrayParameter)}
    for name, why in subject.module.overlooked().items():
        if name not in arrays and name not in subject.unlearned:  # of those there is a finding already
            yield f"{name} is not found, so it is neither trained nor saved: it is {why}"
    if arrays:
        first = next(iter(arrays))
        yield (
            f"{', '.join(arrays)}: learned, since backward gives the gradient, but no Parameter, so neither trained "
            f"nor saved: self.{first} = Parameter({first!r}, ...), and self.{first}.grad += ... in backward"
        )


Rule = Callable[[Subject, list, Array], Iterator[str]]
FOR_ALL: tuple[tuple[Rule, str], ...] = (
    (_nothing_is_written, "with arrays of the caller's it"),
    (_backward_is_linear, "backward of −1000 times dy"),
    (_buffers_are_not_used_again, "a second evaluation, with the samples in another order,"),
)
FOR_LAYERS: tuple[tuple[Rule, str], ...] = (
    (_forward_returns_backward, "a second evaluation"),
    (_gradients_are_arrays_of_their_own, "a second evaluation"),
    (_gradients_are_added, "a second evaluation"),
    (_evaluations_are_their_own, "a backward after another forward, or with other values of the parameters,"),
    (_predict_agrees, "predict"),
    (_float32_stays, "with float32 arrays it"),
    (_what_is_learned_is_found, "the search for what is learned"),
)


def _gradients(subject: Subject, inputs: list, dy: Array) -> dict:
    return _pulled(subject, subject.evaluate(inputs)[1], dy)


def _pulled(subject: Subject, backward: Any, dy: Array) -> dict:
    """The gradients by name, those of the parameters from zero."""
    for p in subject.parameters.values():
        p.zero_grad()
    dxs = subject.pull(backward, dy.copy())
    return _named(None if dx is None else np.array(dx) for dx in dxs) | {
        name: np.array(p.grad) for name, p in subject.parameters.items()
    }


def _named(arrays) -> dict:
    return dict(enumerate(arrays))


def _times(factor: float, subject: Subject, inputs: list, dy: Array, only: str | None = None) -> Callable[..., dict]:
    """A function that gives factor · (the gradients for dy), as `_agree` takes it."""

    def gradients(last_bits: np.random.Generator | None = None) -> dict:
        found = _gradients(subject, inputs, perturbed(dy, last_bits) if last_bits else dy)
        return {name: None if g is None else factor * g for name, g in found.items() if only in (None, name)}

    return gradients


TINY = 1e-300  # from here on floats have fewer digits


def _agree(found: dict, wanted: Callable[..., dict]) -> bool:
    """Whether arrays are those that `wanted()` gives, but for rounding.

    A sum s = Σ t_i is rounded in proportion to its terms: two ways to add them up, on two processors say, differ by
    about ε √(Σ t_i²), and where the terms cancel nothing of s tells how much that is. The terms themselves do: with
    their last bits drawn anew, t_i (1 + 8 ε r_i) for r_i in ±1, s differs by 5 ε √(Σ t_i²) or so, and by what its own
    roundings make of it. So `wanted(rng)` gives the same from such terms, and each element may be off by 1e-9 of
    itself, and by 8 times the most that any element of its array was seen to differ.
    """
    right = wanted()
    if {k: np.shape(a) for k, a in found.items() if a is not None} != {
        k: np.shape(a) for k, a in right.items() if a is not None
    }:
        return False

    def near(lost):
        return all(
            right[k] is None
            or np.all(np.abs(found[k] - right[k]) <= 1e-9 * np.abs(right[k]) + 8 * lost.get(k, 0) + TINY)
            for k in right
        )

    if near({}):  # as nearly always: what was rounded otherwise need not be measured
        return True
    last_bits, lost = np.random.default_rng(0), dict.fromkeys(right, 0.0)
    for _ in range(16):
        again = wanted(last_bits)
        lost = {k: max(lost[k], np.abs(again[k] - right[k]).max(initial=0)) for k in right if right[k] is not None}
    return near(lost)


def _elsewhere(inputs) -> list:
    """Other inputs of the same kind: the samples in another order; a single sample, somewhat smaller."""

    def other(x):
        if not (isinstance(x, np.ndarray) and x.ndim):
            return x
        return 0.9 * x if len(x) == 1 and is_float64(x) else np.roll(x, 1, axis=0)

    return list(map(other, inputs))


def _is_single(array) -> bool:
    """float32, or what takes the type of its surroundings, as a Python float does."""
    return getattr(array, "dtype", np.float32) == np.float32
