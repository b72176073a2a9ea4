"""The command `scratchgen`: its exit status, and how it ends where its streams or a signal end it."""

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from scratchgen import starting
from scratchgen.backend import BackendUnavailable
from scratchgen.backend.threads import asked_for
from scratchgen.commands import BROKEN_PIPE, UsageError
from scratchgen.commands.parser import parser
from scratchgen.errors import words
from scratchgen.files import shown

EXPECTED = (UsageError, BackendUnavailable, MemoryError, OSError, OverflowError, ValueError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status: 0, 1 for a check that failed, 2 for one that cannot be run, and
    128 + its number for a signal that ended it, as a shell has it."""
    try:
        starting.raise_on_ctrl_c()
        return _main(argv)
    except KeyboardInterrupt:
        starting.answer_ctrl_c()
        _say(starting.WORDS.rstrip())
        return starting.INTERRUPTED
    finally:
        starting.answer_ctrl_c()


def _main(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters shows a question mark
    try:
        try:
            args = parser().parse_args(argv)
            _note_threads()
            return args.main(args)
        finally:
            _flush()  # what was printed may still be on its way, and fail only now
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        _leave(sys.stdout)
        return BROKEN_PIPE
    except EXPECTED as error:
        _say(f"scratchgen: {words(error)}")
        return 2


def _flush() -> None:
    try:
        print(end="", flush=True)
    except OSError as error:
        hung_up = error.errno == errno.EIO and stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)
        _leave(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        if not hung_up:  # a terminal that is gone, with whoever read there
            raise OSError(error.errno, error.strerror, "standard output") from error


def _note_threads() -> None:
    """A setting that is not a number is ignored, but not in silence."""
    setting = os.environ.get("SCRATCHGEN_THREADS", "")
    if setting.strip() and asked_for() is None:
        _say(f"note: SCRATCHGEN_THREADS is {shown(setting)}, needs a whole number of at least 1: it is ignored")


def _say(text: str) -> None:
    """Print to standard error, which may have no reader."""
    try:
        print(text, file=sys.stderr)
    except OSError:
        _leave(sys.stderr)


def _leave(stream: TextIO) -> None:
    """Nobody reads this stream any more: what is still in it goes nowhere, so that Python's end does not complain."""
    with suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
