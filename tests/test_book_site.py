"""The site of the book: built as a reader builds it, and opened in a browser."""

import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from browsing import CONTRAST, OVERFLOW, asked, driven, needs_both, shown

from scratchgen.cli import main
from scratchgen.commands.book import NEEDED

ROOT = Path(__file__).parents[1]
SITE = ROOT / "demos/book/site"
MISSING = [name for name in NEEDED if find_spec(name) is None]
needs_sphinx = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: the extra `book`")


@pytest.fixture
def at(tmp_path, monkeypatch, capsys):
    """at(argv): exit status, what it printed, and what it said of a failure; in the repository."""
    monkeypatch.chdir(ROOT)

    def run(*argv):
        status = main(["book", *map(str, argv)])
        return status, *capsys.readouterr()

    return run


def test_it_opens_or_says_how_it_is_built(at, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    status, _, said = at("--output", tmp_path)
    assert status == 2
    assert "scratchgen book --build builds it" in said
    assert 'pip install ".[book]"' in said
    (tmp_path / "index.html").touch()
    address = (tmp_path / "index.html").as_uri()
    assert at("--output", tmp_path, "--no-browser") == (0, f"{address}\n", "")
    assert opened == []
    assert at("--output", tmp_path) == (0, f"{address}\n", "")
    assert opened == [address]


def test_away_from_the_repository(at, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scratchgen.commands.book.__file__", str(tmp_path / "lib/scratchgen/commands/book.py"))
    status, _, said = at()
    assert status == 2
    assert "run this in a clone of it" in said
    status, _, said = at("--build", "--output", tmp_path)
    assert status == 2
    assert "demos/book of the repository" in said


def test_what_building_needs_is_named(at, tmp_path, monkeypatch):
    monkeypatch.setattr("scratchgen.commands.book.NEEDED", ("numpy", "not_there_1", "not_there_2"))
    status, _, said = at("--build", "--output", tmp_path)
    assert status == 2
    assert "needs not_there_1, not_there_2: pip install" in said


@needs_sphinx
def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run([sys.executable, SITE / "build.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "something else than the book" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@needs_sphinx
def test_a_chapter_that_does_not_hold_stops_the_build(tmp_path):
    book = shutil.copytree(ROOT / "demos/book", tmp_path / "demos/book")
    for page in book.glob("[0-9]*.md"):
        page.unlink()
    text = "$$ 1 = 2 \\tag{1.1} $$\n\n```{code-cell} ipython3\nfrom proof import equal\nequal('1.1', 1, 2)\n```\n"
    (book / "01-t.md").write_text(text, encoding="utf-8")
    (tmp_path / "scratchgen").symlink_to(ROOT / "scratchgen")
    done = subprocess.run([sys.executable, book / "site/build.py", tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("01-t.md, line 5: equation (1.1) does not hold\n    1 = 2\n  largest difference 1")


@needs_sphinx
def test_docstrings_become_pages(monkeypatch):
    monkeypatch.syspath_prepend(SITE)
    from conf import as_rst

    text = ["One *sentence* of x_ and `code_`.", "", "    y = x W", "", "    z", "so", "- a", "  b", "1. no list"]
    assert as_rst(text) == [
        "One \\*sentence\\* of x\\_ and \\ ``code_``\\ .",
        *("", "", ".. code-block:: none", "", "        y = x W", "", "        z", "", "so"),
        *("- a", "  b", "\\1. no list"),
    ]


# --- in a browser ---

FORMULAS = """
const there = [...document.querySelectorAll(".math")], drawn = [...document.querySelectorAll("mjx-container")];
return [
  there.length, drawn.length, document.querySelectorAll("mjx-merror, [data-mjx-error]").length,
  drawn.filter((f) => !f.querySelector("svg")?.getBoundingClientRect().width).length,
  drawn.filter((f) => getComputedStyle(f).color !== getComputedStyle(f.parentElement.parentElement).color).length,
];
"""
PICTURES = """
return [...document.querySelectorAll("article img")].filter((i) => !(i.complete && i.naturalWidth && i.alt));
"""
WIDE = OVERFLOW.replace("document.body", "document.querySelector('article')")  # at its side are drawers, shut
DRAWN = "const done = arguments[0]; window.MathJax ? MathJax.startup.promise.then(done) : done()"


@needs_sphinx
@needs_both
def test_every_page_in_a_browser(tmp_path):
    """One test, for the site takes a minute to build: every page in both themes, and as wide as a phone."""
    pytest.importorskip("selenium.webdriver", reason="needs selenium: the extra `pages`")
    site = tmp_path / "site"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, SITE / "build.py", site], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    built = time.perf_counter() - start
    browser = driven(tmp_path / "profile")
    try:
        seen = sorted(site.rglob("*.html"))
        faults = [f"{page.relative_to(site)}: {what}" for page in seen for what in looked_at(browser, page)]
        assert not faults, "\n".join(faults)
        assert "Convolution" in found(browser, site, "transposed")
    finally:
        browser.quit()
    print(f"built in {built:.0f} s, {len(seen)} pages looked at in {time.perf_counter() - start - built:.0f} s")


def looked_at(browser, page: Path) -> list[str]:
    """What is wrong with a page."""
    faults = []
    shown(browser, page)
    browser.execute_async_script(DRAWN)
    there, drawn, errors, empty, other = browser.execute_script(FORMULAS)
    if there != drawn or errors or empty or other:
        faults.append(f"{there} formulas, {drawn} drawn, {errors} wrong, {empty} empty, {other} in another colour")
    faults += [f"a picture that is not there: {p}" for p in browser.execute_script(PICTURES)]
    if page.name[:2].isdigit() and page.parent.name == "" and not there:
        faults.append("no formula")
    grounds = []
    themes = ("light", "dark") if "source" not in page.parts or page.stem == "dense" else ()  # all are like one
    for theme in themes:
        browser.execute_script("document.body.dataset.theme = arguments[0]", theme)
        texts, poor, ground = browser.execute_script(CONTRAST)
        grounds.append(ground)
        faults += ["no text"] * (texts < 5)
        faults += [f"hard to read in the {theme} theme: {text}" for text in poor]
    if themes and not grounds[1] < 0.1 < 0.8 < grounds[0]:
        faults.append(f"the themes have grounds {grounds}")
    for width in (360, 800, 1050, 1280, 1350):  # with no drawer, with one, with two
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        faults += [f"too wide at {width} pixels: {what}" for what in browser.execute_script(WIDE)]
    faults += [f"asks for {url}" for url in asked(browser) if not url.startswith(("file:", "about:", "blob:"))]
    return faults + [entry["message"] for entry in browser.get_log("browser")]


def found(browser, site: Path, word: str) -> str:
    """The titles that the search of the site finds for a word."""
    shown(browser, site / "search.html")
    browser.execute_script("location.search = arguments[0]", f"?q={word}")
    until(browser, "return /finished|found/i.test(document.querySelector('.search-summary')?.innerText || '')")
    return browser.execute_script("return document.querySelector('#search-results').innerText")


def until(browser, script: str) -> None:
    deadline = time.perf_counter() + 20
    while not browser.execute_script(script):
        assert time.perf_counter() < deadline, f"{browser.current_url}: never so: {script}"
        time.sleep(0.05)
