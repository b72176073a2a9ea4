"""The sentences of the layer contract that a right gradient alone does not show."""

import copy

import numpy as np

from scratchgen.gradcheck.report import Report
from scratchgen.gradcheck.subject import Subject, takes_no_argument


def check(subject: Subject, inputs, rng: np.random.Generator, report: Report) -> None:
    """Add to `report.faults` every sentence that `subject` breaks at `inputs`.

    All targets: nothing writes into an input, a y or a dy; backward is linear. Layers also: gradients are added, an
    evaluation keeps its own cache, a backward is that of the parameters that were evaluated, float32 stays float32,
    and predict gives what forward gives.
    """
    lent = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    y, backward = subject.evaluate(lent, lend=True)
    if not callable(backward):
        return
    whole = takes_no_argument(backward)
    dy = np.ones(()) if whole else rng.standard_normal(y.shape)
    given, y_then = dy.copy(), y.copy()
    for p in subject.parameters.values():
        p.zero_grad()
    lent_dxs = subject.pull(backward, given)
    first = _copies(subject, lent_dxs)
    fault = report.faults.append
    if not np.array_equal(given, dy):
        fault("backward writes into dy, which belongs to the caller")
    for name, x, before in zip(subject.input_names(len(inputs)), lent, inputs, strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, before):
            fault(f"it writes into {name}, which belongs to the caller")
    if not whole:
        large = _run(subject, subject.evaluate(inputs)[1], -1e3 * dy)
        if not all(_near(b, None if a is None else -1e3 * a) for a, b in _pairs(first, large)):
            fault("backward is not linear in dy: −1000 times dy does not give −1000 times the gradients")
    other = [_elsewhere(x) for x in inputs]
    again = subject.evaluate(other, lend=True)[1]
    if not np.array_equal(y, y_then):
        fault("a second forward changes the y of the first: it is a buffer that is used again")
    subject.pull(again, 2 * dy)
    if not all(_near(np.asarray(a), b) for a, b in zip(lent_dxs, first[0], strict=True) if b is not None):
        fault("a second backward changes the dx of the first: it is a buffer that is used again")
    if subject.keeps_contract:
        _check_layer(subject, inputs, dy, first, other, report)


def _check_layer(subject, inputs, dy, first, other, report) -> None:
    fault = report.faults.append
    values = {name: p.value.copy() for name, p in subject.parameters.items()}
    _run(subject, subject.evaluate(inputs)[1], dy.copy())
    subject.pull(subject.evaluate(inputs)[1], dy.copy())  # on top of the first
    for name, p in subject.parameters.items():
        if not _near(p.grad, 2 * first[1][name]):
            fault(f"backward does not add to {name}.grad: write `{name}.grad += ...`, since two evaluations share it")
        if not np.array_equal(p.value, values[name]):
            fault(f"it writes into the value of {name}")

    _, backward = subject.evaluate(inputs)
    subject.evaluate(other)
    own_cache = _same(first, _run(subject, backward, dy.copy()))
    if not own_cache:
        fault(
            "a second forward changes what the first one's backward gives: the cache is on the layer; "
            "keep it in local variables that backward closes over"
        )
    _, backward = subject.evaluate(inputs)
    before = {p: p.value for p in subject.parameters.values()}
    for p, value in before.items():
        p.value = 1.1 * value + 0.1
    late = _run(subject, backward, dy.copy())
    for p, value in before.items():
        p.value = value
    if own_cache and not _same(first, late):
        fault(
            "backward uses the parameters as they are when it runs, not as they were evaluated: read them once, in "
            "forward (W = self.W.value), and let backward close over that"
        )
    _check_predict(subject, inputs, report)
    _check_float32(subject, inputs, dy, report)
    if not subject.parameters and subject.arrays:
        report.notes.append(
            f"it has no Parameters, so only dx was checked; if {' or '.join(subject.arrays)} is to be learned, "
            "make it a Parameter"
        )


def _check_predict(subject, inputs, report) -> None:
    """Only what keeps running statistics may predict another value, and it may not move them."""
    module = subject.module
    state = {(m, b): getattr(m, b).copy() for m in module.modules() for b in m.buffers}
    predicted = np.asarray(module.predict(*(_elsewhere(x, shift=0) for x in inputs)))
    if any(not np.array_equal(getattr(m, b), a) for (m, b), a in state.items()):
        report.faults.append("predict changes running statistics: call predict of the layers inside, not forward")
    if not state and not _near(predicted, subject.evaluate(inputs)[0]):
        report.faults.append("predict does not give the y of forward")


def _check_float32(subject, inputs, dy, report) -> None:
    layer = copy.deepcopy(subject.module).astype(np.float32)
    y, backward = layer.forward(*(x.astype(np.float32) if _is_float(x) else x for x in inputs))
    found = {"y": y}
    if y.dtype == np.float32:
        dxs = backward(dy.astype(np.float32))
        found["dx"] = dxs[0] if isinstance(dxs, tuple | list) else dxs
    for name, array in found.items():
        if getattr(array, "dtype", np.float32) != np.float32:
            report.faults.append(
                f"for float32 x, {name} comes out as {array.dtype}: an array inside is float64, use .astype(x.dtype)"
            )


def _run(subject, backward, dy):
    """(gradients of the inputs, gradients of the parameters by name), the latter from zero."""
    for p in subject.parameters.values():
        p.zero_grad()
    return _copies(subject, subject.pull(backward, dy))


def _copies(subject, dxs):
    grads = {name: np.array(p.grad) for name, p in subject.parameters.items()}
    return [None if dx is None else np.array(dx) for dx in dxs], grads


def _pairs(one, two):
    return [*zip(one[0], two[0], strict=True), *((one[1][name], two[1][name]) for name in one[1])]


def _same(one, two) -> bool:
    return all(_near(a, b) for a, b in _pairs(one, two))


def _near(a, b) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-12 * max(1, np.abs(b).max(initial=0)))


def _elsewhere(x, shift: int = 1):
    """Another input of the same kind: the samples in another order; a single sample, somewhat smaller."""
    if not (isinstance(x, np.ndarray) and x.ndim):
        return x
    if shift and len(x) == 1 and _is_float(x):
        return 0.9 * x
    return np.roll(x, shift, axis=0)


def _is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64
