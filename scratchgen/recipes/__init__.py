"""Recipes: what the training of each model consists of, for the command line and for scripts.

recipe = build(config)       # from the config of a run
recipe.model, recipe.step(batch, rng), recipe.sheet(data), recipe.measure(data)
"""

import os
from collections.abc import Mapping
from typing import Any

from scratchgen.files import shown
from scratchgen.recipes.autoencoder import AutoencoderRecipe
from scratchgen.recipes.gan import DCGANRecipe, GANRecipe
from scratchgen.recipes.options import COMMON, FOUND, Config, Lacking, identity
from scratchgen.recipes.recipe import Findings, Recipe, RecipeError
from scratchgen.recipes.vae import VAERecipe
from scratchgen.schema import Kind, check
from scratchgen.training import RunFolder
from scratchgen.version import __version__

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe for recipe in (AutoencoderRecipe, VAERecipe, GANRecipe, DCGANRecipe)
}


def build(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a run's config, with its first weights. ValueError when a setting is missing or not what it needs
    to be, or the config names no known model."""
    from_file = isinstance(config, Config)
    if not isinstance(config, Config):
        config = Config(config)
        _check(config)
    recipe = RECIPES[config["model"]]
    if "dimensions" in config and recipe.points:
        recipe = recipe.points
    try:
        return recipe(config)
    except ValueError as error:  # settings that do not fit together
        if not from_file or isinstance(error, Lacking):
            raise
        raise ValueError(f"{config.source} is damaged: {error}") from None


def config_of(folder: RunFolder) -> Config:
    """The config of a run folder, each setting of which is what the command line takes. ValueError for any other,
    which says so where another version of scratchgen wrote it."""
    config = Config(folder.config(), folder.path / "config.json")
    writer = config.get("scratchgen", __version__)
    try:
        _check(config)
        unknown = sorted(config.keys() - _schema(RECIPES[config["model"]]).keys())
        if unknown and writer != __version__:
            raise ValueError(f"{shown(unknown[0])} is unknown here")
        if config.get("id", identity(config)) != identity(config):
            raise ValueError("it is not what the run was started with, a setting was changed")
    except ValueError as error:
        if writer != __version__:
            by = f"scratchgen {shown(writer)}, go on with that, as this is {__version__}"
            raise ValueError(f"{config.source} was written by {by}: {error}") from None
        raise ValueError(f"{config.source} is damaged: {error}") from None
    return config


def _check(config: Config) -> None:
    if config.get("model") not in RECIPES:
        raise ValueError(f"the run is of a model {shown(config.get('model'))}, known are {', '.join(RECIPES)}")
    check(config, _schema(RECIPES[config["model"]]))


def _schema(recipe: type[Recipe]) -> dict[str, Kind]:
    """What each setting of a model needs to be: as its options have it."""
    return FOUND | {name: option.kind for name, option in (COMMON | dict(recipe.options)).items()}


def load_run(path: str | os.PathLike[str], *, backend: str = "numpy") -> Any:  # the folder says which recipe it is
    """The recipe of a run folder, its model with the trained weights; it computes in float32.

    FileNotFoundError when there is no run or no weights; ValueError when its files are damaged or do not fit.
    """
    folder = RunFolder.open(path)
    config = config_of(folder)
    here = {"backend": backend, "precision": "float32"}  # also where there is no TF32
    recipe = build(Config({**config, **here}, config.source))
    folder.load_weights(recipe.model)
    recipe.folder = folder
    return recipe


__all__ = ["RECIPES", "Findings", "Recipe", "RecipeError", "build", "config_of", "load_run"]
