"""What commands say to argparse alike: the types of values, and the options that several of them have."""

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from scratchgen.backend import BACKENDS
from scratchgen.commands import UsageError
from scratchgen.paths import as_path
from scratchgen.recipes.options import seed
from scratchgen.schema import Kind, flag, real, text

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def typed(kind: Kind | Callable[[str], Any]) -> Callable[[str], Any]:
    """A type for argparse of a kind, or of a function that raises ValueError: argparse would drop its message."""
    parse = kind.parse if isinstance(kind, Kind) else kind

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


path = typed(as_path)
seconds = typed(real(lambda x: 0 < x <= 1e6, "a number of seconds above 0 and at most 1,000,000"))
RUN_HELP = "a run: its folder, as `scratchgen train` prints it, or its name in runs/"


def of_kind(kind: Kind) -> dict[str, Any]:
    """The arguments of `add_argument` for an option of this kind."""
    if kind is text:
        return {}
    if kind is flag:
        return {"action": "store_true"}
    if kind.choices:
        return {"type": kind.read, "choices": kind.choices}
    return {"type": typed(kind)}


def add_run_options(parser: argparse.ArgumentParser, *, data: bool) -> None:
    """RUN and what goes with it."""
    parser.add_argument("RUN", type=path, help=RUN_HELP)
    if data:
        parser.add_argument(
            "--data",
            metavar="NAME|DIR",
            help="other data of the same kind, images or points (default: the run's own)",
        )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="cupy runs on an NVIDIA GPU (default: as in training, or numpy where there is no GPU)",
    )


def add_output_options(parser: argparse.ArgumentParser, *, default: str, help: str) -> None:
    """--output and --force; `default` is the usual name, without a number."""
    end = f"(default: {default} in the folder you are in, or with the next number where that is taken)"
    parser.add_argument("--output", type=path, metavar="FILE", help=f"{help} {end}")
    add_force(parser)


def add_seed(parser: argparse.ArgumentParser) -> None:
    help = "of the random draw; the same seed repeats it (default: a new draw each time)"
    parser.add_argument("--seed", type=typed(seed), metavar="N", help=help)


def check_precision(backend: str, precision: str) -> None:
    """UsageError for a precision that the backend does not have."""
    if precision == "tf32" and backend == "numpy":
        raise UsageError("--precision tf32 is a mode of NVIDIA's GPUs: add --backend cupy")


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace files that exist")
