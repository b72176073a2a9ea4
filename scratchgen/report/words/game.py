"""What the pages of all GANs say of their game."""

from scratchgen.recipes import judgements
from scratchgen.recipes.gan import Game
from scratchgen.report.words.caption import Caption
from scratchgen.report.words.measures import G_LOSS, MEASURES


def captions(recipe: Game) -> dict[str, Caption]:
    """Of the panels that every GAN has."""
    c = recipe.config
    d, d_loss, g_loss = judgements.equilibrium(c)
    t = 1 - c["smoothing"]
    real = "−E log D(x)" if t == 1 else f"−E [{t:g} log D(x) + {1 - t:g} log(1 − D(x))]"
    even = "½" if d == 0.5 else f"{t:g}/2 = {d:g}"
    terms = ("equilibrium", "nats") if t == 1 else ("equilibrium", "smoothing", "nats")
    return {
        "d_loss": Caption(
            title="Losses of the two players",
            what="What D and G each make small. They are not to fall together: what one wins the other loses.",
            formula=f"L<sub>D</sub> = {real} − E log(1 − D(G(z))); {G_LOSS[c['loss']]}",
            healthy=(
                f"Both stay about the dashed lines, where D can only guess: L<sub>D</sub> = {d_loss:.3f}, "
                f"L<sub>G</sub> = {judgements.number(g_loss)}. With images D usually stays ahead, below its line, "
                "and G above. L<sub>D</sub> near 0 with L<sub>G</sub> rising means that D has won. Low losses alone "
                "do not say that samples are good."
            ),
            this_run=lambda epochs, measures: judgements.losses_of_the_game(epochs, c),
            terms=terms,
        ),
        "D(x)": Caption(
            title="What D says",
            what="The probability of being real that D gives, on average, to data and to samples.",
            formula="E D(x) and E D(G(z)), D = σ(logit)",
            healthy=(
                f"D(x) above D(G(z)), both drawing near to {even} as samples become like data. D(x) at 1 and D(G(z)) "
                "at 0 leave G without a gradient worth following."
            ),
            this_run=lambda epochs, measures: judgements.game(epochs, c),
            terms=("equilibrium",),
        ),
        "d_gradient": Caption(
            title="Gradients",
            what="How steep each player's loss is in its own weights, on a logarithmic scale.",
            formula=f"{MEASURES['d_gradient'].formula} and {MEASURES['g_gradient'].formula}, means over steps",
            healthy=(
                "Both stay within a factor of ten or so. G's at nothing while D is sure is the vanishing gradient of "
                "the minimax loss; both rising by powers of ten announces that training diverges."
            ),
            this_run=lambda epochs, measures: judgements.norms(epochs, "g_gradient", "The norm of G's gradient"),
            terms=("gradient",),
        ),
    }


def noise(recipe: Game) -> str:
    """The distribution of z, in a formula."""
    latent = recipe.config["latent"]
    prior = "N(0, I)" if recipe.config["prior"] == "normal" else "U[−1, 1]"
    return f"z ~ {prior}, of dimension {latent}"
