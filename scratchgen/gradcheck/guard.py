"""Calls of code that is not the library's own: what may come out of them, and the words for it."""

import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PACKAGE = str(Path(__file__).parents[1])
CHECKER = str(Path(__file__).parent)
NUMPY = str(Path(np.__file__).parent)
LONGEST = 300  # characters of somebody else's message

apart = False  # whether this is a process of its own (`apart.py`), which Ctrl-C does not reach


def watch(phase: str) -> None:
    """Told of every call before it is made; `apart.py` puts a clock in its place."""


class Left(RuntimeError):
    """The code that was called tried to leave: it raised what is no Exception, SystemExit say. Its text has all."""


def guarded(phase: str, function: Callable, *args, **options):
    """function(*args, **options), for a `phase` such as "forward", contained; the floating-point settings of NumPy
    are as before afterwards."""
    watch(phase)
    with contained(), np.errstate(all="ignore"):  # what is not finite is told, not warned of
        return function(*args, **options)


@contextmanager
def contained():
    """Out of the block come Exceptions alone, and Ctrl-C: a layer that calls sys.exit() does not end the check."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not apart:
            raise
        raise Left(told(error)) from error


def told(error: BaseException) -> str:
    """What was raised, and where, on one line."""
    at = place(error)
    return named(error) + (f" ({at})" if at and not isinstance(error, Left) else "")


def named(error: BaseException) -> str:
    """What was raised, on one line, even where its own text cannot be had."""
    if isinstance(error, Left):
        return words(error)
    said = words(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def words(error: BaseException) -> str:
    """str(error) on one line, shortened."""
    try:
        said = " ".join(str(error).split())
    except BaseException as own:
        return f"its text cannot be had, which raises {type(own).__name__}"
    return said if len(said) <= LONGEST else said[:LONGEST] + " …"


def place(error: BaseException) -> str:
    """File and line where it was raised: the innermost that is neither NumPy's nor the library's; "" where the
    checker itself raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(CHECKER)]
    own = [f for f in frames if not f.filename.startswith((PACKAGE, NUMPY, "<frozen "))]
    return f"{(own or frames)[-1].filename}, line {(own or frames)[-1].lineno}" if frames else ""
