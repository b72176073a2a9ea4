"""Signals that ask a training run to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from scratchgen.backend import fast


class StopRequest(threading.Event):
    """Set when the run is asked to stop; `number` is that of the signal that asked."""

    number: int = signal.SIGINT


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """An event that the first Ctrl-C, or SIGTERM, or the end of the terminal (SIGHUP) sets, so that a step is never
    torn; a second Ctrl-C or SIGTERM interrupts. What was ignored, as `nohup` has it, stays so. Once it is set,
    the step under way does not wait for a compiler."""
    event = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number != getattr(signal, "SIGHUP", None):  # which often comes along with another
            raise KeyboardInterrupt
        if not event.is_set():
            event.number = number
        event.set()

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        with fast.compiling_until(event.is_set):
            yield event
    finally:
        for number, old in before.items():
            signal.signal(number, old)
