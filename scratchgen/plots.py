"""Pictures: each function returns a matplotlib Figure or a Pillow image; none touches matplotlib's global state.

Figures are made and written by matplotlib's own defaults, whatever a matplotlibrc, a style or MPLBACKEND says: they
are the same everywhere, and need no window and no LaTeX. matplotlib is loaded when the first is made, which takes as
long as all else together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from statistics import NormalDist
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
F = TypeVar("F")
Record: TypeAlias = Mapping[str, Any]
INK, ACCENT, MUTED, SECOND = "#222222", "#0b6fa4", "#9a9a9a", "#d1495b"
COLOURS = (ACCENT, SECOND, "#3a8f5c", "#8661c1", MUTED)


def load_matplotlib() -> ModuleType:
    """matplotlib; ValueError, with the reason, where it does not load."""
    new = "matplotlib" not in sys.modules
    backend = os.environ.pop("MPLBACKEND", None) if new else None  # a notebook's need not be there for its children
    try:
        import matplotlib.figure
    except Exception as error:  # it reads the user's settings on the way, and raises what they make of it
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"matplotlib, which draws the curves, does not load: {reason}; its settings are in a file matplotlibrc, "
            "of this folder, of MATPLOTLIBRC or of ~/.config/matplotlib"
        ) from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        with suppress(ValueError):  # there is none of that name: matplotlib finds one when a window is opened
            matplotlib.rcParams["backend"] = backend
    return matplotlib


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's own defaults inside the block, the user's settings again after it."""
    matplotlib = load_matplotlib()
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    with matplotlib.rc_context(defaults):
        yield


def drawn(function: Callable[P, F]) -> Callable[P, F]:
    """For a function that returns a Figure."""

    @wraps(function)
    def in_own_style(*args: P.args, **options: P.kwargs) -> F:
        with own_style():
            return function(*args, **options)

    return in_own_style


def new_figure(**options: Any) -> Figure:
    """An empty Figure, which belongs to no window."""
    return load_matplotlib().figure.Figure(facecolor="white", **options)


def write_figure(figure: Figure, stream: IO[bytes]) -> None:
    """Write a Figure as PNG."""
    with own_style():
        figure.savefig(stream, format="png", dpi=figure.dpi)


def image_grid(images: NDArray, columns: int | None = None, *, scale: int = 1, gap: int = 2) -> Image.Image:
    """Images (N, H, W, C) in [0, 1] as one picture, row by row, `scale` pixels for each of theirs, gaps white.

    C is 1 or 3; of other images the first channel is shown. About as wide as high without `columns`.
    """
    N, H, W, C = images.shape
    columns = columns or int(np.ceil(np.sqrt(N)))
    rows = -(-N // columns)
    C = 3 if C == 3 else 1
    height, width = H * scale, W * scale
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, C), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = (gap + n * (size + gap) for n, size in zip(divmod(i, columns), (height, width), strict=True))
        pixels = np.rint(255 * np.clip(np.nan_to_num(image[..., :C]), 0, 1)).astype(np.uint8)
        sheet[top : top + height, left : left + width] = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(sheet if C == 3 else sheet[..., 0])


def zoom(image_shape: Sequence[int], target: int = 56) -> int:
    """How many pixels to show for one, so that an image is about `target` wide."""
    return max(1, round(target / image_shape[1]))


@drawn
def image_rows(rows: Sequence[tuple[str, NDArray]], columns: int = 12) -> Figure:
    """Rows of images (N, H, W, C) in [0, 1], each with a label at its left: rows of (label, images)."""
    columns = min(columns, max(len(images) for _, images in rows))
    H, W, C = rows[0][1].shape[1:]
    label, cell = 1.75, 0.75  # inches
    width, height = label + columns * cell, len(rows) * cell * H / W
    figure = new_figure(figsize=(width, height), dpi=160)
    for r, (text, images) in enumerate(rows):
        strip = np.ones((H + 2, columns, W + 2, C))  # white around each image, and where a row has fewer
        strip[1:-1, : len(images), 1:-1] = np.clip(images[:columns], 0, 1).swapaxes(0, 1)
        strip = strip.reshape(H + 2, -1, C)
        bottom = 1 - (r + 1) / len(rows)
        axes = figure.add_axes((label / width, bottom, columns * cell / width, 1 / len(rows)))
        axes.imshow(strip if C == 3 else strip[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        figure.text(0.1 / width, bottom + 0.5 / len(rows), text, va="center", fontsize=10, color=INK, linespacing=1.4)
    return figure


@drawn
def scatter(generated: NDArray, real: NDArray | None = None, *, title: str = "") -> Figure:
    """Generated points (N, 2), over real ones where they are given."""
    figure = new_figure(figsize=(5, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    if real is not None:
        axes.scatter(real[:, 0], real[:, 1], s=3, color=MUTED, alpha=0.4, linewidths=0, label="data")
    axes.scatter(generated[:, 0], generated[:, 1], s=4, color=ACCENT, alpha=0.6, linewidths=0, label="generated")
    shown = generated if real is None else real
    low, high = shown.min(axis=0), shown.max(axis=0)
    middle, reach = (low + high) / 2, 0.65 * float((high - low).max())
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] - reach, middle[1] + reach)
    axes.set_aspect("equal")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, loc="upper right", markerscale=4)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@drawn
def codes(z: NDArray, labels: NDArray | None, *, classes: Sequence[str] = (), title: str = "") -> Figure:
    """Codes in the plane (N, 2), coloured by class where there are labels."""
    figure = new_figure(figsize=(5.6, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    if labels is None:
        axes.scatter(z[:, 0], z[:, 1], s=3, color=ACCENT, alpha=0.5, linewidths=0)
    else:
        kinds = int(labels.max()) + 1
        palette = "tab10" if kinds <= 10 else "turbo"
        dots = axes.scatter(z[:, 0], z[:, 1], c=labels, cmap=palette, s=4, alpha=0.7, linewidths=0)
        dots.set_clim(-0.5, kinds - 0.5)
        bar = figure.colorbar(dots, ax=axes, ticks=range(kinds) if kinds <= 20 else None)
        if classes and kinds <= 20:
            bar.ax.set_yticklabels(classes[:kinds])
    axes.set_xlabel("z₁")
    axes.set_ylabel("z₂")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True)
class Panel:
    """One plot of curves against the epoch: `curves` maps a key of the records to its label in the legend."""

    ylabel: str
    curves: dict[str, str]
    reference: tuple[str, float] | None = None  # a dashed line: its label, where it lies
    log: bool = False
    limits: tuple[float | None, float | None] = field(default=(None, None))


@drawn
def curves(records: Sequence[Record], panels: Iterable[Panel]) -> Figure | None:
    """The panels side by side, from records with an "epoch" and values by key; None while there are none."""
    panels = [p for p in panels if any(r.get(key) is not None for r in records for key in p.curves)]
    if not panels:
        return None
    figure = new_figure(figsize=(4.6 * len(panels), 3.6), dpi=110, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, records, panel)
    return figure


def _draw(axes: Axes, records: Sequence[Record], panel: Panel) -> None:
    for (key, label), colour in zip(panel.curves.items(), COLOURS, strict=False):
        # Within an epoch there are records of steps; their last says what the epoch's own record says again.
        kinds = {r.get("kind") for r in records if r.get(key) is not None}
        kind = "steps" if "steps" in kinds else "epoch"
        points = [(r["epoch"], r[key]) for r in records if r.get(key) is not None and r.get("kind", "epoch") == kind]
        if points:
            few = len(points) < 3
            axes.plot(
                *zip(*points, strict=True), color=colour, label=label, linewidth=1.5, marker="o" if few else None
            )
    if panel.reference is not None:
        axes.axhline(panel.reference[1], color=INK, linewidth=1, linestyle="--", label=panel.reference[0])
    if panel.log and any((r.get(key) or 0) > 0 for r in records for key in panel.curves):
        axes.set_yscale("log")
    axes.set_ylim(*panel.limits)
    axes.set_xlim(left=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(panel.ylabel)
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def latent_plane(decode: Callable[[NDArray], NDArray], side: int = 20) -> Image.Image:
    """A two-dimensional code's plane, decoded point by point: each image stands for the same share of the prior, as
    the points are even quantiles of the normal in both directions. (Kingma & Welling 2014, figure 4.)"""
    at = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)], np.float32)
    z = np.stack(np.meshgrid(at, at[::-1]), axis=-1).reshape(-1, 2)
    return image_grid(decode(z), side, gap=0)


@drawn
def histogram(shares: Sequence[float], classes: Sequence[str], *, title: str = "") -> Figure:
    """Shares of classes as bars, with the even share as a line."""
    figure = new_figure(figsize=(5.6, 3), dpi=110, layout="constrained")
    axes = figure.subplots()
    names = classes or [str(k) for k in range(len(shares))]
    axes.bar(range(len(shares)), 100 * np.asarray(shares), color=ACCENT)
    axes.axhline(100 / len(shares), color=INK, linewidth=1, linestyle="--", label="even")
    axes.set_xticks(range(len(shares)), names, rotation=0 if max(map(len, names)) < 3 else 40, ha="center")
    axes.set_ylabel("share of samples, %")
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
