"""A VAE's objective from outside: how z is drawn, the KL of that very distribution, and the bound.

A stand-in encoder says what mean and spread the model gets, a stand-in decoder hears which z it drew. What the model
calls a spread (log σ², log σ, …) is its own affair: the σ is measured, and the KL has to be that of this σ.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import log, pi
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.guard import described
from scratchgen.gradcheck.objective import reconstruction
from scratchgen.gradcheck.objective.batch import of_duplicates, twice
from scratchgen.gradcheck.objective.findings import Finding, ObjectiveReport, figure
from scratchgen.gradcheck.objective.specimen import Specimen, as_loss
from scratchgen.gradcheck.objective.standin import (
    Answer,
    CannotStandIn,
    StandIn,
    affine,
    answer_of,
    check_shape,
    constant,
    repeating,
)

SETTINGS = 60  # of means and spreads at which the KL is measured
MAY_WEIGH = re.compile("beta|kl|weight|lambda|anneal", re.IGNORECASE)  # an attribute that may weigh the KL
WEIGHS = re.compile(
    "beta|.*kl.*(weight|beta|coef|scale).*|.*(weight|beta|coef|scale).*kl.*", re.IGNORECASE
)  # that does


@dataclass(frozen=True)
class Code:
    """What an encoder says of a batch: means, and spreads in the model's own terms; each (N, latent)."""

    mu: Array
    spread: Array


class Probe:
    """A VAE between two stand-ins."""

    def __init__(self, specimen: Specimen):
        networks = specimen.networks
        missing = [name for name in ("encoder", "decoder") if name not in networks]
        if missing:
            raise CannotStandIn(f"the model has no {' and no '.join(missing)}")
        self.specimen, self.own = specimen, specimen.copy()
        self.encoded = answer_of(networks["encoder"], specimen.x)
        self.exchanged = False  # whether the spread comes before the mean
        self.heads = heads(specimen, self.encoded.y)
        self.decoded = answer_of(networks["decoder"], specimen.eps)
        check_shape(self.decoded, specimen.features)

    def arrange(
        self, code: Code, x: Array, W: Array | None = None, y: Array | None = None
    ) -> tuple[StandIn, StandIn]:
        """Put stand-ins in place: an encoder that says `code`, and a decoder y + z W."""
        values = [code.spread, code.mu] if self.exchanged else [code.mu, code.spread]
        if self.heads:
            pairs = zip(self.heads.items(), values, strict=True)
            stand_ins = {name: constant(head, [value]) for (name, head), value in pairs}
            self.own.put(encoder=repeating(self.encoded), **stand_ins)
            encoder = next(iter(stand_ins.values()))
        else:
            encoder = constant(self.encoded, values)
            self.own.put(encoder=encoder)
        y = np.full_like(x, 0.5) if y is None else y
        W = np.zeros((self.specimen.latent, y[0].size)) if W is None else W
        y = y.reshape(len(y), -1) if self.decoded.y.ndim == 2 else y
        decoder = affine(self.decoded, W, y)
        self.own.put(decoder=decoder)
        return encoder, decoder

    def loss(
        self, code: Code, eps: Array, x: Array | None = None, W: Array | None = None, y: Array | None = None
    ) -> tuple[float, Array]:
        """The loss, and the z that the decoder got."""
        x = self.specimen.x if x is None else x
        encoder, decoder = self.arrange(code, x, W, y)
        value = self.own.value("loss", x, eps)
        for name, network in (("encoder", encoder), ("decoder", decoder)):
            if not network.seen:
                raise CannotStandIn(f"its loss does not call self.{name}")
        z = decoder.seen[-1]
        if z.shape != eps.shape:
            raise CannotStandIn(f"its decoder gets an array {z.shape}, not z {eps.shape}")
        return value, z

    def mean_loss(self, code: Code, x: Array | None = None, W: Array | None = None, y: Array | None = None) -> float:
        """The mean of the losses at eps = 1 and −1: the expectation over eps, where the loss is quadratic in it and z
        has independent dimensions, even for a KL that is itself estimated at z."""
        ones = np.ones_like(self.specimen.eps)
        return sum(self.loss(code, eps, x, W, y)[0] for eps in (ones, -ones)) / 2

    def zero(self, n: int) -> Code:
        zeros = np.zeros((n, self.specimen.latent))
        return Code(zeros, zeros)


def check(specimen: Specimen, report: ObjectiveReport) -> None:
    """All of it, into the report."""
    try:
        _check(specimen, report)
    except CannotStandIn as error:
        report.unchecked.append(f"sampling, KL and bound: {error}")
    except Exception as error:
        what = f"with networks of ours in the place of the model's it fails: {described(error)}"
        report.unchecked.append(f"sampling, KL and bound to their end, {what}")


def _check(specimen: Specimen, report: ObjectiveReport) -> None:
    probe = Probe(specimen)
    sigma = sampler(probe, report)
    if sigma is None:
        return
    rng = np.random.default_rng(3)
    if not report.checks[0].says:
        report.checks += weighed_duplicates(probe, rng)
    beta = divergence(probe, sigma, report)
    start = probe.zero(len(specimen.x))
    kl, ones = beta * kl_of(start, sigma), np.ones_like(specimen.eps)  # eps² = 1, as on average

    def R(x: Array, y: Array) -> float:
        return probe.loss(start, ones, x, y=y)[0] - kl

    def R_of(own: Specimen, x: Array, y: Array) -> float:
        return Probe(own).loss(start, ones, x, y=y)[0] - kl

    summed = reconstruction.in_features(R, specimen, report)
    report.checks += reconstruction.closeness(R, specimen)
    density = reconstruction.distribution(R, specimen, report) if summed else None
    if density is not None and report.checks[-1].says:  # of a mean over features
        density = None
    if density is not None:
        learned = list(reconstruction.learned_variance(R_of, specimen))
        report.checks += learned
        lacks = density.missing(specimen.features)
        if abs(lacks) > 1e-4 and not any(c.says for c in learned):
            report.notes.append(
                "the reconstruction is −log p(x|z) of a normal distribution of variance "
                f"{figure(density.variance)} but for its constant, {figure(lacks)}: right for a fixed variance, but "
                "losses are no nats per sample"
            )
    slope = log_linear(probe, sigma)
    if slope is None:
        report.notes.append("the bound is not checked: the encoder's second output is no logarithm of σ, or of σ²")
        return
    if density is not None:
        exact_bound(probe, slope, beta, density, report)
    importance_weighted(probe, slope, R, density, report)


def heads(specimen: Specimen, hidden: Any) -> dict[str, Answer]:
    """Two layers, by name, that make the mean and the spread of what the encoder gives, `hidden`, with what they
    give; {} where the encoder makes both itself."""
    found = {}
    for name, network in vars(specimen.model).items() if isinstance(hidden, np.ndarray) else ():
        if network not in specimen.networks.values() and (hasattr(network, "forward") or callable(network)):
            try:
                answer = answer_of(network, hidden)
            except Exception:
                continue
            if isinstance(answer.y, np.ndarray) and answer.y.shape == specimen.eps.shape:
                found[name] = answer
    return found if len(found) == 2 else {}


# --- how z is drawn ---

Sigma = Callable[[Array], Array]


def sampler(probe: Probe, report: ObjectiveReport) -> Sigma | None:
    """z = mu + σ · eps; the σ that a spread stands for, measured. None where z is no such thing."""
    rng = np.random.default_rng(4)
    n, d = probe.specimen.eps.shape
    code = Code(rng.standard_normal((n, d)), rng.uniform(-1.2, 1.2, (n, d)))
    close = lambda a, b: np.allclose(a, b, rtol=10 * probe.specimen.tolerance, atol=10 * probe.specimen.tolerance)  # noqa: E731

    def z(eps: Array) -> Array:
        return probe.loss(code, eps)[1]

    zeros, ones = np.zeros((n, d)), np.ones((n, d))
    middle = z(zeros)
    if not close(middle, z(zeros)):
        raise CannotStandIn("its loss draws noise of its own, beside eps")
    if close(middle, code.spread) and not close(middle, code.mu):
        probe.exchanged = True
        middle = z(zeros)
    says = why = ""
    name = "z at eps = 0"
    if not close(middle, code.mu):
        says = "z at eps = 0 is not the mean that the encoder gives"
        why = "The KL is that of a distribution around mu; z comes from another."
    report.checks.append(Finding(name, _row(code.mu), _row(middle), says, why))
    if says:
        return None
    std = z(ones) - middle
    draws = rng.standard_normal((n, d))
    drawn = z(draws)
    if close(std, 0):
        says = "z does not depend on the noise"
        why = "It is an autoencoder with a penalty on its code: its prior samples decode to nothing learned."
    elif close(drawn, middle + std * draws[:1]) and n > 1:
        says = "all samples are drawn with the noise of the first"
        why = "Their gradients are then noisy all at once: the mean over a batch averages nothing out."
    elif not close(drawn, middle + std * draws):
        says = "z is no mu + σ · eps: it is not affine in the noise"
        why = "With eps normal z is then not normal, and the KL of a normal distribution is not its own."
    expected = "another value" if close(std, 0) else _row((middle + std * draws)[-1])
    report.checks.append(Finding("z at another eps", expected, _row(drawn[-1]), says, why))
    if not says and _has_spreads(probe):
        report.checks.append(_spreads(probe, code, std))
        says = report.checks[-1].says
    if says:
        return None

    def sigma(spread: Array) -> Array:
        """In blocks of the batch's size, since a model may hold to it."""
        flat = np.resize(spread.reshape(-1), (-(-spread.size // (n * d)) * n * d,)).reshape(-1, n, d)
        found = [probe.loss(Code(zeros, part), ones)[1] for part in flat]
        return np.abs(np.ravel(found)[: spread.size]).reshape(spread.shape)

    return sigma


def _has_spreads(probe: Probe) -> bool:
    """Whether the encoder gives a spread for every latent dimension, as it need not: one for all is a model, too."""
    y, d = probe.encoded.y, probe.specimen.latent
    last = y[-1] if isinstance(y, tuple | list) and y else y
    return bool(probe.heads) or (isinstance(last, np.ndarray) and last[0].size >= (d if last is not y else 2 * d))


def _spreads(probe: Probe, code: Code, std: Array) -> Finding:
    """The spread of each dimension of z is the one that the encoder gives for it; of up to 16 dimensions."""
    n, d = std.shape
    zeros, ones = np.zeros((n, d)), np.ones((n, d))
    spreads = {}
    for j in range(min(d, 16)):
        spread = code.spread.copy()
        spread[:, j] += 0.3
        other = Code(code.mu, spread)
        now = probe.loss(other, ones)[1] - probe.loss(other, zeros)[1]
        moved = ~np.isclose(now, std, rtol=1e-3, atol=1e-6).all(axis=0)
        spreads[j] = [int(k) for k in np.flatnonzero(moved)]
    unused = ", ".join(str(j) for j, moved in spreads.items() if not moved)
    strange = {j: moved for j, moved in spreads.items() if moved and moved != [j]}
    says = why = ""
    if strange or unused:
        j, moved = next(iter(strange.items()), (0, [0]))
        dimensions = ", ".join(map(str, moved[:8]))
        parts = [f"the encoder's spread {j} sets the spread of z in dimension {dimensions}"] if strange else []
        parts += [f"the encoder's spread {unused} is not used"] if unused else []
        says = ", and ".join(parts)
        why = (
            "Counted from 0. A slice of the encoder's output that begins a column too late, or a single column in "
            "its place, is broadcast over all dimensions, and nothing raises."
        )
    found = "another's" if says else "its own"
    return Finding("z: the spread of each dimension", "its own", found, says, why)


def _row(a: Array) -> str:
    return figure(float(a.flat[0]))


def log_linear(probe: Probe, sigma: Sigma) -> tuple[float, float] | None:
    """(p, c) where σ = e^{p·spread + c}."""
    at = np.linspace(-1.0, 1.0, 5)
    p, c = np.polyfit(at, np.log(sigma(at)), 1)
    fits = np.allclose(np.log(sigma(at)), p * at + c, atol=1e3 * probe.specimen.tolerance)
    return (float(p), float(c)) if fits and abs(p) > 1e-3 else None


def code_of(mu: Array, std: Array, slope: tuple[float, float]) -> Code:
    """The code of this mean and standard deviation, (N, latent) each, with `log_linear`'s (p, c)."""
    return Code(mu, (np.log(std) - slope[1]) / slope[0])


# --- the KL ---


def kl_of(code: Code, sigma: Sigma) -> float:
    """KL(N(mu, σ²) ‖ N(0, 1)) of the σ with which z is drawn, summed over latent dimensions, averaged over the
    batch."""
    return _normal_kl(code.mu, sigma(code.spread))


def _normal_kl(mu: Array, s: Array | float) -> float:
    return float(0.5 * (mu**2 + s**2 - 1 - 2 * np.log(s)).sum() / len(mu))


def weighed_duplicates(probe: Probe, rng: np.random.Generator) -> Iterator[Finding]:
    """The batch given twice, where the KL is large."""
    n, d = probe.specimen.eps.shape
    code = Code(2 * rng.standard_normal((n, d)), rng.uniform(-1, 1, (n, d)))
    x, eps = probe.specimen.x, probe.specimen.eps
    once = probe.loss(code, eps)[0]
    doubled = probe.loss(Code(twice(code.mu), twice(code.spread)), twice(eps), twice(x))[0]
    yield of_duplicates(probe.specimen, "loss", once, doubled, ", large KL")


def divergence(probe: Probe, sigma: Sigma, report: ObjectiveReport) -> float:
    """The KL term, measured at many means and spreads beside the KL of z's own distribution. Returns its weight β."""
    rng = np.random.default_rng(5)
    specimen = probe.specimen
    n, d = specimen.eps.shape
    codes = [
        Code(rng.uniform(0, 2) * rng.standard_normal((n, d)), rng.uniform(-1.2, 1.2) + rng.uniform(-0.4, 0.4, (n, d)))
        for _ in range(SETTINGS)
    ]
    losses = np.array([probe.mean_loss(code) for code in codes])
    kls = np.array([kl_of(code, sigma) for code in codes])
    (beta, rest), _, _, _ = np.linalg.lstsq(np.stack([kls, np.ones(SETTINGS)], axis=1), losses, rcond=None)
    beta = float(beta)
    scale = np.ptp(losses) + 1e-3 * np.abs(losses).max() + 1e-300
    fits = np.abs(beta * kls + rest - losses).max() <= max(1e-6, 30 * probe.specimen.tolerance) * scale
    said = declared(specimen.model)
    binding = {name: value for name, value in said.items() if WEIGHS.fullmatch(name)}
    allowed = [*said.values(), *([] if binding else [1.0])]
    first = next(iter(binding.values()), 1.0)
    weight = next((v for v in allowed if alike(beta, v, specimen)), first)
    top = int(np.argmax(kls))
    reference = int(np.argmin(kls))
    should = weight * (kls[top] - kls[reference])
    came = losses[top] - losses[reference]
    of_weight = partial(_of_another_weight, weight, binding, d, specimen)
    if not fits:
        says, why = _of_another_form(codes, sigma, losses, of_weight)
    else:
        says, why = of_weight(beta)
    report.checks.append(Finding("KL, beside that of z's distribution", figure(should), figure(came), says, why))
    if not says:
        report.checks += follows(probe, binding, beta, codes[top], codes[reference], kls[top] - kls[reference])
    return beta


def alike(beta: float, weight: float, specimen: Specimen) -> bool:
    """Whether two weights of the KL are one, but for rounding."""
    return abs(beta - weight) <= max(1e-5, 10 * specimen.tolerance) * max(1.0, abs(weight))


def declared(model: Any) -> dict[str, float]:
    """The numbers that a model holds under a name like beta."""
    return {
        name: float(value)
        for name, value in getattr(model, "__dict__", {}).items()
        if MAY_WEIGH.search(name) and not isinstance(value, bool) and np.ndim(value) == 0
        if isinstance(value, int | float | np.number | np.ndarray)
    }


def follows(probe: Probe, said: dict, beta: float, high: Code, low: Code, kl: float) -> Iterator[Finding]:
    """Where the weight of the KL is an attribute, the loss takes it from there."""
    for name, value in said.items():
        if not alike(beta, value, probe.specimen):
            continue
        other = Probe(probe.specimen)
        other.exchanged = probe.exchanged
        try:
            setattr(other.own.model, name, 0.37)
            came = other.mean_loss(high) - other.mean_loss(low)
        except Exception:
            continue
        says = why = ""
        if abs(came - 0.37 * kl) > 1e-4 * abs(kl) + probe.specimen.tolerance:
            says = f"the KL's weight does not follow {name}, which was set to 0.37"
            why = "A schedule or an option that sets it has no effect."
        yield Finding(f"KL, with {name} = 0.37", figure(0.37 * kl), figure(came), says, why)


def _of_another_weight(weight: float, said: dict, d: int, specimen: Specimen, beta: float) -> tuple[str, str]:
    """What it means that the KL has the weight β; "" where it is the one expected."""
    if alike(beta, weight, specimen):
        return "", ""
    of = f"{next(iter(said))} = {weight:g}" if said else "1"
    same = lambda a, b: abs(a - b) <= 1e-4 * abs(b)  # noqa: E731
    n = len(specimen.x)
    if abs(beta) < 1e-6:
        return (
            "the KL is not in the loss: its weight is 0",
            "σ shrinks to 0 and nothing draws codes to the prior: samples of the prior decode to noise.",
        )
    if same(beta, -weight):
        return (
            "the sign of the KL: it is rewarded, not paid for",
            "Codes are driven away from the prior without bound, and −loss is no bound.",
        )
    if d > 1 and same(beta, weight / d):
        return (
            f"the KL is averaged over the {d} latent dimensions, not summed",
            f"It counts {d} times too little, a β of {figure(beta)}: −loss is no bound on log p(x), reconstructions "
            "are sharp, and samples of the prior are poor.",
        )
    if same(beta, weight * n):
        return "the KL is summed over the batch, not averaged", "Its weight grows with the batch size."
    if same(beta, weight / n):
        return "the KL is divided by the batch size twice", "Its weight shrinks with the batch size."
    if specimen.features > 1 and same(beta, weight / specimen.features):
        return (
            f"the KL is divided by the {specimen.features} features of a sample",
            "Beside a reconstruction that is summed it hardly counts: −loss is no bound on log p(x).",
        )
    if same(beta, 2 * weight):
        return "the KL lacks its factor ½", "It counts twice: codes are pressed onto the prior, and blur."
    if same(beta, weight / 2):
        return "the KL has its factor ½ twice", "It counts half: −loss is no bound on log p(x)."
    return (
        f"the KL has the weight {figure(beta)}, where {of} is expected",
        "−loss is then no evidence lower bound; a weight that is meant belongs in an attribute `beta`.",
    )


FORMS: dict[str, Callable[[Array, Array], Array]] = {
    "mu²": lambda mu, s: mu**2,
    "σ²": lambda mu, s: s**2,
    "log σ²": lambda mu, s: 2 * np.log(s),
    "σ": lambda mu, s: s,
    "√σ": lambda mu, s: np.sqrt(s),
    "σ⁴": lambda mu, s: s**4,
    "mu": lambda mu, s: mu,
    "|mu|": lambda mu, s: np.abs(mu),
    "mu²/σ²": lambda mu, s: (mu / s) ** 2,
    "1/σ²": lambda mu, s: s**-2,
}


def _of_another_form(
    codes: list[Code], sigma: Sigma, losses: Array, of_weight: Callable[[float], tuple[str, str]]
) -> tuple[str, str]:
    """What the KL term is, where it is not ½ Σ (mu² + σ² − 1 − log σ²) times a weight."""
    why = "z is not drawn from the distribution whose KL is paid for: −loss is no bound on log p(x)."
    pairs = [(code.mu, sigma(code.spread)) for code in codes]
    names = _fewest(pairs, losses)
    if names is None:
        return "it is not the KL of the distribution that z is drawn from", why
    order = sorted(names, key=lambda name: (name != "mu²", "log" in name))
    term = " ".join(f"{'−' if names[name] < 0 else '+'} {abs(names[name]):.4g} Σ {name}" for name in order)
    formula = f"it is {term.removeprefix('+ ')}, with the σ of z, and should be 0.5 Σ mu² + 0.5 Σ σ² − 0.5 Σ log σ²"
    if "mu²" in names and (weighed := of_weight(2 * names["mu²"])[0]):
        formula += f"; and {weighed}"
    powers = {"σ": (1, "σ"), "σ⁴": (4, "σ⁴"), "√σ": (0.5, "√σ")}
    for name, (p, written) in powers.items():
        if set(names) == {"mu²", name, "log σ²"} and np.isclose(-names["log σ²"], names[name] * p / 2, rtol=1e-3):
            return (
                f"z is drawn with variance σ², but the KL has the variance {written}: {formula}",
                ("If the encoder gives logvar, σ is e^(½ logvar), not e^logvar. " if p == 1 else "")
                + "−loss is no bound on log p(x), and z is noisier, or less so, than is paid for. No gradient check "
                "can see it.",
            )
    expected = {"mu²", "σ²", "log σ²"}
    if set(names) < expected:
        lost = " and ".join(sorted(expected - set(names)))
        return f"the KL lacks its term in {lost}: {formula}", why
    if set(names) == expected:
        odd = [n for n in expected if np.sign(names[n]) != (-1 if n == "log σ²" else 1)]
        if odd:
            return f"the KL has the wrong sign in {' and '.join(odd)}: {formula}", why
    if set(names) == {"mu²/σ²", "1/σ²", "log σ²"}:
        return f"the KL is that of the prior to z's distribution, KL(p ‖ q) in the place of KL(q ‖ p): {formula}", why
    return f"the KL is not that of z's distribution: {formula}", why


def _fewest(pairs: list[tuple[Array, Array]], losses: Array) -> dict[str, float] | None:
    """The coefficients of the terms that explain the losses to rounding: at most three of them."""
    columns = {name: np.array([f(mu, s).sum() / len(mu) for mu, s in pairs]) for name, f in FORMS.items()}
    for count in (1, 2, 3):
        for names in combinations(FORMS, count):
            A = np.stack([*(columns[n] for n in names), np.ones(len(losses))], axis=1)
            found = np.linalg.lstsq(A, losses, rcond=None)[0]
            if np.abs(A @ found - losses).max() <= 1e-5 * np.ptp(losses):
                return dict(zip(names, map(float, found[:-1]), strict=True))
    return None


# --- the bound ---


def exact_bound(
    probe: Probe,
    slope: tuple[float, float],
    beta: float,
    density: reconstruction.Normal,
    report: ObjectiveReport,
) -> None:
    """With a linear decoder and a normal p(x|z) the likelihood is known: x ~ N(b, W Wᵀ + σ²). The bound reaches it
    where q(z|x) is the exact posterior, and lies below it elsewhere.

    The rows of W are orthogonal, so that the posterior has independent dimensions, and the mean of eps and −eps, all
    of them ±1, is the expectation over the noise: nothing here is drawn.
    """
    linear = LinearModel(probe, density)
    log_p, lacks = linear.log_likelihood(), density.missing(probe.specimen.features)
    mean, std = linear.posterior()

    def bound(mu: Array, s: Array) -> float:
        code = code_of(mu, s, slope)
        loss = probe.mean_loss(code, linear.x, linear.W, linear.b)
        return -(loss - (linear.declared_beta(beta) - 1) * _normal_kl(mu, s)) - lacks

    apart = _normal_kl(0.4 / std, 1.5)  # KL(q ‖ posterior)
    room = max(1e-5, 100 * probe.specimen.tolerance) * max(1.0, abs(log_p) + apart)
    for where, expected, came in (
        ("at the exact posterior", log_p, bound(mean, std)),
        ("elsewhere", log_p - apart, bound(mean + 0.4, 1.5 * std)),
    ):
        says = why = ""
        if came > log_p + room:
            says = f"the bound lies {figure(came - log_p)} nats above the exact log-likelihood of a linear model"
            why = "It is no lower bound: what it gains in training need not be gained by the model."
        elif abs(came - expected) > room:
            side = "below" if came < expected else "above"
            says = (
                f"for a linear model, whose likelihood is known, it lies {figure(abs(came - expected))} nats {side}"
            )
            why = "log p(x) − KL(q(z|x) ‖ p(z|x)) is the bound; this one draws q(z|x) away from the posterior."
        report.checks.append(Finding(f"bound {where}", figure(expected), figure(came), says, why))


class LinearModel:
    """z ~ N(0, I), x ~ N(b + z W, σ²), whose likelihood and posterior are known."""

    def __init__(self, probe: Probe, density: reconstruction.Normal):
        rng = np.random.default_rng(6)
        specimen = probe.specimen
        d, D = specimen.latent, specimen.features
        self.probe, self.variance = probe, density.variance
        self.b = np.full_like(specimen.x, 0.45)
        noise = np.sqrt(self.variance) * rng.standard_normal(specimen.x.shape)
        self.x = np.clip(self.b + noise, 0, 1)  # of likely samples, such as a model takes
        rows = min(d, D)
        orthogonal = np.linalg.qr(rng.standard_normal((D, rows)))[0].T
        self.W = np.zeros((d, D))
        self.W[:rows] = orthogonal * np.sqrt(self.variance) * rng.uniform(0.5, 2, (rows, 1))

    def posterior(self) -> tuple[Array, Array]:
        """Mean and standard deviation of z given x, (N, latent) each."""
        precision = 1 + (self.W**2).sum(axis=1) / self.variance
        r = (self.x - self.b).reshape(len(self.x), -1)
        mean = r @ self.W.T / self.variance / precision
        return mean, np.broadcast_to(precision**-0.5, mean.shape).copy()

    def log_likelihoods(self) -> Array:
        r = (self.x - self.b).reshape(len(self.x), -1)
        covariance = self.W.T @ self.W + self.variance * np.eye(r.shape[1])
        quadratic = (r * np.linalg.solve(covariance, r.T).T).sum(axis=1)
        return -0.5 * (quadratic + np.linalg.slogdet(2 * pi * covariance)[1])

    def log_likelihood(self) -> float:
        return float(self.log_likelihoods().mean())

    def declared_beta(self, beta: float) -> float:
        """The weight that the model says its KL has, which the bound does without."""
        said = declared(self.probe.specimen.model).values()
        return next((v for v in said if alike(beta, v, self.probe.specimen)), 1.0)


def importance_weighted(
    probe: Probe,
    slope: tuple[float, float],
    R: reconstruction.Term,
    density: reconstruction.Normal | None,
    report: ObjectiveReport,
) -> None:
    """L_K = E log (1/K) Σ_k w_k, of `bound(x, eps)` with eps (K, N, latent), or `log_likelihood(x, K, rng)`."""
    model = probe.specimen.model
    has = [name for name in ("bound", "log_likelihood") if callable(getattr(model, name, None))]
    if not has:
        report.notes.append(
            "not checked: the model has no bound(x, eps) of eps (K, N, latent), the importance-weighted one"
        )
    sign = 1
    if "bound" in has:
        try:
            finding, sign = _bound_of_draws(probe, slope, R)
        except Exception as error:
            report.unchecked.append(f"bound(x, eps) fails with eps of shape (K, N, latent): {described(error)}")
            return
        report.checks.append(finding)
    for name in has:
        if density is not None:
            _rising(probe, slope, density, name, sign if name == "bound" else 1, report)


def _bound_of_draws(probe: Probe, slope: tuple[float, float], R: reconstruction.Term) -> tuple[Finding, int]:
    """The bound of given draws, beside its formula; and −1 where it is a loss, −L_K."""
    rng = np.random.default_rng(8)
    K, n, d = 5, 2, probe.specimen.latent
    x = probe.specimen.x[:n]
    mu, std = 0.3 * rng.standard_normal((n, d)), rng.uniform(0.7, 1.2, (n, d))
    code = code_of(mu, std, slope)
    eps = rng.standard_normal((K, n, d))
    z = mu + std * eps
    full, y0 = len(probe.specimen.x), np.full_like(x, 0.5)
    W = rng.standard_normal((d, probe.specimen.features)) / np.sqrt(d)

    def log_weights() -> Array:
        log_w = 0.5 * (eps**2 + 2 * np.log(std) - z**2).sum(axis=2)
        for k, i in np.ndindex(K, n):
            y = y0[i] + (z[k, i] @ W).reshape(x.shape[1:])
            log_w[k, i] -= R(*(np.repeat(a[None], full, axis=0) for a in (x[i], y)))
        return log_w

    while np.ptp(log_w := log_weights(), axis=0).max() > 6 and abs(W).max() > 1e-4:  # so that not one weight is all
        W = W / 2
    probe.arrange(code, x, W, y0)
    came = as_loss("bound", probe.own.call("bound", x, eps))[0]

    top = log_w.max(axis=0)
    w = np.exp(log_w - top)
    expected = float((top + np.log(w.mean(axis=0))).mean())
    others = {
        "the mean of logarithms stands where the logarithm of the mean belongs": float(log_w.mean()),
        "the log-weights are summed with their normalised weights, Σ w̃ log w, in the place of log (1/K) Σ w": float(
            (w / w.sum(axis=0) * log_w).sum(axis=0).mean()
        ),
        "the sum of the weights is not divided by K": expected + log(K),
    }
    said = {
        0: "It is the ELBO of K draws, and does not rise with K.",
        1: "Its value exceeds the bound, and unless w̃ is held constant its gradient is another one as well: "
        "d(Σ w̃ log w) has the terms Σ log w dw̃ besides.",
        2: "It grows by log K whatever the model is.",
    }
    says = why = ""
    near = lambda a, b: abs(a - b) <= max(1e-6, 100 * probe.specimen.tolerance) * max(1.0, abs(b))  # noqa: E731
    sign = 1 if abs(came - expected) <= abs(came + expected) else -1
    came = sign * came
    if not near(came, expected):
        says = "it is not log (1/K) Σ w_k of the draws given"
        why = "Only the logarithm of the mean weight is a bound that rises to log p(x)."
        for i, (what, value) in enumerate(others.items()):
            if near(came, value):
                says, why = what, said[i]
    if not np.isfinite(expected):
        raise ValueError("the likelihood of a linear decoder is not finite")
    return Finding("importance-weighted bound, K = 5", figure(expected), figure(came), says, why), sign


def _rising(
    probe: Probe,
    slope: tuple[float, float],
    density: reconstruction.Normal,
    name: str,
    sign: int,
    report: ObjectiveReport,
) -> None:
    """On the linear model, from a q(z|x) that is not the posterior, L_K rises with K and stays below log p(x).

    Within 6 standard errors of the estimates, from 40 repetitions each.
    """
    linear = LinearModel(probe, density)
    mean, std = linear.posterior()
    code = code_of(mean + 0.3 * std, 1.2 * std, slope)
    log_p, lacks = linear.log_likelihood(), density.missing(probe.specimen.features)
    if name == "log_likelihood" and abs(lacks) > 1e-3:  # which of the two it is without, nobody can say
        return
    rng = np.random.default_rng(9)

    def estimates(K: int) -> Array:
        found = []
        for _ in range(40):
            probe.arrange(code, linear.x, linear.W, linear.b)
            if name == "bound":
                eps = rng.standard_normal((K, *mean.shape))
                found.append(as_loss(name, probe.own.call(name, linear.x, eps))[0])
            else:
                found.append(float(np.mean(probe.own.call(name, linear.x, K, rng))))
        return sign * np.array(found) - (lacks if name == "bound" else 0)

    try:
        one, many = estimates(1), estimates(64)
    except Exception:  # another signature
        return
    error = 6 * float(np.hypot(one.std(), many.std())) / np.sqrt(40) + 1e-3
    says = why = ""
    if many.mean() > log_p + error:
        says = f"with 64 draws it lies {figure(many.mean() - log_p)} nats above the exact log-likelihood"
        why = "It is no lower bound on log p(x)."
    elif many.mean() < one.mean() - error:
        says = "it falls as draws are added"
        why = "L_K does not fall with K (Burda et al. 2016, theorem 1)."
    expected = f"{figure(one.mean())} … {figure(log_p)}"
    report.checks.append(Finding(f"{name}: K = 64, beside K = 1", expected, figure(many.mean()), says, why))
