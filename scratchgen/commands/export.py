"""scratchgen export: a trained model's weights for another library."""

import argparse
import re

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, add_output_options, add_run_options
from scratchgen.commands.results import check_new, usual_file
from scratchgen.commands.runs import name_of, open_folder
from scratchgen.commands.trained import open_run
from scratchgen.export import export_torch


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write weights in PyTorch's layouts",
        description="Write a trained model's weights as a safetensors file in the layouts and names of torch.nn "
        "modules of the same architecture, and beside it a Python file that builds these modules and loads them.",
    )
    add_run_options(parser, data=False)
    parser.add_argument(
        "--format", choices=("torch",), default="torch", help="the library to write for (default: %(default)s)"
    )
    add_output_options(parser, default="RUN_pytorch.safetensors", help="a name that ends in .safetensors")
    parser.set_defaults(main=main, backend="numpy")  # nothing is computed


def main(args: argparse.Namespace) -> int:
    folder = open_folder(args.RUN)  # complains of it before it does of the file
    path = args.output or usual_file(_importable(name_of(folder)), ".safetensors", ".py", force=args.force, mark="_")
    if path.suffix != ".safetensors":
        raise UsageError(f"--output is {path}, needs a name that ends in .safetensors")
    for file in (path, path.with_suffix(".py")):
        check_new(file, "--output", args.force)
    _, recipe = open_run(args)
    for written in export_torch(recipe.model.to("numpy"), path, force=args.force):
        print(written)
    return 0


def _importable(name: str) -> str:
    """The name of a module that Python can import."""
    name = re.sub(r"\W+", "_", name)
    return f"{'_' * name[:1].isdigit()}{name}_pytorch"
