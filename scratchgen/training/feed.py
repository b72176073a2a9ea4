"""How batches get to the arrays of a model."""

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np


def feed(batches: Iterable[np.ndarray], backend: str) -> Generator[Any]:
    """The batches in the library "numpy" (themselves) or "cupy": there one goes across while the GPU still computes.

    For this ask for the next batch as soon as the step on one is queued, and before waiting for any of its results.
    On "cupy" a batch is valid until `backend.cupy_feed.DEPTH` − 1 further ones were asked for, and none may be larger
    than the first. Close the generator when you stop early.
    """
    if backend == "cupy":
        from scratchgen.backend import cupy_feed  # only now: it needs a GPU

        yield from cupy_feed.feed(batches)
    else:
        yield from batches
