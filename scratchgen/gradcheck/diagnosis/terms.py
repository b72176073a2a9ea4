"""The candidate terms: what a wrong backward is usually made of, from dy, the inputs, y and the parameters."""

import math
from collections.abc import Callable, Iterator
from itertools import combinations, permutations

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.diagnosis.evidence import Evidence, Scene
from scratchgen.gradcheck.diagnosis.fit import Dictionary, Term

EPS = 1e-5  # of a standard deviation, as nearly everybody has it

Named = tuple[str, Array, float]  # how it is written, its value in one scene, how long a formula it is


def multiples(evidence: Evidence) -> Dictionary:
    """The true gradient times each factor: w · g."""
    return _common(evidence, lambda scene: _of_the_gradient(scene, list(_weights(scene)), scene.true.shape))


def dictionary(evidence: Evidence, with_true: bool = True) -> Dictionary:
    """Every candidate that can be made in all scenes. Those made of the true gradient itself, w · g, are left
    out where the true gradient is to be explained."""
    return _common(evidence, lambda scene: _candidates(scene, with_true))


def _common(evidence: Evidence, candidates: Callable[[Scene], Iterator[Named]]) -> Dictionary:
    made = []
    with np.errstate(all="ignore"):
        for scene in evidence.scenes:
            made.append({text: (value, cost) for text, value, cost in reversed(list(candidates(scene)))})
    common = [text for text in made[0] if all(text in found for found in made[1:])]
    return Dictionary(
        [
            Term(text, np.concatenate([found[text][0].ravel() for found in made]), made[0][text][1])
            for text in reversed(common)
        ]
    )


def _candidates(scene: Scene, with_true: bool) -> Iterator[Named]:
    shape = scene.true.shape
    weights = list(_weights(scene))
    yield from _elementwise(scene, weights, shape)
    if scene.y.ndim:
        yield from _across(scene, shape)
        yield from _reduced(scene, weights, shape)
        yield from _matrices(scene, shape)
    if with_true:
        yield from _of_the_gradient(scene, weights, shape)
    for name, other in scene.others.items():
        if other.shape == shape:
            yield name, other, 1.5
    yield "1", np.ones(shape), 3.0


# --- factors ---


def _weights(scene: Scene) -> Iterator[Named]:
    """What dy may be multiplied by: functions of the inputs, of y and of the parameters."""
    yield "", np.ones(()), 0.0
    plain = {name: f for name, f in scene.fields.items() if f.size > 1 or f.ndim == 0}
    x = next(iter(plain.values()), None)
    y = scene.fields.get("y")
    if y is not None and x is not None and y.shape == x.shape:
        yield "[y ≠ 0]", (y != 0) * 1.0, 1.4
        if not np.allclose(y, x):
            branch = f"(y − {next(iter(plain))})"
            yield f"(1 − {branch}²)", 1 - (y - x) ** 2, 3.0
    for name, f in plain.items():
        yield from _functions(name, f)
    for (a, f), (b, g) in combinations(plain.items(), 2):
        if _fits(f.shape, g.shape):
            yield f"{a}·{b}", f * g, 2.2
            yield f"({a} − {b})", f - g, 3.2
            if f.shape == g.shape:
                yield f"({a} − {b})²", (f - g) ** 2, 3.2
                yield f"[{a} > {b}]", (f > g) * 1.0, 3.0
                yield f"sign({a} − {b})", np.sign(f - g), 2.9
                for of, other, p, q in ((a, b, f, g), (b, a, g, f)):
                    s = _sigmoid(p)
                    yield f"(σ({of}) − {other})", s - q, 3.0
                    yield f"(σ({of}) − {other})·σ′({of})", (s - q) * s * (1 - s), 4.0
                    yield f"(σ({of}) − {other})/σ′({of})", (s - q) / (s * (1 - s)), 4.0
                    yield f"exp({of}/2)·{other}", np.exp(p / 2) * q, 3.0
                    yield f"exp({of})·{other}", np.exp(p) * q, 3.0
                    yield f"{other}/{of}²", q / p**2, 3.5
    for name, f in plain.items():
        if f.ndim >= 2 and name == next(iter(plain)):
            for axes, where in axes_sets(f.ndim):
                x_hat, s = _normalised(f, axes)
                yield f"{name}̂{where}", x_hat, 2.6
                yield f"{name}̂²{where}", x_hat**2, 3.6
                yield f"1/σ{where}", s, 2.8
        if f.ndim:
            e = np.exp(f - f.max(-1, keepdims=True))
            yield f"softmax({name})", e / e.sum(-1, keepdims=True), 2.3


def _functions(name: str, f: Array) -> Iterator[Named]:
    s, t = _sigmoid(f), np.tanh(f)
    yield name, f, 1.0
    yield f"{name}²", f * f, 1.6
    yield f"(1 − {name})", 1 - f, 1.6
    yield f"(1 + {name})", 1 + f, 1.7
    yield f"(1 − {name}²)", 1 - f * f, 1.9
    yield f"{name}·(1 − {name})", f * (1 - f), 2.0
    yield f"{name}·(1 + {name})", f * (1 + f), 2.1
    yield f"[{name} > 0]", (f > 0) * 1.0, 1.5
    yield f"[{name} < 0]", (f < 0) * 1.0, 1.5
    yield f"sign({name})", np.sign(f), 1.8
    yield f"exp({name})", np.exp(f), 1.5
    yield f"exp({name}/2)", np.exp(f / 2), 1.7
    yield f"exp(−{name})", np.exp(-f), 1.7
    yield f"exp(2·{name})", np.exp(2 * f), 1.9
    yield f"1/{name}", 1 / f, 1.7
    yield f"1/{name}²", 1 / f**2, 2.1
    yield f"√{name}", np.sqrt(f), 1.9
    yield f"1/√{name}", 1 / np.sqrt(f), 2.0
    yield f"log {name}", np.log(f), 2.1
    yield f"σ({name})", s, 2.0
    yield f"σ(−{name})", 1 - s, 2.1
    yield f"σ′({name})", s * (1 - s), 2.2
    yield f"tanh({name})", t, 2.0
    yield f"(1 − tanh²({name}))", 1 - t * t, 2.3
    yield f"{name}³", f**3, 2.0
    yield f"{name}·σ(−{name})", f * (1 - s), 2.9
    yield f"{name}·σ′({name})", f * s * (1 - s), 2.6
    yield f"exp({name})·[{name} < 0]", np.exp(np.minimum(f, 0)) * (f < 0), 2.6
    normal, density = 0.5 * (1 + _erf(f / np.sqrt(2))), np.exp(-f * f / 2) / np.sqrt(2 * np.pi)
    yield f"Φ({name})", normal, 2.5
    yield f"φ({name})", density, 2.5
    yield f"{name}·φ({name})", f * density, 2.7
    yield f"sin({name})", np.sin(f), 2.4
    yield f"cos({name})", np.cos(f), 2.4
    yield f"sin({name})·cos({name})", np.sin(f) * np.cos(f), 2.8


# --- terms ---


def _elementwise(scene: Scene, weights: list[Named], shape: tuple[int, ...]) -> Iterator[Named]:
    """dy · w, where dy has the shape of the variable, or is a single number."""
    for name, dy in {"dy" if scene.dy.size > 1 else "": scene.dy, **scene.upstream}.items():
        if not (_fits(dy.shape, shape) and np.broadcast_shapes(dy.shape, shape) == shape):
            continue
        for text, w, cost in weights:
            if _fits(w.shape, shape) and np.broadcast_shapes(w.shape, shape) == shape:
                yield _times(name, text) or "1", np.broadcast_to(dy * w, shape), cost + 1


def _across(scene: Scene, shape: tuple[int, ...]) -> Iterator[Named]:
    """u · Σ (dy · w) over some axes: where each element acts on all of its row, or channel."""
    y, dy = scene.y, scene.dy
    if y.shape != shape or y.ndim < 2:
        return
    vectors = {
        n: f for n, f in scene.fields.items() if f.shape != shape and _fits(f.shape, shape) and f.ndim and f.size > 1
    }
    fields = {n: f for n, f in scene.fields.items() if f.shape == shape}
    outer: list[Named] = [("", np.ones(()), 0.0)]
    inner: list[Named] = [("", np.ones(()), 0.0)]
    for n, f in fields.items():
        outer += [(n, f, 1.0), (f"(1 − {n})", 1 - f, 1.8)]
        inner += [(n, f, 1.0)]
        e = np.exp(f - f.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)
        outer += [(f"softmax({n})", p, 1.6), (f"exp({n})", np.exp(f), 1.5)]
        inner += [(f"softmax({n})", p, 1.6)]
    inner += [(n, f, 1.2) for n, f in vectors.items()]
    inner += [(f"{m}·{n}", f * g, 2.2) for n, f in fields.items() for m, g in vectors.items()]
    for axes, where in axes_sets(y.ndim):
        if np.prod([y.shape[a] for a in axes]) < 3:  # the sum less an element would be the other element
            continue
        for inside, w, cost in inner:
            total = (dy * w).sum(axis=axes, keepdims=True)
            for outside, u, more in outer:
                yield (
                    _times(outside, f"Σ {_times('dy', inside, tight=True)}{where}"),
                    np.broadcast_to(u * total, shape),
                    2 + cost + more,
                )


def _reduced(scene: Scene, weights: list[Named], shape: tuple[int, ...]) -> Iterator[Named]:
    """Σ (dy · w) down to the shape of the variable, as for a bias, a scale or a slope."""
    y, dy = scene.y, scene.dy
    squeezed = tuple(n for n in shape if n > 1)
    for count in range(1, y.ndim + 1):
        for axes in combinations(range(y.ndim), count):
            if tuple(n for i, n in enumerate(y.shape) if i not in axes and n > 1) != squeezed:
                continue
            where = _over(axes)
            for text, w, cost in weights:
                if _fits(w.shape, y.shape) and np.broadcast_shapes(w.shape, y.shape) == y.shape:
                    value = (dy * w).sum(axis=axes).reshape(shape)
                    yield f"Σ {_times('dy', text, tight=True)}{where}", value, cost + 1.5
            for name, f in scene.fields.items():  # of another width: its own sum beside
                if f.ndim == y.ndim and f.shape[:-1] == y.shape[:-1] and f.shape != y.shape:
                    value = (dy * f.sum(-1, keepdims=True)).sum(axis=axes).reshape(shape)
                    yield f"Σ (dy · Σ {name}){where}", value, 4.0
            if len(y) > 1 and 0 in axes:
                for which, i in (("first", 0), ("last", -1)):
                    rest = tuple(a - 1 for a in axes if a)
                    yield f"the share of the {which} sample", dy[i].sum(axis=rest).reshape(shape), 2.5


def _matrices(scene: Scene, shape: tuple[int, ...]) -> Iterator[Named]:
    """Products with rows of features: xᵀ dy, dy Wᵀ, and those in which a factor, a transpose or a name is wrong."""
    dy = scene.dy
    if dy.ndim < 2:
        return
    rows = dy.reshape(-1, dy.shape[-1])
    dys: list[Named] = [("dy", rows, 0.0)]
    for name, f in scene.fields.items():
        if f.shape == dy.shape:
            g = f.reshape(rows.shape)
            for text, w in ((name, g), (f"(1 − {name}²)", 1 - g * g), (f"{name}·(1 − {name})", g * (1 - g))):
                dys.append((f"(dy·{text})", rows * w, 1.5))
            dys.append((f"(dy·[{name} > 0])", rows * (g > 0), 1.5))
    x, y = next(iter(scene.fields.values())), scene.fields.get("y")
    if y is not None and x.shape == y.shape:
        name = next(iter(scene.fields))
        dys.append((f"(dy·(1 − (y − {name})²))", rows * (1 - (y - x).reshape(rows.shape) ** 2), 2.5))
    dys += _through_a_layer(scene, rows)
    for text, g, cost in dys:
        if g.shape[1:] == tuple(n for n in shape if n > 1):
            yield f"Σ {text} over the batch", g.sum(axis=0).reshape(shape), 2 + cost
    if len(shape) < 2:
        return
    arrays = {name: f for name, f in scene.fields.items() if f.ndim >= 2}
    if len(shape) == 2:
        for name, f in arrays.items():
            left = f.reshape(-1, f.shape[-1])
            if len(left) != len(rows):
                continue
            for text, g, cost in dys:
                for product, written in ((left.T @ g, f"{name}ᵀ {text}"), (g.T @ left, f"{text}ᵀ {name}")):
                    if product.shape == shape:
                        yield written, product, 2 + cost
    for name, W in arrays.items():
        if W.ndim != 2 or name == "y":
            continue
        for text, g, cost in dys:
            for M, label in ((W.T, f"{name}ᵀ"), (W, name)):
                if g.shape[1] == M.shape[0] and g.shape[0] * M.shape[1] == np.prod(shape):
                    product = (g @ M).reshape(shape)
                    yield f"{text} {label}", product, 2 + cost
                    for other, f in scene.fields.items():
                        if f.shape == shape and other != "y":
                            yield f"({text} {label})·{other}", product * f, 4 + cost


def _through_a_layer(scene: Scene, dy: Array) -> Iterator[Named]:
    """dy Vᵀ times the derivative of a hidden layer's activation: y is made of act(x W) V, perhaps with biases."""
    matrices = {name: f for name, f in scene.fields.items() if f.ndim == 2 and name != "y"}
    x = next((f for f in matrices.values() if len(f) == len(dy)), None)
    for (name, V), (first, W) in permutations(matrices.items(), 2):
        if x is None or V.shape[1] != dy.shape[1] or W.shape != (x.shape[1], V.shape[0]):
            continue
        dh = dy @ V.T
        yield f"(dy {name}ᵀ)", dh, 1.0
        biases = {f" + {b}": f for b, f in scene.fields.items() if f.size == W.shape[1] and f.ndim <= 2}
        for written, b in {"": np.zeros(1), **biases}.items():
            z = x @ W + b.reshape(1, -1)
            s, t, inside = _sigmoid(z), np.tanh(z), f"x {first}{written}"
            derivatives = (
                (f"(1 − tanh²({inside}))", 1 - t * t),
                (f"σ′({inside})", s * (1 - s)),
                (f"[{inside} > 0]", z > 0),
            )
            for text, derivative in derivatives:
                yield f"(dy {name}ᵀ · {text})", dh * derivative, 2.0


def _of_the_gradient(scene: Scene, weights: list[Named], shape: tuple[int, ...]) -> Iterator[Named]:
    """w · g, for the true gradient g, and its sums and means."""
    g = scene.true
    for text, w, cost in weights:
        if text and _fits(w.shape, shape) and np.broadcast_shapes(w.shape, shape) == shape:
            yield f"{text} · g", np.broadcast_to(w * g, shape), cost + 1.2
    for count in range(1, g.ndim + 1):
        for axes in combinations(range(g.ndim), count):
            if int(np.prod([g.shape[a] for a in axes])) > 1:
                total = g.sum(axis=axes, keepdims=True)
                yield f"Σ g{_over(axes)}", np.broadcast_to(total, shape), 2.5 + 0.1 * count
    yield "|g|", np.abs(g), 3.0


def _times(*factors: str, tight: bool = False) -> str:
    return ("·" if tight else " · ").join(f for f in factors if f)


def _over(axes: tuple[int, ...]) -> str:
    return f" over axis {axes[0]}" if len(axes) == 1 else f" over axes {', '.join(map(str, axes))}"


def axes_sets(ndim: int) -> list[tuple[tuple[int, ...], str]]:
    """The axes over which one sums or normalises: the last, all but the last, those of an image, of a sample, …"""
    if ndim < 2:
        return [((0,), " over axis 0")]
    sets = [(ndim - 1,), tuple(range(ndim - 1)), tuple(range(1, ndim - 1)), tuple(range(1, ndim)), (0,)]
    sets += [(1,), (0, *range(2, ndim))] if ndim > 2 else []
    return [(axes, _over(axes)) for axes in dict.fromkeys(sets) if axes]


def _normalised(f: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    s = 1 / np.sqrt(f.var(axis=axes, keepdims=True) + EPS)
    return (f - f.mean(axis=axes, keepdims=True)) * s, s


def _erf(f: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(f)


def _sigmoid(f: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * f))


def _fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or m == 1 or n == 1 for m, n in zip(a[::-1], b[::-1], strict=False))
