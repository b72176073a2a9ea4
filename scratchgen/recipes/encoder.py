"""What the training of an autoencoder and of a VAE share: an encoder and a decoder of images."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from scratchgen.data import Dataset
from scratchgen.models.autoencoder import Autoencoder
from scratchgen.models.vae import VAE
from scratchgen.plots import Panel
from scratchgen.recipes import judgements
from scratchgen.recipes.options import Option, positive, sizes
from scratchgen.recipes.recipe import LEAST, Recipe, RecipeError
from scratchgen.schema import choice

SHOWN = 12  # images in a row of a picture
WIDTH = 32  # channels next to the image
DENSE = 4096  # elements of an image, up to which fully connected networks are small enough


def network_options(latent: Option, hidden: list[int]) -> dict[str, Option]:
    """The options of the two networks."""
    default = ",".join(map(str, hidden))
    return {
        "arch": Option(
            choice(("dense", "conv")),
            f"fully connected or convolutional (default: dense, and conv for images of more than {DENSE:,} elements)",
        ),
        "latent": latent,
        "hidden": Option(sizes, f"layer sizes of --arch dense (default: {default})", metavar="N,N"),
        "width": Option(positive, f"channels next to the image of --arch conv (default: {WIDTH})", metavar="N"),
    }


class EncoderRecipe(Recipe[Dataset]):
    model: Autoencoder | VAE
    has_encoder = True
    few = {"steps": 3000, "batch_size": 32}
    builders: ClassVar[Mapping[str, Callable[..., Any]]]  # of the model, for each --arch
    hidden: ClassVar[list[int]]  # default layer sizes
    of_model: ClassVar[tuple[str, ...]]  # settings that the builder takes beside the sizes

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: Dataset) -> dict[str, Any]:
        if "arch" not in given and "hidden" not in given and prod(data.image_shape) > DENSE:
            given = {**given, "arch": "conv"}
        config = {"arch": "dense"} | super().resolve_config(given, data)
        own, other = ("hidden", "width") if config["arch"] == "dense" else ("width", "hidden")
        if other in config:
            raise RecipeError(f"--{other} does not apply to --arch {config['arch']}, which has --{own}")
        config.setdefault(own, cls.hidden if own == "hidden" else WIDTH)
        return config

    def build(self, rng: np.random.Generator) -> None:
        c = self.config
        size = {"hidden": tuple(c["hidden"])} if c["arch"] == "dense" else {"width": c["width"]}
        settings = {name: c[name] for name in ("latent", *self.of_model)}
        self.model = self.builders[c["arch"]](self.image_shape, rng=rng, **size, **settings)

    @property
    def health(self) -> Sequence[Panel]:
        return (Panel("norm of the gradient", {"gradient": "all parameters"}, log=True, title="Gradient"),)

    def describe(self) -> str:
        return f"{self.config['arch']} {super().describe()}, latent dimension {self.config['latent']}"

    def symptoms(self, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        found = {"overfit": judgements.overfit, "vanished": judgements.vanished}
        return {name: text for name, judge in found.items() if (text := judge(epochs, self.config))}

    def expectations(self, data: Dataset) -> list[str]:
        count = len(data.train_images)
        if count >= LEAST:
            return []
        return [
            f"{count:,} training images are few: these come out well in the end, unseen images much less well, as "
            "the test images show"
        ]

    def decode(self, z: np.ndarray) -> np.ndarray:
        return self.on_host(self.model.decode, z)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        return self.on_host(self.model.reconstruct, images)
