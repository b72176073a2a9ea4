"""Whether kernels on a CPU are compiled: they are where Numba is installed, the extra `[fast]`, unless
SCRATCHGEN_FAST=0."""

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SETTING = "SCRATCHGEN_FAST"


def available() -> bool:
    """Whether there is something to compile with, and nobody has said no to it. Numba is not imported for that."""
    return os.environ.get(SETTING) != "0" and installed()


@functools.cache
def installed() -> bool:
    """Whether there is a Numba, which may still not work here."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def numba() -> Any:
    """Numba, which takes a third of a second to import; None where it does not work with this Python or NumPy, and
    where it is told to compile nothing."""
    try:
        import numba
    except Exception as error:
        if getattr(error, "name", "") == "numba":  # there is none
            return None
        warnings.warn(
            f"Numba is installed and does not work here, so NumPy does its work: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    settings: Any = numba.config
    return None if settings.DISABLE_JIT else numba


@contextmanager
def compiling_until(asked: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, nothing more is compiled once asked(): who waits for a program to stop should not wait
    for that. What is not compiled yet, NumPy does."""
    _asked.append(asked)
    try:
        yield
    finally:
        _asked.remove(asked)


waited = 0.0  # seconds that this process has waited for loops, which are no time of the work that wanted them
_asked: list[Callable[[], bool]] = []


def may_compile() -> bool:
    """Whether nobody waits for the program to stop."""
    return not any(asked() for asked in list(_asked))
