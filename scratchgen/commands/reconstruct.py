"""scratchgen reconstruct: images through a trained autoencoder."""

import argparse

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, add_output_options, add_run_options, typed
from scratchgen.commands.results import output_path, write_result
from scratchgen.commands.trained import data_of, open_run, other_data, own_data
from scratchgen.data import short_name, to_float
from scratchgen.plots import image_rows
from scratchgen.recipes.encoder import SHOWN
from scratchgen.recipes.options import positive
from scratchgen.recipes.recipe import typical

LABEL = 20  # characters beside a row


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "reconstruct",
        help="put test images through a trained AE or VAE",
        description="Encode test images and decode them again, by an autoencoder or VAE.",
    )
    add_run_options(parser, data=True)
    parser.add_argument("--count", type=typed(positive), metavar="N", help=f"how many images (default: {SHOWN})")
    add_output_options(
        parser,
        default="RUN-reconstructions.png",
        help=".png: originals over reconstructions; .npy: the reconstructions, float32 in [0, 1], (N, H, W, C)",
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    path = output_path(args, "reconstructions")
    folder, recipe = open_run(args)
    if not recipe.has_encoder:
        raise UsageError(f"a {recipe.title} has no encoder, so it cannot reconstruct images: try sample")
    data = data_of(folder, recipe, args.data)
    note = other_data(recipe, data)
    count = args.count or min(SHOWN, len(data.test_images))
    if count > len(data.test_images):
        raise UsageError(f"--count is {count}, and there are {len(data.test_images)} test images")
    x = to_float(data.test_images[typical(data, count)])
    y = np.clip(recipe.reconstruct(x), 0, 1)

    def picture() -> object:
        labels = ("originals", "reconstructions")
        if note:
            labels = (f"originals:\n{_label(data.name)}", f"reconstructions,\ntrained on\n{_label(own_data(recipe))}")
        rows = []
        for i in range(0, len(x), SHOWN):
            rows += [(labels[0] if i == 0 else "", x[i : i + SHOWN])]
            rows += [(labels[1] if i == 0 else "", y[i : i + SHOWN])]
        return image_rows(rows, SHOWN)

    write_result(path, y, picture, note)
    return 0


def _label(name: str) -> str:
    """A data set's name, as long as a label may be."""
    name = short_name(name)
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"
