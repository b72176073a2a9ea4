"""Pictures: each function returns a matplotlib Figure or a Pillow image; none touches matplotlib's global state.

Figures are made and written by matplotlib's own defaults, whatever a matplotlibrc, a style or MPLBACKEND says: they
are the same everywhere, and need no window and no LaTeX. Legends stand outside of the axes, where they cover no data.
"""

from scratchgen.plots.curves import Limits, Panel, Point, Record, Reference, curve, curves, overlaid, x_axis
from scratchgen.plots.images import image_grid, image_rows, zoom
from scratchgen.plots.plane import Surface, bars, codes, histogram, latent_plane, scatter
from scratchgen.plots.style import (
    ACCENT,
    COLOURS,
    CSS,
    INK,
    MUTED,
    SECOND,
    SERIES,
    as_svg,
    drawn,
    load_matplotlib,
    new_figure,
    own_style,
    warm_up,
    write_figure,
)

__all__ = [
    "ACCENT",
    "COLOURS",
    "CSS",
    "INK",
    "MUTED",
    "SECOND",
    "SERIES",
    "Limits",
    "Panel",
    "Point",
    "Record",
    "Reference",
    "Surface",
    "as_svg",
    "bars",
    "codes",
    "curve",
    "curves",
    "drawn",
    "histogram",
    "image_grid",
    "image_rows",
    "latent_plane",
    "load_matplotlib",
    "new_figure",
    "overlaid",
    "own_style",
    "scatter",
    "warm_up",
    "write_figure",
    "x_axis",
    "zoom",
]
