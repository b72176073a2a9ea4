"""The sentences of the layer contract that a right gradient alone does not show."""

import numpy as np

from scratchgen.gradcheck.report import Report
from scratchgen.gradcheck.subject import Subject, takes_no_argument
from scratchgen.layers.parameter import frozen


def check(subject: Subject, inputs, rng: np.random.Generator, report: Report) -> None:
    """Add to `report.faults` every sentence that `subject` breaks at `inputs`.

    All targets: nothing writes into an input or dy. Layers also: gradients are added, an evaluation keeps its
    own cache, and a backward is that of the parameters that were evaluated.
    """
    lent = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    y, backward = subject.evaluate(lent, lend=True)
    if not callable(backward):
        return
    dy = np.ones(y.shape) if takes_no_argument(backward) else rng.standard_normal(y.shape)
    given = dy.copy()
    first = _run(subject, backward, given)
    if not np.array_equal(given, dy):
        report.faults.append("backward writes into dy, which belongs to the caller")
    for name, x, before in zip(subject.input_names(len(inputs)), lent, inputs, strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, before):
            report.faults.append(f"it writes into {name}, which belongs to the caller")
    if not subject.keeps_contract:
        return

    values = {name: p.value.copy() for name, p in subject.parameters.items()}
    _, backward = subject.evaluate(inputs)
    subject.pull(backward, dy.copy())  # on top of the first
    for name, p in subject.parameters.items():
        if not _near(p.grad, 2 * first[1][name]):
            report.faults.append(
                f"backward does not add to {name}.grad: write `{name}.grad += ...`, since two evaluations share it"
            )
        if not np.array_equal(p.value, values[name]):
            report.faults.append(f"it writes into the value of {name}")

    other = [x + 0.1 * rng.standard_normal(x.shape) if _is_float(x) else x for x in inputs]
    _, backward = subject.evaluate(inputs)
    subject.evaluate(other)
    if not _same(first, _run(subject, backward, dy.copy())):
        report.faults.append(
            "a second forward changes what the first one's backward gives: the cache is on the layer; "
            "keep it in local variables that backward closes over"
        )
        return
    _, backward = subject.evaluate(inputs)
    before = {p: p.value for p in subject.parameters.values()}
    for p, value in before.items():
        p.value = 1.1 * value + 0.1
    late = _run(subject, backward, dy.copy())
    for p, value in before.items():
        p.value = value
    if not _same(first, late):
        report.faults.append(
            "backward uses the parameters as they are when it runs, not as they were evaluated: read them once, in "
            "forward (W = self.W.value), and let backward close over that"
        )
    if subject.parameters:
        with frozen(subject.module):
            _, backward = subject.evaluate(inputs)
            gradients = _run(subject, backward, dy.copy())[1]
        if any(g.any() for g in gradients.values()):
            report.notes.append("backward adds to frozen parameters; return self.pullback(...) to have them left out")


def _run(subject, backward, dy):
    """(gradients of the inputs, gradients of the parameters by name), the latter from zero."""
    for p in subject.parameters.values():
        p.zero_grad()
    dxs = [None if dx is None else np.array(dx) for dx in subject.pull(backward, dy)]
    return dxs, {name: np.array(p.grad) for name, p in subject.parameters.items()}


def _same(one, two) -> bool:
    pairs = [*zip(one[0], two[0], strict=True), *((one[1][name], two[1][name]) for name in one[1])]
    return all(a is b or _near(a, b) for a, b in pairs)


def _near(a, b) -> bool:
    return a is not None and b is not None and a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-12)


def _is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64
