"""The command line, one file per command: each has `add_parser(subparsers)` and `run(args) → exit status`."""


class UsageError(Exception):
    """Something the user can put right; the message is the sentence that says how. Exit status 2."""
