"""A GAN's objectives from outside: functions of the logits that D gives.

A stand-in discriminator gives the first feature of a sample as its logit, and a stand-in generator puts the first
element of z there: so the logits are what one chooses, and the losses are seen as they are, whatever the networks.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from scratchgen.backend import Array
from scratchgen.functions import sigmoid
from scratchgen.gradcheck.guard import described
from scratchgen.gradcheck.objective.batch import (
    coupled,
    meets_by_design,
    of_duplicates,
    of_influence,
    pulled,
    twice,
)
from scratchgen.gradcheck.objective.findings import Finding, ObjectiveReport, figure
from scratchgen.gradcheck.objective.specimen import Specimen, as_loss, segment
from scratchgen.gradcheck.objective.standin import CannotStandIn, affine, answer_of
from scratchgen.gradcheck.styles import required

REACH = 4.0  # logits go from −REACH to REACH: z from a uniform prior has to stay within 1


class Table:
    """A GAN between stand-ins: its losses as functions of logits (N,)."""

    def __init__(self, specimen: Specimen):
        missing = [name for name in ("generator", "discriminator") if name not in specimen.networks]
        if missing:
            raise CannotStandIn(f"the model has no {' and no '.join(missing)}")
        self.specimen, self.own = specimen, specimen.copy()
        generator, critic = specimen.networks["generator"], specimen.networks["discriminator"]
        made, scored = answer_of(generator, specimen.eps), answer_of(critic, specimen.x)
        self.probabilities = _bounded(critic, specimen.x)
        first = np.zeros((specimen.features, scored.y[0].size))
        first[0] = 1 / (1 + np.arange(first.shape[1]))  # of several logits: a softmax's differ
        to_pixel = np.zeros((specimen.latent, specimen.features))
        to_pixel[0, 0] = REACH
        self.generator = affine(made, to_pixel, np.zeros_like(specimen.x))
        self.critic = affine(scored, first, np.zeros_like(scored.y))
        self.own.put(generator=self.generator, discriminator=self.critic)

    def batches(self, real: Array, fake: Array) -> tuple[Array, Array]:
        """Samples and noise with these logits."""
        x = np.zeros((len(real), *self.specimen.x.shape[1:]))
        x.reshape(len(x), -1)[:, 0] = real
        z = np.zeros((len(fake), *self.specimen.eps.shape[1:]))
        z.reshape(len(z), -1)[:, 0] = fake / REACH
        return x, z

    def loss(self, name: str, real: Array, fake: Array) -> float:
        self.critic.seen.clear()
        self.generator.seen.clear()
        value = self.own.value(name, *self.batches(real, fake))
        if not self.critic.seen:
            raise CannotStandIn(f"its {name} does not call its discriminator")
        if not self.generator.seen:
            raise CannotStandIn(f"its {name} does not call its generator")
        return value

    def d(self, real: Array, fake: Array) -> float:
        return self.loss("discriminator_loss", real, fake)

    def g(self, real: Array, fake: Array) -> float:
        return self.loss("generator_loss", real, fake)


def _bounded(critic: Any, x: Array) -> bool:
    """Whether a discriminator gives probabilities, and not logits: nothing takes its score out of [0, 1]."""
    rng = np.random.default_rng(11)
    found = [answer_of(critic, scale * np.asarray(rng.standard_normal(x.shape))).y for scale in (1, 30, 1000)]
    return all(((y >= 0) & (y <= 1)).all() for y in found)


def check(specimen: Specimen, report: ObjectiveReport) -> None:
    report.checks += _meeting(specimen)
    try:
        _in_logits(Table(specimen), report)
    except CannotStandIn as error:
        report.unchecked.append(f"the losses as functions of logits: {error}")
    except Exception as error:
        what = f"with networks of ours in the place of the model's it fails: {described(error)}"
        report.unchecked.append(f"the losses as functions of logits to their end, {what}")
    penalty(specimen, report)


def _meeting(specimen: Specimen) -> Iterator[Finding]:
    inputs = {"generator": specimen.eps, "discriminator": specimen.x}
    for name, network in specimen.networks.items():
        if coupled(network, inputs[name]) and not meets_by_design(network):
            yield Finding(
                f"samples meet in the {name}",
                "no",
                "yes",
                f"what the {name} makes of one sample depends on the others of the batch, and it has no layer that "
                "is named for that",
                "A mean, a maximum or a softmax along axis 0, which is the batch, in the place of the features.",
            )


def _in_logits(table: Table, report: ObjectiveReport) -> None:
    specimen, rng = table.specimen, np.random.default_rng(12)
    n = len(specimen.x)
    low, high = (0.2, 0.8) if table.probabilities else (-1.0, 1.0)
    span = high - low
    a = high + 0.1 * span * rng.uniform(-1, 1, n)
    b = low + 0.1 * span * rng.uniform(-1, 1, n)
    for name in specimen.losses:
        once = table.loss(name, a, b)
        report.checks.append(
            of_duplicates(specimen, name, once, table.loss(name, twice(a), twice(b)), ", logits given")
        )

    # D
    right_way, swapped = table.d(a, b), table.d(b, a)
    says = why = ""
    if specimen.near(right_way, swapped, scale=1.0):
        says = "swapping real and fake leaves D's loss as it is"
        why = (
            "D has nothing to tell them apart by: both batches have one label, or one term stands twice. It learns "
            "to give one score to everything, and G's gradient says nothing."
        )
    found = f"{figure(right_way)} / {figure(swapped)}"
    report.checks.append(Finding("D's loss: real and fake swapped", "two values", found, says, why))
    upward = 1 if says or right_way < swapped else -1  # whether D gives real samples the higher score
    if upward < 0:
        report.notes.append("D gives real samples the lower score")

    fakes = table.d(a, b + 0.1 * span) - table.d(a, b)
    reals = table.d(a + 0.1 * span, b) - table.d(a, b)
    if not says:
        report.checks += _depends(specimen, reals, fakes)

    c = 0.05 * span
    shifted = specimen.near(table.d(a + c, b + c), right_way, scale=1.0)
    if shifted and not table.probabilities and not says:
        report.checks += _relative(table, a, b)
    else:
        x, z = table.batches(a, b)
        report.checks.append(of_influence(table.own, "discriminator_loss", _spread(x), z, rng, ", logits given"))

    # G
    says = why = ""
    f0, f1 = (0.2, 0.5) if table.probabilities else (-3.0, -1.5)
    if upward < 0:
        f0, f1 = (0.8, 0.5) if table.probabilities else (3.0, 1.5)
    before, after = (table.g(a, np.full(n, f) + 0.01 * span * b) for f in (f0, f1))
    if specimen.near(before, after, scale=1.0):
        says = "G's loss does not depend on the score of its samples"
        why = "G has nothing to learn from."
    elif after > before:
        says = "G's loss rises as D takes its samples for real: G and D want the same"
        why = (
            "G has to raise the score E D(G(z)) that D lowers. Minimising it helps D: fakes move away from the data, "
            "while both losses look as if training went well."
        )
    report.checks.append(
        Finding("G's loss: fakes score as real", f"below {figure(before)}", figure(after), says, why)
    )


def _spread(x: Array) -> Array:
    """With other features than the first, so that a permutation of features changes the sample's logit."""
    return x + 0.1 * np.random.default_rng(13).random(x.shape)


def _depends(specimen: Specimen, reals: float, fakes: float) -> Iterator[Finding]:
    for name, moved in (("real", reals), ("fake", fakes)):
        says = why = ""
        if abs(moved) <= 100 * specimen.tolerance:
            says = f"D's loss does not depend on the scores of {name} samples"
            why = f"One of its two terms is missing, or has no gradient: D never learns what {name} samples are."
        yield Finding(f"D's loss: scores of {name} samples move", "another value", figure(moved), says, why)


def _relative(table: Table, a: Array, b: Array) -> Iterator[Finding]:
    """A loss of differences of logits (relativistic, or Wasserstein's) is the same when real and fake are swapped and
    their signs flipped: D says "real is more real than fake" in both terms alike."""
    spread = np.linspace(-1, 1, len(a))
    real, fake = a + spread, b - 0.5 * spread**2
    there, back = table.d(real, fake), table.d(-fake, -real)
    says = why = ""
    if not table.specimen.near(there, back, scale=1.0):
        says = "swapping real and fake and flipping their signs changes a loss of differences"
        why = (
            "Its two terms are not each other's mirror image: each real sample is compared with the mean fake twice, "
            "and no fake sample with the mean real."
        )
    yield Finding("D's loss: swapped, signs flipped", figure(there), figure(back), says, why)


# --- the gradient penalty ---


def penalty(specimen: Specimen, report: ObjectiveReport) -> None:
    """`gradient_penalty(real, fake, alpha)`: λ E (‖∇D(x̂)‖ − 1)² with x̂ = alpha · real + (1 − alpha) · fake.

    alpha is one number from 0 to 1 for each sample, (N, 1, …). A third argument `rng` is a generator to draw it from,
    and without a third argument the model draws for itself.
    """
    method = getattr(specimen.model, "gradient_penalty", None)
    if not callable(method):
        report.notes.append("not checked: the model has no gradient_penalty(real, fake, alpha)")
        return
    try:
        for finding in _penalty(specimen):
            report.checks.append(finding)
    except CannotStandIn as error:
        report.unchecked.append(f"gradient_penalty(real, fake, alpha): {error}")
    except Exception as error:
        report.unchecked.append(f"gradient_penalty(real, fake, alpha) fails: {described(error)}")


class Batch(NamedTuple):
    """Samples for a penalty, real and fake ones."""

    real: Array
    fake: Array


def _call(specimen: Specimen, batch: Batch) -> tuple[float, Callable | None]:
    """The penalty, and its backward."""
    extra = required(specimen.model.gradient_penalty)[2:]
    n, ndim = len(batch.real), batch.real.ndim
    alpha: Any = np.random.default_rng(15) if extra == ["rng"] else segment(n, ndim)
    return as_loss("gradient_penalty", specimen.call("gradient_penalty", *batch, *[alpha][: len(extra)]))


def _penalty(specimen: Specimen) -> Iterator[Finding]:
    rng = np.random.default_rng(14)
    shape = specimen.x.shape
    batch = Batch(*(np.asarray(rng.uniform(low, high, shape)) for low, high in ((0, 1), (-1, 0.4))))
    yield from _penalty_moves(specimen, batch)
    yield _at_zero(specimen, batch)
    extra = required(specimen.model.gradient_penalty)[2:]
    if extra and extra != ["rng"]:
        doubled = _call(specimen.copy(), Batch(twice(batch.real), twice(batch.fake)))[0]
        yield of_duplicates(specimen, "penalty", _call(specimen.copy(), batch)[0], doubled)

    direction = rng.standard_normal(specimen.features)
    direction /= np.linalg.norm(direction)
    scored = answer_of(specimen.networks["discriminator"], specimen.x)

    def of_affine(length: float) -> tuple[float, list[Array]]:
        own = specimen.copy()
        own.put(discriminator=affine(scored, length * direction[:, None], np.zeros((len(batch.real), 1))))
        return _call(own, batch)[0], own.networks["discriminator"].seen

    (one, seen), (two, _), (three, _) = (of_affine(length) for length in (1.0, 2.0, 3.0))
    if not seen or one == two == three:
        raise CannotStandIn("it does not take the gradient by forward of its discriminator, and its backward")
    yield _segment(seen[-1], batch)

    says = why = ""
    if abs(one) > 1e-6 * max(abs(three), 1e-6):
        says = "the penalty of an affine critic whose gradient has length 1 everywhere is not 0"
        parts = np.linalg.norm(direction.reshape(-1, shape[-1]), axis=1)  # of each pixel's channels
        if len(shape) > 2 and abs(one / two - _penalty_ratio(parts)) < 1e-6:
            says += ": the norm is over the channels of each pixel, not over all elements of a sample"
            why = "Each pixel is held to slope 1, and so a sample to √(H·W)."
        elif abs(one / two - _penalty_ratio_of_sigmoid(seen[-1], direction)) < 1e-6:
            says += ": it is that of σ(score), and the score itself belongs there"
            why = "σ′ is at most ¼: the score is held to a slope of 4 and more, and ever steeper where σ saturates."
        else:
            why = "The norm is over a part of the elements, or without its root, or another slope than 1 is wanted."
    yield Finding("penalty: affine critic, ‖w‖ = 1", "0", figure(one), says, why)
    if not says:
        grows = three / two if two else float("nan")
        if not abs(grows - 4) < 1e-4:
            says = "the penalty does not grow as (‖w‖ − 1)²"
            why = "With ‖w‖ from 2 to 3 it should be four times as large."
        yield Finding("penalty: ‖w‖ = 3, over that of 2", "4", figure(grows), says, why)


def _penalty_ratio(norms: Array) -> float:
    """The penalty of ‖w‖ = 1 over that of 2, where it is the mean over parts of the elements, with these norms."""
    return float(((norms - 1) ** 2).mean() / ((2 * norms - 1) ** 2).mean())


def _penalty_ratio_of_sigmoid(x: Array, w: Array) -> float:
    """The same where it is that of σ(⟨w, x⟩), whose gradient has length σ (1 − σ) ‖w‖."""
    s = x.reshape(len(x), -1) @ w
    one, two = (length * sigmoid(length * s) * sigmoid(-length * s) for length in (1, 2))
    return float(((one - 1) ** 2).mean() / ((two - 1) ** 2).mean())


def _segment(at: Array, batch: Batch) -> Finding:
    """x̂ lies on the segment between a real and a fake sample."""
    says = why = ""
    expected, found = "one α of [0, 1] each", "one α of [0, 1] each"
    if at.size != batch.real.size:
        raise CannotStandIn(f"it asks its discriminator at {at.shape}, and a batch has the shape {batch.real.shape}")
    r, f, x = (a.reshape(len(batch.real), -1) for a in (*batch, at))
    alpha = (x - f) / (r - f)
    if abs(x - r).max() < 1e-9:
        found, says = "α = 1 for all", "x̂ is the real sample itself"
        why = "The critic is held to slope 1 at the data alone, not along the lines from there to the fakes."
    elif np.ptp(alpha, axis=1).max() > 1e-6:
        found = f"α from {alpha[0].min():.2f} to {alpha[0].max():.2f}"
        says = "x̂ does not lie on the segment between a real and a fake sample: α differs from element to element"
        why = "The optimal critic has slope 1 along the straight lines between them, and only there."
    elif alpha.min() < -1e-9 or alpha.max() > 1 + 1e-9:
        found = f"α from {alpha.min():.2f} to {alpha.max():.2f}"
        says = "x̂ lies outside of the segment between a real and a fake sample: α is not within [0, 1]"
        why = "α is uniform on [0, 1]; a normal one constrains the critic where there are neither."
    elif np.ptp(alpha) < 1e-9:
        found = f"α = {alpha[0, 0]:.2f} for all"
        says = "all samples have one α"
        why = "α has to be drawn for each sample: (N, 1), not one for the batch."
    return Finding("penalty: x̂ on the segment", expected, found, says, why)


def _penalty_moves(specimen: Specimen, batch: Batch) -> Iterator[Finding]:
    """Its backward adds gradients to the critic."""
    own = specimen.copy()
    _, backward = _call(own, batch)
    if backward is None:
        return
    network = own.networks["discriminator"]
    before = own.gradients(network)
    pulled("gradient_penalty", backward)
    after = own.gradients(network)
    if not after:
        return
    moves = len(before) != len(after) or not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    says = "" if moves else "the penalty is in the value, and has no gradient"
    why = "λ then changes the figure that is printed and nothing else: the critic's slope is free."
    yield Finding("penalty: the critic", "moves", "moves" if moves else "rests", says, why if says else "")


def _at_zero(specimen: Specimen, batch: Batch) -> Finding:
    """A critic with every parameter 0, whose gradient is 0: ‖g‖ has no derivative there, and must not give NaN."""
    own = specimen.copy()
    network = own.networks["discriminator"]
    for p in own.learned(network):
        p.change(np.zeros_like(p.value()))
    value, backward = _call(own, batch)
    if backward is not None:
        pulled("gradient_penalty", backward)
    finite = np.isfinite(value) and all(np.isfinite(g).all() for g in own.gradients(network))
    says = "" if finite else "where the critic's gradient is 0 the penalty, or its gradient, is not finite"
    why = "‖g‖ has the derivative g/‖g‖, 0/0 at 0: one NaN, and all is NaN. Take √(‖g‖² + tiny), or 0 there."
    return Finding("penalty: at ∇D = 0", "finite", "finite" if finite else "not finite", says, why if says else "")
