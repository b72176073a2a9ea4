"""What the records of a run say about it, in words: for the terminal and for the report.

Each function takes the records of the epochs so far, at least one, and the run's config; it returns a sentence, or ""
where the records do not decide. A symptom is what is wrong, and what to try.
"""

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import Any, TypeAlias

Epochs: TypeAlias = Sequence[Mapping[str, Any]]
Config: TypeAlias = Mapping[str, Any]

PATIENCE = 3  # epochs in a row that look alike before they are a symptom
NO_KL = 0.01  # nats per image, below which z says nothing
CERTAIN = 0.99  # D's mean probability when it has won the game
HARDLY = 0.005  # of what a loss was at first, below which a change of it is none
VANISHED = 1e-4  # of what a gradient's norm was at first
EARLY, EARLY_STEPS = 10, 800  # epochs, and steps, before which an autoencoder need not be ahead of PCA
BITS = 1 / log(2)  # a nat
WITHIN_3_SIGMA = 0.989  # of a normal distribution in the plane: 1 − exp(−9/2)


# --- what the others are made of ---


def series(epochs: Epochs, key: str) -> list[tuple[int, float]]:
    """(epoch, value) of the records that have this value."""
    return [(r["epoch"], r[key]) for r in epochs if isinstance(r.get(key), int | float)]


def for_long(epochs: Epochs, config: Config, fits: Callable[..., bool], *keys: str) -> bool:
    """Whether the values of these keys fit in each of the last PATIENCE records, or in all of a shorter run."""
    long = min(PATIENCE, config["epochs"])
    rows = [[r.get(key) for key in keys] for r in epochs[-long:]]
    there = all(isinstance(value, int | float) for row in rows for value in row)
    return there and len(epochs) >= long and all(fits(*row) for row in rows)


def number(value: float) -> str:
    """Three digits, as a person writes them."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}".replace("-", "−")
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:,.{digits}f}".replace("-", "−")


def stands(epochs: Epochs, config: Config) -> str:
    """The verb before a last value, which is the last of all when the run is over."""
    return "ended at" if epochs[-1]["epoch"] >= config["epochs"] else "is at"


def after(epoch: int) -> str:
    return f"after epoch {epoch}"


def rises_from(values: list[tuple[int, float]]) -> tuple[int, float] | None:
    """Where the least value is, if each of the last PATIENCE ones is above it by 5 % of the way down from the first,
    and by 1 % of itself: a curve that has turned."""
    if len(values) <= PATIENCE:
        return None
    least = min(values, key=lambda pair: pair[1])
    way = values[0][1] - least[1]
    rise = max(0.05 * way, 0.01 * abs(least[1]))
    turned = all(v > least[1] + rise for _, v in values[-PATIENCE:])
    return least if way > 0 and turned else None


# --- all models ---


def course(epochs: Epochs, key: str, what: str, unit: str = "") -> str:
    """How a loss that is to fall did."""
    values = series(epochs, key)
    if not values:
        return ""
    (begun, first), (ended, last) = values[0], values[-1]
    unit = f" {unit}" if unit else ""
    if begun == ended:
        return f"{what} is {number(last)}{unit} {after(ended)}."
    alike = number(first) == number(last) or abs(last - first) < HARDLY * abs(first)
    if alike or last > first:
        text = f"{what} has {'hardly changed' if alike else 'not fallen'}"
        text += f": {number(first)}{unit} {after(begun)}, {number(last)} {after(ended)}"
    else:
        text = f"{what} fell from {number(first)} {after(begun)} to {number(last)}{unit} {after(ended)}"
    turned = rises_from(values)
    if turned:
        return f"{text}, and was least, {number(turned[1])}, {after(turned[0])}."
    third = values[-max(2, len(values) // 3)][1]
    if not alike and len(values) >= 6 and last == min(v for _, v in values):
        share = (third - last) / (first - last)
        if share > 0.05:
            return f"{text}, and was still falling: more epochs would lower it further."
        if share < 0.01:
            return f"{text}, and is level now: more epochs would change little."
    return f"{text}."


def overfit(epochs: Epochs, config: Config) -> str:
    """Symptom: the test loss rises while the training loss falls."""
    least = rises_from(series(epochs, "test_loss"))
    if least is None:
        return ""
    training, test = dict(series(epochs, "loss")), series(epochs, "test_loss")[-1]
    if not training.get(test[0], 0) < training.get(least[0], 0):
        return ""
    return (
        f"the test loss has risen since epoch {least[0]} (from {number(least[1])} to {number(test[1])}) while the "
        "training loss fell: the model memorises the training images; try fewer --epochs, a smaller network, "
        "or more images"
    )


def vanished(epochs: Epochs, config: Config) -> str:
    """Symptom: a gradient, of GANs that of G, that is next to nothing of what it was."""
    of_generator = series(epochs, "g_gradient")
    values = of_generator or series(epochs, "gradient")
    most = max((v for _, v in values), default=0.0)
    if len(values) <= PATIENCE or not all(v < VANISHED * most for _, v in values[-PATIENCE:]):
        return ""
    name = "the gradient of G" if of_generator else "the gradient"
    what = f"{name} is {number(values[-1][1])} and was {number(most)}: nothing more is learnt (vanishing gradients)"
    if not of_generator:
        return f"{what}; try a lower --lr or another --seed"
    if config["loss"] == "minimax":
        return f"{what}; try --loss non-saturating, whose gradient stays when D is sure"
    return f"{what}; try a slower discriminator, --d-lr {config.get('d_lr', config['lr']) / 4:g}"


def norms(epochs: Epochs, key: str, what: str) -> str:
    values = series(epochs, key)
    if len(values) < 2:
        return ""
    (begun, first), (ended, last) = values[0], values[-1]
    return f"{what} was {number(first)} in epoch {begun} and {number(last)} in epoch {ended}."


# --- autoencoder ---


def beside_pca(epochs: Epochs, config: Config, measures: Mapping[str, Any] | None) -> str:
    """Whether an autoencoder beats the best linear one."""
    error, pca = (measures or {}).get("test_mse"), (measures or {}).get("pca_test_mse")
    if not isinstance(error, int | float) or not isinstance(pca, int | float):
        return ""
    numbers = f"({number(error)} against {number(pca)})"
    if error < pca:
        less = f"{100 * (1 - error / pca):.0f} %" if error < 0.995 * pca else "a little"
        return f"The error is {less} below that of PCA with as many components {numbers}."
    at = next((r for r in (measures, *epochs[-1:]) if r and "step" in r), {})
    epoch, step = at.get("epoch", EARLY), at.get("step", EARLY_STEPS)
    if epoch < EARLY and step in [r["step"] for r in epochs]:  # at the end of an epoch
        n = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[epoch - 1]
        s = "s" if epoch > 1 else ""
        return (
            f"After {n} epoch{s} this is early: PCA is ahead {numbers}; autoencoders pass it after about ten epochs."
        )
    if epoch < EARLY or step < EARLY_STEPS:
        about = "ten epochs" if step >= EARLY_STEPS else "a thousand"
        return (
            f"After {step:,} steps this is early: PCA is ahead {numbers}; autoencoders pass it after about {about}."
        )
    return f"PCA is ahead {numbers}: try more --epochs, a larger network, or a higher --lr."


# --- VAE ---


def posterior_collapse(epochs: Epochs, config: Config) -> str:
    """Symptom: q(z | x) is the prior whatever x is."""
    beta = config["beta"]
    if beta == 0 or not for_long(epochs, config, lambda kl: kl < NO_KL, "kl"):
        return ""
    what = f"the KL is {epochs[-1]['kl']:.3f} nats: z tells the decoder nothing of the image (posterior collapse)"
    return f"{what}; try --beta {1 if beta > 1 else beta / 10:g}"


def information(epochs: Epochs, config: Config) -> str:
    """What the KL term says of the code."""
    values = series(epochs, "test_kl") or series(epochs, "kl")
    if not values:
        return ""
    epoch, kl = values[-1]
    if kl < NO_KL:
        return f"The KL is {kl:.3f} nats {after(epoch)}: z says nothing of the image."
    bits = number(kl * BITS)
    return f"The KL is {number(kl)} nats {after(epoch)}: z tells at most {bits} bits of an image."


def used_dimensions(epochs: Epochs, config: Config) -> str:
    values = series(epochs, "active_units")
    if not values:
        return ""
    active, of = round(values[-1][1]), config["latent"]
    if active == of:
        return f"All {of} latent dimensions are used." if of > 1 else "The one latent dimension is used."
    if active == 0:
        return f"None of the {of} latent dimensions is used: the mean of z hardly depends on the image."
    verb, others = "is" if active == 1 else "are", "other" if of - active == 1 else "others"
    return (
        f"{active} of {of} latent dimensions {verb} used; in the {others} the mean of z hardly depends on the image."
    )


def gap(measures: Mapping[str, Any] | None) -> str:
    m = measures or {}
    if not all(isinstance(m.get(key), int | float) for key in ("negative_elbo", "importance_weighted_nll")):
        return ""
    difference = m["negative_elbo"] - m["importance_weighted_nll"]
    if difference < 0:
        return ""
    return f"The importance-weighted bound lies {number(difference)} nats below −ELBO."


def active_by_variance(measures: Mapping[str, Any] | None) -> str:
    """Of the latent dimensions, by Var(μ)."""
    m = measures or {}
    variances, active = m.get("variances_of_mu"), m.get("active_units")
    if not isinstance(variances, list) or not variances or not isinstance(active, int):
        return ""
    if not all(isinstance(v, int | float) for v in variances):
        return ""
    return f"{active} of {len(variances)} are above 0.01; the largest is {number(max(variances))}."


def codes_in_prior(measures: Mapping[str, Any] | None) -> str:
    """How the means of a VAE's codes lie to the prior."""
    share = (measures or {}).get("codes_within_2_sigma")
    if not isinstance(share, int | float):
        return ""
    text = f"{100 * share:.0f} % of the codes lie within 2σ; of N(0, I) it is 86 %"
    if share < 0.7:
        return f"{text}: many are where a draw of z seldom comes."
    return f"{text}."


def spread_of_codes(measures: Mapping[str, Any] | None) -> str:
    """How far an autoencoder's codes reach."""
    spread = (measures or {}).get("std_of_codes")
    if not isinstance(spread, list) or len(spread) != 2 or not all(isinstance(v, int | float) for v in spread):
        return ""
    return f"The standard deviation of z₁ is {number(spread[0])}, of z₂ {number(spread[1])}; a VAE's would be near 1."


# --- GAN ---


def equilibrium(config: Config) -> tuple[float, float, float]:
    """What D gives, and the losses of D and of G, where p_G = p and D is the best for it.

    With the label t for real samples D minimises −t log D − (1 − t) log(1 − D) − log(1 − D), so D = t/2.
    """
    t = 1 - config["smoothing"]
    d = t / 2
    g_loss = log(1 - d) if config["loss"] == "minimax" else -log(d)
    return d, -t * log(d) - (2 - t) * log(1 - d), g_loss


def idle(epochs: Epochs, config: Config) -> str:
    """Symptom: G is never updated."""
    last = epochs[-1]
    if "g_loss" in last:
        return ""
    steps = int(last.get("step", 0) / max(1, last.get("epoch", 1)))
    return f"G was not updated: with --k {config['k']} it is at every {config['k']}th step of {steps} an epoch"


def won(epochs: Epochs, config: Config) -> str:
    """Symptom: D tells every sample."""
    c = config

    def sure(real: float, fake: float) -> bool:
        return real >= (1 - c["smoothing"]) * CERTAIN and fake <= 1 - CERTAIN

    if not for_long(epochs, c, sure, "D(x)", "D(G(z))"):
        return ""
    last = epochs[-1]
    tries = ["--k 1"] if c["k"] > 1 else []
    tries += ["--loss non-saturating"] if c["loss"] == "minimax" else []
    tries += ["--smoothing 0.1"] if c["smoothing"] == 0 else []
    tries += [f"--d-lr {c.get('d_lr', c['lr']) / 4:g}"]
    what = f"D is sure of every sample (D(x) {last['D(x)']:.2f}, D(G(z)) {last['D(G(z))']:.2f})"
    return f"{what}, which leaves G little to learn from; try {' or '.join(tries)}"


def collapsed(epochs: Epochs, config: Config, modes: int | None) -> str:
    """Symptom: the samples keep to half of the modes or fewer. Their reverse KL, of all samples, is then at least
    log 2; samples that lie anywhere have a lower one, and are no collapse."""
    if modes is None or not for_long(
        epochs, config, lambda found, kl: 0 < found <= modes / 2 and kl >= log(2), "modes", "reverse_kl"
    ):
        return ""
    found = round(epochs[-1]["modes"])
    tries = ["--loss non-saturating"] if config["loss"] == "minimax" else []
    tries += [f"--k {config['k'] + 1}", f"--lr {config['lr'] / 2:g}", "another --seed"]
    what = f"G makes {found} of the {modes} modes only (mode collapse)"
    return f"{what}; try {', '.join(tries[:-1])} or {tries[-1]}"


def game(epochs: Epochs, config: Config) -> str:
    """How D and G stand."""
    real, fake = series(epochs, "D(x)"), series(epochs, "D(G(z))")
    if not real or not fake:
        return ""
    even = equilibrium(config)[0]
    (_, x), (_, g) = real[-1], fake[-1]
    verb = stands(epochs, config)
    text = f"D(x) {verb} {x:.2f} and D(G(z)) at {g:.2f}"
    since = _since(fake, falling=True)
    if x >= (1 - config["smoothing"]) * CERTAIN and g <= 1 - CERTAIN:
        return f"{text}: D tells every sample, and G has little to learn from."
    if since and g < 0.5 * even:
        return f"D(G(z)) {verb} {g:.2f} and has fallen since epoch {since}: D is winning."
    if abs(x - even) < 0.06 and abs(g - even) < 0.06:
        what = "D can hardly tell samples from data, be it that these are good, or that D is weak"
        return f"{text}, both near {even:.2g}: {what}."
    if g > even + 0.1 and g >= x - 0.02:
        return f"{text}: G deceives D, which lags behind."
    if x - g > 0.5:
        return f"{text}: D is ahead, and tells most samples from data."
    return f"{text}: D tells some samples from data, and both players learn."


def _since(values: list[tuple[int, float]], *, falling: bool) -> int | None:
    """The epoch since which the values have fallen (or risen), if for PATIENCE records at least, by 0.1 or more, and
    without once going the other way by more than a tenth of it."""
    sign = -1 if falling else 1
    peak = max(range(len(values)), key=lambda i: (-sign * values[i][1], i))
    way = [sign * v for _, v in values[peak:]]
    change = way[-1] - way[0]
    if len(way) <= PATIENCE or change < 0.1:
        return None
    back = max(max(way[: i + 1]) - v for i, v in enumerate(way))
    return values[peak][0] if back <= 0.1 * change else None


def losses_of_the_game(epochs: Epochs, config: Config) -> str:
    d, g = series(epochs, "d_loss"), series(epochs, "g_loss")
    if not d:
        return ""
    _, even_d, even_g = equilibrium(config)
    text = f"D's loss {stands(epochs, config)} {number(d[-1][1])}, at equilibrium it is {number(even_d)}"
    if g:
        text += f"; G's at {number(g[-1][1])}, at equilibrium {number(even_g)}"
    if abs(d[-1][1] - even_d) < 0.05 * even_d:
        return f"{text}: D is close to guessing."
    if d[-1][1] < 0.1 * even_d:
        return f"{text}: D makes hardly a mistake."
    if d[-1][1] > 1.3 * even_d:
        return f"{text}: D does worse than guessing would, as when G has just changed under it."
    return f"{text}."


def covered(epochs: Epochs, config: Config, modes: int | None) -> str:
    values = series(epochs, "modes")
    if not values or modes is None:
        return ""
    last, most = values[-1], max(values, key=lambda pair: pair[1])
    if last[1] >= modes:
        whole = len(values)
        while whole > 0 and values[whole - 1][1] >= modes:
            whole -= 1
        return f"All {modes} modes are reached, since epoch {values[whole][0]}."
    text = f"{last[1]:.0f} of {modes} modes are reached"
    if most[1] > last[1]:
        return f"{text}, and there were {most[1]:.0f} {after(most[0])}: G has lost some."
    return f"{text} so far." if last[0] < config["epochs"] else f"{text}."


def quality(epochs: Epochs, config: Config) -> str:
    values = series(epochs, "high_quality")
    if not values:
        return ""
    share = 100 * values[-1][1]
    even = 100 * WITHIN_3_SIGMA
    if share >= 97:
        return f"{share:.0f} % of the samples are within 3σ of a mode, and {even:.0f} % of the data are."
    where = "the rest lie between modes or beside them"
    return f"{share:.0f} % of the samples are within 3σ of a mode ({even:.0f} % of the data are): {where}."


def classes_made(measures: Mapping[str, Any] | None) -> str:
    m = measures or {}
    shares, names = m.get("histogram"), m.get("classes")
    if not isinstance(shares, list) or not shares or not all(isinstance(s, int | float) for s in shares):
        return ""
    if not isinstance(names, list) or len(names) != len(shares):
        names = [str(k) for k in range(len(shares))]
    missing = [str(n) for n, s in zip(names, shares, strict=True) if s == 0]
    least, most = (f(range(len(shares)), key=lambda k: shares[k]) for f in (min, max))
    if shares[most] > 0.6:
        what = "G makes much the same of all z, or nothing yet that the classifier knows"
        return f"{100 * shares[most]:.0f} % of the samples are taken for {names[most]}: {what}."
    if missing:
        return f"No sample is taken for {', '.join(missing)}: G leaves out part of the data."
    if shares[least] < 0.3 / len(shares):
        return f"The rarest is {names[least]}, {100 * shares[least]:.1f} % of the samples."
    return f"Every class is made; the rarest is {names[least]}, {100 * shares[least]:.1f} %."


def copies(measures: Mapping[str, Any] | None) -> str:
    m = measures or {}
    own, unseen = m.get("nearest_training_image"), m.get("nearest_of_test_images")
    if not isinstance(own, int | float) or not isinstance(unseen, int | float) or unseen <= 0:
        return ""
    text = f"The median sample is {number(own)} away from its nearest training image, a test image {number(unseen)}"
    if own < 0.5 * unseen:
        return f"{text}: so near, the samples are copies of training images, or blank."
    if own > 0.85 * unseen:
        return f"{text}: the samples are not copies."
    return f"{text}."


def evenness(measures: Mapping[str, Any] | None) -> str:
    m = measures or {}
    if not all(isinstance(m.get(key), int | float) for key in ("reverse_kl", "of", "modes")):
        return ""
    kl, of, found = m["reverse_kl"], m["of"], m["modes"]
    text = f"{found} of {of} modes are reached; the reverse KL is {kl:.3f} nats"
    if kl < 0.02:
        return f"{text}: nearly even."
    return f"{text}, of at most log {of} = {log(of):.2f}."
