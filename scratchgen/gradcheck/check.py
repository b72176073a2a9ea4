"""The check of a backward: at the values given, beside a kink, and at other points."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.backend.threads import one_blas_thread
from scratchgen.gradcheck import contract
from scratchgen.gradcheck.arrays import is_float64
from scratchgen.gradcheck.compare import Gradients, broken
from scratchgen.gradcheck.diagnosis import explain, explain_by_parts
from scratchgen.gradcheck.guard import contained, described
from scratchgen.gradcheck.learned import Learned, with_values
from scratchgen.gradcheck.points import Point, nudged, other_points, other_sign
from scratchgen.gradcheck.report import Report, TensorReport
from scratchgen.gradcheck.styles import takes_no_argument
from scratchgen.gradcheck.subject import Subject
from scratchgen.gradcheck.variable import Variable
from scratchgen.layers.layer import Layer
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.sequential import Sequential

EXPLAINING = 20.0  # seconds, after which no further gradient is explained
NUDGE = 1e-3  # how far from a kink the check is made again
HERE_ALONE = (
    f"right {NUDGE:g} beside it: at zeros or equal elements alone a branch is wrong, or kinks cancel there, as in "
    "relu(x) − relu(−x)"
)


def check(
    target: Any,
    *inputs: Any,
    rng: np.random.Generator | None = None,
    parameters: Iterable[Parameter] | Module | None = None,
    tolerance: float = 1e-6,
    elementwise: int = 400,
    directions: int = 8,
    contract_too: bool = True,
    parameters_only: bool = False,
    name: str | None = None,
    on_progress: Callable[[Report], object] | None = None,
) -> Report:
    """Compare every gradient of `target` with central differences in float64, at `inputs` and at other points.

    `target` is a layer, a method such as `model.loss`, or any function that returns `y, backward`; `parameters` names
    the Parameters (or the module) that a function closes over, or of a method's object, that are to be learned;
    without it they are found. Float inputs are
    differentiated where backward gives a gradient for them, others are constants. dy is drawn from `rng`, never ones:
    for some layers a sum over y does not depend on x at all. Tensors of up to `elementwise` elements are checked
    element by element, larger ones along random `directions` and at the extreme, corner and some drawn elements.

    One point is no proof: where a scale is 1 or a bias 0, a gradient that forgets it looks right. So the same is then
    checked, along a few directions, with parameters and inputs drawn at random, and with large, small, zero and equal
    inputs (`points.py`). A point where the target has no value is passed over, and the report says so. Where the
    inputs given lie on a kink there is no derivative to compare with, and the check is made again at a point beside.
    Nothing of the caller's changes. With `parameters_only` inputs are data, whose gradients are not asked for.

    `on_progress` gets the report whenever there is more in it.

    Raises what the target raises at these inputs, RuntimeError in the place of what is no Exception, as SystemExit;
    TypeError when it does not return `y, backward`.
    """
    rng = np.random.default_rng(0) if rng is None else checks.generator("gradcheck", rng)
    with contained():  # whatever it raises
        subject = Subject(target, parameters)
        report = Report(name or subject.name)
        many = {"elementwise": elementwise, "directions": directions}
        checking = _Check(subject, list(map(_as_float64, inputs)), report, rng, tolerance, many, parameters_only)
        with subject.in_float64(), np.errstate(all="ignore"), one_blas_thread:  # what is not finite is reported
            checking.everything(contract_too, on_progress or (lambda report: None))
    return report


@dataclass
class _Check:
    """One check under way; `many` says how many probes are enough for a tensor."""

    subject: Subject
    inputs: list
    report: Report
    rng: np.random.Generator
    tolerance: float
    many: dict[str, int]
    parameters_only: bool = False
    variables: list[Variable] = field(default_factory=list)
    moves: bool = False  # whether y was seen to depend on anything
    wrong_at: dict[str, Point] = field(default_factory=dict)  # where a gradient is that is right at the values given

    def everything(self, contract_too: bool, show: Callable[[Report], object]) -> None:
        report = self.report
        self.subject.discover(self.inputs)
        self.here()
        report.unchecked += self.subject.overlooked()
        report.notes += self.subject.notes()
        show(report)
        generic = Point("the values given", self.inputs)
        if self.variables:
            self.settle()
            moved = {s for v in self.variables for s in v.sources}
            generic = self.elsewhere(other_points(self.inputs, moved, self.parameters(), self.rng)) or generic
            if not self.moves:
                self.elsewhere([other_sign(self.inputs, moved, self.rng)])
            if not self.moves and report.ok:
                report.notes.append("every gradient is 0: y depends on nothing at the points that were tried")
        self.diagnose()
        show(report)
        if contract_too and not report.faults and all(np.isfinite(t.error) for t in report.tensors):
            with with_values(generic.values):
                report.faults += contract.breaches(self.subject, generic.inputs, self.rng)
                if self.subject.keeps_contract and _has_tangents(self.subject.module):
                    self.tangent(generic.inputs)

    def tangent(self, inputs: list) -> None:
        """Check `jvp` where a layer has one: that its u is J t, and that y and u go back right, along a few
        directions; where they do not, each gradient is checked by itself."""
        if len(inputs) != 1 or not is_float64(inputs[0]):
            return
        layer, x = self.subject.module, inputs[0]
        t = self.rng.standard_normal(x.shape)
        y, backward = self.subject.evaluate([x])
        du = self.rng.standard_normal(y.shape)
        self.subject.rewind()
        _, u, _ = layer.jvp(x.copy(), t.copy())
        self.subject.rewind()
        there, back = np.sum(du * u), np.sum(self.subject.pull(backward, du)[0] * t)
        if abs(there - back) > 1e-6 * np.linalg.norm(du) * np.linalg.norm(u):
            self.report.faults.append(f"jvp: u is not J t: ⟨du, u⟩ is {there:.5g}, and ⟨backward(du), t⟩ {back:.5g}")
            return
        few = {"elementwise": 0, "directions": 3, "places": 0}
        quick = _Check(Subject(layer.jvp), [x, t], Report("jvp"), self.rng, self.tolerance, few)
        quick.here()
        if quick.report.ok:
            self.report.points.append("its tangents")
        else:
            wrong = [row for row in check(layer.jvp, x, t, contract_too=False).tensors if not row.ok]
            self.report.tensors += [replace(row, name=f"jvp {row.name}") for row in wrong]

    # --- at the values given ---

    def here(self) -> None:
        """Add to the report a row for every gradient at the values given."""
        subject, inputs, report = self.subject, self.inputs, self.report
        y, backward = subject.evaluate(inputs)
        _refuse(subject, y, backward, subject.evaluate(inputs)[0])
        pulled = self.pull(y, backward)
        if pulled is None:
            return
        dy, dxs = pulled
        others = [name for name, p in subject.other_players.items() if np.any(p.grad)]
        if others:
            report.faults.append(
                f"backward adds to {others[0]}.grad, of another player than the one whose loss this is"
            )

        variables = []
        names = subject.input_names(len(inputs))
        for k, x in enumerate(inputs):
            if not is_float64(x) or self.parameters_only:
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
        report.unchecked += [f"{v.name}, of shape {v.value(inputs).shape}: it has no elements" for v in empty]
        self.variables = [v for v in variables if v not in empty]
        if not variables and not report.tensors:
            report.unchecked.append("anything: no input is an array of floats, and there are no Parameters")
        if self.variables:
            gradients = Gradients(subject, self.variables, inputs, y, dy, dxs, self.rng).measure_rounding()
            report.tensors += [self.compare(gradients, v) for v in self.variables]

    def settle(self) -> None:
        """Settle by a point beside what a kink leaves open.

        On a kink the backward may give any value between the slopes, and where kinked terms are added up even another
        (relu(x) + relu(−x) may get any of −1, 0 and 1 at 0). So a row that differs there, when the point does lie on
        a kink, is as right as it is beside it. Where kinks cancel the point is smooth, and a difference there is one;
        that it is right beside the point is said of it.
        """
        rows = {row.name: row for row in self.report.tensors}
        differ = [v for v in self.variables if rows[v.name].verdict in ("kink", "WRONG")]
        differ = [v for v in differ if np.isfinite(rows[v.name].error)]
        on_kink = any(row.verdict == "kink" for row in rows.values()) or self.bends(differ)
        if not (on_kink or (differ and _has_zeros(self.inputs, self.variables))):
            return
        beside, why = self.beside(Point("the values given", self.inputs), differ)
        if on_kink and why:
            self.report.notes.append(f"the inputs lie on a kink, and no check could be made beside it: {why}")
        for name, other in beside.items():
            row = rows[name]
            if on_kink:
                said = f"{row.kinks or 'some'} probes lie on a kink; the figures are from a point {NUDGE:g} beside it"
                wrong = f"the point lies on a kink, but {NUDGE:g} beside it, too: {other.hint or 'it is wrong'}"
                hint = said if other.ok else wrong
                verdict = "kink" if other.ok else other.verdict
                self.replace(replace(other, kinks=row.kinks, verdict=verdict, hint=hint))
            elif other.ok:
                self.replace(replace(row, hint=f"{row.hint}; {HERE_ALONE}" if row.hint else HERE_ALONE))

    def bends(self, differ: list[Variable]) -> bool:
        """Whether the values given lie on a kink that shows along no line; where none of them is 0, and no two are
        equal, there is none."""
        if not (differ and any(np.unique(v.value(self.inputs)).size < v.value(self.inputs).size for v in differ)):
            return False
        gradients, _ = self.gradients(Point("the values given", self.inputs))
        return gradients is not None and any(not gradients.is_additive(v) for v in differ)

    def beside(self, point: Point, variables: list[Variable]) -> tuple[dict[str, TensorReport], str]:
        """The rows of these at a point close to one where parameters stand, by name; and why there are none."""
        moved = {s for v in self.variables for s in v.sources}
        inputs = [nudged(x, self.rng, NUDGE) if k in moved else x for k, x in enumerate(point.inputs)]
        values = {p: nudged(p.value, self.rng, NUDGE) for p in self.parameters()}
        with with_values(values):
            gradients, why = self.gradients(Point(f"a point {NUDGE:g} beside {point.name}", inputs, values))
            if gradients is None:
                return {}, why
            gradients.measure_rounding()
            return {v.name: self.compare(gradients, v) for v in variables}, ""

    # --- at other points ---

    def elsewhere(self, points: Iterable[list[Point]]) -> Point | None:
        """Check where a gradient that is right at the values given may be wrong.

        Returns the first point, if the target has a value there.
        """
        first = None
        for tried, variants in enumerate(points):
            for point in variants:
                with with_values(point.values):
                    gradients, why = self.gradients(point)
                    if gradients is not None:
                        first = point if tried == 0 else first
                        self.there(gradients, point)
                        break
            else:
                self.report.notes.append(f"not checked with {variants[0].name}: {why}")
        return first

    def there(self, gradients: Gradients, point: Point) -> None:
        """Put into the report what is wrong at this point and was right before.

        All gradients together are checked first, along a few directions; where these differ, each by itself.
        """
        report = self.report
        ok = {row.name for row in report.tensors if row.ok}
        sound = []
        for v in self.variables:
            if v.name not in ok:
                continue
            if fault := gradients.unfit(v):
                self.replace(broken(v.name, gradients.lines[v].x.shape, f"with {point.name}, {fault}"))
            elif gradients.is_singular(v):
                report.notes.append(f"with {point.name}, {v.name} is not finite, where y has a kink or a pole")
            else:
                sound.append(v)
        if not sound:
            return
        together = gradients.together(sound)
        probes = gradients.few(together, 2, point.ties) + (gradients.few(together, 1) if point.ties else [])
        row = gradients.compare(together, probes, self.tolerance)
        if row.verdict != "right":
            row = gradients.measure_rounding().compare(together, probes, self.tolerance)
        self.moves |= gradients.greatest > 0
        if row.verdict == "UNPROVED":
            report.notes.append(f"with {point.name} nothing could be decided: {row.hint}")
            return
        report.points.append(point.name)
        if row.verdict != "WRONG":
            return
        rows = {v: self.compare_there(gradients, v, point.ties) for v in sound}
        wrong = [v for v, row in rows.items() if row.verdict == "WRONG"]
        if point.ties:
            wrong = [v for v in wrong if self.is_wrong_for_ties(gradients, v) or gradients.is_additive(v)]
        beside = self.beside(point, wrong)[0] if point.ties and wrong else {}
        for v in wrong:
            hint = f"{HERE_ALONE}" if v.name in beside and beside[v.name].ok else rows[v].hint
            self.replace(replace(rows[v], hint=hint))
            self.wrong_at[v.name] = point

    # --- what is wrong ---

    def diagnose(self) -> None:
        """Say of every wrong gradient what explains it: the part of a network that is wrong, or its own formula."""
        rows = {row.name: row for row in self.report.tensors}
        wrong = [v for v in self.variables if rows[v.name].verdict == "WRONG" and np.isfinite(rows[v.name].error)]
        if not wrong:
            return
        given = Point("the values given", self.inputs)
        point = self.wrong_at.get(wrong[0].name, given)
        until = time.monotonic() + EXPLAINING
        part = _tried(explain_by_parts, self.subject, point, _check_part, until)
        for v in wrong:
            row, point = rows[v.name], self.wrong_at.get(v.name, given)
            said = part if v is wrong[0] else ""
            if not part:
                in_time = time.monotonic() < until
                said = _tried(explain, self.subject, v, self.variables, point) if in_time else None
            if said is not None and HERE_ALONE in row.hint:
                said = f"{said}; {HERE_ALONE}" if said else HERE_ALONE
            hint = row.hint if said is None else said
            if v.name in self.wrong_at:
                hint = f"right at the values given, wrong with {point.name}" + (f": {hint}" if hint else "")
            self.replace(replace(row, hint=hint))

    def compare(self, gradients: Gradients, v: Variable) -> TensorReport:
        self.moves |= gradients.greatest > 0
        return gradients.compare(v, gradients.thorough(v, **self.many), self.tolerance)

    def compare_there(self, gradients: Gradients, v: Variable, ties: bool) -> TensorReport:
        """Where elements are equal, moving one of them alone may show nothing of a kink: directions decide there."""
        if not ties:
            return self.compare(gradients, v)
        row = gradients.compare(v, gradients.few(v, 2, ties=True) + gradients.few(v, 2), self.tolerance)
        each = self.compare(gradients, v) if row.verdict == "WRONG" else row
        return each if each.verdict == "WRONG" else row

    def is_wrong_for_ties(self, gradients: Gradients, v: Variable) -> bool:
        """Whether it is wrong even where equal elements move together, so that a kink is no excuse."""
        return gradients.compare(v, gradients.few(v, 2, ties=True), self.tolerance).verdict == "WRONG"

    def gradients(self, point: Point) -> tuple[Gradients | None, str]:
        """The gradients at a point, or None, and why there are none. That backward raises is a fault."""
        try:
            y, backward = self.subject.evaluate(point.inputs)
        except Exception as error:
            return None, described(error)
        if not (y.size and np.isfinite(y).all()):
            return None, "y is not finite there"
        pulled = self.pull(y, backward, f"with {point.name}, ")
        if pulled is None:
            return None, "backward raised"
        return Gradients(self.subject, self.variables, point.inputs, y, *pulled, self.rng), ""

    def pull(self, y: Array, backward: Any, where: str = "") -> tuple[Array, tuple] | None:
        """A dy, and what backward returns for it; gradients of parameters are added from zero. None, and a fault in
        the report, where it raises."""
        dy = np.ones(()) if _is_whole(backward) else np.asarray(self.rng.standard_normal(y.shape))
        for p in self.parameters():
            p.zero_grad()
        try:
            return dy, self.subject.pull(backward, dy.copy())
        except np.linalg.LinAlgError:
            if not where:
                raise
            return None  # a matrix is singular there
        except Exception as error:
            self.report.faults.append(f"{where}backward raised {described(error)}")
            return None

    def parameters(self) -> list[Learned]:
        subject = self.subject
        return [*subject.parameters.values(), *subject.other_players.values(), *subject.left_out.values()]

    def replace(self, row: TensorReport) -> None:
        """Put the row in the place of the one of its name."""
        self.report.tensors = [row if old.name == row.name else old for old in self.report.tensors]


def _tried(explanation: Callable[..., str | None], *arguments: Any) -> str | None:
    """What it says, None where it raises: a hint may be missing, the verdict may not."""
    try:
        return explanation(*arguments)
    except Exception:
        return None


def _has_tangents(layer: Layer) -> bool:
    """Whether it, and every part of a Sequential, has a `jvp`."""
    parts = layer.layers if isinstance(layer, Sequential) else ()
    return type(layer).jvp is not Layer.jvp and all(map(_has_tangents, parts))


def _check_part(part: Any, *inputs: Any) -> Report:
    return check(part, *inputs, contract_too=False)


def _has_zeros(inputs: list, variables: list[Variable]) -> bool:
    return any(np.any(v.value(inputs) == 0) for v in variables)


def _refuse(subject: Subject, y: Array, backward: Any, again: Array) -> None:
    """Raise where there is no derivative to speak of."""
    if not np.array_equal(y, again, equal_nan=True):
        raise ValueError(
            f"gradcheck: {subject.name} gave two values at one point, so it has no derivative: it draws random "
            "numbers, which should be an argument or come from draw() of scratchgen.Random, or it remembers earlier "
            "calls"
        )
    if y.dtype != np.float64:
        raise TypeError(
            f"gradcheck: {subject.name} made {y.dtype} of float64 inputs and parameters, needs float64: "
            "look for a cast or a constant of that type"
        )
    if not np.isfinite(y).all():
        raise ValueError(f"gradcheck: {subject.name} gave values that are not finite at these inputs: choose others")
    if y.size == 0:
        raise ValueError(f"gradcheck: {subject.name} gave y of shape {y.shape}, which has no elements")
    if _is_whole(backward) and y.ndim:
        what = "a backward that takes no dy" if callable(backward) else f"{type(backward).__name__} beside it"
        raise TypeError(
            f"gradcheck: {subject.name} returned y of shape {y.shape} and {what}, needs a function of dy; "
            "only a scalar has a gradient without one"
        )


def _is_whole(backward: Any) -> bool:
    """Whether it is the gradient of a scalar itself, and not a function of dy."""
    return not callable(backward) or takes_no_argument(backward)


def _as_float64(x: Any) -> Any:
    """A float64 copy of a float array; anything else as it is."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f":
        return np.array(x, np.float64)
    return x
