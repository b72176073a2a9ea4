"""How the exercises that are no layers are proved: beside the right result and what usual mistakes make of it."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.exercises.prove import array_of, close, contained_proof
from scratchgen.layers.parameter import Parameter

Path: TypeAlias = list[Array]  # the value of a parameter after each step
Walk: TypeAlias = Callable[[int, Array, list[Array]], Path]  # from its place, its first value and its gradients


# --- the gradient check itself ---

FLAT = 1e-5  # by which a central difference with h = 1e-3 may be off here, and a difference to one side is not


@contained_proof
def gradient_check(module: Any, rng: np.random.Generator) -> Result:
    x, w, h = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), 1e-3
    seen: list[Array] = []

    def f(x: Array) -> float:
        seen.append(np.array(x))
        return float((w * np.sin(x)).sum() + 0.5 * (w * x).sum() ** 2)

    right = w * np.cos(x) + (w * x).sum() * w
    given = x.copy()
    found = array_of(module.numerical_gradient(f, given, h))
    details = f"of f(x) = Σ w sin x + ½ (Σ w x)², with h = {h:g}"
    if found is None or found.shape != x.shape:
        shape = "no array of floats" if found is None else f"shape {found.shape}"
        said = f"numerical_gradient returns {shape}, needs shape {x.shape}, that of x"
        one = ": the derivative by one element belongs into g[i]" if found is not None and found.ndim == 0 else ""
        return Result(False, [said + one], details)
    moves = np.array([np.abs(s - x).max() for s in seen if s.shape == x.shape])
    faults = []
    if not np.array_equal(given, x):
        faults.append("x is not restored: it is another array afterwards; what is moved must be put back, or copied")
    if not _near(found, right):
        all_at_once = any(s.shape == x.shape and (s != x).all() for s in seen)
        known = _wrong_differences(f, x, h, all_at_once)
        said = next((said for wrong, said in known if close(found, wrong, 1e-7)), "")
        if said or not faults:
            at = tuple(map(int, np.unravel_index(np.argmax(np.abs(found - right)), x.shape)))
            faults.append(said or f"at {at} it is {found[at]:.6g}, and the derivative is {right[at]:.6g}")
    elif any(s.shape != x.shape for s in seen):
        faults.append(f"f was called with an array of another shape than x, {x.shape}")
    elif not faults and not close(moves.max(initial=0.0), h, 1e-6):
        faults.append(
            f"the argument h is not used: h was {h:g}, and no element of x was moved by that, but by "
            f"{moves.max(initial=0.0):.3g} at the most"
        )
    figures = f"found:\n{found}\n\nexpected:\n{right}" if faults else ""
    return Result(not faults, faults, details, figures)


def _near(found: Array, right: Array) -> bool:
    return close(found, right, FLAT)


def _wrong_differences(
    f: Callable[[Array], float], x: Array, h: float, all_at_once: bool
) -> Iterator[tuple[Array, str]]:
    def differences(of: Callable[[Array], float]) -> Array:
        g = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            step = np.zeros_like(x)
            step[i] = h
            g[i] = of(step)
        return g

    one_sided = "this is a forward difference, off by ½ h f″: take f on both sides of x, and divide by 2 h"
    forward = differences(lambda e: (f(x + e) - f(x)) / h)
    yield forward, one_sided
    yield differences(lambda e: (f(x) - f(x - e)) / h), one_sided.replace("forward", "backward")
    back_again = "the second f is taken at x itself: after x[i] += h an x[i] -= h leads back to x, and not to x − h"
    yield forward / 2, f"{back_again}; 2 h lie between the two"
    both = differences(lambda e: (f(x + e) - f(x - e)) / (2 * h))
    yield 2 * both, "it is twice the gradient: between x + h and x − h lie 2 h, and not h"
    yield both / 2, "it is half the gradient: it is divided by 2 twice"
    yield -both, "the sign is wrong: f(x + h) − f(x − h), in this order"
    yield 2 * h * both, "it is not divided by 2 h"
    yield (
        h * h * both,
        "it is multiplied by h: `/ 2 * h` divides by 2 and multiplies by h, so put 2 * h into brackets",
    )
    for step, first in ((forward / 2, f"{back_again}; and "), (forward, f"{one_sided}; and "), (both, "")):
        alone = np.zeros_like(x)
        alone.flat[0] = step.flat[0]
        yield (
            alone,
            f"{first}only the first element is there, all others are 0: does `return g` stand inside the loop?",
        )
    moving, drifted = np.zeros_like(x), x.copy()
    for i in np.ndindex(x.shape):
        drifted[i] += h
        up = f(drifted)
        drifted[i] -= h
        moving[i] = (up - f(drifted)) / (2 * h)
        drifted[i] += h
    yield moving, f"{back_again}; to x − h lead 2 h"
    if all_at_once:
        said = "all elements of x are moved at once: move one of them, by h e_i"
        yield np.full_like(x, (f(x + h) - f(x - h)) / (2 * h)), said
        yield np.full_like(x, (f(x + h) - f(x)) / h), said
    else:
        summed = "every derivative is added to all elements of g: it belongs to element i alone, g[i] = …, not g += …"
        yield np.full_like(x, both.sum()), summed
        last = "every element of g is the derivative by the last element of x: g[i] = …, and not all of g"
        yield np.full_like(x, both.flat[-1]), last


# --- optimizers ---


@contained_proof
def momentum(module: Any, rng: np.random.Generator) -> Result:
    rates, beta = [0.1, 0.1, 0.05, 0.2, 0.2], 0.8

    def walk(
        value: Array, gradients: list[Array], step: Callable[[Array, Array, float], tuple[Array, Array]]
    ) -> Path:
        u, path = np.zeros_like(value), []
        for g, lr in zip(gradients, rates, strict=True):
            u, moved = step(u, g, lr)
            value = value - moved
            path.append(value)
        return path

    def by(step: Callable[[Array, Array, float], tuple[Array, Array]]) -> Walk:
        return lambda k, value, gradients: walk(value, gradients, step)

    def full(u: Array, g: Array) -> Array:
        return beta * u + g

    right = by(lambda u, g, lr: (full(u, g), lr * full(u, g)))
    known = {
        "u is not kept from step to step: this is plain gradient descent, without momentum": by(
            lambda u, g, lr: (u, lr * g)
        ),
        "lr is inside, in u: where lr changes, the gradients of before keep the old one; u sums gradients, and lr "
        "scales u in the step": by(lambda u, g, lr: (beta * u + lr * g, beta * u + lr * g)),
        "g is multiplied by 1 − momentum: u is the sum, not the average, of gradients that fade": by(
            lambda u, g, lr: (beta * u + (1 - beta) * g, lr * (beta * u + (1 - beta) * g))
        ),
        "it goes uphill, the sign is wrong: value − lr · u": by(lambda u, g, lr: (full(u, g), -lr * full(u, g))),
        "the step is made with the old u, before it is updated: one step late": by(
            lambda u, g, lr: (full(u, g), lr * u)
        ),
        "this is Nesterov's momentum: step along u itself, not along momentum · u + g once more": by(
            lambda u, g, lr: (full(u, g), lr * (beta * full(u, g) + g))
        ),
    }
    return _optimizer(lambda ps: module.SGD(ps, rates[0], beta), right, known, rates, rng)


@contained_proof
def adam(module: Any, rng: np.random.Generator) -> Result:
    # betas so small that 1 − β t stays above 0, eps so large that one can see where it stands
    lr, betas, eps = 0.05, (0.15, 0.19), 0.02

    def walk(**change: Any) -> Walk:
        change = {"eps": eps, **change}
        return lambda k, value, gradients: _adam(k, value, gradients, lr, betas, **change)

    known = {
        "the bias correction is missing: m / (1 − β₁ᵗ) and v / (1 − β₂ᵗ)": walk(correct_m=False, correct_v=False),
        "the bias correction of m is missing: m̂ = m / (1 − β₁ᵗ)": walk(correct_m=False),
        "the bias correction of v is missing: v̂ = v / (1 − β₂ᵗ)": walk(correct_v=False),
        "t is ahead by one: it is 1 in the first step": walk(shift=1),
        "t counts every parameter: add 1 to it once in a step, before the loop": walk(counts_parameters=True),
        "eps stands inside of the root: √v̂ + eps, not √(v̂ + eps)": walk(inside=True),
        "the correction lacks its power: 1 − βᵗ, β to the t, not 1 − β": walk(power=False),
        "the root is missing: divide by √v̂ + eps": walk(root=False),
        "v sums g and not g², the square": walk(squared=False),
        "β₁ and β₂ are exchanged": walk(swapped=True),
        "the corrections take β times t, not to the power t: 1 − βᵗ, in Python b1**self.t, not b1 * self.t": walk(
            times="mv"
        ),
        "the correction of m takes β₁ times t, not to the power t: 1 − β₁ᵗ, in Python b1**self.t": walk(times="m"),
        "the correction of v takes β₂ times t, not to the power t: 1 − β₂ᵗ, in Python b2**self.t": walk(times="v"),
        "m is not kept from step to step: put it back, self.m[i] = …": walk(forgets="m"),
        "v is not kept from step to step: put it back, self.v[i] = …": walk(forgets="v"),
        "m and v are not kept from step to step: put them back, self.m[i] = … and self.v[i] = …": walk(forgets="mv"),
        "m̂ is kept in the place of m: correct a copy for the step, and keep m as it is": walk(keeps="m"),
        "v̂ is kept in the place of v: correct a copy for the step, and keep v as it is": walk(keeps="v"),
        "m̂ and v̂ are kept in the place of m and v: correct copies for the step, and keep m and v as they are": walk(
            keeps="mv"
        ),
        "the step goes along the gradient g itself: along m̂, the running mean of the gradients": walk(plain=True),
        "the step goes along g²: along m̂, the running mean of the gradients": walk(plain=True, of_square=True),
        "eps is left out: divide by √v̂ + eps": walk(eps=0.0),
        "v̂ is corrected with β₁: its correction is 1 − β₂ᵗ": walk(corrects=(0, 0)),
        "m̂ is corrected with β₂: its correction is 1 − β₁ᵗ": walk(corrects=(1, 1)),
        "the corrections are exchanged: 1 − β₁ᵗ is that of m, 1 − β₂ᵗ that of v": walk(corrects=(1, 0)),
        "m sums g², the square: it is the mean of g": walk(of_square=True),
        "it goes uphill, the sign is wrong: value − lr · m̂ / (√v̂ + eps)": walk(sign=1),
        "m lacks the factor 1 − β₁ of g": walk(share_m=False),
        "v lacks the factor 1 − β₂ of g²": walk(share_v=False),
    }
    return _optimizer(lambda ps: module.Adam(ps, lr, betas, eps), walk(), known, [lr] * 5, rng)


def _adam(
    k: int,
    value: Array,
    gradients: list[Array],
    lr: float,
    betas: tuple[float, float],
    *,
    eps: float,
    correct_m: bool = True,
    correct_v: bool = True,
    shift: int = 0,
    inside: bool = False,
    power: bool = True,
    root: bool = True,
    squared: bool = True,
    swapped: bool = False,
    sign: int = -1,
    share_m: bool = True,
    share_v: bool = True,
    counts_parameters: bool = False,
    times: str = "",
    forgets: str = "",
    keeps: str = "",
    corrects: tuple[int, int] = (0, 1),
    plain: bool = False,
    of_square: bool = False,
) -> Path:
    b1, b2 = betas[::-1] if swapped else betas
    m, v, path = np.zeros_like(value), np.zeros_like(value), []
    for t, g in enumerate(gradients, 1 + shift):
        m = (0 if "m" in forgets else b1 * m) + (1 - b1 if share_m else 1) * (g * g if of_square else g)
        v = (0 if "v" in forgets else b2 * v) + (1 - b2 if share_v else 1) * (g * g if squared else g)
        n = 1 if not power else 2 * t - 1 + k if counts_parameters else t
        c1, c2 = ((b1, b2)[k] for k in corrects)
        m_hat = m / (1 - (c1 * t if "m" in times else c1**n) if correct_m else 1)
        v_hat = v / (1 - (c2 * t if "v" in times else c2**n) if correct_v else 1)
        m, v = m_hat if "m" in keeps else m, v_hat if "v" in keeps else v
        m_hat = (g * g if of_square else g) if plain else m_hat
        scale = v_hat + eps if not root else np.sqrt(v_hat + eps) if inside else np.sqrt(v_hat) + eps
        value = value + sign * lr * m_hat / scale
        path.append(value)
    return path


def _optimizer(
    make: Callable[[list[Parameter]], Any],
    right: Walk,
    known: dict[str, Walk],
    rates: list[float],
    rng: np.random.Generator,
) -> Result:
    """A few steps of two parameters, of unequal shapes, with gradients that are drawn and, in the last step, zero."""
    shapes = ((3, 2), (2,))
    first = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    gradients = [[*(np.asarray(rng.standard_normal(v.shape)) for _ in rates[:-1]), np.zeros_like(v)] for v in first]
    parameters = [Parameter(name, v.copy()) for name, v in zip("Wb", first, strict=True)]
    optimizer = make(parameters)
    found: list[Path] = [[], []]
    faults: list[str] = []
    for n, lr in enumerate(rates):
        optimizer.lr = lr
        held = [p.value for p in parameters]
        before = [v.copy() for v in held]
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g[n].copy()
        optimizer.step()
        if n == 0 and any(p.grad.any() for p in parameters):
            faults.append("step leaves the gradients as they are: set them to zero afterwards, p.zero_grad()")
        if n == 0 and not all(map(np.array_equal, held, before)):
            faults.append("step writes into the value: replace it, p.value = p.value − …")
        for path, p in zip(found, parameters, strict=True):
            path.append(np.array(p.value))

    def walked(walk: Walk) -> list[Path]:
        return [walk(k, first[k], gradients[k]) for k in range(len(first))]

    wanted = walked(right)
    figures = ""
    if not _same(found, wanted):
        same = (said for said, walk in known.items() if _same(found, walked(walk)))
        faults.append(next(same, "") or _where(first, found, wanted))
        figures = _first_wrong(found, wanted)
    details = f"{len(rates)} steps of two parameters, W of shape {shapes[0]} and b of shape {shapes[1]}"
    return Result(not faults, faults, details, figures)


def _first_wrong(found: list[Path], wanted: list[Path]) -> str:
    """The values after the first step that are not as expected."""
    for n in range(len(wanted[0])):
        for name, path, want in zip("Wb", found, wanted, strict=True):
            if not close(path[n], want[n]):
                return f"{name} after step {n + 1}:\n  {path[n].ravel()}\nexpected:\n  {want[n].ravel()}"
    return ""


def _where(first: list[Array], found: list[Path], wanted: list[Path]) -> str:
    """What can be said of a walk that is neither right nor known."""
    finite = np.isfinite(np.concatenate([path[0].ravel() for path in found]))
    if not finite.any():
        return "nothing is finite after the first step: t must be 1 in it, not 0, or 1 − βᵗ is zero"
    if _same(found[:1], wanted[:1]):
        if all(np.array_equal(v, first[1]) for v in found[1]):
            return "only the first parameter moves: step goes over all of them"
        return (
            "the first parameter moves as it should, the second does not: t counts steps, once for all parameters, "
            "and each parameter has arrays of its own"
        )
    for n in range(len(wanted[0])):
        for name, path, want in zip("Wb", found, wanted, strict=True):
            if not np.isfinite(path[n]).all():
                there = f"after step {n + 1} {name} is not finite everywhere"
                return f"{there}: a division by 0, or the root of what is negative"
            if not close(path[n], want[n]):
                at = tuple(map(int, np.unravel_index(np.argmax(np.abs(path[n] - want[n])), want[n].shape)))
                said = f"after step {n + 1} an element of {name} is {path[n][at]:.6g}"
                return f"{said}, and the formula gives {want[n][at]:.6g}"
    return ""


def _same(paths: list[Path], others: list[Path]) -> bool:
    """Whether they are equal; what is not finite must be so in both, and not from the first step on."""
    return all(
        np.isfinite(path[0]).any() and all(_same_step(a, b) for a, b in zip(path, other, strict=True))
        for path, other in zip(paths, others, strict=True)
    )


def _same_step(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    finite = np.isfinite(b)
    return np.array_equal(np.isfinite(a), finite) and close(a[finite], b[finite])


# --- an adjoint by hand ---


@contained_proof
def padded_slice(module: Any, rng: np.random.Generator) -> Result:
    details: list[str] = []
    for length, padding, stride in ((7, 2, 3), (8, 1, 2), (5, 0, 2), (6, 2, 1)):
        x = rng.standard_normal((3, length))
        forward = np.pad(x, ((0, 0), (padding, padding)))[:, ::stride]
        if not close(module.apply(x.copy(), padding, stride), forward):
            return Result(False, ["apply is not the map that it was: leave it as it is in the skeleton"])
        y = rng.standard_normal(forward.shape)
        given = y.copy()
        found = array_of(module.adjoint(given, length, padding, stride))
        case = f"with length {length}, padding {padding}, stride {stride}"
        if found is None or found.shape != x.shape:
            shape = "no array of floats" if found is None else f"shape {found.shape}"
            said = f"{case}, adjoint returns {shape}, needs shape {x.shape}, that of x"
            if found is not None and found.shape == (3, length + 2 * padding):
                said += ": the padding is to be cut off again"
            return Result(False, [said], "\n".join(details))
        left, rightmost = float((forward * y).sum()), float((x * found).sum())
        details.append(f"{case}: ⟨A x, y⟩ = {left:.10g}, ⟨x, Aᵀ y⟩ = {rightmost:.10g}")
        faults = [] if np.array_equal(given, y) else ["adjoint writes into y, which belongs to the caller"]
        padded = np.zeros((3, length + 2 * padding))
        padded[:, ::stride] = y
        inside = slice(padding, padding + length)
        if not close(found, padded[:, inside]):
            known = _wrong_adjoints(y, padded, length, padding, stride, inside)
            said = next((said for wrong, said in known if close(found, wrong)), "")
            plain = f"⟨A x, y⟩ is {left:.6g} and ⟨x, Aᵀ y⟩ is {rightmost:.6g}: they must be equal for all x and y"
            faults.append(f"{case}, {said or plain}")
        if faults:
            return Result(False, faults, "\n".join(details))
    return Result(True, [], "\n".join(details))


def _wrong_adjoints(
    y: Array, padded: Array, length: int, padding: int, stride: int, inside: slice
) -> Iterator[tuple[Array, str]]:
    dense = np.zeros_like(padded)
    dense[:, : y.shape[1]] = y
    yield dense[:, inside], "the stride is ignored: y_r belongs to place r · stride of the padded row"
    yield padded[:, :length], "it is shifted by the padding: cut as many places off at the front as were added there"
    yield padded[:, -length:], "it is shifted by the padding: cut as many places off at the end as were added there"
    filled = np.repeat(y, stride, axis=1)[:, : padded.shape[1]]
    if filled.shape == padded.shape:
        yield filled[:, inside], "the places between are filled with copies of y: A does not read them, so they get 0"
    yield padded[:, inside] * stride, "it is multiplied by the stride"
    yield padded[:, inside] / stride, "it is divided by the stride"
