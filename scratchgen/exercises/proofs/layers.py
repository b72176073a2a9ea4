"""The proofs of layers on vectors and sequences."""

from typing import Any

import numpy as np

from scratchgen import functions
from scratchgen.backend import Array
from scratchgen.exercises.exercise import Result
from scratchgen.exercises.prove import Case, Gradients, Known, contained_proof, drawn, not_finite, proof


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
def logistic(module: Any, rng: np.random.Generator) -> Result:
    x, large = rng.standard_normal((5, 4)), np.array([-1e4, -700.0, 700.0, 1e4])
    result = proof(rng, Case(module.Sigmoid(), (x,), functions.sigmoid(x), "y = 1 / (1 + e⁻ˣ)"))
    if result.ok:
        _, backward = module.Sigmoid().forward(large)
        result.add(not_finite("dx", backward(np.ones(large.shape)), large, "an x"))
    return result


@contained_proof
def softmax(module: Any, rng: np.random.Generator) -> Result:
    x = rng.standard_normal((4, 3))
    return proof(rng, Case(module.Softmax(), (x,), functions.softmax(x), "softmax(x) of every row"))


@contained_proof
def residual(module: Any, rng: np.random.Generator) -> Result:
    layer, x = drawn(module.Residual(4, 3), rng), 0.5 * rng.standard_normal((5, 4))
    W, V = layer.W.value, layer.V.value

    def known(dy: Array, given: Gradients) -> Known:
        da = dy @ V.T
        return {
            "the derivative of tanh, 1 − a², is missing on the way back": {"dx": dy + da @ W.T, "W.grad": x.T @ da},
        }

    return proof(rng, Case(layer, (x,), x + np.tanh(x @ W) @ V, "y = x + tanh(x W) V", known))


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
    """Statistics over this axis of (5, 4)."""
    layer, x = drawn(layer, rng), 0.7 + 1.5 * rng.standard_normal((5, 4))
    gamma, s = layer.gamma.value, 1 / np.sqrt(x.var(axis, keepdims=True) + layer.eps)
    x_hat = (x - x.mean(axis, keepdims=True)) * s
    whose, over = (("column", "N samples"), ("row", "D features"))[axis]

    def known(dy: Array, given: Gradients) -> Known:
        def dx(d: Array, axis: int, count: int = 1) -> Array:
            mean, by_x_hat = d.mean(axis, keepdims=True), (d * x_hat).mean(axis, keepdims=True)
            return s * (d - count * (mean + x_hat * by_x_hat))

        return {
            "gamma is missing: the gradient of x̂ is gamma · dy": {"dx": dx(dy, axis)},
            f"sums stand where means belong: divide them by the {over} of a {whose}": {
                "dx": dx(gamma * dy, axis, x.shape[axis])
            },
            f"the means are taken over axis {1 - axis}: mu and var are those of a {whose}, over axis {axis}": {
                "dx": dx(gamma * dy, 1 - axis)
            },
            "it is Σ dy · x: what gamma multiplies is x̂": {"gamma.grad": (dy * x).sum(axis=0)},
        }

    return proof(rng, Case(layer, (x,), gamma * x_hat + layer.beta.value, "y = gamma x̂ + beta", known))


@contained_proof
def embedding(module: Any, rng: np.random.Generator) -> Result:
    layer, ids = drawn(module.Embedding(5, 2), rng), np.array([[3, 0, 3, 1], [4, 3, 0, 3], [1, 1, 2, 4]])
    W = layer.W.value

    def known(dy: Array, given: Gradients) -> Known:
        last, added, moved = np.zeros((3, *W.shape))
        last[ids] = dy
        np.add.at(added, ids, dy)
        np.add.at(moved, (ids + 1) % len(W), dy)
        count = np.bincount(ids.ravel(), minlength=len(W))[:, None]
        return {
            "of an id that occurs several times only the last dy is in it: W.grad[ids] += dy writes each row once; "
            "np.add.at(W.grad, ids, dy) adds them all": {"W.grad": last},
            "each row is divided by its count, how often its id occurs: every dy is added in full": {
                "W.grad": added / count
            },
            "each dy is added to the next row: off by one": {"W.grad": moved},
        }

    return proof(rng, Case(layer, (ids,), W[ids], "y = W[ids]", known))


@contained_proof
def attention(module: Any, rng: np.random.Generator) -> Result:
    q, k, v = rng.standard_normal((2, 2, 3)), rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 5))
    s = q @ _transposed(k) / np.sqrt(3)
    a = functions.softmax(s)

    def known(dy: Array, given: Gradients) -> Known:
        da = dy @ _transposed(v)

        def by(ds: Array) -> Gradients:
            return {"dq": ds @ k / np.sqrt(3), "dk": _transposed(ds) @ q / np.sqrt(3)}

        return {
            "the derivative of softmax is missing: the gradient of s is not that of a": by(da),
            "softmax is taken for its diagonal, a (1 − a): each score moves all weights of its row, so − a Σ da · a "
            "over the row belongs to it": by(da * a * (1 - a)),
            "the sum of softmax over the row is missing, − a Σ da · a": by(da * a),
            "it is sᵀ dy, made of the scores: y = a v, so it is made of the weights a, after softmax": {
                "dv": _transposed(s) @ dy
            },
        }

    return proof(rng, Case(module.attention, (q, k, v), a @ v, "y = softmax(q kᵀ / √d) v", known))


def _transposed(a: Array) -> Array:
    return a.transpose(0, 2, 1)


@contained_proof
def lstm_cell(module: Any, rng: np.random.Generator) -> Result:
    cell = drawn(module.LSTMCell(3, 2), rng)
    x, h, c = rng.standard_normal((4, 3)), rng.standard_normal((4, 2)), rng.standard_normal((4, 2))
    Wx, Wh = cell.Wx.value, cell.Wh.value
    z_i, z_f, z_o, z_g = np.split(x @ Wx + h @ Wh + cell.b.value, 4, axis=1)
    i, f, o, g = functions.sigmoid(z_i), functions.sigmoid(z_f), functions.sigmoid(z_o), np.tanh(z_g)
    c_new = f * c + i * g
    t = np.tanh(c_new)

    def known(dy: Array, given: Gradients) -> Known:
        dh_new, dc_new = dy.reshape(2, *h.shape)
        through_h = dh_new * o * (1 - t * t)

        def by(dc: Array, slope_g: Array = 1 - g * g, order: tuple[int, ...] = (0, 1, 2, 3)) -> Gradients:
            dz_i, dz_f = dc * g * i * (1 - i), dc * c * f * (1 - f)
            blocks = dz_i, dz_f, dh_new * t * o * (1 - o), dc * i * slope_g
            dz = np.concatenate([blocks[k] for k in order], axis=1)
            return {
                "dx": dz @ Wx.T,
                "dh": dz @ Wh.T,
                "dc": dc * f,
                "Wx.grad": x.T @ dz,
                "Wh.grad": h.T @ dz,
                "b.grad": dz.sum(axis=0),
            }

        dc = dc_new + through_h
        return {
            "the path through h_new is missing: c_new moves h_new = o tanh(c_new), too": by(dc_new),
            "the path of c_new itself is missing: it goes out beside h_new, and gets ∂L/∂c_new": by(through_h),
            "g is treated as a gate: it is a tanh, with the derivative 1 − g²": by(dc, g * (1 - g)),
            "the blocks of z_i and z_f are exchanged": by(dc, order=(1, 0, 2, 3)),
            "the forget gate is missing: c_new = f · c + …, so dc has the factor f": {"dc": dc},
        }

    expected = o * t, c_new
    formula, outputs = "h_new and c_new of the docstring", ("h_new", "c_new")
    return proof(rng, Case(cell, (x, h, c), expected, formula, known, outputs=outputs))
