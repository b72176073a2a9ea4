"""The sentences of the layer contract that a right gradient alone does not show."""

from collections.abc import Iterator

import numpy as np

from scratchgen.gradcheck.guard import guarded, told
from scratchgen.gradcheck.learned import ArrayParameter
from scratchgen.gradcheck.report import Report
from scratchgen.gradcheck.subject import Subject, parted, takes_no_argument
from scratchgen.layers.layer import Layer


def check(subject: Subject, inputs, rng: np.random.Generator, report: Report) -> None:
    """Add to `report.faults` every sentence that `subject` breaks at `inputs`.

    All targets: nothing writes into an input, a y or a dy; backward is linear. Layers also: gradients are added, an
    evaluation keeps its own cache, a backward is that of the parameters that were evaluated, float32 stays float32,
    predict gives what forward gives, and what is learned is found. Each is checked by itself, so that none hides
    another, or the gradients: what raises in one is a fault, and the next is checked.
    """
    y, backward = subject.evaluate(inputs)
    if not callable(backward):
        return
    dy = np.ones(()) if takes_no_argument(backward) else rng.standard_normal(y.shape)
    sentences = [*EVERYBODY, *(LAYERS if subject.keeps_contract else ())]
    for sentence, doing in sentences:
        try:
            report.faults += sentence(subject, inputs, dy)
        except Exception as error:
            report.faults.append(f"{doing} raised {told(error)}")


def _nothing_is_written(subject, inputs, dy) -> Iterator[str]:
    lent, given = list(map(_copied, inputs)), dy.copy()
    _, backward = subject.evaluate(lent, lend=True)
    subject.pull(backward, given)
    if not np.array_equal(given, dy):
        yield "backward writes into dy, which belongs to the caller"
    for name, x, before in zip(subject.input_names(len(inputs)), lent, inputs, strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, before):
            yield f"it writes into {name}, which belongs to the caller"


def _backward_is_linear(subject, inputs, dy) -> Iterator[str]:
    if takes_no_argument(subject.evaluate(inputs)[1]):
        return
    first, large = _run(subject, inputs, dy), _run(subject, inputs, -1e3 * dy)
    if not all(_near(b, None if a is None else -1e3 * a) for a, b in _pairs(first, large)):
        yield "backward is not linear in dy: −1000 times dy does not give −1000 times the gradients"


def _buffers_are_not_used_again(subject, inputs, dy) -> Iterator[str]:
    outputs, backward = subject.evaluate(list(map(_copied, inputs)), lend=True)
    dxs = subject.pull(backward, dy.copy())
    ys, gradients = list(map(np.array, outputs)), [None if dx is None else np.array(dx) for dx in dxs]
    _, again = subject.evaluate(_elsewhere(inputs), lend=True)
    if not all(map(np.array_equal, outputs, ys)):
        yield "a second forward changes the y of the first: it is a buffer that is used again"
    subject.pull(again, 2 * dy)
    if not all(_near(np.asarray(a), b) for a, b in zip(dxs, gradients, strict=True) if b is not None):
        yield "a second backward changes the dx of the first: it is a buffer that is used again"


# --- layers ---


def _forward_returns_backward(subject, inputs, dy) -> Iterator[str]:
    form = subject.call(inputs).form
    if form == "flat":
        yield "a network calls `y, backward = layer.forward(x)`: end forward in `return (a, b), backward`"
    if form == "beside":
        yield (
            "a network calls `y, backward = layer.forward(x)`, and this forward returns no backward: keep what backward "
            "needs in local variables of forward, write backward inside it, and end in `return y, backward`"
        )


def _gradients_are_added(subject, inputs, dy) -> Iterator[str]:
    if subject.call(inputs).form == "beside":
        return
    values = {name: np.array(p.value) for name, p in subject.parameters.items()}
    first = _run(subject, inputs, dy)
    subject.pull(subject.evaluate(inputs)[1], dy.copy())  # on top of the first
    for name, p in subject.parameters.items():
        if not isinstance(p, ArrayParameter) and not _near(p.grad, 2 * first[1][name]):
            yield f"backward does not add to {name}.grad: write `{name}.grad += ...`, since two evaluations share it"
        if not np.array_equal(p.value, values[name]):
            yield f"it writes into the value of {name}"


def _evaluations_are_their_own(subject, inputs, dy) -> Iterator[str]:
    if subject.call(inputs).form == "beside":
        return
    first = _run(subject, inputs, dy)
    _, backward = subject.evaluate(inputs)
    subject.evaluate(_elsewhere(inputs))
    if not _same(first, _pulled(subject, backward, dy)):
        yield (
            "a second forward changes what the first one's backward gives: the cache is on the layer; "
            "keep it in local variables that backward closes over"
        )
        return
    _, backward = subject.evaluate(inputs)
    before = [(p, p.value) for p in subject.parameters.values() if not isinstance(p, ArrayParameter)]
    try:
        for p, value in before:
            p.value = 1.1 * value + 0.1
        late = _pulled(subject, backward, dy)
    finally:
        for p, value in before:
            p.value = value
    if not _same(first, late):
        yield (
            "backward uses the parameters as they are when it runs, not as they were evaluated: read them once, in "
            "forward (W = self.W.value), and let backward close over that"
        )


def _predict_agrees(subject, inputs, dy) -> Iterator[str]:
    """Only what keeps running statistics may predict another value, and it may not move them."""
    module = subject.module
    if subject.call(inputs).form != "pair" and type(module).predict is Layer.predict:
        return  # which relies on the pair
    state = [(m, b, np.array(getattr(m, b))) for m in module.modules() for b in m.buffers]
    predicted = guarded("predict", module.predict, *map(_copied, inputs))
    if any(not np.array_equal(getattr(m, b), a) for m, b, a in state):
        yield "predict changes running statistics: call predict of the layers inside, not forward"
    outputs = subject.call(map(_copied, inputs)).outputs
    predicted = predicted if isinstance(predicted, tuple | list) and len(outputs) > 1 else (predicted,)
    agrees = len(predicted) == len(outputs) and all(map(_near, map(np.asarray, predicted), map(np.asarray, outputs)))
    if not state and not agrees:
        yield "predict does not give the y of forward"


def _float32_stays(subject, inputs, dy) -> Iterator[str]:
    single = Subject(subject.target, dtype=np.float32)
    names = single.input_names(len(inputs))
    found = single.call(x.astype(np.float32) if _is_float(x) else _copied(x) for x in inputs)
    arrays = {f"y[{i}]" if found.several else "y": y for i, y in enumerate(found.outputs)}
    if all(_is_single(y) for y in arrays.values()) and callable(found.backward):
        dys = parted(dy.astype(np.float32), [np.shape(y) for y in found.outputs])
        dxs = single.pull(found.backward, dys if found.several else dys[0])
        arrays |= {f"d{name}": dx for name, dx, x in zip(names, dxs, inputs, strict=False) if _is_float(x)}
    for name, array in arrays.items():
        if not _is_single(array):
            found = f"for float32 x, {name} comes out as {array.dtype}"
            yield f"{found}: an array inside is float64, use .astype(x.dtype)"


def _what_is_learned_is_found(subject, inputs, dy) -> Iterator[str]:
    arrays = {name: p for name, p in subject.parameters.items() if isinstance(p, ArrayParameter)}
    for name, why in subject.module.overlooked().items():
        if name not in arrays and name not in subject.unlearned:  # of those there is a finding already
            yield f"{name} is not found, so it is neither trained nor saved: it is {why}"
    for name, p in arrays.items():
        yield (
            f"{name} is learned, since backward gives its gradient ({p.source}), but is no Parameter, so it is "
            f"neither trained nor saved: self.{name} = Parameter({name!r}, ...), and self.{name}.grad += in backward"
        )


EVERYBODY = (
    (_nothing_is_written, "with arrays of the caller's it"),
    (_backward_is_linear, "backward of −1000 times dy"),
    (_buffers_are_not_used_again, "a second evaluation, with the samples in another order,"),
)
LAYERS = (
    (_forward_returns_backward, "a second evaluation"),
    (_gradients_are_added, "a second evaluation"),
    (_evaluations_are_their_own, "a backward after another forward, or with other values of the parameters,"),
    (_predict_agrees, "predict"),
    (_float32_stays, "with float32 arrays it"),
    (_what_is_learned_is_found, "the search for what is learned"),
)


def _run(subject, inputs, dy):
    return _pulled(subject, subject.evaluate(inputs)[1], dy)


def _pulled(subject, backward, dy):
    """(gradients of the inputs, gradients of the parameters by name), the latter from zero."""
    for p in subject.parameters.values():
        p.zero_grad()
    dxs = subject.pull(backward, dy.copy())
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


def _elsewhere(inputs) -> list:
    """Other inputs of the same kind: the samples in another order; a single sample, somewhat smaller."""

    def other(x):
        if not (isinstance(x, np.ndarray) and x.ndim):
            return x
        return 0.9 * x if len(x) == 1 and _is_float(x) else np.roll(x, 1, axis=0)

    return list(map(other, inputs))


def _copied(x):
    return x.copy() if isinstance(x, np.ndarray) else x


def _is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def _is_single(array) -> bool:
    """float32, or what takes the type of its surroundings, as a Python number does."""
    return getattr(array, "dtype", np.float32) == np.float32
