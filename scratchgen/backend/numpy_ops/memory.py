"""Arrays that start on a cache line, and buffers that are kept from call to call."""

import threading
from math import prod

import numpy as np

LINE = 64  # bytes: a cache line, and the widest vector register


def empty(shape, dtype):
    """An uninitialised array that starts on a cache line: element-wise work on such arrays is up to twice as fast."""
    size = prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def workspace(role: str, shape, dtype):
    """An uninitialised buffer of this thread's own, the same memory for the same role each time, never handed out.

    Fresh pages cost more than the work that is done on them.
    """
    size = prod(shape)
    key = f"{role}-{np.dtype(dtype).char}"
    buffer = getattr(_buffers, key, None)
    if buffer is None or buffer.size < size:
        buffer = empty((size,), dtype)
        setattr(_buffers, key, buffer)
    return buffer[:size].reshape(shape)


_buffers = threading.local()  # one set a thread, so that kernels may run side by side
