"""Runs on one page: their curves laid over each other, their last sheets, and tables."""

from collections.abc import Sequence
from html import escape

from scratchgen.plots import CSS, SERIES, Limits, Point, as_svg, overlaid
from scratchgen.report.comparison import ComparedRun, Comparison, Value, number
from scratchgen.report.parts import as_image, document, escaped, explained, table
from scratchgen.report.pictures import moment, packed
from scratchgen.report.words.measures import measure_of

FIRST = 0.1  # of the x axis, on which a curve may leave the figure


def page(comparison: Comparison) -> str:
    """The page, as HTML."""
    runs, by_steps = comparison.runs, comparison.by_steps
    names = [run.name for run in runs]
    differ = [(name, *values) for name, values in comparison.differ]
    same = ", ".join(f"{name} {value}" for name, value in comparison.same)
    reached = [(name, *values) for name, values in rows_of_measures(comparison)]
    x = "steps, since the runs differ in steps per epoch" if by_steps else "epochs"
    figures = [_figure(comparison, i, key) for i, key in enumerate(comparison.keys)]
    terms = [term for key in (*comparison.keys, *comparison.evaluated) for term in measure_of(key).terms]
    title = f"{len(runs)} runs compared"
    parts = [
        f'<header><h1>{title}</h1><p class="state">{escape(", ".join(names))}</p></header>',
        "<section><h2>Settings that differ</h2>",
        table(differ, names) if differ else '<p class="state">None: these are runs of the same settings.</p>',
        f'<p class="state">The same in all: {escaped(same)}.</p></section>',
        f"<section><h2>What they reached</h2>{table(reached, names)}</section>",
        f'<section><h2>Curves</h2><p class="state">Along the x axis are {x}.</p>',
        f'<div class="side-by-side">{"".join(figures)}</div></section>',
    ]
    if sheets := "".join(map(_sheet, runs)):
        parts += [f'<section><h2>Last sheets</h2><div class="side-by-side sheets">{sheets}</div></section>']
    if terms:
        parts += [explained(terms)]
    return document(f"{title}: {', '.join(names)}", "\n".join(parts))


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
        rows.append((_title(comparison, key), ["–" if pair is None else _reached(*pair) for pair in reached]))
    for key in comparison.evaluated:
        values = [run.evaluated.get(key) for run in runs]
        rows.append((f"{_title(comparison, key)}, evaluated", ["–" if v is None else number(v) for v in values]))
    return rows


def _title(comparison: Comparison, key: str) -> str:
    """Of a measure, with a mark where it is not the same one in all runs."""
    unlike = comparison.unlike(key)
    return f"{measure_of(key).title} (≠: other {', '.join(unlike)})" if unlike else measure_of(key).title


def _reached(last: Value, best: Value | None) -> str:
    """The last value, and the best where it is another."""
    if best is None:
        return number(last.value)
    return f"{number(last.value)} (best{'' if best.value == last.value else f' {_best(best)}'})"


def _best(best: Value) -> str:
    return f"{number(best.value)} at epoch {best.epoch:.3g}"


def _sheet(run: ComparedRun) -> str:
    """The newest, where there is one that can be read."""
    files = run.folder.sheets()
    picture = packed(files[-1]) if files else None
    if picture is None:
        return ""
    caption = f"{run.name}, {moment(files[-1])}"
    return f"<figure>{as_image(picture, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _figure(comparison: Comparison, place: int, key: str) -> str:
    """One measure of the runs that have it: a legend above the axes, where it covers nothing, and a caption."""
    measure, runs = measure_of(key), dict(comparison.with_key(key))
    by_steps, reference = comparison.by_steps, comparison.reference(key)
    series = [run.curve(key, by_steps) if key in run.keys else [] for run in comparison.runs]
    log = measure.log and any(y > 0 for points in series for _, y in points)
    limits, highest = _limits(series, [float(reference.value)] if reference else [], log)
    x = "step" if by_steps else "epoch"
    figure = overlaid(series, x, measure.unit, reference=reference, log=log, limits=limits)
    legend = "".join(
        f"<li>{_stroke(i)}{escape(run.name)} <strong>{number(run.reached(key)[0].value)}</strong></li>"
        for i, run in runs.items()
    )
    caption = [measure.what] if measure.what else []
    bests = [(run.name, best) for run in runs.values() if (best := run.reached(key)[1])]
    if unlike := comparison.unlike(key):
        what = escape(", ".join(unlike))
        caption.append(f"<strong>Not to be compared: the runs differ in {what}, and so in what is measured.</strong>")
    elif bests:
        choose = min if measure.better == "lower" else max
        name, best = choose(bests, key=lambda pair: pair[1].value)
        caption.append(f"{measure.better.capitalize()} is better: best is {escape(name)} with {_best(best)}.")
    if alike := [run.name for i, run in runs.items() if series.count(series[i]) > 1]:
        caption.append(f"The same in {escape(' and '.join(alike))}: one curve hides the other.")
    if highest is not None:
        caption.append(f"Cut off at the top: the first steps reach {number(highest)}.")
    formula = f'<p class="formula">{measure.formula}</p>' if measure.formula else ""
    title = escape(measure.title)
    return (
        f'<figure><h3>{title}</h3><ul class="key">{legend}</ul>{as_svg(figure, f"m{place}")}'
        f"<figcaption>{' '.join(caption) or title}{formula}</figcaption></figure>"
    )


def _stroke(i: int) -> str:
    """What the curve of a run looks like, for the legend."""
    colour, dashes = SERIES[i]
    dashed = f' stroke-dasharray="{" ".join(str(1.4 * d) for d in dashes)}"' if dashes else ""
    return f'<svg viewBox="0 0 28 10"><path d="M0 5h28" stroke="var({CSS[colour]})"{dashed}/></svg>'


def _limits(series: Sequence[Sequence[Point]], more: Sequence[float], log: bool) -> tuple[Limits, float | None]:
    """From where to where the y axis goes, and how high curves are in their first steps where these are left out, as
    all that follows would be flat beside them."""
    if log:
        return (None, None), None
    points = [point for of_run in series for point in of_run]
    first = FIRST * max(x for x, _ in points)
    every, later = [y for _, y in points], [y for x, y in points if x > first]
    low, high, highest = min(*every, *more, every[0]), max(every), None
    if later and high - low > 2 * (max(later) - low) > 0:
        high, highest = max(later), high
    high = max(high, *more, high)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return (low - room if low < 0 or low > room else 0.0, high + room), highest
