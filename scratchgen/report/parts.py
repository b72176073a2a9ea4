"""What pages are made of: HTML that needs no other file."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from scratchgen.report.pictures import Packed
from scratchgen.report.words import TERMS

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
# A path from the root on, of either kind of system, up to its last name.
FOLDERS = re.compile(r"""(?<![\w.])(?:[A-Za-z]:[\\/]|[\\/]{1,2})(?:[^\s\\/'"<>|:]+[\\/])+""")


def document(title: str, body: str, script: str = "", refresh: int = 0) -> str:
    """A page that asks nothing of the network and lets no other script run than its own; a browser looks at it anew
    every so many seconds."""
    own = f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'; " if script else ""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {own}base-uri 'none'; form-action 'none'"
    anew = f'<noscript><meta http-equiv="refresh" content="{refresh}"></noscript>' if refresh else ""
    data = f' data-refresh="{refresh}"' if refresh else ""
    return (
        f'<!doctype html>\n<html lang="en"{data}><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">{anew}'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n{f'<script>{script}</script>' if script else ''}"
        "</body></html>\n"
    )


def escaped(text: str) -> str:
    """Text for the page, without the folders of this machine."""
    return escape(FOLDERS.sub("", text))


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = (), escaped: Callable[[str], str] = escaped) -> str:
    """Rows of a name, indented where it begins with spaces, and its values; `head` names the columns of these."""
    cells = ""
    for name, *values in rows:
        text = str(name)
        depth = (len(text) - len(text.lstrip())) // 2
        kind = ("", ' class="in"', ' class="in-in"')[min(depth, 2)]
        of_values = "".join(f"<td>{escaped(str(value))}</td>" for value in values)
        cells += f"<tr><th scope=row{kind}>{escaped(text.strip())}</th>{of_values}</tr>"
    names = "".join(f"<th scope=col>{escape(name)}</th>" for name in head)
    return (
        f'<div class="scroll"><table>{f"<thead><tr><td></td>{names}</tr></thead>" if head else ""}'
        f"<tbody>{cells}</tbody></table></div>"
    )


def explained(terms: Iterable[str]) -> str:
    """What these terms mean, each once."""
    items = [f"<dt>{name}</dt><dd>{text}</dd>" for name, text in (TERMS[t] for t in dict.fromkeys(terms))]
    return f'<section><h2>Terms on this page</h2><dl class="terms">{"".join(items)}</dl></section>'


def shape(picture: Packed) -> str:
    return "wide" if picture.of_rows else "grid"


def as_image(picture: Packed, text: str, name: str = "") -> str:
    uri, width, height, _ = picture
    own = f' id="{name}"' if name else ""
    return f'<img{own} alt="{escape(text)}" width="{width}" height="{height}" src="{uri}">'
