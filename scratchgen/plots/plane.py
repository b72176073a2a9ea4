"""Points and codes in the plane, a latent plane, and bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scratchgen.plots.curves import DPI, above, dress, plain
from scratchgen.plots.images import image_grid
from scratchgen.plots.style import ACCENT, INK, SECOND, SMALL, TINY, drawn, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAKE, EVEN, REAL = "#f3c3c8", "#ffffff", "#bcd9ea"  # of D's surface: as the points, but pale
SIDE = 5.0  # inches of square axes
DOTS: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2, "markeredgewidth": 0}
LABEL, TICK = 12, 10  # points of letters in these, which are shown small


class Surface(NamedTuple):
    """Values (rows, columns) in [0, 1] over the plane, the first row at the bottom, and where they end."""

    values: NDArray
    extent: tuple[float, float, float, float]  # left, right, bottom, top


def view(points: NDArray) -> tuple[float, float, float, float]:
    """The square to show of points (N, 2): left, right, bottom, top."""
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), reach = (low + high) / 2, 0.65 * max(1e-6, float((high - low).max()))
    return float(x - reach), float(x + reach), float(y - reach), float(y + reach)


@drawn
def scatter(
    generated: NDArray, real: NDArray | None = None, *, surface: Surface | None = None, title: str = ""
) -> Figure:
    """Generated points (N, 2), over real ones where they are given, and over D's probability of being real."""
    from matplotlib.colors import LinearSegmentedColormap

    figure, axes, beside = _square(bar=surface is not None, title=title)
    if surface is not None:
        pale = LinearSegmentedColormap.from_list("pale", [FAKE, EVEN, REAL])
        image = axes.imshow(
            surface.values,
            extent=surface.extent,
            origin="lower",
            cmap=pale,
            vmin=0,
            vmax=1,
            interpolation="bilinear",
            aspect="auto",
        )
        bar = figure.colorbar(image, cax=beside, ticks=(0, 0.25, 0.5, 0.75, 1))
        bar.set_label("D(x), the probability of being real", fontsize=LABEL, color=INK)
        bar.outline.set_visible(False)
        beside.tick_params(labelsize=TICK, colors=INK)
    if real is not None:
        axes.plot(*real.T, color=ACCENT, alpha=0.55, label="data, x", **DOTS)
    axes.plot(*generated.T, color=SECOND, alpha=0.6, label="samples, G(z)", **DOTS)
    left, right, bottom, top = surface.extent if surface else view(generated if real is None else real)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel("x₁", fontsize=LABEL, color=INK)
    axes.set_ylabel("x₂", fontsize=LABEL, color=INK)
    legend = axes.legend(**above(2, LABEL), markerscale=3)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure


@drawn
def codes(
    z: NDArray,
    labels: NDArray | None,
    *,
    classes: Sequence[str] = (),
    prior: bool = False,
    title: str = "",
) -> Figure:
    """Codes in the plane (N, 2), coloured by class where there are labels, on equal scales; with `prior` the circles
    of N(0, I) that hold 39 % and 86 % of it, at 1 and 2 standard deviations."""
    figure, axes, beside = _square(bar=labels is not None, title=title)
    size = max(4.0, min(40.0, 8000 / len(z)))
    if labels is None:
        axes.scatter(z[:, 0], z[:, 1], s=size, color=ACCENT, alpha=0.6, linewidths=0, label="code of an image")
    else:
        kinds = int(labels.max()) + 1
        palette = "tab10" if kinds <= 10 else "turbo"
        dots = axes.scatter(z[:, 0], z[:, 1], c=labels, cmap=palette, s=size, alpha=0.7, linewidths=0)
        dots.set_clim(-0.5, max(kinds, 10 if palette == "tab10" else 0) - 0.5)
        bar = figure.colorbar(dots, cax=beside, ticks=range(kinds) if kinds <= 20 else None)
        if bar.solids is not None:
            bar.solids.set_alpha(1)
        beside.set_ylim(-0.5, kinds - 0.5)
        beside.tick_params(labelsize=TICK, colors=INK)
        if classes and kinds <= 20:
            beside.set_yticklabels(classes[:kinds])
        elif kinds <= 20:
            beside.set_ylabel("class of the image", fontsize=LABEL, color=INK)
    left, right, bottom, top = view(z)
    if prior:
        right = top = 1.05 * max(2.2, float(np.abs(z).max()))
        left = bottom = -right
        angle = np.linspace(0, 2 * np.pi, 200)
        for sigma, style in ((1, "-"), (2, (0, (4, 2.5)))):
            share = round(100 * (1 - np.exp(-(sigma**2) / 2)))
            axes.plot(
                sigma * np.cos(angle),
                sigma * np.sin(angle),
                color=INK,
                linewidth=1,
                linestyle=style,
                label=f"{sigma}σ of N(0, I): {share} %",
            )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xlabel("z₁", fontsize=LABEL, color=INK)
    axes.set_ylabel("z₂", fontsize=LABEL, color=INK)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**above(2, LABEL))
    return figure


def _square(*, bar: bool, title: str) -> tuple[Figure, Axes, Any]:
    """A figure with square axes, and axes beside them for a colour bar if there is to be one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    left, bottom, top, right = 1.05, 0.62, 0.42 + 0.32 * bool(title), 1.15 if bar else 0.16
    width, height = left + SIDE + right, bottom + SIDE + top
    figure = new_figure(figsize=(width, height), dpi=90)
    axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(FuncFormatter(plain))
    axes.tick_params(labelsize=TICK, colors=INK)
    dress(axes)
    if title:
        figure.text(left / width, 1 - 0.2 / height, title, fontsize=10, color=INK)
    beside = None
    if bar:
        beside = figure.add_axes(((left + SIDE + 0.14) / width, bottom / height, 0.14 / width, SIDE / height))
    return figure, axes, beside


@drawn
def latent_plane(decode: Callable[[NDArray], NDArray], side: int = 20) -> Figure:
    """A two-dimensional code's plane, decoded point by point: each image stands for the same share of the prior, as
    the points are even quantiles of the normal in both directions. (Kingma & Welling 2014, figure 4.)"""
    at = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)], np.float32)
    z = np.stack(np.meshgrid(at, at[::-1]), axis=-1).reshape(-1, 2)
    plane = np.asarray(image_grid(decode(z), side, gap=0))
    figure, axes, _ = _square(bar=False, title="")
    extent = (0, side, 0, side)
    axes.imshow(plane, cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto", interpolation="nearest")
    shown = [-2, -1, -0.5, 0, 0.5, 1, 2] if side >= 20 else [-1, -0.5, 0, 0.5, 1]
    places = [side * NormalDist().cdf(value) for value in shown]
    names = [f"{value:g}".replace("-", "−") for value in shown]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.set_xlim(0, side)
    axes.set_ylim(0, side)
    axes.set_xlabel("z₁", fontsize=LABEL, color=INK)
    axes.set_ylabel("z₂", fontsize=LABEL, color=INK)
    return figure


def histogram(shares: Sequence[float], classes: Sequence[str], *, title: str = "") -> Figure:
    """Shares of classes as bars, with the even share as a line."""
    names = classes or [str(k) for k in range(len(shares))]
    even = (f"even: {100 / len(shares):.3g} %", 100 / len(shares))
    return bars([100 * share for share in shares], names, "share of samples, %", even, title=title)


@drawn
def bars(
    values: Sequence[float],
    names: Sequence[str],
    ylabel: str,
    reference: tuple[str, float],
    *,
    xlabel: str = "",
    log: bool = False,
    title: str = "",
) -> Figure:
    """Values as bars with names below them, and a line to compare them with: its label and its value."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    slanted = max(map(len, names)) > 2 and len(names) > 5
    bottom = 0.95 if slanted else 0.5 if xlabel else 0.34
    left, top, side = 0.82, 0.3 + 0.25 * bool(title), 2.0
    width, height = 4.4, bottom + side + top
    figure = new_figure(figsize=(width, height), dpi=DPI)
    axes = figure.add_axes((left / width, bottom / height, (width - left - 0.16) / width, side / height))
    axes.bar(range(len(values)), values, color=ACCENT, width=0.75)
    axes.axhline(reference[1], color=INK, linewidth=1.1, linestyle=(0, (4, 2.5)), label=reference[0])
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
    every = 1 if slanted else -(-len(names) * (1 + max(map(len, names))) // 45)  # so that they do not touch
    axes.set_xticks(
        range(0, len(values), every),
        list(names)[::every],
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.tick_params(labelsize=TINY, colors=INK)
    axes.set_xlabel(xlabel, fontsize=SMALL, color=INK)
    axes.set_ylabel(ylabel, fontsize=SMALL, color=INK)
    dress(axes)
    axes.legend(**above(1))
    if title:
        figure.text(left / width, 1 - 0.2 / height, title, fontsize=10, color=INK)
    return figure
