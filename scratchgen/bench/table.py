"""Tables as text: aligned columns for a terminal, or Markdown; and how numbers are written in them."""

from collections.abc import Collection, Sequence

Row = Sequence[str]


def text_table(head: Row, rows: Sequence[Row], left: Collection[int] = (0,)) -> list[str]:
    """Lines with aligned columns: text, the columns `left`, to the left, numbers to the right."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown_table(head: Row, rows: Sequence[Row], left: Collection[int] = (0,)) -> list[str]:
    """The same as a table in Markdown."""
    rule = ["---" if i in left else "--:" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def number(value: float) -> str:
    """Three significant digits, more before the point."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    digits = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2 if magnitude >= 0.9995 else 3
    return f"{value:,.{digits}f}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.1f} %"


def span(values: dict) -> str:
    return f"{number(values['p10'])}–{number(values['p90'])}"


def ratio(values: dict | None) -> str:
    if values is None:
        return ""
    return f"{values['median']:.2f} ({values['p10']:.2f}–{values['p90']:.2f})"
