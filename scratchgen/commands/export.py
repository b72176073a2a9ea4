"""scratchgen export: a trained model's weights for another library."""

from pathlib import Path

from scratchgen.commands import UsageError
from scratchgen.commands.runs import add_run_options, open_run
from scratchgen.export import export_torch


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write weights in PyTorch's layouts",
        description="Write a trained model's weights as a safetensors file in the layouts and names of torch.nn "
        "modules of the same architecture, and beside it a Python file that builds these modules and loads them.",
    )
    add_run_options(parser, data=False)
    parser.add_argument("--format", choices=("torch",), default="torch", help="of the file (default: %(default)s)")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a name that ends in .safetensors (default: RUN/pytorch.safetensors)",
    )
    parser.set_defaults(run=run, backend="numpy")  # nothing is computed


def run(args) -> int:
    path = Path(args.output) if args.output else Path(args.RUN) / "pytorch.safetensors"
    if path.suffix != ".safetensors":
        raise UsageError(f"--output is {args.output}, needs a name that ends in .safetensors")
    if not path.parent.is_dir():
        raise UsageError(f"--output is {args.output}: there is no folder {path.parent}")
    _, recipe = open_run(args)
    for written in export_torch(recipe.model.to("numpy"), path):
        print(written)
    return 0
