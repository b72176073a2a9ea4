"""A GAN learns to draw digits: the same noise through the generator, after every few epochs.

    python demos/gan_mnist.py            3,000 digits, a few epochs: about 25 seconds, and rough digits
    python demos/gan_mnist.py --full     all the training digits there are, 50 epochs: digits

The picture has a row of samples for each moment, and below D(x) and D(G(z)), the probabilities that D gives real and
generated images. They would meet at ½ if G were perfect. (Goodfellow et al. 2014.)
"""

import argparse

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from scratchgen import Adam, dense_gan
from scratchgen.data import load, minibatches, to_signed, to_unit
from scratchgen.models.gan import mean_probability
from scratchgen.training import save_picture


def train(gan, images, epochs, batch_size, lr, rng, looks):
    """Play the game; returns the samples after `looks` epochs each, and D(x), D(G(z)) of every step."""
    d_optimizer = Adam(gan.discriminator.parameters(), lr=lr, betas=(0.5, 0.999))
    g_optimizer = Adam(gan.generator.parameters(), lr=lr, betas=(0.5, 0.999))
    fixed = gan.noise(16, rng)
    moments, seen = [(0, to_unit(gan.generate(fixed)))], {"D(x)": [], "D(G(z))": []}

    for epoch in range(1, epochs + 1):
        for x in minibatches(images, batch_size, rng, drop_last=True):
            played = gan.play(to_signed(x), gan.noise(len(x), rng), d_optimizer, g_optimizer)
            seen["D(x)"].append(float(mean_probability(played.s_real)))
            seen["D(G(z))"].append(float(mean_probability(played.s_fake)))
        if epoch % looks == 0:
            moments.append((epoch, to_unit(gan.generate(fixed))))
        steps = len(images) // batch_size
        real, fake = (np.mean(values[-steps:]) for values in seen.values())
        print(f"epoch {epoch}/{epochs}: D(x) {real:.2f}, D(G(z)) {fake:.2f}", flush=True)
    return moments, seen


def picture(moments, seen, epochs):
    rows = len(moments)
    figure = Figure(figsize=(9, 0.56 * rows + 2.6), dpi=120, facecolor="white", layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(0.56 * rows, 2.6))
    for axes, (epoch, images) in zip(np.atleast_1d(top.subplots(rows, 1)), moments, strict=True):
        strip = np.concatenate(list(images[..., 0] if images.shape[-1] == 1 else images), axis=1)
        axes.imshow(strip, cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(f"epoch {epoch}", rotation=0, ha="right", va="center")
        axes.spines[:].set_visible(False)
    axes = bottom.subplots()
    width = max(1, len(seen["D(x)"]) // 200)
    for (name, values), colour in zip(seen.items(), ("#0b6fa4", "#d1495b"), strict=True):
        means = np.array(values[: len(values) // width * width]).reshape(-1, width).mean(axis=1)
        axes.plot(np.linspace(0, epochs, len(means)), means, color=colour, label=name)
    axes.axhline(0.5, color="#222222", linewidth=1, linestyle="--")
    axes.set(xlabel="epoch", ylabel="probability of being real", ylim=(0, 1), xlim=(0, epochs))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="all training digits, 50 epochs")
    parser.add_argument("--data", help="images, as in `scratchgen train`; without it the digits that come along")
    parser.add_argument("--loss", choices=("non-saturating", "minimax"), default="non-saturating", help="of G")
    parser.add_argument("--out", default="gan_mnist.png", help="the picture (default: %(default)s)")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    images, epochs, looks, batch_size, lr = load(args.data).train_images, 50, 10, 64, 2e-4
    if not args.full:  # few steps want to be large
        images, epochs, looks, batch_size, lr = images[:3000], 12, 2, 32, 1e-3
    gan = dense_gan(images.shape[1:], loss=args.loss, rng=rng)
    moments, seen = train(gan, images, epochs, batch_size, lr, rng, looks)
    save_picture(picture(moments, seen, epochs), args.out)
    print(args.out)


if __name__ == "__main__":
    with threadpool_limits(1):  # small products: threads that wait for each other slow them
        main()
