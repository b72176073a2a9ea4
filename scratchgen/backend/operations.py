"""The operations of layers, losses and optimizers other than formulas: each goes to where its arrays live.

`reference.py` has each as its formula, `numpy_ops`, `compiled` and `cupy_ops` have the fast versions.
"""

from typing import Any

from scratchgen.backend.arrays import Array, kernels
from scratchgen.backend.formula import Formula
from scratchgen.backend.geometry import Geometry


def matmul(a: Array, b: Array) -> Array:
    """The matrix product: (M, K), (K, N) → (M, N)."""
    return kernels(a).matmul(a, b)


def channel_sum(a: Array) -> Array:
    """Sum over every axis but the last, (..., C) → (C,): the adjoint of adding a bias to every row."""
    return kernels(a).channel_sum(a)


def channel_sums(f: Formula, *arguments: Any) -> tuple[Array, ...]:
    """The channel sum of every term of the formula f, which returns a tuple: (C,) each, in one pass over the
    arrays."""
    return kernels(arguments[0]).channel_sums(f, *arguments)


def sum_with_map(f: Formula, *arguments: Any, over: float = 1) -> Any:
    """For a formula f that returns a tuple: the sum of its first term over all elements, divided by `over`, as a 0-d
    array, and its other terms element by element. A loss and its gradients are one pass over the arrays."""
    return kernels(arguments[0]).sum_with_map(f, *arguments, over=over)


def mean_and_variance(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance over every axis but the last: (..., C) → (C,), (C,)."""
    return kernels(x).mean_and_variance(x)


class Correlation:
    """The map A: x ↦ correlate(x, W), linear in x and in W, with its two adjoints; see `reference.correlate`.

        A(x)                    (N, H, W, C) → (N, OH, OW, O)
        A.adjoint(dy)           its adjoint in x, (N, OH, OW, O) → (N, H, W, C)
        A.adjoint_in_W(x, dy)   its adjoint in W, → (kh, kw, C, O)

    A(x) and A.adjoint_in_W(x, dy) read the same patches of x. Where the backend copies these out, they are kept from
    the first of the two calls to the second, or until this object goes. That is done for one pair of calls: further
    ones, of a second backward, copy anew and keep nothing. `keep_patches=False` is for a W that takes no gradient, so
    that there is but one call.
    """

    def __init__(self, W: Array, geometry: Geometry, *, keep_patches: bool = True):
        self.W, self.geometry = W, geometry
        self._kernels, self._keep = kernels(W), keep_patches
        self._kept: tuple[Array, Array] | None = None  # x and its patches

    def __call__(self, x: Array) -> Array:
        return self._kernels.correlate(self._patches(x), self.W, self.geometry)

    def adjoint(self, dy: Array) -> Array:
        return self._kernels.correlate_adjoint_x(dy, self.W, self.geometry)

    def adjoint_in_W(self, x: Array, dy: Array) -> Array:
        return self._kernels.correlate_adjoint_W(self._patches(x), dy, self.geometry)

    def _patches(self, x: Array) -> Array:
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] is x:
            return kept[1]
        patches: Array = self._kernels.patches(x, self.geometry)
        if self._keep and patches is not x:
            self._kept = x, patches
        self._keep = False
        return patches
