"""The check of an objective: what goes with which kind of model."""

from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.guard import contained, described
from scratchgen.gradcheck.objective import adversarial, batch, latent, reconstruction
from scratchgen.gradcheck.objective.findings import ObjectiveReport
from scratchgen.gradcheck.objective.specimen import Specimen, specimen_of
from scratchgen.gradcheck.objective.standin import CannotStandIn, affine, answer_of, check_shape, constant


def objective(
    model: Any, x: Array | None = None, *, rng: np.random.Generator | None = None, name: str = ""
) -> ObjectiveReport:
    """Whether a model's loss is the objective that it is meant to be, which no gradient check can see; and, in short,
    whether backward is its derivative, of which `check(model.loss, x, eps)` tells more.

        report = gradcheck.objective(model)
        assert report.ok, report

    The model keeps the contract: an autoencoder has `loss(x)`, a VAE `loss(x, eps)` with `encoder`, `decoder`, a GAN
    `discriminator_loss(real, z)` and `generator_loss(z)` with `generator`, `discriminator`; each returns
    `loss, backward`. What else it may have is checked where it does: `bound(x, eps)`, the importance-weighted bound
    L_K of noise (K, N, latent); `log_likelihood(x, K, rng)`; `gradient_penalty(real, fake, alpha)`, alpha (N, 1, …).

    `x` (N, ...) is a batch of data, of which at least two samples; without it one is found. `rng` draws the batches.
    It works on a copy in float64 and leaves the model as it is. A VAE's prior is taken to be N(0, I), and its KL to
    be the whole of it (no free bits), with the weight 1, or an attribute `beta`. TypeError for what is no such model;
    ValueError where no batch is found that it takes, or x does not fit.
    """
    with contained(), np.errstate(all="ignore"):
        specimen = specimen_of(model, x, rng or np.random.default_rng(0))
        codes = f" and {specimen.latent} latent dimensions" if specimen.latent else ""
        article = "an" if specimen.kind == "autoencoder" else "a"
        name = name or type(model).__name__
        report = ObjectiveReport(f"{name}, {article} {specimen.kind} of {specimen.features} features{codes}")
        first = [specimen.value(loss) for loss in specimen.losses]
        if first != [specimen.value(loss) for loss in specimen.losses]:
            report.name = f"{name}, a model of {specimen.features} features that draws noise of its own"
            report.unchecked.append(
                "anything: two calls on the same batch give two losses, for the model draws noise of its own. Noise "
                "is an argument, loss(x, eps), so that a loss is a function"
            )
            return report
        _guarded("a batch given twice", report, batch.duplicated, specimen)
        if specimen.kind == "GAN":
            adversarial.check(specimen, report)
        else:
            _guarded("the influence of samples on each other", report, batch.influence, specimen)
            (_autoencoder if specimen.kind == "autoencoder" else latent.check)(specimen, report)
        _guarded("whom the loss moves", report, batch.who_moves, specimen)
        batch.gradients(specimen, model, report)
    return report


def _guarded(what: str, report: ObjectiveReport, check: Any, specimen: Specimen) -> None:
    try:
        report.checks += list(check(specimen))
    except Exception as error:
        report.unchecked.append(f"{what}: {described(error)}")


def _autoencoder(specimen: Specimen, report: ObjectiveReport) -> None:
    """The reconstruction, with a decoder that always gives the same."""
    try:
        networks = specimen.networks
        if len(networks) < 2:
            raise CannotStandIn("the model has no encoder and decoder")
        encoded = answer_of(networks["encoder"], specimen.x)
        decoded = answer_of(networks["decoder"], encoded.y)
        check_shape(decoded, specimen.features)

        def R(x: Array, y: Array) -> float:
            own = specimen.copy()
            y = y.reshape(len(y), -1) if decoded.y.ndim == 2 else y
            decoder = affine(decoded, np.zeros((encoded.y[0].size, y[0].size)), y)
            own.put(encoder=constant(encoded, [encoded.y]), decoder=decoder)
            value = own.value("loss", x)
            if not decoder.seen:
                raise CannotStandIn("its loss does not call self.decoder")
            return value

        R(specimen.x, specimen.x)
    except CannotStandIn as error:
        report.unchecked.append(f"the reconstruction: {error}")
        return
    except Exception as error:
        report.unchecked.append(f"the reconstruction: {described(error)}")
        return
    reconstruction.in_features(R, specimen, report)
    report.checks += reconstruction.closeness(R, specimen)
