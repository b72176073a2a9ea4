"""The check of a backward: at the values given, beside a kink, and at other points."""

from collections.abc import Callable

import numpy as np

from scratchgen import checks
from scratchgen.gradcheck import contract
from scratchgen.gradcheck.compare import Gradients, Variable, broken, standing_at
from scratchgen.gradcheck.guard import contained, told
from scratchgen.gradcheck.points import Point, nudged, other_points
from scratchgen.gradcheck.report import Report
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
    settings = {"rng": rng, "tolerance": tolerance, "elementwise": elementwise, "directions": directions}
    with contained():  # whatever it raises
        return _check(Subject(target, parameters), inputs, settings, contract_too, name, on_progress)


def _check(subject, inputs, settings, contract_too, name, on_progress) -> Report:
    inputs = [_as_float64(x) for x in inputs]
    report = Report(name or subject.name)
    rng = settings["rng"]
    with subject.in_float64(), np.errstate(all="ignore"):  # what is not finite is told, not warned of
        subject.discover(inputs)
        variables = _check_here(subject, inputs, report, **settings)
        report.unchecked += subject.overlooked()
        report.notes += subject.notes()
        generic = Point("the values given", inputs)
        show = on_progress or (lambda report: None)
        show(report)
        if variables:
            if any(t.verdict == "kink" for t in report.tensors):
                _check_beside(subject, variables, inputs, report, **settings)
            generic = _check_elsewhere(subject, variables, inputs, report, **settings) or generic
        show(report)
        if contract_too and not report.faults and all(np.isfinite(t.error) for t in report.tensors):
            with standing_at(generic.values):
                contract.check(subject, generic.inputs, rng, report)
    return report


def _check_here(subject, inputs, report, *, rng, tolerance, **many) -> list[Variable]:
    """Add to the report a row for every gradient at the values given; returns what it was possible to compare."""
    y, backward = subject.evaluate(inputs)
    again, _ = subject.evaluate(inputs)
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
    whole = _is_whole(backward)
    if whole and y.ndim:
        what = "a backward that takes no dy" if callable(backward) else f"{type(backward).__name__} beside it"
        raise TypeError(
            f"gradcheck: {subject.name} returned y of shape {y.shape} and {what}, needs a function of dy; "
            "only a single number has a gradient without one"
        )
    dy = np.ones(()) if whole else rng.standard_normal(y.shape)
    try:
        dxs = _pull(subject, backward, dy)
    except Exception as error:
        report.faults.append(f"backward raised {told(error)}")
        return []
    moved = [name for name, p in subject.bystanders.items() if np.any(p.grad)]
    if moved:
        report.faults.append(f"backward adds to {moved[0]}.grad, of another player than the one whose loss this is")

    variables = []
    names = subject.input_names(len(inputs))
    for k, x in enumerate(inputs):
        if not _is_float(x):
            continue
        if k < len(dxs) and dxs[k] is not None:
            variables.append(Variable(f"d{names[k]}", (k,)))
        elif k == 0 and not (whole and subject.parameters):  # a model's loss gives the gradients of its parameters
            hint = "backward returned None, needs the gradient: is a return missing?"
            report.tensors.append(broken(f"d{names[k]}", x.shape, hint))
        else:
            report.notes.append(f"{names[k]}: backward gives no gradient for it, so none was checked")
    variables += [Variable(f"{name}.grad", (p,)) for name, p in subject.parameters.items()]
    empty = [v for v in variables if v.value(inputs).size == 0]
    report.notes += [f"{v.name}: there is nothing to check, its shape is {v.value(inputs).shape}" for v in empty]
    variables = [v for v in variables if v not in empty]
    if not variables:
        if not report.tensors:
            report.notes.append("nothing was checked: no input is an array of floats, and there are no Parameters")
        return []
    here = Gradients(subject, variables, inputs, y, dy, dxs, rng).measure_rounding()
    report.tensors += [here.compare(v, here.thorough(v, **many), tolerance) for v in variables]
    return variables


def _check_beside(subject, variables, inputs, report, *, rng, tolerance, **many) -> None:
    """Settle by a point beside what a kink leaves open.

    On a kink the backward may give any value between the slopes, and where kinked terms are added up even another
    (relu(x) − relu(−x) is x, but its backward gives 0 at 0). So a row that differs there, when the point does lie on
    a kink, is as right as it is beside it.
    """
    moved = _sources(variables)
    inputs = [nudged(x, rng, NUDGE) if k in moved else x for k, x in enumerate(inputs)]
    point = Point(f"a point {NUDGE:g} beside", inputs, {p: nudged(p.value, rng, NUDGE) for p in _parameters(subject)})
    rows = {row.name: row for row in report.tensors}
    with standing_at(point.values):
        beside, why = _gradients(subject, variables, point, rng, report)
        if beside is not None:
            beside.measure_rounding()
        else:
            report.notes.append(f"the inputs lie on a kink, and no check could be made beside it: {why}")
            return
        for v in variables:
            row = rows[v.name]
            if row.verdict not in ("kink", "WRONG") or not np.isfinite(row.error):
                continue
            other = beside.compare(v, beside.thorough(v, **many), tolerance)
            row.error, row.index, row.analytic, row.numeric = other.error, other.index, other.analytic, other.numeric
            row.cosine, row.norm_ratio = other.cosine, other.norm_ratio
            if other.ok:
                row.verdict = "kink"
                row.hint = f"{row.kinks or 'some'} probes lie on a kink; the figures are from {point.name} it"
            else:
                row.verdict = other.verdict
                row.hint = f"the point lies on a kink, but {NUDGE:g} beside it, too: {other.hint or 'it is wrong'}"


def _check_elsewhere(subject, variables, inputs, report, *, rng, tolerance, **many) -> Point | None:
    """Check where a gradient that is right at the values given may be wrong.

    All gradients together, along a few directions; where these differ, each by itself. Returns the point where all is
    drawn at random, if the target has a value there.
    """
    first = None
    for variants in other_points(inputs, _sources(variables), _parameters(subject), rng):
        for point in variants:
            with standing_at(point.values):
                there, why = _gradients(subject, variables, point, rng, report)
                if there is not None:
                    first = first or point
                    _check_there(there, point, report, tolerance, many)
                    break
        else:
            report.notes.append(f"not checked with {variants[0].name}: {why}")
    return first


def _check_there(there, point, report, tolerance, many) -> None:
    """Put into the report what is wrong at this point and was right before."""
    rows = {row.name: i for i, row in enumerate(report.tensors)}
    sound = []
    for v in there.variables:
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
    verdict = there.compare(together, probes, tolerance).verdict
    if verdict != "right":
        verdict = there.measure_rounding().compare(together, probes, tolerance).verdict
    if verdict == "UNPROVED":
        report.notes.append(f"with {point.name} nothing could be decided: y is too large beside its changes")
        return
    report.points.append(point.name)
    for v in sound if verdict == "WRONG" else ():
        # Where numbers are equal, moving one of them alone may show nothing of a kink: directions decide there.
        row = there.compare(v, there.few(v, 2, ties=True) + there.few(v, 2), tolerance) if point.ties else None
        if row is None or row.verdict == "WRONG":
            each = there.compare(v, there.thorough(v, **many), tolerance)
            row = each if row is None or each.verdict == "WRONG" else row
        if row.verdict == "WRONG":
            row.hint = f"right at the values given, wrong with {point.name}" + (f": {row.hint}" if row.hint else "")
            report.tensors[rows[v.name]] = row


def _gradients(subject, variables, point, rng, report) -> tuple[Gradients | None, str]:
    """The gradients at a point, or None, and why the target has no value there. A backward that raises is a fault."""
    try:
        y, backward = subject.evaluate(point.inputs)
    except Exception as error:
        return None, told(error)
    if not (y.size and np.isfinite(y).all()):
        return None, "y is not finite there"
    dy = np.ones(()) if _is_whole(backward) else rng.standard_normal(y.shape)
    try:
        dxs = _pull(subject, backward, dy)
    except Exception as error:
        report.faults.append(f"with {point.name}, backward raised {told(error)}")
        return None, "backward raised"
    return Gradients(subject, variables, point.inputs, y, dy, dxs, rng), ""


def _pull(subject, backward, dy):
    """What backward returns for dy; gradients of parameters are added from zero."""
    for p in _parameters(subject):
        p.zero_grad()
    return subject.pull(backward, dy.copy())


def _sources(variables) -> set:
    return {s for v in variables for s in v.sources}


def _parameters(subject) -> list:
    return [*subject.parameters.values(), *subject.bystanders.values()]


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
