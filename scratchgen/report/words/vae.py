"""The page of a variational autoencoder."""

from scratchgen.recipes import judgements
from scratchgen.recipes.vae import VAERecipe
from scratchgen.report.words.autoencoder import gradient
from scratchgen.report.words.caption import Caption, Epochs, Measures, Words, of_measure
from scratchgen.report.words.things import kind_of_images


def words(recipe: VAERecipe) -> Words:
    c = recipe.config
    images, latent, beta = kind_of_images(c), c["latent"], c["beta"]
    weight = "" if beta == 1 else f"{beta:g} "

    def bound(epochs: Epochs, measures: Measures) -> str:
        return judgements.course(epochs, "test_loss", "The test loss", "nats")

    return Words(
        lead=(
            f"A variational autoencoder learns a density of {images}: draw a code z of {latent} elements from N(0, "
            "I), decode it, and there is a new image. Its encoder gives, for an image, not one code but a normal "
            "distribution of codes."
        ),
        sheet=Caption(
            title=f"Test {images}, reconstructions, and draws from N(0, I)",
            what=(
                f"First row: test {images}. Second: what the decoder makes of the means of their codes. Below: new "
                f"{images}, decoded from z drawn from N(0, I), always the same z."
            ),
            formula="x̂ = g(μ(x)); samples g(z), z ~ N(0, I)",
            healthy=(
                "Reconstructions keep what their originals are; samples look like data too. Both are somewhat "
                "blurred: g(z) is the mean of the pixels. Sharp reconstructions and bad samples mean that codes lie "
                "where N(0, I) rarely draws; samples that are all alike mean that z is ignored."
            ),
            this_run=lambda epochs, measures: judgements.used_dimensions(epochs, c),
            terms=("code", "prior"),
        ),
        panels={
            "loss": Caption(
                title="Loss" if beta != 1 else "Loss, −ELBO",
                what="What training makes small, on training images as it goes, and on test images.",
                formula=(f"L = −E<sub>q(z | x)</sub> log p(x | z) + {weight}KL(q(z | x) ‖ N(0, I))"),
                healthy=(
                    "Both fall steeply, then slowly, and stay together. A test loss that rises while the training "
                    "loss falls says that the training images are being memorised."
                ),
                this_run=bound,
                terms=("elbo", "nats"),
            ),
            "reconstruction": of_measure(
                "reconstruction",
                title="Its first term: reconstruction",
                healthy=(
                    "It falls as z comes to say more of the image, and is most of the loss. It cannot fall to 0 "
                    "where pixels are noise or grey."
                ),
                this_run=lambda epochs, measures: judgements.course(
                    epochs, "test_reconstruction", "The term of the test images", "nats"
                ),
            ),
            "kl": of_measure(
                "kl",
                title="Its second term: KL",
                healthy=(
                    "It rises from near 0 to some nats and stays: what it takes away from the loss by better "
                    "reconstruction is more than it adds. A KL that stays at 0 is posterior collapse."
                ),
                this_run=lambda epochs, measures: judgements.information(epochs, c),
            ),
            "gradient": gradient(),
            "active_units": of_measure(
                "active_units",
                title="Active latent units",
                healthy=(
                    "It rises and then stays; with many dimensions some usually stay unused, since a dimension that "
                    "says less than it costs in KL is switched off. None at all is posterior collapse."
                ),
                this_run=lambda epochs, measures: judgements.used_dimensions(epochs, c),
            ),
        },
        pictures={
            "variances": Caption(
                title="What each latent dimension holds",
                what="How much the mean of the code varies over the test images, for each latent dimension.",
                formula="Var<sub>x</sub>(μ<sub>j</sub>(x)), on a logarithmic scale, the largest first",
                healthy=(
                    "Used dimensions are near 1, as the prior's variance is 1 and the rest of it is σ²; unused ones "
                    "fall far below the line at 0.01. Nothing in between is common."
                ),
                this_run=lambda epochs, measures: judgements.active_by_variance(measures),
                terms=("active",),
            ),
            "codes.png": Caption(
                title="Codes of test images",
                what=(
                    "Each dot is the mean of a test image's code, coloured by its class where there are classes; the "
                    "circles are those of the prior. z₁ and z₂ have the same scale."
                ),
                formula="μ(x); N(0, I) has 39 % within 1σ and 86 % within 2σ",
                healthy=(
                    "The dots fill the circles about as N(0, I) does, a little more narrowly, without holes: then a "
                    "z drawn from the prior lies where the decoder has learnt. Classes lie apart and touch."
                ),
                this_run=lambda epochs, measures: judgements.codes_in_prior(measures),
                terms=("code", "prior"),
            ),
            "plane.png": Caption(
                title="The latent plane",
                what=(
                    "Images decoded from a grid of codes. The grid is even in probability: each image stands "
                    "for the same share of N(0, I), so that z is dense near 0 and wide at the rim, as the axes show."
                ),
                formula="g(z), with z₁ and z₂ at the quantiles Φ<sup>−1</sup>((i + ½)/n)",
                healthy="Neighbours look alike, and one kind turns into another without a break.",
                this_run=lambda epochs, measures: judgements.information(epochs, c),
                terms=("prior",),
            ),
        },
        measures=("elbo", "kl", "nats", "gap", "active"),
        epochs=f"The same test {images} and the same draws of z, as training went on.",
    )
