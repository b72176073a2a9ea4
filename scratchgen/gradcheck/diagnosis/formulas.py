"""What is wrong in terms of the formula: the term that is missing or too much, or what backward gives instead."""

from dataclasses import replace

import numpy as np

from scratchgen.gradcheck.diagnosis.evidence import Evidence
from scratchgen.gradcheck.diagnosis.fit import LEFT, ROUNDING, Fit, Term, solve, spelled, written
from scratchgen.gradcheck.diagnosis.terms import EPS, _axes_sets, dictionary


def by_formula(evidence: Evidence) -> str:
    """A sentence on the formula, or "" where none explains the difference."""
    return _normalisation(evidence) or _by_terms(evidence)


def allowance(evidence: Evidence) -> float:
    """How much of the difference may remain unexplained."""
    given, true = evidence.given(), evidence.true()
    return LEFT * float(np.linalg.norm(given - true)) + ROUNDING * float(np.linalg.norm(true))


def _by_terms(evidence: Evidence) -> str:
    given, true, allowed = evidence.given(), evidence.true(), allowance(evidence)
    if given.size < 8:
        return ""
    plain, every = dictionary(evidence, with_true=False), dictionary(evidence)
    of_true = plain.fit(true, min(allowed, LEFT * float(np.linalg.norm(true))))
    of_given = plain.fit(given, allowed)
    if of_true and of_given:
        one = plain.fit(given - true, allowed, most=1)
        if one and len(of_true.terms) + len(of_given.terms) > 2 and not (set(_texts(of_true)) & set(_texts(one))):
            return f"{_off_by(evidence, one)}: backward gives {written(of_given, evidence.sizes)}"
        return _two_formulas(evidence, of_given, of_true)
    rest = every.fit(given - true, allowed, most=1)
    whole = every.fit(given, allowed, most=1)
    if whole:
        return _instead(evidence, whole)
    if rest:
        return _off_by(evidence, rest)
    if lacking := _factor_left_out(evidence, allowed):
        return lacking
    rest = plain.fit(given - true, allowed)
    return _off_by(evidence, rest) if rest else ""


def _two_formulas(evidence: Evidence, given: Fit, true: Fit) -> str:
    """Both are known: what is said is the shorter, the terms by which they differ, or the two beside each other."""
    terms = {t.text: t for t in (*given.terms, *true.terms)}
    changes = [(t, given.coefficient(t), true.coefficient(t)) for t in terms.values()]
    changes = [(t, a, n) for t, a, n in changes if abs(a - n) > 1e-4 * max(abs(a), abs(n))]
    sizes = evidence.sizes
    both = f"backward gives {written(given, sizes)}; the gradient is {written(true, sizes)}"
    if len(changes) == 1:
        ((term, a, n),) = changes
        one = Fit((term,), (n,))
        if not a:
            return f"what is missing is {written(one, sizes)}{_why(term)}: the gradient is {written(true, sizes)}"
        if not n:
            return f"{written(Fit((term,), (a,)), sizes)} is too much: the gradient is {written(true, sizes)}"
        return f"{term.text} has the factor {spelled(a, sizes)}, and {spelled(n, sizes)} is right: {both}"
    return both + next((_why(t) for t, a, n in changes if n and not a), "")


def _texts(fit: Fit) -> list[str]:
    return [t.text for t in fit.terms]


def _why(term: Term) -> str:
    """What a sum in a formula means."""
    if "Σ" in term.text and " over " in term.text:
        axes = term.text.rpartition(" over ")[2]
        return f" (each element acts on every output along {axes})"
    return ""


def _instead(evidence: Evidence, given: Fit) -> str:
    """What backward gives, where the true formula is not known, or is the gradient g itself."""
    (term,), (c,) = given.terms, given.coefficients
    sizes = evidence.sizes
    if term.text == "dy" and abs(c - 1) < 1e-6:
        return "backward passes dy on as it is: the derivative is left out"
    if term.text.endswith(" · g"):
        return f"backward gives {_factor_of(term, c, sizes)} times the gradient: that factor is too much"
    if term.text.startswith("Σ g over"):
        axes = term.text.removeprefix("Σ g over ")
        what = "averaged" if 0 < c < 1 else "summed"
        return f"every element along {axes} gets the same: the gradient is {what} over {axes} where each has its own"
    return f"backward gives {written(given, sizes)}, which is not the gradient"


def _off_by(evidence: Evidence, rest: Fit) -> str:
    """One or two terms explain the difference. They are missing where the gradient with them is the longer one."""
    given, true, sizes = evidence.given(), evidence.true(), evidence.sizes
    own = evidence.name.removesuffix(".grad")
    if _texts(rest) == ["1"]:
        return f"it is off by {rest.coefficients[0]:.5g} everywhere: a constant is added or left out"
    if evidence.is_parameter and _texts(rest) == [own]:
        return f"it is off by {written(rest, sizes)}: a decay term, λ · {own}, has the wrong factor or sign"
    why = next(filter(None, map(_why, rest.terms)), "")
    if np.linalg.norm(given) < np.linalg.norm(true):
        return f"what is missing is {written(rest, sizes, negative=True)}{why}"
    return f"{written(rest, sizes)} is too much{why}"


def _factor_left_out(evidence: Evidence, allowed: float) -> str:
    """Whether the gradient is what backward gives, times a factor that it has forgotten."""
    other = replace(evidence, scenes=[replace(s, true=s.given, given=s.true) for s in evidence.scenes])
    fit = dictionary(other).fit(evidence.true(), allowed, most=1)
    if not fit or not fit.terms[0].text.endswith(" · g"):
        return ""
    factor = _factor_of(fit.terms[0], fit.coefficients[0], evidence.sizes)
    return f"the factor {factor} is missing: with it the gradient is right"


def _factor_of(term: Term, c: float, sizes: dict[str, int]) -> str:
    """w of the term w · g, with its coefficient."""
    return written(Fit((Term(term.text.removesuffix(" · g"), term.value, 0),), (c,)), sizes)


# --- the gradient of a normalisation ---


def _normalisation(evidence: Evidence) -> str:
    """dx = s (d − mean d − x̂ mean(d x̂)) with d = dy, or dy γ: which of the three is wrong, and how."""
    scenes = evidence.scenes
    x, y = scenes[0].value, scenes[0].y
    if evidence.is_parameter or x.ndim < 2 or y.shape != x.shape:
        return ""
    allowed = allowance(evidence)
    scales = [None, *(n for n, f in scenes[0].fields.items() if f.ndim and n != "y" and 1 < f.size < x.size)]
    for axes, where in _axes_sets(x.ndim):
        for scale in scales:
            for eps in (EPS, 0.0):
                terms = _norm_terms(evidence, axes, scale, eps)
                if terms is None:
                    continue
                true = solve(terms, evidence.true(), 1e-4 * float(np.linalg.norm(evidence.true())))
                if not true or not np.allclose(
                    true.coefficients, np.array([1, -1, -1]) * true.coefficients[0], rtol=1e-2
                ):
                    continue
                given = solve(terms, evidence.given(), max(allowed, 1e-4 * float(np.linalg.norm(evidence.given()))))
                if given:
                    m = int(np.prod([x.shape[a] for a in axes]))
                    return _of_norm([g / true.coefficients[0] for g in given.coefficients], m, where)
    return ""


def _norm_terms(evidence: Evidence, axes: tuple[int, ...], scale: str | None, eps: float) -> list[Term] | None:
    values: list[list] = [[], [], []]
    for scene in evidence.scenes:
        f, d = scene.value, scene.dy
        if scale is not None:
            gamma = scene.fields[scale]
            try:
                d = d * gamma
            except ValueError:
                return None
            if d.shape != f.shape:
                return None
        s = 1 / np.sqrt(f.var(axis=axes, keepdims=True) + eps)
        x_hat = (f - f.mean(axis=axes, keepdims=True)) * s
        parts = (s * d, s * d.mean(axis=axes, keepdims=True), s * x_hat * (d * x_hat).mean(axis=axes, keepdims=True))
        for kept, part in zip(values, parts, strict=True):
            kept.append(np.broadcast_to(part, f.shape).ravel())
    return [Term(name, np.concatenate(v), 0) for name, v in zip(("dy/σ", "mean", "variance"), values, strict=True)]


def _of_norm(c: list[float], m: int, where: str) -> str:
    direct, mean, var = c[0], -c[1], -c[2]

    def near(a, b):
        return abs(a - b) <= 1e-3 * max(1.0, abs(b))

    formula = f"dx = (dy − mean(dy) − x̂ · mean(dy · x̂)) / σ, means{where}"
    if near(direct, 1) and near(mean, 0) and near(var, 0):
        return f"mean and variance are taken for constants, and both depend on x: {formula}"
    if near(direct, 1) and near(mean, m) and near(var, m):
        return f"1/m, m = {m}, is missing before the sums of the mean and the variance: {formula}"
    if near(direct, 1) and near(mean, 1 / m) and near(var, 1 / m):
        return f"the terms through mean and variance are divided by m = {m} twice: {formula}"
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
        wrong.append(f"the direct term, dy / σ, has the factor {direct:.5g}")
    return f"{' and '.join(wrong)}: {formula}" if 0 < len(wrong) <= 2 else ""
