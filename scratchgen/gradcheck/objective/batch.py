"""What holds of every objective: how it takes a batch, and whom its gradient moves."""

from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.arrays import places
from scratchgen.gradcheck.check import check
from scratchgen.gradcheck.guard import described, guarded
from scratchgen.gradcheck.objective.findings import Finding, ObjectiveReport, figure
from scratchgen.gradcheck.objective.specimen import MEETS, Specimen
from scratchgen.gradcheck.objective.standin import affine, answer_of
from scratchgen.gradcheck.report import Report
from scratchgen.gradcheck.styles import takes_no_argument

GRADIENTS = ": gradients"  # ends what a finding on them is called
TOLERANCE = 1e-6  # of a loss that is not computed in float64 it is above
NEAR = 0.2  # how far the change of such a loss may be from its first order


def twice(a: Array) -> Array:
    return np.concatenate([a, a])


def duplicated(specimen: Specimen) -> Iterator[Finding]:
    """The mean over a batch is the mean over the batch given twice; statistics of a batch normalisation are, too."""
    for name in specimen.losses:
        once = specimen.value(name)
        yield of_duplicates(specimen, name, once, specimen.value(name, twice(specimen.x), twice(specimen.eps)))


def of_duplicates(specimen: Specimen, name: str, once: float, doubled: float, of: str = "") -> Finding:
    """What it means when the loss of a batch that is given twice is `doubled`."""
    says = why = ""
    if not specimen.near(once, doubled, scale=1e-3 * specimen.features):
        why = (
            "the step grows with the batch size, and the balance with other terms moves with it: a learning rate, "
            "or a weight of the KL, holds for one batch size alone."
        )
        if specimen.near(2 * once, doubled):
            says = "the loss is summed over the batch, not averaged"
        elif specimen.near(once / 2, doubled):
            says = "the loss is divided by the batch size twice"
        elif doubled > once:
            says = "a part of the loss is summed over the batch, while the rest is averaged"
        else:
            says = "a part of the loss is divided by the batch size twice, or shrinks with it otherwise"
        why = why[0].upper() + why[1:]
    return Finding(f"{name}: batch given twice{of}", figure(once), figure(doubled), says, why)


# --- do samples meet? ---


def coupled(network: Any, x: Array) -> bool:
    """Whether what a network makes of one sample depends on another of its batch."""
    moved = x.copy()
    moved[-1] = 0.3 - 0.7 * x[-1]
    before, after = (_first(guarded("forward", answer_of, network, batch).y) for batch in (x, moved))
    return not np.allclose(before, after, rtol=1e-6, atol=1e-12)


def _first(y: Any) -> Array:
    return np.concatenate([np.ravel(part[0]) for part in y]) if isinstance(y, tuple | list) else y[0]


def meets_by_design(network: Any) -> bool:
    """Whether one of its layers is there to look at the batch: a batch normalisation, by its name."""
    parts = [network, *(part for _, part in places(network)), *_objects(network)]
    return any(word in type(part).__name__.lower() for part in parts for word in MEETS)


def _objects(owner: Any, depth: int = 4) -> list[Any]:
    """The objects that one holds, in lists and dicts, too."""
    held = owner.values() if isinstance(owner, dict) else owner if isinstance(owner, list | tuple) else ()
    if not held and not isinstance(owner, type | ModuleType | FunctionType | np.ndarray):
        held = getattr(owner, "__dict__", {}).values()
    return [found for v in list(held) for found in (v, *(_objects(v, depth - 1) if depth else ()))]


def influence(specimen: Specimen) -> Iterator[Finding]:
    """Of an autoencoder or VAE: the loss is a sum of terms of one sample each.

    Changing two samples then changes it by the sum of what changing each does: L(a, b) − L(a′, b) − L(a, b′) +
    L(a′, b′) = 0. Where samples meet in a batch normalisation, networks without one stand in.
    """
    rng = np.random.default_rng(1)
    networks = specimen.networks
    inputs = {"encoder": specimen.x, "decoder": _codes(specimen)}
    meeting = [name for name in networks if inputs[name] is not None and coupled(networks[name], inputs[name])]
    for name in meeting:
        if not meets_by_design(networks[name]):
            yield Finding(
                f"samples meet in the {name}",
                "no",
                "yes",
                f"what the {name} makes of one sample depends on the others of the batch, and it has no batch "
                "normalisation",
                "A mean, a maximum or a softmax along axis 0, which is the batch, in the place of the features: a "
                "sample is then encoded otherwise in every batch.",
            )
    if meeting:
        specimen = _without_meeting(specimen, rng)
    yield of_influence(specimen, "loss", specimen.x, specimen.eps, rng)


def _codes(specimen: Specimen) -> Any:
    if specimen.latent:
        return np.random.default_rng(2).standard_normal((len(specimen.x), specimen.latent))
    return guarded("forward", answer_of, specimen.networks["encoder"], specimen.x).y if specimen.networks else None


def _without_meeting(specimen: Specimen, rng: np.random.Generator) -> Specimen:
    """A copy with affine networks."""
    own = specimen.copy()
    z = _codes(specimen)
    encoded, decoded = answer_of(specimen.networks["encoder"], specimen.x), answer_of(specimen.networks["decoder"], z)
    W = 0.3 * rng.standard_normal((specimen.features, encoded.y[0].size)) / np.sqrt(specimen.features)
    V = rng.standard_normal((z[0].size, specimen.features))
    own.put(
        encoder=affine(encoded, W, np.zeros_like(encoded.y)), decoder=affine(decoded, V, np.full_like(decoded.y, 0.5))
    )
    return own


def of_influence(
    specimen: Specimen, name: str, x: Array, eps: Array, rng: np.random.Generator, of: str = ""
) -> Finding:
    """Whether two samples of a batch influence each other's terms of a loss."""

    def value(first: bool, second: bool) -> float:
        a, e = x.copy(), eps.copy()
        for i, change in enumerate((first, second)):
            if change:
                a[i], e[i] = other_x[i], other_eps[i]
        return specimen.value(name, a, e)

    other_x, other_eps = rng.permuted(x[:2], axis=1) * 0.7 + 0.1, 0.5 - 0.8 * eps[:2]
    base, first, second, both = (value(a, b) for b in (False, True) for a in (False, True))
    apart, together = first - base + second - base, both - base
    scale = abs(first - base) + abs(second - base)
    says = why = ""
    if abs(apart - together) > 1e-6 * scale + specimen.tolerance * (abs(base) + abs(both)):
        says = "samples influence each other's terms of the loss"
        why = "A mean, maximum or standard deviation over the batch (axis 0) stands where one over features belongs."
    return Finding(f"{name}: two samples changed{of}", figure(apart), figure(together), says, why)


# --- whom the gradient moves ---


def pulled(name: str, backward: Callable) -> None:
    """Call a loss's backward."""
    guarded(f"backward of {name}", backward, *(() if takes_no_argument(backward) else (1.0,)))


def who_moves(specimen: Specimen) -> Iterator[Finding]:
    """The backward of each loss adds gradients to its own player's parameters, and to no other's."""
    for name in specimen.losses:
        own = specimen.copy()
        _, backward = own.evaluate(name)
        if backward is None:
            continue
        before = {part: own.gradients(network) for part, network in own.networks.items()}
        pulled(name, backward)
        for part, network in own.networks.items():
            after = own.gradients(network)
            if not after or len(after) != len(before[part]):
                continue
            moves = not all(np.array_equal(a, b) for a, b in zip(before[part], after, strict=True))
            player = own.kind != "GAN" or (part == "generator") == (name == "generator_loss")
            if player and not moves and not _depends(specimen, name, part):
                continue  # as where every ReLU is off: a gradient of 0 is right
            yield _mover(name, part, player, moves, all(np.isfinite(a).all() for a in after))


def _depends(specimen: Specimen, name: str, part: str) -> bool:
    """Whether a loss changes with the parameters of one network, near where they are."""
    own, rng = specimen.copy(), np.random.default_rng(10)
    before = own.value(name)
    for p in own.learned(own.networks[part]):
        p.change(p.value() * (1 + 1e-3 * rng.standard_normal(p.value().shape)))
    return own.value(name) != before


def _mover(name: str, part: str, player: bool, moves: bool, finite: bool) -> Finding:
    says = why = ""
    if player and not moves:
        says = f"backward adds nothing to the gradients of the {part}, whose loss it is"
        why = "It never learns, whatever the loss is: its samples were detached, or its pullback is never called."
    elif moves and not player:
        says = f"backward of the {name} adds gradients to the {part}, too"
        why = "A step of one player then helps the other player's loss at its own cost: freeze the other network."
    elif not finite:
        says = f"the gradient of the {part} is not finite"
        why = "One step makes every parameter NaN."
    words = {True: "moves", False: "rests"}
    found = words[moves] if finite else "not finite"
    return Finding(f"{name}: the {part}", words[player], found, says, why)


def gradients(specimen: Specimen, model: Any, report: ObjectiveReport) -> None:
    """The backward of each loss is its derivative, along a few directions; where a loss is not computed in float64,
    in which that is seen, a small step has to do."""
    for name in specimen.losses:
        try:
            if specimen.evaluate(name)[1] is None:
                report.notes.append(f"{name} returns no backward: its gradients are not checked")
            elif specimen.tolerance > TOLERANCE:
                report.checks += _of_step(specimen, name)
            else:
                found = check(
                    getattr(model, name),
                    *specimen.arguments(name, specimen.x, specimen.eps),
                    elementwise=0,
                    directions=3,
                    contract_too=False,
                    parameters_only=True,
                )
                report.checks += _of_gradients(name, found)
                report.unchecked += [f"a gradient of {name}: {what}" for what in found.unchecked]
        except Exception as error:
            report.unchecked.append(f"the gradients of {name}: {described(error)}")


def _of_gradients(name: str, found: Report) -> Iterator[Finding]:
    wrong = [row for row in found.tensors if row.verdict == "WRONG"]
    if not found.tensors:
        return
    says = why = ""
    if wrong or found.faults:
        says = f"backward is not the derivative of {name}"
        if wrong:
            names = ", ".join(row.name for row in wrong[:3])
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            says += f": {names}{more} {'are' if len(wrong) > 1 else 'is'} wrong"
        hint = next((row.hint for row in wrong if row.hint), next(iter(found.faults), ""))
        why = hint[:1].upper() + hint[1:] + ". " if hint else ""
        why += "It trains on a gradient that is not that of its loss."
    elif not all(row.ok for row in found.tensors):
        return  # it can be neither proved nor refuted
    greatest = max(row.error for row in wrong or found.tensors)
    yield Finding(f"{name}{GRADIENTS}", "off by < 1e-6", f"{greatest:.1e}", says, why)


def _of_step(specimen: Specimen, name: str) -> Iterator[Finding]:
    """A small step of the loss's own parameters, −lr · gradient, changes the loss by −lr ‖gradient‖², to first order:
    of two steps the better one is taken."""
    steps = [found for share in (1e-2, 1e-3) if (found := _step(specimen, name, share)) is not None]
    if not steps:
        return
    expected, came = min(steps, key=lambda found: abs(found[1] / found[0] - 1))
    says = why = ""
    if came >= 0.1 * expected:
        says = "a step against the gradient does not lower the loss"
        why = "The gradient has the wrong sign, or is that of another loss: training goes uphill."
    elif abs(came / expected - 1) > NEAR:
        says = "a small step against the gradient changes the loss by another amount than −lr · ‖gradient‖²"
        why = "The gradient is not that of this loss."
    yield Finding(f"{name}: small step", figure(expected), figure(came), says, why)


def _step(specimen: Specimen, name: str, share: float) -> tuple[float, float] | None:
    """By how much the loss should change, to first order, and does; by `share` of it about."""
    own = specimen.copy()
    player = own.networks.get("generator" if name == "generator_loss" else "discriminator")
    part = player if own.kind == "GAN" and player is not None else own.model
    for p in own.learned(part):
        p.gradient()[...] = 0
    before, backward = own.evaluate(name)
    if backward is None:
        return None
    pulled(name, backward)
    learned = own.learned(part)
    square = sum(float(np.sum(p.gradient() ** 2)) for p in learned)
    if not np.isfinite(square) or square == 0:
        return None
    rate = share * max(abs(before), 1e-3) / square
    for p in learned:
        p.change(np.array(p.value() - rate * p.gradient()))
    return -rate * square, own.value(name) - before
