"""Ctrl-C while the command line loads, or ends: one line and status 130, as at any moment between.

Python imports this package, and with it NumPy and Matplotlib, before it runs the first line of the command. So this
file is the package's first import, and imports nothing that Python has not loaded already. Where the process is the
command line, a Ctrl-C until `cli.main` begins, and after it, ends the process; nothing is under way then. In a
program that only uses the library all stays as it is.
"""

import os
import signal
import sys

INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
WORDS = "\nscratchgen: stopped; what was saved stays\n"  # below the ^C of a terminal


def is_command_line() -> bool:
    """Whether Python was started as `scratchgen` or `python -m scratchgen`."""
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    if program == "-m":  # what stands there while Python looks for the module, which the next word names
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m") in ("scratchgen", "scratchgen.__main__")
    if os.path.dirname(program) == os.path.dirname(__file__):  # the module, once it is found
        return os.path.basename(program) == "__main__.py"
    return os.path.splitext(os.path.basename(program))[0] in ("scratchgen", "scratchgen-script")


def _end(signal_number: int, frame: object) -> None:
    os.write(2, WORDS.encode())
    os._exit(INTERRUPTED)


def answer_ctrl_c() -> None:
    """From here on Ctrl-C ends the process, if it is the command line, and if nobody has wished otherwise."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and is_command_line():
        signal.signal(signal.SIGINT, _end)


def raise_on_ctrl_c() -> None:
    """From here on Ctrl-C is Python's KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


answer_ctrl_c()
