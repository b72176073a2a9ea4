"""One point: y, the gradients that the backward gives there, and how they compare with central differences."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod

import numpy as np

from scratchgen.gradcheck.hints import cosine, diagnose, factor
from scratchgen.gradcheck.numeric import EPS, STEP, Line, Probe, scale_of
from scratchgen.gradcheck.points import keeps_ties
from scratchgen.gradcheck.report import TensorReport
from scratchgen.gradcheck.subject import Subject

SMALL = (1e-10, 1.25e-11)  # steps that show nothing but rounding


@dataclass(frozen=True)
class Variable:
    """What a gradient is taken with respect to: an input, by its index, or a parameter; or several, as one vector."""

    name: str
    sources: tuple

    def value(self, inputs) -> np.ndarray:
        return self._joined([inputs[s] if isinstance(s, int) else s.value for s in self.sources])

    def scale(self, inputs) -> np.ndarray:
        """The size by which each number of it is measured."""
        return self._joined([scale_of(inputs[s] if isinstance(s, int) else s.value) for s in self.sources])

    def gradient(self, dxs) -> np.ndarray:
        """What backward gave: an array of its own, for a parameter what was added since its grad was zero."""
        given = [(dxs[s] if s < len(dxs) else None) if isinstance(s, int) else s.grad for s in self.sources]
        return self._joined([np.array(g) for g in given])

    def evaluate(self, subject: Subject, inputs, array) -> np.ndarray:
        """y with `array` in its place."""
        inputs, values, parts = list(inputs), {}, [array]
        if len(self.sources) > 1:
            shapes = [np.shape(inputs[s] if isinstance(s, int) else s.value) for s in self.sources]
            parts = np.split(array, np.cumsum([prod(shape) for shape in shapes[:-1]]))
            parts = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        for s, part in zip(self.sources, parts, strict=True):
            if isinstance(s, int):
                inputs[s] = part
            else:
                values[s] = part
        with standing_at(values):
            return subject.evaluate(inputs)[0]

    @staticmethod
    def _joined(arrays):
        return arrays[0] if len(arrays) == 1 else np.concatenate([a.ravel() for a in arrays])


@contextmanager
def standing_at(values: dict):
    """Inside the block parameters have these values; afterwards those that they had."""
    before = {p: np.array(p.value) for p in values}
    try:
        for p, value in values.items():
            p.value = value
        yield
    finally:
        for p, value in before.items():
            p.value = value


class Gradients:
    """The gradients that the backward gave at a point, and their comparison with slopes there.

    A difference is measured against the larger of the two, but at least against 1 % of the largest gradient of its
    tensor, and a millionth of the largest of all tensors: what is smaller counts as 0. All in the units of L for a
    change of x by max(1, |x|). While it is used, parameters must have the values of the point.
    """

    def __init__(self, subject, variables, inputs, y, dy, dxs, rng: np.random.Generator):
        self.variables, self.rng = variables, rng
        self.sizes = _sizes(inputs, y)
        self.given = {v: v.gradient(dxs) for v in variables}
        self._at = subject, inputs, y, dy
        every = Variable("every one", _sources(variables))
        self.noise = 0.0
        self.noise = _noise(self._line(every), rng)
        self.lines = {v: self._line(v) for v in variables}
        found = [(self.given[v], self.lines[v].scale) for v in variables]
        self.greatest = max((_largest(g * scale) for g, scale in found if g.shape == scale.shape), default=0.0)

    def _line(self, v) -> Line:
        subject, inputs, y, dy = self._at
        return Line(partial(v.evaluate, subject, inputs), v.value(inputs), v.scale(inputs), y, dy, self.noise)

    def thorough(self, v: Variable, elementwise: int, directions: int) -> list[Probe]:
        """Every number of a small tensor; random directions and telling places of a large one."""
        scale, gradient = self.lines[v].scale, self.given[v]
        if scale.size <= elementwise:
            return [Probe.coordinate(scale, i) for i in np.ndindex(scale.shape)]
        places = _coordinates(gradient, self.rng) if gradient.shape == scale.shape else []
        return self.few(v, directions) + [Probe.coordinate(scale, i) for i in places]

    def few(self, v: Variable, directions: int, ties: bool = False) -> list[Probe]:
        """Random directions, in which numbers that are equal stay equal where there are `ties` among the inputs."""
        return [Probe.direction(self._direction(v, ties)) for _ in range(directions)]

    def _direction(self, v, ties):
        _, inputs, _, _ = self._at
        x = [inputs[s] if isinstance(s, int) else s.value for s in v.sources]
        u = [
            keeps_ties(part, self.rng)
            if ties and isinstance(s, int)
            else scale_of(part) * self.rng.standard_normal(part.shape)
            for s, part in zip(v.sources, x, strict=True)
        ]
        return u[0] if len(u) == 1 else np.concatenate([part.ravel() for part in u])

    def together(self, variables) -> Variable:
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
        if gradient.dtype != np.float64:
            return f"backward gave {gradient.dtype}, needs float64, the type of all that went in"
        return ""

    def is_singular(self, v: Variable) -> bool:
        """Whether the gradient is not finite where y, too, has no derivative."""
        where = np.argwhere(~np.isfinite(self.given[v]))
        if not len(where):
            return False
        line = self.lines[v]
        look = line.look(Probe.coordinate(line.scale, tuple(int(i) for i in where[0])), STEP)
        return look is None or look.error > 1e-6 * (abs(look.slope) + _largest(line.dy))

    def compare(self, v: Variable, probes: list[Probe], tolerance: float) -> TensorReport:
        """The row of the report on one gradient."""
        a_full, line = self.given[v], self.lines[v]
        if fault := self.unfit(v):
            return broken(v.name, line.x.shape, fault)
        a = np.array([probe.along(a_full) for probe in probes])
        finite = np.isfinite(a)
        single = np.array([probe.single for probe in probes])
        weights = np.array([probe.weight for probe in probes])
        largest = np.where(
            single, _largest(a_full), np.linalg.norm(np.where(np.isfinite(a_full), a_full, 0) * line.scale)
        )
        floor = np.maximum(1e-2 * largest, 1e-6 * self.greatest / weights)

        # The step is 6e-6, or as much longer as rounding asks for.
        allowed = tolerance * np.maximum(np.where(finite, np.abs(a), 0), floor)
        steps = [line.step(probe, most) for probe, most in zip(probes, allowed, strict=True)]
        n = np.array([line.slope(probe, h) for probe, h in zip(probes, steps, strict=True)])
        rounding = np.array([line.rounding(probe, h) for probe, h in zip(probes, steps, strict=True)])
        size = np.maximum(np.maximum(np.abs(a), floor), np.where(np.abs(n) > 4 * rounding, np.abs(n), 0))

        verdicts = np.full(len(probes), "right", object)
        hidden = np.zeros(len(probes))  # how far the slope may be off, where that had to be looked at
        bearable = np.maximum(1e-4 * largest, 1e-9 * self.greatest / weights)
        nothing = 1e-6 * _largest(line.dy) * np.where(single, 1, np.sqrt(np.mean(line.scale**2)))
        for i in np.flatnonzero(~((np.abs(a - n) <= tolerance * size) & (rounding <= tolerance * size))):
            if not finite[i]:
                verdicts[i] = "WRONG"
                continue
            quick = np.count_nonzero(verdicts[:i] == "WRONG") >= 3  # three are enough to be sure of the tensor
            verdicts[i], n[i], hidden[i] = line.judge(probes[i], a[i], tolerance * size[i], bearable[i], quick)
            if verdicts[i] == "UNPROVED" and abs(a[i]) <= hidden[i] <= nothing[i]:  # it is 0, as far as can be seen
                verdicts[i] = "right"
        size = np.maximum(np.maximum(size, np.abs(n)), hidden / tolerance)
        errors = np.abs(a - n) / np.where(size > 0, size, 1)
        errors = np.where(np.isfinite(errors), errors, np.inf)
        return self._row(v, probes, a, n, errors, verdicts)

    def _row(self, v, probes, a, n, errors, verdicts) -> TensorReport:
        line, analytic = self.lines[v], self.given[v]
        wrong, unproved, on_kink = (verdicts == word for word in ("WRONG", "UNPROVED", "kink"))
        kinks = on_kink | (verdicts == "beside")
        errors = np.where(on_kink, 0, errors)
        worst = int(np.argmax(np.where(wrong, errors, -1) if wrong.any() else errors))
        coordinates = sum(probe.single for probe in probes)
        everything = coordinates == line.x.size == len(probes)
        row = TensorReport(
            v.name,
            line.x.shape,
            "all" if everything else f"{len(probes) - coordinates} dir + {coordinates}",
            error=float(errors[worst]),
            index=probes[worst].at if probes[worst].single else f"direction {worst}",
            analytic=float(a[worst]),
            numeric=float(n[worst]),
            kinks=int(kinks.sum()),
            verdict="WRONG"
            if wrong.any()
            else "UNPROVED"
            if unproved.any()
            else "kink"
            if on_kink.any()
            else "right",
        )
        smooth = ~(on_kink | unproved) & np.isfinite(n)
        if np.linalg.norm(n[smooth]) > 1e-9 * self.greatest:
            row.cosine, row.norm_ratio = cosine(a[smooth], n[smooth]), _ratio(a[smooth], n[smooth])
        if wrong.any() and everything:
            shape = line.x.shape
            row.hint = diagnose(v.name, analytic, n.reshape(shape), wrong.reshape(shape), self.sizes)
        elif wrong.any():
            if not probes[worst].single and np.isfinite(analytic).all():
                row.index, row.analytic, row.numeric = _locate(line, analytic)
            row.hint = factor(a, n, self.sizes) or f"{wrong.sum()} of {len(probes)} probes are wrong"
        elif unproved.any():
            row.hint = (
                "y cannot be had on both sides of the point, which lies at the border of the domain: choose others"
                if np.isnan(n[unproved]).any()
                else "y is so large beside its changes that rounding hides the gradient: check it at smaller values"
            )
        elif on_kink.any():
            row.hint = f"{on_kink.sum()} of {len(probes)} probes lie on a kink"
        elif row.kinks:
            row.hint = f"{row.kinks} of {len(probes)} probes step over a kink; smaller steps agree"
        return row


def _sources(variables) -> tuple:
    return tuple(s for v in variables for s in v.sources)


def broken(name, shape, hint) -> TensorReport:
    """The row on something that cannot be compared at all."""
    return TensorReport(name, shape, error=float("inf"), verdict="WRONG", hint=hint)


def _noise(line: Line, rng) -> float:
    """How far rounding may put ⟨dy, y⟩ off: 4 times the larger of two measures.

    Every number of y is rounded, by ε |y|. But on the way there may have been far larger ones, as in log Σ eˣ − x.
    What they lost is seen in second differences d(h) = y(x + hu) − 2 y + y(x − hu) of steps so small that y″ has
    no part in them: without rounding, d(h) − 8 d(h/8) would be 0 where y is smooth, and on a kink, where d is in
    proportion to h. It adds up √6 · √65 ≈ 20 roundings.
    """
    lost = []
    for _ in range(1 if line.y.size >= 16 else 2):
        u = line.scale * rng.standard_normal(line.x.shape)
        try:
            far, near = (line.evaluate(line.x + h * u) - 2 * line.y + line.evaluate(line.x - h * u) for h in SMALL)
        except Exception:  # x lies at the border of the domain
            continue
        rest = line.dy * (far - 8 * near)
        lost.append(float(np.linalg.norm(rest[np.isfinite(rest)])) / 20)
    return 4 * max([EPS * float(np.linalg.norm(line.dy * line.y)), *lost])


def _locate(line, analytic) -> tuple[tuple[int, ...], float, float]:
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


def _coordinates(analytic, rng, drawn: int = 16) -> list[tuple[int, ...]]:
    """Where errors hide: the largest and smallest gradients, the corners, and some drawn at random."""
    size = np.where(np.isfinite(analytic), np.abs(analytic), np.inf)
    flat = [int(size.argmax()), int(size.argmin()), *rng.integers(0, analytic.size, drawn)]
    corners = list(product(*({0, n - 1} for n in analytic.shape)))
    if len(corners) > 16:
        corners = [corners[i] for i in rng.choice(len(corners), 16, replace=False)]
    found = [tuple(map(int, np.unravel_index(i, analytic.shape))) for i in flat] + corners
    return list(dict.fromkeys(found))


def _sizes(inputs, y) -> dict[str, int]:
    """The counts by which a sum may have been divided or multiplied by mistake."""
    if not (inputs and np.ndim(inputs[0])):
        return {}
    shape = inputs[0].shape
    sizes = {"the batch size": shape[0]}
    if len(shape) > 1:
        sizes |= {"the number of features": prod(shape[1:]), "the number of elements": prod(shape)}
    if len(shape) > 2:
        sizes["the number of rows"] = prod(shape[:-1])
    if y.ndim > 2:
        sizes["the number of output rows"] = prod(y.shape[:-1])
    return sizes


def _largest(array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def _ratio(a, n) -> float:
    return float(np.linalg.norm(a) / np.linalg.norm(n))
