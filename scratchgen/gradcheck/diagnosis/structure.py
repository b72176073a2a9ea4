"""What is wrong with the backward as a matrix: beside the Jacobian it shows what is dropped, moved, or mixed."""

from itertools import pairwise

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis.evidence import Evidence
from scratchgen.gradcheck.diagnosis.words import axes_named, indices_named, places_named

CLOSE = 1e-6  # of the largest element of the Jacobian
LOOKED_AT = 200  # rows or columns, for where they have moved

Shape = tuple[int, ...]


def by_structure(evidence: Evidence) -> str:
    """A sentence on which outputs' share is dropped or taken from elsewhere, or ""."""
    given, scene = evidence.pulled, evidence.scenes[0]
    true = scene.jacobian
    if given is None or given.shape != true.shape or min(true.shape) < 2:
        return ""
    size = np.abs(true).max()
    depends, gives = np.abs(true) > CLOSE * size, np.abs(given) > CLOSE * size
    same = np.abs(given - true) <= 10 * CLOSE * size
    if not depends.any() or not gives.any():
        return ""
    shape, outputs = scene.value.shape, scene.y.shape
    if shape == outputs and not same.all() and (np.abs(given - true.T) <= 10 * CLOSE * size).all():
        return (
            "backward applies forward's own map to dy, not its adjoint, the transpose: what goes from one place to "
            "another comes back the other way"
        )
    said = _several_outputs(same, gives, evidence.outputs)
    if not said and (same | ~gives).all():
        said = _dropped(depends & ~gives, depends, shape, outputs)
    return (
        said
        or _moved(given, true, size, shape, outputs)
        or _several_for_one(evidence, given, depends, gives, same)
        or _factor_of_elements(given, true, depends, gives, shape)
        or _mixed(gives & ~depends, depends, shape, outputs)
    )


# --- equal elements ---


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


# --- what is dropped ---


def _several_outputs(same: Array, gives: Array, outputs: list[Shape]) -> str:
    """Of several outputs, those whose share is right and those whose share is wrong."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in outputs)])
    blocks = [slice(a, b) for a, b in pairwise(ends)]
    right = [k for k, block in enumerate(blocks) if same[:, block].all()]
    wrong = [k for k in range(len(blocks)) if k not in right]
    if not right or not wrong:
        return ""
    which, others = (", ".join(f"output {k + 1}" for k in ks) for ks in (wrong, right))
    rest = f"of {len(outputs)} outputs, what comes from {others} is right"
    if not any(gives[:, blocks[k]].any() for k in wrong):
        return f"the path through {which} is missing: {rest}, and nothing comes from {which}"
    return f"{rest}, what comes from {which} is wrong: a path through {which} is missing, or has a wrong factor"


def _dropped(dropped: Array, depends: Array, shape: Shape, outputs: Shape) -> str:
    """What backward gives is right, but some outputs' share is not in it."""
    if not dropped.any():
        return ""
    count = depends.sum(axis=1)
    rows, columns = np.flatnonzero(dropped.any(axis=1)), np.flatnonzero(dropped.any(axis=0))
    if shape == outputs and not np.diag(dropped).any():
        diagonal = np.eye(len(depends), dtype=bool)
        if (dropped == (depends & ~diagonal)).all():
            axes = _axes_between(dropped, shape)
            every = "all" if depends.sum() == len(depends) * np.prod([shape[a] for a in axes]) else "other"
            return (
                f"only the diagonal of the Jacobian is there: an output depends on {every} elements along "
                f"{axes_named(axes)}, and backward counts for each element only the output in its own place"
            )
    if dropped[:, columns][depends[:, columns]].all() and (place := _place(columns, outputs)):
        axis, hit = place
        if axis == 0 and outputs[0] - len(hit) == 1:
            left = next(i for i in range(outputs[0]) if i not in hit)
            which = {0: "the first sample", outputs[0] - 1: "the last sample"}.get(left, f"sample {left}")
            return f"only {which} of the batch gives it a gradient: sum over all of them"
        return f"what comes from dy at {indices_named(hit)} of axis {axis} is dropped: those outputs give no gradient"
    used = np.flatnonzero((depends & ~dropped).any(axis=0))
    if len(outputs) > 1 and not dropped[:, used].any() and (only := _one_place(used, outputs)):
        return f"only dy at {only} gives a gradient, and all other outputs give none: does a loop end too early?"
    for channels in (None, *range(1, len(outputs))):
        position = _positions(outputs, channels)
        kept = [np.unique(position[depends[i] & ~dropped[i]]) for i in rows]
        all_of = [np.unique(position[depends[i]]) for i in rows]
        if any(len(k) for k in kept) and max(map(len, kept)) == 1 < max(map(len, all_of)):
            return (
                f"an element acts on up to {max(map(len, all_of))} places of y{_block(depends[rows[0]], outputs)}, "
                f"and only {_end(kept, all_of)} of them gives it a gradient: the shares of all belong in it (is "
                "there an = for a +=, or a loop that leaves some out?)"
            )
    return _kept_at_one_end(dropped, depends, rows, outputs) if count.max() > 1 else ""


def _end(kept: list[Array], all_of: list[Array]) -> str:
    """Which of its places an element keeps: the last, the first, or one."""
    pairs = [(int(k[0]), a) for k, a in zip(kept, all_of, strict=True) if len(k)]
    if all(k == a[-1] for k, a in pairs):
        return "the last"
    return "the first" if all(k == a[0] for k, a in pairs) else "one"


def _one_place(used: Array, outputs: Shape) -> str:
    """Outputs that lie at one index of some axes, beside that of the batch, which have more; or ""."""
    at = np.unravel_index(used, outputs)
    axes = [k for k in range(1, len(outputs)) if outputs[k] > 1 and len(set(at[k])) == 1]
    return " and ".join(f"index {at[k][0]} of axis {k}" for k in axes) if len(used) else ""


def _positions(outputs: Shape, channels: int | None) -> Array:
    """The place of each element of y, in which the channels along an axis count as one."""
    index = np.arange(int(np.prod(outputs))).reshape(outputs)
    if channels is None:
        return index.ravel()
    return np.broadcast_to(index.take([0], channels), outputs).ravel()


def _block(reads: Array, outputs: Shape) -> str:
    """The outputs as a block: (2×2 of them)."""
    spans = [len(np.unique(i)) for i in np.nonzero(reads.reshape(outputs))]
    wide = [n for n in spans if n > 1]
    is_block = len(wide) > 1 and np.prod(wide) == reads.sum()
    return f", a block of {'×'.join(map(str, wide))}" if is_block else ""


def _kept_at_one_end(dropped: Array, depends: Array, rows: Array, outputs: Shape) -> str:
    """Along one axis of y all but the last or first place is dropped: a sum that is assigned in a loop."""
    for axis, n in enumerate(outputs):
        index = np.indices(outputs)[axis].ravel()
        for which, word in ((max, "last"), (min, "first")) if n > 1 else ():
            if all((dropped[i] == (depends[i] & (index != which(index[depends[i]])))).all() for i in rows):
                whose = "sample" if axis == 0 else f"place along axis {axis}"
                return (
                    f"of the outputs that an element acts on only those of the {word} {whose} give it a gradient: "
                    "the shares are added (+=), and here one overwrites the others (=)"
                )
    return ""


# --- what is moved ---


def _moved(given: Array, true: Array, size: float, shape: Shape, outputs: Shape) -> str:
    """Whether what an output gives lands elsewhere in x, or what an element reads is read elsewhere in dy."""
    return _shifts(given.T, true.T, size, outputs, shape, "what comes from dy lands") or _shifts(
        given, true, size, shape, outputs, "dy is read"
    )


def _shifts(given: Array, true: Array, size: float, fixed: Shape, moving: Shape, what: str) -> str:
    """Each row, of shape `moving`, beside the right one: moved by the same, or in proportion to its place."""
    tiny = CLOSE * size
    rows = np.flatnonzero((np.abs(given) > tiny).any(axis=1) & (np.abs(true) > tiny).any(axis=1))
    rows = rows[:: max(1, len(rows) // LOOKED_AT)]
    places = np.stack(np.unravel_index(rows, fixed), axis=1)
    pairs = [(given[i].reshape(moving), true[i].reshape(moving)) for i in rows]
    steps = [_shift_of(a, b, tiny) for a, b in pairs]
    known = [k for k, by in enumerate(steps) if by is not None]
    if not any(any(steps[k] or ()) for k in known) or 2 * len(known) < len(rows):
        return ""
    seen = np.array([steps[k] for k in known])
    said, predicted = [], np.zeros((len(rows), len(moving)), int)
    for axis in np.flatnonzero(seen.any(axis=0)):
        by, at = seen[:, axis], places[known, axis] if len(fixed) == len(moving) else np.zeros(len(known))
        if axis == 0 and len(moving) > 1:
            return ""
        if len(set(by)) == 1:
            predicted[:, axis] = by[0]
            off = f"{places_named(abs(by[0]))} too {'far' if by[0] > 0 else 'early'} along axis {axis}"
            said.append(f"{what} {off}, shifted: look at padding and slices")
        elif len(set(at)) > 2 or (len(set(at)) == 2 and moving[axis] > 3):
            slope, start = np.polyfit(at, by, 1)
            if abs(slope) < 0.5 or not np.allclose(slope * at + start, by, atol=1e-6):
                return ""
            predicted[:, axis] = np.round(slope * places[:, axis] + start)
            said.append(f"{what} the farther off the larger the index along axis {axis}: the stride is not used")
        else:
            return ""
    fits = all(_is_moved(a, b, tuple(by), tiny) for (a, b), by in zip(pairs, predicted, strict=True))
    return said[0] if said and fits else ""


def _shift_of(a: Array, b: Array, tiny: float) -> Shape | None:
    """By how much `a` is `b` moved, as far as it stays inside; None where it is no such thing, or too much is cut."""
    at_a, at_b = np.argwhere(np.abs(a) > tiny), np.argwhere(np.abs(b) > tiny)
    for corner in (np.min, np.max):
        by = tuple(int(n) for n in corner(at_a, axis=0) - corner(at_b, axis=0))
        stays = np.linalg.norm(b[_inside(by, b.shape)[1]])
        if stays > 0.5 * np.linalg.norm(b) and _is_moved(a, b, by, tiny):
            return by
    return None


def _is_moved(a: Array, b: Array, by: Shape, tiny: float) -> bool:
    """Whether `a` is `b` moved; what comes in from outside may be anything."""
    to, of = _inside(by, b.shape)
    return bool(np.abs(a[to] - b[of]).max(initial=0) <= 10 * tiny)


def _inside(by: Shape, shape: Shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where an array that is moved goes, and what of it stays inside."""
    to = tuple(slice(max(s, 0), max(min(n, n + s), 0)) for s, n in zip(by, shape, strict=True))
    return to, tuple(slice(max(-s, 0), max(min(n, n - s), 0)) for s, n in zip(by, shape, strict=True))


# --- what is mixed ---


def _several_for_one(evidence: Evidence, given: Array, depends: Array, gives: Array, same: Array) -> str:
    """Outputs that are one of the elements, as a maximum is, and give their dy to others as well."""
    if (depends.sum(axis=0) > 1).any() or not same[depends].all():
        return ""
    extra = gives & ~depends
    scene, columns = evidence.scenes[0], np.flatnonzero(extra.any(axis=0) & depends.any(axis=0))
    x, y, apart = scene.value.ravel(), scene.y.ravel(), []
    for j in columns:
        (picked,) = np.flatnonzero(depends[:, j])
        if x[picked] != y[j] or not np.allclose(given[extra[:, j], j], scene.jacobian[picked, j]):
            return ""
        apart += [*(x[picked] - x[extra[:, j]])]
    if len(apart) < 3 or min(apart) * max(apart) < 0:  # else an element is picked by its place, not for its value
        return ""
    return (
        "an output that is one of the elements, as a maximum is, gives its dy to others too, whose values differ "
        f"from its own by up to {np.abs(apart).max():.2g}"
    )


def _factor_of_elements(given: Array, true: Array, depends: Array, gives: Array, shape: Shape) -> str:
    """Whether each element's gradient is off by a factor of its own, the same for every dy."""
    if not (depends == gives).all() or np.median(depends.sum(axis=1)) < 2:
        return ""  # of one output, every element's is some factor
    factors = []
    for a, n in zip(given, true, strict=True):
        if n.any():
            k = int(np.abs(n).argmax())
            c = a[k] / n[k]
            if np.abs(a - c * n).max() > 1e-5 * np.abs(a).max():
                return ""
            factors.append(1 / c)
    if (
        len(factors) < 4
        or len(factors) < len(true)
        or np.ptp(factors) < 1e-3
        or np.mean(np.abs(np.array(factors) - 1) > 1e-5) < 0.5
    ):
        return ""
    times = 1 / np.array(factors)
    if np.allclose(times, np.round(times), atol=1e-6) and times.min() > 0.5:
        return f"elements are counted up to {times.max():.0f} times, whatever dy: a += inside one loop too many?"
    span = f"from {min(factors):.3g} to {max(factors):.3g}"
    by_channel = np.array(factors).reshape(shape)
    if len(shape) > 1 and np.allclose(by_channel, by_channel.reshape(-1, shape[-1])[0], rtol=1e-5):
        return f"every channel lacks a factor of its own, the same for every dy, {span}"
    return f"every element lacks a factor of its own, the same for every dy, {span}"


def _mixed(extra: Array, depends: Array, shape: Shape, outputs: Shape) -> str:
    """Gradients that come from outputs which do not depend on the element: from other samples."""
    if not extra.any() or len(shape) < 2 or not outputs or shape[0] != outputs[0] or shape[0] < 2:
        return ""
    sample_in, sample_out = np.indices(shape)[0].ravel(), np.indices(outputs)[0].ravel()
    other = sample_in[:, None] != sample_out[None]
    if (depends & other).any() or not (extra & other).any():
        return ""
    return "a sample gets gradients from outputs of other samples, which do not depend on it: the batch is mixed up"


# --- words ---


def _axes_between(pairs: Array, shape: Shape) -> list[int]:
    """The axes along which element and output differ in any of these pairs."""
    i, j = (np.array(np.unravel_index(k, shape)) for k in np.nonzero(pairs))
    return [axis for axis in range(len(shape)) if (i[axis] != j[axis]).any()]


def _place(columns: Array, outputs: Shape) -> tuple[int, list[int]] | None:
    """These elements of y as whole indices of one axis: (axis, indices)."""
    where = np.zeros(int(np.prod(outputs)), bool)
    where[columns] = True
    where = where.reshape(outputs)
    for axis, n in enumerate(outputs):
        hit = np.flatnonzero(where.any(axis=tuple(i for i in range(where.ndim) if i != axis)))
        if n > 1 and len(hit) < n and where.take(hit, axis).all():
            return axis, [int(i) for i in hit]
    return None
