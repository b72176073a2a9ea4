"""The contract that every layer keeps, and what every owner of parameters can do.

    y, backward = layer.forward(x)    # training: y, and the pullback of this very evaluation
    dx = backward(dy)                 # adds into every p.grad, returns ∂L/∂x
    y = layer.predict(x)              # inference: no pullback, nothing kept

`d` + a name is ∂L/∂(that name), of the same shape. With several inputs and outputs they are tuples: of a cell
`(h, c), backward = cell.forward(x, h, c)` and `dx, dh, dc = backward((dh, dc))`. A layer of your own is a subclass of
`Layer` whose `forward` returns y and a function of dy; its Parameters and sub-layers are found by themselves, in
lists and dicts too. If it returns `self.pullback(y, dx=..., grads={...})`, checks of dy and `need_dx=False` come
with it. A layer made of others writes `predict` too, by their `predict`. What a layer returns may share memory
with what it was given: do not write into it.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from scratchgen import checks
from scratchgen.backend import Array, backend_of, load_kernels, transfer
from scratchgen.layers import held
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Adjoint, Pullback


class Module:
    """Owns parameters, buffers (arrays that are kept but not learned, named in `buffers`) and other modules.

    They are found among its attributes, in the order in which these were set, and in lists, tuples, dicts and
    dataclasses of any depth there. What looks as if it were to be learned and is not found is `overlooked`:
    `parameters`, `named_parameters` and `state` warn of it.
    """

    buffers: tuple[str, ...] = ()

    def members(self) -> Iterator[tuple[str, "Parameter | Module"]]:
        """The parameters and modules that this one holds, each with its name: "encoder", or "blocks.0.1" in lists."""
        for name, member in vars(self).items():
            if isinstance(member, PARTS):
                yield name, member
            elif held.is_container(member):
                yield from held.inside(name, member, PARTS)

    def overlooked(self) -> dict[str, str]:
        """What looks as if it were to be learned and is not found, by its dotted name, with the reason and the mend.

        Layers and parameters in a set, in an object that is no Module, or on the class; arrays with the name of a
        weight that are neither Parameters nor buffers. What a function closes over is not looked for.
        """
        return held.overlooked(self, PARTS)

    def _warn(self) -> None:
        """Say what is overlooked, at the line that called one of our methods."""
        alike: dict[str, list[str]] = {}
        for name, why in self.overlooked().items():
            alike.setdefault(why, []).append(name)
        faults = []
        for why, names in alike.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            faults.append(f"{', '.join(names[:3])}{more} ({why})")
        if faults:
            text = f"{type(self).__name__}: not found, so neither trained nor saved: {'; '.join(faults)}"
            warnings.warn(text, stacklevel=3)

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, "Parameter | Module"]]:
        """This module, its parameters and all below it, depth first, each once, with dotted names."""
        seen.add(id(self))
        yield prefix, self
        for name, member in self.members():
            if id(member) in seen:
                continue
            if isinstance(member, Module):
                yield from member._walk(f"{prefix}{name}.", seen)
            else:
                seen.add(id(member))
                yield f"{prefix}{name}", member

    def _named(self) -> dict[str, "Parameter | Module"]:
        """`_walk` by name; ValueError where two have the same one, of which a file would hold the last."""
        parts: dict[str, Parameter | Module] = {}
        for name, part in self._walk("", set()):
            if name in parts:
                owner, name = type(self).__name__, name.rstrip(".")
                raise ValueError(f"{owner}: two parts have the name {name!r}: rename a key of a dict")
            parts[name] = part
        return parts

    def _parts(self, seen: set[int], found: list["Parameter | Module"]) -> list["Parameter | Module"]:
        """`_walk` without names, which every training step asks for."""
        seen.add(id(self))
        found.append(self)
        for _, member in self.members():
            if id(member) not in seen:
                if isinstance(member, Module):
                    member._parts(seen, found)
                else:
                    seen.add(id(member))
                    found.append(member)
        return found

    def modules(self) -> list["Module"]:
        """This module and all below it, each once, in a fixed order."""
        return [part for part in self._parts(set(), []) if isinstance(part, Module)]

    def named_parameters(self) -> dict[str, Parameter]:
        """Every parameter by its dotted name ("encoder.1.W"), each once, in a fixed order.

        ValueError when two have one name, as by the keys 1 and "1" of a dict.
        """
        self._warn()
        return {name: p for name, p in self._named().items() if isinstance(p, Parameter)}

    def parameters(self) -> list[Parameter]:
        """Every parameter, each once, in a fixed order."""
        self._warn()
        return [part for part in self._parts(set(), []) if isinstance(part, Parameter)]

    def _parameters(self) -> list[Parameter]:
        """`parameters` for a training step, which asks for them several times: nothing is looked for, or said."""
        if type(self).parameters is not Module.parameters:  # a subclass lists its own
            return self.parameters()
        return [part for part in self._parts(set(), []) if isinstance(part, Parameter)]

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for p in self._parameters():
            p.zero_grad()

    # --- state: what a weights file holds ---

    def state(self) -> dict[str, Array]:
        """Every parameter's value and every buffer by its dotted name: the arrays themselves, not copies."""
        self._warn()
        arrays: dict[str, Array] = {}
        for name, member in self._named().items():
            if isinstance(member, Parameter):
                arrays[name] = member.value
            else:
                arrays.update({name + buffer: getattr(member, buffer) for buffer in member.buffers})
        return arrays

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Set every parameter and buffer to a copy of the array of its name, in its own dtype and library.

        ValueError or TypeError, before anything changes, when a name is missing or unknown or an array does not fit.
        """
        checks.state(type(self).__name__, self.state(), state)
        self._replace(lambda name, array: transfer(state[name], backend_of(array)).astype(array.dtype, copy=True))

    def to(self, backend: str) -> Self:
        """Move every array to "numpy" or "cupy", in place; returns the module itself."""
        load_kernels(backend)  # complains here, before anything has moved
        self._replace(lambda name, array: transfer(array, backend))
        return self

    def astype(self, dtype: Any) -> Self:
        """Convert every array to float32 or float64, in place; returns the module itself."""
        dtype = checks.float_type(type(self).__name__, dtype)
        self._replace(lambda name, array: array.astype(dtype))
        return self

    def _replace(self, convert: Callable[[str, Array], Array]) -> None:
        """Put convert(name, array) in the place of every array of the state; gradients follow their values."""
        for name, member in self._named().items():
            if isinstance(member, Parameter):
                member.value = convert(name, member.value)
            else:
                for buffer in member.buffers:
                    setattr(member, buffer, convert(name + buffer, getattr(member, buffer)))

    @contextmanager
    def unchanged_on_error(self) -> Iterator[None]:
        """Puts every buffer back when the block raises, so that a failed call leaves nothing behind."""
        before = [(m, name, getattr(m, name)) for m in self.modules() for name in m.buffers]
        try:
            yield
        except BaseException:
            for module, name, array in before:
                setattr(module, name, array)
            raise


PARTS = (Parameter, Module)  # what a module is asked for


class Layer(Module):
    """A differentiable map with parameters of its own. Subclasses write `forward`."""

    def forward(self, x: Any) -> Any:
        """y, backward: the value at x, and the pullback of this evaluation."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def predict(self, *inputs: Any, **options: Any) -> Any:
        """The value at x, or at the inputs where there are several, for inference: no pullback, nothing kept."""
        y, _ = self.forward(*inputs, **options)
        return y

    def pullback(
        self,
        y: Array,
        *,
        dx: Adjoint,
        grads: Mapping[Any, Adjoint] | None = None,
        shared: Callable[[Array], tuple[Array, ...]] | None = None,
    ) -> Pullback:
        """The pullback of an evaluation that gave y, from the adjoint of each unknown; see `Pullback`."""
        return Pullback(self, y, dx=dx, grads=grads, shared=shared)

    def check_input(self, x: Array, *shape: Any) -> None:
        """ValueError or TypeError unless x is a float array of this shape, and of the parameters' dtype and library.

        A name in `shape` stands for any size, `...` for any number of axes, a number for itself: ("N", "H", "W", 3).
        """
        checks.float_array(self, "x", x)
        if not _fits(x.shape, shape):
            form = ", ".join("..." if s is ... else str(s) for s in shape)
            raise ValueError(f"{self}: x has shape {x.shape}, needs ({form})")
        if x.size == 0:
            raise ValueError(f"{self}: x is empty, shape {x.shape}; needs at least one sample")
        for p in vars(self).values():
            if isinstance(p, Parameter):
                checks.like(self, "x", x, p.name, None, p.value.dtype, backend_of(p.value), layer=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _fits(shape: tuple[int, ...], form: tuple[Any, ...]) -> bool:
    if ... in form:
        at = form.index(...)
        head, tail = form[:at], form[at + 1 :]
        if len(shape) < len(head) + len(tail):
            return False
        shape, form = shape[: len(head)] + shape[len(shape) - len(tail) :], head + tail
    return len(shape) == len(form) and all(isinstance(f, str) or f == n for n, f in zip(shape, form, strict=True))
