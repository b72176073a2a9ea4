"""What an autoencoder gains over PCA: the same digits through bottlenecks of 2, 8 and 32 dimensions.

    python demos/autoencoder.py            3,000 digits, a few epochs: about 15 seconds
    python demos/autoencoder.py --full     all the training digits there are, 30 epochs

PCA is the best that two linear maps can do; the autoencoder has the same bottleneck and ReLU layers around it. The
picture shows test digits, and what either makes of them for each latent dimension.
"""

import argparse

import numpy as np
from threadpoolctl import threadpool_limits

from scratchgen import Adam, dense_autoencoder
from scratchgen.data import load, minibatches, to_float
from scratchgen.measures import PCA, reconstruction_error
from scratchgen.plots import image_rows
from scratchgen.training import save_picture


def train(images, latent, epochs, seed=0):
    """A dense autoencoder of latent dimension `latent`."""
    rng = np.random.default_rng(seed)
    model = dense_autoencoder(images.shape[1:], latent=latent, rng=rng)
    optimizer = Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x in minibatches(images, 64, rng):
            _, backward = model.loss(x)  # these three lines are model.train_step(x, optimizer)
            backward()
            optimizer.step()
    return model


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="all training digits, 30 epochs")
    parser.add_argument("--data", help="as in `scratchgen train`; without it the digits that come along")
    parser.add_argument("--out", default="autoencoder.png", help="the picture (default: %(default)s)")
    args = parser.parse_args()

    data = load(args.data)
    images, epochs = (data.train_images, 30) if args.full else (data.train_images[:3000], 8)
    shown = to_float(data.test_images[:12])
    rows = [("test digits", shown)]
    print(" latent  autoencoder  PCA      ratio   (mean squared error per pixel on test digits)")
    for latent in (2, 8, 32):
        model, pca = train(images, latent, epochs), PCA(images, latent)
        error = reconstruction_error(model.reconstruct, data.test_images)
        linear = reconstruction_error(pca.reconstruct, data.test_images)
        print(f"{latent:7}  {error:.5f}      {linear:.5f}  {error / linear:.2f}", flush=True)
        rows.append((f"{latent} dimensions\nerror {error:.4f}", model.reconstruct(shown)))
        rows.append((f"PCA, {latent}\nerror {linear:.4f}", pca.reconstruct(shown)))
    save_picture(image_rows(rows), args.out)
    print(args.out)


if __name__ == "__main__":
    with threadpool_limits(1):  # small products: threads that wait for each other slow them
        main()
