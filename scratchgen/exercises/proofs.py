"""How each exercise is proved: at shapes that tell axes apart, and where the usual mistakes hide."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scratchgen import layers, losses
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


@contained_proof
def embedding(module: Any, rng: np.random.Generator) -> Result:
    layer, ids = drawn(module.Embedding(5, 2), rng), np.array([[3, 0, 3, 1], [4, 3, 0, 3], [1, 1, 2, 4]])
    W = layer.W.value

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        last = np.zeros_like(W)
        last[ids] = dy
        yield (
            "W.grad",
            last,
            (
                "of an id that occurs several times only the last dy is added: W.grad[ids] += dy writes each row once; "
                "np.add.at(W.grad, ids, dy) adds all"
            ),
        )
        mean = np.zeros_like(W)
        np.add.at(mean, ids, dy)
        count = np.maximum(np.bincount(ids.ravel(), minlength=len(W)), 1)
        yield (
            "W.grad",
            mean / count[:, None],
            ("each row is divided by how often its id occurs, its count: every occurrence adds its dy in full"),
        )
        moved = np.zeros_like(W)
        np.add.at(moved, (ids + 1) % len(W), dy)
        yield "W.grad", moved, "dy is added to the next row, off by one"

    return proof(rng, Case(layer, (ids,), W[ids], "y = W[ids]", known))


@contained_proof
def upsample(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((2, 3, 4, 2))
    N, H, W, C = x.shape

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        yield (
            "dx",
            dy[:, ::2, ::2],
            (
                "only one of the four pixels of a block gives its dy, three quarters are dropped: dx is the sum over the "
                "block"
            ),
        )
        blocks = dy.reshape(N, H, 2, W, 2, C)
        yield "dx", blocks[:, :, :, :, 0].sum(axis=2), "half of each block is dropped: sum over axis 2 of y, too"
        yield "dx", blocks[:, :, 0].sum(axis=3), "half of each block is dropped: sum over axis 1 of y, too"
        yield (
            "dx",
            dy.reshape(N, 2, H, 2, W, C).sum(axis=(1, 3)),
            (
                "dy is added up in the wrong order: reshape to (N, 2, H, 2, W, C) takes the halves of the image, and the "
                "pixels of a block lie side by side, (N, H, 2, W, 2, C)"
            ),
        )

    y = x.repeat(2, axis=1).repeat(2, axis=2)
    return proof(rng, Case(module.Upsample(), (x,), y, "each pixel of x as a block of 2 × 2", known))


@contained_proof
def conv2d(module: Any, rng: np.random.Generator) -> Result:
    return _conv(module.Conv2d, layers.Conv2d, rng.standard_normal((2, 5, 6, 2)), rng)


@contained_proof
def conv_transpose2d(module: Any, rng: np.random.Generator) -> Result:
    return _conv(module.ConvTranspose2d, layers.ConvTranspose2d, rng.standard_normal((2, 3, 4, 2)), rng)


def _conv(cls: Callable, model: Callable, x: Array, rng: np.random.Generator) -> Result:
    """With a kernel higher than wide, overlapping, at places that leave pixels over; without stride and padding too."""
    cases = []
    for stride, padding in ((2, 1), (1, 0)):
        layer = drawn(cls(2, 3, (3, 2), stride, padding), rng)
        same = model(2, 3, (3, 2), stride=stride, padding=padding).astype(np.float64)
        same.W.value, same.b.value = layer.W.value, layer.b.value
        formula = f"the formula of the docstring, with stride {stride} and padding {padding}"
        cases.append(Case(layer, (x,), same.predict(x), formula))
    return proof(rng, *cases)


@contained_proof
def max_pool(module: Any, rng: np.random.Generator) -> Result:
    return _pool(module.MaxPool2d, layers.MaxPool2d, rng)


@contained_proof
def average_pool(module: Any, rng: np.random.Generator) -> Result:
    return _pool(module.AvgPool2d, layers.AvgPool2d, rng)


def _pool(cls: Callable, model: Callable, rng: np.random.Generator) -> Result:
    """Windows that overlap, and windows that leave pixels over."""
    cases = []
    for k, s in ((3, 2), (2, 3)):
        x = rng.standard_normal((2, 6, 5, 2))
        formula = f"the formula of the docstring, with k = {k} and s = {s}"
        cases.append(Case(cls(k, s), (x,), model(k, stride=s).predict(x), formula))
    return proof(rng, *cases)


@contained_proof
def attention(module: Any, rng: np.random.Generator) -> Result:
    q, k, v = rng.standard_normal((2, 2, 3)), rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 5))
    y = _softmax(q @ k.transpose(0, 2, 1) / np.sqrt(3)) @ v
    return proof(rng, Case(module.attention, (q, k, v), y, "y = softmax(q kᵀ / √d) v"))


@contained_proof
def lstm_cell(module: Any, rng: np.random.Generator) -> Result:
    cell = drawn(module.LSTMCell(3, 2), rng)
    x, h, c = rng.standard_normal((4, 3)), rng.standard_normal((4, 2)), rng.standard_normal((4, 2))
    z_i, z_f, z_o, z_g = np.split(x @ cell.Wx.value + h @ cell.Wh.value + cell.b.value, 4, axis=1)
    c_new = sigmoid(z_f) * c + sigmoid(z_i) * np.tanh(z_g)
    h_new = sigmoid(z_o) * np.tanh(c_new)
    return proof(rng, Case(cell, (x, h, c), (h_new, c_new), "h_new and c_new of the docstring"))


# --- losses ---


@contained_proof
def mse(module: Any, rng: np.random.Generator) -> Result:
    y, target = rng.standard_normal((2, 5, 3))
    return proof(rng, Case(module.mse, (y, target), losses.mse(y, target)[0], "1/N Σ (y − t)²"))


@contained_proof
def logistic_loss(module: Any, rng: np.random.Generator) -> Result:
    logits, target = rng.standard_normal((5, 3)), rng.random((5, 3))
    loss, _ = losses.bce_with_logits(logits, target)

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        p = sigmoid(logits)
        yield (
            "dlogits",
            (p - target) * p * (1 - p) / len(p),
            (
                "a factor σ′ = p (1 − p) is too much, which vanishes where p is sure, right or wrong: it cancels against "
                "the derivative of the logarithm"
            ),
        )

    case = Case(module.logistic_loss, (logits, target), loss, "1/N Σ [log(1 + eˢ) − t s]", known)
    result = proof(rng, case)
    _, ds = module.logistic_loss(EXTREME, (EXTREME < 0).astype(float))
    result.faults += _at_extremes("dlogits", ds, EXTREME, np.ones(EXTREME.shape, bool))
    return _settled(result)


@contained_proof
def cross_entropy(module: Any, rng: np.random.Generator) -> Result:
    logits, labels = rng.standard_normal((5, 3)), np.array([2, 0, 2, 1, 2])
    loss, right = losses.softmax_cross_entropy(logits, labels)

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        p, N = _softmax(logits), len(logits)
        t = np.eye(3)[labels]
        yield "dlogits", p / N, "the term of the label is missing, −1/N at the label of each row"
        yield "dlogits", (p - t) * t / N, "only the logit at the label gets a gradient: the other classes get p / N"
        said = "p − t goes back through softmax a second time: with the logarithm, that is done already"
        yield "dlogits", p * (right - (right * p).sum(axis=1, keepdims=True)), said
        yield "dlogits", p * (1 - p) * right, said

    return proof(rng, Case(module.cross_entropy, (logits, labels), loss, "−1/N Σ log p of the labels", known))


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


@contained_proof
def gan_discriminator(module: Any, rng: np.random.Generator) -> Result:
    loss, real, fake = module.discriminator_loss, rng.standard_normal((6, 1)), rng.standard_normal((4, 1))

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        N, M = len(real), len(fake)
        yield "dreal", sigmoid(real) / N, "it is the gradient for the label 0: real images have the label 1"
        yield (
            "dfake",
            (sigmoid(fake) - 1) / M,
            (
                "it is the gradient for the label 1: generated images are labelled real, and D learns nothing from them"
            ),
        )
        other = "it is divided by the number of {} images: each term is averaged over its own batch"
        yield "dreal", (sigmoid(real) - 1) / M, other.format("generated")
        yield "dfake", sigmoid(fake) / N, other.format("real")

    expected = _softplus(-real).mean() + _softplus(fake).mean()
    result = proof(rng, Case(loss, (real, fake), expected, "1/N Σ log(1 + e^−real) + 1/M Σ log(1 + e^fake)", known))
    s = EXTREME.reshape(-1, 1)
    _, dreal, dfake = loss(s, s)
    result.faults += _at_extremes("dreal", dreal, s, s < 0) + _at_extremes("dfake", dfake, s, s > 0)
    return _settled(result)


@contained_proof
def gan_generator(module: Any, rng: np.random.Generator) -> Result:
    fake = rng.standard_normal((5, 1))

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        p, N = sigmoid(fake), len(fake)
        yield (
            "dfake",
            -p / N,
            ("it is the gradient of the minimax form, log(1 − σ(fake)), which saturates where D is sure"),
        )
        yield (
            "dfake",
            p / N,
            ("it is the discriminator's gradient, for the label 0: G would learn to be recognised as generated"),
        )

    loss = _softplus(-fake).mean()
    result = proof(rng, Case(module.generator_loss, (fake,), loss, "1/N Σ log(1 + e^−fake)", known))
    s = EXTREME.reshape(-1, 1)
    if result.ok:
        result.faults += _at_extremes("dfake", module.generator_loss(s)[1], s, s < 0)
    return _settled(result)


@contained_proof
def vae(module: Any, rng: np.random.Generator) -> Result:
    model, x, eps = module.LinearVAE(4, 2), rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    E, V = 0.5 * rng.standard_normal((4, 4)), rng.standard_normal((2, 4))
    model.E.value, model.V.value = E, V
    N, (mu, logvar) = len(x), np.split(x @ E, 2, axis=1)
    std = np.exp(0.5 * logvar)
    r = (mu + std * eps) @ V - x
    kl, dmu_kl, dlogvar_kl = losses.gaussian_kl(mu, logvar)

    def known(dy: Array) -> Iterator[tuple[str, Array, str]]:
        dz = r @ V.T / N

        def dE(dmu: Array, dlogvar: Array) -> Array:
            return x.T @ np.concatenate([dmu, dlogvar], axis=1)

        yield "E.grad", dE(dz, dz * eps * 0.5 * std), "the KL is in the loss, and missing in the gradient"
        yield (
            "E.grad",
            dE(dmu_kl, dlogvar_kl),
            ("only the KL is in it: mu and logvar move the reconstruction, too, through the sample z"),
        )
        yield (
            "E.grad",
            dE(dz + dmu_kl, dz * eps * std + dlogvar_kl),
            ("a ½ is missing in dlogvar: σ = exp(½ logvar), so ∂σ/∂logvar = ½ σ"),
        )
        yield "E.grad", dE(dz + dmu_kl, dz * 0.5 * std + dlogvar_kl), "the noise eps is missing in dlogvar"
        yield "V.grad", mu.T @ r / N, "it is muᵀ dy: the decoder gets the sample z, not the mean mu"

    loss = 0.5 * (r * r).sum() / N + kl
    return proof(rng, Case(model.loss, (x, eps), loss, "1/N Σ [½ |y − x|² + KL]", known))


# --- what several share ---


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softplus(s: Array) -> Array:
    return np.logaddexp(0, s)


def _not_finite(name: str, gradient: Any, at: Array, where: str) -> list[str]:
    bad = ~np.isfinite(np.broadcast_to(np.asarray(gradient, float), at.shape))
    if not bad.any():
        return []
    return [f"{name} is not finite at {where} of {at[bad][0]:g}: an e to a large power overflows"]


def _at_extremes(name: str, gradient: Any, logits: Array, wrong: Array) -> list[str]:
    """What is wrong at large logits, where the gradient is to be ±1/N for those that are `wrong`."""
    faults = _not_finite(name, gradient, logits, "a logit")
    dead = wrong & (np.abs(np.asarray(gradient)) * len(logits) < 0.5)
    if not faults and np.any(dead):
        faults.append(
            f"{name} is 0 where the logit is {logits[dead][0]:g} and wrong: it is ±1/N there; here it vanishes, or "
            "is clipped away, and nothing is learned from such a sample"
        )
    return faults


def _settled(result: Result) -> Result:
    result.ok = result.ok and not result.faults
    return result
