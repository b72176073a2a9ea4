"""Bugs of objectives: the backward is right, and what it is the backward of is wrong.

All but those said to be caught by "gradient" pass a gradient check of the whole model.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from scratchgen.gradcheck.gallery import games, vaes
from scratchgen.gradcheck.gallery.bug import Bug, Case
from scratchgen.gradcheck.grid import randomised

GITHUB = "https://github.com/"


def _case(wrong: Callable, right: Callable, rng: np.random.Generator) -> Case:
    """Both models, with the same parameters, drawn away from their initial values."""
    seed = int(rng.integers(2**32))
    models = []
    for build in (wrong, right):
        own = np.random.default_rng(seed)
        models.append(randomised(build(own), own))
    return Case(*models)


def _vae(wrong: type, right: type = vaes.TinyVAE, **options: Any) -> dict[str, Any]:
    """How to make and train a VAE and its counterpart."""
    return {
        "make": partial(_case, wrong, right),
        "train": lambda bug: vaes.trained((wrong if bug else right)(np.random.default_rng(0)), **options),
        "measure": SURPRISE,
    }


def _game(wrong: type, right: type = games.TinyGAN, **options: Any) -> dict[str, Any]:
    """How to make and train a GAN and its counterpart."""
    return {
        "make": partial(_case, wrong, right),
        "train": lambda bug: games.trained((wrong if bug else right)(np.random.default_rng(0)), **options),
        "measure": APART,
    }


def _critic(wrong: type, right: type, by: float = 4.0) -> dict[str, Any]:
    """The same of a critic with a penalty on its slope, which starts too steep."""
    return {
        "make": partial(_case, wrong, right),
        "train": lambda bug: games.trained(games.steep((wrong if bug else right)(np.random.default_rng(0)), by)),
        "measure": SLOPE,
    }


def _penalty(wrong: Callable, right: Callable, rng: np.random.Generator, flat: bool = False) -> Case:
    """The penalties of a critic, and a batch for them; of a `flat` critic, whose gradient is 0."""
    models = _case(wrong, right, rng)
    for model in (models.wrong, models.right):
        for p in model.discriminator.parameters() if flat else ():
            p.value = np.zeros_like(p.value)
    real, fake = rng.standard_normal((2, 4, 2, 2, 2))
    return Case(models.wrong.gradient_penalty, models.right.gradient_penalty, (real, fake, rng.random((4, 1, 1, 1))))


def _bug(
    name: str,
    title: str,
    right: str,
    wrong: str,
    symptom: str,
    cause: str,
    *sources: str,
    make: Callable[[np.random.Generator], Case],
    train: Callable[[bool], list[float]],
    measure: str,
    caught_by: Literal["gradient", "objective"] = "objective",
) -> Bug:
    addresses = tuple(GITHUB + source for source in sources)
    return Bug(name, title, right, wrong, symptom, addresses, caught_by, cause, make, train, measure)


def _parts(rng: np.random.Generator) -> Case:
    return Case(games.wasserstein_negated, games.wasserstein, tuple(rng.standard_normal((2, 5, 1))))


SURPRISE = "−log p(x) of the data"  # which a model's own loss does not show
APART = "the distance of fakes from the data"
SLOPE = "the critic's slope between real and fake"  # should be 1

NO_GRADIENT = partial(_penalty, games.PenaltyWithoutGradient, games.WGANGP)
FLAT = partial(_penalty, games.PenaltyNaN, games.WGANGP, flat=True)

BUGS: tuple[Bug, ...] = (
    _bug(
        "sample-logvar",
        "VAE: the sample takes e^logvar for σ, the KL for σ²",
        "z = mu + e^(½ logvar) · eps",
        "z = mu + e^logvar · eps",
        "The loss falls as ever; the model is a little worse than it could be.",
        r"z is drawn with variance σ², but the KL has the variance σ:",
        "oreilly-japan/deep-learning-from-scratch-3/blob/master/examples/vae.py",
        "keras-team/keras/issues/3283",
        **_vae(vaes.SampleOfLogvar),
    ),
    _bug(
        "kl-averaged",
        "VAE: the KL is averaged over the latent dimensions",
        "KL = ½ Σ_j (mu² + σ² − 1 − log σ²)",
        "KL = ½ mean_j (mu² + σ² − 1 − log σ²)",
        "A β-VAE with β = 1/d that nobody asked for: sharp reconstructions, poor samples.",
        r"averaged over the 3 latent dimensions",
        "keras-team/keras-io/issues/270",
        "mkusner/grammarVAE/issues/2",
        **_vae(vaes.KLAveraged),
    ),
    _bug(
        "reconstruction-of-batch",
        "VAE: the reconstruction is summed over the batch, the KL is per sample",
        "L = 1/N Σ_n [−log p(x_n|z_n) + KL_n]",
        "L = Σ_n −log p(x_n|z_n) + 1/N Σ_n KL_n",
        "The KL counts N times too little, and a larger batch makes it worse.",
        r"a part of the loss is summed over the batch",
        "tensorflow/models/issues/2243",
        **_vae(vaes.ReconstructionOfTheBatch),
    ),
    _bug(
        "reconstruction-averaged",
        "VAE: the reconstruction is averaged over features, the KL is summed",
        "−log p(x|z) = Σ_i …",
        "−log p(x|z) = mean_i …",
        "The KL counts D times too much: codes collapse onto the prior, all images come out alike.",
        r"averaged over the 6 features",
        **_vae(vaes.ReconstructionAveraged),
    ),
    _bug(
        "kl-sign",
        "VAE: the KL is subtracted from the loss, as it is from the ELBO",
        "L = −log p(x|z) + KL",
        "L = −log p(x|z) − KL",
        "The loss falls without end, for means far from 0 are rewarded.",
        r"sign of the KL",
        **_vae(vaes.KLRewarded, steps=150),
    ),
    _bug(
        "kl-without-log",
        "VAE: the KL lacks −log σ²",
        "KL = ½ Σ (mu² + σ² − 1 − log σ²)",
        "KL = ½ Σ (mu² + σ² − 1)",
        "σ goes to 0: an autoencoder with weight decay on its code.",
        r"lacks its term in log σ²",
        **_vae(vaes.KLWithoutLogarithm),
    ),
    _bug(
        "kl-reversed",
        "VAE: the KL has its arguments exchanged",
        "KL(q ‖ p) = ½ Σ (mu² + σ² − 1 − log σ²)",
        "KL(p ‖ q) = ½ Σ ((1 + mu²)/σ² − 1 + log σ²)",
        "It is 0 at the prior as well, but −L is no bound on log p(x), and q is drawn wide.",
        r"KL\(p ‖ q\) in the place of KL\(q ‖ p\)",
        **_vae(vaes.KLReversed),
    ),
    _bug(
        "no-noise",
        "VAE: the decoder gets mu, not a sample",
        "z = mu + σ · eps",
        "z = mu",
        "The loss is lower than with noise, and samples of the prior decode to nothing learned.",
        r"z does not depend on the noise",
        **_vae(vaes.NoNoise),
    ),
    _bug(
        "warm-up-stuck",
        "VAE: a warm-up of the KL's weight that stays where it began",
        "β = min(1, step/T), read in each step",
        "β read once, when the model was made: 0",
        "The loss is the reconstruction, and falls lower than with the KL.",
        r"the KL is not in the loss",
        **_vae(vaes.WarmUpStuck, vaes.WarmUp),
    ),
    _bug(
        "variance-without-log",
        "VAE: a learned variance of p(x|z) without its logarithm",
        "−log p(x|z) = ½ Σ [log 2πσ² + (x − y)²/σ²]",
        "−log p(x|z) = ½ Σ (x − y)²/σ²",
        "σ² grows without bound: the loss goes to 0, and nothing is reconstructed.",
        r"variance that logvar learns is in the loss without its logarithm",
        **_vae(vaes.LearnedVarianceWithoutLogarithm, vaes.LearnedVariance),
    ),
    _bug(
        "iwae-weights",
        "IWAE: Σ w̃ log w, differentiated through the weights w̃",
        "L_K = log 1/K Σ_k w_k, so ∇L_K = Σ_k w̃_k ∇log w_k",
        "Σ_k w̃_k log w_k, whose gradient has Σ_k log w_k ∇w̃_k besides",
        "The figure lies above the bound, and above log p(x), so that it looks better.",
        r"summed with their normalised weights",
        "AntixK/PyTorch-VAE/issues/34",
        **_vae(vaes.IWAEOfWeightedLogarithms, vaes.IWAE, K=8, steps=150),
    ),
    _bug(
        "iwae-mean-log",
        "IWAE: the mean of logarithms, in the place of the logarithm of the mean",
        "L_K = log 1/K Σ_k w_k",
        "1/K Σ_k log w_k",
        "It trains well, as a VAE of K draws does, and no better however large K is.",
        r"mean of logarithms stands where",
        **_vae(vaes.IWAEOfMeanLogarithm, vaes.IWAE, K=8, steps=150),
    ),
    _bug(
        "both-real",
        "GAN: both batches are labelled real",
        "L_D = E softplus(−s(x)) + E softplus(s(G(z)))",
        "L_D = E softplus(−s(x)) + E softplus(−s(G(z)))",
        "D's loss goes to 0, which looks like a D that wins; G learns nothing.",
        r"swapping real and fake leaves D's loss",
        "eriklindernoren/Keras-GAN/issues/5",
        **_game(games.BothReal),
    ),
    _bug(
        "only-real",
        "GAN: D's loss has its real term alone",
        "L_D = E softplus(−s(x)) + E softplus(s(G(z)))",
        "L_D = E softplus(−s(x))",
        "As with both labelled real: D gives all samples a high score.",
        r"does not depend on the scores of fake samples",
        **_game(games.OnlyReal),
    ),
    _bug(
        "labelled-fake",
        "GAN: G's samples keep the label fake in G's own loss",
        "L_G = E softplus(−s(G(z)))",
        "L_G = E softplus(s(G(z)))",
        "Both losses go to 0 together, which looks like success: G helps D.",
        r"rises as D takes its samples for real",
        **_game(games.LabelledFake),
    ),
    _bug(
        "relativistic-twice",
        "Relativistic average GAN: each real sample against the mean fake, twice",
        "L_D = E softplus(−(s(x) − mean s(G))) + E softplus(s(G) − mean s(x))",
        "L_D = 2 E softplus(−(s(x) − mean s(G)))",
        "Fakes count by their mean alone, so that D tells no good one apart. It trains nearly as well.",
        r"flipping their signs changes",
        "AlexiaJM/RelativisticGAN/issues/2",
        **_game(games.RelativisticTwice, games.Relativistic),
    ),
    _bug(
        "wgan-upside-down",
        "WGAN: G minimises E D(G(z)), as its critic does",
        "L_G = −E s(G(z))",
        "L_G = E s(G(z))",
        "Both losses fall, and fakes run away from the data.",
        r"rises as D takes its samples for real",
        "Zeleni9/pytorch-wgan/pull/53",
        **_game(games.WGANUpsideDown, games.WGAN, clip=0.3),
    ),
    _bug(
        "wgan-negated",
        "WGAN: the loss's gradients are negated, and the caller swaps their names: the errors cancel",
        "ds_real = −1/N, ds_fake = 1/N",
        "ds_real = 1/N, ds_fake = −1/N, used one for the other",
        "The whole trains as it should as long as both batches have one size; the part is wrong.",
        r"sign|negat|−1 times|-1 times",
        "ddbourgin/numpy-ml/blob/master/numpy_ml/neural_nets/losses/losses.py",
        "ddbourgin/numpy-ml/blob/master/numpy_ml/neural_nets/models/wgan_gp.py",
        make=_parts,
        train=lambda bug: games.trained(games.WGAN(np.random.default_rng(0)), clip=0.3),
        measure=APART,
        caught_by="gradient",
    ),
    _bug(
        "penalty-alpha-elements",
        "WGAN-GP: an α for each element, not one for each sample",
        "x̂ = α x + (1 − α) G(z), α of shape (N, 1, 1, 1)",
        "α of shape (N, H, W, C)",
        "x̂ lies in the box between the two samples, not on the line. It trains much the same.",
        r"α differs from element to element",
        "eriklindernoren/PyTorch-GAN/issues/5",
        **_critic(games.AlphaOfElements, games.DrawsAlpha),
    ),
    _bug(
        "penalty-alpha-normal",
        "WGAN-GP: α is drawn from N(0, 1)",
        "α uniform on [0, 1]",
        "α ~ N(0, 1)",
        "The slope is held far outside of data and fakes, too. It trains much the same.",
        r"α is not within \[0, 1\]",
        "keras-team/keras-io/issues/624",
        **_critic(games.AlphaNormal, games.DrawsAlpha),
    ),
    _bug(
        "penalty-alpha-batch",
        "WGAN-GP: one α for the whole batch",
        "α of shape (N, 1, 1, 1)",
        "α of shape (1, 1, 1, 1)",
        "Each step holds the slope at one distance alone. It trains much the same.",
        r"all samples have one α",
        **_critic(games.AlphaOfBatch, games.DrawsAlpha),
    ),
    _bug(
        "penalty-at-real",
        "WGAN-GP: the penalty is taken at real samples alone",
        "x̂ = α x + (1 − α) G(z)",
        "x̂ = x",
        "The slope is free where G's samples are.",
        r"x̂ is the real sample itsel",
        "labmlai/annotated_deep_learning_paper_implementations/blob/master/labml_nn/gan/wasserstein/"
        "gradient_penalty/experiment.py",
        **_critic(games.PenaltyAtRealSamples, games.WGANGP),
    ),
    _bug(
        "penalty-channels",
        "WGAN-GP: the norm is over the channels, not over all elements of a sample",
        "‖g‖ over H, W and C",
        "‖g‖ over C: one norm for each pixel",
        "Each pixel is held to slope 1, and so an image to √(H·W).",
        r"over the channels of each pixel",
        "caogang/wgan-gp/issues/56",
        **_critic(games.NormOfChannels, games.WGANGP),
    ),
    _bug(
        "penalty-sigmoid",
        "WGAN-GP: the penalty of σ(s), D's probability, not of s",
        "E (‖∇s(x̂)‖ − 1)²",
        "E (‖∇σ(s(x̂))‖ − 1)²",
        "σ′ is at most ¼, so that s is driven to a slope far above 1.",
        r"that of σ\(score\)",
        "hwalsuklee/tensorflow-generative-model-collections/issues/14",
        **_critic(games.PenaltyOfSigmoid, games.WGANGP),
    ),
    _bug(
        "penalty-no-gradient",
        "WGAN-GP: the penalty is in the value of the loss, and has no gradient",
        "dθ of λ E (‖∇s(x̂)‖ − 1)²",
        "0",
        "λ has no effect, and the critic's slope is free.",
        r"zero everywhere|never adds|has no gradient",
        "mlpack/mlpack/issues/3063",
        "ooples/AiDotNet/issues/1844",
        **{**_critic(games.PenaltyWithoutGradient, games.WGANGP), "make": NO_GRADIENT},
        caught_by="gradient",
    ),
    _bug(
        "penalty-nan",
        "WGAN-GP: g/‖g‖ where the critic's gradient is 0",
        "g/‖g‖, and 0 where g = 0",
        "g/‖g‖ = 0/0",
        "All is well until the critic is flat at one x̂, as where every ReLU is off: then all is NaN.",
        r"not finite|NaN",
        "keras-team/keras-io/issues/910",
        **{**_critic(games.PenaltyNaN, games.WGANGP, by=0), "make": FLAT},
        caught_by="gradient",
    ),
)
