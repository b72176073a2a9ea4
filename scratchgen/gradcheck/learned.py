"""Arrays that are learned and are no Parameters: of layers that keep their gradients in attributes of their own.

They are known by their gradients, and these by their names (`self.dW` beside `self.W`), by standing after those of
the inputs in what backward returns, or as what a backward that makes the step itself subtracts.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import Place, is_collection, is_float, items, places
from scratchgen.layers.held import WEIGHT
from scratchgen.layers.parameter import Parameter

if TYPE_CHECKING:
    from scratchgen.gradcheck.subject import Subject

GRADIENTS = ("grads", "grad", "gradients", "gradient", "dparams")  # names of a dict or list of gradients
INSIDE = ("data", "value", "val", "array")  # names of the array in a parameter object of somebody's own
BEFORE = ("d", "grad", "grads", "gradient", "gradients", "dl", "dld", "delta")
AFTER = ("grad", "grads", "gradient", "gradients", "delta")


class ArrayParameter:
    """A learned array of a layer in the form of a Parameter: `value`, `grad` and `zero_grad()`.

    A value is set in place, since the array may be held under several names; `read` gives its gradient after
    backward, and `source` says in words where that stands.
    """

    def __init__(self, place: Place, read: Callable[[], Any], source: str):
        self.name, self.place, self.read, self.source = place.path, place, read, source

    @property
    def value(self) -> Array:
        return np.array(self.place.get())

    @value.setter
    def value(self, new: Any) -> None:
        held = self.place.get()
        if isinstance(held, np.ndarray):
            held[...] = new
        else:
            self.place.put(type(held)(new))

    @property
    def grad(self) -> Array:
        found = self.read()
        return np.zeros_like(self.value) if found is None else np.asarray(found)

    @grad.setter
    def grad(self, new: Any) -> None:
        """It stays as backward left it."""

    def zero_grad(self) -> None:
        found = self.read()
        if isinstance(found, np.ndarray):
            found[...] = 0


Learned = Parameter | ArrayParameter  # what a gradient is taken with respect to, beside inputs


@contextmanager
def with_values(values: dict) -> Iterator[None]:
    """Inside the block parameters have these values; afterwards those that they had."""
    before = {p: np.array(p.value) for p in values}
    try:
        for p, value in values.items():
            p.value = value
        yield
    finally:
        for p, value in before.items():
            p.value = value


def learned_arrays(subject: "Subject", inputs: Sequence) -> tuple[dict[str, ArrayParameter], list[str]]:
    """(those of `subject.module` by name, the names of those that move y and have no gradient), found by one
    evaluation at these inputs."""
    before = _floats(subject.module)
    if not before and subject.own is None:
        return {}, []
    copies = {key: np.array(value) for key, (value, _) in before.items()}
    y, backward = subject.evaluate(inputs)
    kept = {
        key for key, (v, _) in _floats(subject.module).items() if key in copies and np.array_equal(v, copies[key])
    }
    dxs = subject.pull(backward, np.random.default_rng(0).standard_normal(y.shape))

    held = _floats(subject.module)
    found: dict[str, ArrayParameter] = {}
    without: list[Place] = []
    for key, (value, at) in held.items():
        place = next((p for p in at if gradient_place(p) is not None), at[0])
        gradient, moves = gradient_place(place), _moves(subject, place, y, inputs)
        if gradient is not None and (moves or key in kept):
            found[place.path] = ArrayParameter(place, partial(_gradient_of, place), gradient.path)
        elif moves and np.any(subject.step.get(place.path, 0)):
            found[place.path] = ArrayParameter(place, partial(subject.step_of, place), "the step of backward")
        elif moves and isinstance(value, np.ndarray):
            without.append(place)
    if without and [np.shape(dx) for dx in dxs[len(inputs) :]] == [np.shape(place.get()) for place in without]:
        for i, place in enumerate(without, len(inputs)):
            source = f"value {i + 1} of those that backward returns"
            found[place.path] = ArrayParameter(place, partial(subject.pulled_at, i), source)
        without = []
    return found, [place.path for place in without]


def _gradient_of(place: Place) -> Any:
    """What backward left for it: looked up anew, since the attribute may be assigned by every backward."""
    found = gradient_place(place)
    return None if found is None else found.get()


def _floats(module: Any) -> dict[object, tuple[Any, list[Place]]]:
    """Every float array, and single float, of a module, with its places."""
    found: dict[object, tuple[Any, list[Place]]] = {}
    for place, value in places(module):
        if is_float(value):
            # An array may be held under several names; a single float is known by its place.
            key = id(value) if isinstance(value, np.ndarray) else place.path
            found.setdefault(key, (value, []))[1].append(place)
    return found


def moved(value: Any) -> Array:
    """Other values, not far away."""
    return 1.3 * value + 0.1 * np.random.default_rng(0).standard_normal(np.shape(value))


def _moves(subject: "Subject", place: Place, y: Array, inputs: Sequence) -> bool:
    """Whether y depends on what is at `place`."""
    p = ArrayParameter(place, lambda: None, "")
    try:
        return not np.array_equal(y, subject.evaluate_with(p, moved(p.value), inputs))
    except Exception:  # it cannot be moved, or not there
        return True


def canonical(name: str) -> str:
    """A name as it is compared: W, weight and weights are one, and so are b, bias and biases."""
    return re.sub(r"bias(es)?", "b", re.sub(r"weights?", "w", name.lower().replace("_", "")))


def is_weight(name: str) -> bool:
    """Whether an array of this name is meant to be learned."""
    return any(WEIGHT.fullmatch(word) for word in name.split("."))


def means_gradient(name: str, of: str) -> bool:
    """Whether `name` is what one calls the gradient of `of`: dW, grad_W, W_grad, dL_dW, gradient_weights, … of W."""
    g, n = canonical(name), canonical(of)
    if n in INSIDE and g in (*AFTER, "g"):
        return True
    return g in {*(before + n for before in BEFORE), *(n + after for after in AFTER)}


def gradient_place(place: Place) -> Place | None:
    """Where backward leaves the gradient of what is at `place`, judged by the names around it:
    self.dW of self.W, self.grads["W"] of self.params["W"] or self.W, self.grads[0] of self.params[0]."""
    owner, key, holder = place.owner, place.key, place.holder
    collections = [] if is_collection(holder) else [(n, c) for n, c in items(holder) if n.lower() in GRADIENTS]
    if isinstance(owner, list | tuple):
        for name, found in collections:
            if isinstance(found, list) and name != place.attribute and len(found) > key and is_float(found[key]):
                return Place(f"{name}[{key}]", found, key, holder)
        return None
    for around in (owner, holder):
        for name, value in list(items(around)):
            if isinstance(name, str) and is_float(value) and means_gradient(name, str(key)):
                return Place(name, around, name, holder)
    for name, found in collections:
        for k, value in found.items() if isinstance(found, dict) else ():
            if is_float(value) and (k == key or means_gradient(str(k), str(key))):
                return Place(f"{name}[{k!r}]", found, k, holder)
    return None
