"""What a file may take of the memory: what it states is compared with what it is, before room is made for it."""

from __future__ import annotations

import os

# DEFLATE packs one value all over 1032-fold, and images less: MNIST 5-fold, dSprites, shapes on black, 115-fold,
# small white squares on black 360-fold.
MOST_EXPANSION = 512
ALWAYS_FITS = 64 << 20  # bytes; up to here any expansion will do


def check_expansion(what: object, packed: int, unpacked: int, error: type[ValueError] = ValueError) -> None:
    """`error` where `packed` bytes state that they hold more `unpacked` ones than those of images do."""
    if unpacked > max(ALWAYS_FITS, MOST_EXPANSION * packed):
        raise error(
            f"{what}: {packed:,} bytes that state to be {size(unpacked)} unpacked are not read, since images are "
            f"packed {MOST_EXPANSION}-fold at most; unpack the file first if this is right."
        )


def check_memory(what: object, needed: int, advice: str) -> None:
    """ValueError where `needed` bytes are more than this machine has; `advice` says how to need fewer."""
    memory = _memory()
    if memory is not None and needed > memory:
        raise ValueError(f"{what}: needs {size(needed)} of memory, and this machine has {size(memory)}; {advice}.")


def size(n: int) -> str:
    """A number of bytes in words."""
    return f"{n / 1e9:,.1f} GB" if n >= 1e9 else f"{n / 1e6:,.1f} MB"


def _memory() -> int | None:
    """Bytes of memory of this machine, where the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows, for one, has no sysconf
        return None
