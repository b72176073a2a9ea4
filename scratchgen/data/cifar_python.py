"""CIFAR-10's Python version, read without running it.

Its files are pickles: programs that build a dictionary, and can just as well do anything else. So none is run. Its
instructions are listed, which calls and imports nothing, and the images and labels are the arguments of two of them:

    … 'labels' [ MARK 6 9 9 4 … APPENDS ] … 'data' … the call that would build an array … 'u1' … the pixels …

Source: https://www.cs.toronto.edu/~kriz/cifar.html, section "Python version"; the standard library's pickletools.
"""

from __future__ import annotations

import io
from pathlib import Path
from pickletools import genops

import numpy as np
from numpy.typing import NDArray

from scratchgen.data.tally import short

MOST_BYTES = 64 << 20  # twice a published file
KEYS = ("batch_label", "labels", "data", "filenames")
INTEGERS = ("BININT1", "BININT2", "BININT", "INT", "LONG", "LONG1")  # instructions; integers of others are addresses
MOST_STEPS = 300_000  # instructions; a published file has about 50,000


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images `(N, 32, 32, 3)` and labels `(N,)` of one file.

    Raises ValueError for one that is damaged or something else.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path}: has {size:,} bytes; a file of CIFAR-10's Python version has 31 million.")
    try:
        labels, pixels = _arguments(path.read_bytes())
        if not labels or max(labels) > 9 or min(labels) < 0 or len(pixels) != 3 * 32 * 32 * len(labels):
            raise ValueError(f"{len(labels):,} labels, and {len(pixels):,} bytes of pixels")
    except Exception as error:  # what damaged bytes do to a parser has no narrower type
        reason = short(error) or type(error).__name__
        raise ValueError(f"{path}: is not a complete file of CIFAR-10's Python version ({reason}).") from None
    planes = np.frombuffer(pixels, np.uint8).reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.uint8)


def _arguments(content: bytes) -> tuple[list[int], bytes]:
    """The integers behind the word "labels", and the long text behind the word "data"."""
    labels: list[int] = []
    pixels, key = b"", ""
    seen: set[str] = set()
    for step, (instruction, argument, _) in enumerate(genops(io.BytesIO(content))):
        if step > MOST_STEPS:
            raise ValueError(f"more than {MOST_STEPS:,} instructions")
        if isinstance(argument, int) and instruction.name in INTEGERS and key == "labels":
            labels.append(argument)
        elif isinstance(argument, str | bytes | bytearray):
            word = argument if isinstance(argument, str) else argument.decode("latin-1")
            if len(word) >= 3 * 32 * 32 and key == "data" and not pixels:
                pixels = word.encode("latin-1")
            elif word in KEYS and word not in seen:
                key = word
            if len(word) < 100:
                seen.add(word)
    if "u1" not in seen:
        raise ValueError("its pixels are not of type uint8")
    return labels, pixels
