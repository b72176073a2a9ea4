"""Batches on their way to a GPU while it computes.

Copying and computing go on at once by three things: page-locked host memory, which the GPU reads without the host; a
stream for the copies alone, since what is queued in one stream is done in its order; and events, by which a stream
waits for a point in another one while the host goes on. Each memory may then be written only when it has been read:

    the page-locked one    when its last copy is done: the host waits for that copy's event
    the GPU's              when the steps on its last batch are done: the copies' stream waits for an event after them

and a batch may be read only when it is there: the stream that computes waits for its copy's event.
"""

from collections.abc import Iterable, Iterator

from numpy.typing import DTypeLike

from scratchgen.backend.arrays import Array
from scratchgen.backend.cupy_ops.device import page_locked, xp

DEPTH = 3  # batches there is room for: one in use, one on its way, and one that lets the host run ahead


class Place:
    """Room for a batch: page-locked on the host, and on the GPU; `copied` is the event that one has gone across."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike):
        self.host, self.device = page_locked(shape, dtype), xp.empty(shape, dtype)
        self.copied = xp.cuda.Event(disable_timing=True)


def feed(batches: Iterable[Array], depth: int = DEPTH) -> Iterator[Array]:
    """The batches on the GPU, each copied when it is asked for, which the work queued before does not wait for.

    No batch may be larger than the first. One is valid until `depth` − 1 further ones were asked for (depth ≥ 2); the
    work on it must be in the stream that is current when the next is asked for. Closing the generator leaves no copy
    under way.
    """
    copies, used = xp.cuda.Stream(non_blocking=True), xp.cuda.Event(disable_timing=True)
    ring: list[Place] = []
    try:
        for i, batch in enumerate(batches):
            compute = xp.cuda.get_current_stream()
            if not ring:
                ring = [Place(batch.shape, batch.dtype) for _ in range(depth)]
                used.record(compute)  # the memory may have been another array's, which is still in use
            place, n = ring[i % depth], len(batch)
            place.copied.synchronize()
            place.host[:n] = batch
            copies.wait_event(used)  # as of the last request: all steps but the last are done
            place.device[:n].set(place.host[:n], stream=copies)
            place.copied.record(copies)
            used.record(compute)
            compute.wait_event(place.copied)
            yield place.device[:n]
    finally:
        copies.synchronize()  # before the memory goes to others
