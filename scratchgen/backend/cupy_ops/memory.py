"""Who holds an array of the GPU's: see `reference.unshared`."""

import sys

from scratchgen.backend.cupy_ops.device import xp
from scratchgen.backend.numpy_ops import memory as host


def unshared(array) -> bool:
    """See `reference.unshared`; by Python's counts, as for NumPy's arrays.

    Only of CuPy's own memory: who else looks at another's, a tensor's that came by DLPack, cannot be known.
    """
    if not host._counts_references or type(array) is not xp.ndarray:
        return False
    return not isinstance(array.data.mem, xp.cuda.UnownedMemory) and _references(array) in _ALONE


def _references(array) -> tuple[int, int, int, int]:
    """How many hold the array, the one that it is a view of, its pointer, and the memory pointed to."""
    held = sys.getrefcount(array), 0 if array.base is None else sys.getrefcount(array.base)
    return *held, sys.getrefcount(array.data), sys.getrefcount(array.data.mem)


def _alone() -> set:
    """What `unshared` sees where nobody else looks: at an array, at one in another shape, at a part of one."""
    seen = set()

    def see(array) -> None:  # stands where `unshared` does, between `_references` and a caller with one name for it
        seen.add(_references(array))

    own, shaped, part = xp.empty(4), xp.empty(4).reshape(2, 2), xp.empty(4)[1:]
    see(own)
    see(shaped)
    see(part)
    return seen


_ALONE = _alone()
