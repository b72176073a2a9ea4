"""What a VAE has that an autoencoder lacks: a density of codes to draw from, so that every code gives an image.

    python demos/vae.py            5,000 digits, a few epochs: about 20 seconds
    python demos/vae.py --full     all the training digits there are, 30 epochs

Three pictures in the folder --out:

    vae_samples.png     test digits, their reconstructions, and draws of z ~ N(0, I) decoded
    vae_plane.png       the plane of a two-dimensional code, decoded point by point through the normal's quantiles
    vae_codes.png       encoding the same digits 200 times: the autoencoder gives one z each, the VAE a cloud, and the
                        KL term keeps the clouds together around 0 while the autoencoder's codes lie anywhere
"""

import argparse

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from scratchgen import Adam, dense_autoencoder, dense_vae
from scratchgen.data import binarise, load, minibatches, to_float
from scratchgen.paths import as_path
from scratchgen.plots import image_rows, latent_plane
from scratchgen.training import save_picture


def train_vae(images, latent, epochs, rng):
    model = dense_vae(images.shape[1:], latent=latent, hidden=(256, 128), rng=rng)
    optimizer = Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        losses = []
        for x in minibatches(images, 64, rng):
            x = binarise(x, "dynamic", rng)  # a Bernoulli likelihood is one of binary pixels
            eps = rng.standard_normal((len(x), latent), np.float32)  # an argument, so that the loss is a function
            losses.append(model.train_step(x, eps, optimizer))
    print(
        f"VAE, latent dimension {latent:2}: −ELBO {np.mean(losses):.1f} nats per image in the last of {epochs} epochs"
    )
    return model


def train_autoencoder(images, latent, epochs, rng):
    model = dense_autoencoder(images.shape[1:], latent=latent, hidden=(256, 128), rng=rng)
    optimizer = Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x in minibatches(images, 64, rng):
            model.train_step(x, optimizer)
    return model


def codes(autoencoder, vae, data, rng, repeats=200):
    """Where one digit of each class is encoded, again and again."""
    chosen = [int(np.flatnonzero(data.test_labels == k)[0]) for k in range(10)]
    x = to_float(data.test_images[chosen])
    once, again = autoencoder.encode(x), autoencoder.encode(x)
    assert np.array_equal(once, again)  # given x, always the same z
    mu, logvar = vae.encode(x)
    eps = rng.standard_normal((repeats, *mu.shape), np.float32)
    clouds = mu + np.exp(0.5 * logvar) * eps  # (repeats, 10, 2)

    figure = Figure(figsize=(10, 5), dpi=110, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    everything = autoencoder.encode(to_float(data.test_images[:1000]))
    left.scatter(*everything.T, s=2, color="#d0d0d0", linewidths=0)
    means = vae.encode(to_float(data.test_images[:1000]))[0]
    right.scatter(*means.T, s=2, color="#d0d0d0", linewidths=0)
    for k in range(10):
        colour = f"C{k}"
        left.scatter(*once[k], s=40, color=colour, label=str(k))
        right.scatter(*clouds[:, k].T, s=4, color=colour, alpha=0.5, linewidths=0)
    left.set_title("autoencoder: one z for each digit")
    right.set_title("VAE: z = mu + σ·eps, drawn 200 times")
    left.legend(title="digit", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in (left, right):
        axes.set_xlabel("z₁")
        axes.set_ylabel("z₂")
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="all training digits, 30 epochs")
    parser.add_argument("--data", help="labelled images, as in `scratchgen train`; without it a sample of digits")
    parser.add_argument("--out", default=".", type=as_path, help="folder of the pictures (default: here)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    data = load(args.data)
    images, epochs = (data.train_images, 30) if args.full else (data.train_images[:5000], 8)

    vae = train_vae(images, 20, epochs, rng)
    shown = to_float(data.test_images[:12])
    drawn = vae.sample(36, rng)
    rows = [("test digits", shown), ("reconstructions", vae.reconstruct(shown))]
    rows += [("samples" if i == 0 else "", drawn[i : i + 12]) for i in range(0, 36, 12)]
    save_picture(image_rows(rows), args.out / "vae_samples.png")

    flat_vae, flat_autoencoder = train_vae(images, 2, epochs, rng), train_autoencoder(images, 2, epochs, rng)
    save_picture(latent_plane(flat_vae.decode, 18), args.out / "vae_plane.png")
    save_picture(codes(flat_autoencoder, flat_vae, data, rng), args.out / "vae_codes.png")
    for name in ("vae_samples.png", "vae_plane.png", "vae_codes.png"):
        print(args.out / name)


if __name__ == "__main__":
    with threadpool_limits(1):  # small products: threads that wait for each other slow them
        main()
