"""What things show of themselves in a notebook: HTML that needs no script and no other file.

Every style stands at its element: a notebook leaves style sheets out, or lets them reach its other cells. The ground
and the letters are the page's own, lines are half transparent, and what has a colour has a ground of its own: so it
reads well on light pages and on dark ones.
"""

from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from html import escape

LINE = "1px solid rgba(127,127,127,.4)"
GROUNDS = {"good": "#1f7a45", "bad": "#b3261e", "open": "#8a5a00"}  # of white letters


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def block(title: str, *parts: str, about: str = "") -> str:
    """Parts, each HTML, below a title and what is said of it."""
    said = f" {_html(about)}" if about else ""
    return (
        f'<div style="margin:.3em 0"><p style="margin:0 0 .4em"><b>{_html(title)}</b>{said}</p>{"".join(parts)}</div>'
    )


def label(text: str, kind: str) -> Markup:
    """A word on a ground of its own, one of GROUNDS."""
    style = f"background:{GROUNDS[kind]};color:#fff;padding:.1em .45em;border-radius:.3em;white-space:nowrap"
    return Markup(f'<span style="{style}">{escape(text)}</span>')


def indented(text: str, depth: int) -> Markup:
    """A name below others, `depth` steps in."""
    return Markup(f'<span style="padding-left:{1.2 * depth:g}em">{escape(text)}</span>')


def strong(text: str) -> Markup:
    return Markup(f"<b>{_html(text)}</b>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of cells below their names, the columns `right` with figures to the right; it scrolls where it is wide."""

    def line(tag: str, cells: Sequence[str]) -> str:
        shown = ""
        for i, cell in enumerate(cells):
            style = f"text-align:{'right' if i in right else 'left'};padding:.15em .7em .15em 0;white-space:nowrap"
            shown += f'<{tag} style="{style}">{_html(cell)}</{tag}>'
        return f'<tr style="background:none;border-bottom:{LINE}">{shown}</tr>'

    whole = "margin:0;border-collapse:collapse;border:none;table-layout:auto"
    body = "".join(line("td", cells) for cells in rows)
    return (
        f'<div style="overflow-x:auto"><table style="{whole}"><thead>{line("th", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def listed(items: Iterable[str]) -> str:
    """Sentences, one below the other; "" for none."""
    shown = "".join(f'<li style="margin:.15em 0">{_html(item)}</li>' for item in items)
    return f'<ul style="margin:.4em 0 0;padding-left:1.3em">{shown}</ul>' if shown else ""


def picture(png: bytes, what: str) -> str:
    """A PNG, and in words what it shows."""
    style = "display:block;max-width:100%;height:auto;margin:.4em 0;background:#fff"
    return f'<img alt="{escape(what)}" style="{style}" src="data:image/png;base64,{b64encode(png).decode()}">'


def _html(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)
