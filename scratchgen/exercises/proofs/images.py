"""The proofs of layers on images."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from scratchgen import layers
from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.exercises.prove import Case, Gradients, Known, contained_proof, drawn, proof


@contained_proof
def upsample(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((2, 3, 4, 2))
    N, H, W, C = x.shape

    def known(dy: Array, given: Gradients) -> Known:
        blocks = dy.reshape(N, H, 2, W, 2, C)
        return {
            "only one of the four pixels of a block sends its dy, three quarters are dropped: dx is the sum over the "
            "block": {"dx": dy[:, ::2, ::2]},
            "half of each block is dropped: sum along its columns, axis 2 of y, too": {
                "dx": blocks[:, :, :, :, 0].sum(axis=2)
            },
            "half of each block is dropped: sum along its rows, axis 1 of y, too": {
                "dx": blocks[:, :, 0].sum(axis=3)
            },
            "dy is added up in the wrong order: as (N, 2, H, 2, W, C) it falls into halves of the image; the pixels "
            "of a block lie side by side, (N, H, 2, W, 2, C)": {"dx": dy.reshape(N, 2, H, 2, W, C).sum(axis=(1, 3))},
        }

    y = x.repeat(2, axis=1).repeat(2, axis=2)
    return proof(rng, Case(module.Upsample(), (x,), y, "each pixel of x as a block of 2 × 2", known))


# --- convolutions, with a kernel that is higher than wide, and images that are wider than high ---

CONVOLUTIONS = ((2, 1), (1, 0))  # stride, padding
SHIFTED = "it is shifted by the padding: of dy_pad, p rows and columns of zeros lie on each side, not all {}"
FIRST_IMAGE = "only the first image of the batch is in it: sum over all of them"


@contained_proof
def conv2d(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((2, 5, 6, 2))

    def case(s: int, p: int) -> Case:
        layer = drawn(module.Conv2d(2, 3, (3, 2), s, p), rng)
        W, b = layer.W.value, layer.b.value
        x_pad = _padded(x, p, p)
        y = _predicted(layers.Conv2d(2, 3, (3, 2), stride=s, padding=p), W, b, x)
        (kh, kw), (height, width), small = W.shape[:2], x.shape[1:3], y.shape[1:3]

        def known(dy: Array, given: Gradients) -> Known:
            without_stride, dW = np.zeros_like(x_pad), np.zeros_like(W)
            for i, j in product(range(kh), range(kw)):
                without_stride[_tap(i, j, 1, *small)] += dy @ W[i, j].T
                dW[i, j] = _summed(x_pad[_tap(i, j, s, *small)][:1], dy[:1])
            return {
                "the stride is ignored: dy at place r goes back to pixel r · stride + i": {
                    "dx": without_stride[:, p : p + height, p : p + width]
                },
                FIRST_IMAGE: {"W.grad": dW},
            }

        return Case(
            layer,
            (x,),
            y,
            f"the formula of the docstring, with stride {s} and padding {p}",
            known,
            settings=_window((3, 2), s, p),
        )

    return proof(rng, *(case(s, p) for s, p in CONVOLUTIONS))


@contained_proof
def conv_transpose2d(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((2, 3, 4, 2))

    def case(s: int, p: int) -> Case:
        layer = drawn(module.ConvTranspose2d(2, 3, (3, 2), s, p), rng)
        W, b = layer.W.value, layer.b.value
        y = _predicted(layers.ConvTranspose2d(2, 3, (3, 2), stride=s, padding=p), W, b, x)
        (kh, kw), size = W.shape[:2], x.shape[1:3]

        def by(dy_pad: Array, step: int, x: Array = x) -> Gradients:
            dx, dW = np.zeros((len(dy_pad), *x.shape[1:])), np.zeros_like(W)
            for i, j in product(range(kh), range(kw)):
                there = dy_pad[_tap(i, j, step, *size)]
                dx += there @ W[i, j]
                dW[i, j] = _summed(there[: len(x)], x)
            return {"dx": dx, "W.grad": dW}

        def known(dy: Array, given: Gradients) -> Known:
            dy_pad = _padded(dy, p, p)
            ignored = "the stride is ignored: pixel r of x reads dy at r · stride + i"
            return {
                ignored: by(dy_pad, 1),
                FIRST_IMAGE: {"W.grad": by(dy_pad[:1], s, x[:1])["W.grad"]},
                SHIFTED.format("behind"): by(_padded(dy, 0, 2 * p), s),
                SHIFTED.format("in front"): by(_padded(dy, 2 * p, 0), s),
            }

        return Case(
            layer,
            (x,),
            y,
            f"the formula of the docstring, with stride {s} and padding {p}",
            known,
            settings=_window((3, 2), s, p),
        )

    return proof(rng, *(case(s, p) for s, p in CONVOLUTIONS))


def _window(kernel: int | tuple[int, int], stride: int, padding: int | None = None) -> str:
    """The settings of a layer, for the head of its table."""
    return f"kernel {kernel}, stride {stride}" + (f", padding {padding}" if padding is not None else "")


def _predicted(layer: Any, W: Array, b: Array, x: Array) -> Array:
    layer.astype(np.float64)
    layer.W.value, layer.b.value = W, b
    return layer.predict(x)


def _padded(x: Array, before: int, after: int) -> Array:
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))


def _tap(i: int, j: int, s: int, H: int, W: int) -> tuple[slice, slice, slice]:
    return slice(None), slice(i, i + s * H, s), slice(j, j + s * W, s)


def _summed(a: Array, b: Array) -> Array:
    return np.tensordot(a, b, ((0, 1, 2), (0, 1, 2)))


# --- pooling: windows that overlap, and windows that leave pixels over ---

WINDOWS = ((3, 2), (2, 3))  # size, stride


@contained_proof
def max_pool(module: Any, rng: np.random.Generator) -> Result:
    result = _pool(module.MaxPool2d, layers.MaxPool2d, _first_of_largest, rng)
    if result.ok or "right at the values given" in " ".join(result.faults):
        n = 2 * 6 * 5 * 2
        close = rng.permutation(n) * 1e-5, "where pixels of a window are not equally large, but nearly,"
        ties = rng.integers(0, 2, n) * 1.0, "where pixels of a window are equally large, a tie,"
        for x, where in (close, ties):
            y, backward = module.MaxPool2d(3, 2).forward(x.reshape(2, 6, 5, 2))
            total = float(np.sum(backward(np.ones(y.shape))))
            if total > y.size + 0.5 and not ("tie" in where and "with ties" in " ".join(result.faults)):
                result.add(
                    [
                        f"{where} each of them gets dy: Σ dx is {total:g} and Σ dy is {y.size}; one of "
                        "them gets it, or they share it"
                    ]
                )
                break
    return result


@contained_proof
def average_pool(module: Any, rng: np.random.Generator) -> Result:
    return _pool(
        module.AvgPool2d, layers.AvgPool2d, lambda window: np.full(window.shape, 1 / window[0, ..., 0].size), rng
    )


def _first_of_largest(window: Array) -> Array:
    """1 at the first of the largest pixels of each window, and 0 elsewhere."""
    flat = window.reshape(len(window), -1, window.shape[3])
    first = flat.argmax(axis=1)[:, None] == np.arange(flat.shape[1])[:, None]
    return first.reshape(window.shape).astype(float)


def _pool(cls: Callable, model: Callable, share: Callable[[Array], Array], rng: np.random.Generator) -> Result:
    """`share` gives the share of each pixel of a window (N, k, k, C) in its dy."""
    x = rng.standard_normal((2, 6, 5, 2))

    def case(k: int, s: int) -> Case:
        y = model(k, stride=s).predict(x)
        OH, OW = y.shape[1:3]

        def dx(dy: Array, *, at: int = s, windows: tuple[int, int] = (OH, OW), add: bool = True) -> Array:
            dx = np.zeros_like(x)
            for r, q in product(range(windows[0]), range(windows[1])):
                shares = share(x[:, r * s : r * s + k, q * s : q * s + k])
                there = dx[:, r * at : r * at + k, q * at : q * at + k]
                if there.shape == shares.shape:
                    part = dy[:, r : r + 1, q : q + 1] * shares
                    there[...] = there + part if add else np.where(shares > 0, part, there)
            return dx

        def known(dy: Array, given: Gradients) -> Known:
            only = "only the first {} gets a gradient, and the rest is zero: does backward return inside its loop?"
            found: Known = {
                "where windows overlap the last one overwrites what others gave: = stands for +=": {
                    "dx": dx(dy, add=False)
                },
                only.format("window"): {"dx": dx(dy, windows=(1, 1))},
                only.format("row of windows"): {"dx": dx(dy, windows=(1, OW))},
                "the stride is ignored: the window at place r begins at pixel r · stride": {"dx": dx(dy, at=1)},
            }
            leak = np.argwhere((dx(np.ones_like(dy)) == 0) & (given.get("dx", 0) != 0))
            if len(leak):
                at = tuple(map(int, leak[0]))
                found[f"a pixel that is not the largest under any window gets a gradient: dx at {at}"] = given
            return found

        return Case(
            cls(k, s),
            (x,),
            y,
            f"the formula of the docstring, with k = {k} and s = {s}",
            known,
            settings=_window(k, s),
        )

    return proof(rng, *(case(k, s) for k, s in WINDOWS))
