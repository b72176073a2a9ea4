"""The proofs of losses and of what they are made of."""

from typing import Any

import numpy as np

from scratchgen import losses
from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.exercises.prove import Case, Gradients, Known, contained_proof, not_finite, proof
from scratchgen.functions import sigmoid, softmax

LARGE = np.array([[-1e4, -700.0, -30.0], [30.0, 700.0, 1e4]])  # logits


@contained_proof
def mse(module: Any, rng: np.random.Generator) -> Result:
    y, target = rng.standard_normal((2, 5, 3))
    return proof(rng, Case(module.mse, (y, target), losses.mse(y, target)[0], "1/N Σ (y − t)²", constant=(1,)))


@contained_proof
def logistic_loss(module: Any, rng: np.random.Generator) -> Result:
    logits, target = rng.standard_normal((5, 3)), rng.random((5, 3))
    loss, _ = losses.bce_with_logits(logits, target)

    def known(dy: Array, given: Gradients) -> Known:
        p = sigmoid(logits)
        return {
            "a factor σ′ = p (1 − p) is too much, and vanishes where p is sure, right or wrong: it cancels against "
            "the derivative of the logarithm": {"dlogits": (p - target) * p * (1 - p) / len(p)},
        }

    result = proof(rng, Case(module.logistic_loss, (logits, target), loss, "1/N Σ [log(1 + eˢ) − t s]", known, (1,)))
    if _asks_for_large(result):
        _, dlogits = module.logistic_loss(LARGE, (LARGE < 0).astype(float))
        result.add(_at_large("dlogits", dlogits, LARGE, np.ones(LARGE.shape, bool)))
    return result


@contained_proof
def cross_entropy(module: Any, rng: np.random.Generator) -> Result:
    logits, labels = rng.standard_normal((5, 3)), np.array([2, 0, 2, 1, 2])
    loss, right = losses.softmax_cross_entropy(logits, labels)

    def known(dy: Array, given: Gradients) -> Known:
        p, t, N = softmax(logits), np.eye(3)[labels], len(logits)
        twice = "p − t goes back through softmax a second time: with the logarithm that is done already"
        return {
            "the term of the label is missing, −1/N at the label of each row": {"dlogits": p / N},
            "only the logit of the label gets a gradient: those of the other classes get p / N": {
                "dlogits": (p - t) * t / N
            },
            twice: {"dlogits": p * (right - (right * p).sum(axis=1, keepdims=True))},
            f"{twice}, and there by its diagonal": {"dlogits": p * (1 - p) * right},
        }

    return proof(rng, Case(module.cross_entropy, (logits, labels), loss, "−1/N Σ log p of the labels", known))


@contained_proof
def gaussian_kl(module: Any, rng: np.random.Generator) -> Result:
    mu, logvar = rng.standard_normal((2, 5, 3))
    loss, _, _ = losses.gaussian_kl(mu, logvar)

    def known(dy: Array, given: Gradients) -> Known:
        return {
            "it has exp(½ logvar), the standard deviation, in the place of the variance, exp(logvar)": {
                "dlogvar": 0.5 * (np.exp(0.5 * logvar) - 1) / len(mu)
            },
            "it is the gradient with respect to the variance, not to its logarithm: ∂σ²/∂logvar = σ² is missing": {
                "dlogvar": 0.5 * (1 - np.exp(-logvar)) / len(mu)
            },
        }

    return proof(rng, Case(module.gaussian_kl, (mu, logvar), loss, "1/N Σ ½ (mu² + σ² − 1 − logvar)", known))


@contained_proof
def reparameterise(module: Any, rng: np.random.Generator) -> Result:
    mu, logvar, eps = rng.standard_normal((3, 5, 4))
    std = np.exp(0.5 * logvar)

    def known(dy: Array, given: Gradients) -> Known:
        return {
            "the noise eps is missing: ∂z/∂logvar = eps · ½ σ": {"dlogvar": dy * 0.5 * std},
            "σ is missing: ∂σ/∂logvar = ½ σ": {"dlogvar": dy * eps * 0.5},
        }

    formula = "z = mu + σ eps with σ = exp(½ logvar)"
    return proof(rng, Case(module.reparameterise, (mu, logvar, eps), mu + std * eps, formula, known, (2,), ("z",)))


@contained_proof
def vae(module: Any, rng: np.random.Generator) -> Result:
    model, x, eps = module.LinearVAE(4, 2), rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    E, V = 0.5 * rng.standard_normal((4, 4)), rng.standard_normal((2, 4))
    model.E.value, model.V.value = E, V
    N, (mu, logvar) = len(x), np.split(x @ E, 2, axis=1)
    std = np.exp(0.5 * logvar)
    r = (mu + std * eps) @ V - x
    kl, dmu, dlogvar = losses.gaussian_kl(mu, logvar)

    def known(dy: Array, given: Gradients) -> Known:
        dz = r @ V.T / N

        def by(dmu: Array, dlogvar: Array) -> Gradients:
            return {"E.grad": x.T @ np.concatenate([dmu, dlogvar], axis=1)}

        return {
            "the KL is in the loss, and missing in the gradient": by(dz, dz * eps * 0.5 * std),
            "the KL is missing in dmu: mu moves the KL, too": by(dz, dz * eps * 0.5 * std + dlogvar),
            "the KL is missing in dlogvar: logvar moves the KL, too": by(dz + dmu, dz * eps * 0.5 * std),
            "the reconstruction is missing in dmu: mu moves it, too, through the sample z": by(
                dmu, dz * eps * 0.5 * std + dlogvar
            ),
            "the reconstruction is missing in dlogvar: logvar moves it, too, through σ and the sample z": by(
                dz + dmu, dlogvar
            ),
            "the halves are exchanged: the first columns of h are mu and the others logvar, so [dmu, dlogvar]": by(
                dz * eps * 0.5 * std + dlogvar, dz + dmu
            ),
            "only the KL is in it: mu and logvar move the reconstruction, too, through the sample z": by(
                dmu, dlogvar
            ),
            "a ½ is missing in dlogvar: σ = exp(½ logvar), so ∂σ/∂logvar = ½ σ": by(
                dz + dmu, dz * eps * std + dlogvar
            ),
            "the noise eps is missing in dlogvar": by(dz + dmu, dz * 0.5 * std + dlogvar),
            "it is muᵀ dy: the decoder gets the sample z, not the mean mu": {"V.grad": mu.T @ r / N},
        }

    loss = 0.5 * (r * r).sum() / N + kl
    return proof(rng, Case(model.loss, (x, eps), loss, "1/N Σ [½ |y − x|² + KL]", known, (0, 1)))


# --- GANs ---


@contained_proof
def gan_discriminator(module: Any, rng: np.random.Generator) -> Result:
    real, fake = rng.standard_normal((6, 1)), rng.standard_normal((4, 1))
    N, M = len(real), len(fake)

    def known(dy: Array, given: Gradients) -> Known:
        other = "it is divided by the batch size of the {} images: each term is averaged over its own batch"
        return {
            "it is the gradient for the label 0: real images have the label 1": {"dreal": sigmoid(real) / N},
            "it is the gradient for the label 1: generated images are labelled real, as the real ones are": {
                "dfake": (sigmoid(fake) - 1) / M
            },
            other.format("generated"): {"dreal": (sigmoid(real) - 1) / M},
            other.format("real"): {"dfake": sigmoid(fake) / N},
        }

    loss = np.logaddexp(0, -real).mean() + np.logaddexp(0, fake).mean()
    formula = "1/N Σ log(1 + e^−real) + 1/M Σ log(1 + e^fake)"
    result = proof(rng, Case(module.discriminator_loss, (real, fake), loss, formula, known))
    if _asks_for_large(result):
        s = LARGE.reshape(-1, 1)
        _, dreal, dfake = module.discriminator_loss(s, s)
        result.add(_at_large("dreal", dreal, s, s < 0) + _at_large("dfake", dfake, s, s > 0))
    return result


@contained_proof
def gan_generator(module: Any, rng: np.random.Generator) -> Result:
    fake = rng.standard_normal((5, 1))

    def known(dy: Array, given: Gradients) -> Known:
        p, N = sigmoid(fake), len(fake)
        return {
            "it is the gradient of the minimax form, log(1 − σ(fake)), which saturates where D is sure": {
                "dfake": -p / N
            },
            "it is the discriminator's gradient, for the label 0: G would learn to be recognised": {"dfake": p / N},
        }

    loss = np.logaddexp(0, -fake).mean()
    result = proof(rng, Case(module.generator_loss, (fake,), loss, "1/N Σ log(1 + e^−fake)", known))
    if _asks_for_large(result):
        s = LARGE.reshape(-1, 1)
        result.add(_at_large("dfake", module.generator_loss(s)[1], s, s < 0))
    return result


def _asks_for_large(result: Result) -> bool:
    """Whether it is right, or wrong at large logits alone."""
    return result.ok or "wrong with large inputs" in " ".join(result.faults)


def _at_large(name: str, gradient: Any, logits: Array, wrong: Array) -> list[str]:
    """What is wrong at large logits, where the gradient is to be ±1/N for those that are `wrong`."""
    if faults := not_finite(name, gradient, logits, "a logit"):
        return faults
    dead = wrong & (np.abs(np.asarray(gradient)) * len(logits) < 0.5)
    if not dead.any():
        return []
    return [
        f"{name} is 0 where the logit is {logits[dead][0]:g} and wrong: it is ±1/N there; here it vanishes, or is "
        "clipped away, and nothing is learned from such a sample"
    ]
