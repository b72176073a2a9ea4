"""Curves over the course of a training, with the values that they are to be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from scratchgen.plots.style import COLOURS, INK, SERIES, SMALL, TINY, drawn, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record: TypeAlias = Mapping[str, Any]
Point: TypeAlias = tuple[float, float]
Limits: TypeAlias = tuple[float | None, float | None]
FEW_STEPS = 20  # in an epoch: below that the steps are counted instead
POINTS = 250  # of a curve at the most: more cannot be told apart
WIDTH, LEFT, RIGHT = 4.4, 0.82, 0.16  # inches: of a panel, and what is left free beside its axes
NARROW = 3.4  # of one that stands beside others in a page
HEIGHT, BOTTOM = 2.0, 0.46  # of the axes, and of what is below
ROW, TITLE = 0.19, 0.24  # of a row of the legend, and of a title
DPI = 110
LINE: dict[str, Any] = {"linewidth": 1.4, "markersize": 4}


class Reference(NamedTuple):
    """A value to compare with, drawn as a dashed line; in the colour of the curve that it belongs `to`, if it does.
    A text stands for a measure of that name, and the line is drawn where there is one."""

    label: str
    value: float | str
    to: str | None = None


@dataclass(frozen=True)
class Panel:
    """One plot of curves: `curves` maps a key of the records to its label in the legend."""

    ylabel: str  # with its unit
    curves: dict[str, str]
    references: tuple[Reference, ...] = ()
    log: bool = False
    limits: Limits = (None, None)
    title: str = ""
    whole: bool = False  # what is counted

    @property
    def name(self) -> str:
        """The key of the first curve."""
        return next(iter(self.curves))

    def drawn_from(self, records: Sequence[Record]) -> bool:
        """Whether there is anything to draw."""
        return any(r.get(key) is not None for r in records for key in self.curves)


@drawn
def curves(
    records: Sequence[Record], panels: Iterable[Panel], measures: Mapping[str, Any] | None = None
) -> Figure | None:
    """The panels side by side, from records with an "epoch" and values by key; None while there are none."""
    panels = [panel for panel in panels if panel.drawn_from(records)]
    if not panels:
        return None
    rows = max(_rows_of_legend(panel, measures) for panel in panels)
    height = BOTTOM + HEIGHT + ROW * rows + TITLE
    figure = new_figure(figsize=(WIDTH * len(panels), height), dpi=DPI)
    for i, panel in enumerate(panels):
        axes = figure.add_axes(_place(WIDTH * i, WIDTH * len(panels), height))
        _draw(axes, records, panel, measures)
        figure.text((WIDTH * i + LEFT) / WIDTH / len(panels), 1 - 0.17 / height, panel.title, fontsize=10, color=INK)
    return figure


@drawn
def curve(records: Sequence[Record], panel: Panel, measures: Mapping[str, Any] | None = None) -> Figure | None:
    """One panel, without its title; None while there is nothing to draw."""
    if not panel.drawn_from(records):
        return None
    height = BOTTOM + HEIGHT + ROW * _rows_of_legend(panel, measures) + 0.08
    figure = new_figure(figsize=(WIDTH, height), dpi=DPI)
    _draw(figure.add_axes(_place(0, WIDTH, height)), records, panel, measures)
    return figure


@drawn
def overlaid(
    series: Sequence[Sequence[Point]],
    x: str,
    y: str,
    *,
    reference: Reference | None = None,
    log: bool = False,
    limits: Limits = (None, None),
) -> Figure:
    """One measure of up to eight runs, in the colours and strokes of SERIES; of a run without it there are no points.
    Which is which says the page around it, where names have the room that they need."""
    height = BOTTOM + HEIGHT + (ROW if reference else 0) + 0.08
    figure = new_figure(figsize=(NARROW, height), dpi=DPI)
    axes = figure.add_axes(_place(0, NARROW, height, NARROW))
    for points, (colour, dashes) in zip(series, SERIES, strict=False):
        if points:
            stroke = (0, dashes) if dashes else "-"
            marker = "o" if len(points) < 10 else None
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=stroke, marker=marker, **LINE)
    if reference:
        _compare_with(axes, reference.label, float(reference.value), INK)
    whole = all(float(value).is_integer() for points in series for _, value in points)
    _scale(axes, x, y, log, limits, whole)
    return figure


def x_axis(records: Sequence[Record]) -> str:
    """What a training is counted in: "epoch", or "step" where an epoch has few of them."""
    counts = [r["step"] / r["epoch"] for r in records if r.get("step") and r.get("epoch")]
    return "step" if counts and max(counts) < FEW_STEPS else "epoch"


def _place(left: float, width: float, height: float, panel: float = WIDTH) -> tuple[float, float, float, float]:
    """Where a panel's axes are in a figure of that many inches, as fractions of it."""
    return (left + LEFT) / width, BOTTOM / height, (panel - LEFT - RIGHT) / width, HEIGHT / height


def _references(panel: Panel, measures: Mapping[str, Any] | None) -> list[tuple[Reference, float]]:
    """Those of which the value is known."""
    values = [(measures or {}).get(r.value) if isinstance(r.value, str) else r.value for r in panel.references]
    return [(r, float(v)) for r, v in zip(panel.references, values, strict=True) if isinstance(v, int | float)]


def _rows_of_legend(panel: Panel, measures: Mapping[str, Any] | None) -> int:
    return -(-(len(panel.curves) + len(_references(panel, measures))) // 2)


def _draw(axes: Axes, records: Sequence[Record], panel: Panel, measures: Mapping[str, Any] | None) -> None:
    x = x_axis(records)
    colours = dict(zip(panel.curves, COLOURS, strict=False))
    for key, label in panel.curves.items():
        # Within an epoch there are records of steps; their last says what the epoch's own record says again.
        kinds = {r.get("kind") for r in records if r.get(key) is not None}
        kind = "steps" if "steps" in kinds else "epoch"
        points = [
            (r.get(x, r["epoch"]), r[key])
            for r in records
            if r.get(key) is not None and r.get("kind", "epoch") == kind
        ]
        if points:
            marker = "o" if len(points) < 3 else None
            axes.plot(*zip(*fewer(points), strict=True), color=colours[key], label=label, marker=marker, **LINE)
    for reference, value in _references(panel, measures):
        _compare_with(axes, reference.label, value, colours.get(reference.to or "", INK))
    log = panel.log and any((r.get(key) or 0) > 0 for r in records for key in panel.curves)
    _scale(axes, x, panel.ylabel, log, panel.limits, panel.whole)


def _compare_with(axes: Axes, label: str, value: float, colour: str) -> None:
    """A dashed line below the curves, which it may lie on."""
    axes.axhline(value, color=colour, linewidth=1.1, linestyle=(0, (4, 2.5)), label=label, zorder=1.5)


def _scale(axes: Axes, x: str, y: str, log: bool, limits: Limits, whole: bool) -> None:
    """What is along the axes of curves that are drawn, and their legend, where they have labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if log:
        axes.set_yscale("log")
        axes.set_ylim(*limits)
        low, high = axes.get_ylim()
        subs = (1, 1.5, 2, 3, 5, 7) if high < 5 * low else (1, 2, 5) if high < 100 * low else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(*limits)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=whole))
    if axes.get_yscale() != "log" or axes.get_ylim()[0] > 1e-5:
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlim(left=0)
    axes.set_xlabel(x, fontsize=SMALL, color=INK)
    axes.set_ylabel(y, fontsize=SMALL, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(labelsize=TINY, colors=INK)
    dress(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**above(2))


def fewer(points: Sequence[Point]) -> list[Point]:
    """The curve, of many points as the means of so many in a row that POINTS at the most are left, each where the
    last of them is."""
    n = -(-len(points) // POINTS)
    groups = [points[i : i + n] for i in range(0, len(points), n)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def above(columns: int, size: int = TINY) -> dict[str, Any]:
    """Options of a legend that stands above the axes."""
    return {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1),
        "ncols": columns,
        "frameon": False,
        "fontsize": size,
        "labelcolor": INK,
        "borderpad": 0.2,
        "borderaxespad": 0.2,
        "handlelength": 1.8,
        "columnspacing": 1.2,
        "labelspacing": 0.3,
    }


def plain(value: float, position: object = None) -> str:
    """A number beside a tick: without an offset, which would stand where the legend is."""
    return f"{value:.6g}".replace("-", "−")


def dress(axes: Axes) -> None:
    """Only the two lines along which is counted."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
