"""How each exercise is proved: at shapes that tell axes apart, and where the usual mistakes hide."""

from typing import Any

import numpy as np

from scratchgen import losses
from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.exercises.prove import Case, contained_proof, drawn, proof
from scratchgen.functions import sigmoid

EXTREME = np.array([[-1e4, -700.0, -30.0], [30.0, 700.0, 1e4]])


# --- layers ---


@contained_proof
def dense(module: Any, rng: np.random.Generator) -> Result:
    layer, x = drawn(module.Dense(3, 4), rng), rng.standard_normal((5, 3))
    return proof(rng, Case(layer, (x,), x @ layer.W.value + layer.b.value, "y = x W + b"))


@contained_proof
def relu(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((5, 4))
    return proof(rng, Case(module.ReLU(), (x,), np.maximum(x, 0), "y = max(x, 0)"))


@contained_proof
def tanh(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((5, 4))
    return proof(rng, Case(module.Tanh(), (x,), np.tanh(x), "y = tanh(x)"))


@contained_proof
def sigmoid_layer(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((5, 4))
    result = proof(rng, Case(module.Sigmoid(), (x,), sigmoid(x), "y = 1 / (1 + e⁻ˣ)"))
    if result.ok:
        _, backward = module.Sigmoid().forward(EXTREME)
        result.faults += _not_finite("dx", backward(np.ones(EXTREME.shape)), EXTREME, "an x")
    return _settled(result)


@contained_proof
def softmax(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((4, 3))
    return proof(rng, Case(module.Softmax(), (x,), _softmax(x), "softmax(x) of every row"))


@contained_proof
def residual(module: Any, rng: np.random.Generator) -> Result:
    layer, x = drawn(module.Residual(4, 3), rng), 0.5 * rng.standard_normal((5, 4))
    y = x + np.tanh(x @ layer.W.value) @ layer.V.value
    return proof(rng, Case(layer, (x,), y, "y = x + tanh(x W) V"))


@contained_proof
def dropout(module: Any, rng: np.random.Generator) -> Result:
    x, kept = rng.standard_normal((5, 4)), rng.permutation(20).reshape(5, 4) >= 6
    return proof(rng, Case(module.Dropout(0.3), (x, kept), np.where(kept, x / 0.7, 0), "y = x / (1 − rate) or 0"))


@contained_proof
def layer_norm(module: Any, rng: np.random.Generator) -> Result:
    return _norm(module.LayerNorm(4), 1, rng)


@contained_proof
def batch_norm(module: Any, rng: np.random.Generator) -> Result:
    return _norm(module.BatchNorm(4), 0, rng)


def _norm(layer: Any, axis: int, rng: np.random.Generator) -> Result:
    layer, x = drawn(layer, rng), 0.7 + 1.5 * rng.standard_normal((5, 4))
    x_hat = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + layer.eps)
    return proof(rng, Case(layer, (x,), layer.gamma.value * x_hat + layer.beta.value, "y = gamma x̂ + beta"))


# --- losses ---


@contained_proof
def mse(module: Any, rng: np.random.Generator) -> Result:
    y, target = rng.standard_normal((2, 5, 3))
    return proof(rng, Case(module.mse, (y, target), losses.mse(y, target)[0], "1/N Σ (y − t)²"))


@contained_proof
def logistic_loss(module: Any, rng: np.random.Generator) -> Result:
    logits, target = rng.standard_normal((5, 3)), rng.random((5, 3))
    loss, _ = losses.bce_with_logits(logits, target)
    result = proof(rng, Case(module.logistic_loss, (logits, target), loss, "1/N Σ [log(1 + eˢ) − t s]"))
    if result.ok:
        s, wrong = EXTREME, (EXTREME < 0).astype(float)
        _, ds = module.logistic_loss(s, wrong)
        result.faults += _not_finite("dlogits", ds, s, "a logit")
        if not result.faults and np.any(np.abs(np.asarray(ds) * len(s)) < 0.5):
            result.faults.append(
                "dlogits is 0 where p is wrong and sure of it, at logits of ±30 and more: it vanishes, or is clipped "
                "away; it is ±1/N there"
            )
    return _settled(result)


@contained_proof
def cross_entropy(module: Any, rng: np.random.Generator) -> Result:
    logits, labels = rng.standard_normal((5, 3)), np.array([2, 0, 2, 1, 2])
    loss, _ = losses.softmax_cross_entropy(logits, labels)
    return proof(rng, Case(module.cross_entropy, (logits, labels), loss, "−1/N Σ log p of the labels"))


@contained_proof
def gaussian_kl(module: Any, rng: np.random.Generator) -> Result:
    mu, logvar = rng.standard_normal((2, 5, 3))
    loss, _, _ = losses.gaussian_kl(mu, logvar)
    return proof(rng, Case(module.gaussian_kl, (mu, logvar), loss, "1/N Σ ½ (mu² + σ² − 1 − logvar)"))


@contained_proof
def reparameterise(module: Any, rng: np.random.Generator) -> Result:
    mu, logvar, eps = rng.standard_normal((3, 5, 4))
    z = mu + np.exp(0.5 * logvar) * eps
    return proof(rng, Case(module.reparameterise, (mu, logvar, eps), z, "z = mu + σ eps with σ = exp(½ logvar)"))


# --- what several share ---


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _not_finite(name: str, gradient: Any, at: Array, where: str) -> list[str]:
    bad = ~np.isfinite(np.broadcast_to(np.asarray(gradient, float), at.shape))
    if not bad.any():
        return []
    return [f"{name} is not finite at {where} of {at[bad][0]:g}: an e to a large power overflows"]


def _settled(result: Result) -> Result:
    result.ok = result.ok and not result.faults
    return result
