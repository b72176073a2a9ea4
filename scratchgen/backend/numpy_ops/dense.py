"""Matrix products, the same bits on any number of threads."""

from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from scratchgen import blas
from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.numpy_ops.memory import empty

# OpenBLAS's own threads cost less than ours, but the bits that one thread gives they give only in these kernels, for
# float32. K, too, must be right: it is summed in blocks, and of what is left between one block and two one thread
# takes half, rounded up to a multiple of 16; several threads do not round. A multiple of 64 both cut alike.
EVEN_KERNELS = {"SkylakeX", "Cooperlake", "SapphireRapids"}
WHOLE = 64
ONE_BLOCK = MOST_REST = 320  # up to this K there is but one block
SHARES = 8  # of ours, at most; of a size that is worth a thread


def matmul(a: Array, b: Array) -> Array:
    """See `reference.matmul`."""
    (M, K), N = a.shape, b.shape[1]
    y = empty((M, N), a.dtype)
    if K == 1:  # each element is one product; BLAS takes ten times as long for them
        np.multiply(a, b, out=y)
    elif min(M, N) == 1 or not BLAS_THREADS or a.dtype != np.float32:
        _in_shares(a, b, y)
    elif crowd.expected():
        with threads.one_blas_thread:
            _by_blas(a, b, y)
    else:
        began = perf_counter()
        _by_blas(a, b, y)
        crowd.saw(y.size * a.shape[1], perf_counter() - began)
    return y


def _by_blas(a: Array, b: Array, y: Array) -> None:
    """On as many threads as BLAS has."""
    K = a.shape[1]
    rest = K % WHOLE if K > ONE_BLOCK else 0
    if rest:  # as large a one as is a single block: two halves take less time than nearly all and a little
        rest += WHOLE * ((min(K // 2, MOST_REST) - rest) // WHOLE)
    np.matmul(a[:, : K - rest], b[: K - rest], out=y)
    if rest:
        y += a[:, K - rest :] @ b[K - rest :]


class Crowd:
    """Notices other programs on the cores. BLAS's threads share a product out and wait for each other; where one of
    them has no core, all wait for as long as the other program has it, which is many products. Then one thread does
    better by itself, for a while, and for twice as long where that did not end it. The result is the same bits.

    One slow product says nothing: threads that slept take their time to wake.
    """

    def __init__(self) -> None:
        self.best = 0.0  # multiply-adds a second
        self.score = 0.0  # of slow products; fast ones take from it
        self.alone = 0  # so many products more by one thread
        self.next = ALONE

    def expected(self) -> bool:
        self.alone = max(0, self.alone - 1)
        return self.alone > 0

    def saw(self, work: int, seconds: float) -> None:
        """A product by several threads; a small one says nothing."""
        if work < LARGE:
            return
        rate = work / seconds
        self.best = max(rate, 0.99 * self.best)  # a processor may get slower, too
        self.score = self.score + 1 if rate < self.best / SLOWER else max(0.0, self.score - FAST)
        if self.score >= ENOUGH:
            self.score, self.alone, self.next = ENOUGH / 2, self.next, min(2 * self.next, MOST_ALONE)
        elif self.score == 0:
            self.next = ALONE


LARGE = 1e7  # multiply-adds
SLOWER = 4  # times: one thread is slower than two by half of that
FAST, ENOUGH = 0.2, 4  # with one busy program every third product is slow
ALONE, MOST_ALONE = 200, 1600  # products
crowd = Crowd()


def _in_shares(a: Array, b: Array, y: Array) -> None:
    """Rows or columns of y by shares that depend on the sizes alone."""

    def rows(part: slice) -> None:
        np.matmul(a[part], b, out=y[part])

    def columns(part: slice) -> None:
        np.matmul(a, b[:, part], out=y[:, part])

    M, N = y.shape
    n, share = (M, rows) if M > N else (N, columns)
    count = 1
    while 2 * count <= SHARES and y.size * a.shape[1] >= 2 * count * threads.WORTH_WAKING:
        count *= 2
    threads.run([partial(share, part) for part in threads.cut(n, max(1, min(n, count)))])


def _is_even(library: dict[str, Any]) -> bool:
    """OpenBLAS with one of these kernels, and threads of its own: those of OpenMP do not heed what `blas` says."""
    pthreads = library["internal_api"] == "openblas" and library.get("threading_layer") == "pthreads"
    return pthreads and library.get("architecture") in EVEN_KERNELS


_libraries = threads.numpys_blas()
BLAS_THREADS = bool(_libraries) and blas.threads_rest() and all(_is_even(library.info()) for library in _libraries)
