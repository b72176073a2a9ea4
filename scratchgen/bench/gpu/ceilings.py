"""What the GPU can do: a large matrix product in the precision of the run, and a large copy in its memory."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scratchgen.backend import load_kernels, transfer
from scratchgen.bench.gpu.device import about, wait

__all__ = ["make", "prepare", "wait"]

COPIED = 2**30  # bytes, far more than its caches hold


@dataclass
class Product:
    """`run()` is a @ b, n³ multiplications and as many additions."""

    a: object
    b: object

    images = parameters = 0

    def run(self):
        self.a @ self.b


@dataclass
class Copy:
    """`run()` reads every byte of one array and writes it to another."""

    source: object
    target: object
    copyto: Callable

    images = parameters = 0

    def run(self):
        self.copyto(self.target, self.source)


def prepare(threads: int, precision: str) -> dict:
    """Multiply in this precision; says what runs here, and how many bytes a copy moves, read and written."""
    load_kernels("cupy").set_precision(precision)
    return {"threads": None, "precision": precision, "copy_bytes": 2 * COPIED, **about()}


def make(what: int | str, *, layout: str = "", seed: int = 0) -> Product | Copy:
    """The product of two n×n matrices, or for "copy" the copy."""
    if what == "copy":
        return copy()
    rng = np.random.default_rng(seed)
    return Product(*(transfer(rng.random((what, what), np.float32), "cupy") for _ in range(2)))


def copy() -> Copy:
    """The copy of COPIED bytes."""
    xp = load_kernels("cupy").xp
    return Copy(xp.zeros(COPIED // 4, np.float32), xp.empty(COPIED // 4, np.float32), xp.copyto)
