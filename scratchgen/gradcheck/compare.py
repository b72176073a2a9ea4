"""One point: y, the gradients that the backward gives there, and how they compare with central differences."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis.patterns import cosine, diagnose, factor
from scratchgen.gradcheck.judge import Judge
from scratchgen.gradcheck.numeric import EPS, STEP, Line, Probe, rounding_of
from scratchgen.gradcheck.points import keeps_ties
from scratchgen.gradcheck.report import TensorReport
from scratchgen.gradcheck.subject import Subject
from scratchgen.gradcheck.variable import Variable, sizes_of

STEEP = 1e-6  # of y, by which rounding of x moves it beside a pole
ADDITIVE = 1e-5  # of slopes, up to which they add up


@dataclass(frozen=True)
class Finding:
    """A slope beside what the backward's gradient makes of it.

    `size` is what the difference is measured against, `doubt` how far the slope may be off where that is more than
    the tolerance of it.
    """

    probe: Probe
    analytic: float
    slope: float
    size: float
    verdict: str
    doubt: float = 0.0

    @property
    def error(self) -> float:
        error = abs(self.analytic - self.slope) / (self.size or 1)
        return 0.0 if self.verdict == "kink" else error if np.isfinite(error) else np.inf


class Gradients:
    """The gradients that the backward gave at a point, and their comparison with slopes there.

    While it is used, parameters must have the values of the point.
    """

    def __init__(
        self,
        subject: Subject,
        variables: list[Variable],
        inputs: list,
        y: Array,
        dy: Array,
        dxs: tuple,
        rng: np.random.Generator,
    ):
        self.variables, self.rng, self.sizes = variables, rng, sizes_of(inputs, y)
        self._at = subject, inputs, y, dy
        self._noise = 4 * EPS * float(np.linalg.norm(dy * y))  # of y alone, until it is measured
        self.given = {v: v.gradient(dxs) for v in variables}
        self.lines = {v: self._line(v) for v in variables}
        fit = [v for v in variables if not self.unfit(v)]
        self.greatest = max((_largest(self.given[v] * self.lines[v].scale) for v in fit), default=0.0)

    def measure_rounding(self) -> "Gradients":
        """Take into account what is lost on the way to y."""
        self._noise = rounding_of(self._line(Variable("every one", _sources(self.variables))), self.rng)
        for line in self.lines.values():
            line.noise = self._noise
        return self

    def _line(self, v: Variable) -> Line:
        subject, inputs, y, dy = self._at
        return Line(v.as_argument(subject, inputs), v.value(inputs), v.scale(inputs), y, dy, self._noise)

    def thorough(self, v: Variable, elementwise: int, directions: int, places: int = 16) -> list[Probe]:
        """Every element of a small tensor; random directions and telling places, and so many drawn, of a large one,
        none with 0."""
        scale, gradient = self.lines[v].scale, self.given[v]
        if scale.size <= elementwise:
            return [Probe.coordinate(scale, i) for i in np.ndindex(scale.shape)]
        fits = places and gradient.shape == scale.shape
        at = _coordinates(gradient, self.rng, places) if fits else []
        return self.few(v, directions) + [Probe.coordinate(scale, i) for i in at]

    def few(self, v: Variable, directions: int, ties: bool = False) -> list[Probe]:
        """Random directions, in which equal elements stay equal where there are `ties` among the inputs."""
        return [Probe.direction(self._direction(v, ties)) for _ in range(directions)]

    def _direction(self, v: Variable, ties: bool) -> Array:
        line = self.lines[v]
        u = line.scale * self.rng.standard_normal(line.x.shape)
        if not ties:
            return u
        parts = v.parts(self._at[1])
        drawn = np.split(u.ravel(), np.cumsum([part.size for part in parts[:-1]]))
        kept = [
            keeps_ties(part, self.rng).ravel() if isinstance(source, int) else of_parameter
            for source, part, of_parameter in zip(v.sources, parts, drawn, strict=True)
        ]
        return np.concatenate(kept).reshape(u.shape)

    def together(self, variables: list[Variable]) -> Variable:
        """Several as one."""
        v = Variable("together", _sources(variables))
        self.given[v] = np.concatenate([self.given[part].ravel() for part in variables])
        self.lines[v] = self._line(v)
        return v

    def unfit(self, v: Variable) -> str:
        """Why the gradient cannot be that of its variable, whatever y is; or ""."""
        gradient, shape = self.given[v], self.lines[v].x.shape
        if gradient.shape != shape:
            return f"backward gave shape {gradient.shape}, needs {shape}, the shape of what it is the gradient of"
        if gradient.dtype == bool:
            return "backward gave truth values, needs a gradient: is a product with dy missing?"
        if gradient.dtype != np.float64:
            return f"backward gave {gradient.dtype}, needs float64, the type of all that went in"
        return ""

    def is_singular(self, v: Variable) -> bool:
        """Whether the gradient is not finite where y, too, has no derivative; or so large that rounding of x alone
        moves y by a part of itself, as beside a pole."""
        line, given = self.lines[v], self.given[v]
        where = np.argwhere(~np.isfinite(given))
        if not len(where):
            return bool(EPS * np.linalg.norm(given * line.x) > STEEP * np.linalg.norm(line.dy * line.y))
        found = line.estimate(Probe.coordinate(line.scale, tuple(int(i) for i in where[0])), STEP)
        return found is None or found.error > 1e-6 * (abs(found.slope) + _largest(line.dy))

    def is_additive(self, v: Variable) -> bool:
        """Whether slopes add up, that along u + w being those along u and w, as they do where y has a derivative. A
        kink may show one slope on both sides of every line, as a median does where elements are equal."""
        line = self.lines[v]
        for _ in range(8):
            u, w = (line.scale * self.rng.standard_normal(line.x.shape) for _ in range(2))
            probes = [Probe.direction(d) for d in (u, w, u + w)]
            slopes = [line.slope(probe) for probe in probes]
            rounding = sum(line.rounding(probe, STEP) for probe in probes)
            if abs(slopes[0] + slopes[1] - slopes[2]) > ADDITIVE * max(map(abs, slopes)) + 4 * rounding:
                return False
        return True

    def compare(self, v: Variable, probes: list[Probe], tolerance: float) -> TensorReport:
        """The row of the report on one gradient."""
        if fault := self.unfit(v):
            return broken(v.name, self.lines[v].x.shape, fault)
        gradient, scale = self.given[v], self.lines[v].scale
        largest, length = _largest(gradient), float(np.linalg.norm(gradient * scale))
        found, wrong = [], 0
        for probe in probes:
            quick = wrong >= 3  # so many are enough for the tensor
            found.append(self._find(v, probe, largest if probe.single else length, tolerance, quick))
            wrong += found[-1].verdict == "WRONG"
        return self._row(v, found)

    def _find(self, v: Variable, probe: Probe, largest: float, tolerance: float, quick: bool) -> Finding:
        """The slope along one direction.

        A difference is measured against the larger of the two, but at least against 1 % of the `largest` gradient of
        the tensor (of its length, for a direction that moves all elements), and a millionth of the largest of all
        tensors, in units of L for a change of x by its own scale: what is smaller counts as 0.
        """
        gradient, line = self.given[v], self.lines[v]
        analytic = probe.along(gradient)
        if not np.isfinite(analytic):
            return Finding(probe, analytic, line.slope(probe), 1.0, "WRONG")
        greatest = self.greatest / probe.weight
        size = max(abs(analytic), 1e-2 * largest, 1e-6 * greatest)
        h = line.step(probe, tolerance * size)
        slope, rounding = line.slope(probe, h), line.rounding(probe, h)
        if abs(slope) > 4 * rounding:
            size = max(size, abs(slope))
        if abs(analytic - slope) <= tolerance * size and rounding <= tolerance * size:
            return Finding(probe, analytic, slope, size, "right")

        bearable = max(1e-4 * largest, 1e-9 * greatest)
        subject = self._at[0]
        judge = Judge(line, probe, analytic, tolerance * size, bearable, subject.least_change, quick)
        verdict, slope, error = judge.verdict()
        seen = [found.least for found in judge.estimates.values() if found.moved.any()]
        subject.least_change = min([subject.least_change or np.inf, *seen]) if seen else subject.least_change
        reach = 1.0 if probe.single else float(np.sqrt(np.mean(line.scale**2)))
        if verdict == "UNPROVED" and abs(analytic) <= error <= 1e-6 * reach * _largest(line.dy):
            verdict = "right"  # it is 0, as far as can be seen
        doubt = error if verdict in ("right", "beside") and error > tolerance * size else 0.0
        return Finding(probe, analytic, slope, max(size, abs(slope), doubt / tolerance), verdict, doubt)

    def _row(self, v: Variable, found: list[Finding]) -> TensorReport:
        shape, gradient = self.lines[v].x.shape, self.given[v]
        count = {word: sum(f.verdict == word for f in found) for word in ("WRONG", "UNPROVED", "kink", "beside")}
        verdict = next((word for word in ("WRONG", "UNPROVED", "kink") if count[word]), "right")
        shown = [i for i, f in enumerate(found) if f.verdict == verdict == "WRONG"] or range(len(found))
        at = max(shown, key=lambda i: found[i].error)
        worst = found[at]
        single = [f for f in found if f.probe.single]
        everything = len(single) == len(found) == gradient.size
        row = TensorReport(
            v.name,
            shape,
            "all" if everything else f"{len(found) - len(single)} dir + {len(single)}",
            error=worst.error,
            index=worst.probe.at if worst.probe.single else f"direction {at}",
            analytic=worst.analytic,
            numeric=worst.slope,
            kinks=count["kink"] + count["beside"],
            verdict=verdict,
        )
        a, n = (np.array([getattr(f, name) for f in found]) for name in ("analytic", "slope"))
        smooth = np.isfinite(n) & np.array([f.verdict not in ("kink", "UNPROVED") for f in found])
        if np.linalg.norm(n[smooth]) > 1e-9 * self.greatest:
            row.cosine = cosine(a[smooth], n[smooth])
            row.norm_ratio = float(np.linalg.norm(a[smooth]) / np.linalg.norm(n[smooth]))
        if verdict == "WRONG" and everything:
            wrong = np.array([f.verdict == "WRONG" for f in found])
            row.hint = diagnose(v.name, gradient, n.reshape(shape), wrong.reshape(shape), self.sizes)
        elif verdict == "WRONG":
            if not worst.probe.single and np.isfinite(gradient).all():
                row.index, row.analytic, row.numeric = _locate(self.lines[v], gradient)
            row.hint = factor(a, n, self.sizes) or f"{count['WRONG']} of {len(found)} probes are wrong"
        elif verdict == "UNPROVED" and np.isnan(n).any():
            row.hint = "y cannot be computed on both sides of the point, which lies at the border of its domain"
        elif verdict == "UNPROVED":
            row.hint = "y is so large beside its changes that rounding hides the gradient: check it at smaller values"
        elif verdict == "kink":
            row.hint = f"{count['kink']} of {len(found)} probes lie on a kink"
        elif count["beside"]:
            row.hint = f"{count['beside']} of {len(found)} probes step over a kink; smaller steps agree"
        elif any(f.doubt for f in found):
            doubt = max(f.doubt / max(abs(f.analytic), 1e-300) for f in found if f.doubt)
            row.hint = f"rounding of y leaves open up to {doubt:.0e} of it"
        return row


def _sources(variables: list[Variable]) -> tuple:
    return tuple(s for v in variables for s in v.sources)


def broken(name: str, shape: tuple[int, ...], hint: str) -> TensorReport:
    """The row on something that cannot be compared at all."""
    return TensorReport(name, shape, error=float("inf"), verdict="WRONG", hint=hint)


def _locate(line: Line, analytic: Array) -> tuple[tuple[int, ...], float, float]:
    """One element that is wrong: by halves, keeping the half along which the two differ more."""
    rng = np.random.default_rng(0)
    direction = (line.scale * rng.standard_normal(line.x.shape)).ravel()
    inside = np.arange(line.x.size)

    def along(part):
        u = np.zeros(line.x.size)
        u[part] = direction[part]
        probe = Probe.direction(u.reshape(line.x.shape))
        return abs(line.slope(probe) - probe.along(analytic))

    while len(inside) > 1:
        halves = np.array_split(inside, 2)
        inside = max(halves, key=along)
    index = tuple(int(i) for i in np.unravel_index(inside[0], line.x.shape))
    return index, float(analytic[index]), line.slope(Probe.coordinate(line.scale, index))


def _coordinates(analytic: Array, rng: np.random.Generator, drawn: int) -> list[tuple[int, ...]]:
    """Where errors hide: the largest and smallest gradients, the corners, and some drawn at random."""
    size = np.where(np.isfinite(analytic), np.abs(analytic), np.inf)
    flat = [int(size.argmax()), int(size.argmin()), *rng.integers(0, analytic.size, drawn)]
    corners = list(product(*({0, n - 1} for n in analytic.shape)))
    if len(corners) > 16:
        corners = [corners[i] for i in rng.choice(len(corners), 16, replace=False)]
    found = [tuple(map(int, np.unravel_index(i, analytic.shape))) for i in flat] + corners
    return list(dict.fromkeys(found))


def _largest(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))
