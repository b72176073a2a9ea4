"""Calls of code that is not the library's own: what may come out of them, and how it is described."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = str(Path(__file__).parents[1])
CHECKER = str(Path(__file__).parent)
NUMPY = str(Path(np.__file__).parent)
LONGEST = 300  # characters of somebody else's message

on_call: Callable[[str], None] = lambda phase: None  # noqa: E731  `apart.py` puts a clock here
apart = False  # whether this is a process of its own (`apart.py`), which Ctrl-C does not reach


class Exited(RuntimeError):
    """The code that was called raised what is no Exception, as SystemExit. The message says what, and where."""


def guarded(phase: str, function: Callable, *args: Any, **options: Any) -> Any:
    """function(*args, **options), for a `phase` such as "forward", contained; the floating-point settings of NumPy
    are as before afterwards."""
    on_call(phase)
    with np.errstate(all="ignore"):  # what is not finite is reported, not warned of
        try:
            return function(*args, **options)
        except Exception:
            raise
        except BaseException as error:
            raise _as_exception(error) from error


@contextmanager
def contained() -> Iterator[None]:
    """Out of the block come Exceptions alone, and Ctrl-C: a layer that calls sys.exit() does not end the check."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        raise _as_exception(error) from error


def _as_exception(error: BaseException) -> BaseException:
    return error if isinstance(error, KeyboardInterrupt) and not apart else Exited(described(error))


def described(error: BaseException) -> str:
    """What was raised, and where, on one line."""
    said = message(error)
    if isinstance(error, Exited):
        return said
    at = place(error)
    return type(error).__name__ + (f": {said}" if said else "") + (f" ({at})" if at else "")


def message(error: BaseException) -> str:
    """Its text on one line, shortened, even where the text cannot be read."""
    try:
        return shortened(str(error))
    except BaseException as own:
        return f"its text cannot be read, which raises {type(own).__name__}"


def shortened(text: str) -> str:
    """The text on one line, up to `LONGEST` characters of it."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def place(error: BaseException) -> str:
    """File and line where it was raised: the innermost that is neither NumPy's nor the library's; "" where the
    checker itself raised it."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(CHECKER)]
    own = [f for f in frames if not f.filename.startswith((PACKAGE, NUMPY, "<frozen "))]
    return f"{(own or frames)[-1].filename}, line {(own or frames)[-1].lineno}" if frames else ""
