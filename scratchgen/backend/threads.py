"""Worker threads for the kernels on a CPU: each works on its own share of the data, with one BLAS thread.

NumPy does one elementwise operation at a time on one core, but it lets go of Python's lock while it computes. So
work is cut along the batch, or along the rows of a matrix, and the shares run side by side; the caller's own thread
is one of the workers. BLAS has threads of its own, which would fight with ours over the cores: while shares run it is
held to one. Only one thread runs Python at a time, and a thread that must wait for it sleeps: so shares are few, and
each does much in every call of NumPy.

What is summed is cut by its size alone, and partial sums are added in their order, never in that in which threads
happen to finish; only work whose pieces do not meet is cut as there are threads. So a result is the same bit for bit,
on any number of threads.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from math import inf
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

_SETTINGS = ("SCRATCHGEN_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MOST = 4096  # threads, more than a machine has cores

AWAKE = 5e-4  # seconds that the caller stays awake for its workers to end
# multiply-adds: a tenth of a millisecond, about what it takes to wake a worker and to wait for it
WORTH_WAKING = 1.5e7
MOVING = 64  # multiply-adds in the time that it takes to read or write an element


def cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """How many cores this process may use: those that it may run on, or fewer where a container's quota of their time
    is less, at least 1. Threads beyond the quota stop for the rest of each period, and all others wait for them."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(here, _quota(groups, own))))


def _quota(groups: Path, own: Path) -> float:
    """How many cores' time Linux gives to the control groups of this process, version 2 or 1; infinity: no limit.

    A container sees its own group at the top, and may be told another name for it.
    """
    least = inf
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        return least
    for line in lines:
        controllers, _, name = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = groups / controllers  # version 2 has no controllers here
        for group in (name.strip("/"), *map(str, PurePosixPath(name.strip("/")).parents)):
            least = min(least, _share(top / group))
    return least


def _share(group: Path) -> float:
    """The quota of one control group."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            time, period = " ".join((group / name).read_text() for name in names).split()
            if time != "max" and int(time) > 0:
                return int(time) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or not what it should be
            continue
    return inf


def get_threads() -> int:
    """How many threads the kernels use, the caller's included."""
    return _threads


def set_threads(n: int) -> None:
    """Let the kernels use n threads; 1 for none but the caller's. TypeError unless n is a whole number, ValueError
    below 1, and above MOST."""
    global _threads
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"set_threads: n is {n!r}, needs an integer")
    if n < 1:
        raise ValueError(f"set_threads: n is {n}, needs at least 1")
    if n > MOST:
        raise ValueError(f"set_threads: n is above {MOST:,}, needs at most that many")
    _threads = n
    one_blas_thread.normally([n] * len(one_blas_thread.usual()))


@contextmanager
def limited(n: int | None) -> Iterator[None]:
    """set_threads(n) for a while; None leaves all as it is."""
    global _threads
    before, blas = _threads, one_blas_thread.usual()
    if n is not None:
        set_threads(n)
    try:
        yield
    finally:
        if n is not None:
            _threads = before
            one_blas_thread.normally(blas)


def asked_for(names: Sequence[str] = _SETTINGS[:1]) -> int | None:
    """How many threads the environment asks for, at most one a core, by the first of these variables that is a
    positive integer; None where none is."""
    for name in names:
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdecimal() and value.strip("0"):
            return cores() if len(value) > 9 else min(int(value), cores())
    return None


def _first_setting() -> int:
    return asked_for(_SETTINGS) or cores()


_threads = _first_setting()


def parts(n: int, least: int = 1) -> list[slice]:
    """range(n) in contiguous slices, one a thread, as equal as can be; fewer where one would be below `least`."""
    return cut(n, max(1, min(_threads, n // least)))


def cut(n: int, count: int) -> list[slice]:
    """range(n) in so many contiguous slices, as equal as can be."""
    return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]


def worth_sharing(work: float) -> bool:
    """Whether work, in multiply-adds, is done by several threads."""
    return _threads > 1 and work >= 2 * WORTH_WAKING


def over(share: Callable[[slice], T], n: int, work: float) -> list[T]:
    """[share(part) for each part of range(n)], side by side where that pays; `work` is all of it in multiply-adds."""
    least = max(1, int(n * WORTH_WAKING / work) if work else n)
    found = parts(n, least)
    if len(found) == 1:
        with one_blas_thread:
            return [share(found[0])]
    return run([partial(share, part) for part in found])


def run(shares: list[Callable[[], T]]) -> list[T]:
    """Call every function of the list, side by side on the worker threads; their results in the list's order.

    The first exception, in that order, is raised when all have ended; so is Ctrl-C, after which no new share begins.
    A share that itself calls `run` does its own shares one after the other: the threads are busy already.
    """
    if len(shares) <= 1 or _threads == 1 or getattr(_here, "busy", False):
        with one_blas_thread:
            return [share() for share in shares]
    job = _Job(shares)
    with one_blas_thread:
        helpers = _workers(min(_threads, len(shares)) - 1)
        for _ in range(helpers):
            _queue.put((job, copy_context()))  # what the caller set for its thread, np.errstate say, holds there too
        try:
            job.work()
        finally:
            job.wait()
    return job.results()


class _Job:
    """A list of shares, which whoever is free takes from the front."""

    def __init__(self, shares: list[Callable[[], Any]]):
        self.shares = shares
        self.outcomes: list[Any] = [None] * len(shares)  # (True, result) or (False, exception)
        self.left = deque(range(len(shares)))
        self.helping = 0  # workers that may still have a share
        self.changed = threading.Condition()

    def _next(self) -> int | None:
        try:
            return self.left.popleft()  # in one piece, with Python's lock or without
        except IndexError:
            return None

    def work(self) -> None:
        _here.busy = True
        try:
            while (i := self._next()) is not None:
                try:
                    self.outcomes[i] = True, self.shares[i]()
                except BaseException as error:  # handed to the caller
                    self.outcomes[i] = False, error
        finally:
            _here.busy = False

    def help(self) -> None:
        """What a worker does; counted from before its first share to after its last."""
        with self.changed:
            self.helping += 1
        try:
            self.work()
        finally:
            with self.changed:
                self.helping -= 1
                self.changed.notify_all()

    def wait(self) -> None:
        """Until no worker has a share; a short wait is spent awake, since to be woken takes longer than most."""
        self.left.clear()  # what an interrupted caller has not begun
        until = perf_counter() + AWAKE
        while self.helping and perf_counter() < until:
            _let_go()
        with self.changed:
            self.changed.wait_for(lambda: not self.helping)

    def results(self) -> list[Any]:
        outcomes, self.outcomes = self.outcomes, []
        error = next((outcome for good, outcome in outcomes if not good), None)
        if error is None:
            return [outcome for _, outcome in outcomes]
        del outcomes  # the error holds this frame: let it hold no arrays
        try:
            raise error
        finally:
            del error


def _let_go() -> None:
    """Let go of Python's lock, which a worker needs to end, for some 20 µs: NumPy computes without it. A system call
    that only looks in would be back for it at once."""
    np.tanh(_SPIN, out=_SPIN)


_SPIN = np.zeros(1 << 16, np.float32)
_here = threading.local()
_queue: SimpleQueue[tuple[_Job, Context]] = SimpleQueue()
_started = 0
_starting = threading.Lock()


def _workers(n: int) -> int:
    """See to it that n worker threads are there; how many are, where no more can be started."""
    global _started
    with _starting:
        while _started < n:
            try:
                threading.Thread(target=_serve, name=f"scratchgen-{_started}", daemon=True).start()
            except RuntimeError:  # Python is about to end, or the system has no more of them
                break
            _started += 1
        return min(n, _started)


def _serve() -> None:
    while True:
        job, context = _queue.get()
        context.run(job.help)
        del job, context


def _after_fork() -> None:
    """A forked child has none of its parent's threads, and nobody who would let go of what they held."""
    global _started, _queue, _starting
    _started, _queue, _starting = 0, SimpleQueue(), threading.Lock()
    _here.busy = False
    one_blas_thread.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def numpys_blas() -> list[Any]:
    """threadpoolctl's controllers of the BLAS that NumPy multiplies with: others, SciPy's say, are not ours. Where
    NumPy has none of its own in its wheel, all that are loaded."""
    loaded = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [library for library in loaded if any(part.startswith("numpy") for part in Path(library.filepath).parts)]
    return own or loaded


class _OneBlasThread:
    """Context manager: while anybody is inside, BLAS runs each product on the thread that asked for it."""

    def __init__(self) -> None:
        self.libraries: list[Any] | None = None  # of threadpoolctl's controllers, once they were looked for
        self.inside = 0
        self.lock = threading.Lock()
        self.before: list[int] = []

    def usual(self) -> list[int]:
        """How many threads each BLAS library uses when nobody is inside."""
        with self.lock:
            return self.before if self.inside else self._now()

    def normally(self, counts: list[int]) -> None:
        """Let them use so many when nobody is inside."""
        with self.lock:
            if self.inside:
                self.before = counts
            else:
                self._tell(counts, self._now())

    def _found(self) -> list[Any]:
        if self.libraries is None:
            self.libraries = numpys_blas()
            if os.environ.get(_SETTINGS[0]):
                self._tell([_threads] * len(self.libraries), self._now())
        return self.libraries

    def _now(self) -> list[int]:
        return [library.get_num_threads() for library in self._found()]

    def let_go(self) -> None:
        """As if nobody were inside."""
        self.lock = threading.Lock()
        if self.inside:
            self.inside = 0
            self.normally(self.before)

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.before = self._now()
            self.inside += 1  # before BLAS is told, so that a fork in between finds it
            if self.inside == 1:
                self._tell([1] * len(self.before), self.before)

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            if self.inside == 1:
                self._tell(self.before, [1] * len(self.before))
            self.inside -= 1

    def _tell(self, counts: list[int], now: list[int]) -> None:
        if counts == now:
            return
        for library, n, has in zip(self._found(), counts, now, strict=True):
            if n != has:
                _set_blas_threads(library, n)


def _set_blas_threads(library: Any, n: int) -> None:
    """Whoever asks: threadpoolctl keeps this right for the first thread that used it, until it is told not to."""
    let_others = getattr(library, "clear_controlling_thread", None)
    if let_others is not None:
        let_others(force=True)
    library.set_num_threads(n)
    if let_others is not None:
        let_others(force=True)


one_blas_thread = _OneBlasThread()
