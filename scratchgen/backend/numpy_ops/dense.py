"""Matrix products."""

import numpy as np

from scratchgen.backend import threads
from scratchgen.backend.numpy_ops.memory import empty


def matmul(a, b):
    """See `reference.matmul`; each thread makes some of the rows or, where these are fewer, of the columns."""
    M, N = a.shape[0], b.shape[1]
    y = empty((M, N), a.dtype)

    def rows(part: slice) -> None:
        np.matmul(a[part], b, out=y[part])

    def columns(part: slice) -> None:
        np.matmul(a, b[:, part], out=y[:, part])

    threads.over(rows if M > N else columns, max(M, N), M * N * a.shape[1])
    return y
