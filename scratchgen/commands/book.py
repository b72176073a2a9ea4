"""scratchgen book: the book as a site, built and opened."""

import subprocess
import sys
import webbrowser
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from scratchgen.commands import UsageError
from scratchgen.commands.arguments import Commands, path
from scratchgen.files import printable

NEEDED = ("sphinx", "myst_nb", "jupytext", "furo", "mathjax")
INSTALL = 'pip install ".[book]" in the repository'


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "book",
        help="open the book: the mathematics, chapter by chapter, derived and proved",
        description="Open the book in a browser, as it was built; --build builds it, from the chapters of the "
        f"repository. That needs Sphinx and some of its extensions: {INSTALL}. It works without a network.",
    )
    parser.add_argument("--build", action="store_true", help="build it; chapters that have changed are run again")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="where it is built (default: build/book in the repository)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print its address, and open nothing")
    parser.set_defaults(main=main)


def main(args: Namespace) -> int:
    repository = _repository()
    if args.output is None and repository is None:
        raise UsageError(
            "the book is built from demos/book of the repository, which is not here and not around the installed "
            "scratchgen: run this in a clone of it, or give --output DIR, where it was built"
        )
    folder = (args.output or Path(repository or "", "build", "book")).absolute()
    if args.build:
        if repository is None:
            raise UsageError("the chapters are in demos/book of the repository: run this in a clone of it")
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            raise UsageError(f"building the book needs {', '.join(missing)}: {INSTALL}")
        builder = repository / "demos" / "book" / "site" / "build.py"
        print("building the book, in a minute or two", flush=True)
        if subprocess.run([sys.executable, builder, folder]).returncode:
            raise UsageError("the book was not built; what is wrong is said above")
    index = folder / "index.html"
    if not index.is_file():
        raise UsageError(
            f"the book is not built in {printable(str(folder))}: scratchgen book --build builds it ({INSTALL}); "
            "its chapters can be read in demos/book, too, README.md first"
        )
    print(index.as_uri())
    if not args.build and not args.no_browser:
        webbrowser.open(index.as_uri())
    return 0


def _repository() -> Path | None:
    """The clone in which this is run, or from which scratchgen is imported."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).parents[2]):
        if (folder / "demos" / "book" / "site" / "build.py").is_file():
            return folder
    return None
