"""Build the site of the book: `python demos/book/site/build.py FOLDER`, or `scratchgen book --build`.

The chapters, with the pages of the source to which they link and a reference from the docstrings, are laid together
in a folder, and Sphinx makes the site of them. No warning is let pass, and no network is needed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from sphinx.cmd.build import main as sphinx

BOOK = Path(__file__).parents[1]
SOURCE = BOOK.parents[1] / "scratchgen"
REFERENCE = {
    "Layers": (
        *("layer", "pullback", "parameter", "module", "sequential", "dense", "activations", "conv", "pooling"),
        *("batchnorm", "layernorm", "shape", "random", "dropout", "augment"),
    ),
    "Losses, optimizers, first weights": ("losses", "optim", "schedules", "init"),
    "Models": ("model", "autoencoder", "vae", "likelihood", "gan", "dcgan"),
    "The gradient check": ("check", "report", "adjoint", "numeric", "objective"),
    "Data, measures, pictures": ("data", "measures", "plots"),
}
FOLDERS = {"Layers": "layers", "Models": "models", "The gradient check": "gradcheck"}


def main(out: Path) -> int:
    """Build into `out`, a new folder or one built before; Sphinx's exit status, 1 where a chapter fails."""
    cache, work = out / ".cache", out / ".sources"  # what cells printed; what the site is made of, gone afterwards
    if out.exists() and any(out.iterdir()) and not cache.is_dir():
        sys.exit(f"{out} holds something else than the book: give a new or an empty folder")
    cache.mkdir(parents=True, exist_ok=True)
    try:
        printed = run_chapters(cache)
    except ChapterFails as failure:
        sys.exit(str(failure))
    for old in out.iterdir():
        if old.is_dir() and old != cache:
            shutil.rmtree(old)
        elif old.is_file():
            old.unlink()
    lay_out(work, printed)
    sys.path.insert(0, str(SOURCE.parent))
    switches = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(work / ".doctrees")]
    status = sphinx([*switches, "-c", str(Path(__file__).parent), str(work), str(out)])
    if not status:
        shutil.rmtree(work)
    return status


class ChapterFails(Exception):
    """What a chapter that does not hold says."""


def run_chapters(cache: Path) -> dict[str, list[str]]:
    """What the cells of each chapter print: as they did before where neither it nor the library has changed."""
    code = sorted(path for path in (*SOURCE.rglob("*.py"), BOOK / "proof.py"))
    library = hashlib.sha256(b"".join(path.read_bytes() for path in code))

    def printed(chapter: Path) -> tuple[str, list[str]]:
        key = library.copy()
        key.update(chapter.read_bytes())
        kept = cache / f"{key.hexdigest()[:16]}.json"
        if not kept.is_file():
            program = "import json, pathlib, sys, proof; said = proof.run(pathlib.Path(sys.argv[1])); "
            program += "pathlib.Path(sys.argv[2]).write_text(json.dumps(said), encoding='utf-8')"
            environment = {name: value for name, value in os.environ.items() if name != "SCRATCHGEN_BOOK_PICTURES"}
            environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE.parent), str(BOOK)])
            command = [sys.executable, "-c", program, str(chapter), str(kept)]
            done = subprocess.run(command, cwd=BOOK, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise ChapterFails(done.stderr.strip().rpartition("AssertionError: ")[2])
        return chapter.stem, json.loads(kept.read_text(encoding="utf-8"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(printed, sorted(BOOK.glob("[0-9][0-9]-*.md"))))


def lay_out(work: Path, printed: dict[str, list[str]]) -> None:
    """The pages of the site as Sphinx reads them: chapters as notebooks with their outputs."""
    (work / "reference").mkdir(parents=True)
    shutil.copytree(BOOK / "pictures", work / "pictures")
    linked = {module_path(module) for modules in modules_of().values() for module in modules}
    for name, outputs in printed.items():
        page, files = with_links(BOOK / f"{name}.md")
        linked |= files
        notebook = jupytext.reads(page, fmt="md:myst")
        for cell, text in zip((c for c in notebook.cells if c.cell_type == "code"), outputs, strict=True):
            cell.outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
        nbformat.write(notebook, work / f"{name}.ipynb")
    page, files = with_links(BOOK / "README.md")
    titles = re.findall(r"^(\d+)\. \[(.*?)\]\((.*?)\.ipynb\)", page, re.MULTILINE)
    page += toctree("Chapters", [f"{number} {title} <{name}>" for number, title, name in titles])
    page += toctree("Reference", ["reference/index"])
    (work / "index.md").write_text(page, encoding="utf-8")
    for path in sorted(linked | files):
        source_page(path, work / "source")
    reference(work / "reference")


def with_links(file: Path) -> tuple[str, set[Path]]:
    """A page of the book whose links to files of the repository lead to pages of the site, and those files; a link to
    what is not on the site becomes its words alone."""
    files: set[Path] = set()

    def link(match: re.Match) -> str:
        words, path, place = match.groups()
        target = (file.parent / path).resolve()
        if path.startswith("https:"):
            return match[0]
        if target.parent == BOOK and target.is_file():
            there = "index.md" if target.stem == "README" else f"{target.stem}.ipynb"
            return f"[{words}]({there}{place or ''})"
        if target.suffix == ".py" and target.is_file() and target.is_relative_to(SOURCE.parent):
            files.add(target)
            return f"[{words}](source/{page_name(target)}.md)"
        return words

    parts = re.split(r"(^```.*?^```$)", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)", link, prose) for prose in parts[::2]]
    return "".join(parts), files


def page_name(file: Path) -> str:
    return file.relative_to(SOURCE.parent).with_suffix("").as_posix()


def source_page(file: Path, folder: Path) -> None:
    """The file itself, to read; left out of the search, which is for what is written about it."""
    page = folder / f"{page_name(file)}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8").rstrip()
    name = file.relative_to(SOURCE.parent).as_posix()
    front = "---\norphan: true\nnosearch: true\n---\n"
    page.write_text(f"{front}# {name}\n\n~~~~~python\n{text}\n~~~~~\n", encoding="utf-8")


def modules_of() -> dict[str, list[str]]:
    """The modules of each page of the reference."""
    return {
        title: [f"{FOLDERS[title]}.{name}" if title in FOLDERS else name for name in names]
        for title, names in REFERENCE.items()
    }


def module_path(module: str) -> Path:
    path = SOURCE / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reference(folder: Path) -> None:
    """A page for each group of modules, from their docstrings."""
    pages = []
    for number, (title, modules) in enumerate(modules_of().items(), 1):
        text = [title, "=" * len(title), ""]
        for module in modules:
            head = f"{module.replace('.', '/')}"
            source = f":doc:`its source </source/{page_name(module_path(module))}>`"
            text += [head, "-" * len(head), "", f"``scratchgen.{module}``: {source}.", ""]
            text += [f".. automodule:: scratchgen.{module}", "   :members:", ""]
            if module_path(module).name == "__init__.py":
                text.insert(-1, "   :imported-members:")
        pages.append(f"{number}-{re.sub('[^a-z]+', '-', title.lower())}")
        (folder / f"{pages[-1]}.rst").write_text("\n".join(text), encoding="utf-8")
    head = [
        "# Reference",
        "",
        "What each class and function says of itself: its formula, shapes, units and errors.",
        "",
    ]
    (folder / "index.md").write_text("\n".join(head) + toctree("", pages), encoding="utf-8")


def toctree(caption: str, pages: list[str]) -> str:
    options = f":caption: {caption}\n:hidden:\n" if caption else ""
    return "\n```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
