"""What is wrong with the backward as a matrix: beside the Jacobian it shows what is dropped, moved, or mixed."""

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis.evidence import Evidence

CLOSE = 1e-6  # of the largest element of the Jacobian


def by_structure(evidence: Evidence) -> str:
    """A sentence on which outputs' share is dropped or taken from elsewhere, or ""."""
    given, scene = evidence.pulled, evidence.scenes[0]
    true = scene.jacobian
    if given is None or given.shape != true.shape or min(true.shape) < 2 or evidence.ties:
        return ""
    size = np.abs(true).max()
    depends, gives = np.abs(true) > CLOSE * size, np.abs(given) > CLOSE * size
    same = np.abs(given - true) <= 10 * CLOSE * size
    if not depends.any() or not gives.any():
        return ""
    shape, outputs = scene.value.shape, scene.y.shape
    if (same | ~gives).all():
        return _dropped(depends & ~gives, depends, shape, outputs, evidence)
    if moved := _moved(given, true, outputs, size):
        return moved
    return _mixed(gives & ~depends, depends, shape, outputs)


def by_ties(evidence: Evidence) -> str:
    """Where equal elements move together y is smooth, and the gradient of their common value is the sum of theirs."""
    given, true = evidence.pulled, evidence.together
    if given is None or true is None:
        return ""
    unique, which = np.unique(evidence.scenes[0].value, return_inverse=True)
    which = which.ravel()
    sums = np.stack([given[which == k].sum(axis=0) for k in range(len(true))])
    there = np.abs(true) > 1e-3 * np.abs(true).max()
    if (np.abs(sums) > 1e-3 * np.abs(true).max())[~there].any():
        return ""
    times = sums[there] / true[there]
    off = np.broadcast_to(unique[:, None], true.shape)[there][np.abs(times - 1) > 1e-4]
    where = "where an element is exactly 0" if len(off) and not off.any() else "with ties"
    if np.allclose(times, np.round(times), atol=1e-4) and times.min() >= 1 - 1e-4 and times.max() > 1.5:
        return (
            f"{where} dy is counted up to {times.max():.0f} times: each of the equal elements gets all of it, where "
            "it must go to one of them, or be shared"
        )
    if np.allclose(times[np.abs(times - 1) > 1e-4], 0, atol=1e-6) and (np.abs(times) < 1e-6).any():
        return f"{where} dy is lost: no element gets it"
    return ""


def _dropped(dropped: Array, depends: Array, shape: tuple, outputs: tuple, evidence: Evidence) -> str:
    """What backward gives is right, but some outputs' share is not in it."""
    count, kept = depends.sum(axis=1), (depends & ~dropped).sum(axis=1)
    if shape == outputs:
        diagonal = np.eye(len(depends), dtype=bool)
        if (dropped == (depends & ~diagonal)).all():
            axes = _axes_between(dropped, shape)
            return (
                f"only the diagonal of the Jacobian is there: each output depends on all elements along {_named(axes)}"
                ", and backward counts for each element only the output in its own place"
            )
    rows, columns = np.flatnonzero(dropped.any(axis=1)), np.flatnonzero(dropped.any(axis=0))
    by_output = dropped[:, columns]
    if by_output[depends[:, columns]].all():  # everything from these outputs
        place = _place(columns, outputs)
        if place:
            return f"what comes from dy at {place} is dropped: those outputs give no gradient"
    if kept[rows].any() and (kept[rows] <= 1).all() and count.max() > 1:
        which = [
            _which(np.flatnonzero(depends[i]), int(np.flatnonzero(depends[i] & ~dropped[i])[0]))
            for i in rows
            if kept[i]
        ]
        word = "last" if all(w == "last" for w in which) else "first" if all(w == "first" for w in which) else ""
        what = f"only the {word} of them" if word else "only one of them"
        return (
            f"an element acts on up to {count.max()} outputs, and {what} gives it a gradient: the shares must be "
            "added (+=), and here one overwrites the others (=)"
        )
    steps = _kept_shares(dropped, depends, rows, outputs)
    return steps


def _kept_shares(dropped: Array, depends: Array, rows: Array, outputs: tuple) -> str:
    """Along one axis of the outputs all but the last or first place is dropped: a sum assigned in a loop."""
    for axis, n in enumerate(outputs):
        if n < 2:
            continue
        index = np.indices(outputs)[axis].ravel()
        for which, word in ((max, "last"), (min, "first")):
            kept_as_said = all((dropped[i] == (depends[i] & (index != which(index[depends[i]])))).all() for i in rows)
            if kept_as_said and (axis == 0 or len(rows) > 1):
                whose = "sample" if axis == 0 else f"place along axis {axis}"
                return (
                    f"of the outputs that an element acts on, only those of the {word} {whose} give it a gradient: "
                    "the shares must be added (+=), and here one overwrites the others (=)"
                )
    return ""


def _which(all_of: Array, kept: int) -> str:
    return "last" if kept == all_of[-1] else "first" if kept == all_of[0] else "other"


def _moved(given: Array, true: Array, outputs: tuple, size: float) -> str:
    """Whether what is taken from dy is taken from a neighbouring place: the right weights, at the wrong outputs."""
    found = []
    for axis, n in enumerate(outputs):
        if axis == 0 and len(outputs) > 1:
            continue
        for shift in (1, -1, 2, -2):
            if n <= abs(shift) + 1:
                continue
            there = np.roll(true.reshape(-1, *outputs), shift, axis=axis + 1)
            inside = [slice(None)] * (len(outputs) + 1)
            inside[axis + 1] = slice(shift, None) if shift > 0 else slice(None, shift)
            a, b = given.reshape(-1, *outputs)[tuple(inside)], there[tuple(inside)]
            if np.abs(b).max(initial=0) > CLOSE * size and np.abs(a - b).max() <= 10 * CLOSE * size:
                found.append(
                    f"dy is read {_places(abs(shift))} too {'far' if shift > 0 else 'early'} along axis {axis}"
                )
    return found[0] + ": off by one in padding, stride or a slice" if len(found) == 1 else ""


def _places(n: int) -> str:
    return "one place" if n == 1 else f"{n} places"


def _mixed(extra: Array, depends: Array, shape: tuple, outputs: tuple) -> str:
    """Gradients that come from outputs which do not depend on the element: from other samples."""
    if not extra.any() or len(shape) < 2 or not outputs or shape[0] != outputs[0] or shape[0] < 2:
        return ""
    sample_in, sample_out = np.indices(shape)[0].ravel(), np.indices(outputs)[0].ravel()
    other = sample_in[:, None] != sample_out[None]
    if (depends & other).any() or not (extra & other).any():
        return ""
    return "a sample gets gradients from outputs of other samples, which do not depend on it: the batch is mixed up"


def _axes_between(pairs: Array, shape: tuple) -> list[int]:
    """The axes along which element and output differ in any of these pairs."""
    i, j = (np.array(np.unravel_index(k, shape)) for k in np.nonzero(pairs))
    return [axis for axis in range(len(shape)) if (i[axis] != j[axis]).any()]


def _named(axes: list[int]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def _place(columns: Array, outputs: tuple) -> str:
    """These elements as an index or a border of one axis; "" where they are no such thing."""
    where = np.zeros(int(np.prod(outputs)), bool)
    where[columns] = True
    where = where.reshape(outputs)
    for axis, n in enumerate(outputs):
        hit = np.flatnonzero(where.any(axis=tuple(i for i in range(where.ndim) if i != axis)))
        if n > 1 and len(hit) < n and where.take(hit, axis).all():
            runs = (
                f"index {hit[0]}"
                if len(hit) == 1
                else f"indices {', '.join(map(str, hit[:6]))}{' …' if len(hit) > 6 else ''}"
            )
            return f"{runs} of axis {axis}"
    return ""
