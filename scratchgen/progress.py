"""Progress bars of one process: with a lock for threads only.

tqdm's own also locks against other processes, by a semaphore of the system's. A program that is killed leaves that
behind, and from Python 3.14 on a warning appears on the terminal for it.
"""

from threading import RLock

from tqdm import tqdm

tqdm.set_lock(RLock())

__all__ = ["tqdm"]
