"""Limits of the process in which somebody else's answer is graded: a guard against accidents and the obvious tricks.

It is no sandbox: who means harm finds a way, as through C. Code that nobody trusts is run in a container.
"""

import _thread
import contextlib
import linecache
import math
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

resource: Any = import_module("resource") if find_spec("resource") else None  # not on Windows

LARGEST_FILE = 64 << 20  # bytes of a file that it writes
SPARE = 64 << 20  # bytes with which to say that there is no more memory

DEEDS = {  # by the event that Python raises for it: https://docs.python.org/3/library/audit_events.html
    **dict.fromkeys(
        ("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system", "subprocess.Popen"),
        "starts a process",
    ),
    **dict.fromkeys(("_thread.start_new_thread", "_thread.start_joinable_thread"), "starts a thread"),
    **dict.fromkeys(("os.kill", "os.killpg", "signal.pthread_kill"), "sends a signal to a process"),
    **dict.fromkeys(("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"), "uses the network"),
    **dict.fromkeys(("gc.get_objects", "gc.get_referrers"), "searches the memory of the check"),
}
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def confine(memory: int, seconds: float, file: str, breach: Callable[[str], object]) -> None:
    """From here on the process has limits; `breach` is called with a sentence when code of `file` starts a process or
    a thread, sends signals, uses the network, or writes outside the folder worked in.

    `memory` bytes come on top of what the process has; only Linux says how much that is.
    """
    sys.dont_write_bytecode = True
    if resource is not None:
        _limit(memory, math.ceil(seconds) + 1)
    folder = os.path.realpath(os.getcwd())

    def hook(event: str, args: tuple) -> None:
        deed = DEEDS.get(event)
        if deed is None and (event == "open" or event in CHANGES) and _elsewhere(event, args, folder):
            deed = "writes outside its folder"
        if deed is not None and (line := _line(file)):
            code = linecache.getline(file, line).strip()
            breach(f"it {deed} in line {line}, `{code[:80]}`: an answer must not")

    sys.addaudithook(hook)
    for module in (_thread, threading):  # Python raises events for threads from 3.12 on
        for name in ("start_new_thread", "start_joinable_thread", "_start_new_thread", "_start_joinable_thread"):
            if hasattr(module, name):
                setattr(module, name, _audited(getattr(module, name)))


def _audited(start: Callable) -> Callable:
    def starting(*args: Any, **options: Any) -> Any:
        sys.audit("_thread.start_new_thread", *args)
        return start(*args, **options)

    return starting


def _limit(memory: int, seconds: int) -> None:
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,  # neither processes nor threads; it does not hold for root
        "RLIMIT_FSIZE": LARGEST_FILE,
        "RLIMIT_CPU": seconds,  # of a process that has left the group, and is not ended with it
    }
    statm = Path("/proc/self/statm")
    if statm.exists():
        limits["RLIMIT_AS"] = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
    for name, most in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # not on this system, or it is lower already
            resource.setrlimit(getattr(resource, name), (most, most + (SPARE if name == "RLIMIT_AS" else 0)))


def spare() -> None:
    """Let the process have the memory that was kept back."""
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _elsewhere(event: str, args: tuple, folder: str) -> bool:
    """Whether a file outside the folder is opened for writing, or changed."""
    if event == "open":
        path, mode, flags = args
        written = (
            any(c in mode for c in "wax+") if isinstance(mode, str) else isinstance(flags, int) and flags & WRITING
        )
        paths = (path,) if written else ()
    else:
        paths = args[:2] if event in ("os.rename", "os.link") else args[1:2] if event == "os.symlink" else args[:1]
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if real != os.devnull and not (real + os.sep).startswith(folder + os.sep):
                return True
    return False


def _line(file: str) -> int:
    """The line of the file that is being run, or 0: what the library does by itself is its own affair."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != file:
        frame = frame.f_back
    return frame.f_lineno if frame is not None else 0
