"""Streams, events, and copies between host and device that are not done yet.

Work on a stream is in order; between streams only events order it. Each stream knows how far every other stream
certainly is (`seen`: stream → tick) whenever its own next piece of work begins; so does the host. An event is such
knowledge, taken at one point of one stream. What is queued on stream s at tick t comes before new work on another
stream if that stream's knowledge of s has reached t.

A copy on a stream that is not the null stream is put off as long as the order allows, and takes what its source holds
then: a program that does not wait sees NaN, or is told. The source is looked at again when the host learns that the
copy is done: until then it belongs to the copy.
"""

import time

import numpy as np

from standin.ledger import ledger

_pending: list["Copy"] = []  # in the order they were queued; one leaves when the host knows that it is done
_host_seen: dict["Stream", int] = {}
_device_seen = -1  # the host knows that whatever was queued on any stream up to this tick is done


class Stream:
    """A queue of work on the device. (cupy.cuda.Stream.)

    Always non-blocking here: CuPy's default kind waits for the null stream of itself, and a program that rests on
    that is told to wait for an event.
    """

    __module__ = "cupy.cuda"
    __slots__ = ("__weakref__", "_before", "device_id", "is_non_blocking", "ptr", "seen")

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.ptr = 0 if null else id(self)
        self.is_non_blocking = bool(non_blocking)
        self.device_id = 0
        self.seen: dict[Stream, int] = {}
        self._before: list[Stream] = []

    def __enter__(self):
        global _current
        self._before.append(_current)
        _current = self
        return self

    def __exit__(self, *args):
        global _current
        _current = self._before.pop()

    def __repr__(self):
        return "<CUDA null stream>" if self.ptr == 0 else f"<CUDA stream {self.ptr:#x}>"

    def use(self):
        global _current
        _current = self
        return self

    @property
    def done(self) -> bool:
        """Whether all work is done. Work that the host has not waited for counts as not done the first time."""
        return _poll({self: ledger.tick})

    def synchronize(self):
        ledger.synchronised("Stream.synchronize()")
        finished(self)

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        if event._seen is None:
            return  # as on a GPU: an event that was never recorded is no obstacle
        for copy in _pending:
            if copy.tick <= event._seen.get(copy.stream, -1):
                copy.run()
        _learn(self.seen, event._seen)


class Event:
    """A point in a stream's work. (cupy.cuda.Event.)"""

    __module__ = "cupy.cuda"
    __slots__ = ("__weakref__", "_seen", "_time", "ptr", "timed")

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._seen: dict[Stream, int] | None = None
        self._time = None
        self.timed = not disable_timing
        self.ptr = id(self)

    def record(self, stream=None):
        stream = _current if stream is None else stream
        self._seen = {**stream.seen, stream: ledger.tick}
        self._time = time.perf_counter()

    @property
    def done(self) -> bool:
        """Whether the work before it is done. What the host has not waited for counts as not done the first time."""
        return self._seen is None or _poll(self._seen)

    def synchronize(self):
        ledger.synchronised("Event.synchronize()")
        if self._seen is not None:
            _host_learns(self._seen)


Stream.null = Stream(null=True)
Stream.ptds = Stream.null
_current = Stream.null


def get_current_stream(device_id=-1):
    return _current


def get_elapsed_time(start_event, end_event):
    """Milliseconds from one event to the other."""
    for event in (start_event, end_event):
        if not event.timed or event._time is None:
            raise RuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
        if not all(_known(stream, tick) for stream, tick in event._seen.items()):
            raise RuntimeError("cudaErrorNotReady: device not ready")
    return 1e3 * (end_event._time - start_event._time)


def finished(stream):
    """The host has learnt that all that is queued on the stream is done."""
    _host_learns({**stream.seen, stream: ledger.tick})


def everything_finished():
    """The host has learnt that all that is queued on the device is done."""
    global _device_seen
    _device_seen = ledger.tick
    _host_learns({})


def _known(stream, tick: int) -> bool:
    """Whether the host knows that what was queued on the stream at the tick is done."""
    return max(_device_seen, _host_seen.get(stream, -1)) >= tick


def ordered(stream, tick: int, before) -> bool:
    """Whether what was queued on `stream` at the tick is certainly done when new work on `before` begins."""
    return stream is before or before.seen.get(stream, -1) >= tick or _known(stream, tick)


def _learn(mine: dict, news: dict):
    for stream, tick in news.items():
        mine[stream] = max(tick, mine.get(stream, -1))


def _poll(seen: dict) -> bool:
    """A query finds work unfinished the first time, and finished the second."""
    covered = [copy for copy in _pending if copy.tick <= seen.get(copy.stream, -1)]
    if not all(copy.asked for copy in covered):
        for copy in covered:
            copy.asked = True
        return False
    _host_learns(seen)
    return True


def _host_learns(seen: dict):
    _learn(_host_seen, seen)
    for copy in [copy for copy in _pending if _known(copy.stream, copy.tick)]:
        _pending.remove(copy)
        copy.run()
        copy.check_source()


class Copy:
    """A copy that was queued on a stream: `run` does it, once."""

    def __init__(self, stream, source: np.ndarray, target: np.ndarray):
        for copy in _pending:
            if np.may_share_memory(copy.source, source):
                copy.check_source()
        ledger.tick += 1
        self.stream, self.tick = stream, ledger.tick
        self.source, self.target = source, target
        self.held = source.copy()  # what the source must hold until the copy is known to be done
        self.did_run = self.asked = False
        _pending.append(self)

    def run(self):
        if not self.did_run:
            self.did_run = True
            self.check_source()
            self.target[...] = self.source

    def check_source(self):
        """AssertionError if the host wrote into the source before it knew that the copy was done."""
        if self.held.tobytes() != self.source.tobytes():
            self.did_run = True
            if self in _pending:
                _pending.remove(self)
            raise AssertionError("a host buffer was rewritten before the copy from it was known to be done")


class Watch:
    """Who wrote an array's memory through a copy, and who has used it since."""

    def __init__(self):
        self.copy: Copy | None = None
        self.uses: dict[Stream, int] = {}

    def used(self, stream):
        """A kernel on the stream reads or writes the memory. AssertionError where the copy may not be done."""
        if self.copy is not None:
            if not ordered(self.copy.stream, self.copy.tick, stream):
                raise AssertionError("a device array was used before its copy was waited for")
            self.copy.run()
        ledger.tick += 1
        self.uses[stream] = ledger.tick

    def overwritten(self, stream):
        """A copy on the stream writes the memory. AssertionError where another stream may not be done with it."""
        busy = [other for other, tick in self.uses.items() if not ordered(other, tick, stream)]
        if busy or (self.copy is not None and not ordered(self.copy.stream, self.copy.tick, stream)):
            raise AssertionError("a device array is overwritten while the other stream may still read it")
        self.uses.clear()
