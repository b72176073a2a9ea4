"""The command `scratchgen`."""

import argparse
import sys

from scratchgen.backend import BackendUnavailable
from scratchgen.commands import (
    UsageError,
    bench,
    evaluate,
    export,
    gradcheck,
    info,
    interpolate,
    reconstruct,
    sample,
    train,
)
from scratchgen.version import __version__

EXPECTED = (UsageError, BackendUnavailable, MemoryError, OSError, ValueError)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, not in a screenful of options."""

    def parse_known_args(self, args=None, namespace=None):
        """Complains of an unknown switch itself, so that the message names the command whose help lists the known."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help\n")


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
    """Run a command line; returns its exit status: 0, 1 for a check that failed, 2 for one that cannot be run."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters shows a question mark
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except EXPECTED as error:
        smaller = isinstance(error, MemoryError) and hasattr(args, "batch_size")
        advice = ": a smaller --batch-size needs less memory" if smaller else ""
        print(f"scratchgen: {str(error) or 'out of memory'}{advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nscratchgen: stopped; what was saved stays", file=sys.stderr)
        return 130
