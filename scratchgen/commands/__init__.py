"""The command line, one file per command: each has `add_parser(commands)` and `main(args) → exit status`.

parser.py         all of them in one parser
arguments.py      what they say to argparse alike
trained.py        a trained model, its data and its evaluation
runs.py           where a run is looked for by its name
results.py        the files that they write
gallery.py        bugs that the gradient check finds, shown live
training_run.py   a training run from where it is to its end
in_python.py      a training run as a function
"""

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
