"""Arrays that start on a cache line, memory that is used again, and buffers that are kept from call to call.

The system hands out large pieces of fresh memory page by page, each on its first touch, which takes longer than most
of the work that is done on it; and a training step asks for the same sizes again and again. So large pieces are kept,
and one that no array looks at any more is taken for the next array of its size.
"""

import os
import sys
import threading
from math import prod

import numpy as np

LINE = 64  # bytes: a cache line, and the widest vector register
LARGE = 1 << 20  # bytes, from which memory is kept
IDLE = 1 << 28  # bytes that may be kept beyond as much as is in use


def empty(shape, dtype):
    """An uninitialised array that starts on a cache line: element-wise work on such arrays is up to twice as fast."""
    size = prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + LINE, np.uint8) if size < LARGE or not _counts_references else _kept_memory(size + LINE)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def workspace(role: str, shape, dtype):
    """An uninitialised buffer of this thread's own, the same memory for the same role each time, never handed out."""
    size = prod(shape)
    key = f"{role}-{np.dtype(dtype).char}"
    buffer = getattr(_buffers, key, None)
    if buffer is None or buffer.size < size:
        buffer = empty((size,), dtype)
        setattr(_buffers, key, buffer)
    return buffer[:size].reshape(shape)


_buffers = threading.local()  # one set a thread, so that kernels may run side by side


# --- memory that is used again ---


def _kept_memory(size: int):
    with _lock:
        pieces = _pieces.setdefault(size, [])
        for i in reversed(range(len(pieces))):
            if _is_idle(pieces, i):
                pieces.append(pieces.pop(i))  # the one last handed out comes first: it is still in the cache
                return pieces[-1]
        _let_go()
        piece = np.empty(size, np.uint8)
        _pieces.setdefault(size, []).append(piece)
        return piece


def _is_idle(pieces: list, i: int) -> bool:
    """True when only the list holds piece i: an array made of it, or a view of that, would hold it too."""
    return sys.getrefcount(pieces[i]) <= _HELD_BY_A_LIST


def _let_go() -> None:
    """Give idle memory back when it has become much: the sizes that are asked for have changed."""
    idle = {size: [i for i in range(len(pieces)) if _is_idle(pieces, i)] for size, pieces in _pieces.items()}
    unused = sum(size * len(which) for size, which in idle.items())
    total = sum(size * len(pieces) for size, pieces in _pieces.items())
    if unused > IDLE + (total - unused):
        for size, which in idle.items():
            for i in reversed(which):
                del _pieces[size][i]


def unshared(array) -> bool:
    """See `reference.unshared`; from the counts by which Python itself knows when memory is free.

    Only of NumPy's own memory: who else looks at another's, a tensor's or a file's, cannot be known.
    """
    if not _counts_references or type(array) is not np.ndarray or not array.flags.writeable:
        return False
    if array.base is None:
        return array.flags.owndata and _references(array) == _ALONE
    base = array.base
    if type(base) is not np.ndarray or not base.flags.owndata:
        return False
    kept = any(piece is base for piece in _pieces.get(base.nbytes, ()))
    del base
    return _references(array) == (_ALONE_KEPT if kept else _ALONE_VIEW)


def _references(array) -> tuple[int, int]:
    """How many hold the array, and how many the one that it is a view of."""
    return sys.getrefcount(array), sys.getrefcount(array.base) if array.base is not None else 0


def _counts(array) -> tuple[int, int]:
    """What `unshared` sees: it stands where that does, between `_references` and a caller with one name for it."""
    return _references(array)


def _counts_of_own(array) -> tuple[int, int]:
    return _counts(array)


def _counts_tell() -> bool:
    """Whether the counts say what they must: tried out here, since they are a property of the interpreter."""
    one, two, view = np.empty(1), np.empty(1), np.empty(2)[1:]
    held, base = [two], view.base
    tell = unshared(one) and not unshared(two) and not unshared(view) and held[0] is two and base is view.base
    return tell and _ALONE[0] <= 4 and _HELD_BY_A_LIST <= 2  # more: a tracer looks on, and will not always


# CPython up to 3.13 with its lock: others count otherwise, or not at once
_counts_references = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 14)
    and getattr(sys, "_is_gil_enabled", lambda: True)()
)
_pieces: dict[int, list] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    """The thread that held the lock is not in the child."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
if _counts_references:
    _HELD_BY_A_LIST = (lambda pieces: sys.getrefcount(pieces[0]))([np.empty(1)])
    _ALONE, _ALONE_VIEW = _counts_of_own(np.empty(1)), _counts_of_own(np.empty(2)[1:])
    _ALONE_KEPT = _ALONE_VIEW[0], _ALONE_VIEW[1] + 1
    _counts_references = _counts_tell()
