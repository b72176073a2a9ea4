"""scratchgen evaluate: how good a trained model is, in numbers and pictures."""

import argparse

from scratchgen.commands.arguments import Commands, add_run_options, typed
from scratchgen.commands.trained import data_of, evaluate, how_far, open_run, other_data
from scratchgen.files import printable
from scratchgen.recipes.options import positive
from scratchgen.report import write


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a trained model",
        description="Measure a trained model, on this machine and with nothing downloaded. Autoencoder: test error "
        "beside PCA. VAE: −ELBO and its terms, active units, importance-weighted NLL. GANs: modes covered on points; "
        "on labelled images the classes, confidence and Fréchet distance by a classifier that is trained once, in "
        "about half a minute, and kept in the user's cache folder, and the nearest training images. Numbers and "
        "pictures go into RUN/evaluation and the report.",
    )
    add_run_options(parser, data=True)
    parser.add_argument(
        "--importance",
        type=typed(positive),
        default=500,
        metavar="K",
        help="samples per image of a VAE's importance-weighted bound (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    folder, recipe = open_run(args)
    data = data_of(folder, recipe, args.data, progress=not args.quiet)
    print(f"run      {printable(str(folder.path))}\ndata     {data.name}")
    note = other_data(recipe, data)
    if note:
        print(f"note     {note}")
    print(*evaluate(folder, recipe, data, importance=args.importance, progress=not args.quiet), sep="\n")
    position = folder.position()
    state = how_far(recipe, position.epochs, position.steps, position.seconds)
    report = write(folder, recipe, state=state, under_way=False)
    print(f"\nreport   {printable(str(report))}")
    return 0
