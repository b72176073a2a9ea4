"""Recipes: what the training of each model consists of, for the command line and for scripts.

recipe = build(config)       # from the config of a run
recipe.model, recipe.step(batch, rng, watch), recipe.sheet(data), recipe.measure(data)
"""

from scratchgen.recipes.autoencoder import AutoencoderRecipe
from scratchgen.recipes.gan import DCGANRecipe, GANRecipe
from scratchgen.recipes.recipe import Findings, Recipe, RecipeError
from scratchgen.recipes.vae import VAERecipe
from scratchgen.training import RunFolder, load_checkpoint
from scratchgen.weights import load_weights

RECIPES = {recipe.name: recipe for recipe in (AutoencoderRecipe, VAERecipe, GANRecipe, DCGANRecipe)}


def build(config) -> Recipe:
    """The recipe of a run's config, with its first weights. ValueError when the config names no known model."""
    if config.get("model") not in RECIPES:
        raise ValueError(f"the run is of a model {config.get('model')!r}, known are {', '.join(RECIPES)}")
    try:
        recipe = RECIPES[config["model"]]
        return recipe.points(config) if "dimensions" in config and recipe.points else recipe(config)
    except KeyError as error:
        raise ValueError(f"the run's config lacks {error}") from None


def load_run(path, *, backend: str = "numpy") -> Recipe:
    """The recipe of a run folder, its model with the trained weights; it computes in float32.

    Its weights are in weights.safetensors, or, where that could not be written, in the checkpoint.
    FileNotFoundError when there is no run or no weights; ValueError when its files are damaged or do not fit.
    """
    run = RunFolder.open(path)
    try:
        recipe = build({**run.config(), "backend": backend, "precision": "float32"})  # also where there is no TF32
    except TypeError as error:  # a number that is none
        raise ValueError(f"{run.path / 'config.json'} is damaged: {error}") from None
    if run.weights.is_file():
        load_weights(recipe.model, run.weights)
    elif run.checkpoint.is_file():
        load_checkpoint(run.checkpoint, recipe.model, recipe.optimizers)
    else:
        raise FileNotFoundError(f"{run.path} has no weights yet: it was stopped before its first step")
    return recipe


__all__ = ["RECIPES", "Findings", "Recipe", "RecipeError", "build", "load_run"]
