"""Pooling: which element of a window gets dy."""

import numpy as np

from scratchgen import layers as L
from scratchgen.gradcheck.gallery.bug import Bug
from scratchgen.gradcheck.gallery.convolution import upsample
from scratchgen.gradcheck.gallery.training import Map, both, fit_stripes

# Windows of 2×2 side by side: x as (N, H/2, 2, W/2, 2, C), where axes 2 and 4 go over a window.


def windows(x):
    N, H, W, C = x.shape
    return x.reshape(N, H // 2, 2, W // 2, 2, C)


def max_pool_ties(x, *, bug):
    w = windows(x)
    y = w.max(axis=(2, 4), keepdims=True)
    largest = (w == y).astype(x.dtype)
    share = largest if bug else largest / largest.sum(axis=(2, 4), keepdims=True)
    return y[:, :, 0, :, 0], lambda dy: (dy[:, :, None, :, None] * share).reshape(x.shape)


def max_pool_nearly(x, *, bug):
    w = windows(x)
    y = w.max(axis=(2, 4), keepdims=True)
    largest = (np.abs(w - y) < 0.01 if bug else w == y).astype(x.dtype)
    share = largest if bug else largest / largest.sum(axis=(2, 4), keepdims=True)
    return y[:, :, 0, :, 0], lambda dy: (dy[:, :, None, :, None] * share).reshape(x.shape)


def max_pool_returns_early(x, *, bug):
    _, H, W, _ = x.shape
    w = windows(x)
    y = w.max(axis=(2, 4), keepdims=True)
    largest = (w == y).astype(x.dtype)
    largest /= largest.sum(axis=(2, 4), keepdims=True)

    def backward(dy):
        dx = np.zeros_like(w)
        for a in range(H // 2):
            for b in range(W // 2):
                dx[:, a, :, b] = largest[:, a, :, b] * dy[:, a, None, b, None]
                if bug:
                    return dx.reshape(x.shape)
        return dx.reshape(x.shape)

    return y[:, :, 0, :, 0], backward


def average_pool(x, *, bug):
    def backward(dy):
        each = dy if bug else dy / 4
        return each.repeat(2, axis=1).repeat(2, axis=2)

    return windows(x).mean(axis=(2, 4)), backward


def max_pool_overlapping(x, *, bug):
    """Windows of 2×2, one at each pixel."""
    taps = [np.s_[:, i : x.shape[1] - 1 + i, j : x.shape[2] - 1 + j] for i, j in np.ndindex(2, 2)]
    y = np.max([x[tap] for tap in taps], axis=0)
    ties = sum((x[tap] == y).astype(x.dtype) for tap in taps)

    def backward(dy):
        dx = np.zeros_like(x)
        for tap in taps:
            won = x[tap] == y
            if bug:
                dx[tap] = np.where(won, dy / ties, dx[tap])
            else:
                dx[tap] += won * dy / ties
        return dx

    return y, backward


def _images(rng):
    return rng.standard_normal((2, 4, 6, 2))


def _close(rng):
    """Images in which each pixel has a neighbour that is 0.004 larger."""
    x = rng.standard_normal((2, 4, 3, 2)).repeat(2, axis=2)
    x[:, :, 1::2] += 0.004
    return x


def _train_on_ties(bug):
    """Behind an upsampling, which makes all four elements of a window equal."""
    return fit_stripes(L.Sequential(Map(upsample, False), Map(max_pool_ties, bug)), size=108)


BUGS = (
    Bug(
        name="max-pool-ties",
        title="Max pooling gives dy to every element that equals the largest",
        right="dx = dy · [x = max] / (how many are equal)",
        wrong="dx = dy · [x = max]",
        symptom="Σ dx ≠ Σ dy where elements are equal, as in images with a black ground; (1, 1) is no subgradient",
        sources=("https://github.com/Theano/Theano/issues/4568",),
        caught_by="gradient",
        cause=r"equal (inputs|elements)|\btie",
        make=lambda rng: both(max_pool_ties, _images(rng)),
        train=_train_on_ties,
    ),
    Bug(
        name="max-pool-nearly-equal",
        title="Max pooling gives dy to every element within 0.01 of the largest",
        right="dx = dy · [x = max]",
        wrong="dx = dy · [|x − max| < 0.01]",
        symptom="a leak to the neighbours of the maximum; rare in what is drawn at random",
        sources=("https://github.com/mni-ml/framework/pull/22",),
        caught_by="gradient",
        cause=r"\btie|largest|maxim|threshold|toleran|(equals|is|gets?) dy\b|neighbour",
        make=lambda rng: both(max_pool_nearly, _close(rng)),
        train=lambda bug: fit_stripes(Map(max_pool_nearly, bug), size=27),
    ),
    Bug(
        name="max-pool-returns-early",
        title="Max pooling returns inside of its loop",
        right="dx for every window",
        wrong="dx for the first window, 0 for the others",
        symptom="it still converges: the layers above learn",
        sources=("https://github.com/riccardoandreoni0/CNN-from-scratch/issues/1",),
        caught_by="gradient",
        cause=r"first window|loop|only (the first|at|from)",
        make=lambda rng: both(max_pool_returns_early, _images(rng)),
        train=lambda bug: fit_stripes(Map(max_pool_returns_early, bug), size=27),
    ),
    Bug(
        name="overlapping-windows-assign",
        title="Windows that overlap assign dx instead of adding to it",
        right="dx[tap] += dy · [x = max]",
        wrong="dx[tap] = dy · [x = max]",
        symptom="right where windows do not overlap",
        sources=(),
        caught_by="gradient",
        cause=r"overwrit|assign|\+=|overlap",
        make=lambda rng: both(max_pool_overlapping, _images(rng)),
        train=lambda bug: fit_stripes(Map(max_pool_overlapping, bug), size=75),
    ),
    Bug(
        name="kernel-area-forgotten",
        title="Average pooling's dx is not divided by the kernel area",
        right="dx = dy / 4",
        wrong="dx = dy",
        symptom="layers below take steps that are 4 times too large",
        sources=(),
        caught_by="gradient",
        cause=r"kernel area|of a window|number of (inputs of an output|elements that)",
        make=lambda rng: both(average_pool, _images(rng)),
        train=lambda bug: fit_stripes(Map(average_pool, bug), size=27),
    ),
)
