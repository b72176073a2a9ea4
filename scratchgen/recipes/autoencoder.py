"""Training an autoencoder."""

import numpy as np

from scratchgen.data import to_float
from scratchgen.measures import PCA, mean_loss, reconstruction_error
from scratchgen.models import conv_autoencoder, dense_autoencoder
from scratchgen.models.autoencoder import LOSSES
from scratchgen.plots import Panel, codes, image_rows
from scratchgen.recipes.options import positive, sizes
from scratchgen.recipes.recipe import Findings, Recipe, RecipeError, formatted, sized, typical

SHOWN = 12  # images


class AutoencoderRecipe(Recipe):
    name = "ae"
    title = "autoencoder"
    help = "autoencoder: reproduce images through a code of a few numbers"
    description = "Train an autoencoder, and compare its test error with that of PCA with as many numbers."
    defaults = {"epochs": 30, "batch_size": 128, "lr": 1e-3}
    health = (Panel("gradient norm", {"gradient": "all parameters"}, log=True),)
    has_encoder = True
    always_measured = True

    @classmethod
    def add_options(cls, option):
        option("--arch", choices=("dense", "conv"), default="dense", help="fully connected or convolutional")
        option("--latent", type=positive, default=32, metavar="N", help="numbers in the code of an image")
        option("--hidden", type=sizes, metavar="N,N", help="layer sizes of --arch dense (default: 512,128)")
        option("--width", type=positive, metavar="N", help="channels next to the image of --arch conv (default: 32)")
        option("--loss", choices=tuple(LOSSES), default="bernoulli", help="pixels as probabilities, or squared error")

    @classmethod
    def settled(cls, config, data):
        config = sized(super().settled(config, data), hidden=[512, 128])
        pixels = int(np.prod(data.image_shape))
        if config["latent"] > min(pixels, len(data.train_images)):
            counts = f"{pixels} pixels and {len(data.train_images):,} training images"
            raise RecipeError(f"--latent is {config['latent']}, needs no more than there are: {counts}")
        return config

    def build(self, rng):
        c = self.config
        options = {"hidden": tuple(c["hidden"])} if c["arch"] == "dense" else {"width": c["width"]}
        build = {"dense": dense_autoencoder, "conv": conv_autoencoder}[c["arch"]]
        self.model = build(self.image_shape, latent=c["latent"], loss=c["loss"], rng=rng, **options)

    def describe(self):
        return f"{self.config['arch']} {super().describe()}, a code of {self.config['latent']} numbers"

    def step(self, batch, rng, watch):
        self.model.train_step(batch, self.optimizers["optimizer"], watch=watch)

    @property
    def panels(self):
        unit = "nats" if self.config["loss"] == "bernoulli" else "squared error"
        return (
            Panel(f"loss, {unit} per image", {"loss": "training", "test_loss": "test"}),
            Panel("test mean squared error per pixel", {"test_mse": "autoencoder"}, limits=(0, None)),
        )

    def epoch_measures(self, data):
        found = Findings()
        with found.part("the test loss"):
            loss = mean_loss(self.model.predict_loss, data.test_images, self.backend)
            self.demand_finite(loss)
            found.values["test_loss"] = loss
        with found.part("the test error"):
            found.values["test_mse"] = reconstruction_error(self.reconstruct, data.test_images)
        return found

    def line(self, r):
        test = f"test loss {formatted(r, 'test_loss', '8.2f')}  test error {formatted(r, 'test_mse', '.5f')}"
        return f"loss {r['loss']:8.2f}  {test}"

    def reconstruct(self, images):
        return self.on_host(self.model.reconstruct, images)

    def encode(self, images):
        return self.on_host(self.model.encode, images)

    def decode(self, z):
        return self.on_host(self.model.decode, z)

    def sheet(self, data):
        originals = to_float(data.test_images[typical(data, SHOWN)])
        return image_rows([("originals", originals), ("reconstructions", self.reconstruct(originals))], SHOWN)

    def measure(self, data, **options):
        found = Findings([("mean squared error per pixel", f"on the {len(data.test_images):,} test images")])
        originals = to_float(data.test_images[typical(data, SHOWN)])
        pictures = [("originals", originals)]
        with found.part("the test error"):
            error = found.values["test_mse"] = reconstruction_error(self.reconstruct, data.test_images)
            found.rows.append(("  autoencoder", f"{error:.5f}"))
            pictures.append((f"autoencoder\nerror {error:.4f}", self.reconstruct(originals)))
            with found.part("PCA"):
                pca = PCA(data.train_images, self.config["latent"])
                pca_error = found.values["pca_test_mse"] = reconstruction_error(pca.reconstruct, data.test_images)
                ratio = found.values["ratio"] = error / pca_error if pca_error > 1e-9 else None
                found.rows += [
                    (f"  PCA, {self.config['latent']} components", f"{pca_error:.5f}"),
                    ("  ratio", "–, PCA is exact" if ratio is None else f"{ratio:.3f}"),
                ]
                pictures.append((f"PCA\nerror {pca_error:.4f}", pca.reconstruct(originals)))
        with found.part("reconstructions.png"):
            found.pictures["reconstructions.png"] = image_rows(pictures, SHOWN)
        if self.config["latent"] == 2:
            with found.part("codes.png"):
                z = self.encode(to_float(data.test_images))
                found.pictures["codes.png"] = codes(
                    z, data.test_labels, classes=data.classes, title="codes of test images"
                )
        return found
