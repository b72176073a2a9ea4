"""A DCGAN learns to draw digits, and to walk from one to another.

    python demos/dcgan_mnist.py            4,000 digits, a narrow network: about half a minute
    python demos/dcgan_mnist.py --full     all the training digits there are, width 64, 10 epochs

The picture: samples on the left; on the right, walks in the latent space from one sample to another, along great
circles. If neighbouring z gave unrelated images, the network would have learned its examples by heart.
(Radford et al. 2016, §6.1.)
"""

import argparse

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from scratchgen import dcgan, dcgan_optimizers
from scratchgen.data import load, minibatches, to_signed, to_unit
from scratchgen.interpolation import spherical
from scratchgen.plots import image_grid
from scratchgen.training import save_picture


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


def picture(samples, path):
    figure = Figure(figsize=(9, 4.8), dpi=130, facecolor="white", layout="constrained")
    titles = ("samples", "walks from one z to another")
    for axes, images, title in zip(figure.subplots(1, 2), (samples, path), titles, strict=True):
        axes.imshow(np.asarray(image_grid(images, 8)), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="all training digits, width 64, 10 epochs")
    parser.add_argument("--data", help="images, as in `scratchgen train`; without it the digits that come along")
    parser.add_argument("--out", default="dcgan_mnist.png", help="the picture (default: %(default)s)")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    images, epochs, batch_size, width, lr = load(args.data).train_images, 10, 128, 64, 2e-4
    if not args.full:  # few channels make small gradients, and few steps want large ones
        images, epochs, batch_size, width, lr = images[:4000], 8, 32, 16, 1e-3
    gan = dcgan(images.shape[1:], width=width, smallest=4, rng=rng)
    train(gan, images, epochs, batch_size, lr, rng)
    save_picture(picture(to_unit(gan.generate(gan.noise(64, rng))), walks(gan, rng)), args.out)
    print(args.out)


if __name__ == "__main__":
    with threadpool_limits(1):  # small products: threads that wait for each other slow them
        main()
