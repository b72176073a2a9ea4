"""scratchgen sample: draw from a trained model."""

import argparse

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, add_output_options, add_run_options, add_seed, typed
from scratchgen.commands.results import check_size, memory_for, output_path, write_result
from scratchgen.commands.trained import open_run
from scratchgen.plots import image_grid, scatter, zoom
from scratchgen.recipes.options import positive


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "sample",
        help="draw new images from a trained model",
        description="Draw from the prior and decode: new images of a VAE, GAN or DCGAN.",
    )
    add_run_options(parser, data=False)
    parser.add_argument(
        "--count", type=typed(positive), default=64, metavar="N", help="how many samples (default: %(default)s)"
    )
    add_output_options(
        parser,
        default="RUN-samples.png",
        help=".png: all on one sheet; .npy: float32 in [0, 1], shape (N, H, W, C), or points (N, 2)",
    )
    parser.add_argument("--columns", type=typed(positive), metavar="N", help="images in a row (default: a square)")
    add_seed(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    path = output_path(args, "samples")
    _, recipe = open_run(args)
    if not recipe.has_prior:
        raise UsageError("an autoencoder has no prior to sample from: try reconstruct or interpolate, or train a vae")
    rng = np.random.default_rng(args.seed)
    check_size(f"{args.count:,} samples", args.count, recipe.sample_size)
    with memory_for(f"{args.count:,} samples", ", --count asks for fewer"):
        x = recipe.generate(recipe.noise(args.count, rng))
    if x.ndim > 2:
        x = np.clip(x, 0, 1)  # the mean of a normal pixel may lie outside

    def picture() -> object:
        if x.ndim == 2:
            return scatter(x)
        return image_grid(x, args.columns and min(args.columns, len(x)), scale=zoom(recipe.image_shape))

    write_result(path, x, picture)
    return 0
