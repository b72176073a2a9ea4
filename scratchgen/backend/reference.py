"""Every kernel written as its formula: what a student reads, and what the fast versions are tested against.

A convolution is a Dense layer on patches. `im2col` copies them out of x, which is first embedded in zeros; `col2im`
is its adjoint, with the same slices: a pixel that was copied into several patches gets the sum of their gradients
(the adjoint of a copy is a sum; so is `channel_sum`, for a bias copied to every row), and the border is cut off. With
cols = im2col(x) as the matrix (N·OH·OW, kh·kw·C) and W as the matrix (kh·kw·C, O), the map and its two adjoints are

    correlate            y  = im2col(x) @ W
    correlate_adjoint_x  dx = col2im(dy @ Wᵀ)        ⟨dy, correlate(x, W)⟩ = ⟨dx, x⟩
    correlate_adjoint_W  dW = im2col(x)ᵀ @ dy                               = ⟨dW, W⟩
"""

from typing import Any

from scratchgen.backend.arrays import Array, Arrays, array_library
from scratchgen.backend.formula import Formula, formula
from scratchgen.backend.geometry import Geometry


def im2col(x: Array, geometry: Geometry) -> Array:
    """The patch under the window at every output pixel: (N, H, W, C) → (N, OH, OW, kh, kw, C)."""
    xp = array_library(x)
    N, _, _, C = x.shape
    padded = xp.zeros((N, *geometry.padded, C), x.dtype)
    padded[:, *geometry.interior] = x
    cols = xp.empty((N, *geometry.small, *geometry.kernel, C), x.dtype)
    for i, j, rows, columns in geometry.taps():
        cols[:, :, :, i, j] = padded[:, rows, columns]
    return cols


def col2im(cols: Array, geometry: Geometry) -> Array:
    """Adjoint of `im2col`: adds every patch back where it came from, (N, OH, OW, kh, kw, C) → (N, H, W, C)."""
    xp = array_library(cols)
    N, C = cols.shape[0], cols.shape[-1]
    padded = xp.zeros((N, *geometry.padded, C), cols.dtype)
    for i, j, rows, columns in geometry.taps():
        padded[:, rows, columns] += cols[:, :, :, i, j]
    return padded[:, *geometry.interior]


def patches(x: Array, geometry: Geometry) -> Array:
    """What correlate and correlate_adjoint_W may be given in x's place, made once to serve both; here x itself."""
    return x


def correlate(x: Array, W: Array, geometry: Geometry) -> Array:
    """y[n, r, q, o] = Σ_ijc x[n, r·s + i·d − p, q·s + j·d − p, c] · W[i, j, c, o]; (N, H, W, C) → (N, OH, OW, O)."""
    kh, kw, C, O = W.shape
    cols = im2col(x, geometry).reshape(-1, kh * kw * C)
    y = cols @ W.reshape(kh * kw * C, O)
    return y.reshape(len(x), *geometry.small, O)


def correlate_adjoint_x(dy: Array, W: Array, geometry: Geometry) -> Array:
    """Adjoint of x ↦ correlate(x, W), (N, OH, OW, O) → (N, H, W, C): also known as fractional-stride convolution."""
    kh, kw, C, O = W.shape
    dcols = dy.reshape(-1, O) @ W.reshape(kh * kw * C, O).T
    return col2im(dcols.reshape(len(dy), *geometry.small, kh, kw, C), geometry)


def correlate_adjoint_W(x: Array, dy: Array, geometry: Geometry) -> Array:
    """Adjoint of W ↦ correlate(x, W): (N, H, W, C), (N, OH, OW, O) → (kh, kw, C, O)."""
    kh, kw = geometry.kernel
    C, O = x.shape[-1], dy.shape[-1]
    cols = im2col(x, geometry).reshape(-1, kh * kw * C)
    return (cols.T @ dy.reshape(-1, O)).reshape(kh, kw, C, O)


def matmul(a: Array, b: Array) -> Array:
    """The matrix product, (M, K), (K, N) → (M, N)."""
    return a @ b


def elementwise(f: Formula, *arguments: Any) -> Array:
    """f(*arguments) for a formula f: an array of the first argument's shape; see `backend.formula`."""
    return f.function(*arguments)


def channel_sum(a: Array) -> Array:
    """Sum over every axis but the last, (..., C) → (C,): the adjoint of adding a bias to every row."""
    return a.reshape(-1, a.shape[-1]).sum(axis=0)


def channel_sums(f: Formula, *arguments: Any) -> tuple[Array, ...]:
    """The channel_sum of every term of the formula f, which returns a tuple."""
    return tuple(channel_sum(term) for term in f.function(*arguments))


def sum_with_map(f: Formula, *arguments: Any, over: float = 1) -> tuple[Array, ...]:
    """The sum of all elements of the first term of the formula f, divided by `over`, and its other terms as they
    are."""
    term, *others = f.function(*arguments)
    return term.sum() / over, *others


@formula
def itself(a: Array) -> tuple[Array]:
    """The formula that changes nothing, as a tuple."""
    return (a,)


def square_sums(arrays: Arrays) -> Array:
    """Σ a² of each array in the list: (len(arrays),)."""
    xp = array_library(arrays[0])
    return xp.stack([xp.dot(a, a) for a in (a.reshape(-1) for a in arrays)])


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over every axis but the last, (..., C) → (C,), (C,)."""
    m = x.size // x.shape[-1]
    mu = channel_sum(x) / m
    return mu, channel_sum((x - mu) ** 2) / m


def adam(
    values: Arrays, grads: Arrays, ms: Arrays, vs: Arrays, lr: float, beta1: float, beta2: float, eps: float, t: int
) -> list[Array]:
    """Every parameter after Adam's step t (from 1); the moments ms and vs are updated in place.

    m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  value − lr · m̂ / (√v̂ + ε) with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).
    (Kingma & Ba 2015, Algorithm 1.)
    """
    results = []
    for value, grad, m, v in zip(values, grads, ms, vs, strict=True):
        m[...] = beta1 * m + (1 - beta1) * grad
        v[...] = beta2 * v + (1 - beta2) * grad * grad
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        results.append(value - lr * m_hat / (v_hat**0.5 + eps))
    return results
