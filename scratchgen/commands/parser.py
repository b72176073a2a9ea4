"""The parser of the command line: every command and its options, and what it says where they are wrong."""

import argparse
from collections.abc import Collection
from typing import Any, NoReturn

from scratchgen.backend import BACKENDS
from scratchgen.commands import (
    bench,
    book,
    compare,
    did_you_mean,
    evaluate,
    exercise,
    export,
    gradcheck,
    info,
    interpolate,
    metrics,
    reconstruct,
    sample,
    train,
)
from scratchgen.commands.runs import known_runs
from scratchgen.recipes import RECIPES
from scratchgen.version import __version__

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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Complains of an unknown option itself, so that the message names the command whose help lists the known."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return namespace, unknown

    def _meant(self, unknown: list[str]) -> str:
        """What the first unknown option is called here, or looks like."""
        name = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
        name = name.lstrip("-").lower().replace("_", "-")
        known = [option for option in self._option_string_actions if option.startswith("--")]
        if name.removeprefix("no-") in DEVICES and "--backend" in known:
            return f": {WHERE}"
        if ELSEWHERE.get(name) in known:
            return f": here it is called {ELSEWHERE[name]}"
        meant = did_you_mean(name, [option.removeprefix("--") for option in known], prefix="--")
        return meant or (f": {WHERE}" if "--backend" in known and did_you_mean(name, DEVICES) else "")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{_chosen(value, list(action.choices))}")

    def error(self, message: str) -> NoReturn:
        if message.endswith(("required: RUN", "argument --resume: expected one argument")):
            message += known_runs()
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: {message}{end} See {self.prog} --help\n")


def _chosen(value: object, choices: Collection) -> str:
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
    of_runs = (train, sample, reconstruct, interpolate, evaluate, compare, metrics, export)
    for command in (*of_runs, gradcheck, exercise, book, bench, info):
        command.add_parser(commands)
    return top
