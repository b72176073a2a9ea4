"""The page of an autoencoder."""

from scratchgen.recipes import judgements
from scratchgen.recipes.autoencoder import AutoencoderRecipe
from scratchgen.report.words.caption import Caption, Words, of_measure
from scratchgen.report.words.things import kind_of_images

LOSS = {
    "bernoulli": "L = E<sub>x</sub> Σ<sub>pixels</sub> [−x log x̂ − (1 − x) log(1 − x̂)]",
    "squared-error": "L = E<sub>x</sub> Σ<sub>pixels</sub> (x − x̂)²",
}


def words(recipe: AutoencoderRecipe) -> Words:
    c = recipe.config
    images, latent = kind_of_images(c), c["latent"]
    elements = recipe.sample_size
    names = "nats", "bernoulli"
    return Words(
        lead=(
            f"An autoencoder squeezes {images} of {elements:,} elements into a code of {latent} and rebuilds them "
            "from that alone. It is judged by test images, on which it was not trained."
        ),
        sheet=Caption(
            title=f"Test {images} and their reconstructions",
            what=(
                f"Above, test {images}, the first of each class where there are classes; below, what the decoder "
                f"makes of their codes. The same {images} in every epoch."
            ),
            formula="z = f(x), x̂ = g(z): f is the encoder, g the decoder",
            healthy=(
                "Each reconstruction is the same thing as the original above it. What is missing or blurred is what "
                f"{latent} elements do not hold."
            ),
            this_run=lambda epochs, measures: judgements.course(epochs, "test_mse", "The test error"),
            terms=("code",),
        ),
        panels={
            "loss": Caption(
                title="Loss",
                what="What training makes small, on the training images as it goes, and on the test images.",
                formula=LOSS[c["loss"]],
                healthy=(
                    "Both fall steeply, then slowly, and stay together. A test loss that turns and rises while the "
                    "training loss falls says that the training images are being memorised."
                ),
                this_run=lambda epochs, measures: judgements.course(epochs, "test_loss", "The test loss"),
                terms=names if c["loss"] == "bernoulli" else (),
            ),
            "test_mse": of_measure(
                "test_mse",
                title="Error of reconstruction",
                healthy=(
                    f"It falls below the line of PCA with {latent} components, which is measured when training ends, "
                    "and stays there. Autoencoders pass it after about ten epochs of some ten thousand images."
                ),
                this_run=lambda epochs, measures: (
                    judgements.beside_pca(epochs, c, measures) or judgements.course(epochs, "test_mse", "The error")
                ),
            ),
            "gradient": gradient(),
        },
        pictures={
            "reconstructions.png": Caption(
                title="From the best to the worst",
                what=(
                    "Test images in the order of their error: at the left the one that is reproduced best, at the "
                    "right the worst; below, the autoencoder and PCA with as many components."
                ),
                formula="x, g(f(x)), and μ + A Aᵀ (x − μ) with the principal axes A",
                healthy="The autoencoder is sharper than PCA, at the right too, where images are unusual.",
                this_run=lambda epochs, measures: judgements.beside_pca(epochs, c, measures),
                terms=("pca",),
            ),
            "codes.png": Caption(
                title="Codes of test images",
                what=(
                    "Each dot is the code of a test image, coloured by its class where there are classes; z₁ and z₂ "
                    "have the same scale."
                ),
                formula="z = f(x)",
                healthy=(
                    "Classes lie apart. Nothing in the loss holds the codes near 0 or leaves no holes between them: "
                    "where they lie, and how far they reach, is chance, so a point drawn at random may decode to "
                    "nothing. A VAE's KL term is what mends that."
                ),
                this_run=lambda epochs, measures: judgements.spread_of_codes(measures),
                terms=("code",),
            ),
        },
        measures=("pca",),
        epochs=f"The same test {images}, reconstructed as training went on.",
    )


def gradient() -> Caption:
    return of_measure(
        "gradient",
        title="Gradient",
        healthy=(
            "It falls at first and then stays within a factor of a few. Rising by powers of ten announces that "
            "training diverges: lower the learning rate. Falling to nothing means that nothing is learnt any more."
        ),
        this_run=lambda epochs, measures: judgements.norms(epochs, "gradient", "The norm"),
    )
