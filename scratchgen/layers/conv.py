"""Convolution and transposed convolution: one bilinear map, used in opposite directions.

    (A x)_nrqo = Σ_ijc x_nabc W_ijco           with a = r·s + i·d − p and b = q·s + j·d − p

Here s is the stride, d the dilation and p the padding of an axis, and x is 0 outside of the image. (As is usual, the
kernel is not flipped: strictly it is a correlation.) For fixed W that is linear in x, for fixed x linear in W, so the
pullback in each is the adjoint in it: the coefficients of x, and of W, in ⟨dy, A x⟩ = Σ dy_nrqo x_nabc W_ijco,

    (A* dy)_nabc      = Σ dy_nrqo W_ijco       over all r, q, i, j, o with r·s + i·d − p = a and q·s + j·d − p = b
    A*_W(x, dy)_ijco  = Σ_nrq x_nabc dy_nrqo

                Conv2d              ConvTranspose2d
    forward     y  = A x + b        y  = A* x + b
    dx          A* dy               A dy
    dW          A*_W(x, dy)         A*_W(dy, x)
    db          Σ_nrq dy            Σ_nab dy

On the right ⟨dy, A* x⟩ = ⟨A dy, x⟩, so dx = A dy; as a function of W that is ⟨x, A dy⟩ = ⟨A*_W(dy, x), W⟩, so dW is
that of a convolution with dy for its input and x for its gradient. Both are Dense on patches: `backend.reference`.

Sizes are an int, or a pair (height, width).
(Dumoulin & Visin 2016, A guide to convolution arithmetic for deep learning.)
"""

from __future__ import annotations

import numpy as np

from scratchgen import checks, init
from scratchgen.backend import Array, Correlation, channel_sum
from scratchgen.backend.geometry import Geometry, transposed_size
from scratchgen.layers.layer import Layer
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TwoPullbacks
from scratchgen.layers.window import Size, Window, pair, short


class Conv2d(Layer):
    """Convolution: each output pixel is a Dense layer on the patch of input under the kernel.

        y = A x + b                               (N, H, W, in) → (N, OH, OW, out)

    OH = ⌊(H + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1, OW alike. `W (kh, kw, in, out)` starts
    Glorot-uniform from `rng`, `b (out,)` at 0. ValueError when the kernel is larger than the padded input.

    Chapter: demos/book/04-convolution.md
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        rng: np.random.Generator | None = None,
    ):
        self.window = Window("Conv2d", kernel_size, stride, padding, dilation)
        self.in_channels = checks.integer("Conv2d", "in_channels", in_channels)
        self.out_channels = checks.integer("Conv2d", "out_channels", out_channels)
        # An output sums over all taps of the kernel; there is a window for every `stride_area` pixels, so an input is
        # under taps / stride_area of them.
        self.fans = (
            self.in_channels * self.window.taps,
            self.out_channels * self.window.taps / self.window.stride_area,
        )
        shape = (*self.window.kernel, self.in_channels, self.out_channels)
        rng = checks.generator("Conv2d", rng)
        self.W = Parameter("W", init.glorot(shape, *self.fans, rng))
        self.b = Parameter("b", np.zeros(self.out_channels, np.float32)) if bias else None

    def geometry(self, H: int, W: int) -> Geometry:
        """Input (H, W) is the large map, output the small one."""
        return self.window.over(H, W, layer=self)

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", "H", "W", self.in_channels)
        A = Correlation(self.W.value, self.geometry(*x.shape[1:3]), keep_patches=not self.W.frozen)
        y = A(x)  # (N, OH, OW, out)
        if self.b is not None:
            y += self.b.value
        return y, self.pullback(
            y,
            dx=A.adjoint,  # (N, H, W, in)
            grads={
                self.W: lambda dy: A.adjoint_in_W(x, dy),  # (kh, kw, in, out)
                self.b: channel_sum,  # (out,)
            },
        )

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """u = A t: dx = A* dy, dt = A* du, dW = A*_W(x, dy) + A*_W(t, du), db = Σ dy."""
        return self.linear_jvp(x, t, self.b)

    def __repr__(self) -> str:
        return f"Conv2d({self.in_channels}, {self.out_channels}, {self.window}{_no_bias(self)})"


class ConvTranspose2d(Layer):
    """Transposed (fractional-stride) convolution: each input pixel adds its kernel, scaled, to the output.

        y = A* x + b                              (N, H, W, in) → (N, OH, OW, out)

    OH = (H − 1)·stride − 2·padding + dilation·(kernel − 1) + 1 + output_padding, OW alike: with a stride above 1 a
    Conv2d takes several sizes to one, and output_padding says to which of them this goes back. It is the adjoint of
    the Conv2d from out to in channels that has this W, hence `W (kh, kw, out, in)`; Glorot-uniform from `rng`,
    `b (out,)` at 0. (With an output_padding of the stride or more, which dilation allows, that Conv2d makes more
    pixels, and only the first H×W count.) ValueError unless output_padding is below stride or dilation, or when the
    output would be empty.

    Chapter: demos/book/04-convolution.md
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        rng: np.random.Generator | None = None,
    ):
        self.window = Window("ConvTranspose2d", kernel_size, stride, padding, dilation)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, least=0)
        for extra, s, d in zip(self.output_padding, self.window.stride, self.window.dilation, strict=True):
            if extra >= max(s, d):
                raise ValueError(
                    f"ConvTranspose2d: output_padding is {output_padding}, needs less than stride {s} or dilation {d}"
                )
        self.in_channels = checks.integer("ConvTranspose2d", "in_channels", in_channels)
        self.out_channels = checks.integer("ConvTranspose2d", "out_channels", out_channels)
        # The other way round: an input reaches all taps, an output is reached by taps / stride_area of them.
        self.fans = (
            self.in_channels * self.window.taps / self.window.stride_area,
            self.out_channels * self.window.taps,
        )
        shape = (*self.window.kernel, self.out_channels, self.in_channels)
        rng = checks.generator("ConvTranspose2d", rng)
        self.W = Parameter("W", init.glorot(shape, *self.fans, rng))
        self.b = Parameter("b", np.zeros(self.out_channels, np.float32)) if bias else None

    def geometry(self, H: int, W: int) -> Geometry:
        """Input (H, W) is the small map, output the large one."""
        w = self.window
        OH, OW = map(transposed_size, (H, W), w.kernel, w.stride, w.padding, w.dilation, self.output_padding)
        if min(OH, OW) < 1:
            raise ValueError(f"{self}: x is {H}×{W}, padding leaves an output of {OH}×{OW}; needs 1×1")
        return w.geometry(large=(OH, OW), small=(H, W))

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", "H", "W", self.in_channels)
        A = Correlation(self.W.value, self.geometry(*x.shape[1:3]), keep_patches=not self.W.frozen)
        y = A.adjoint(x)  # (N, OH, OW, out)
        if self.b is not None:
            y += self.b.value
        return y, self.pullback(
            y,
            dx=A,  # (N, H, W, in)
            grads={
                self.W: lambda dy: A.adjoint_in_W(dy, x),  # (kh, kw, out, in)
                self.b: channel_sum,  # (out,)
            },
        )

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """u = A* t: dx = A dy, dt = A du, dW = A*_W(dy, x) + A*_W(du, t), db = Σ dy."""
        return self.linear_jvp(x, t, self.b)

    def __repr__(self) -> str:
        extra = f", output_padding={short(self.output_padding)}" if any(self.output_padding) else ""
        return f"ConvTranspose2d({self.in_channels}, {self.out_channels}, {self.window}{extra}{_no_bias(self)})"


def _no_bias(layer: Conv2d | ConvTranspose2d) -> str:
    return "" if layer.b is not None else ", bias=False"
