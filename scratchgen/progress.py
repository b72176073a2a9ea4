"""The library's progress bars: tqdm's, with a lock for threads only.

tqdm's own also locks against other processes, by a semaphore of the system's. A program that is killed leaves that
behind, and from Python 3.14 on a warning appears on the terminal for it. Bars of the user's own stay as they are.
"""

import sys
from threading import RLock
from typing import Any

from tqdm import tqdm as _tqdm


class tqdm(_tqdm):
    """See tqdm.tqdm; there is no bar where there is no standard error: closed, or of a program without a console."""

    def __init__(self, *args: Any, **options: Any) -> None:
        if options.get("file") is None and sys.stderr is None:
            options["disable"] = True
        super().__init__(*args, **options)


tqdm.set_lock(RLock())
