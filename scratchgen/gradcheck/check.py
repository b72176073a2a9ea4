"""The comparison of a backward with central differences."""

from collections.abc import Callable
from itertools import product
from math import prod

import numpy as np

from scratchgen import checks
from scratchgen.gradcheck import contract
from scratchgen.gradcheck.guard import told
from scratchgen.gradcheck.hints import cosine, diagnose, factor
from scratchgen.gradcheck.numeric import Line
from scratchgen.gradcheck.report import Report, TensorReport
from scratchgen.gradcheck.subject import Subject, takes_no_argument

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
    on_gradients: Callable[[Report], object] | None = None,
) -> Report:
    """Compare every gradient of `target` at `inputs` with central differences in float64.

    `target` is a layer, a method such as `model.loss`, or any function that returns `y, backward`; `parameters` names
    the Parameters (or the module) that a plain function closes over, which are found without it. Float inputs are
    differentiated where backward gives a gradient for them, others are constants. dy is drawn from `rng`, never ones: for some layers a sum over y
    does not depend on x at all. Tensors up to `elementwise` numbers are checked number by number, larger ones along
    random `directions` and at the extreme, corner and some drawn coordinates. Where the inputs lie on a kink there is
    no derivative to compare with, and the check is made again at a point beside it. Nothing of the caller's changes.

    `on_gradients` is called with the report when the gradients are done and the rest of the contract is not.

    Raises what the target raises at these inputs; TypeError when it does not return `y, backward`.
    """
    rng = np.random.default_rng(0) if rng is None else checks.generator("gradcheck", rng)
    subject = Subject(target, parameters)
    inputs = [_as_float64(x) for x in inputs]
    report = Report(name or subject.name)
    settings = {"rng": rng, "tolerance": tolerance, "elementwise": elementwise, "directions": directions}
    with subject.in_float64(), np.errstate(all="ignore"):  # what is not finite is told, not warned of
        subject.discover(inputs)
        _check(subject, inputs, report, **settings)
        report.unchecked += subject.overlooked()
        report.notes += subject.notes()
        if any(t.verdict == "kink" for t in report.tensors):
            _check_beside(subject, inputs, report, **settings)
        if on_gradients is not None:
            on_gradients(report)
        if contract_too and not report.faults and all(np.isfinite(t.error) for t in report.tensors):
            contract.check(subject, inputs, rng, report)
    return report


def _check(subject, inputs, report, *, rng, **settings) -> None:
    """Add to the report a row for every gradient at these inputs."""
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
    whole = not callable(backward) or takes_no_argument(backward)  # the gradient itself, not a function of dy
    if whole and y.ndim:
        what = "a backward that takes no dy" if callable(backward) else f"{type(backward).__name__} beside it"
        raise TypeError(
            f"gradcheck: {subject.name} returned y of shape {y.shape} and {what}, needs a function of dy; "
            "only a single number has a gradient without one"
        )
    dy = np.ones(()) if whole else rng.standard_normal(y.shape)
    for p in (*subject.parameters.values(), *subject.bystanders.values()):
        p.zero_grad()
    try:
        dxs = subject.pull(backward, dy.copy())
    except Exception as error:
        report.faults.append(f"backward raised {told(error)}")
        return
    moved = [name for name, p in subject.bystanders.items() if np.any(p.grad)]
    if moved:
        report.faults.append(f"backward adds to {moved[0]}.grad, of another player than the one whose loss this is")

    settings |= {"rng": rng, "sizes": _sizes(inputs, y)}
    names = subject.input_names(len(inputs))
    for k, x in enumerate(inputs):
        if not isinstance(x, np.ndarray) or x.dtype != np.float64:
            continue
        dx = dxs[k] if k < len(dxs) else None
        if dx is not None:
            line = Line(lambda a, k=k: subject.evaluate([*inputs[:k], a, *inputs[k + 1 :]])[0], x, y, dy)
            report.tensors.append(_compare(f"d{names[k]}", np.asarray(dx), line, **settings))
        elif k == 0 and not whole:
            hint = "backward returned None, needs the gradient: is a return missing?"
            report.tensors.append(_broken(f"d{names[k]}", x.shape, hint))
        elif not whole:
            report.notes.append(f"{names[k]}: backward gives no gradient for it, so none was checked")
    for name, p in subject.parameters.items():
        line = Line(lambda a, p=p: subject.evaluate_with(p, a, inputs), p.value, y, dy)
        report.tensors.append(_compare(f"{name}.grad", np.array(p.grad), line, **settings))


def _check_beside(subject, inputs, report, *, rng, **settings) -> None:
    """Settle by a point beside what a kink leaves open.

    On a kink the backward may give any value between the slopes, and where kinked terms are added up even another
    (relu(x) − relu(−x) is x, but its backward gives 0 at 0). So a row that differs there, when the point does lie on
    a kink, is as right as it is beside it.
    """

    def nudged(a):
        return a + NUDGE * rng.standard_normal(a.shape) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a

    beside = Report(report.name)
    values = {p: p.value for p in subject.parameters.values()}
    try:
        for p, value in values.items():
            p.value = nudged(value)
        _check(subject, [nudged(x) for x in inputs], beside, rng=rng, **settings)
    except ValueError as error:
        report.notes.append(f"the inputs lie on a kink, and no check could be made beside it: {error}")
        return
    finally:
        for p, value in values.items():
            p.value = value
    report.faults += beside.faults
    for row, other in zip(report.tensors, beside.tensors, strict=True):
        if row.verdict == "right" or not np.isfinite(row.error):
            continue
        row.error, row.index, row.analytic, row.numeric = other.error, other.index, other.analytic, other.numeric
        row.cosine, row.norm_ratio = other.cosine, other.norm_ratio
        if other.ok:
            row.verdict = "kink"
            row.hint = f"{row.kinks or 'some'} probes lie on a kink; the figures are from a point {NUDGE:g} beside it"
        else:
            row.verdict = other.verdict
            row.hint = f"the point lies on a kink, but {NUDGE:g} beside it, too: {other.hint or 'it is wrong'}"


def _compare(name, analytic, line, *, rng, tolerance, elementwise, directions, sizes) -> TensorReport:
    """The report on one tensor."""
    shape = line.x.shape
    if analytic.shape != shape:
        hint = f"backward gave shape {analytic.shape}, needs {shape}, the shape of what it is the gradient of"
        return _broken(name, shape, hint)
    if analytic.dtype != np.float64:
        return _broken(name, shape, f"backward gave {analytic.dtype}, needs float64, the type of all that went in")
    small = line.x.size <= elementwise
    if small:
        places = list(np.ndindex(shape))
        drawn = []
    else:
        places = _coordinates(analytic, rng)
        drawn = [line.scale * rng.standard_normal(shape) for _ in range(directions)]
    # A direction as it is, a coordinate by a step of its own scale, which is divided out again.
    probes = [(u, 1.0) for u in drawn] + [(_unit(shape, i, line.scale[i]), line.scale[i]) for i in places]
    found = [line.derivative(u) for u, _ in probes]
    weights = np.array([w for _, w in probes])
    n = np.array([d.central for d in found]) / weights
    a = np.array([np.sum(analytic * u) for u, _ in probes]) / weights
    noise = line.noise()
    floor = max(1e-2 * np.abs(n).max(initial=0), 4 * noise / tolerance)
    size = np.maximum(np.maximum(np.abs(a), np.abs(n)), floor)

    verdicts = np.full(len(probes), "right", object)
    for i in np.flatnonzero(~(np.abs(a - n) <= tolerance * size)):
        verdicts[i], n[i] = _second_look(line, probes[i], a[i], found[i], size[i], tolerance)
    with np.errstate(invalid="ignore"):
        errors = np.abs(a - n) / np.where(size > 0, size, 1)
    errors = np.where(np.isfinite(errors), errors, np.inf)
    errors[verdicts == "kink"] = 0
    wrong, smooth, kinks = verdicts == "WRONG", verdicts != "kink", np.isin(verdicts, ("kink", "beside"))

    worst = int(np.argmax(np.where(wrong, errors, -1) if wrong.any() else errors))
    index, at = (places[worst - len(drawn)], worst) if worst >= len(drawn) else (f"direction {worst}", worst)
    row = TensorReport(
        name,
        shape,
        "all" if small else f"{len(drawn)} dir + {len(places)}",
        error=float(errors[worst]),
        index=index,
        analytic=float(a[at]),
        numeric=float(n[at]),
        kinks=int(kinks.sum()),
        verdict="WRONG" if wrong.any() else "right" if smooth.all() else "kink",
    )
    norm = np.linalg.norm(n[smooth])
    if norm > 4 * noise:
        row.cosine, row.norm_ratio = cosine(a[smooth], n[smooth]), float(np.linalg.norm(a[smooth]) / norm)
    largest = max(np.abs(a).max(initial=0), np.abs(n).max(initial=0)) if np.isfinite(a).all() else np.inf
    if wrong.any():
        if small:
            row.hint = diagnose(name, analytic, n.reshape(shape), wrong.reshape(shape), sizes)
        else:
            if isinstance(index, str) and np.isfinite(analytic).all():
                row.index, row.analytic, row.numeric = _locate(line, analytic)
            row.hint = factor(a, n, sizes) or f"{wrong.sum()} of {len(probes)} probes are wrong"
    elif not smooth.all():
        row.hint = f"{np.sum(~smooth)} of {len(probes)} probes lie on a kink"
    elif noise > 1e-4 * largest and noise > 1e-6 * np.linalg.norm(line.dy):
        row.verdict = "UNPROVED"
        row.hint = "y is so large beside its changes that rounding hides the gradient: check it at smaller values"
    elif row.kinks:
        row.hint = f"{row.kinks} of {len(probes)} probes step over a kink; smaller steps agree"
    return row


def _second_look(line, probe, a, found, size, tolerance):
    u, weight = probe
    if not np.isfinite(a):
        return "WRONG", found.central / weight
    verdict, central = line.refined(u, a * weight, found, size * weight, tolerance)
    return verdict, central / weight


def _locate(line, analytic) -> tuple[tuple[int, ...], float, float]:
    """One element that is wrong: by halves, keeping the half along which the two differ more."""
    rng = np.random.default_rng(0)
    direction = (line.scale * rng.standard_normal(line.x.shape)).ravel()
    inside = np.arange(line.x.size)

    def along(part):
        u = np.zeros(line.x.size)
        u[part] = direction[part]
        u = u.reshape(line.x.shape)
        return abs(line.derivative(u).central - np.sum(analytic * u))

    while len(inside) > 1:
        halves = np.array_split(inside, 2)
        inside = max(halves, key=along)
    index = tuple(int(i) for i in np.unravel_index(inside[0], line.x.shape))
    weight = line.scale[index]
    return index, float(analytic[index]), line.derivative(_unit(line.x.shape, index, weight)).central / weight


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


def _unit(shape, index, length: float) -> np.ndarray:
    u = np.zeros(shape)
    u[index] = length
    return u


def _broken(name, shape, hint) -> TensorReport:
    return TensorReport(name, shape, error=float("inf"), verdict="WRONG", hint=hint)


def _as_float64(x):
    """A float64 copy of a float array; anything else as it is."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f":
        return np.array(x, np.float64)
    return x
