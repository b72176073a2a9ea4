"""What is measured: what each measure is called, what it says, and which of two values is the better."""

from collections.abc import Sequence
from dataclasses import dataclass

OBJECTIVE = ("model", "loss", "likelihood", "beta", "binarise")  # what a loss is of
DENSITY = ("model", "likelihood", "binarise")  # what a density of pixels is of
GAME = "A lower one is not a better model: it depends on the other network as well."
G_LOSS = {
    "non-saturating": "L<sub>G</sub> = −E log D(G(z))",
    "minimax": "L<sub>G</sub> = E log(1 − D(G(z)))",
}
NATS, NORM = "nats per image", "norm of the gradient"
UNSEEN = "on images that were not trained on."


@dataclass(frozen=True)
class Measure:
    """`what` and `formula` are HTML."""

    title: str
    unit: str = ""
    what: str = ""
    formula: str = ""
    better: str = ""  # "lower", "higher", or neither
    depends: Sequence[str] = ()  # settings that change what is measured: with others of them it is another measure
    terms: Sequence[str] = ()  # of `terms.py`, which it uses
    log: bool = False


MEASURES = {
    "loss": Measure(
        "training loss",
        "per image",
        "What training makes small, on the training images as it goes.",
        better="lower",
        depends=(*OBJECTIVE, "augment"),
    ),
    "test_loss": Measure("test loss", "per image", f"The same loss {UNSEEN}", better="lower", depends=OBJECTIVE),
    "test_mse": Measure(
        "test error",
        "squared error per pixel",
        "How far reconstructions of test images are from the originals.",
        "E<sub>x</sub> (1/pixels) Σ<sub>pixels</sub> (x − x̂)², with pixels from 0 to 1",
        better="lower",
    ),
    "pca_test_mse": Measure("test error of PCA", terms=("pca",)),
    "ratio": Measure("test error / that of PCA", better="lower", terms=("pca",)),
    "reconstruction": Measure(
        "reconstruction term",
        NATS,
        "How badly the decoder predicts the pixels of an image from a z drawn for it by the encoder.",
        "−E<sub>q(z | x)</sub> log p(x | z)",
        better="lower",
        depends=DENSITY,
        terms=("nats",),
    ),
    "kl": Measure(
        "KL term",
        NATS,
        "How much the encoder says of an image by its z: what each code costs.",
        "KL(q(z | x) ‖ N(0, I)) = ½ Σ<sub>j</sub> (μ<sub>j</sub>² + σ<sub>j</sub>² − 1 − log σ<sub>j</sub>²)",
        terms=("kl", "collapse"),
    ),
    "test_reconstruction": Measure(
        "test reconstruction term",
        NATS,
        f"The same term {UNSEEN}",
        better="lower",
        depends=DENSITY,
        terms=("nats",),
    ),
    "test_kl": Measure("test KL term", NATS, f"The same term {UNSEEN}", terms=("kl", "collapse")),
    "negative_elbo": Measure("−ELBO", NATS, better="lower", depends=DENSITY, terms=("elbo",)),
    "importance_weighted_nll": Measure(
        "importance-weighted NLL", NATS, better="lower", depends=DENSITY, terms=("gap",)
    ),
    "active_units": Measure(
        "active latent units",
        "latent dimensions",
        "How many of the latent dimensions the model uses, by the test images.",
        "#{j : Var<sub>x</sub>(μ<sub>j</sub>(x)) &gt; 0.01}",
        terms=("active", "collapse"),
    ),
    "gradient": Measure(
        "gradient norm",
        NORM,
        "How steep the loss is in all weights together, on a logarithmic scale.",
        "‖∂L/∂θ‖, the mean over steps",
        terms=("gradient",),
        log=True,
    ),
    **{
        f"{player.lower()}_gradient": Measure(
            f"gradient norm of {player}",
            NORM,
            f"How steep {player}'s loss is in its own weights, on a logarithmic scale.",
            f"‖∂L<sub>{player}</sub>/∂θ<sub>{player}</sub>‖",
            terms=("gradient",),
            log=True,
        )
        for player in "DG"
    },
    "d_loss": Measure(
        "discriminator loss",
        "nats per sample",
        f"What D makes small. {GAME}",
        "L<sub>D</sub> = −E log D(x) − E log(1 − D(G(z))); with label smoothing s its first term is "
        "−E [(1 − s) log D(x) + s log(1 − D(x))]",
        depends=("smoothing",),
        terms=("equilibrium", "nats"),
    ),
    "g_loss": Measure(
        "generator loss",
        "nats per sample",
        f"What G makes small. {GAME}",
        f"{G_LOSS['non-saturating']}; minimax: {G_LOSS['minimax']}",
        depends=("loss",),
        terms=("equilibrium", "nats"),
    ),
    **{
        f"D({x})": Measure(
            f"D({x})",
            "probability of being real",
            f"The probability of being real that D gives, on average, to {what}.",
            f"E D({x}), D = σ(logit)",
            terms=("equilibrium",),
        )
        for x, what in (("x", "data"), ("G(z)", "samples"))
    },
    "modes": Measure(
        "modes covered",
        "modes",
        "How many of the normal distributions that make up the data are reached by 2,500 samples.",
        "#{k : min<sub>z</sub> ‖G(z) − c<sub>k</sub>‖ ≤ 3σ}",
        better="higher",
        terms=("modes", "collapse_of_modes"),
    ),
    "high_quality": Measure(
        "high quality",
        "share of the samples",
        "The share of 2,500 samples that lie where data do.",
        "P(min<sub>k</sub> ‖G(z) − c<sub>k</sub>‖ ≤ 3σ)",
        better="higher",
        terms=("quality",),
    ),
    "reverse_kl": Measure(
        "reverse KL",
        "nats",
        "How unevenly the samples are spread over the modes.",
        "Σ<sub>k</sub> p<sub>k</sub> log(K p<sub>k</sub>)",
        better="lower",
        terms=("reverse_kl",),
    ),
    "frechet": Measure(
        "Fréchet distance",
        "distance",
        "How far samples are from test images, in the features of a classifier of these data.",
        "|μ<sub>1</sub> − μ<sub>2</sub>|² + tr(Σ<sub>1</sub> + Σ<sub>2</sub> − 2 (Σ<sub>1</sub>Σ<sub>2</sub>)"
        "<sup>½</sup>)",
        better="lower",
        terms=("frechet",),
    ),
    "smallest_share": Measure(
        "smallest share of a class",
        "share",
        "Of the samples, as a classifier of these data sees them.",
        better="higher",
    ),
    "confident": Measure("confident share", "share", better="higher", terms=("confident",)),
}


def measure_of(key: str) -> Measure:
    """What is known of a measure by its key in the records."""
    return MEASURES.get(key) or Measure(key.replace("_", " ").replace(".", " "))
