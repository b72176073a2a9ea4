"""scratchgen train: train a model and leave weights, metrics and pictures in a run folder."""

import argparse
import os
import sys

import numpy as np
from threadpoolctl import threadpool_limits

from scratchgen.backend import BACKENDS, load_kernels, to_host, transfer
from scratchgen.commands import UsageError
from scratchgen.data import load_mnist, to_float
from scratchgen.measures import PCA, mean_loss, reconstruction_error
from scratchgen.models import conv_autoencoder, dense_autoencoder
from scratchgen.models.autoencoder import LOSSES
from scratchgen.optim import Adam
from scratchgen.plots import image_rows, loss_curves
from scratchgen.training import NotFinite, RunFolder, epochs
from scratchgen.version import __version__


def add_parser(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on images",
        description="Train a model. What it makes goes into a run folder: config.json, metrics.jsonl, "
        "weights.safetensors and pictures.",
    )
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    ae = models.add_parser(
        "ae",
        help="autoencoder: reproduce images through a code of a few numbers",
        description="Train an autoencoder, and compare its test error with that of PCA with as many numbers.",
    )
    option = _options(ae)
    option("--arch", choices=("dense", "conv"), default="dense", help="fully connected or convolutional")
    option("--latent", type=_positive, default=32, metavar="N", help="numbers in the code of an image")
    option("--loss", choices=tuple(LOSSES), default="bernoulli", help="pixels as probabilities, or squared error")
    _common(option, epochs=30, batch_size=128, lr=1e-3)
    ae.set_defaults(run=run_autoencoder)


def _options(parser):
    """add_argument that ends each help text with the default, where there is one to name."""

    def option(name, *, help, **settings):
        if settings.get("default") is not None:
            help += " (default: %(default)s)"
        parser.add_argument(name, help=help, **settings)

    return option


def _common(option, *, epochs: int, batch_size: int, lr: float) -> None:
    """The options that every model has."""
    option(
        "--data",
        metavar="sample|download|DIR",
        help="MNIST: the 10,000 digits that come along, all 70,000 downloaded, or a folder with the four original "
        "files; without it the folder in SCRATCHGEN_DATA, else the sample",
    )
    option("--epochs", type=_positive, default=epochs, metavar="N", help="passes over the images")
    option("--batch-size", type=_positive, default=batch_size, metavar="N", help="images per step")
    option("--lr", type=_rate, default=lr, metavar="X", help="Adam's learning rate")
    option("--seed", type=_seed, default=0, metavar="N", help="of the first weights and the order of the images")
    option("--backend", choices=BACKENDS, default="numpy", help="cupy runs on an NVIDIA GPU")
    option(
        "--threads",
        type=_positive,
        metavar="N",
        help="for matrix products; without it one less than the cores, since threads that wait for a core that "
        "another program uses cost far more than they bring",
    )
    option("--out", metavar="DIR", help="run folder; without it a new one in runs/")
    option("--quiet", action="store_true", help="no progress bars")


def run_autoencoder(args) -> int:
    load_kernels(args.backend)
    data = load_mnist(args.data, progress=not args.quiet)
    pixels = int(np.prod(data.image_shape))
    if args.latent > min(pixels, len(data.train_images)):
        counts = f"{pixels} pixels and {len(data.train_images):,} training images"
        raise UsageError(f"--latent is {args.latent}, needs no more than there are: {counts}")
    rng = np.random.default_rng(args.seed)
    build = {"dense": dense_autoencoder, "conv": conv_autoencoder}[args.arch]
    model = build(data.image_shape, latent=args.latent, loss=args.loss, rng=rng).to(args.backend)
    optimizer = Adam(model.parameters(), lr=args.lr)
    size = sum(p.value.size for p in model.parameters())
    config = {"model": "ae", **{k: v for k, v in vars(args).items() if k not in ("run", "out", "quiet")}}
    config |= {"data": data.name, "parameters": size, "scratchgen": __version__}
    path = args.out or RunFolder.unused("runs", f"ae-{args.arch}")
    try:
        run = RunFolder(path)
        run.write_config(config)
    except FileExistsError:
        raise
    except OSError as error:
        raise UsageError(f"nothing can be written in {path}: {error.strerror}; choose a folder with --out") from error
    print(f"data     {data.name}")
    print(f"model    {args.arch} autoencoder, a code of {args.latent} numbers, {size:,} parameters")
    print(f"run      {run.path}")

    def reconstruct(x):
        return to_host(model.reconstruct(transfer(x, args.backend)))

    records = []
    with threadpool_limits(args.threads or max(1, cores() - 1)):
        pca = PCA(data.train_images, args.latent)
        pca_error = reconstruction_error(pca.reconstruct, data.test_images)
        try:
            for record in epochs(
                lambda x: model.train_step(x, optimizer),
                data.train_images,
                epochs=args.epochs,
                batch_size=args.batch_size,
                seed=args.seed,
                backend=args.backend,
                progress=not args.quiet,
            ):
                record["test_loss"] = mean_loss(model.predict_loss, data.test_images, args.backend)
                record["test_mse"] = reconstruction_error(reconstruct, data.test_images)
                records.append(record)
                run.save_weights(model)
                run.log(record)
                print(
                    f"epoch {record['epoch']:>3}/{args.epochs}  loss {record['loss']:8.2f}  "
                    f"test loss {record['test_loss']:8.2f}  test error {record['test_mse']:.5f}  "
                    f"{record['images_per_second']:,.0f} images/s"
                )
        except NotFinite as error:
            kept = f"{run.path} has the weights of epoch {len(records)}" if records else "nothing was saved"
            print(f"scratchgen: {error}; {kept}", file=sys.stderr)
            return 1

    error = records[-1]["test_mse"]
    run.log({"pca_test_mse": pca_error, "test_mse": error, "ratio": error / pca_error})
    unit = "nats per image" if args.loss == "bernoulli" else "squared error per image"
    name = f"PCA with {args.latent} components"
    curve = run.save_figure(loss_curves(records, unit=unit, reference=(name, pca_error)), "loss.png")
    picture = run.save_figure(_picture(data, reconstruct, pca, error, pca_error), "reconstructions.png")
    print(
        f"\nmean squared error per pixel on the {len(data.test_images):,} test images, codes of {args.latent} numbers"
    )
    print(f"  autoencoder  {error:.5f}")
    print(f"  PCA          {pca_error:.5f}")
    print(f"  ratio        {error / pca_error:.3f}\n" if pca_error > 1e-9 else "  ratio        –, PCA is exact\n")
    print(f"trained  {sum(r['seconds'] for r in records):.0f} s")
    print(f"curves   {curve}")
    print(f"picture  {picture}")
    return 0


def _picture(data, reconstruct, pca, error, pca_error):
    """One test image of every class, and two more: originals over their reconstructions."""
    first = [int(np.flatnonzero(data.test_labels == k)[0]) for k in np.unique(data.test_labels)]
    rest = [i for i in range(len(data.test_labels)) if i not in first]
    originals = to_float(data.test_images[(first + rest)[:12]])
    return image_rows(
        [
            ("originals", originals),
            (f"autoencoder\nerror {error:.4f}", reconstruct(originals)),
            (f"PCA\nerror {pca_error:.4f}", pca.reconstruct(originals)),
        ]
    )


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _positive(text: str) -> int:
    return _number(int, text, lambda n: n >= 1, "a whole number of at least 1")


def _seed(text: str) -> int:
    return _number(int, text, lambda n: n >= 0, "a whole number of at least 0")


def _rate(text: str) -> float:
    return _number(float, text, lambda x: 0 < x < float("inf"), "a positive number")


def _number(kind, text, fits, form):
    try:
        value = kind(text)
        if fits(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
