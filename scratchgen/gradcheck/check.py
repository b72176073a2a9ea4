"""The check of a backward: at the values given, beside a kink, and at other points."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from scratchgen import checks
from scratchgen.gradcheck import contract
from scratchgen.gradcheck.compare import Gradients, Variable, broken, standing_at
from scratchgen.gradcheck.guard import contained, told
from scratchgen.gradcheck.points import Point, nudged, other_points, other_sign
from scratchgen.gradcheck.report import Report, TensorReport
from scratchgen.gradcheck.styles import takes_no_argument
from scratchgen.gradcheck.subject import Subject

NUDGE = 1e-3  # how far from a kink the check is made again


def check(
    target,
    *inputs,
    rng: np.random.Generator | None = None,
    parameters=None,
    tolerance: float = 1e-6,
    elementwise: int = 400,
    directions: int = 8,
    contract_too: bool = True,
    name: str | None = None,
    on_progress: Callable[[Report], object] | None = None,
) -> Report:
    """Compare every gradient of `target` with central differences in float64, at `inputs` and at other points.

    `target` is a layer, a method such as `model.loss`, or any function that returns `y, backward`; `parameters` names
    the Parameters (or the module) that a plain function closes over; without it they are found. Float inputs are
    differentiated where backward gives a gradient for them, others are constants. dy is drawn from `rng`, never ones:
    for some layers a sum over y does not depend on x at all. Tensors up to `elementwise` numbers are checked number
    by number, larger ones along random `directions` and at the extreme, corner and some drawn coordinates.

    One point is no proof: where a scale is 1 or a bias 0, a gradient that forgets it looks right. So the same is then
    checked, along a few directions, with parameters and inputs drawn at random, and with large, small, zero and equal
    inputs (`points.py`). A point where the target has no value is passed over, and the report says so. Where the
    inputs given lie on a kink there is no derivative to compare with, and the check is made again at a point beside.
    Nothing of the caller's changes.

    `on_progress` gets the report whenever there is more in it.

    Raises what the target raises at these inputs, RuntimeError in the place of what is no Exception, as SystemExit;
    TypeError when it does not return `y, backward`.
    """
    rng = np.random.default_rng(0) if rng is None else checks.generator("gradcheck", rng)
    with contained():  # whatever it raises
        subject = Subject(target, parameters)
        report = Report(name or subject.name)
        many = {"elementwise": elementwise, "directions": directions}
        checking = _Check(subject, list(map(_as_float64, inputs)), report, rng, tolerance, many)
        with subject.in_float64(), np.errstate(all="ignore"):  # what is not finite is told, not warned of
            checking.run(contract_too, on_progress or (lambda report: None))
    return report


@dataclass
class _Check:
    """One check under way; `many` says how many probes are enough for a tensor."""

    subject: Subject
    inputs: list
    report: Report
    rng: np.random.Generator
    tolerance: float
    many: dict
    variables: list[Variable] = field(default_factory=list)
    moves: bool = False  # whether y was seen to depend on anything

    def run(self, contract_too: bool, show: Callable[[Report], object]) -> None:
        report = self.report
        self.subject.discover(self.inputs)
        self.here()
        report.unchecked += self.subject.overlooked()
        report.notes += self.subject.notes()
        show(report)
        generic = Point("the values given", self.inputs)
        if self.variables:
            if any(t.verdict == "kink" for t in report.tensors):
                self.beside()
            moved = {s for v in self.variables for s in v.sources}
            generic = self.elsewhere(other_points(self.inputs, moved, self.parameters(), self.rng)) or generic
            if not self.moves:
                self.elsewhere([other_sign(self.inputs, moved, self.rng)])
            if not self.moves and report.ok:
                report.notes.append("every gradient is 0: y depends on nothing at the points that were tried")
        show(report)
        if contract_too and not report.faults and all(np.isfinite(t.error) for t in report.tensors):
            with standing_at(generic.values):
                contract.check(self.subject, generic.inputs, self.rng, report)

    def here(self) -> None:
        """Add to the report a row for every gradient at the values given."""
        subject, inputs, report = self.subject, self.inputs, self.report
        y, backward = subject.evaluate(inputs)
        _refuse(subject, y, backward, subject.evaluate(inputs)[0])
        dy = np.ones(()) if _is_whole(backward) else self.rng.standard_normal(y.shape)
        try:
            dxs = self.pull(backward, dy)
        except Exception as error:
            report.faults.append(f"backward raised {told(error)}")
            return
        moved = [name for name, p in subject.bystanders.items() if np.any(p.grad)]
        if moved:
            report.faults.append(
                f"backward adds to {moved[0]}.grad, of another player than the one whose loss this is"
            )

        variables = []
        names = subject.input_names(len(inputs))
        for k, x in enumerate(inputs):
            if not _is_float(x):
                continue
            if k < len(dxs) and dxs[k] is not None:
                variables.append(Variable(f"d{names[k]}", (k,)))
            elif k == 0 and not (_is_whole(backward) and subject.parameters):  # as the loss of a model may
                hint = "backward returned None, needs the gradient: is a return missing?"
                report.tensors.append(broken(f"d{names[k]}", x.shape, hint))
            else:
                report.notes.append(f"{names[k]}: backward gives no gradient for it, so none was checked")
        variables += [Variable(f"{name}.grad", (p,)) for name, p in subject.parameters.items()]
        empty = [v for v in variables if v.value(inputs).size == 0]
        report.unchecked += [f"{v.name}, of shape {v.value(inputs).shape}: it has no number" for v in empty]
        self.variables = [v for v in variables if v not in empty]
        if not variables and not report.tensors:
            report.unchecked.append("anything: no input is an array of floats, and there are no Parameters")
        if self.variables:
            here = Gradients(subject, self.variables, inputs, y, dy, dxs, self.rng).measure_rounding()
            report.tensors += [self.compare(here, v) for v in self.variables]

    def beside(self) -> None:
        """Settle by a point beside what a kink leaves open.

        On a kink the backward may give any value between the slopes, and where kinked terms are added up even another
        (relu(x) − relu(−x) is x, but its backward gives 0 at 0). So a row that differs there, when the point does lie
        on a kink, is as right as it is beside it.
        """
        moved = {s for v in self.variables for s in v.sources}
        inputs = [nudged(x, self.rng, NUDGE) if k in moved else x for k, x in enumerate(self.inputs)]
        values = {p: nudged(p.value, self.rng, NUDGE) for p in self.parameters()}
        rows = {row.name: row for row in self.report.tensors}
        with standing_at(values):
            there, why = self.gradients(Point(f"a point {NUDGE:g} beside", inputs, values))
            if there is None:
                self.report.notes.append(f"the inputs lie on a kink, and no check could be made beside it: {why}")
                return
            there.measure_rounding()
            for v in self.variables:
                row = rows[v.name]
                if row.verdict not in ("kink", "WRONG") or not np.isfinite(row.error):
                    continue
                other = self.compare(there, v)
                hint = f"the point lies on a kink, but {NUDGE:g} beside it, too: {other.hint or 'it is wrong'}"
                if other.ok:
                    count = row.kinks or "some"
                    hint = f"{count} probes lie on a kink; the figures are from a point {NUDGE:g} beside it"
                verdict = "kink" if other.ok else other.verdict
                settled = replace(other, kinks=row.kinks, verdict=verdict, hint=hint)
                self.report.tensors[self.report.tensors.index(row)] = settled

    def elsewhere(self, points: Iterable[list[Point]]) -> Point | None:
        """Check where a gradient that is right at the values given may be wrong.

        Returns the first point, if the target has a value there.
        """
        first = None
        for tried, variants in enumerate(points):
            for point in variants:
                with standing_at(point.values):
                    there, why = self.gradients(point)
                    if there is not None:
                        first = point if tried == 0 else first
                        self.there(there, point)
                        break
            else:
                self.report.notes.append(f"not checked with {variants[0].name}: {why}")
        return first

    def there(self, there: Gradients, point: Point) -> None:
        """Put into the report what is wrong at this point and was right before.

        All gradients together are checked first, along a few directions; where these differ, each by itself.
        """
        report = self.report
        rows = {row.name: i for i, row in enumerate(report.tensors)}
        sound = []
        for v in self.variables:
            if not report.tensors[rows[v.name]].ok:
                continue
            if fault := there.unfit(v):
                report.tensors[rows[v.name]] = broken(v.name, there.lines[v].x.shape, f"with {point.name}, {fault}")
            elif there.is_singular(v):
                report.notes.append(f"with {point.name}, {v.name} is not finite, where y has a kink or a pole")
            else:
                sound.append(v)
        if not sound:
            return
        together = there.together(sound)
        probes = there.few(together, 2, point.ties) + (there.few(together, 1) if point.ties else [])
        row = there.compare(together, probes, self.tolerance)
        if row.verdict != "right":
            row = there.measure_rounding().compare(together, probes, self.tolerance)
        self.moves |= there.greatest > 0
        if row.verdict == "UNPROVED":
            report.notes.append(f"with {point.name} nothing could be decided: {row.hint}")
            return
        report.points.append(point.name)
        for v in sound if row.verdict == "WRONG" else ():
            row = self.compare_there(there, v, point.ties)
            if row.verdict == "WRONG":
                row.hint = f"right at the values given, wrong with {point.name}" + (
                    f": {row.hint}" if row.hint else ""
                )
                report.tensors[rows[v.name]] = row

    def compare(self, gradients: Gradients, v: Variable) -> TensorReport:
        self.moves |= gradients.greatest > 0
        return gradients.compare(v, gradients.thorough(v, **self.many), self.tolerance)

    def compare_there(self, there: Gradients, v: Variable, ties: bool) -> TensorReport:
        """Where numbers are equal, moving one of them alone may show nothing of a kink: directions decide there."""
        if not ties:
            return self.compare(there, v)
        row = there.compare(v, there.few(v, 2, ties=True) + there.few(v, 2), self.tolerance)
        each = self.compare(there, v) if row.verdict == "WRONG" else row
        return each if each.verdict == "WRONG" else row

    def gradients(self, point: Point) -> tuple[Gradients | None, str]:
        """The gradients at a point, or None, and why there are none. That backward raises is a fault."""
        try:
            y, backward = self.subject.evaluate(point.inputs)
        except Exception as error:
            return None, told(error)
        if not (y.size and np.isfinite(y).all()):
            return None, "y is not finite there"
        dy = np.ones(()) if _is_whole(backward) else self.rng.standard_normal(y.shape)
        try:
            dxs = self.pull(backward, dy)
        except Exception as error:
            self.report.faults.append(f"with {point.name}, backward raised {told(error)}")
            return None, "backward raised"
        return Gradients(self.subject, self.variables, point.inputs, y, dy, dxs, self.rng), ""

    def pull(self, backward, dy):
        """What backward returns for dy; gradients of parameters are added from zero."""
        for p in self.parameters():
            p.zero_grad()
        return self.subject.pull(backward, dy.copy())

    def parameters(self) -> list:
        return [*self.subject.parameters.values(), *self.subject.bystanders.values()]


def _refuse(subject, y, backward, again) -> None:
    """Raise where there is no derivative to speak of."""
    if not np.array_equal(y, again, equal_nan=True):
        raise ValueError(
            f"gradcheck: {subject.name} gave two values at one point, so it has no derivative: it draws random "
            "numbers, which should be an argument, or remembers earlier calls"
        )
    if y.dtype != np.float64:
        raise TypeError(
            f"gradcheck: {subject.name} made {y.dtype} of float64 inputs and parameters, needs float64: "
            "look for a cast or a constant of that type"
        )
    if not np.isfinite(y).all():
        raise ValueError(f"gradcheck: {subject.name} gave values that are not finite at these inputs: choose others")
    if y.size == 0:
        raise ValueError(f"gradcheck: {subject.name} gave y of shape {y.shape}, which holds no number")
    if _is_whole(backward) and y.ndim:
        what = "a backward that takes no dy" if callable(backward) else f"{type(backward).__name__} beside it"
        raise TypeError(
            f"gradcheck: {subject.name} returned y of shape {y.shape} and {what}, needs a function of dy; "
            "only a single number has a gradient without one"
        )


def _is_whole(backward) -> bool:
    """Whether it is the gradient of a single number itself, and not a function of dy."""
    return not callable(backward) or takes_no_argument(backward)


def _is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def _as_float64(x):
    """A float64 copy of a float array; anything else as it is."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f":
        return np.array(x, np.float64)
    return x
