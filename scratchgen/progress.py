"""The library's progress bars: tqdm's, with a lock for threads only; widgets in a notebook that has them, else text.

tqdm's own also locks against other processes, by a semaphore of the system's. A program that is killed leaves that
behind, and from Python 3.14 on a warning appears on the terminal for it. Bars of the user's own stay as they are.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeVar

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of ipywidgets that are missing, and of widgets as such
    from tqdm.autonotebook import tqdm as _tqdm

T = TypeVar("T")


class tqdm(_tqdm):
    """See tqdm.tqdm; there is no bar where there is no standard error: closed, or of a program without a console."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if options.get("file") is None and sys.stderr is None:
            options["disable"] = True
        elif _in_notebook():  # whose streams are no terminals, and show bars; those of errors on a ground of red
            options["disable"] = bool(options.get("disable"))
            options["file"] = options.get("file") or sys.stdout
        super().__init__(*args, **options)


tqdm.set_lock(RLock())


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def over(things: Iterable[T], what: str, *, total: int | None = None, progress: bool = True) -> Iterator[T]:
    """The things one by one, with a bar on a terminal of what is done with them; it goes when all are done."""
    yield from tqdm(things, desc=what, total=total, leave=False, disable=None if progress else True)


@contextmanager
def doing(what: str, *, progress: bool = True) -> Iterator[None]:
    """A line on a terminal that says what is being done, where nobody knows how far it is; it goes with the block."""
    line = tqdm(total=0, bar_format="{desc} …", desc=what, leave=False, disable=None if progress else True)
    with line:
        yield
