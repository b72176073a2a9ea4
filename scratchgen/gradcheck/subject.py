"""What is checked, brought into one form: a function of float64 arrays that returns y and a backward."""

import copy
import inspect
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from scratchgen.layers.layer import Layer, Module
from scratchgen.layers.parameter import Parameter


class Subject:
    """A layer, a method of a model or layer (`model.loss`), or any function that returns `y, backward`.

    Layers and models are copied and converted to float64, so that the caller's stay as they are. A function is used
    as it is, and the `parameters` that it closes over are float64 for the time of the check.
    """

    def __init__(self, target, parameters: Iterable[Parameter] | Module = ()):
        if inspect.isclass(target):
            raise TypeError(f"gradcheck: got the class {target.__name__}, needs an instance: {target.__name__}(...)")
        owner = getattr(target, "__self__", None)
        self.is_layer = hasattr(target, "forward")
        self.module = None
        if self.is_layer:
            self.module = copy.deepcopy(target)
            self.function = self.module.forward
            self.name = title(target)
            buffers = getattr(target, "buffers", ())
            self.arrays = [n for n, a in vars(target).items() if isinstance(a, np.ndarray) and n not in buffers]
        elif isinstance(owner, Module):
            self.module = copy.deepcopy(owner)
            self.function = getattr(self.module, target.__name__)
            self.name = f"{type(owner).__name__}.{target.__name__}"
        elif callable(target) and not inspect.ismodule(target):
            self.function = target
            self.name = getattr(target, "__name__", type(target).__name__)
        else:
            raise TypeError(f"gradcheck: got a {type(target).__name__}, needs a layer or a function of x")

        if isinstance(self.module, Module):
            self.module.to("numpy").astype(np.float64)
            for p in self.module.parameters():
                p._frozen = 0  # the copy may have been made inside `with frozen(...)`
        self.borrowed = parameters.modules() if isinstance(parameters, Module) else []
        self.parameters = _named(parameters)
        self.bystanders = {}  # the parameters of the other players, which must take no gradient
        if hasattr(self.module, "named_parameters"):
            player = getattr(owner, "player", {}).get(getattr(target, "__name__", None))
            named = self.module.named_parameters()
            self.parameters.update({name: p for name, p in named.items() if _is_of(player, name)})
            self.bystanders = {name: p for name, p in named.items() if not _is_of(player, name)}
        elif hasattr(self.module, "parameters"):
            self.parameters.update(_named(self.module.parameters()))

    @property
    def keeps_contract(self) -> bool:
        """Whether it is a Layer of ours, bound by the sentences of the contract that go beyond y and backward."""
        return isinstance(self.module, Layer) and self.is_layer

    @contextmanager
    def in_float64(self):
        """What a plain function closes over in float64; values, gradients and buffers as before afterwards."""
        parameters = [(p, p.value, p.grad) for p in self.parameters.values()]
        buffers = [(m, b, getattr(m, b)) for m in self.borrowed for b in m.buffers]
        try:
            for p, value, _ in parameters:
                p.value = value.astype(np.float64)
            for module, name, array in buffers:
                setattr(module, name, array.astype(np.float64))
            yield
        finally:
            for p, value, grad in parameters:
                p.value = value
                p.grad = grad
            for module, name, array in buffers:
                setattr(module, name, array)

    def input_names(self, count: int) -> list[str]:
        """The names of the first arguments, as the function calls them."""
        try:
            names = [n for n in inspect.signature(self.function).parameters if n != "self"]
        except (TypeError, ValueError):
            names = []
        return [names[i] if i < len(names) else f"input{i}" for i in range(count)]

    def evaluate(self, inputs, *, lend: bool = False):
        """y, and what came beside it. The function gets copies of the inputs, and y is a copy of what it returned, so
        that neither can reach into the other; `lend` hands over the things themselves."""
        result = self.function(*(inputs if lend else map(_copied, inputs)))
        if not (isinstance(result, tuple) and len(result) >= 2):
            raise TypeError(
                f"gradcheck: {self.name} returned {_say(result)}, needs the pair y, backward: "
                "the value, and a function of dy, as in return y, lambda dy: ..."
            )
        y, *rest = result
        if len(rest) > 1 and any(map(callable, rest)):
            raise TypeError(f"gradcheck: {self.name} returned {len(result)} things, needs the pair y, backward")
        return np.asarray(y) if lend else np.array(y), rest[0] if len(rest) == 1 else tuple(rest)

    def evaluate_with(self, p: Parameter, value, inputs):
        """y with another value in the place of a parameter's."""
        before = p.value
        p.value = value
        try:
            return self.evaluate(inputs)[0]
        finally:
            p.value = before

    def pull(self, backward, dy) -> tuple:
        """The gradients with respect to the inputs that a backward returns, as a tuple; parameters get theirs added.

        A backward is a function of dy, a function of nothing (a model's loss), or the gradients themselves (a loss).
        """
        if not callable(backward):
            result = backward
        elif takes_no_argument(backward):
            result = backward()
        else:
            result = backward(dy if dy.ndim else dy[()])
        return result if isinstance(result, tuple | list) else (result,)


def title(layer) -> str:
    """Its repr on one line: Conv2d(2, 3, kernel_size=3), Sequential(…)."""
    if type(layer).__repr__ is object.__repr__:
        return type(layer).__name__
    first, *rest = str(layer).splitlines()
    return first + ("…)" if rest else "")


def told(error: Exception) -> str:
    """What was raised, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"


def takes_no_argument(function) -> bool:
    """Whether it is called as function(): it has no positional parameter without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(p.kind is p.VAR_POSITIONAL or p.default is p.empty for p in parameters if p.kind != p.KEYWORD_ONLY)


def _named(parameters) -> dict[str, Parameter]:
    if isinstance(parameters, Module):
        return parameters.named_parameters()
    named: dict[str, Parameter] = {}
    for p in parameters:
        if not isinstance(p, Parameter):
            raise TypeError(f"gradcheck: got {_say(p)} among the parameters, needs Parameters")
        named[next(_unused(p.name, named))] = p
    return named


def _is_of(player: str | None, name: str) -> bool:
    return player is None or name.startswith(f"{player}.")


def _unused(name, taken) -> Iterator[str]:
    yield from (n for n in (name, *(f"{name}{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _copied(x):
    return x.copy() if isinstance(x, np.ndarray) else x


def _say(value) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
