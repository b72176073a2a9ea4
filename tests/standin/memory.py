"""Memory: the device's, each array's its own block of exactly its size, and the page-locked memory of the host."""

import numpy as np

from standin import streams
from standin.ledger import ledger


class Memory:
    """One allocation of device memory: the NumPy array `root` that owns it, and when it was used last.

    NumPy gives an array that owns its data a block of exactly that size, by malloc: so a sanitizer sees its bounds.
    """

    __slots__ = ("__weakref__", "nbytes", "root", "stream", "tick", "watch")

    def __init__(self, root: np.ndarray):
        ledger.allocations += 1
        self.root = root
        self.nbytes = root.nbytes
        self.stream = streams._current
        self.tick = ledger.tick
        self.watch = None
        ledger.live += self.nbytes

    def __del__(self):
        ledger.live -= self.nbytes

    def watched(self):
        """The record of its use by streams, begun if there was none: until now one stream used it."""
        if self.watch is None:
            self.watch = streams.Watch()
            self.watch.uses[self.stream] = self.tick
        return self.watch


class MemoryPointer:
    """An address in device memory. (cupy.cuda.MemoryPointer.)"""

    __module__ = "cupy.cuda"
    __slots__ = ("mem", "ptr")

    def __init__(self, mem: Memory, ptr: int):
        self.mem = mem
        self.ptr = ptr

    def __int__(self):
        return self.ptr


class PinnedMemoryPointer(bytearray):
    """Page-locked host memory, which NumPy takes for a buffer. (cupy.cuda.PinnedMemoryPointer.)"""

    __module__ = "cupy.cuda"


def is_pinned(array: np.ndarray) -> bool:
    """Whether the array lies in page-locked memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, PinnedMemoryPointer)


def poison(array: np.ndarray) -> np.ndarray:
    """The array filled with what nobody may rest on: NaN, or a wild number."""
    if array.dtype.kind in "fc":
        array.fill(np.nan)
    elif array.dtype.kind == "b":
        array.fill(True)
    elif array.dtype.kind in "iu":
        array.fill(np.frombuffer(b"\xa5" * array.itemsize, array.dtype)[0])
    return array
