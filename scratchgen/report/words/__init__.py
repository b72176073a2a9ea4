"""What the page of each model says."""

from scratchgen.recipes import Recipe
from scratchgen.recipes.autoencoder import AutoencoderRecipe
from scratchgen.recipes.gan import GANRecipe, PointGANRecipe
from scratchgen.recipes.vae import VAERecipe
from scratchgen.report.words import autoencoder, gan, points, vae
from scratchgen.report.words.caption import Caption, Words
from scratchgen.report.words.terms import TERMS


def words_of(recipe: Recipe) -> Words:
    """The words for a recipe's page."""
    if isinstance(recipe, AutoencoderRecipe):
        return autoencoder.words(recipe)
    if isinstance(recipe, VAERecipe):
        return vae.words(recipe)
    if isinstance(recipe, PointGANRecipe):
        return points.words(recipe)
    assert isinstance(recipe, GANRecipe)
    return gan.words(recipe)


__all__ = ["TERMS", "Caption", "Words", "words_of"]
