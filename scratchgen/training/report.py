"""report.html: a run on one page that holds all its pictures and asks nothing of the network."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from scratchgen.files import atomic_write
from scratchgen.training.run_folder import RunFolder

REFRESH = 10  # seconds between two looks of a browser at a run under way
SHEETS = 24  # earlier sample sheets, evenly chosen, at the most
SHEET = re.compile(r"epoch-[0-9]+\.png")
HIDDEN = ("image_shape", "data_sha256", "scratchgen", "id")  # of the config, not worth a row

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
.sheets { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { color: var(--soft); white-space: pre; }
"""


def write_report(folder: RunFolder, *, model: str, state: str, under_way: bool) -> Path:
    """Write the page anew from what lies in the folder; `state` says how far the run is."""
    title = f"{model}: {folder.path.resolve().name}"
    found = (folder.path / "samples").glob("epoch-*.png")
    sheets = sorted((p for p in found if SHEET.fullmatch(p.name) and p.is_file()), key=_number)
    latest = folder.path / "samples" / "latest.png"
    parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="state">{html.escape(state)}</p>']
    shown = latest if under_way and latest.is_file() else sheets[-1] if sheets else None
    if shown:
        parts += ["<h2>Samples</h2>", _picture(shown, "now" if shown == latest else _epoch(shown))]
    for name, heading in (("losses.png", "Losses"), ("health.png", "Health")):
        if (folder.path / name).is_file():
            parts += [f"<h2>{heading}</h2>", _picture(folder.path / name, heading.lower())]
    parts += _measures(folder)
    if len(sheets) > 1:
        parts.append("<h2>From epoch to epoch, the same noise</h2>")
        parts.append('<div class="sheets">' + "".join(_picture(s, _epoch(s)) for s in _chosen(sheets)) + "</div>")
    config = [(k.replace("_", " "), _text(v)) for k, v in folder.config().items() if k not in HIDDEN]
    parts += ["<h2>Settings</h2>", _table(config)]

    refresh = f'<meta http-equiv="refresh" content="{REFRESH}">' if under_way else ""
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>{refresh}'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    path = folder.path / "report.html"
    with atomic_write(path) as stream:
        stream.write(page.encode(errors="replace"))  # a name of bytes that are no text has no other form
    return path


def _measures(folder: RunFolder) -> list[str]:
    """What `scratchgen evaluate` kept, or why it cannot be shown."""
    try:
        measures = folder.measures()
    except ValueError as error:
        return ["<h2>Measures</h2>", f'<p class="state">Left out: {html.escape(str(error))}</p>']
    if measures is None:
        return []
    heading = f"Measures after epoch {measures['epoch']}, {measures['data']}"
    files = sorted(p for p in (folder.path / "evaluation").glob("*.png") if p.is_file())
    pictures = [_picture(path, path.stem) for path in files]
    return [f"<h2>{html.escape(heading)}</h2>", _table(measures["rows"]), *pictures]


def _picture(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = html.escape(caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(rows: Iterable[Sequence[object]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(str(a))}</td><td>{html.escape(str(b))}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("epoch-"))


def _epoch(path: Path) -> str:
    return f"after epoch {_number(path)}" if _number(path) else "before training"


def _chosen(sheets: list[Path]) -> list[Path]:
    if len(sheets) <= SHEETS:
        return sheets
    return [sheets[round(i * (len(sheets) - 1) / (SHEETS - 1))] for i in range(SHEETS)]
