"""What is wrong in terms of the formula: the term that is missing or too much, or what backward gives instead."""

from dataclasses import replace

import numpy as np

from scratchgen.gradcheck.diagnosis.evidence import Evidence
from scratchgen.gradcheck.diagnosis.families import attention, normalisation
from scratchgen.gradcheck.diagnosis.fit import LEFT, Dictionary, Fit, Term, allowance, solve, spelled, written
from scratchgen.gradcheck.diagnosis.terms import dictionary, multiples


def by_formula(evidence: Evidence) -> str:
    """A sentence on the formula, or "" where none explains the difference."""
    return normalisation(evidence) or attention(evidence) or _by_terms(evidence)


def _by_terms(evidence: Evidence) -> str:
    given, true = evidence.given(), evidence.true()
    if given.size < 8:
        return ""
    allowed = allowance(given, true)
    plain = dictionary(evidence, with_true=False)
    of_true = plain.fit(true, min(allowed, LEFT * float(np.linalg.norm(true))))
    of_given = plain.fit(given, allowed)
    if of_true and of_given:
        return _two_formulas(evidence, plain, of_given, of_true)
    every = dictionary(evidence)
    rest = every.fit(given - true, allowed, most=1)
    if whole := every.fit(given, allowed, most=1):
        return _instead(evidence, whole, of_true)
    if rest:
        return _off_by(evidence, rest)
    if lacking := _factor_left_out(evidence):
        return f"the factor {lacking} is missing: with it the gradient is right"
    if rest := plain.fit(given - true, allowed):
        return _off_by(evidence, rest)
    if of_given:
        return f"backward gives {written(of_given, evidence.sizes)}, which is not the gradient"
    return ""


def _two_formulas(evidence: Evidence, plain: Dictionary, given: Fit, true: Fit) -> str:
    """Both are known: the two beside each other, and before that the shortest way from the one to the other."""
    sizes = evidence.sizes
    both = f"backward gives {written(given, sizes)}; the gradient is {written(true, sizes)}"
    shortest = _left_out(evidence, given, true) or _change(evidence, *_in_the_same_terms(evidence, given, true))
    if not shortest:
        rest = plain.fit(evidence.given() - evidence.true(), allowance(evidence.given(), evidence.true()), most=1)
        shortest = _off_by(evidence, rest) if rest and not set(_texts(rest)) & set(_texts(true)) else ""
    sums = [_why(evidence, t) for t in true.terms if t.text not in _texts(given)]
    why = next(filter(None, sums), "") if "each element" not in shortest else ""
    return (f"{shortest}: " if shortest else "") + both + why


def _in_the_same_terms(evidence: Evidence, given: Fit, true: Fit) -> tuple[Fit, Fit]:
    """The two as sums of the same terms, where one can be written in those of the other."""
    a, n = evidence.given(), evidence.true()
    if len(given.terms) > 1 and (again := solve(given.terms, n, LEFT * float(np.linalg.norm(n)))):
        return given, again
    if len(true.terms) > 1 and (again := solve(true.terms, a, LEFT * float(np.linalg.norm(a)))):
        return again, true
    return given, true


def _change(evidence: Evidence, given: Fit, true: Fit) -> str:
    """The one term by which they differ."""
    terms = {t.text: t for t in (*given.terms, *true.terms)}
    largest = max(map(abs, (*given.coefficients, *true.coefficients)))
    changes = [(t, given.coefficient(t), true.coefficient(t)) for t in terms.values()]
    changes = [(t, a, n) for t, a, n in changes if abs(a - n) > 1e-4 * largest]
    if len(changes) != 1 or len(terms) < 2:
        return ""
    ((term, a, n),) = changes
    if abs(a) < 1e-4 * abs(n):
        return f"what is missing is {written(Fit((term,), (n,)), evidence.sizes)}{_why(evidence, term)}"
    if abs(n) < 1e-4 * abs(a):
        return f"{written(Fit((term,), (a,)), evidence.sizes)} is too much"
    if abs(a + n) < 1e-4 * abs(n):
        return f"{term.text} has the wrong sign"
    if abs(a - 2 * n) < 1e-4 * abs(n):
        return f"{term.text} is counted twice"
    return f"{term.text} has the factor {spelled(a, evidence.sizes)}, and {spelled(n, evidence.sizes)} is right"


def _left_out(evidence: Evidence, given: Fit, true: Fit) -> str:
    """The one factor that makes the gradient of what backward gives."""
    if len(given.terms) > 1 or len(true.terms) > 1:
        return ""
    factor = _factor_left_out(evidence)
    if "[" in factor:
        scale = "" if factor.startswith("[") else " and its scale"
        return f"the mask{scale}, {factor}, is missing, so that dy passes where y does not depend on it"
    return f"the factor {factor} is missing" if factor else ""


def _texts(fit: Fit) -> list[str]:
    return [t.text for t in fit.terms]


def _why(evidence: Evidence, term: Term) -> str:
    """What a sum in the gradient of an input means."""
    if evidence.is_parameter or "Σ" not in term.text or " over ax" not in term.text:
        return ""
    axes = term.text.rpartition(" over ")[2]
    row = ", the whole row," if axes == f"axis {evidence.scenes[0].y.ndim - 1}" else ""
    return f" (each element acts on every output along {axes}{row} and not on its own alone)"


def _instead(evidence: Evidence, given: Fit, true: Fit | None) -> str:
    """What backward gives, where the true formula is not known, or is the gradient g itself."""
    (term,), (c,) = given.terms, given.coefficients
    sizes = evidence.sizes
    if term.text == "dy" and abs(c - 1) < 1e-6:
        return "it is dy as it is: what forward does beside passing x on, a derivative or another path, is missing"
    if term.text.endswith(" · g"):
        return f"backward gives {_factor_of(term, c, sizes)} times the gradient: that factor is too much"
    if term.text.startswith("Σ g over"):
        axes = term.text.removeprefix("Σ g over ")
        what = "averaged" if 0 < c < 1 else "summed"
        return f"every element along {axes} gets the same: the gradient is {what} over {axes} where each has its own"
    right = f"; the gradient is {written(true, sizes)}" if true else ", which is not the gradient"
    return f"backward gives {written(given, sizes)}{right}"


def _off_by(evidence: Evidence, rest: Fit) -> str:
    """One or two terms explain the difference. They are missing where the gradient with them is the longer one."""
    given, true, sizes = evidence.given(), evidence.true(), evidence.sizes
    own = evidence.name.removesuffix(".grad")
    if _texts(rest) == ["1"]:
        return f"it is off by {rest.coefficients[0]:.5g} everywhere: a constant is added or left out"
    if evidence.is_parameter and _texts(rest) == [own]:
        return f"it is off by {written(rest, sizes)}: a decay term, λ · {own}, has the wrong factor or sign"
    why = next(filter(None, (_why(evidence, t) for t in rest.terms)), "")
    if np.linalg.norm(given) < np.linalg.norm(true):
        return f"what is missing is {written(rest, sizes, negative=True)}{why}"
    return f"{written(rest, sizes)} is too much{why}"


def _factor_left_out(evidence: Evidence) -> str:
    """The factor that backward has forgotten, so that the gradient is what it gives times that; or ""."""
    other = replace(evidence, scenes=[replace(s, true=s.given, given=s.true) for s in evidence.scenes])
    fit = multiples(other).fit(evidence.true(), allowance(evidence.given(), evidence.true()), most=1)
    if not fit or not fit.terms[0].text.endswith(" · g"):
        return ""
    return _factor_of(fit.terms[0], fit.coefficients[0], evidence.sizes)


def _factor_of(term: Term, c: float, sizes: dict[str, int]) -> str:
    """w of the term w · g, with its coefficient."""
    return written(Fit((Term(term.text.removesuffix(" · g"), term.value, 0),), (c,)), sizes)
