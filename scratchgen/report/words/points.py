"""The page of a GAN of points in the plane."""

from scratchgen.recipes import judgements
from scratchgen.recipes.gan import PointGANRecipe
from scratchgen.report.words.caption import Caption, Epochs, Measures, Words, of_measure
from scratchgen.report.words.game import captions, noise

SHAPES = {"ring": "the ring of points", "grid": "the grid of points", "moons": "the two moons"}


def words(recipe: PointGANRecipe) -> Words:
    c, modes = recipe.config, recipe.modes
    shape = SHAPES.get(c["data"], "the points")
    d, _, _ = judgements.equilibrium(c)
    even = "½" if d == 0.5 else f"{d:g}"

    def this_run(epochs: Epochs, measures: Measures) -> str:
        return judgements.covered(epochs, c, modes) or judgements.game(epochs, c)

    return Words(
        lead=(
            f"Two networks play for {shape}: the generator G turns noise into points of the plane, the discriminator "
            "D tells them from data. In two dimensions one sees the whole game, D's surface included."
        ),
        sheet=Caption(
            title=f"{shape[0].upper()}{shape[1:]}: samples over data and D's surface",
            what=(
                "Red, 2,500 samples, from the same noise in every epoch; blue, test points; below them D's "
                "surface, from red, where D is sure of samples, over white to blue, where it is sure of data."
            ),
            formula=f"G(z), {noise(recipe)}; D(x) = σ(logit)",
            healthy=(
                f"Red covers blue and nothing else, and D is pale, {even}, where the points are. Far from all points "
                "D was never trained, and what it says there means nothing."
            ),
            this_run=this_run,
            terms=("equilibrium",),
        ),
        panels={
            **captions(recipe),
            "modes": of_measure(
                "modes",
                title="Modes covered",
                healthy=f"It rises to {modes} within some epochs and stays. Losing modes again is mode collapse.",
                this_run=lambda epochs, measures: judgements.covered(epochs, c, modes),
            ),
            "high_quality": of_measure(
                "high_quality",
                title="High quality",
                healthy="It rises towards the line; what is missing lies on the way from one mode to the next.",
                this_run=lambda epochs, measures: judgements.quality(epochs, c),
            ),
        },
        pictures={
            "modes": Caption(
                title="Samples of each mode",
                what="How many of 2,500 samples are within 3σ of each centre; counted along the data's own order.",
                formula="#{z : ‖G(z) − c<sub>k</sub>‖ ≤ 3σ}",
                healthy="Bars of about the same height, near the line. An empty one is a mode that is missing.",
                this_run=lambda epochs, measures: judgements.evenness(measures),
                terms=("modes",),
            ),
        },
        measures=("modes", "quality", "reverse_kl") if modes else (),
        epochs="The same noise, as training went on.",
    )
