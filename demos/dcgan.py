"""A DCGAN learns to draw digits, or what is in a folder of your own images, and to walk from one to another.

    python demos/dcgan.py                     4,000 digits, a narrow network: about half a minute
    python demos/dcgan.py --folder DIR        images of any sizes and kinds, cut to 32×32
    python demos/dcgan.py --folder            draws a folder of coloured shapes first, and learns these
    python demos/dcgan.py --full              all the training digits there are, width 64, 10 epochs
    python demos/dcgan.py --folder DIR --full   64×64, width 64, 100 epochs: for a real collection, and some hours

The picture: images as the network sees them; samples; and walks in the latent space from one sample to another, along
great circles. If neighbouring z gave unrelated images, the network would have memorised its examples (Radford et al.
2016, §6.1). Files of a folder that are not readable images are listed and skipped. (`scratchgen train dcgan --data
DIR` does the same with checkpoints and a report.)
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from scratchgen import dcgan, dcgan_optimizers
from scratchgen.data import load, load_folder, minibatches, to_float, to_signed, to_unit
from scratchgen.interpolation import spherical
from scratchgen.plots import image_grid
from scratchgen.training import save_picture

COLOURS = ((240, 110, 40), (60, 150, 240), (90, 200, 90))


def draw_shapes(folder: Path, count: int, rng):
    """Discs and squares of one of three colours on dark ground, as PNG files of various sizes."""
    for i in range(count):
        size = int(rng.integers(40, 90))
        image = Image.new("RGB", (size + int(rng.integers(0, 20)), size), (18, 18, 30))
        r, x, y = size * rng.uniform(0.22, 0.34), image.width / 2, size / 2
        box = [x - r, y - r, x + r, y + r]
        colour = COLOURS[rng.integers(len(COLOURS))]
        draw = ImageDraw.Draw(image)
        (draw.ellipse if i % 2 else draw.rectangle)(box, colour)
        image.save(folder / f"{i:05d}.png")


def images_of(folder: str, full: bool, rng):
    """The images of a folder; of an empty name, of one of drawn shapes."""
    with tempfile.TemporaryDirectory() as drawn:
        if not folder:
            draw_shapes(Path(drawn), 4000 if full else 640, rng)
        data = load_folder(folder or drawn, size=64 if full else 32)
    for note in data.notes:
        print(note)
    return data.train_images


def train(gan, images, epochs, batch_size, lr, rng):
    d_optimizer, g_optimizer = dcgan_optimizers(gan, lr)
    for epoch in range(1, epochs + 1):
        batches, steps = minibatches(images, batch_size, rng, drop_last=True), len(images) // batch_size
        for x in tqdm(batches, f"epoch {epoch}/{epochs}", steps, leave=False, disable=None):
            d_loss, g_loss = gan.train_step(to_signed(x), gan.noise(len(x), rng), d_optimizer, g_optimizer)
        print(f"epoch {epoch}/{epochs}: D loss {d_loss:.2f}, G loss {g_loss:.2f}", flush=True)


def walks(gan, rng, rows=8, steps=8):
    """Images (rows·steps, H, W, C) on the way from one z to another."""
    a, b = gan.noise(rows, rng)[:, None], gan.noise(rows, rng)[:, None]
    z = spherical(a, b, np.linspace(0, 1, steps, dtype=np.float32)[:, None])
    return to_unit(gan.generate(z.reshape(rows * steps, -1).astype(np.float32)))


def picture(panels):
    figure = Figure(figsize=(4.5 * len(panels), 4.8), dpi=130, facecolor="white", layout="constrained")
    for axes, (title, images) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(np.asarray(image_grid(images, 8)), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--folder", nargs="?", const="", metavar="DIR", help="of images; without DIR of drawn shapes")
    source.add_argument("--data", help="images, as in `scratchgen train`; without it the digits that come along")
    parser.add_argument("--full", action="store_true", help="a wide network and all images; see above")
    parser.add_argument("--epochs", type=int, help="passes over the images")
    parser.add_argument("--out", default="dcgan.png", help="the picture (default: %(default)s)")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    width, lr = (64, 2e-4) if args.full else (16, 1e-3)  # few channels make small gradients, and steps are few
    if args.folder is not None:
        images = images_of(args.folder, args.full, rng)
        epochs, batch_size = 100 if args.full else 40, min(32, len(images))
    elif args.full:
        images, epochs, batch_size = load(args.data).train_images, 10, 128
    else:
        images, epochs, batch_size = load(args.data).train_images[:4000], 8, 32
    gan = dcgan(images.shape[1:], width=width, rng=rng)
    train(gan, images, args.epochs or epochs, batch_size, lr, rng)
    samples = to_unit(gan.generate(gan.noise(64, rng)))
    panels = {"images": to_float(images[:64]), "samples": samples, "walks from one z to another": walks(gan, rng)}
    save_picture(picture(panels), args.out)
    print(args.out)


if __name__ == "__main__":
    with threadpool_limits(1):  # small products: threads that wait for each other slow them
        main()
