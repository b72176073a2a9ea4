"""The ledger: what a GPU would have been asked to do, counted, and where waiting for it is forbidden."""

from contextlib import contextmanager
from typing import NamedTuple


class Counts(NamedTuple):
    """Totals since the process began; the difference of two says what happened between them."""

    launches: int  # kernels, and copies within the device
    syncs: int  # times the host waited for the device
    allocations: int
    to_device: int  # copies from the host's memory to the device's
    to_host: int

    def __sub__(self, earlier):
        return Counts(*(mine - its for mine, its in zip(self, earlier, strict=True)))


class Ledger:
    """The totals; `tick` orders all that is queued on any stream; `live` is the device memory in use, in bytes."""

    __slots__ = ("allocations", "forbidden", "launches", "live", "syncs", "tick", "to_device", "to_host")

    def __init__(self):
        self.launches = self.syncs = self.allocations = self.to_device = self.to_host = 0
        self.forbidden = self.live = self.tick = 0

    def launched(self):
        """One kernel more."""
        self.launches += 1
        self.tick += 1

    def synchronised(self, what: str):
        """The host waits for the device: AssertionError inside `no_sync`."""
        if self.forbidden:
            raise AssertionError(f"synchronisation where there must be none: {what} waits for the device")
        self.syncs += 1


ledger = Ledger()


def counts() -> Counts:
    """What was counted so far: take it before and after, and subtract."""
    return Counts(ledger.launches, ledger.syncs, ledger.allocations, ledger.to_device, ledger.to_host)


@contextmanager
def no_sync():
    """Inside, whatever makes the host wait for the device raises AssertionError, naming what did."""
    ledger.forbidden += 1
    try:
        yield
    finally:
        ledger.forbidden -= 1
