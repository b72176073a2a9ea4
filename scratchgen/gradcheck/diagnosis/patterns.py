"""A guess at the bug, from how a wrong gradient differs from the right one.

A pattern is named where it explains nearly the whole difference, where no simpler one does, and where it could not
have been met by chance: a tensor of one element is some factor times any other. Where several fit none is named.
"""

from itertools import combinations, permutations

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis.words import axes_named

EXPLAINED = 1e-2  # of the difference may remain


def diagnose(name: str, analytic: Array, numeric: Array, wrong: Array, sizes: dict[str, int]) -> str:
    """What to look for, or "" where no pattern fits.

    All three have the tensor's shape: the backward's gradient, the numerical one, and where they differ. `sizes`
    names the counts by which a sum could have been divided or multiplied by mistake ("the batch size": 4).
    """
    a, n = analytic, numeric
    if not np.isfinite(a).all():
        return f"{np.count_nonzero(~np.isfinite(a))} of {a.size} elements are not finite"
    if not np.isfinite(n).all():
        return ""
    if not a.any():
        return f"it is zero everywhere: backward {'never adds to it' if name.endswith('.grad') else 'returns zeros'}"
    if not n.any():
        return "the function does not depend on it, its gradient is zero"
    return (
        factor(a, n, sizes)
        or rearranged(a, n, is_kernel=name.endswith(".grad") and a.ndim == 4)
        or constant(a, n)
        or place(a, wrong)
        or nearly(a, n)
    )


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays taken as vectors; NaN where one is zero."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.sum(a * b) / norms) if norms else float("nan")


def factor(a: Array, n: Array, sizes: dict[str, int], scale: float = 1.0) -> str:
    """What one wrong factor throughout may come from. `scale` is one that forward is known to have."""
    sizes = {what: n for n, what in {n: what for what, n in reversed(sizes.items())}.items()}  # each once
    c = float(np.sum(a * n) / np.sum(n * n)) if n.any() else 0.0
    left = np.linalg.norm(a - c * n)
    if not np.isfinite(c) or left > (EXPLAINED if abs(c - 1) < 1e-3 else 1e-4) * np.linalg.norm(a - n):
        return ""
    if abs(c + 1) < 1e-4:
        return "the sign is wrong"
    found = []
    if abs(c - 2) < 1e-4:
        found.append("a term is counted twice, or a factor ½ is missing")
    if abs(c - 0.5) < 1e-4:
        found.append("a factor 2 is missing")
    for what, size in sizes.items():
        if size > 1 and abs(c / size - 1) < 1e-4:
            found.append(f"it is multiplied by {what}, {size}: a division by it is missing")
        if size > 1 and abs(c * size - 1) < 1e-4:
            found.append(f"it is divided by {what}, {size}, once too often")
    for what, size in () if found else sizes.items():
        for root, power in ((f"√{size}", 0.5), (f"1/√{size}", -0.5)):
            if size > 1 and abs(c / size**power - 1) < 1e-4:
                found.append(f"it is {root} times, {size} being {what}: that root of forward's is lost")
    for (what, size), (other, count) in () if found else permutations(sizes.items(), 2):
        if 1 < size != count > 1 and abs(c * count / size - 1) < 1e-4 and size % count:
            found.append(f"it is {size}/{count}: divided by {other}, {count}, where {what}, {size}, belongs")
    for what, size in () if found else sizes.items():
        if size > 2 and abs(c * size / (size - 1) - 1) < 1e-4:
            found.append(f"it is {size - 1}/{size}: {size}, {what}, stands where {size - 1} belongs")
    if abs(scale - 1) > 1e-4 and abs(c * scale - 1) < 1e-4:
        found.append(f"the factor {scale:.5g} by which forward scales what it keeps is missing")
    if not found and _telling(n) < 2:
        return ""
    digits = 6 if abs(c - 1) > 1e-4 else 6 + int(-np.log10(max(abs(c - 1), 1e-12)))
    return f"exactly {c:.{digits}g} times the true gradient" + (": perhaps " + "; or ".join(found) if found else "")


def _explains(guess, a, n) -> bool:
    """Whether a is the guess, so that next to nothing remains of its difference from n."""
    return np.linalg.norm(a - guess) <= EXPLAINED * np.linalg.norm(a - n)


def _telling(n) -> int:
    """How many elements are large enough to tell a pattern by."""
    return int(np.count_nonzero(np.abs(n) > 1e-3 * np.abs(n).max(initial=0)))


def rearranged(a, n, is_kernel: bool) -> str:
    """The right elements in the wrong places."""
    if _telling(n) < 3:
        return ""
    found = []
    if is_kernel and min(a.shape[:2]) > 1 and _explains(np.flip(n, (0, 1)), a, n):
        return "the kernel is flipped: correlation and convolution are mixed up"
    for i, j in combinations(range(a.ndim), 2):
        if a.shape[i] == a.shape[j] and _explains(np.swapaxes(n, i, j), a, n):
            found.append(f"axes {i} and {j} are swapped: transposed")
    found += _permuted(a, n)
    for count in range(1, a.ndim + 1):
        for axes in combinations([i for i in range(a.ndim) if a.shape[i] > 1], count):
            if _explains(np.flip(n, axes), a, n):
                found.append(f"it is reversed along {axes_named(axes)}")
    for axes in [(i,) for i in range(a.ndim)] + list(combinations(range(a.ndim), 2)):
        for shift in (1, -1):
            if _is_shifted(a, n, axes, shift):
                found.append(f"it is shifted by one along {axes_named(axes)}: off by one in padding or a slice")
    return found[0] if len(found) == 1 else ""


def _permuted(a, n) -> list[str]:
    """Along an axis the right slices in another order, which is not simply the reverse."""
    found = []
    for axis, size in enumerate(n.shape):
        slices, wanted = np.moveaxis(a, axis, 0).reshape(size, -1), np.moveaxis(n, axis, 0).reshape(size, -1)
        if not 3 <= size <= 100 or np.abs(wanted).max(axis=1).min() == 0:
            continue
        off = np.linalg.norm(slices[:, None] - wanted[None], axis=2)
        order = off.argmin(axis=1)
        turns = [
            np.arange(size)[::-1],
            *(np.roll(np.arange(size), k) for k in range(size)),
        ]  # have names of their own
        is_order = len(set(order)) == size and not any(np.array_equal(order, turn) for turn in turns)
        moved = np.flatnonzero(order != np.arange(size))
        if is_order and len(moved) and _explains(np.take(n, order, axis), a, n):
            pairs = ", ".join(f"{i} stands where {order[i]} belongs" for i in moved[:2])
            found.append(f"slices along axis {axis} are exchanged: index {pairs}{' …' if len(moved) > 2 else ''}")
    return found


def _is_shifted(a, n, axes, shift) -> bool:
    """Whether a is n moved by `shift` along `axes`, where the two lie over each other: more than half of it."""
    if any(a.shape[axis] < 3 for axis in axes):
        return False
    moved, still = [slice(None)] * a.ndim, [slice(None)] * a.ndim
    for axis in axes:
        moved[axis] = slice(1, None) if shift > 0 else slice(None, -1)
        still[axis] = slice(None, -1) if shift > 0 else slice(1, None)
    a, expected, there = a[tuple(moved)], n[tuple(still)], n[tuple(moved)]
    enough = _telling(expected) >= 3 and np.linalg.norm(expected) > 0.5 * np.linalg.norm(n)
    return bool(enough and _explains(expected, a, there))


def constant(a: Array, n: Array) -> str:
    """A constant left out, for all or for each channel."""
    rest = n - a
    if a.size < 3:
        return ""
    if _explains(n - rest.mean(), a, n):
        return f"it is off by {-rest.mean():.5g} everywhere: a constant is added or left out"
    as_rows = a.reshape(-1, a.shape[-1]) if a.ndim > 1 else a.reshape(-1, 1)
    if a.ndim > 1 and as_rows.shape[0] >= 3:
        by_channel = rest.reshape(as_rows.shape).mean(axis=0)
        if _explains(n - np.broadcast_to(by_channel, as_rows.shape).reshape(a.shape), a, n):
            return "it is off by one constant per channel"
    return ""


def place(a, wrong) -> str:
    """Where the wrong elements lie."""
    share = f"{np.count_nonzero(wrong)} of {wrong.size} elements are wrong"
    if wrong.all() or not wrong.any():
        return ""
    for axis, size in enumerate(wrong.shape):
        right = np.flatnonzero((~wrong).any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
        if len(right) == 1 and size >= 3 and not wrong.take(right[0], axis).any():
            return f"{share}; right are those at index {right[0]} of axis {axis} alone"
    if not a[wrong].any():
        share += ", all of them zero, so that part of the gradient is dropped"
    if np.count_nonzero(wrong) < 3:
        return share
    inner = range(1, wrong.ndim - 1)  # of images and sequences
    if holes := [axis for axis in inner if wrong.shape[axis] > 3 and _is_every_second(wrong, axis)]:
        where = f"at every second index of {axes_named(holes)}"
        return f"{share}; right are those {where}, as a stride leaves holes between them"
    for axis, size in enumerate(wrong.shape):
        hit = np.flatnonzero(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
        if len(hit) == 1 and size >= 3:
            return f"{share}; they lie at index {hit[0]} of axis {axis}"
        if size >= 4 and 1 < len(hit) <= size // 2 and (np.diff(hit) == 1).all():
            return f"{share}; they lie at indices {hit[0]} to {hit[-1]} of axis {axis}"
    if wrong.ndim == 4:  # images, or the gradient of kernels
        for axes, where in (((1,), "the border of axis 1"), ((2,), "the border of axis 2"), ((1, 2), "a border")):
            if all(wrong.shape[axis] >= 4 for axis in axes) and not (wrong & ~_border(wrong.shape, axes)).any():
                return f"{share}; they lie at {where}: look at padding and the ends of slices"
    return share


def _is_every_second(wrong: Array, axis: int) -> bool:
    """Whether the elements that are not wrong lie at the even, or the odd, indices of an axis alone."""
    hit = np.flatnonzero((~wrong).any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
    return len(hit) > 1 and len({i % 2 for i in hit}) == 1 and len(hit) >= wrong.shape[axis] // 2


def _border(shape, axes) -> Array:
    border = np.ones(shape, bool)
    border[tuple(slice(1, -1) if axis in axes else slice(None) for axis in range(len(shape)))] = False
    return border


def nearly(a, n) -> str:
    close = _telling(n) >= 3 and cosine(a, n) > 0.99
    return "cosine near 1: the direction is nearly right" if close else ""
