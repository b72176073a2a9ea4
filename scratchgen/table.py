"""Tables as text: aligned columns for a terminal, or Markdown."""

from collections.abc import Collection, Sequence

Row = Sequence[str]


def aligned(rows: Sequence[Row], left: Collection[int] = (0,)) -> list[str]:
    """Lines with aligned columns, two spaces between: text, the columns `left`, to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def text_table(head: Row, rows: Sequence[Row], left: Collection[int] = (0,)) -> list[str]:
    """Lines with aligned columns, the head first."""
    return aligned([head, *rows], left)


def markdown_table(head: Row, rows: Sequence[Row], left: Collection[int] = (0,)) -> list[str]:
    """The same as a table in Markdown."""
    rule = ["---" if i in left else "--:" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
