"""What the machine can do: one large float32 matrix product in plain NumPy, with the threads of BLAS's own."""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits


@dataclass
class Product:
    """`run()` is a @ b, n³ multiplications and as many additions, into an array that is there already."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    images = parameters = 0

    def run(self):
        np.matmul(self.a, self.b, out=self.c)


def prepare(threads: int) -> dict:
    """Use so many threads; says what runs here, and how many threads it has by its own account."""
    threadpool_limits(threads, user_api="blas")
    blas = [b for b in threadpool_info() if b["user_api"] == "blas"]
    return {
        "numpy": np.__version__,
        "threads": max((b["num_threads"] for b in blas), default=None),
        "blas": [b.get("architecture", "unknown") for b in blas],
    }


def make(n: int, *, layout: str = "", seed: int = 0) -> Product:
    """The product of two n×n matrices."""
    rng = np.random.default_rng(seed)
    a, b = rng.random((n, n), np.float32), rng.random((n, n), np.float32)
    return Product(a, b, np.empty_like(a))
