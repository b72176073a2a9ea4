"""A DCGAN on a folder of your own images.

    python demos/dcgan_folder.py FOLDER            of any sizes and kinds, cut to 32×32
    python demos/dcgan_folder.py                   draws a folder of coloured shapes first, and learns these
    python demos/dcgan_folder.py FOLDER --full     64×64, width 64: for a real collection, and some hours

Files that are no readable images are listed and passed over. The picture shows some of the images as the network sees
them, and samples beside. (`scratchgen train dcgan --data FOLDER` does the same with checkpoints and a report.)
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
from scratchgen.data import load_folder, minibatches, to_float, to_signed, to_unit
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
        if i % 2:
            draw.ellipse(box, colour)
        else:
            draw.rectangle(box, colour)
        image.save(folder / f"{i:05d}.png")


def train(gan, images, epochs, lr, rng):
    d_optimizer, g_optimizer = dcgan_optimizers(gan, lr)
    batch_size = min(32, len(images))
    for epoch in range(1, epochs + 1):
        batches, steps = minibatches(images, batch_size, rng, drop_last=True), len(images) // batch_size
        for x in tqdm(batches, f"epoch {epoch}/{epochs}", steps, leave=False, disable=None):
            d_loss, g_loss = gan.train_step(to_signed(x), gan.noise(len(x), rng), d_optimizer, g_optimizer)
        print(f"epoch {epoch}/{epochs}: D loss {d_loss:.2f}, G loss {g_loss:.2f}", flush=True)


def picture(real, samples):
    figure = Figure(figsize=(9, 4.8), dpi=130, facecolor="white", layout="constrained")
    for axes, images, title in zip(figure.subplots(1, 2), (real, samples), ("images", "samples"), strict=True):
        axes.imshow(np.asarray(image_grid(images, 8)))
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", nargs="?", type=Path, help="of images; without it one of shapes is drawn")
    parser.add_argument("--full", action="store_true", help="64×64 pixels, width 64, 100 epochs")
    parser.add_argument("--epochs", type=int, help="passes over the images")
    parser.add_argument("--out", default="dcgan_folder.png", help="the picture (default: %(default)s)")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    size, width, epochs, lr = (64, 64, 100, 2e-4) if args.full else (32, 16, 40, 1e-3)
    with tempfile.TemporaryDirectory() as drawn:
        if args.folder is None:
            draw_shapes(Path(drawn), 4000 if args.full else 640, rng)
        data = load_folder(args.folder or drawn, size=size)
    for note in data.notes:
        print(note)
    gan = dcgan(data.image_shape, width=width, rng=rng)
    train(gan, data.train_images, args.epochs or epochs, lr, rng)
    real = to_float(data.train_images[:64])
    save_picture(picture(real, to_unit(gan.generate(gan.noise(64, rng)))), args.out)
    print(args.out)


if __name__ == "__main__":
    with threadpool_limits(1):  # small products: threads that wait for each other slow them
        main()
