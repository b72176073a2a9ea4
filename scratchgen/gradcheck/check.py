"""The comparison of a backward with central differences."""

from itertools import product
from math import prod

import numpy as np

from scratchgen.gradcheck import contract
from scratchgen.gradcheck.hints import cosine, diagnose
from scratchgen.gradcheck.numeric import Line
from scratchgen.gradcheck.report import Report, TensorReport
from scratchgen.gradcheck.subject import Subject, takes_no_argument, told


def check(
    target,
    *inputs,
    rng: np.random.Generator | None = None,
    parameters=(),
    tolerance: float = 1e-6,
    elementwise: int = 400,
    directions: int = 8,
    contract_too: bool = True,
    name: str | None = None,
) -> Report:
    """Compare every gradient of `target` at `inputs` with central differences in float64.

    `target` is a layer, a method such as `model.loss`, or any function that returns `y, backward`; `parameters` names
    the Parameters (or the module) that a plain function closes over. Float inputs are differentiated where backward
    gives a gradient for them, others are constants. dy is drawn from `rng`, never ones: for some layers a sum over y
    does not depend on x at all. Tensors up to `elementwise` numbers are checked number by number, larger ones along
    random `directions` and at the extreme, corner and some drawn coordinates. Nothing of the caller's changes.

    Raises what the target raises at these inputs; TypeError when it does not return `y, backward`.
    """
    rng = rng if rng is not None else np.random.default_rng(0)
    subject = Subject(target, parameters)
    inputs = [_as_float64(x) for x in inputs]
    report = Report(name or subject.name)
    with subject.in_float64():
        _check(subject, inputs, rng, report, tolerance, elementwise, directions)
        if contract_too and not report.faults and all(np.isfinite(t.error) for t in report.tensors):
            contract.check(subject, inputs, rng, report)
    return report


def _check(subject, inputs, rng, report, tolerance, elementwise, directions) -> None:
    y, backward = subject.evaluate(inputs)
    again, _ = subject.evaluate(inputs)
    if not np.array_equal(y, again, equal_nan=True):
        raise ValueError(
            f"gradcheck: {subject.name} gave two values at one point, so it has no derivative: "
            "pass its noise in as an argument"
        )
    if y.dtype != np.float64:
        raise TypeError(
            f"gradcheck: {subject.name} made {y.dtype} of float64 inputs and parameters; differences need float64: "
            "look for a cast or a float32 constant"
        )
    if not np.isfinite(y).all():
        raise ValueError(f"gradcheck: {subject.name} gave values that are not finite at these inputs")

    plain = not callable(backward) or takes_no_argument(backward)
    dy = np.ones(y.shape) if plain else rng.standard_normal(y.shape)
    for p in subject.parameters.values():
        p.zero_grad()
    try:
        dxs = subject.pull(backward, dy.copy())
    except Exception as error:
        report.faults.append(f"backward raised {told(error)}")
        return

    names = subject.input_names(len(inputs))
    scale = {f"the batch size, {len(inputs[0])}": len(inputs[0])} if inputs and np.ndim(inputs[0]) else {}
    if inputs and np.ndim(inputs[0]) > 1:
        features = prod(inputs[0].shape[1:])
        scale[f"the number of features, {features}"] = features
    if inputs and np.ndim(inputs[0]) > 2:
        scale[f"the number of rows, {prod(inputs[0].shape[:-1])}"] = prod(inputs[0].shape[:-1])
    if y.ndim > 2:
        scale[f"the number of output rows, {prod(y.shape[:-1])}"] = prod(y.shape[:-1])

    for k, x in enumerate(inputs):
        if not isinstance(x, np.ndarray) or x.dtype != np.float64:
            continue
        dx = dxs[k] if k < len(dxs) else None
        if dx is None:
            if k == 0 and not plain:
                report.tensors.append(
                    _broken(
                        f"d{names[k]}", x.shape, "backward returned None, needs the gradient: is a return missing?"
                    )
                )
            elif not plain:
                report.notes.append(f"{names[k]}: backward gives no gradient for it, so none was checked")
            continue

        def put(array, k=k):
            return subject.evaluate([*inputs[:k], array, *inputs[k + 1 :]])[0]

        line = Line(put, x, y, dy)
        report.tensors.append(
            _compare(f"d{names[k]}", np.asarray(dx), line, rng, tolerance, elementwise, directions, scale)
        )

    for name, p in subject.parameters.items():
        value = p.value

        def put(array, p=p, value=value):
            p.value = array
            try:
                return subject.evaluate(inputs)[0]
            finally:
                p.value = value

        line = Line(put, value, y, dy)
        report.tensors.append(
            _compare(f"{name}.grad", np.array(p.grad), line, rng, tolerance, elementwise, directions, scale)
        )


def _compare(name, analytic, line, rng, tolerance, elementwise, directions, sizes) -> TensorReport:
    """The report on one tensor."""
    shape = line.x.shape
    if analytic.shape != shape:
        hint = f"backward gave shape {analytic.shape}, needs {shape}, the shape of what it is the gradient of"
        return _broken(name, shape, hint)
    small = line.x.size <= elementwise
    if small:
        indices = list(np.ndindex(shape))
        probes = [_unit(shape, i) for i in indices]
        checked = "all"
    else:
        indices = _coordinates(analytic, rng)
        drawn = [rng.standard_normal(shape) for _ in range(directions)]
        probes = [*drawn, *(_unit(shape, i) for i in indices)]
        indices = [f"direction {i}" for i in range(directions)] + indices
        checked = f"{directions} dir + {len(indices) - directions}"

    derivatives = [line.derivative(u, line.step(u)) for u in probes]
    n = np.array([d.central for d in derivatives])
    a = np.array([np.sum(analytic * u) for u in probes])
    noise = max((line.noise(line.step(u)) for u in probes), default=0.0)
    floor = max(1e-2 * np.abs(n).max(initial=0), 4 * noise / tolerance)
    difference = np.abs(a - n)
    size = np.maximum(np.maximum(np.abs(a), np.abs(n)), floor)
    errors = np.where(
        difference == 0, 0, np.where(np.isfinite(difference), difference / np.where(size, size, 1), np.inf)
    )

    kinks = np.zeros(len(probes), bool)
    for i in np.flatnonzero(errors > tolerance):
        kinks[i] = np.isfinite(a[i]) and line.is_kink(probes[i], a[i], derivatives[i], floor, tolerance)
    errors[kinks] = 0
    wrong = errors > tolerance

    worst = int(np.argmax(errors))
    smooth = ~kinks
    norm = np.linalg.norm(n[smooth])
    report = TensorReport(
        name,
        shape,
        checked,
        error=float(errors[worst]),
        index=indices[worst],
        analytic=float(a[worst]),
        numeric=float(n[worst]),
        cosine=cosine(a[smooth], n[smooth]) if norm > 4 * noise else float("nan"),
        norm_ratio=float(np.linalg.norm(a[smooth]) / norm) if norm > 4 * noise else float("nan"),
        kinks=int(kinks.sum()),
        verdict="WRONG" if wrong.any() else "kink" if kinks.any() else "right",
    )
    if wrong.any() and small:
        report.hint = diagnose(name, analytic, n.reshape(shape), wrong.reshape(shape), sizes)
    elif wrong.any():
        report.hint = diagnose(name, a, n, wrong, sizes)
    elif kinks.any():
        report.hint = (
            f"{kinks.sum()} of {len(probes)} probes meet a kink, where there is no derivative to compare with"
        )
        if kinks.all():
            report.hint += ": nothing was proved here, choose other inputs"
    return report


def _coordinates(analytic, rng, drawn: int = 16) -> list[tuple[int, ...]]:
    """Where errors hide: the largest and smallest gradients, the corners, and some drawn at random."""
    size = np.where(np.isfinite(analytic), np.abs(analytic), np.inf)
    flat = [int(size.argmax()), int(size.argmin()), *rng.integers(0, analytic.size, drawn)]
    corners = list(product(*({0, n - 1} for n in analytic.shape)))
    if len(corners) > 16:
        corners = [corners[i] for i in rng.choice(len(corners), 16, replace=False)]
    found = [tuple(map(int, np.unravel_index(i, analytic.shape))) for i in flat] + corners
    return list(dict.fromkeys(found))


def _unit(shape, index) -> np.ndarray:
    u = np.zeros(shape)
    u[index] = 1
    return u


def _broken(name, shape, hint) -> TensorReport:
    return TensorReport(name, shape, error=float("inf"), verdict="WRONG", hint=hint)


def _as_float64(x):
    """A float64 copy of a float array; anything else as it is."""
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f":
        return np.array(x, np.float64)
    return x
