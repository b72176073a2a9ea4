"""Loops in plain Python, compiled to machine code by Numba where it is installed (the extra `[fast]`).

A loop is compiled for a float type when it is first wanted, which takes about half a second, and kept in the user's
cache folder, so that every later process has it at once. Numba keeps only what stands in a file; so each loop has a
file of its own there, whose name depends on its text and on the versions that compile it. What is kept is checked by
its sums before it is used: what a crash, a full disk or an accident has damaged is thrown away and compiled anew.
Where the folder cannot be written, nothing is kept, and all works.
"""

import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeAlias, get_type_hints

import numpy as np

from scratchgen.backend import fast
from scratchgen.backend.arrays import Array
from scratchgen.paths import cache_folder

# What a parameter of a loop is: an array, in C order, that the loop reads, or one that it writes, with so many
# dimensions; a number of the arrays' float type; a whole number.
In: TypeAlias = Annotated[Array, "in", 1]
In2: TypeAlias = Annotated[Array, "in", 2]
In3: TypeAlias = Annotated[Array, "in", 3]
In4: TypeAlias = Annotated[Array, "in", 4]
In5: TypeAlias = Annotated[Array, "in", 5]
In6: TypeAlias = Annotated[Array, "in", 6]
Out: TypeAlias = Annotated[Array, "out", 1]
Out2: TypeAlias = Annotated[Array, "out", 2]
Out3: TypeAlias = Annotated[Array, "out", 3]
Out4: TypeAlias = Annotated[Array, "out", 4]
Out5: TypeAlias = Annotated[Array, "out", 5]
Out6: TypeAlias = Annotated[Array, "out", 6]
Number: TypeAlias = Annotated[float, "number"]
Count: TypeAlias = Annotated[int, "count"]


class Loop:
    """A function of arrays and numbers, and what each of its parameters is: see `loop`."""

    def __init__(self, name: str, text: str, kinds: Sequence[tuple[Any, ...]]):
        self.name, self.text, self.kinds = name, text, kinds
        self._compiled: dict[np.dtype[Any], Callable[..., None]] = {}

    def plain(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        """The loop as Python runs it, one element at a time: to look into, and to test without Numba."""
        names: dict[str, Any] = {"np": np, "real": dtype.type, "register_jitable": lambda function: function}
        exec(f"from __future__ import annotations\n{self.text}", names)
        function: Callable[..., None] = names[self.name]
        return function

    def of(self, dtype: np.dtype[Any]) -> Callable[..., None] | None:
        """The loop compiled for arrays of this float type; None where nothing compiles it."""
        found = self._compiled.get(dtype)
        if found is None and fast.numba() is not None:
            with _compiling:
                if dtype not in self._compiled:
                    self._compiled[dtype] = _compiled(self, dtype)
                found = self._compiled[dtype]
        return found


def loop(*uses: Callable[..., Any]) -> Callable[[Callable[..., None]], Loop]:
    """Decorator: makes a function, all of whose parameters are annotated with In…, Out…, Number or Count, a Loop.
    The functions `uses`, which it calls, are compiled into it."""

    def made(function: Callable[..., None]) -> Loop:
        hints = get_type_hints(function, include_extras=True)
        kinds = [hints[name].__metadata__ for name in inspect.signature(function).parameters]
        return Loop(function.__name__, "\n\n".join([*map(inlined, uses), source(function)]), kinds)

    return made


def source(function: Callable[..., Any]) -> str:
    """The text of a function, without decorators."""
    text = inspect.getsource(function)
    return text[text.index("def ") :]


def inlined(function: Callable[..., Any]) -> str:
    """The text of a function that a loop calls."""
    return f"@register_jitable\n{source(function)}"


# --- from text to machine code ---

HEAD = """from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

"""
_compiling = threading.Lock()


def _compiled(loop: Loop, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The loop, from what is kept of it or compiled now; kept from then on, where that is possible."""
    text = f"{HEAD}real = np.{dtype.name}\n\n\n{loop.text}"
    versions = [importlib.metadata.version(name) for name in ("numba", "llvmlite", "numpy")]
    key = hashlib.sha256(repr((text, *versions, sys.version, platform.machine())).encode()).hexdigest()[:16]
    try:
        file = cache_folder("kernels") / f"{loop.name}_{dtype.name}_{key}.py"
        _in_file(file, text)
    except (OSError, ValueError):
        file = None
    if file is not None:
        kept = _Kept(file)
        try:
            new = not kept.whole()
            if new:
                _announce()
            found = _function(loop, dtype, text, file)
            if new:
                kept.seal()
            return found
        except Exception:  # what is kept is not what it seems, or nothing can be kept: the folder may be full
            kept.forget()
    _announce()
    return _function(loop, dtype, text, None)


def _in_file(file: Path, text: str) -> None:
    """Have the text in this file, whole or not at all."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)


def _function(loop: Loop, dtype: np.dtype[Any], text: str, file: Path | None) -> Callable[..., None]:
    module = ModuleType(f"scratchgen_{file.stem if file else loop.name}")
    sys.modules[module.__name__] = module  # where Numba looks for what it reads back
    exec(compile(text, str(file or f"<{loop.name}>"), "exec"), module.__dict__)
    numba = fast.numba()
    types = [_type(numba, kind, dtype) for kind in loop.kinds]
    # nogil: shares run side by side. "numpy": a division by 0 gives what NumPy gives, and leaves vector code possible
    compile_it = numba.njit(numba.void(*types), nogil=True, error_model="numpy", cache=file is not None)
    compiled: Callable[..., None] = compile_it(getattr(module, loop.name))
    return compiled


def _type(numba: Any, kind: tuple[Any, ...], dtype: np.dtype[Any]) -> Any:
    real = numba.from_dtype(dtype)
    if kind[0] in ("in", "out"):
        return numba.types.Array(real, kind[1], "C", readonly=kind[0] == "in")
    return real if kind[0] == "number" else numba.int64


class _Kept:
    """What Numba keeps of one file, with sums that say whether it is whole."""

    def __init__(self, file: Path):
        self.file, self.sums = file, file.with_suffix(".json")

    def _files(self) -> list[Path]:
        return sorted((self.file.parent / "__pycache__").glob(f"{self.file.stem}.*.nb[ic]"))

    def _sums(self) -> dict[str, str]:
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in self._files()}

    def whole(self) -> bool:
        """Whether all is there as it was; what is not is thrown away."""
        with suppress(OSError, ValueError):
            found = self._sums()
            if found and json.loads(self.sums.read_text(encoding="utf-8")) == found:
                return True
        self.forget()
        return False

    def seal(self) -> None:
        with suppress(OSError):
            _in_file(self.sums, json.dumps(self._sums()))

    def forget(self) -> None:
        for file in (self.sums, *self._files()):
            with suppress(OSError):
                file.unlink()


@functools.cache
def _announce() -> None:
    """Say, once in a process, why it takes longer than usual."""
    print(
        "scratchgen: compiling loops for this machine, once: some seconds in all, half a second each",
        file=sys.stderr,
        flush=True,
    )
