"""The candidate terms: what a wrong backward is usually made of, from dy and the arrays that forward has made.

These are the inputs, the parameters and y, and beside them the local variables of forward, by their own names: what
is found is said in the words of the code.
"""

import math
from collections.abc import Callable, Iterator
from itertools import combinations, permutations

import numpy as np

from scratchgen.backend import Array
from scratchgen.functions import softmax
from scratchgen.gradcheck.diagnosis.evidence import Evidence, Scene
from scratchgen.gradcheck.diagnosis.fit import MOST_TERMS, Dictionary, Term
from scratchgen.gradcheck.diagnosis.words import axes_named

EPS = 1e-5  # of a standard deviation, as nearly everybody has it
TRUE = " · the gradient"  # at the end of a term: a factor times the true gradient
ALL_OF_TRUE = "the gradient summed"

Shape = tuple[int, ...]
Named = tuple[str, Array, float]  # how it is written, its value in one scene, how long a formula it is


def dictionary(evidence: Evidence) -> Dictionary:
    """Every candidate that can be made in all scenes, of dy and arrays."""
    return _common(evidence, _candidates)


def multiples(evidence: Evidence) -> Dictionary:
    """The true gradient times each factor, and its sums."""
    return _common(evidence, lambda scene: _of_the_gradient(scene, list(_weights(scene)), scene.true.shape))


def _common(evidence: Evidence, candidates: Callable[[Scene], Iterator[Named]]) -> Dictionary:
    """Those of the candidates that can be made in all scenes; of very many the shortest."""
    with np.errstate(all="ignore"):
        costs = {
            text: cost for text, _, cost in reversed([(t, None, c) for t, _, c in candidates(evidence.scenes[0])])
        }
        kept = set(sorted(costs, key=lambda text: costs[text])[: 2 * MOST_TERMS])
        made = []
        for scene in evidence.scenes:
            found: dict[str, Array] = {}
            for text, value, _ in candidates(scene):
                if text in kept:
                    found.setdefault(text, value)
            made.append(found)
    common = [text for text in made[0] if all(text in found for found in made[1:])]
    return Dictionary(
        [Term(text, np.concatenate([found[text].ravel() for found in made]), costs[text]) for text in common]
    )


def _candidates(scene: Scene) -> Iterator[Named]:
    shape = scene.true.shape
    weights = list(_weights(scene))
    yield from _elementwise(scene, weights, shape)
    if scene.y.ndim:
        yield from _across(scene, shape)
        yield from _reduced(scene, weights, shape)
        yield from _matrices(scene, shape)
    yield "1", np.ones(shape), 3.0


# --- factors ---


def _weights(scene: Scene) -> Iterator[Named]:
    """What dy may be multiplied by: functions of the arrays, and products of two."""
    yield "", np.ones(()), 0.0
    fields = {name: f for name, f in scene.fields.items() if f.size > 1 or f.ndim == 0}
    x, y = next(iter(fields.items()), ("", np.zeros(()))), scene.fields.get("y")
    if y is not None and y.shape == x[1].shape:
        yield "[y ≠ 0]", (y != 0) * 1.0, 1.4
    for name, f in fields.items():
        yield from _functions(name, f)
        if f.ndim:
            yield f"softmax({name})", softmax(f), 2.3
    for axes, where in axes_sets(x[1].ndim) if x[1].ndim >= 2 else ():
        x_hat, s = _normalised(x[1], axes)
        yield f"{x[0]}̂{where}", x_hat, 2.6
        yield f"{x[0]}̂²{where}", x_hat**2, 3.6
        yield f"1/σ{where}", s, 2.8
    for name, f in scene.local.items():
        yield from _short_functions(name, f)
    every = fields | scene.local
    for (a, f), (b, g) in combinations(every.items(), 2):
        if not _fits(f.shape, g.shape):
            continue
        yield f"{a}·{b}", f * g, 2.2
        yield f"({a} − {b})", f - g, 3.2
        for of, other, p, q in ((a, b, f, g), (b, a, g, f)):
            if of != "y":  # y/x would be any function
                yield f"{of}/{other}", p / q, 2.4
            yield f"{of}·(1 − {other}²)", p * (1 - q * q), 2.9
            yield f"{of}·{other}·(1 − {other})", p * q * (1 - q), 3.0
            yield f"{of}·(1 − {other})", p * (1 - q), 2.8
            yield f"{of}·[{other} > 0]", p * (q > 0), 2.8
        if a in fields and b in fields and f.shape == g.shape:
            yield from _of_two(a, b, f, g)


def _of_two(a: str, b: str, f: Array, g: Array) -> Iterator[Named]:
    """What losses are made of."""
    yield f"({a} − {b})²", (f - g) ** 2, 3.2
    yield f"[{a} > {b}]", (f > g) * 1.0, 3.0
    yield f"sign({a} − {b})", np.sign(f - g), 2.9
    for of, other, p, q in ((a, b, f, g), (b, a, g, f)):
        s = _sigmoid(p)
        yield f"tanh({of} − {other})", np.tanh(p - q), 3.2
        yield f"(sigmoid({of}) − {other})", s - q, 3.0
        yield f"(sigmoid({of}) − {other})·sigmoid′({of})", (s - q) * s * (1 - s), 4.0
        yield f"(sigmoid({of}) − {other})/sigmoid′({of})", (s - q) / (s * (1 - s)), 4.0
        yield f"exp({of}/2)·{other}", np.exp(p / 2) * q, 3.0
        yield f"exp({of})·{other}", np.exp(p) * q, 3.0
        yield f"{other}/{of}²", q / p**2, 3.5


def _short_functions(name: str, f: Array) -> Iterator[Named]:
    yield name, f, 1.7
    yield f"{name}²", f * f, 1.7
    yield f"(1 − {name})", 1 - f, 1.7
    yield f"(1 − {name}²)", 1 - f * f, 2.0
    yield f"{name}·(1 − {name})", f * (1 - f), 2.1
    yield f"[{name} > 0]", (f > 0) * 1.0, 1.6
    yield f"1/{name}", 1 / f, 1.8
    yield f"1/{name}²", 1 / f**2, 2.2
    yield f"exp({name})", np.exp(f), 1.6
    yield f"sin({name})", np.sin(f), 2.4
    yield f"cos({name})", np.cos(f), 2.4


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
    yield f"sigmoid({name})", s, 2.0
    yield f"sigmoid(−{name})", 1 - s, 2.1
    yield f"sigmoid′({name})", s * (1 - s), 2.2
    yield f"tanh({name})", t, 2.0
    yield f"(1 − tanh²({name}))", 1 - t * t, 2.3
    yield f"{name}³", f**3, 2.0
    yield f"1/(1 + |{name}|)", 1 / (1 + np.abs(f)), 2.5
    yield f"1/(1 + |{name}|)²", 1 / (1 + np.abs(f)) ** 2, 2.6
    yield f"{name}·sigmoid(−{name})", f * (1 - s), 2.9
    yield f"{name}·sigmoid′({name})", f * s * (1 - s), 2.6
    yield f"exp({name})·[{name} < 0]", np.exp(np.minimum(f, 0)) * (f < 0), 2.6
    normal, density = 0.5 * (1 + _erf(f / np.sqrt(2))), np.exp(-f * f / 2) / np.sqrt(2 * np.pi)
    yield f"Φ({name})", normal, 2.5
    yield f"φ({name})", density, 2.5
    yield f"{name}·φ({name})", f * density, 2.7
    yield f"sin({name})", np.sin(f), 2.4
    yield f"cos({name})", np.cos(f), 2.4
    yield f"sin({name})·cos({name})", np.sin(f) * np.cos(f), 2.8


# --- terms ---


def _elementwise(scene: Scene, weights: list[Named], shape: Shape) -> Iterator[Named]:
    """dy · w, where dy has the shape of the variable, or is a single number."""
    for name, dy in {"dy" if scene.dy.size > 1 else "": scene.dy, **scene.upstream}.items():
        if _broadcasts_to(dy.shape, shape):
            for text, w, cost in weights:
                if _broadcasts_to(w.shape, shape):
                    yield _times(name, text) or "1", np.broadcast_to(dy * w, shape), cost + 1


def _across(scene: Scene, shape: Shape) -> Iterator[Named]:
    """u · Σ (dy · w) over some axes: where each element acts on all of its row, or channel."""
    y, dy = scene.y, scene.dy
    if y.shape != shape or y.ndim < 2:
        return
    every = scene.fields | scene.local
    fields = {n: f for n, f in every.items() if f.shape == shape}
    vectors = {n: f for n, f in every.items() if f.shape != shape and f.size > 1 and _broadcasts_to(f.shape, shape)}
    inner: list[Named] = [("", np.ones(()), 0.0), *((n, f, 1.0) for n, f in (fields | vectors).items())]
    outer = list(inner)
    for n, f in fields.items():
        outer.append((f"(1 − {n})", 1 - f, 1.8))
        if n in scene.fields:
            inner.append((f"softmax({n})", softmax(f), 1.6))
            outer += [(f"softmax({n})", softmax(f), 1.6), (f"exp({n})", np.exp(f), 1.5)]
    for m, g in vectors.items():
        outer.append((f"1/{m}", 1 / g, 1.6))
        for n, f in fields.items():
            inner.append((f"{m}·{n}", f * g, 2.2))
            outer += [(f"{n}·{m}", f * g, 2.2), (f"{n}/{m}", f / g, 2.3), (f"{n}/{m}²", f / g**2, 2.5)]
            outer.append((f"{n}/{m}³", f / g**3, 2.6))
    for axes, where in axes_sets(y.ndim):
        if np.prod([y.shape[a] for a in axes]) < 3:  # the sum less an element would be the other element
            continue
        for inside, w, cost in inner:
            total = (dy * w).sum(axis=axes, keepdims=True)
            for outside, u, more in outer:
                text = _times(outside, f"Σ {_times('dy', inside, tight=True)}{where}")
                yield text, np.broadcast_to(u * total, shape), 2 + cost + more


def _reduced(scene: Scene, weights: list[Named], shape: Shape) -> Iterator[Named]:
    """Σ (dy · w) down to the shape of the variable, as for a bias, a scale or a slope."""
    y, dy = scene.y, scene.dy
    squeezed = tuple(n for n in shape if n > 1)
    for count in range(1, y.ndim + 1):
        for axes in combinations(range(y.ndim), count):
            if tuple(n for i, n in enumerate(y.shape) if i not in axes and n > 1) != squeezed:
                continue
            where = _over(axes)
            for text, w, cost in weights:
                if _broadcasts_to(w.shape, y.shape):
                    value = (dy * w).sum(axis=axes).reshape(shape)
                    yield f"Σ {_times('dy', text, tight=True)}{where}", value, cost + 1.5
            for name, f in scene.fields.items():  # of another width: its own sum beside
                if f.ndim == y.ndim and f.shape[:-1] == y.shape[:-1] and f.shape != y.shape:
                    value = (dy * f.sum(-1, keepdims=True)).sum(axis=axes).reshape(shape)
                    yield f"Σ (dy · Σ {name}){where}", value, 4.0


def _matrices(scene: Scene, shape: Shape) -> Iterator[Named]:
    """Products with rows of features: xᵀ dy, dy Wᵀ, and those in which a factor, a transpose or a name is wrong."""
    if scene.dy.ndim < 2:
        return
    dy = scene.dy.reshape(-1, scene.dy.shape[-1])
    every = scene.fields | scene.local
    dys: list[Named] = [("dy", dy, 0.0), *_times_derivatives("dy", dy, every)]
    for name, V in every.items():
        if V.ndim == 2 and V.shape[1] == dy.shape[1] and name != "y":
            dh = dy @ V.T
            dys += [(f"(dy {name}ᵀ)", dh, 1.0), *_times_derivatives(f"dy {name}ᵀ", dh, scene.local, 1.0)]
    dys += _through_a_layer(scene, dy)
    squeezed = tuple(n for n in shape if n > 1)
    for text, g, cost in dys:
        if g.shape[1:] == squeezed:
            yield f"Σ {text} over the batch", g.sum(axis=0).reshape(shape), 2 + cost
    if len(shape) < 2:
        return
    arrays = {name: f for name, f in every.items() if f.ndim >= 2}
    for name, f in arrays.items() if len(shape) == 2 else ():
        left = f.reshape(-1, f.shape[-1])
        for text, g, cost in dys if len(left) == len(dy) else ():
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


def _times_derivatives(what: str, d: Array, fields: dict[str, Array], cost: float = 0.0) -> Iterator[Named]:
    """d times what may be the derivative of an activation, of each array that has as many elements."""
    for name, f in fields.items():
        if f.size == d.size and f.shape[-1] == d.shape[-1]:
            h = f.reshape(d.shape)
            yield f"({what}·{name})", d * h, cost + 1.5
            yield f"({what}·(1 − {name}²))", d * (1 - h * h), cost + 1.5
            yield f"({what}·{name}·(1 − {name}))", d * h * (1 - h), cost + 1.5
            yield f"({what}·[{name} > 0])", d * (h > 0), cost + 1.5


def _through_a_layer(scene: Scene, dy: Array) -> Iterator[Named]:
    """dy Vᵀ times the derivative of a hidden layer's activation: y is made of act(x W) V, perhaps with biases."""
    matrices = {name: f for name, f in scene.fields.items() if f.ndim == 2 and name != "y"}
    x = next((f for f in matrices.values() if len(f) == len(dy)), None)
    for (name, V), (first, W) in permutations(matrices.items(), 2):
        if x is None or V.shape[1] != dy.shape[1] or W.shape != (x.shape[1], V.shape[0]):
            continue
        biases = {f" + {b}": f for b, f in scene.fields.items() if f.size == W.shape[1] and f.ndim <= 2}
        for written, b in {"": np.zeros(1), **biases}.items():
            z = x @ W + b.reshape(1, -1)
            s, t, inside = _sigmoid(z), np.tanh(z), f"x {first}{written}"
            derivatives = (
                (f"(1 − tanh²({inside}))", 1 - t * t),
                (f"sigmoid′({inside})", s * (1 - s)),
                (f"[{inside} > 0]", z > 0),
            )
            for text, derivative in derivatives:
                yield f"(dy {name}ᵀ · {text})", dy @ V.T * derivative, 2.6


def _of_the_gradient(scene: Scene, weights: list[Named], shape: Shape) -> Iterator[Named]:
    """w times the true gradient, and its sums."""
    g = scene.true
    for text, w, cost in weights:
        if text and _broadcasts_to(w.shape, shape):
            yield f"{text}{TRUE}", np.broadcast_to(w * g, shape), cost + 1.2
    for count in range(1, g.ndim + 1):
        for axes in combinations(range(g.ndim), count):
            if int(np.prod([g.shape[a] for a in axes])) > 1:
                total = g.sum(axis=axes, keepdims=True)
                yield f"{ALL_OF_TRUE}{_over(axes)}", np.broadcast_to(total, shape), 2.5 + 0.1 * count


def _times(*factors: str, tight: bool = False) -> str:
    return ("·" if tight else " · ").join(f for f in factors if f)


def _over(axes: tuple[int, ...]) -> str:
    return f" over {axes_named(axes)}"


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
    """σ(f), of 0-d arrays, too, which `functions.sigmoid` does not take."""
    return 0.5 * (1 + np.tanh(0.5 * f))


def _fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or m == 1 or n == 1 for m, n in zip(a[::-1], b[::-1], strict=False))


def _broadcasts_to(a: Shape, shape: Shape) -> bool:
    return _fits(a, shape) and np.broadcast_shapes(a, shape) == shape
