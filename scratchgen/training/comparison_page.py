"""Runs on one page: their curves laid over each other as SVG, their last sheets, and tables; it asks nothing of the
network."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from scratchgen.training.comparison import ComparedRun, Comparison, Value, measure_of, number

# By run, on light and on dark paper: at least 3 : 1 against it, and apart from each other for protanopes and
# deuteranopes too (`tests/test_compare.py`); strokes tell them apart as well.
LIGHT = ("#0b6fa4", "#d1495b", "#381127", "#8870f4", "#5d3f15", "#5a92ab", "#000dad", "#1d4a68")
DARK = ("#5db8ec", "#f2788a", "#c2fd91", "#996516", "#c70389", "#76effb", "#5655f3", "#b0cf05")
DASHES = ("", "", "", "", "7 3", "2 3", "9 3 2 3", "4 2")

WIDTH, HEIGHT = 440, 264  # of a figure, in its own units
LEFT, RIGHT, TOP, BOTTOM = 60, 48, 10, 48  # margins; the names of reference lines are in that at the right
FIRST = 0.1  # of the x axis, on which a curve may leave the figure
Range = tuple[float, float]

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --soft: #6b6b6b; --line: #dcdcdc; --paper: #fcfcfb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --soft: #a0a0a0; --line: #3a3a3a; --paper: #17181a; }
}
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .75rem; font-size: 1.15rem; }
p.state { margin: .25rem 0 0; color: var(--soft); }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { color: var(--soft); white-space: pre; }
.runs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 2rem 1.5rem; }
.scroll { overflow-x: auto; }
th { padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid var(--line); text-align: left; font-weight: 600; }
th { min-width: 6rem; max-width: 14rem; overflow-wrap: anywhere; vertical-align: bottom; }
.scroll td { white-space: nowrap; }
.scroll td:first-child { position: sticky; left: 0; background: var(--paper); white-space: normal; min-width: 7rem; }
@media (max-width: 40rem) { .scroll td:first-child { max-width: 8rem; }
  .scroll td, th { padding-right: .75rem; white-space: normal; min-width: 5rem; } }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.axis { margin: 0 0 1rem; color: var(--soft); }
h3 { margin: 0 0 .25rem; font-size: 1rem; }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0; padding: 0; list-style: none;
       font-size: .85rem; }
.key li { display: flex; align-items: center; gap: .4rem; overflow-wrap: anywhere; }
.key svg { flex: none; width: 1.75rem; height: .75rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 14px system-ui, sans-serif; }
.curve, .swatch { fill: none; stroke-width: 2; stroke-linejoin: round; }
.dot { fill: var(--paper); stroke-width: 2; stroke-dasharray: none; }
.grid { stroke: var(--line); } .reference { stroke: var(--soft); stroke-dasharray: 5 4; }
figcaption { margin-top: .25rem; overflow-wrap: anywhere; }
@media print {
  :root { color-scheme: light; --ink: #1c1c1c; --soft: #6b6b6b; --line: #dcdcdc; --paper: #fff; }
  figure { break-inside: avoid; } .scroll { overflow: visible; }
}
"""


def _style() -> str:
    """The style sheet, with the colours of the runs."""
    light, dark = (" ".join(f"--run{i}: {c};" for i, c in enumerate(colours)) for colours in (LIGHT, DARK))
    strokes = (f"stroke: var(--run{i}); stroke-dasharray: {dash or 'none'};" for i, dash in enumerate(DASHES))
    runs = " ".join(f".run{i} {{ {stroke} }}" for i, stroke in enumerate(strokes))
    at_night = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    return f"{STYLE}\n:root {{ {light} }}\n{at_night}\n{runs}"


def page(comparison: Comparison, sheets: Mapping[str, Sequence[tuple[int, Path]]]) -> str:
    """The page, as HTML; `sheets` are those of each run by its name, with their epochs, in order."""
    runs = comparison.runs
    title = f"{len(runs)} runs compared"
    head = [run.name for run in runs]
    parts = [f"<h1>{title}</h1>", f'<p class="state">{escape(", ".join(head))}</p>']
    parts.append("<h2>Settings that differ</h2>")
    if comparison.differ:
        parts.append(_table(head, comparison.differ))
    else:
        parts.append('<p class="state">None: these are runs of the same settings.</p>')
    same = ", ".join(f"{name} {value}" for name, value in comparison.same)
    parts.append(f'<p class="state">The same in all: {escape(same)}.</p>')
    parts += ["<h2>What they reached</h2>", _table(head, rows_of_measures(comparison))]
    x = "steps, since the runs differ in steps per epoch" if comparison.by_steps else "epochs"
    parts += [f'<h2>Curves</h2>\n<p class="axis">Along the x axis are {x}.</p>', '<div class="runs">']
    parts += [_figure(comparison, key) for key in comparison.keys]
    parts.append("</div>")
    last = [_sheet(run, *sheets[run.name][-1]) for run in runs if sheets.get(run.name)]
    if last:
        parts += ["<h2>Last sheets</h2>", '<div class="runs wide">', *last, "</div>"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}: {escape(', '.join(head))}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_style()}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def rows_of_measures(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """How long each run was and how far it came: rows of a name and a text for each run."""
    runs = comparison.runs
    rows = [
        ("epochs", [number(int(run.epochs)) for run in runs]),
        ("steps", [number(run.steps) for run in runs]),
        ("training time", ["–" if run.seconds is None else f"{run.seconds:,.0f} s" for run in runs]),
    ]
    for key in comparison.keys:
        reached = [run.reached(key) if key in run.keys else None for run in runs]
        rows.append((measure_of(key).title, ["–" if pair is None else _reached(*pair) for pair in reached]))
    for key in comparison.evaluated:
        values = [run.evaluated.get(key) for run in runs]
        rows.append((f"{measure_of(key).title}, evaluated", ["–" if v is None else number(v) for v in values]))
    return rows


def _reached(last: Value, best: Value | None) -> str:
    """The last value, and the best where it is another."""
    if best is None:
        return number(last.value)
    return f"{number(last.value)} (best{'' if best.value == last.value else f' {_best(best)}'})"


def _best(best: Value) -> str:
    return f"{number(best.value)} at epoch {best.epoch:.3g}"


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    first = "".join(f"<th>{escape(text)}</th>" for text in ("", *head))
    cells = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(text)}</td>' for text in values)}</tr>"
        for name, values in rows
    )
    return f'<div class="scroll"><table><tr>{first}</tr>{cells}</table></div>'


def _sheet(run: ComparedRun, epoch: int, file: Path) -> str:
    caption = escape(f"{run.name}, {f'after epoch {epoch}' if epoch else 'before training'}")
    data = base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


# --- a figure ---


def _figure(comparison: Comparison, key: str) -> str:
    """One measure of the runs that have it: a legend above the axes, where it covers nothing, and a caption."""
    measure, runs = measure_of(key), comparison.with_key(key)
    curves = {i: _points(run.curve(key), comparison.by_steps) for i, run in runs}
    legend = "".join(
        f'<li><svg viewBox="0 0 28 10"><line class="swatch run{i}" x1="0" x2="28" y1="5" y2="5"/></svg>'
        f"{escape(run.name)} <strong>{number(run.reached(key)[0].value)}</strong></li>"
        for i, run in runs
    )
    reference = comparison.reference(key)
    log = measure.log and all(y > 0 for points in curves.values() for _, y in points)
    x_range = (0.0, 1.02 * max(x for points in curves.values() for x, _ in points) or 1.0)  # and room for a dot
    y_range, highest = _y_range(curves.values(), x_range, [reference[0]] if reference else [], log)
    caption = [escape(measure.words)] if measure.words else []
    bests = [(name, best) for name, (_, best) in ((run.name, run.reached(key)) for _, run in runs) if best]
    unlike = comparison.unlike(key)
    if unlike:
        what = escape(", ".join(unlike))
        caption.append(f"<strong>Not to be compared: the runs differ in {what}, and so in what is measured.</strong>")
    elif bests:
        choose = min if measure.better == "lower" else max
        name, best = choose(bests, key=lambda pair: pair[1].value)
        caption.append(f"{measure.better.capitalize()} is better: best is {escape(name)} with {_best(best)}.")
    alike = _alike([(run.name, curves[i]) for i, run in runs])
    if alike:
        caption.append(f"The same in {escape(' and '.join(alike))}: one curve hides the other.")
    if log:
        caption.append("The y axis is logarithmic.")
    if highest is not None:
        caption.append(f"Cut off at the top: the first steps reach {number(highest)}.")
    axes = _axes(x_range, y_range, log, "steps" if comparison.by_steps else "epochs", reference)
    lines = "".join(_line(i, points, x_range, y_range, log) for i, points in curves.items())
    inner = f'x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
    title = escape(measure.title)
    return (
        f'<figure><h3>{title}</h3><ul class="key">{legend}</ul>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title} of {len(runs)} runs">{axes}'
        f"<svg {inner}>{lines}</svg></svg>"
        f"<figcaption>{' '.join(caption) or title}</figcaption></figure>"
    )


def _alike(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> list[str]:
    """The names of those that are the same as another."""
    return [name for name, points in curves if sum(points == other for _, other in curves) > 1]


def _points(values: Sequence[Value], by_steps: bool) -> list[tuple[float, float]]:
    return [(float(v.step if by_steps else v.epoch), v.value) for v in values]


def _y_range(
    curves: Iterable[Sequence[tuple[float, float]]], x_range: Range, more: Sequence[float], log: bool
) -> tuple[Range, float | None]:
    """From where to where the y axis goes, and how high curves are in their first steps where these are left out, as
    all that follows would be flat beside them."""
    points = [point for curve in curves for point in curve]
    later = [y for x, y in points if x > FIRST * x_range[1]]
    every = [y for _, y in points]
    low, high, highest = min(*every, *more, every[0]), max(every), None
    if later and not log and high - low > 2 * (max(later) - low) > 0:
        high, highest = max(later), high
    high = max(high, *more, high)
    if log:
        return (low / 1.1, high * 1.1), highest
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return (low - room if low < 0 or low > room else 0.0, high + room), highest


def _place(value: float, ends: Range, length: float, log: bool = False) -> float:
    """Where on an axis of this length a value lies."""
    if log:
        value, ends = math.log(value), (math.log(ends[0]), math.log(ends[1]))
    return length * (value - ends[0]) / (ends[1] - ends[0])


def _line(i: int, points: Sequence[tuple[float, float]], x_range: Range, y_range: Range, log: bool) -> str:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    placed = [(_place(x, x_range, width), height - _place(y, y_range, height, log)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dots = "".join(f'<circle class="dot run{i}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in placed)
    return f'<polyline class="curve run{i}" points="{path}"/>{dots if len(points) < 10 else ""}'


def _axes(x_range: Range, y_range: Range, log: bool, x_label: str, reference: tuple[float, str] | None) -> str:
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = []
    for value in _log_ticks(y_range) if log else _ticks(y_range):
        y = TOP + height - _place(value, y_range, height, log)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>')
    for value in _ticks(x_range):
        x = LEFT + _place(value, x_range, width)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 19}" text-anchor="middle">{_tick(value)}</text>')
    parts.append(f'<text x="{LEFT + width / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>')
    if reference is not None:
        y = TOP + height - _place(reference[0], y_range, height, log)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT + width + 6}" y="{y + 4:.1f}">{escape(reference[1])}</text>')
    return "".join(parts)


def _tick(value: float) -> str:
    return f"{value:,.6g}".replace("-", "−")


def _ticks(ends: Range, most: int = 6) -> list[float]:
    """Round values between the ends, at the most so many."""
    rough = (ends[1] - ends[0]) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    return [round(n * step, 12) for n in range(math.ceil(ends[0] / step), math.floor(ends[1] / step) + 1)]


def _log_ticks(ends: Range) -> list[float]:
    """Powers of ten between the ends, or 1, 2 and 5 of each where these are few."""
    powers = range(math.floor(math.log10(ends[0])), math.ceil(math.log10(ends[1])) + 1)
    for factors in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [m * 10.0**n for n in powers for m in factors if ends[0] <= m * 10.0**n <= ends[1]]
        if len(found) >= 3:
            break
    return found
