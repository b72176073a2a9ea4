"""What the machine can do: a large matrix product in the precision of the run, a large copy in a GPU's memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from scratchgen.backend import load_kernels, transfer
from scratchgen.bench.settings import Step
from scratchgen.bench.steps import gpu, wait

__all__ = ["copy", "make", "prepare", "wait"]

COPIED = 2**30  # bytes, far more than a GPU's caches hold


def prepare(threads: int, backend: str = "numpy", precision: str = "float32") -> dict[str, Any]:
    """Use so many threads, BLAS's own; says what runs here, and on a GPU how many bytes a copy moves, read and
    written."""
    if backend == "cupy":
        return {"threads": None, "copy_bytes": 2 * COPIED, **gpu(precision)}
    threadpool_limits(threads, user_api="blas")
    blas = [b for b in threadpool_info() if b["user_api"] == "blas"]
    return {
        "numpy": np.__version__,
        "threads": max((b["num_threads"] for b in blas), default=None),
        "blas": [b.get("architecture", "unknown") for b in blas],
    }


def make(what: int | str, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The product of two float32 matrices of n×n elements, n³ multiplications and as many additions; or for "copy"
    the copy."""
    if isinstance(what, str):
        return Step(copy())
    rng = np.random.default_rng(seed)
    a, b = (transfer(rng.random((what, what), np.float32), backend) for _ in range(2))
    if backend == "cupy":
        return Step(lambda: a @ b)
    c = np.empty_like(a)
    return Step(lambda: np.matmul(a, b, out=c))


def copy() -> Callable[[], None]:
    """A function that reads every byte of one array of COPIED bytes, and writes it to another."""
    xp = load_kernels("cupy").xp
    source, target = xp.zeros(COPIED // 4, np.float32), xp.empty(COPIED // 4, np.float32)
    return lambda: xp.copyto(target, source)
