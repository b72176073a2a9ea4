"""Pooling: one value for all pixels under a window, of each channel by itself.

A window of `kernel_size` pixels slides over the image. Tap t = (i, j) of it reads, at all its places at once,

    (x_t)_nrqc = x_nabc                        with a = r·s + i − p and b = q·s + j − p

where s is the stride and p the padding of an axis: a slice of the padded image, linear in x. The adjoint of taking a
slice adds to it: dx starts as zeros, and dx_t, what the pooling itself gives to tap t, is added to the same slice of
it. Windows that overlap add up there; what lies in the border belongs to no pixel and goes.

Sizes are an int, or a pair (height, width); the stride is the kernel's size unless it is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from math import inf

import numpy as np

from scratchgen.backend import Array, array_library
from scratchgen.backend.geometry import Geometry
from scratchgen.layers.layer import Layer
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TangentPullback, TwoPullbacks
from scratchgen.layers.window import Size, Window, short


class _Pool2d(Layer):
    """What both share: the window, its taps, and their adjoint."""

    def __init__(self, kernel_size: Size, *, stride: Size | None = None, padding: Size = 0):
        name = type(self).__name__
        self.window = Window(name, kernel_size, kernel_size if stride is None else stride, padding, dilation=1)
        if any(2 * p > k for k, p in zip(self.window.kernel, self.window.padding, strict=True)):
            raise ValueError(f"{name}: padding is {padding}, needs at most half of kernel_size {kernel_size}")

    def geometry(self, H: int, W: int) -> Geometry:
        """Input (H, W) is the large map, output the small one."""
        return self.window.over(H, W, layer=self)

    def taps(self, x: Array, border: float) -> list[Array]:
        """Every x_t, (N, OH, OW, C), as a view; `border` is what the padding holds."""
        self.check_input(x, "N", "H", "W", "C")
        g = self.geometry(*x.shape[1:3])
        if g.padded != g.large:
            padded = array_library(x).full((len(x), *g.padded, x.shape[3]), border, x.dtype)
            padded[:, *g.interior] = x
            x = padded
        return [x[:, rows, columns] for _, _, rows, columns in g.taps()]

    def added(self, dx_t: Iterable[Array], dy: Array, size: tuple[int, int]) -> Array:
        """The adjoint of `taps`: dx (N, H, W, C), the sum of every dx_t, each like dy, where tap t reads."""
        g = self.geometry(*size)
        dx = array_library(dy).zeros((len(dy), *g.padded, dy.shape[3]), dy.dtype)
        for (_, _, rows, columns), part in zip(g.taps(), dx_t, strict=True):
            dx[:, rows, columns] += part
        return dx[:, *g.interior]

    def __repr__(self) -> str:
        w = self.window
        parts = [f"kernel_size={short(w.kernel)}"]
        parts += [f"stride={short(w.stride)}"] * (w.stride != w.kernel)
        parts += [f"padding={short(w.padding)}"] * (w.padding != (0, 0))
        return f"{type(self).__name__}({', '.join(parts)})"


class MaxPool2d(_Pool2d):
    """Max pooling: the largest value under the window.

        y = max_t x_t                              (N, H, W, C) → (N, OH, OW, C)

    OH = ⌊(H + 2·padding − kernel) / stride⌋ + 1, OW alike; padding counts as −∞, so that it never wins. A small step
    of x moves y with the tap that is largest and with no other, ∂y/∂x_t = 1 for that and 0 for the rest:

        dx_t = dy where x_t is the first that equals y, else 0

    Among equal ones y has a kink, and the first is taken, by rows, as PyTorch does: to give dy to each would count it
    twice. ValueError when the window is larger than the padded input or the padding than half the window.

    Chapter: demos/book/04-convolution.md
    """

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        y, won, k = self._largest(x)
        size = x.shape[1:3]
        return y, self.pullback(y, dx=lambda dy: self.added((dy * (won == k - t) for t in range(k)), dy, size))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """u is that element of t which stands where the largest of x does, so dt goes back as dx does. y is piecewise
        linear: no second derivative."""
        self.check_tangent(x, t)
        y, won, k = self._largest(x)
        size = x.shape[1:3]
        first, *others = ((won == k - i) * tap for i, tap in enumerate(self.taps(t, 0)))
        u = sum(others, start=first)
        back = self.tangent_pullback(
            y,
            dx=lambda dy, du: self.added((dy * (won == k - i) for i in range(k)), dy, size),
            dt=lambda dy, du: self.added((du * (won == k - i) for i in range(k)), du, size),
        )
        return y, u, back

    def _largest(self, x: Array) -> tuple[Array, Array, int]:
        """y; for each of its elements k less the index of the tap that gives it; and the number of taps, k."""
        x_t, largest = self.taps(x, -inf), array_library(x).maximum
        y = reduce(largest, x_t)  # (N, OH, OW, C)
        k = len(x_t)
        rank = np.min_scalar_type(k).type  # k for the first tap, 1 for the last, in as few bytes as they need
        return y, reduce(largest, ((tap == y) * rank(k - t) for t, tap in enumerate(x_t))), k

    def predict(self, x: Array) -> Array:
        x_t = self.taps(x, -inf)
        return reduce(array_library(x).maximum, x_t)


class AvgPool2d(_Pool2d):
    """Average pooling: the mean under the window.

        y = (1 / k) Σ_t x_t                        (N, H, W, C) → (N, OH, OW, C),   k taps

    OH = ⌊(H + 2·padding − kernel) / stride⌋ + 1, OW alike; padding counts as zeros, which are averaged too. Each tap
    moves y by 1 / k of its own step, so dx_t = dy / k. ValueError when the window is larger than the padded input or
    the padding than half the window.

    Chapter: demos/book/04-convolution.md
    """

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        x_t, size = self.taps(x, 0), x.shape[1:3]
        k = len(x_t)
        y = sum(x_t[1:], start=x_t[0]) * (1 / k)  # (N, OH, OW, C)
        return y, self.pullback(y, dx=lambda dy: self.added([dy * (1 / k)] * k, dy, size))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """Linear: u is the mean of t under the window, dt_t = du / k."""
        return self.linear_jvp(x, t)
