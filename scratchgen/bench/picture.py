"""Scaling as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratchgen.plots import COLOURS, INK, MUTED, drawn, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# what a line is of, the colour that it has wherever it is drawn, and the sides of which the faster is taken
LINES = (
    ("scratchgen", COLOURS[0], ("scratchgen",)),
    ("PyTorch, faster format", COLOURS[1], ("torch", "channels_last")),
    ("JAX", COLOURS[2], ("jax",)),
)
UNITS = {
    "batch": "images in a batch",
    "size": "side of the images, pixels",
    "width": "width, channels",
    "threads": "threads",
}


@drawn
def scaling_picture(report: dict[str, Any]) -> Figure:
    """Milliseconds a step against the axis, both logarithmic, a panel a step, with the slope of the arithmetic."""
    axis, entries = report["axis"], report["steps"]
    columns = min(3, len(entries))
    rows = -(-len(entries) // columns)
    figure = new_figure(figsize=(4.2 * columns, 3.8 * rows), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(entries) :]:
        axes.set_axis_off()
    for axes, entry in zip(panels, entries, strict=False):
        points = entry["points"]
        x = [point[axis] for point in points]
        lines = [
            (label, colour, np.array([min(ms for side, ms in point if side in sides) for point in map(_ms, points)]))
            for label, colour, sides in LINES
            if any(side in sides for side, _ in _ms(points[0]))
        ]
        ours = lines[0][2]
        for label, colour, ms in lines:
            axes.plot(x, ms, color=colour, marker="o", markersize=4, linewidth=1.5, label=label, zorder=3)
        if axis == "threads":
            ideal, label = ours[0] / np.array(x), "the work shared evenly"
        else:
            work = np.array([point["gflop"] for point in points])
            ideal, label = ours[-1] * work / work[-1], "slope of the arithmetic"
        axes.plot(x, ideal, color=MUTED, linewidth=0.8, label=label, zorder=1)
        shown = np.concatenate([ms for _, _, ms in lines] + [ideal] * (axis == "threads"))
        _scale(axes, x, 0.6 * shown.min(), 1.6 * shown.max())
        axes.set_xlabel(UNITS[axis])
        axes.set_ylabel("ms a step")
        axes.set_title(entry["step"], fontsize=10, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _ms(point: dict[str, Any]) -> list[tuple[str, float]]:
    return [(side["side"], side["ms"]["median"]) for side in point["sides"]]


def _scale(axes: Axes, x: list[int], low: float, high: float) -> None:
    """Logarithmic axes, with plain numbers at the points and at 1, 2, 5 or as many as fit."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_xticks(x)
    subs = range(1, 10) if high < 8 * low else (1, 2, 5) if high < 500 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
