"""How Sphinx makes the site; `build.py` calls it."""

import re
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes

import scratchgen

HERE = Path(__file__).parent
project = "scratchgen"
author = "the authors of scratchgen"
version = release = scratchgen.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
language = "en"
root_doc = "index"

# Chapters are notebooks here, which `build.py` has run.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# The site needs no network: MathJax lies beside it, as the one file that draws formulas as SVG, without fonts.
MATHJAX = Path(find_spec("mathjax").submodule_search_locations[0], "static/mathjax/es5/tex-svg.js")
mathjax_path = "tex-svg.js"
mathjax3_config = {
    "options": {"enableMenu": False},
    "tex": {"packages": {"[-]": ["noerrors", "noundefined"]}},  # a mistake is shown as one, not as text
}
html_theme = "furo"
pygments_style, pygments_dark_style = "default", "github-dark"
html_title = f"scratchgen {version}"
html_static_path = [str(HERE / "style.css"), str(MATHJAX)]
html_css_files = ["style.css"]
html_show_sourcelink = html_copy_source = False
html_show_copyright = html_show_sphinx = False
html_show_search_summary = False  # they are fetched, which a browser refuses a page from a disk
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6fa4", "color-brand-content": "#0b6fa4"},
    "dark_css_variables": {"color-brand-primary": "#6bb8e0", "color-brand-content": "#6bb8e0"},
}

# The reference.
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"


def as_rst(lines: list[str]) -> list[str]:
    """A docstring of the library, plain text, as reStructuredText: indented lines as they stand, `code` as code, and
    nothing else with a meaning of its own."""
    said: list[str] = []
    literal = False
    for i, line in enumerate(lines):
        if not line.strip():
            said.append("")
            continue
        indented = line.startswith("  ") and not _goes_on(lines, i)
        if indented and not literal:
            said += ["", ".. code-block:: none", ""]
        elif literal and not indented:
            said.append("")
        literal = indented
        said.append(f"    {line}" if indented else _plain(line))
    return said


def _goes_on(lines: list[str], i: int) -> bool:
    """Whether an indented line belongs to an item of a list, `- ...`, above it."""
    above = next((line for line in reversed(lines[:i]) if not line.startswith("  ")), "")
    return above.startswith("- ")


def _plain(line: str) -> str:
    chapter = re.fullmatch(r"Chapter: demos/book/(.*)\.md", line)
    if chapter and (HERE.parent / f"{chapter[1]}.md").exists():
        return f"Chapter: :doc:`/{chapter[1]}`"
    parts = re.split(r"`([^`]+)`", line)
    for k, part in enumerate(parts):
        parts[k] = f"\\ ``{part}``\\ " if k % 2 else re.sub(r"([\\*_|`]|::)", r"\\\1", part)
    text = "".join(parts)
    return re.sub(r"^(\w+[.)]\s|[+*>])", r"\\\1", text)


def docstring(app, what, name, obj, options, lines):
    lines[:] = [*as_rst(lines), ""]


def signature(app, what, name, obj, options, arguments, result):
    """Of an array of either library the name that the source has."""
    array = r"~?(numpy\.)?ndarray\[~?(typing\.)?Any, ~?(numpy\.)?dtype\[~?(typing\.)?Any\]\]"
    return tuple(text and re.sub(array, "Array", text) for text in (arguments, result))


def formulas(app, doctree):
    """Displayed ones as they are written, for Sphinx would put several lines into a `split`, where no tag may be; and
    no line begins with the full stop or comma after a formula."""
    for node in doctree.findall(nodes.math_block):
        text, node["no-wrap"], node.children = node.astext(), True, []
        node += nodes.Text(f"\\[{text}\\]")
    for node in list(doctree.findall(nodes.math)):
        after = node.next_node(descend=False, siblings=True)
        mark = re.match(r"[.,;:!?)]+", after) if isinstance(after, nodes.Text) else None
        if mark:
            parent, at = node.parent, node.parent.index(node)
            parent[at : at + 2] = [
                nodes.inline("", "", node, nodes.Text(mark[0]), classes=["formula"]),
                nodes.Text(after[mark.end() :]),
            ]


def setup(app):
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("doctree-read", formulas)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
