"""Whether kernels on a CPU are compiled: they are where Numba is installed, the extra `[fast]`, unless
SCRATCHGEN_FAST=0."""

import functools
import importlib.util
import os
from typing import Any

SETTING = "SCRATCHGEN_FAST"


def available() -> bool:
    """Whether there is something to compile with, and nobody has said no to it. Numba is not imported for that."""
    return os.environ.get(SETTING) != "0" and _installed()


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def numba() -> Any:
    """Numba, which takes a third of a second to import; None where it does not work with this Python or NumPy."""
    try:
        import numba
    except Exception:
        return None
    return numba
