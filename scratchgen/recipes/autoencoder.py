"""Training an autoencoder."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.data import Dataset, to_float
from scratchgen.measures import PCA, mean_loss, reconstruction_error
from scratchgen.models import conv_autoencoder, dense_autoencoder
from scratchgen.models.autoencoder import LOSSES, Autoencoder
from scratchgen.plots import Panel, Reference, codes, image_rows
from scratchgen.progress import doing
from scratchgen.recipes.encoder import SHOWN, EncoderRecipe, network_options
from scratchgen.recipes.options import Option, positive
from scratchgen.recipes.recipe import Findings, RecipeError, formatted, typical
from scratchgen.schema import choice

RANKED = 2000  # test images, from which the best and the worst are shown


class AutoencoderRecipe(EncoderRecipe):
    model: Autoencoder
    name = "ae"
    title = "autoencoder"
    help = "autoencoder: reproduce images through a bottleneck"
    description = "Train an autoencoder, and compare its test error with that of PCA with as many components."
    hidden = [512, 128]
    options = network_options(Option(positive, "latent dimension", default=32, metavar="N"), hidden) | {
        "loss": Option(choice(LOSSES), "pixels as probabilities, or squared error", default="bernoulli")
    }
    defaults = {"epochs": 30, "batch_size": 128, "lr": 1e-3}
    builders = {"dense": dense_autoencoder, "conv": conv_autoencoder}
    of_model = ("loss",)
    always_measured = True

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: Dataset) -> dict[str, Any]:
        config = super().resolve_config(given, data)
        pixels, images = prod(data.image_shape), len(data.train_images)
        if "latent" not in given:
            config["latent"] = min(config["latent"], pixels, images)
        if config["latent"] > min(pixels, images):
            counts = f"{pixels} pixels and {images:,} training images"
            raise RecipeError(f"--latent is {config['latent']}, needs no more than there are: {counts}")
        return config

    @property
    def panels(self) -> Sequence[Panel]:
        unit = "nats" if self.config["loss"] == "bernoulli" else "squared error"
        pca = Reference(f"PCA, {self.config['latent']} components", "pca_test_mse")
        return (
            Panel(f"{unit} per image", {"loss": "training", "test_loss": "test"}, title="Loss"),
            Panel(
                "squared error per pixel",
                {"test_mse": "test images"},
                (pca,),
                limits=(0, None),
                title="Error of reconstruction",
            ),
        )

    def step(self, batch: Array, rng: np.random.Generator) -> dict[str, Array]:
        return {"loss": self.model.train_step(batch, self.optimizers["optimizer"])}

    def epoch_measures(self, data: Dataset) -> Findings:
        found = Findings()
        with found.part("the test loss"):
            loss = mean_loss(self.model.predict_loss, data.test_images, self.backend)
            self.demand_finite(loss)
            found.values["test_loss"] = loss
        with found.part("the test error"):
            found.values["test_mse"] = reconstruction_error(self.reconstruct, data.test_images)
        return found

    def line(self, r: Mapping[str, Any]) -> str:
        test = f"test loss {formatted(r, 'test_loss', '8.2f')}  test error {formatted(r, 'test_mse', '.5f')}"
        return f"loss {r['loss']:8.2f}  {test}"

    def encode(self, images: np.ndarray) -> np.ndarray:
        return self.on_host(self.model.encode, images)

    def sheet(self, data: Dataset) -> object:
        originals = to_float(data.test_images[typical(data, SHOWN)])
        return image_rows([("originals", originals), ("reconstructions", self.reconstruct(originals))], SHOWN)

    def measure(self, data: Dataset, *, progress: bool = True, **options: Any) -> Findings:
        found = Findings([("mean squared error per pixel", f"on the {len(data.test_images):,} test images")])
        originals = to_float(data.test_images[self.from_best_to_worst(data)])
        pictures = [("originals", originals)]
        with found.part("the test error"):
            error = found.values["test_mse"] = reconstruction_error(self.reconstruct, data.test_images)
            found.rows.append(("  autoencoder", f"{error:.5f}"))
            pictures.append((f"autoencoder\nerror {error:.4f}", self.reconstruct(originals)))
            with found.part("PCA"):
                with doing(f"PCA of the training images, {self.config['latent']} components", progress=progress):
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
                found.values["std_of_codes"] = [float(s) for s in z.std(axis=0)]
                found.pictures["codes.png"] = codes(z, data.test_labels, classes=data.classes)
        return found

    def from_best_to_worst(self, data: Dataset) -> np.ndarray:
        """Indices of SHOWN test images, evenly from the one that is reproduced best to the one that is worst."""
        images = to_float(data.test_images[:RANKED])
        errors = np.square(self.reconstruct(images) - images).reshape(len(images), -1).mean(axis=1)
        ranks = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(int)
        return np.argsort(errors, kind="stable")[ranks]
