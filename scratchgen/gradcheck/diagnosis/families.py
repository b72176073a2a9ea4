"""Layers that are known by their true gradient, normalisations and attention: what is wrong, in their own terms."""

from collections.abc import Iterator

import numpy as np

from scratchgen.backend import Array
from scratchgen.functions import softmax
from scratchgen.gradcheck.diagnosis.evidence import Evidence, Scene
from scratchgen.gradcheck.diagnosis.fit import Term, allowance, solve
from scratchgen.gradcheck.diagnosis.terms import EPS, axes_sets

Axes = tuple[int, ...]


def normalisation(evidence: Evidence) -> str:
    """dx = (d − mean d − x̂ mean(d x̂)) / σ with d = dy, or dy · γ: which part is wrong, and how; or ""."""
    first = evidence.scenes[0]
    x, y = first.value, first.y
    if evidence.is_parameter or x.ndim < 2 or y.shape != x.shape:
        return ""
    given, true = evidence.given(), evidence.true()
    exact = 1e-4 * float(np.linalg.norm(true))
    allowed = max(allowance(given, true), 1e-4 * float(np.linalg.norm(given)))
    sets = axes_sets(x.ndim)
    for axes, where in sets:
        for scale in _scales(evidence):
            eps = next((e for e in (EPS, 0.0) if _is_normalisation(evidence, axes, scale, e, true, exact)), None)
            if eps is None:
                continue
            m = int(np.prod([x.shape[a] for a in axes]))
            formula = _formula(scale, where)
            fit = solve(_terms(evidence, axes, axes, scale, eps), given, allowed)
            if said := _factors(list(fit.coefficients), m) if fit else "":
                return f"{said}: {formula}"
            left_in = [*_terms(evidence, axes, axes, scale, eps), _mean_left_in(evidence, axes, scale, eps)]
            fit = solve(left_in, given, allowed)
            if fit and np.allclose(fit.coefficients[:3], (1, -1, -1), rtol=1e-2):
                return (
                    "a term with mean(x) · mean(d · x̂) / σ² is too much, in the gradient of the mean: the variance "
                    f"sends nothing through it, as Σ (x − mean(x)) is 0: {formula}"
                )
            for other in (s for s in _scales(evidence) if s != scale):
                if _is_normalisation(evidence, axes, other, eps, given, allowed):
                    return f"{scale or other} is {'left out' if scale else 'too much'}: {formula}"
            for others, elsewhere in sets:
                fit = solve(_terms(evidence, axes, others, scale, eps), given, allowed) if others != axes else None
                if fit and np.allclose(fit.coefficients, (1, -1, -1), rtol=1e-2):
                    return f"the means are taken{elsewhere}, and mean and variance of x are taken{where}: {formula}"
    return ""


def _scales(evidence: Evidence) -> list[str | None]:
    """None, and the names of what may be γ."""
    first = evidence.scenes[0]
    return [None, *(n for n, f in first.fields.items() if f.ndim and n != "y" and 1 < f.size < first.value.size)]


def _is_normalisation(
    evidence: Evidence, axes: Axes, scale: str | None, eps: float, gradient: Array, allowed: float
) -> bool:
    terms = _terms(evidence, axes, axes, scale, eps)
    fit = solve(terms, gradient, allowed) if terms else None
    return fit is not None and np.allclose(fit.coefficients, (1, -1, -1), rtol=1e-2)


def _terms(evidence: Evidence, axes: Axes, means: Axes, scale: str | None, eps: float) -> list[Term]:
    """d / σ, mean(d) / σ and x̂ mean(d x̂) / σ; x̂ and σ over `axes`, the means over `means`. None where γ does not
    fit."""
    values: list[list[Array]] = [[], [], []]
    for scene in evidence.scenes:
        x, d = scene.value, scene.dy
        if scale is not None:
            try:
                d = np.broadcast_to(d * scene.fields[scale], x.shape)
            except ValueError:
                return []
        s = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
        x_hat = (x - x.mean(axis=axes, keepdims=True)) * s
        mean = d.mean(axis=means, keepdims=True)
        parts = s * d, s * mean, s * x_hat * (d * x_hat).mean(axis=means, keepdims=True)
        for kept, part in zip(values, parts, strict=True):
            kept.append(np.broadcast_to(part, x.shape).ravel())
    return [Term(name, np.concatenate(v), 0) for name, v in zip(("d", "mean", "variance"), values, strict=True)]


def _mean_left_in(evidence: Evidence, axes: Axes, scale: str | None, eps: float) -> Term:
    """mean(x) mean(d x̂) / σ²: what Σ x in the place of Σ (x − mean x) leaves."""
    values = []
    for scene in evidence.scenes:
        x, d = scene.value, scene.dy if scale is None else scene.dy * scene.fields[scale]
        mean, s = x.mean(axis=axes, keepdims=True), 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
        part = mean * s * s * (d * (x - mean) * s).mean(axis=axes, keepdims=True)
        values.append(np.broadcast_to(part, x.shape).ravel())
    return Term("mean left in", np.concatenate(values), 0)


def _formula(scale: str | None, where: str) -> str:
    d, such = ("dy", "") if scale is None else ("d", f", d = dy · {scale}")
    return f"dx = ({d} − mean({d}) − x̂ · mean({d} · x̂)) / σ{such}, means{where}"


def _factors(c: list[float], m: int) -> str:
    """What the factors of the three terms say, which should be 1, −1 and −1."""
    direct, mean, var = c[0], -c[1], -c[2]

    def near(a: float, b: float) -> bool:
        return abs(a - b) <= 1e-3 * max(1.0, abs(b))

    if near(direct, 1) and near(mean, 0) and near(var, 0):
        return "mean and variance are taken for constants, and both depend on x"
    if near(direct, 1) and near(mean, m) and near(var, m):
        return f"1/m, m = {m}, is missing before the sums of the mean and the variance"
    if near(direct, 1) and near(mean, 1 / m) and near(var, 1 / m):
        return f"the terms through mean and variance are divided by m = {m} twice"
    wrong = []
    for name, value in (("mean", mean), ("variance", var)):
        if near(value, 0):
            wrong.append(f"the term through the {name} is missing")
        elif near(value, -1):
            wrong.append(f"the term through the {name} has the wrong sign")
        elif near(value, m):
            wrong.append(f"1/m, m = {m}, is missing in the term through the {name}")
        elif near(value, 1 / m):
            wrong.append(f"the term through the {name} is divided by m = {m} twice")
        elif not near(value, 1):
            wrong.append(f"the term through the {name} has the factor {value:.5g}")
    if not near(direct, 1):
        wrong.append(f"the direct term, d / σ, has the factor {direct:.5g}")
    return " and ".join(wrong) if len(wrong) <= 2 else ""


# --- norms ---


def projection(evidence: Evidence) -> str:
    """Where forward divides v by its own length, dv = a − v Σ (a v) / Σ v²: whether only a is there; or ""."""
    given, true = evidence.given(), evidence.true()
    value = evidence.scenes[0].value
    name = evidence.name.removesuffix(".grad") if evidence.is_parameter else evidence.name.removeprefix("d")
    sets: list[tuple[Axes, str]] = [((k,), f" over axis {k}") for k in range(value.ndim)]
    sets += [(tuple(range(value.ndim)), "")] if value.ndim > 1 else []
    for axes, where in sets:
        if np.prod([value.shape[a] for a in axes]) < 3:
            continue
        parts, factors = [], []
        for s in evidence.scenes:
            along = np.sum(s.given * s.value, axis=axes, keepdims=True) / np.sum(s.value**2, axis=axes, keepdims=True)
            parts.append((s.value * along).ravel())
            factors.append(along.ravel())
        if np.ptp(factors) <= 1e-6 * np.abs(factors).max():  # for every dy: a multiple of v is added
            continue
        if np.linalg.norm(given - np.concatenate(parts) - true) <= allowance(given, true):
            return (
                f"the length of {name} is taken for a constant: what is missing is − {name} · Σ (d·{name}) / "
                f"Σ {name}²{where}, where d is what backward gives: the projection off {name}"
            )
    return ""


# --- attention ---


def attention(evidence: Evidence) -> str:
    """y = softmax(q kᵀ c) v, c = 1 or 1/√d: what stands in the place of dq, dk or dv; or ""."""
    first = evidence.scenes[0]
    if len(first.inputs) < 3 or not all(isinstance(x, np.ndarray) and x.ndim >= 2 for x in first.inputs[:3]):
        return ""
    names = evidence.inputs[:3]
    which = next((k for k in range(3) if evidence.name == f"d{names[k]}"), None)
    if which is None:
        return ""
    q, k, v = first.inputs[:3]
    for c in (q.shape[-1] ** -0.5, 1.0):
        try:
            is_attention = np.allclose(softmax(_scores(q, k, c)) @ v, first.y)
        except ValueError:
            return ""
        if not is_attention:
            continue
        given, true = evidence.given(), evidence.true()
        for what, of_scene in _variants(which, names, c):
            value = np.concatenate([of_scene(scene).ravel() for scene in evidence.scenes])
            fit = solve([Term(what, value, 0)], given, allowance(given, true))
            if fit:
                times = "" if abs(fit.coefficients[0] - 1) < 1e-4 else f", times {fit.coefficients[0]:.5g}"
                return f"{what}{times}"
    return ""


def _scores(q: Array, k: Array, c: float) -> Array:
    return q @ np.swapaxes(k, -1, -2) * c


def _variants(which: int, names: list[str], c: float) -> Iterator[tuple]:
    """What a gradient may be by mistake: a sentence, and the value as a function of the scene."""
    scaled = c != 1

    def parts(scene: Scene) -> tuple[Array, Array, Array]:
        q, k, v = scene.inputs[:3]
        s = _scores(q, k, c)
        p = softmax(s)
        return s, p, scene.dy @ np.swapaxes(v, -1, -2)

    if which == 2:
        right = f"d{names[2]} = pᵀ dy with the weights p = softmax(s)"
        yield (
            f"the scores s stand where the softmax of them belongs: {right}",
            (lambda scene: np.swapaxes(parts(scene)[0], -1, -2) @ scene.dy),
        )
        yield f"the weights p are not transposed: {right}", lambda scene: _square(parts(scene)[1]) @ scene.dy
        return
    right = "ds = p · (dp − Σ dp·p over the row), dp = dy " + names[2] + "ᵀ"
    wrong = {
        "softmax is taken by its diagonal, without the rest of its row": lambda p, dp: p * (1 - p) * dp,
        "the sum over the row is missing in the gradient of softmax": lambda p, dp: p * dp,
        "the gradient of softmax is left out, dp stands for ds": lambda p, dp: dp,
        "the factor p is missing in the gradient of softmax": lambda p, dp: dp - (dp * p).sum(-1, keepdims=True),
        "the sum Σ dp·p is taken over the wrong axis": lambda p, dp: p * (dp - (dp * p).sum(-2, keepdims=True)),
    }
    for what, ds in wrong.items():
        for factor in (c, 1.0) if scaled else (1.0,):
            also = "" if factor == c else f", and 1/√d, d = {round(c**-2)}, too"

            def value(scene, ds=ds, factor=factor):
                _, p, dp = parts(scene)
                d = ds(p, dp) * factor
                other = scene.inputs[1 - which]
                return (d if which == 0 else np.swapaxes(d, -1, -2)) @ other

            yield f"{what}{also}: {right}", value


def _square(p: Array) -> Array:
    return p if p.shape[-1] == p.shape[-2] else np.full_like(np.swapaxes(p, -1, -2), np.nan)
