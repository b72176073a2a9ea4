"""The ways in which layers are written, read as one: outputs, and a backward that is a function of their gradients.

    pullback     y, backward = f(x)            dx = backward(dy)              the library's own
    outputs      (h, c), backward = f(x, …)    dx, … = backward((dh, dc))     or backward(dh, dc)
    loss         loss, dx = f(x)                                              or loss, backward with dx = backward()
    methods      y = layer.forward(x)          dx = layer.backward(dy)        cache and gradients on the layer
    pair         y, cache = f(x, w)            dx, dw = f_backward(dy, cache)

Where gradients are left on the layer (`self.dW`, `self.grads["W"]`, …) they are found by their names.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from scratchgen.gradcheck.arrays import is_float
from scratchgen.gradcheck.learned import canonical
from scratchgen.layers.pullback import Pullback

CACHE = re.compile(r"cache|ctx|context|saved|memo|tape", re.IGNORECASE)  # an argument of this name takes the cache
RATES = ("learning_rate", "learningrate", "lr", "eta", "rate", "step_size", "alpha")
OUTPUTS = ("output", "outputs", "out")  # where a forward that returns nothing leaves y, and a backward dx
INPUT_GRADIENTS = ("dinputs", "dinput", "dx", "grad_input", "input_grad", "dX")


class NoPair(TypeError):
    """The target gives no y and backward, for whatever inputs."""


@dataclass(frozen=True)
class Evaluation:
    """What one call of forward gave: the outputs as they came out, and the backward.

    `backward` takes the gradient of the output, or a tuple of them where there are `several`; or it takes nothing, or
    is the gradient itself, where the only output is a scalar. `form`: whether forward returned a
    "pair", or the outputs "flat" before their backward, or does without it, since it stands "beside" forward.
    """

    outputs: tuple
    several: bool
    backward: Any
    form: str = "pair"


# --- what forward returns, and what backward takes ---


def read(result: Any, own: Callable | None, layer: Any, inputs: tuple, name: str) -> Evaluation:
    """What forward returned for `inputs`, as an Evaluation.

    `own` is the backward that stands beside it, a method of `layer` or a function of the same file, if there is one.
    Raises NoPair, a TypeError that says what to write instead.
    """
    parts = tuple(result) if isinstance(result, tuple | list) else (result,)
    if len(parts) > 1 and callable(parts[-1]) and not any(map(callable, parts[:-1])):
        y, backward = parts[0] if len(parts) == 2 else parts[:-1], parts[-1]
        outputs, several = _outputs(y, name)
        form = "pair" if len(parts) == 2 else "flat"
        return Evaluation(outputs, several, _in_form(backward, outputs, several, name), form)
    if any(map(callable, parts)):
        raise NoPair(f"gradcheck: {name} returned {len(parts)} things, needs the pair y, backward")
    if own is not None:
        return _with_own(result, own, layer, inputs, name)
    if len(parts) > 1:
        outputs, several = _outputs(parts[0], name)
        return Evaluation(outputs, several, parts[1] if len(parts) == 2 else parts[1:])
    raise NoPair(
        f"gradcheck: {name} returned {_say(result)} alone, needs the pair y, backward: the value, and a function of "
        "dy that returns dx, as in `return y, lambda dy: ...`; or write the backward beside it, as "
        + (
            f"the method `backward(self, dy)` of {type(layer).__name__}"
            if layer is not None
            else f"`def {_partners(name)[0]}(dy, cache)`"
        )
    )


def _with_own(result: Any, own: Callable, layer: Any, inputs: tuple, name: str) -> Evaluation:
    """The backward is no part of the result; the cache may be."""
    names = required(own)
    if makes_step(own):  # by `Subject.pull` taken back, and measured
        own, names = partial(_with_rate, own), names[:-1]
    takes = len(names)
    if result is None:
        result = next((v for n in OUTPUTS if (v := getattr(layer, n, None)) is not None), None)
    parts = result if isinstance(result, tuple) else (result,)
    rest: tuple = ()
    if len(parts) > 1 and takes > 1 and (layer is None or CACHE.search(names[-1]) or not is_float(parts[-1])):
        parts, rest = parts[:-1], parts[-1:]
    elif len(parts) > 1 and takes == 1 and not all(map(is_float, parts)):
        parts = parts[:1]  # what stands beside y is for others
    elif len(parts) == 1 and takes == 1 + len(inputs):
        rest = inputs  # backward(dy, x, w)
    outputs, several = _outputs(parts[0] if len(parts) == 1 else parts, name)
    if rest:
        return Evaluation(outputs, several, _spread(own, outputs, several, takes - len(rest), *rest), "beside")
    return Evaluation(outputs, several, _in_form(own, outputs, several, name), "beside")


def makes_step(own: Callable) -> bool:
    """Whether a backward also takes the learning rate, and moves the weights itself."""
    return bool(names := required(own)) and names[-1].lower() in RATES


def _with_rate(own, *args):
    return own(*args, 1.0)


def _outputs(y: Any, name: str) -> tuple[tuple, bool]:
    several = isinstance(y, tuple) or (isinstance(y, list) and any(isinstance(part, np.ndarray) for part in y))
    outputs = tuple(y) if several else (y,)
    for part in outputs:
        if part is None or np.asarray(part).dtype.kind not in "fiubc":
            raise NoPair(f"gradcheck: {name} returned {_say(part)} for y, needs an array, or a tuple of arrays")
    return outputs, several


def _in_form(backward: Callable, outputs: tuple, several: bool, name: str) -> Callable:
    """As a function of the gradient of y alone, or of nothing."""
    names, more = _arguments(backward)
    if not names and (not more or (np.ndim(outputs[0]) == 0 and not several and ANY not in more)):
        return lambda: backward()
    count, n = 1, len(outputs)
    if several and (ANY in more or len(names) + len(more) >= n):
        optional = more[: n - len(names)]  # backward(dh, dc=None), but not backward(dys, scale=1)
        count = n if len(names) >= n or all(o == ANY or o[0] in "dg" for o in optional) else 1
    if len(names) > count:
        given = "dy" if count == 1 else f"{count} gradients, one for each output"
        raise NoPair(
            f"gradcheck: backward of {name} takes ({', '.join(names)}), and is called with {given}: keep the rest in "
            "the closure or on the layer, or give it a default value"
        )
    return _spread(backward, outputs, several, count)


def _spread(backward: Callable, outputs: tuple, several: bool, count: int, *rest: Any) -> Callable:
    """A function of dy, which calls backward with `count` gradients and the rest."""
    if several and count == len(outputs):
        return lambda dys: backward(*dys, *rest)
    return lambda dy: backward(dy, *rest)


ANY = "*"


def required(function: Any) -> list[str]:
    """The names of the positional parameters without a default; ["x"] where nobody knows."""
    return _arguments(function)[0]


def _arguments(function: Any) -> tuple[list[str], list[str]]:
    """The positional parameters without a default, and those with one; ANY among these for *args."""
    key: object = None  # of every evaluation's backward the code is the same: it is looked at once
    if not hasattr(function, "__wrapped__"):
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and isinstance(function, FunctionType | MethodType):
            key = (code, len(getattr(function, "__defaults__", None) or ()), isinstance(function, MethodType))
        elif isinstance(function, Pullback):
            key = Pullback
    if key in _seen:
        return _seen[key]
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ["x"], []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in found if p.kind in kinds and p.default is p.empty]
    more = [p.name for p in found if p.kind in kinds and p.default is not p.empty]
    more += [ANY for p in found if p.kind is p.VAR_POSITIONAL]
    if key is not None:
        _seen[key] = names, more
    return names, more


_seen: dict[object, tuple[list[str], list[str]]] = {}


def takes_no_argument(function: Any) -> bool:
    """Whether it is called as function(): it has no positional parameter without a default."""
    names, more = _arguments(function)
    return not names and ANY not in more


def partner(function: Any) -> Callable | None:
    """The function beside `function` in its file that is its backward: affine_forward, affine_backward."""
    function = getattr(function, "func", function)  # of a partial
    beside = getattr(function, "__globals__", {})
    found = (beside.get(name) for name in _partners(getattr(function, "__name__", "")))
    return next((f for f in found if inspect.isfunction(f) and f is not function), None)


def _partners(name: str) -> list[str]:
    if "forward" in name:
        return [name.replace("forward", "backward")]
    return [f"{name}_backward", f"backward_{name}"]


def _say(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


# --- gradients as backward returns them ---


def gradients(result: Any, layer: Any, names: list[str]) -> tuple:
    """What a backward returned, as a tuple in the order of the inputs `names`."""
    if result is None and layer is not None:
        result = next((v for n in INPUT_GRADIENTS if (v := getattr(layer, n, None)) is not None), None)
    if isinstance(result, dict):
        by_name = {canonical(str(key)): value for key, value in result.items()}
        return tuple(by_name.get("d" + canonical(n), by_name.get(canonical(n))) for n in names)
    return tuple(result) if isinstance(result, tuple | list) else (result,)
