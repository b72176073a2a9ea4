"""The operations of layers, losses and optimizers other than formulas: each goes to where its arrays live.

`reference.py` has each as its formula, `numpy_ops` and `cupy_ops` have the fast versions.
"""

from scratchgen.backend.arrays import kernels


def matmul(a, b):
    """The matrix product: (M, K), (K, N) → (M, N)."""
    return kernels(a).matmul(a, b)


def channel_sum(a):
    """Sum over every axis but the last, (..., C) → (C,): the adjoint of adding a bias to every row."""
    return kernels(a).channel_sum(a)


def channel_sums(f, *arguments):
    """The channel sum of every term of the formula f, which returns a tuple: (C,) each, in one pass over the
    arrays."""
    return kernels(arguments[0]).channel_sums(f, *arguments)


def sum_with_map(f, *arguments, over: float = 1):
    """For a formula f that returns a tuple: the sum of its first term over all elements, divided by `over`, as a 0-d
    array, and its other terms element by element. A loss and its gradients are one pass over the arrays."""
    return kernels(arguments[0]).sum_with_map(f, *arguments, over=over)


def mean_and_variance(x):
    """Mean and biased variance over every axis but the last: (..., C) → (C,), (C,)."""
    return kernels(x).mean_and_variance(x)


class Correlation:
    """The map A: x ↦ correlate(x, W), linear in x and in W, with its two adjoints; see `reference.correlate`.

        A(x)                    (N, H, W, C) → (N, OH, OW, O)
        A.adjoint(dy)           its adjoint in x, (N, OH, OW, O) → (N, H, W, C)
        A.adjoint_in_W(x, dy)   its adjoint in W, → (kh, kw, C, O)

    A(x) and A.adjoint_in_W(x, dy) read the same patches of x. Where the backend copies these out it does so once:
    they are kept from the first of the two calls to the second, or until this object goes; not where W is frozen, and
    there will be no second.
    """

    def __init__(self, W, geometry, *, keep_patches: bool = True):
        self.W, self.geometry, self.keep_patches = W, geometry, keep_patches
        self._kernels, self._kept = kernels(W), None

    def __call__(self, x):
        return self._kernels.correlate(self._patches(x), self.W, self.geometry)

    def adjoint(self, dy):
        return self._kernels.correlate_adjoint_x(dy, self.W, self.geometry)

    def adjoint_in_W(self, x, dy):
        return self._kernels.correlate_adjoint_W(self._patches(x), dy, self.geometry)

    def _patches(self, x):
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] is x:
            return kept[1]
        patches = self._kernels.patches(x, self.geometry)
        if patches is not x and self.keep_patches:
            self._kept = x, patches
        return patches
