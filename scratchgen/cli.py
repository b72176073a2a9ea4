"""The command `scratchgen`."""

import argparse
import errno
import os
import stat
import sys
from contextlib import suppress

from scratchgen import starting
from scratchgen.backend import BACKENDS, BackendUnavailable
from scratchgen.backend.threads import asked_for
from scratchgen.commands import (
    BROKEN_PIPE,
    UsageError,
    bench,
    did_you_mean,
    evaluate,
    export,
    gradcheck,
    info,
    interpolate,
    reconstruct,
    sample,
    train,
)
from scratchgen.errors import words
from scratchgen.files import shown
from scratchgen.recipes import RECIPES
from scratchgen.version import __version__

EXPECTED = (UsageError, BackendUnavailable, MemoryError, OSError, OverflowError, ValueError)

WHERE = "--backend cupy runs on an NVIDIA GPU, --backend numpy on the CPU"
DEVICES = ("device", "gpu", "cuda", "cpu")  # words for it that other programs have
ELSEWHERE = {  # options that other programs have, and what they are called here
    "learning-rate": "--lr",
    "batch": "--batch-size",
    "bs": "--batch-size",
    "workers": "--threads",
    "num-workers": "--threads",
    "nz": "--latent",
    "z-dim": "--latent",
    "ngf": "--width",
    "ndf": "--width",
    "save-dir": "--out",
    "checkpoint": "--resume",
    "load": "--resume",
    "overwrite": "--force",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, not in a screenful of options, and what may have been meant."""

    def parse_known_args(self, args=None, namespace=None):
        """Complains of an unknown switch itself, so that the message names the command whose help lists the known."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return namespace, unknown

    def _meant(self, unknown: list[str]) -> str:
        """What the first unknown switch stands for elsewhere, or looks like."""
        name = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        name = name.lstrip("-").lower().replace("_", "-")
        known = [option for option in self._option_string_actions if option.startswith("--")]
        if name.removeprefix("no-") in DEVICES and "--backend" in known:
            return f": {WHERE}"
        if ELSEWHERE.get(name) in known:
            return f": that is {ELSEWHERE[name]} here"
        meant = did_you_mean(name, [option.removeprefix("--") for option in known], prefix="--")
        return meant or (f": {WHERE}" if "--backend" in known and did_you_mean(name, DEVICES) else "")

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{_chosen(value, list(action.choices))}")

    def error(self, message):
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: {message}{end} See {self.prog} --help\n")


def _chosen(value, choices: list) -> str:
    """What can be chosen, and what a wrong choice may have meant."""
    said = f", choose from {', '.join(map(str, choices))}"
    if tuple(choices) == BACKENDS and value in DEVICES:
        return f"{said}: {WHERE}"
    if "train" in choices and value in RECIPES:
        return f"{said}: that is a model, scratchgen train {value}"
    return said + did_you_mean(str(value), map(str, choices))


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = Parser(
        prog="scratchgen",
        description="Hand-written layers with hand-written gradients: prove them, and train generative models "
        "with them.",
    )
    top.add_argument("--version", action="version", version=f"scratchgen {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in (train, sample, reconstruct, interpolate, evaluate, export, gradcheck, bench, info):
        command.add_parser(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns its exit status: 0, 1 for a check that failed, 2 for one that cannot be run, and
    128 + its number for a signal that ended it, as a shell has it."""
    try:
        starting.raise_on_ctrl_c()
        return _run(argv)
    except KeyboardInterrupt:
        starting.answer_ctrl_c()
        _say(starting.WORDS.rstrip())
        return starting.INTERRUPTED
    finally:
        starting.answer_ctrl_c()


def _run(argv) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters shows a question mark
    try:
        try:
            args = parser().parse_args(argv)
            _note_threads()
            return args.run(args)
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
    """A setting that says no number is passed over, but not in silence."""
    setting = os.environ.get("SCRATCHGEN_THREADS", "")
    if setting.strip() and asked_for() is None:
        _say(f"note: SCRATCHGEN_THREADS is {shown(setting)}, needs a whole number of at least 1: it is passed over")


def _say(text: str) -> None:
    """A last word, which may find no reader."""
    try:
        print(text, file=sys.stderr)
    except OSError:
        _leave(sys.stderr)


def _leave(stream) -> None:
    """Nobody reads this stream any more: what is still in it goes nowhere, so that Python's end does not complain."""
    with suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
