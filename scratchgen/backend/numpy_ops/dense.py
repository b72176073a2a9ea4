"""Matrix products."""

from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen import blas
from scratchgen.backend import threads
from scratchgen.backend.arrays import Array
from scratchgen.backend.numpy_ops.memory import empty


def matmul(a: Array, b: Array) -> Array:
    """See `reference.matmul`; split over BLAS's own threads where these rest between products, else over ours."""
    M, N = a.shape[0], b.shape[1]
    y = empty((M, N), a.dtype)

    def rows(part: slice) -> None:
        np.matmul(a[part], b, out=y[part])

    def columns(part: slice) -> None:
        np.matmul(a, b[:, part], out=y[:, part])

    if a.shape[1] == 1:  # each element is one product; BLAS takes ten times as long for them
        np.multiply(a, b, out=y)
    elif BLAS_THREADS and threads.get_threads() > 1:
        np.matmul(a, b, out=y)
    else:
        threads.over(rows if M > N else columns, max(M, N), M * N * a.shape[1])
    return y


def _of_a_kind_that_rests(library: dict[str, Any]) -> bool:
    """OpenBLAS with threads of its own: another, or one on OpenMP, does not heed what `blas` says to it."""
    return library["internal_api"] == "openblas" and library.get("threading_layer") == "pthreads"


BLAS_THREADS = blas.threads_rest() and all(
    _of_a_kind_that_rests(library) for library in threadpool_info() if library["user_api"] == "blas"
)
