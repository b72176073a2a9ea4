"""Loops in plain Python, compiled to machine code by Numba where it is installed (the extra `[fast]`).

A loop is compiled for a float type when it is first wanted, which takes about half a second, and kept in the user's
cache folder, so that every later process has it at once. Numba keeps only what stands in a file; so each loop has a
folder of its own there, with that file, whose name depends on its text and on all that compiles it. It is made under
another name and then renamed: it is there whole, or not at all. It is checked by its sums before it is used: what has
been damaged since is thrown away and compiled anew. Where nothing can be written, nothing is kept, and all works.

Numba compiles in a thread of its own, which no Ctrl-C interrupts; who waits for it can be.
"""

import functools
import hashlib
import inspect
import json
import os
import platform
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
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
In4: TypeAlias = Annotated[Array, "in", 4]
In5: TypeAlias = Annotated[Array, "in", 5]
In6: TypeAlias = Annotated[Array, "in", 6]
Out: TypeAlias = Annotated[Array, "out", 1]
Out2: TypeAlias = Annotated[Array, "out", 2]
Out4: TypeAlias = Annotated[Array, "out", 4]
Out6: TypeAlias = Annotated[Array, "out", 6]
Number: TypeAlias = Annotated[float, "number"]
Count: TypeAlias = Annotated[int, "count"]


class Loop:
    """A function of arrays and numbers, and what each of its parameters is: see `loop`."""

    def __init__(self, name: str, text: str, kinds: Sequence[tuple[Any, ...]]):
        self.name, self.text, self.kinds = name, text, kinds
        self._compiled: dict[np.dtype[Any], Callable[..., None] | None] = {}

    def plain(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        """The loop as Python runs it, one element at a time: to look into, and to test without Numba."""
        names: dict[str, Any] = {"np": np, "real": dtype.type, "register_jitable": lambda function: function}
        exec(f"from __future__ import annotations\n{self.text}", names)
        function: Callable[..., None] = names[self.name]

        def run(*arguments: Any) -> None:
            numbers = [kind[0] == "number" for kind in self.kinds]
            function(*(dtype.type(a) if number else a for a, number in zip(arguments, numbers, strict=True)))

        return run

    def of(self, dtype: np.dtype[Any]) -> Callable[..., None] | None:
        """The loop compiled for arrays of this float type; None where nothing compiles it, and while the program is
        asked to stop, if that is still to be done."""
        if dtype not in self._compiled and fast.may_compile() and not _torn:
            done, failures, started = threading.Event(), list[Exception](), perf_counter()
            try:
                threading.Thread(
                    target=self._compile, args=(dtype, done, failures), name="scratchgen-compiler"
                ).start()
            except RuntimeError:  # the system has no more threads
                return None
            while not done.wait(LOOK) and fast.may_compile():
                pass
            fast.waited += perf_counter() - started
            for error in failures:
                what = str(error).strip().partition("\n")[0]
                warnings.warn(
                    f"Numba cannot compile {self.name} for {dtype}, so NumPy does it: {type(error).__name__}: {what}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._compiled.get(dtype)

    def _compile(self, dtype: np.dtype[Any], done: threading.Event, failures: list[Exception]) -> None:
        try:
            with _compiling:
                if dtype not in self._compiled:
                    self._compiled[dtype] = _compiled(self, dtype) if fast.numba() is not None else None
        except Exception as error:
            self._compiled[dtype] = None
            failures.append(error)
        finally:
            done.set()


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
LOOK = 0.05  # seconds between two looks of who waits for a loop at whether the program is asked to stop
TEXT, SUMS = "loop.py", "sums.json"  # in the folder of a loop, beside what Numba keeps

_compiling = threading.Lock()
_torn = False  # this process was forked while Numba was at work, and will wait for its lock for ever


def _after_fork() -> None:
    global _compiling, _torn
    _torn = _torn or _compiling.locked()
    _compiling = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _compiled(loop: Loop, dtype: np.dtype[Any]) -> Callable[..., None]:
    """The loop, from what is kept of it or compiled now; kept from then on, where that is possible."""
    text = f"{HEAD}real = np.{dtype.name}\n\n\n{loop.text}"
    name = f"{loop.name}_{dtype.name}_{_key(text)}"
    try:
        folder = cache_folder("kernels") / name
    except (OSError, ValueError, RuntimeError):  # nobody knows where it is
        folder = None
    if folder is not None and _whole(folder):
        with suppress(Exception):  # it is not what it seems
            return _function(loop, dtype, name, text, folder / TEXT)
    _announce()
    with suppress(OSError):
        if folder is not None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(
                prefix=f"{name}.", suffix=".part", dir=folder.parent, ignore_cleanup_errors=True
            ) as part:
                (Path(part) / TEXT).write_text(text, encoding="utf-8")
                found = _function(loop, dtype, name, text, Path(part) / TEXT)
                with suppress(OSError):
                    _keep(Path(part), folder)
                return found
    return _function(loop, dtype, name, text, None)


def _key(text: str) -> str:
    """Another one for another text, and for whatever else may compile it to something else."""
    import llvmlite
    import llvmlite.binding as llvm

    features = None
    with suppress(RuntimeError):
        features = llvm.get_host_cpu_features().flatten()
    processor = platform.machine(), llvm.get_host_cpu_name(), features
    versions = fast.numba().__version__, llvmlite.__version__, np.__version__, sys.version
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    return hashlib.sha256(repr((text, processor, versions, settings)).encode()).hexdigest()[:16]


def _function(loop: Loop, dtype: np.dtype[Any], name: str, text: str, file: Path | None) -> Callable[..., None]:
    """The loop compiled, and kept beside the file if there is one; or what is kept there."""
    module = ModuleType(f"scratchgen_loop_{name}")
    sys.modules[module.__name__] = module  # where Numba looks for the module of what it has kept
    exec(compile(text, str(file or f"<{name}>"), "exec"), vars(module))
    numba = fast.numba()
    types = [_type(numba, kind, dtype) for kind in loop.kinds]
    # nogil: shares run side by side. "numpy": a division by 0 gives what NumPy gives, and leaves vector code possible
    function = numba.njit(nogil=True, error_model="numpy")(getattr(module, loop.name))
    elsewhere, numba.config.CACHE_DIR = numba.config.CACHE_DIR, ""  # where the user keeps other things
    try:
        if file is not None:
            with suppress(RuntimeError):  # there is no place for it
                function.enable_caching()
        function.compile(numba.void(*types))
    except Exception:
        if not function.signatures:
            raise  # else it is compiled, and could not be kept
    finally:
        numba.config.CACHE_DIR = elsewhere
    function.disable_compile()
    compiled: Callable[..., None] = function
    return compiled


def _type(numba: Any, kind: tuple[Any, ...], dtype: np.dtype[Any]) -> Any:
    real = numba.from_dtype(dtype)
    if kind[0] in ("in", "out"):
        return numba.types.Array(real, kind[1], "C", readonly=kind[0] == "in")
    return real if kind[0] == "number" else numba.int64


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _whole(folder: Path) -> bool:
    """Whether all that was kept is as it was."""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        return bool(sums) and all(_sum(folder / name) == wanted for name, wanted in sums.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def _keep(part: Path, folder: Path) -> None:
    """Have the new folder in the place of what may be there, damaged."""
    files = [file for file in part.rglob("*") if file.suffix in (".py", ".nbi", ".nbc")]
    if {file.suffix for file in files} < {".py", ".nbi", ".nbc"}:
        return  # Numba could not write all
    sums = {file.relative_to(part).as_posix(): _sum(file) for file in files}
    (part / SUMS).write_text(json.dumps(sums), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.is_file():
        folder.unlink()
    part.rename(folder)


@functools.cache
def _announce() -> None:
    """Say, once in a process, why it takes longer than usual."""
    from scratchgen.progress import tqdm  # whose bars leave room for a line

    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # closed
            tqdm.write(
                "scratchgen: compiling loops for this machine, once: some seconds in all, half a second each",
                file=sys.stderr,
            )
