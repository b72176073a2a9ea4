"""Pictures: each function returns a matplotlib Figure, and none touches matplotlib's global state."""

import numpy as np
from matplotlib.figure import Figure

INK, ACCENT, MUTED = "#222222", "#0b6fa4", "#b8b8b8"


def image_rows(rows, columns: int = 12) -> Figure:
    """Rows of images (N, H, W, C) in [0, 1], each with a label at its left: rows is a list of (label, images)."""
    columns = min(columns, *(len(images) for _, images in rows))
    H, W, C = rows[0][1].shape[1:]
    label, cell = 1.75, 0.75  # inches
    width, height = label + columns * cell, len(rows) * cell * H / W
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    for r, (text, images) in enumerate(rows):
        strip = np.concatenate([_framed(x) for x in images[:columns]], axis=1)
        bottom = 1 - (r + 1) / len(rows)
        axes = figure.add_axes((label / width, bottom, columns * cell / width, 1 / len(rows)))
        axes.imshow(strip if C == 3 else strip[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        figure.text(0.1 / width, bottom + 0.5 / len(rows), text, va="center", fontsize=10, color=INK, linespacing=1.4)
    return figure


def _framed(image):
    """One image with a white margin, within 0 … 1."""
    return np.pad(np.clip(image, 0, 1), ((1, 1), (1, 1), (0, 0)), constant_values=1)


def loss_curves(records, *, unit: str, reference: tuple[str, float] | None = None) -> Figure:
    """Loss by epoch for training and test, and beside it the test error per pixel with a reference to beat."""
    figure = Figure(figsize=(9, 3.6), dpi=120, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    at = [r["epoch"] for r in records]
    _line(left, at, [r["loss"] for r in records], "training", MUTED)
    _line(left, at, [r["test_loss"] for r in records], "test", ACCENT)
    left.set_ylabel(f"loss, {unit}")
    _line(right, at, [r["test_mse"] for r in records], "autoencoder", ACCENT)
    if reference is not None:
        right.axhline(reference[1], color=INK, linewidth=1, linestyle="--", label=reference[0])
    right.set_ylim(bottom=0)
    right.set_ylabel("test mean squared error per pixel")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def _line(axes, x, y, label, color):
    axes.plot(x, y, color=color, label=label, linewidth=2, marker="o" if len(x) < 3 else None)
