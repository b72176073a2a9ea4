"""How all figures look, and how they are written: as PNG, or as SVG whose colours are those of the page around it.

matplotlib is loaded when the first is made, which takes as long as all else together.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, wraps
from io import BytesIO
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
F = TypeVar("F")
INK, ACCENT, MUTED, SECOND = "#222222", "#0b6fa4", "#9a9a9a", "#d1495b"
COLOURS = (ACCENT, SECOND, "#3a8f5c", "#8661c1", MUTED)
# Of curves of several runs, with the lengths of dashes and gaps: eight that everybody tells apart, and on a dark page
# too, where they have other colours (`tests/test_compare.py`).
SERIES: tuple[tuple[str, tuple[float, ...]], ...] = (
    *((ACCENT, ()), (SECOND, ()), ("#381127", ()), ("#8870f4", ())),
    *(("#5d3f15", (5, 2)), ("#5a92ab", (1.5, 1.5)), ("#000dad", (6, 2, 1.5, 2)), ("#1d4a68", (3, 1.5))),
)
CSS = {  # in a page
    INK: "--ink",
    MUTED: "--muted",
    **{c: f"--series-{i}" for i, (c, _) in enumerate(SERIES, 1)},
    **{c: f"--curve-{i}" for i, c in enumerate(COLOURS[:4], 1)},
}
SMALL, TINY = 9, 8  # points of letters


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


@cache
def warm_up() -> None:
    """Draw a little picture, once: what keeps matplotlib from drawing is known then, and what it loads is loaded.

    ValueError, with the reason, where it does not load or draw."""
    figure = new_figure(figsize=(1, 1))
    with own_style():
        axes = figure.subplots()
        figure.colorbar(axes.imshow([[0.0]]))
        axes.plot([0, 1], [1, 10], label="log")
        axes.set_yscale("log")
        axes.legend()
    write_figure(figure, BytesIO())


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


def write_figure(figure: Figure, stream: IO[bytes], about: Mapping[str, str] | None = None) -> None:
    """Write a Figure as PNG; `about`: texts to keep in it, by name."""
    with own_style():
        figure.savefig(
            stream, format="png", dpi=figure.dpi, metadata=dict(about or {}), pil_kwargs={"compress_level": 3}
        )


def as_svg(figure: Figure, name: str) -> str:
    """A Figure as an `<svg>` to stand in a page: without a ground, and with text as text. Its colours are the CSS
    variables of CSS, so that they follow the page's; `name` tells its ids from those of other figures there."""
    stream = BytesIO()
    matplotlib = load_matplotlib()
    with own_style(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scratchgen"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    svg = stream.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, count=1, flags=re.DOTALL)
    width, height = re.findall(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)[0]
    svg = re.sub(r"<svg[^>]*>", f'<svg class="chart" role="img" viewBox="0 0 {width} {height}">', svg, count=1)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # nothing refers to them, and they are the same in every figure
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for colour, variable in (*CSS.items(), ("#000000", "--ink")):
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", svg)
