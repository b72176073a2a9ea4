"""Files damaged at random, from a seed: what a bad cable, a half copy, an editor or an attacker makes of a file."""

from __future__ import annotations

import numpy as np

EXTREME = (0, 1, 0x7F, 0x80, 0xFF)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one kind of damage, at most a few places of it."""
    data = bytearray(content)
    match rng.integers(9):
        case 0:  # some bits
            for _ in range(rng.integers(1, 9)):
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        case 1:  # some bytes, near the start, where headers are
            for _ in range(rng.integers(1, 5)):
                data[rng.integers(min(len(data), 100))] = rng.integers(256)
        case 2:  # extreme values in a row of bytes, as of sizes
            at, count = rng.integers(min(len(data), 400)), rng.integers(1, 9)
            data[at : at + count] = bytes([EXTREME[rng.integers(len(EXTREME))]]) * int(count)
        case 3:  # the end is missing
            del data[rng.integers(len(data)) :]
        case 4:  # a part is missing
            at = rng.integers(len(data))
            del data[at : at + rng.integers(1, 200)]
        case 5:  # a part is there twice
            at, count = rng.integers(len(data)), rng.integers(1, 200)
            data[at:at] = data[at : at + count]
        case 6:  # a part is zero, as after a crash
            at, count = rng.integers(len(data)), int(rng.integers(1, 600))
            data[at : at + count] = bytes(len(data[at : at + count]))
        case 7:  # something is appended
            data += rng.bytes(rng.integers(1, 100))
        case 8:  # noise in the middle
            at, count = rng.integers(len(data)), rng.integers(1, 60)
            data[at : at + count] = rng.bytes(len(data[at : at + count]))
    return bytes(data)
