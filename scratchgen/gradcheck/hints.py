"""A guess at the bug, from how a wrong gradient differs from the right one."""

from itertools import combinations

import numpy as np

CLOSE = 1e-5  # relative to the norm: far above rounding, far below a bug


def diagnose(name: str, analytic: np.ndarray, numeric: np.ndarray, wrong: np.ndarray, sizes: dict[str, int]) -> str:
    """What to look for, or "" where no pattern fits.

    All three have the tensor's shape: the backward's gradient, the numerical one, and where they differ. `sizes`
    names the counts by which a sum could have been divided or multiplied by mistake ("the batch size": 4).
    """
    a, n = analytic, numeric
    if not np.isfinite(a).all():
        return f"{np.count_nonzero(~np.isfinite(a))} of {a.size} elements are not finite"
    if not a.any():
        return f"it is zero everywhere: backward {'never adds to it' if name.endswith('.grad') else 'returns zeros'}"
    if not n.any():
        return "the function does not depend on it, its gradient is zero"
    return (
        factor(a, n, sizes)
        or _rearranged(a, n)
        or _missing_constant(a, n)
        or _place(a, n, wrong)
        or ("cosine near 1: the direction is nearly right, look for a small term" if cosine(a, n) > 0.99 else "")
    )


def cosine(a, b) -> float:
    """Cosine of the angle between two arrays taken as vectors; NaN where one is zero."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.sum(a * b) / norms) if norms else float("nan")


def _same(a, b) -> bool:
    return np.linalg.norm(a - b) <= CLOSE * np.linalg.norm(b)


def factor(a, n, sizes) -> str:
    """What one wrong factor throughout may come from."""
    c = float(np.sum(a * n) / np.sum(n * n)) if n.any() else 0.0
    if not np.isfinite(c) or not _explains((c - 1) * n, a - n) or not _same(a, c * n):
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
            found.append(f"it is multiplied by {what}, {size}: the forward averages and the backward does not")
        if size > 1 and abs(c * size - 1) < 1e-4:
            found.append(f"it is divided by {what}, {size}: the forward sums and the backward averages")
    return f"exactly {c:.9g} times the true gradient" + (": perhaps " + "; or ".join(found) if found else "")


def _rearranged(a, n) -> str:
    kernel = (0, 1)
    if a.ndim == 4 and _same(np.flip(a, kernel), n):
        return "the kernel is flipped: correlation and convolution are mixed up"
    for count in range(1, a.ndim + 1):
        for axes in combinations(range(a.ndim), count):
            if _same(np.flip(a, axes), n):
                return f"it is reversed along axis {', '.join(map(str, axes))}"
    for i, j in combinations(range(a.ndim), 2):
        if a.shape[i] == a.shape[j] and _same(np.swapaxes(a, i, j), n):
            return f"axes {i} and {j} are swapped: transposed"
    for axes in [(i,) for i in range(a.ndim)] + list(combinations(range(a.ndim), 2)):
        for shift in (1, -1):
            if _same(*_overlap(a, n, axes, shift)):
                return (
                    f"it is shifted by one along axis {', '.join(map(str, axes))}: off by one in padding or a slice"
                )
    return ""


def _overlap(a, n, axes, shift):
    """The parts of a, moved by `shift` along `axes`, and of n that lie over each other."""
    moved = [slice(None)] * a.ndim
    still = [slice(None)] * a.ndim
    for axis in axes:
        if a.shape[axis] < 3:
            return np.zeros(1), np.ones(1)
        moved[axis] = slice(1, None) if shift > 0 else slice(None, -1)
        still[axis] = slice(None, -1) if shift > 0 else slice(1, None)
    return a[tuple(moved)], n[tuple(still)]


def _missing_constant(a, n) -> str:
    """One number everywhere, or for each channel or row: the simplest that explains what is missing is said."""
    missing = n - a
    if a.size > 2 and _explains(missing.mean(), missing):
        return f"the same {missing.mean():.6g} is missing everywhere: a constant term of the gradient is forgotten"
    if a.ndim < 2 or a[..., 0].size < 3:
        return ""
    rest = missing.reshape(-1, a.shape[-1])
    if _explains(rest.mean(axis=0), rest):
        return "it is off by one constant per channel: the term through the mean is missing"
    if a.shape[-1] > 2 and _explains(rest.mean(axis=1, keepdims=True), rest):
        return "it is off by one constant per row: the term through the mean of the row is missing"
    return ""


def _explains(guess, difference) -> bool:
    """Whether a guess at the difference leaves nothing of it but what differences round: a hundredth, for one that is
    hardly more than the tolerance."""
    return np.linalg.norm(difference - guess) <= 1e-2 * np.linalg.norm(difference) > 0


def _place(a, n, wrong) -> str:
    share = f"{np.count_nonzero(wrong)} of {wrong.size} elements are wrong"
    if wrong.all() or not wrong.any():
        return ""
    if not a[wrong].any():
        share += ", all of them zero, so that part of the gradient is dropped"
    for axis in range(a.ndim):
        others = tuple(i for i in range(a.ndim) if i != axis)
        hit = np.flatnonzero(wrong.any(axis=others))
        last = a.shape[axis] - 1
        if last >= 2 and set(hit) <= {0, last}:
            return f"{share}; they lie at the border of axis {axis}: look at padding and the ends of slices"
        if len(hit) == 1 and last >= 1:
            return f"{share}; they lie at index {hit[0]} of axis {axis}"
    border = np.ones(wrong.shape, bool)
    border[tuple(slice(1, -1) if size >= 3 else slice(None) for size in a.shape)] = False
    if not (wrong & ~border).any():
        return f"{share}; they lie at a border: look at padding and the ends of slices"
    return share
