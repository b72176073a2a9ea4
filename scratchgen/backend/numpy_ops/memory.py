"""Arrays that start on a cache line, memory that is used again, and buffers that are kept from call to call.

The system hands out large blocks of fresh memory page by page, each on its first touch, which takes longer than most
of the work that is done on it; and a training step asks for the same sizes again and again. So large blocks are kept:
when the last array that looks at one is gone, it waits for the next array of its size.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from scratchgen.backend.arrays import Array

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

LINE = 64  # bytes: a cache line, and the widest vector register
SMALL = 1 << 12  # bytes, up to which it does not matter where an array starts
LARGE = 1 << 20  # bytes, from which memory is kept
IDLE = 1 << 28  # bytes that may be kept beyond as much as is in use


def empty(shape: Sequence[int], dtype: DTypeLike) -> Array:
    """An uninitialised array that, unless it is small, starts on a cache line: element-wise work on such arrays is up
    to twice as fast."""
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= SMALL:
        return np.empty(shape, dtype)
    raw = np.empty(size + LINE, np.uint8) if size < LARGE else _kept_memory(size + LINE)
    return np.ndarray(shape, dtype, raw, offset=-raw.ctypes.data % LINE)


def workspace(role: str, shape: Sequence[int], dtype: DTypeLike) -> Array:
    """An uninitialised buffer of this thread's own, the same memory for the same role each time, never handed out."""
    size = prod(shape)
    key = f"{role}-{np.dtype(dtype).str}"
    buffer: Array | None = getattr(_buffers, key, None)
    if buffer is None or buffer.size < size:
        buffer = empty((size,), dtype)
        setattr(_buffers, key, buffer)
    return buffer[:size].reshape(shape)


_buffers = threading.local()  # one set a thread, so that kernels may run side by side


# --- memory that is used again ---


class _Lease:
    """What an array of kept memory, and so every view of it, stands on: it goes when the last of them does."""

    __slots__ = ("__array_interface__", "__weakref__", "memory")

    def __init__(self, memory: Array):
        self.memory = memory  # whoever looks at it keeps it, whatever becomes of `_waiting`
        self.__array_interface__ = memory.__array_interface__


class _End(weakref.ref[_Lease]):
    """Waits for the end of a lease, and is then itself appended to the idle ones.

    No line of Python runs at that moment, which may be any: a Ctrl-C in such a line would be lost.
    """

    __slots__ = ("memory",)
    memory: Array


def _kept_memory(size: int) -> Array:
    idle = _idle.get(size)
    if idle is None:
        idle = _idle.setdefault(size, deque())
    try:
        end = idle.pop()  # the memory that was used last: it may still be in the cache
        memory = _waiting.pop(id(end)).memory
    except IndexError:
        memory = _new(size)
    lease = _Lease(memory)
    end = _End(lease, idle.append)
    end.memory = memory
    _waiting[id(end)] = end
    return np.asarray(lease)


def _new(size: int) -> Array:
    global _made
    with _lock:
        _let_go()
        memory = np.empty(size, np.uint8)
        _made += size
        return memory


def _let_go() -> None:
    """Give idle memory back when it has become much: the sizes that are asked for have changed."""
    global _made
    unused = sum(size * len(idle) for size, idle in list(_idle.items()))
    if unused > IDLE + (_made - unused):
        for size, idle in list(_idle.items()):
            while idle:
                try:
                    _waiting.pop(id(idle.pop()))
                except IndexError:  # another thread was faster
                    break
                _made -= size


_idle: dict[int, deque[_End]] = {}  # by size
_waiting: dict[int, _End] = {}  # all that are in use or idle, by id: an end that is forgotten says nothing
_made = 0  # bytes, idle or in use
_lock = threading.RLock()  # what the collector runs while memory is made may ask for another


def _after_fork() -> None:
    """The thread that held the lock is not in the child."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
