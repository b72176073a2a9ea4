"""scratchgen reconstruct: images through a trained autoencoder."""

import argparse

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, add_output_options, add_run_options, typed
from scratchgen.commands.results import output_path, write_result
from scratchgen.commands.trained import data_of, open_run
from scratchgen.data import to_float
from scratchgen.plots import image_rows
from scratchgen.recipes.encoder import SHOWN
from scratchgen.recipes.options import positive
from scratchgen.recipes.recipe import typical


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "reconstruct",
        help="put test images through a trained AE or VAE",
        description="Encode test images and decode them again, by an autoencoder or VAE.",
    )
    add_run_options(parser, data=True)
    parser.add_argument("--count", type=typed(positive), metavar="N", help=f"how many (default: {SHOWN})")
    add_output_options(
        parser,
        default="reconstructions.png",
        help=".png: originals over reconstructions; .npy: the reconstructions, float32 in [0, 1], (N, H, W, C) "
        "(default: %(default)s)",
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    path = output_path(args)
    _, recipe = open_run(args)
    if not recipe.has_encoder:
        raise UsageError(f"a {recipe.title} has no encoder, so it can reconstruct nothing: try sample")
    data = data_of(args, recipe)
    count = args.count or min(SHOWN, len(data.test_images))
    if count > len(data.test_images):
        raise UsageError(f"--count is {count}, and there are {len(data.test_images)} test images")
    x = to_float(data.test_images[typical(data, count)])
    y = np.clip(recipe.reconstruct(x), 0, 1)

    def picture() -> object:
        rows = []
        for i in range(0, len(x), SHOWN):
            rows += [("originals" if i == 0 else "", x[i : i + SHOWN])]
            rows += [("reconstructions" if i == 0 else "", y[i : i + SHOWN])]
        return image_rows(rows, SHOWN)

    write_result(path, y, picture)
    return 0
