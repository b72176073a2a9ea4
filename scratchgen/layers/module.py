"""What every owner of parameters can do: find them, and save, load, move and convert them."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from scratchgen import checks
from scratchgen.backend import Array, backend_of, load_kernels, transfer
from scratchgen.layers import held
from scratchgen.layers.parameter import Parameter

Found: TypeAlias = "dict[int, tuple[str, Parameter | Module]]"


class Module:
    """Owns parameters, buffers (arrays that are kept but not learned, named in `buffers`) and other modules.

    A forward pass replaces a buffer, `self.mean = new`, and never writes into it. `counters`, named on the class,
    are arrays of whole numbers that are kept likewise, and neither move nor convert: always on the host.

    They are found among its attributes, in the order in which these were set, and in lists, tuples, dicts and
    dataclasses of any depth there. What looks as if it were to be learned and is not found is `overlooked`:
    `parameters`, `named_parameters` and `state` warn of it.
    """

    buffers: tuple[str, ...] = ()
    counters: ClassVar[tuple[str, ...]] = ()
    _instead = "use one of its methods"  # of calling it

    def members(self) -> Iterator[tuple[str, "Parameter | Module"]]:
        """The parameters and modules that this one holds, each with its name: "encoder", or "blocks.0.1" in lists."""
        for name, member in vars(self).items():
            if type(member) in held.PLAIN:
                continue
            if isinstance(member, PARTS):
                yield name, member
            elif held.is_container(member):
                yield from held.inside(name, member, PARTS)

    def overlooked(self) -> dict[str, str]:
        """What looks as if it were to be learned and is not found, by its dotted name, with the reason and the fix.

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
            checks.warn(f"{type(self).__name__}: not found, so neither trained nor saved: {'; '.join(faults)}")

    def _walk(self, prefix: str = "", found: "Found | None" = None) -> Found:
        """This module, its parameters and all below it, depth first, each once, with dotted names: by id."""
        found = {} if found is None else found
        found[id(self)] = prefix, self
        for name, member in self.members():
            if id(member) in found:
                continue
            if isinstance(member, Module):
                member._walk(f"{prefix}{name}.", found)
            else:
                found[id(member)] = f"{prefix}{name}", member
        return found

    def _named(self) -> dict[str, "Parameter | Module"]:
        """`_walk` by name; ValueError where two have the same one, of which a file would hold the last."""
        parts: dict[str, Parameter | Module] = {}
        for name, part in self._walk().values():
            if name in parts:
                owner, name = type(self).__name__, name.rstrip(".")
                raise ValueError(f"{owner}: two parts have the name {name!r}: rename a key of a dict")
            parts[name] = part
        return parts

    def modules(self) -> list["Module"]:
        """This module and all below it, each once, in a fixed order."""
        return [part for _, part in self._walk().values() if isinstance(part, Module)]

    def named_parameters(self) -> dict[str, Parameter]:
        """Every parameter by its dotted name ("encoder.1.W"), each once, in a fixed order.

        ValueError when two have one name, as by the keys 1 and "1" of a dict.
        """
        self._warn()
        return {name: p for name, p in self._named().items() if isinstance(p, Parameter)}

    def parameters(self) -> list[Parameter]:
        """Every parameter, each once, in a fixed order."""
        self._warn()
        return [part for _, part in self._walk().values() if isinstance(part, Parameter)]

    def _parameters(self) -> list[Parameter]:
        """`parameters` for a training step, which asks for them several times: nothing is looked for, or said."""
        if type(self).parameters is not Module.parameters:  # a subclass lists its own
            return self.parameters()
        return [part for _, part in self._walk().values() if isinstance(part, Parameter)]

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for p in self._parameters():
            p.zero_grad()

    # --- state: what a weights file holds ---

    def state(self) -> dict[str, Array]:
        """Every parameter's value, buffer and counter by its dotted name: the arrays themselves, not copies."""
        self._warn()
        arrays: dict[str, Array] = {}
        for name, member in self._named().items():
            if isinstance(member, Parameter):
                arrays[name] = member.value
            else:
                kept = (*member.buffers, *type(member).counters)
                arrays.update({name + buffer: getattr(member, buffer) for buffer in kept})
        return arrays

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Set all of the state to a copy of the array of its name, each in its own dtype and library.

        ValueError or TypeError, before anything changes, when a name is missing or unknown or an array does not fit.
        """
        owner, mine = type(self).__name__, self.state()
        checks.state(owner, mine, state)
        counters = {
            prefix + name: (member, name)
            for prefix, member in self._named().items()
            if isinstance(member, Module)
            for name in type(member).counters
        }
        for name in counters:
            if state[name].min() < 0:
                raise ValueError(f"{owner}: {name} is {state[name]}, needs a count of at least 0")

        def copied(name: str, array: Array) -> Array:
            return transfer(state[name], backend_of(array)).astype(array.dtype, copy=True)

        self._replace(copied)
        for name, (member, counter) in counters.items():
            setattr(member, counter, copied(name, mine[name]))

    def to(self, backend: str) -> Self:
        """Move every parameter and buffer to "numpy" or "cupy", in place; returns the module itself.

        ValueError for another name, BackendUnavailable where it cannot be used here.
        """
        load_kernels(backend)  # complains here, before anything has moved
        self._replace(lambda name, array: transfer(array, backend))
        return self

    def astype(self, dtype: Any) -> Self:
        """Convert every parameter and buffer to float32 or float64, in place; returns the module itself. TypeError
        for others."""
        dtype = checks.float_type(type(self).__name__, dtype)
        self._replace(lambda name, array: array.astype(dtype))
        return self

    def _replace(self, convert: Callable[[str, Array], Array]) -> None:
        """Put convert(name, array) in the place of every parameter and buffer; gradients follow their values."""
        for name, member in self._named().items():
            if isinstance(member, Parameter):
                member.value = convert(name, member.value)
            else:
                for buffer in member.buffers:
                    setattr(member, buffer, convert(name + buffer, getattr(member, buffer)))

    @contextmanager
    def unchanged_on_error(self) -> Iterator[None]:
        """Puts every buffer and counter back when the block raises, so that a failed call leaves nothing behind."""
        outer, replaced = _here.replaced, list[tuple[Module, str, Array]]()
        _here.replaced = replaced
        try:
            yield
        except BaseException:
            _here.replaced = None
            own = {id(module) for module in self.modules()}
            for module, name, array in reversed(replaced):
                if id(module) in own:
                    setattr(module, name, array)
            raise
        finally:
            _here.replaced = outer
            if outer is not None:
                outer += replaced

    if not TYPE_CHECKING:  # to which these would mean that any attribute may be set, and that it can be called

        def __setattr__(self, name, value):
            """Notes what a block of `unchanged_on_error` is to put back."""
            if _here.replaced is not None and name in (*self.buffers, *type(self).counters) and hasattr(self, name):
                _here.replaced.append((self, name, getattr(self, name)))
            super().__setattr__(name, value)

        def __call__(self, *inputs, **options):
            raise TypeError(f"{type(self).__name__} is not called itself; {self._instead}")

    def _repr_html_(self) -> str | None:
        """For a notebook: the parts, their output shapes, and how much each learns."""
        from scratchgen.layers.summary import as_html  # which knows the layers

        return as_html(self)

    @contextmanager
    def no_gradient_on_error(self) -> Iterator[None]:
        """Sets every gradient to zero when the block raises: a backward pass that fails half way leaves no part."""
        try:
            yield
        except BaseException:
            self.zero_grad()
            raise


PARTS = (Parameter, Module)  # what a module is asked for


class _Here(threading.local):
    """Of each thread: what was replaced in the innermost block of `unchanged_on_error`, None outside of them."""

    replaced: list[tuple[Module, str, Array]] | None = None


_here = _Here()
