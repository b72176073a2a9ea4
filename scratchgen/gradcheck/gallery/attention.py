"""Dropout and attention: what the forward map applied, and the backward forgot."""

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Bug, Case
from scratchgen.gradcheck.gallery.training import both, descend, fit_vectors, vectors
from scratchgen.losses import mse


class Dropout(L.Random):
    """y = x · mask, with the dx that it is given: of dy, the mask, and a function that draws another."""

    def __init__(self, rate: float, dx: Callable[..., Array], seed: int = 0):
        super().__init__(np.random.default_rng(seed))
        self.rate, self.dx = rate, dx

    def mask(self, x: Array) -> Array:
        kept = np.greater_equal(self.draw().random(x.shape), self.rate)
        return kept.astype(x.dtype) / (1 - self.rate)

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        mask = self.mask(x)
        return x * mask, lambda dy: self.dx(dy, mask, self.mask)


def right(dy, mask, draw):
    return dy * mask


def mask_forgotten(dy, mask, draw):
    return dy.copy()


def scale_forgotten(dy, mask, draw):
    return dy * (mask > 0)


def new_mask(dy, mask, draw):
    return dy * draw(dy)


def attention(q, k, v, *, bug):
    """y = softmax(q kᵀ/√d) v, rows (N, T, d)."""
    root = float(np.sqrt(q.shape[-1]))
    s = q @ k.swapaxes(1, 2) / root
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    a = e / e.sum(axis=-1, keepdims=True)

    def backward(dy):
        da = dy @ v.swapaxes(1, 2)
        ds = a * (da - (da * a).sum(axis=-1, keepdims=True))
        if not bug:
            ds = ds / root
        return ds @ k, ds.swapaxes(1, 2) @ q, a.swapaxes(1, 2) @ dy

    return a @ v, backward


def _train_attention(bug: bool) -> list[float]:
    """Sequences of 4: each row learns to be the mean of those that are like it."""
    rng, (x, _) = np.random.default_rng(0), vectors(6, 6)
    x = x.reshape(8, 4, 6)
    t = np.sign(x[..., :1]) * np.ones_like(x)
    projections = [L.Dense(6, 6, rng=rng) for _ in "qkv"]

    def loss() -> tuple[Any, Callable[[], object]]:
        rows, pulls = zip(*(p.forward(x.reshape(-1, 6)) for p in projections), strict=True)
        y, backward = attention(*(r.reshape(x.shape) for r in rows), bug=bug)
        value, dy = mse(y, t)
        return value, lambda: [
            pull(d.reshape(-1, 6).copy(), need_dx=False) for pull, d in zip(pulls, backward(dy), strict=True)
        ]

    return descend(loss, [p for layer in projections for p in layer.parameters()], lr=0.015)


def _dropout(
    name: str,
    title: str,
    *,
    wrong: str,
    symptom: str,
    cause: str,
    dx: Callable[..., Array],
    sources: tuple[str, ...] = (),
) -> Bug:
    def make(rng: np.random.Generator) -> Case:
        return Case(Dropout(0.3, dx), Dropout(0.3, right), (rng.standard_normal((5, 4)),))

    def train(bug: bool) -> list[float]:
        return fit_vectors(Dropout(0.3, dx if bug else right))

    return Bug(name, title, "dx = dy · mask", wrong, symptom, sources, "gradient", cause, make, train)


BUGS = (
    _dropout(
        "dropout-mask-forgotten",
        "Dropout's backward forgets the mask",
        wrong="dx = dy",
        symptom="elements that were dropped learn as well; it trains, with more noise",
        cause=r"mask|dropout|y (is|=|≠) 0",
        dx=mask_forgotten,
    ),
    _dropout(
        "dropout-scale-forgotten",
        "Dropout's backward forgets the scale",
        wrong="dx = dy · [mask > 0]",
        symptom="layers below learn more slowly, by 1 − rate",
        cause=r"\brate\b|\bscales?\b|1 ?/ ?\(1|mask",
        dx=scale_forgotten,
    ),
    _dropout(
        "dropout-new-mask",
        "Dropout's backward draws a mask anew",
        wrong="dx = dy · (another mask)",
        symptom="it trains, with noise; a check without a fixed seed fails for right ones, too",
        cause=r"mask|draw|anew",
        dx=new_mask,
    ),
    Bug(
        name="attention-scale-forgotten",
        title="Attention's 1/√d is lost in backward",
        right="ds = a · (da − Σ da·a) / √d,  dq = ds k,  dk = dsᵀ q",
        wrong="ds = a · (da − Σ da·a)",
        symptom="queries and keys take steps that are √d times too large, values right ones",
        sources=(),
        caught_by="gradient",
        cause=r"√|square root|sqrt",
        make=lambda rng: both(attention, *(rng.standard_normal((2, 4, 3)) for _ in "qkv")),
        train=_train_attention,
    ),
)
