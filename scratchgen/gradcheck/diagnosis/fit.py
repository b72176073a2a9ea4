"""Sparse fits: an array as a sum of few terms out of many, with coefficients that have a name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scratchgen.backend import Array

LEFT = 1e-5  # of what is explained may remain: at 1e-3 two functions that are alike pass for one
MOST_TERMS = 2500  # the shortest: two matrices of that size are held
MOST_ROWS = 500  # of the elements that are fitted; what fits them is held against all
ROUNDING = 3e-9  # of the true gradient, in differences


@dataclass(frozen=True)
class Term:
    """A candidate: how it is written, its value in all scenes one after another, and how long a formula it is."""

    text: str
    value: Array
    cost: float


@dataclass(frozen=True)
class Fit:
    """target = Σ coefficient · term."""

    terms: tuple[Term, ...]
    coefficients: tuple[float, ...]

    def coefficient(self, term: Term) -> float:
        return dict(zip((t.text for t in self.terms), self.coefficients, strict=True)).get(term.text, 0.0)


class Dictionary:
    """Candidate terms, each once: of several that have the same values the shortest is kept."""

    def __init__(self, terms: Sequence[Term]):
        self.rows: slice | Array = slice(None)
        if terms and (size := terms[0].value.size) > MOST_ROWS:
            self.rows = np.sort(np.random.default_rng(0).choice(size, MOST_ROWS, replace=False))
        kept = [t for t in terms if np.isfinite(t.value).all() and t.value[self.rows].any()]
        kept = sorted(kept, key=lambda t: t.cost)[:MOST_TERMS]
        columns = np.stack([t.value[self.rows] for t in kept], axis=1) if kept else np.zeros((0, 0))
        columns = columns / np.linalg.norm(columns, axis=0)
        gram = columns.T @ columns
        alike = np.triu(np.abs(gram) > 1 - 1e-9, 1)
        fresh = np.atleast_1d(~alike.any(axis=0))
        self.terms = [t for t, keep in zip(kept, fresh, strict=True) if keep]
        self.columns = columns[:, fresh]
        self.gram = gram[np.ix_(fresh, fresh)]

    def fit(self, target: Array, allowed: float, most: int = 2) -> Fit | None:
        """The shortest sum of one term, or of two, that is the target up to `allowed`; None where there is none."""
        length, looked_at = float(np.linalg.norm(target)), target[self.rows]
        if not self.terms or length <= allowed or not looked_at.any():
            return None
        b = self.columns.T @ (looked_at / np.linalg.norm(looked_at))
        remains = (allowed / length) ** 2
        single = np.flatnonzero(1 - b * b <= max(remains, 1e-14))
        if len(single):
            return self._solved(target, [int(single[0])], allowed)
        if most < 2:
            return None
        rho = np.clip(self.gram, -1, 1)
        with np.errstate(all="ignore"):
            explained = (b[:, None] ** 2 + b[None] ** 2 - 2 * rho * b[:, None] * b[None]) / (1 - rho**2)
        explained[np.abs(rho) > 0.9999] = 0
        pairs = np.argwhere(np.triu(1 - explained <= max(remains, 1e-12), 1))
        cost = [self.terms[i].cost + self.terms[j].cost for i, j in pairs]
        for k in np.argsort(cost, kind="stable")[:20]:
            if fit := self._solved(target, [int(n) for n in pairs[k]], allowed):
                return fit
        return None

    def _solved(self, target: Array, which: list[int], allowed: float) -> Fit | None:
        return solve([self.terms[i] for i in which], target, allowed)


def solve(terms: Sequence[Term], target: Array, allowed: float) -> Fit | None:
    """The coefficients of these terms, None where their sum is not the target."""
    columns = np.stack([t.value for t in terms], axis=1)
    if not np.isfinite(columns).all():
        return None
    coefficients, *_ = np.linalg.lstsq(columns, target, rcond=None)
    if np.linalg.norm(columns @ coefficients - target) > allowed:
        return None
    return Fit(tuple(terms), tuple(map(float, coefficients)))


def allowance(given: Array, true: Array) -> float:
    """How much of the difference may remain unexplained."""
    return LEFT * float(np.linalg.norm(given - true)) + ROUNDING * float(np.linalg.norm(true))


# --- how a coefficient is called ---


def spelled(c: float, sizes: dict[str, int]) -> str:
    """A number as it would be written in the formula: 1, 2, 1/5, √3, or 5 digits."""
    size = abs(c)
    sign = "−" if c < 0 else ""
    for value, text in _numbers(sizes):
        if abs(size - value) <= 1e-4 * value:
            return sign + text
    return f"{sign}{size:.5g}"


def _numbers(sizes: dict[str, int]) -> list[tuple[float, str]]:
    found = [(float(n), str(n)) for n in (1, 2, 3, 4)] + [(0.5, "½"), (0.25, "¼")]
    for n in dict.fromkeys(n for n in sizes.values() if n > 1):
        found += [
            (1 / n, f"1/{n}"),
            (float(n), str(n)),
            (2 / n, f"2/{n}"),
            (1 / (2 * n), f"1/{2 * n}"),
            (n**0.5, f"√{n}"),
            (n**-0.5, f"1/√{n}"),
        ]
        found += [(1 - 1 / n, f"(1 − 1/{n})"), (n - 1.0, f"{n - 1}")]
    return [(value, text) for value, text in found if value]


def written(fit: Fit, sizes: dict[str, int], negative: bool = False) -> str:
    """The sum as a formula: dy · y − 1/5 · Σ dy."""
    text = ""
    for term, c in zip(fit.terms, fit.coefficients, strict=True):
        c = -c if negative else c
        factor = spelled(abs(c), sizes)
        body = factor if term.text == "1" else term.text if factor == "1" else f"{factor} · {term.text}"
        text += (" − " if c < 0 else " + ") + body if text else ("−" if c < 0 else "") + body
    return text
