"""scratchgen interpolate: walk through the latent space of a trained model."""

import argparse

import numpy as np

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, add_output_options, add_run_options, add_seed, typed
from scratchgen.commands.results import captioned, check_size, memory_for, output_path, write_result
from scratchgen.commands.trained import data_of, open_run, other_data
from scratchgen.data import to_float
from scratchgen.interpolation import linear, spherical
from scratchgen.plots import image_grid, zoom
from scratchgen.recipes.options import positive


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "interpolate",
        help="walk through the latent space of a trained model",
        description="Go from one latent code to another in equal steps, decoding each: between test images (AE, VAE) "
        "or between draws from the prior (GAN, DCGAN; VAE with --between prior).",
    )
    add_run_options(parser, data=True)
    parser.add_argument(
        "--rows", type=typed(positive), default=8, metavar="N", help="number of walks (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=typed(positive), default=10, metavar="N", help="images in a walk (default: %(default)s)"
    )
    parser.add_argument(
        "--between",
        choices=("images", "prior"),
        help="what a walk starts and ends at (default: images for AE and VAE, prior for GANs)",
    )
    add_output_options(
        parser,
        default="RUN-interpolation.png",
        help=".png: a row for each walk; .npy: float32 in [0, 1], (rows·steps, H, W, C)",
    )
    add_seed(parser)
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    path = output_path(args, "interpolation")
    folder, recipe = open_run(args)
    between = args.between or ("images" if recipe.has_encoder else "prior")
    if between == "images" and not recipe.has_encoder:
        raise UsageError(f"a {recipe.title} has no encoder for images: walk between draws, --between prior")
    if between == "prior" and not recipe.has_prior:
        raise UsageError(f"an {recipe.title} has no prior: walk between images, --between images")
    if "dimensions" in recipe.config:
        raise UsageError("walks are shown as images, and this run is of points: try sample")
    what = f"{args.rows:,} walks of {args.steps:,} images"
    check_size(what, args.rows * args.steps, recipe.sample_size)
    rng, note = np.random.default_rng(args.seed), None
    if between == "images":
        data = data_of(folder, recipe, args.data)
        note = other_data(recipe, data)
        images = data.test_images
        if len(images) < 2:
            raise UsageError("needs at least two test images to walk between")
        chosen = rng.choice(len(images), 2 * args.rows, replace=2 * args.rows > len(images))
        ends = recipe.encode(to_float(images[chosen]))
    else:
        ends = recipe.noise(2 * args.rows, rng)
    walk = linear if between == "images" or recipe.config.get("prior") == "uniform" else spherical
    decode = recipe.decode if recipe.has_encoder else recipe.generate
    with memory_for(what, ", --rows and --steps ask for fewer"):
        t = np.linspace(0, 1, args.steps, dtype=np.float32)[:, None]
        z = walk(ends[: args.rows, None], ends[args.rows :, None], t)  # (rows, steps, latent)
        x = np.clip(decode(z.reshape(args.rows * args.steps, -1).astype(np.float32)), 0, 1)

    def picture() -> object:
        walks = image_grid(x, args.steps, scale=zoom(recipe.image_shape))
        return captioned(walks, note) if note else walks

    write_result(path, x, picture, note)
    return 0
