"""Convolution, its adjoints and upsampling, tap by tap.

A tap (i, j) of the kernel sees the pixels (i + stride·a, j + stride·b) of the padded image: the view `tap`. Then

    y[a, b] = Σ_ij tap_ij[a, b] W[i, j]        dtap_ij += dy W[i, j]ᵀ        dW[i, j] = tap_ijᵀ dy
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from scratchgen import layers as L
from scratchgen.backend import Array
from scratchgen.gradcheck.gallery.bug import Bug, Case
from scratchgen.gradcheck.gallery.training import Map, both, fit_stripes, pair
from scratchgen.layers.parameter import Parameter


class Conv(L.Layer):
    """A convolution of (N, H, W, C) with its backward in two parts, for a bug to be put into either."""

    def __init__(self, c_in: int, c_out: int, rng: np.random.Generator, *, stride: int = 1, padding: Any = (1, 1)):
        self.W = Parameter("W", 0.3 * rng.standard_normal((3, 3, c_in, c_out), np.float32))
        self.stride, self.padding = stride, padding

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        W = self.W.value
        (p, q), (h, w) = self.padding, x.shape[1:3]
        padded = np.pad(x, ((0, 0), (p, p), (q, q), (0, 0)))
        size = [(n - 3) // self.stride + 1 for n in padded.shape[1:3]]
        y = sum((tap @ W[i, j] for (i, j), tap in self.taps(padded, size)))

        def backward(dy):
            for (i, j), tap in self.taps(padded, size):
                self.W.grad[self.place(i, j)] += np.tensordot(tap, dy, ((0, 1, 2), (0, 1, 2)))
            dpadded = np.zeros_like(padded)
            self.spread(dpadded, dy, W, size)
            return self.cropped(dpadded, h, w)

        return y, backward

    def taps(self, image: Array, size: list[int]) -> Iterator[tuple[tuple[int, int], Array]]:
        s, (a, b) = self.stride, size
        for i, j in np.ndindex(3, 3):
            yield (i, j), image[:, i : i + s * a : s, j : j + s * b : s]

    def place(self, i: int, j: int) -> tuple[int, int]:
        return i, j

    def spread(self, dpadded: Array, dy: Array, W: Array, size: list[int]) -> None:
        for (i, j), tap in self.taps(dpadded, size):
            tap += dy @ W[i, j].T

    def cropped(self, dpadded: Array, h: int, w: int) -> Array:
        p, q = self.padding
        return dpadded[:, p : p + h, q : q + w].copy()


class KernelFlipped(Conv):
    def place(self, i, j):
        return 2 - i, 2 - j


class KernelUnflipped(Conv):
    def spread(self, dpadded, dy, W, size):
        for (i, j), tap in self.taps(dpadded, size):
            tap += dy @ W[2 - i, 2 - j].T


class ColumnsOverwrite(Conv):
    def spread(self, dpadded, dy, W, size):
        for (i, j), tap in self.taps(dpadded, size):
            tap[...] = dy @ W[i, j].T


class StrideForgotten(Conv):
    def spread(self, dpadded, dy, W, size):
        a, b = size
        for i, j in np.ndindex(3, 3):
            dpadded[:, i : i + a, j : j + b] += dy @ W[i, j].T


class HeightForWidth(Conv):
    def cropped(self, dpadded, h, w):
        p, _ = self.padding
        return dpadded[:, p : p + h, p : p + w].copy()


class Shifted(Conv):
    def cropped(self, dpadded, h, w):
        p, q = self.padding
        return dpadded[:, p - 1 : p - 1 + h, q : q + w].copy()


class LastRowForgotten(Conv):
    def cropped(self, dpadded, h, w):
        dx = super().cropped(dpadded, h, w)
        dx[:, -1] = 0
        return dx


class HolesStayZero(Conv):
    def cropped(self, dpadded, h, w):
        dx = np.zeros_like(super().cropped(dpadded, h, w))
        dx[:, ::2, ::2] = super().cropped(dpadded, h, w)[:, ::2, ::2]
        return dx


class ConvTranspose(L.Layer):
    """The adjoint of the convolution with this W (k, k, out, in): x W[i, j]ᵀ is added at each tap of y."""

    def __init__(self, c_in: int, c_out: int, rng: np.random.Generator, bug: bool = False, k: int = 4):
        self.W = Parameter("W", 0.3 * rng.standard_normal((k, k, c_out, c_in), np.float32))
        self.bug, self.k = bug, k

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        W = self.W.value
        N, h, w, _ = x.shape
        y = np.zeros((N, 2 * (h - 1) + self.k, 2 * (w - 1) + self.k, W.shape[2]), x.dtype)
        for (i, j), tap in self.taps(y, h, w):
            tap += x @ W[i, j].T

        def backward(dy):
            dx = np.zeros_like(x)
            for (i, j), dtap in self.taps(dy, h, w):
                self.W.grad[i, j] += self.dW(x, dtap)
                dx += self.read(dy, dtap, h, w) @ W[i, j]
            return dx

        return y, backward

    def taps(self, image: Array, h: int, w: int) -> Iterator[tuple[tuple[int, int], Array]]:
        for i, j in np.ndindex(self.k, self.k):
            yield (i, j), image[:, i : i + 2 * h : 2, j : j + 2 * w : 2][:, :h, :w]

    def dW(self, x: Array, dtap: Array) -> Array:
        return np.tensordot(dtap, x, ((0, 1, 2), (0, 1, 2)))

    def read(self, dy: Array, dtap: Array, h: int, w: int) -> Array:
        return dtap


class FirstImageAlone(ConvTranspose):
    def dW(self, x, dtap):
        return super().dW(x[:1], dtap[:1])


class StrideNotRead(ConvTranspose):
    def read(self, dy, dtap, h, w):
        return dy[:, :h, :w]


def upsample(x, *, bug):
    """Each pixel four times; its adjoint adds the four up."""
    N, h, w, C = x.shape
    y = x.repeat(2, axis=1).repeat(2, axis=2)

    def backward(dy):
        return dy[:, ::2, ::2].copy() if bug else dy.reshape(N, h, 2, w, 2, C).sum(axis=(2, 4))

    return y, backward


def _conv(
    layer: type[Conv],
    name: str,
    title: str,
    *,
    right: str,
    wrong: str,
    symptom: str,
    cause: str,
    sources: tuple[str, ...] = (),
    size: int = 108,
    **options: Any,
) -> Bug:
    def make(rng: np.random.Generator) -> Case:
        images = rng.standard_normal((2, 6, 5, 2))
        return pair(lambda bug, rng: (layer if bug else Conv)(2, 3, rng, **options), rng, images)

    def train(bug: bool) -> list[float]:
        return fit_stripes((layer if bug else Conv)(3, 3, np.random.default_rng(0), **options), size=size)

    return Bug(name, title, right, wrong, symptom, sources, "gradient", cause, make, train)


BUGS = (
    _conv(
        KernelFlipped,
        "kernel-flipped-in-dw",
        "The kernel's gradient is flipped",
        right="dW[i, j] = Σ tap_ijᵀ dy",
        wrong="dW[2 − i, 2 − j] = Σ tap_ijᵀ dy",
        symptom="a symmetric kernel hides it",
        cause=r"flip",
    ),
    _conv(
        KernelUnflipped,
        "kernel-unflipped-in-dx",
        "dx is made with the kernel turned by 180° from where it belongs",
        right="dtap_ij += dy W[i, j]ᵀ",
        wrong="dtap_ij += dy W[2 − i, 2 − j]ᵀ",
        symptom="a symmetric kernel hides it. Written with windows of dy, dx takes the kernel flipped; added tap by "
        "tap, as here, W[i, j] goes back to where it came from",
        cause=r"flip",
    ),
    _conv(
        ColumnsOverwrite,
        "columns-overwrite",
        "col2im overwrites where windows overlap",
        right="dtap_ij += dy W[i, j]ᵀ",
        wrong="dtap_ij = dy W[i, j]ᵀ",
        symptom="right where windows do not overlap",
        cause=r"overwrit|assign|\+=|overlap",
    ),
    _conv(
        StrideForgotten,
        "stride-forgotten-in-dx",
        "dx is spread as if the stride were 1",
        right="dx[i + stride·a, j + stride·b] += dy[a, b] W[i, j]ᵀ",
        wrong="dx[i + a, j + b] += dy[a, b] W[i, j]ᵀ",
        symptom="right for a stride of 1; else the far edges get nothing",
        cause=r"strid",
        sources=(
            "https://github.com/Kulbear/deep-learning-coursera/pull/34",
            "https://github.com/enggen/Deep-Learning-Coursera/issues/7",
        ),
        size=27,
        stride=2,
    ),
    _conv(
        HeightForWidth,
        "height-padding-for-width",
        "The width is cropped by the padding of the height",
        right="dx = dpadded[:, p : p + h, q : q + w]",
        wrong="dx = dpadded[:, p : p + h, p : p + w]",
        symptom="right for square padding",
        cause=r"padding|shifted|crop",
        sources=("https://github.com/renmengye/np-conv2d/pull/2",),
        size=72,
        padding=(0, 1),
    ),
    _conv(
        Shifted,
        "dx-shifted",
        "dx is cropped one row too early",
        right="dx = dpadded[:, p : p + h, …]",
        wrong="dx = dpadded[:, p − 1 : p − 1 + h, …]",
        symptom="it trains, as neighbouring pixels are alike",
        cause=r"shifted",
    ),
    _conv(
        LastRowForgotten,
        "last-row-forgotten",
        "dx leaves out the last row",
        right="dx for each row of x",
        wrong="dx = 0 in the last row",
        symptom="it trains, but for the edge",
        cause=r"index 5|last row|dropped",
    ),
    _conv(
        HolesStayZero,
        "holes-stay-zero",
        "dx at every second pixel alone",
        right="dx for each pixel of x",
        wrong="dx[1::2] = dx[:, 1::2] = 0",
        symptom="three quarters of the gradient are lost, and what is left points the right way",
        cause=r"every second|strid|dropped",
    ),
    Bug(
        name="first-image-alone",
        title="A transposed convolution's dW of the first image alone",
        right="dW[i, j] = Σ_n dtap_ijᵀ x",
        wrong="dW[i, j] = dtap_ij[0]ᵀ x[0]",
        symptom="right for a batch of one",
        sources=(),
        caught_by="gradient",
        cause=r"first (image|sample)|(indices|images|samples) 1, 2\b.*(axis 0|dropped)",
        make=lambda rng: pair(
            lambda bug, rng: (FirstImageAlone if bug else ConvTranspose)(2, 3, rng),
            rng,
            rng.standard_normal((3, 3, 4, 2)),
        ),
        train=lambda bug: fit_stripes(
            (FirstImageAlone if bug else ConvTranspose)(3, 3, np.random.default_rng(0)), size=14 * 14 * 3
        ),
    ),
    Bug(
        name="stride-not-read",
        title="A transposed convolution's dx reads dy as if the stride were 1",
        right="dx[a] = dy[2a] W",
        wrong="dx[a] = dy[a] W",
        symptom="for a kernel of 1 and a stride of 2, dx[1] comes from dy[1], which is nobody's",
        sources=("https://github.com/pytorch/pytorch/issues/63314",),
        caught_by="gradient",
        cause=r"strid",
        make=lambda rng: pair(
            lambda bug, rng: (StrideNotRead if bug else ConvTranspose)(2, 3, rng, k=1),
            rng,
            rng.standard_normal((2, 4, 3, 2)),
        ),
        train=lambda bug: fit_stripes(
            (StrideNotRead if bug else ConvTranspose)(3, 3, np.random.default_rng(0), k=1), size=11 * 11 * 3
        ),
    ),
    Bug(
        name="upsampling-keeps-one",
        title="Upsampling's backward keeps one of four gradients",
        right="dx = Σ of dy over each block of 2×2",
        wrong="dx = dy[:, ::2, ::2]",
        symptom="three quarters of the gradient are lost",
        sources=(),
        caught_by="gradient",
        cause=r"\bblock|of (the )?four|copies|only the first of them",
        make=lambda rng: both(upsample, rng.standard_normal((2, 3, 4, 2))),
        train=lambda bug: fit_stripes(Map(upsample, bug), size=12 * 12 * 3),
    ),
)
