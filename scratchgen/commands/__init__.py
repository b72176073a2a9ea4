"""The command line, one file per command: each has `add_parser(subparsers)` and `main(args) → exit status`."""

import difflib
from collections.abc import Iterable

BROKEN_PIPE = 141  # the exit status, 128 + SIGPIPE, when nobody reads what is printed


class UsageError(Exception):
    """Something the user can put right; the message is the sentence that says how. Exit status 2."""


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    """ ": did you mean …?" with the name that looks most like the word, or nothing, at the end of a message."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f": did you mean {prefix}{names[near[0]]}?" if near else ""
