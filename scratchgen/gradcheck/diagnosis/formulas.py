"""What is wrong in terms of the formula: the term that is missing or too much, or what backward gives instead."""

from dataclasses import replace

import numpy as np

from scratchgen.gradcheck.diagnosis.evidence import Evidence
from scratchgen.gradcheck.diagnosis.families import attention, normalisation, projection
from scratchgen.gradcheck.diagnosis.fit import LEFT, Dictionary, Fit, Term, allowance, solve, spelled, written
from scratchgen.gradcheck.diagnosis.terms import ALL_OF_TRUE, TRUE, dictionary, multiples

READABLE = 7.5  # the length of a formula that says something


def by_formula(evidence: Evidence) -> str:
    """A sentence on the formula, or "" where none explains the difference."""
    return normalisation(evidence) or projection(evidence) or attention(evidence) or _by_terms(evidence)


def _by_terms(evidence: Evidence) -> str:
    given, true = evidence.given(), evidence.true()
    if given.size < 8:
        return ""
    allowed = allowance(given, true)
    plain = dictionary(evidence)
    of_true = plain.fit(true, min(allowed, LEFT * float(np.linalg.norm(true))))
    of_given = plain.fit(given, allowed)
    if of_true and of_given:
        return _two_formulas(evidence, plain, of_given, of_true)
    if multiple := multiples(evidence).fit(given, allowed, most=1):
        return _too_much(evidence, multiple)
    if of_given and len(of_given.terms) == 1:
        return _instead(evidence, of_given, of_true)
    if rest := plain.fit(given - true, allowed, most=1):
        return _off_by(evidence, rest)
    if lacking := _factor_left_out(evidence)[0]:
        return f"the factor {lacking} is missing: with it the gradient is right"
    if (rest := plain.fit(given - true, allowed)) and sum(t.cost for t in rest.terms) < READABLE:
        return _off_by(evidence, rest)
    if of_given:
        return f"backward gives {written(of_given, evidence.sizes)}, which is not the gradient"
    return ""


def _two_formulas(evidence: Evidence, plain: Dictionary, given: Fit, true: Fit) -> str:
    """Both are known: the two beside each other, and before that the shortest way from the one to the other."""
    sizes = evidence.sizes
    both = f"backward gives {written(given, sizes)}; the gradient is {written(true, sizes)}"
    shortest = _left_out(evidence, given, true) or _change(evidence, *_in_the_same_terms(evidence, given, true))
    if not shortest and len(given.terms) + len(true.terms) > 2:
        rest = plain.fit(evidence.given() - evidence.true(), allowance(evidence.given(), evidence.true()), most=1)
        shortest = _off_by(evidence, rest) if rest and not set(_texts(rest)) & set(_texts(true)) else ""
    sums = [_why(evidence, t) for t in true.terms if not any("Σ" in text for text in _texts(given))]
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
    factor, drops = _factor_left_out(evidence)
    if drops:
        return f"the mask, {factor}, is missing, so that dy passes where y does not depend on it"
    return f"the factor {factor} is missing" if factor and "/x" not in factor else ""


def _texts(fit: Fit) -> list[str]:
    return [t.text for t in fit.terms]


def _why(evidence: Evidence, term: Term) -> str:
    """What a sum in the gradient of an input means."""
    if evidence.is_parameter or "Σ" not in term.text or " over ax" not in term.text:
        return ""
    axes = term.text.rpartition(" over ")[2]
    row = ", the whole row," if axes == f"axis {evidence.scenes[0].y.ndim - 1}" else ""
    return f" (each element acts on every output along {axes}{row} and not on its own alone)"


def _too_much(evidence: Evidence, multiple: Fit) -> str:
    """The gradient is there, times a factor, or summed."""
    (term,), (c,) = multiple.terms, multiple.coefficients
    if term.text.startswith(ALL_OF_TRUE):
        axes = term.text.removeprefix(f"{ALL_OF_TRUE} over ")
        times = "" if abs(c - 1) < 1e-4 else f"{spelled(c, evidence.sizes)} · "
        if evidence.is_parameter:
            return f"all elements along its {axes} get the same, {times}their sum: a sum runs over one axis too many"
        return (
            f"every element along {axes} gets the same, {times}the gradient summed over {axes}, and each has its own"
        )
    return f"backward gives {_factor_of(term, c, evidence.sizes)} times the gradient: that factor is too much"


def _instead(evidence: Evidence, given: Fit, true: Fit | None) -> str:
    """What backward gives, where the true formula is not known."""
    (term,), (c,) = given.terms, given.coefficients
    if term.text == "dy" and abs(c - 1) < 1e-6:
        return "it is dy as it is: what forward does beside passing x on, a derivative or another path, is missing"
    right = f"; the gradient is {written(true, evidence.sizes)}" if true else ", which is not the gradient"
    return f"backward gives {written(given, evidence.sizes)}{right}"


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


def _factor_left_out(evidence: Evidence) -> tuple[str, bool]:
    """The factor that backward has forgotten, so that the gradient is what it gives times that, and whether it drops
    elements; or ""."""
    given = evidence.given()
    other = replace(evidence, scenes=[replace(s, true=s.given, given=s.true) for s in evidence.scenes])
    fit = multiples(other).fit(evidence.true(), allowance(given, evidence.true()), most=1)
    if not fit or not fit.terms[0].text.endswith(TRUE):
        return "", False
    drops = bool(((fit.terms[0].value == 0) & (given != 0)).any())
    return _factor_of(fit.terms[0], fit.coefficients[0], evidence.sizes), drops


def _factor_of(term: Term, c: float, sizes: dict[str, int]) -> str:
    """The factor of a term, with its coefficient."""
    return written(Fit((Term(term.text.removesuffix(TRUE), term.value, 0),), (c,)), sizes)
