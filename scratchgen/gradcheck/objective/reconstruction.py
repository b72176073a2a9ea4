"""The term of an objective that compares x with what the decoder says of it, y, seen from outside: R(x, y)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp, log, pi

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.guard import described
from scratchgen.gradcheck.objective.findings import Finding, ObjectiveReport, figure
from scratchgen.gradcheck.objective.specimen import Specimen

Term = Callable[[Array, Array], float]  # R(x, y) of a batch


def in_features(R: Term, specimen: Specimen, report: ObjectiveReport) -> bool:
    """With every feature of x and of y given twice R is twice as large: it is a sum over features. Adds what it finds
    to the report; returns whether it is right, or could not be seen.

    Of two y the difference is looked at, in which terms that know no features, as a penalty on the code, cancel.
    """
    x = specimen.x
    ys = [np.full_like(x, level) for level in (0.2, 0.7)]
    once = R(x, ys[1]) - R(x, ys[0])
    try:
        x = twice_as_wide(x)
        doubled = R(x, twice_as_wide(ys[1])) - R(x, twice_as_wide(ys[0]))
    except Exception as error:
        report.notes.append(f"the sum over features is not checked, samples of twice the size fail: {_short(error)}")
        return True
    says = why = ""
    if not specimen.near(doubled, 2 * once, scale=10 * abs(R(specimen.x, ys[0]))):
        says = f"the reconstruction of twice the features is {figure(doubled / once)} times as large, not 2"
        why = "Features count unequally, or a term is forgotten for some."
        if specimen.near(doubled, once, scale=10 * abs(R(specimen.x, ys[0]))):
            says, why = _averaged(specimen)
    expected, came = figure(2 * once), figure(doubled)
    report.checks.append(Finding("reconstruction: features given twice", expected, came, says, why))
    return not says


def closeness(R: Term, specimen: Specimen) -> Iterator[Finding]:
    """R is smaller for y = x than for y = 1 − x, with x in [0, 1] and each x_i on the same side of ½ as y_i."""
    x = np.where(specimen.x > 0.5, 0.9, 0.1)
    near, far = R(x, x), R(x, 1 - x)
    says = why = ""
    if not near < far:
        says = "a decoder that gives back the sample has no smaller loss than one that inverts it"
        why = "The sign of the log-likelihood: training moves the decoder away from the data."
    yield Finding("reconstruction: y = x, beside 1 − x", f"below {figure(far)}", figure(near), says, why)


def twice_as_wide(a: Array) -> Array:
    return np.concatenate([a, a], axis=1)


@dataclass(frozen=True)
class Normal:
    """R(x, y) = Σ (x − y)² / 2σ² + constant."""

    variance: float
    constant: float

    def missing(self, features: int) -> float:
        """What R lacks beside a normal −log-density."""
        return 0.5 * features * log(2 * pi * self.variance) - self.constant


def normal(R: Term, specimen: Specimen) -> Normal | None:
    """The variance and constant of R where it is that of a normal distribution."""
    x, D = np.full_like(specimen.x, 0.5), specimen.features
    for size in (1.0, 30.0, 1e3):  # until it counts beside the constant
        at = {t: R(x, x + size * t) for t in (0.0, 1.0, -1.0, 3.0)}
        if not abs(at[3.0] - at[0.0]) < 0.01 * abs(at[0.0]):
            break
    curvature = (at[1.0] - at[0.0]) / (D * size**2)
    room = max(1e-7, 10 * specimen.tolerance) * abs(at[3.0] - at[0.0])
    fits = all(abs(v - at[0.0] - curvature * D * (size * t) ** 2) <= room for t, v in at.items())
    return Normal(0.5 / curvature, at[0.0]) if fits and curvature > 0 else None


def distribution(R: Term, specimen: Specimen, report: ObjectiveReport) -> Normal | None:
    """Of a VAE: e^{−R} is a probability distribution of x. Returns the normal one, where it is."""
    D, found = specimen.features, normal(R, specimen)
    room = 1e3 * specimen.tolerance
    if found is None:
        ones, y = np.ones_like(specimen.x), np.full_like(specimen.x, 0.3)
        try:
            terms = [R(t * ones, y) / D for t in (0.0, 1.0)]
        except Exception:
            terms = [0.0, 0.0]
        sums = {n: sum(exp(-min(max(n * term, -50.0), 50.0)) for term in terms) for n in (1, D)}
        if abs(sums[1] - 1) > room and abs(sums[D] - 1) > room:
            report.notes.append("p(x|z) is neither Bernoulli nor normal, its normalisation is not checked")
        else:
            averaged = abs(sums[1] - 1) > room
            report.checks.append(_density("p(x|z): sum over x = 0, 1", "1", figure(sums[1]), averaged, specimen))
        return None
    once, of_a_mean = found.missing(D), Normal(found.variance / D, found.constant * D).missing(D)
    if abs(once) < room * D or abs(of_a_mean) < room * D:
        averaged = abs(once) >= room * D
        whole = figure(found.constant + once)
        report.checks.append(
            _density("p(x|z): a normal density's constant", whole, figure(found.constant), averaged, specimen)
        )
    return found


def _density(check: str, expected: str, found: str, averaged: bool, specimen: Specimen) -> Finding:
    if not averaged:
        return Finding(check, expected, found)
    return Finding(check, expected, found, *_averaged(specimen))


def _averaged(specimen: Specimen) -> tuple[str, str]:
    D = specimen.features
    return (
        f"the reconstruction is averaged over the {D} features of a sample, not summed",
        f"It is no log-likelihood of a sample, and beside a KL that is summed it counts {D} times too little: the KL "
        "wins, and the code is ignored."
        if specimen.kind == "VAE"
        else "It is no log-likelihood of a sample, and the step shrinks as images grow.",
    )


def learned_variance(R: Callable[[Specimen, Array, Array], float], specimen: Specimen) -> Iterator[Finding]:
    """A variance that is learned beside the networks has its logarithm in R: R ∋ ½ D log σ²."""
    inside = tuple(f"{name}." for name in specimen.networks)
    before = normal(lambda x, y: R(specimen, x, y), specimen)
    for i, p in enumerate(specimen.learned(specimen.model)):
        name = p.name
        if name.startswith(inside) or before is None:
            continue
        own = specimen.copy()
        moved = own.learned(own.model)[i]
        moved.change(moved.value() + 0.5)
        after = normal(lambda x, y: R(own, x, y), own)  # noqa: B023
        if after is None or own.near(after.variance, before.variance):
            continue
        expected = 0.5 * own.features * log(after.variance / before.variance)
        came = after.constant - before.constant
        says = why = ""
        if abs(expected - came) > 1e-3 * abs(expected):
            says = f"the variance that {name} learns is in the loss without its logarithm"
            why = "½ log σ² holds it back: without, σ² grows, or shrinks, without bound, and the loss means nothing."
        yield Finding(f"½ D log σ² as {name} moves", figure(expected), figure(came), says, why)


def _short(error: Exception) -> str:
    said = described(error)
    return said if len(said) < 120 else said[:120] + " …"
