"""The page of a GAN of images."""

from scratchgen.recipes import judgements
from scratchgen.recipes.gan import GANRecipe
from scratchgen.report.words.caption import Caption, Words, of_measure
from scratchgen.report.words.game import captions, noise
from scratchgen.report.words.things import kind_of_images


def words(recipe: GANRecipe) -> Words:
    c = recipe.config
    images = kind_of_images(c)
    return Words(
        lead=(
            f"Two networks play: the generator G makes {images} of noise, the discriminator D tells them from data. "
            f"G never sees the data; all it learns comes through D's gradient."
        ),
        sheet=Caption(
            title="Samples from the same noise",
            what=f"{images.capitalize()} that G makes of {recipe.shown} draws of z, the same in every epoch.",
            formula=f"G(z), {noise(recipe)}",
            healthy=(
                f"They look like the {images} of the data, and differ from each other as these do. Many that are "
                "alike are mode collapse; a pattern of squares is left by transposed convolutions early in training."
            ),
            this_run=lambda epochs, measures: judgements.classes_made(measures) or judgements.game(epochs, c),
            terms=("collapse_of_modes",),
        ),
        panels={
            **captions(recipe),
            "frechet": of_measure(
                "frechet",
                title="Fréchet distance",
                healthy="It falls towards the line, which is what two halves of the test images have between them.",
                this_run=lambda epochs, measures: judgements.course(epochs, "frechet", "The distance"),
            ),
        },
        pictures={
            "classes": Caption(
                title="Classes of the samples",
                what="What a classifier of these data takes the samples for.",
                formula="share of samples whose most probable class is k, in %",
                healthy="About as many of each as the data have; classes that are missing are mode collapse.",
                this_run=lambda epochs, measures: judgements.classes_made(measures),
                terms=("collapse_of_modes",),
            ),
            "neighbours.png": Caption(
                title="Samples and the training images nearest to them",
                what="Above, samples; below each, the training image that is nearest to it.",
                formula="argmin<sub>x</sub> ‖G(z) − x‖ over all training images",
                healthy="They resemble each other and are not the same: G has learnt the kind, not the images.",
                this_run=lambda epochs, measures: judgements.copies(measures),
                terms=("nearest",),
            ),
        },
        measures=("frechet", "confident", "nearest"),
        epochs="The same draws of z, as training went on.",
    )
