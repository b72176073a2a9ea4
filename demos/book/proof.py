"""The proofs of the book: `equal`, `true` and `picture`, which its chapters use; and a chapter run without Jupyter.

    python demos/book/proof.py               proves every chapter
    python demos/book/proof.py 05            proves this one

A chapter is a page of Markdown whose ```{code-cell} blocks are run from top to bottom. Its displayed equations carry
a number each, \\tag{5.3}, by which its cells refer to them.
"""

import ast
import os
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
from matplotlib.figure import Figure

from scratchgen.plots import own_style

BOOK = Path(__file__).parent
WRITE = "SCRATCHGEN_BOOK_PICTURES"  # =1 in the environment: pictures are written again


def equal(tag: str, left: object, right: object, *, rtol: float = 1e-9, atol: float = 0.0) -> None:
    """The two sides of equation (tag), computed, are equal: arrays of one shape, or a scalar beside an array.

    The largest difference may be `rtol` times the largest element of either side, and `atol` more, which an equation
    with 0 on one side needs. AssertionError, which shows the equation and the difference, where it is larger.
    """
    text = equation(tag)
    a, b = (np.asarray(side) for side in (left, right))
    a, b = (side.astype(np.result_type(side, np.float64)) for side in (a, b))
    if a.shape != b.shape and a.ndim and b.ndim:
        raise AssertionError(_fails(tag, text, f"the left side has shape {a.shape}, the right side {b.shape}"))
    with np.errstate(invalid="ignore"):  # inf − inf is not a number, and so no proof
        difference = np.abs(a - b)
    largest = float(difference.max(initial=0.0))
    scale = float(max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))
    if not (np.isfinite(scale) and largest <= rtol * scale + atol):  # not for NaN either
        where = np.unravel_index(
            int(np.nanargmax(np.where(np.isnan(difference), np.inf, difference))), difference.shape
        )
        at, (x, y) = tuple(map(int, where)), (np.broadcast_to(side, difference.shape)[where] for side in (a, b))
        place = f" at {at}" if at else ""
        raise AssertionError(
            _fails(tag, text, f"largest difference {difference[where]:.3g}{place}: left {x:.8g}, right {y:.8g}")
        )
    error = largest / scale if scale and not atol else largest
    print(f"({tag}) holds {f'to {error:.0e}' if error else 'exactly'}")


def true(tag: str, condition: object, what: str) -> None:
    """Statement (tag) holds, as computed; `what` says it in words. AssertionError where it does not."""
    text = equation(tag)
    if not np.all(condition):
        raise AssertionError(_fails(tag, text, f"it is not so that {what}"))
    print(f"({tag}) holds: {what}")


def picture(name: str, figure: Figure) -> None:
    """Write pictures/`name`, 01-maps.svg say, which the chapter shows: where there is none yet, or where
    SCRATCHGEN_BOOK_PICTURES=1 asks for it again. ValueError where no chapter shows a picture of this name."""
    if not any(f"](pictures/{name})" in page.read_text(encoding="utf-8") for page in chapters()):
        raise ValueError(f"no chapter shows ![...](pictures/{name}): the name is written in full, as in 01-maps.svg")
    path = BOOK / "pictures" / name
    if path.exists() and os.environ.get(WRITE) != "1":
        return
    import matplotlib

    path.parent.mkdir(exist_ok=True)
    with own_style(), matplotlib.rc_context({"svg.hashsalt": name}):  # the same file at each writing
        figure.savefig(path, dpi=150, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else {})


# --- chapters as text, for the tests and for this file as a command ---


def chapters() -> list[Path]:
    """The files of all chapters, in order."""
    return sorted(BOOK.glob("[0-9][0-9]-*.md"))


def equation(tag: str) -> str:
    """The equation with this tag, as it stands in its chapter. LookupError where there is none, or two."""
    number = tag.partition(".")[0]
    pages = list(BOOK.glob(f"{number:0>2}-*.md"))
    found = [text for page in pages for t, text in equations(page.read_text(encoding="utf-8")) if t == tag]
    if len(found) != 1:
        where = pages[0].name if pages else f"{number:0>2}-*.md"
        raise LookupError(f"{where}: {len(found) or 'no'} equation{'s' * (len(found) > 1)} with \\tag{{{tag}}}")
    return found[0]


def equations(page: str) -> list[tuple[str, str]]:
    """(tag, text) of every displayed equation outside of code; "" as tag where one has none."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    found = []
    for display in re.findall(r"\$\$(.*?)\$\$", prose, flags=re.DOTALL):
        tags = re.findall(r"\\tag\{(.*?)\}", display)
        found.append((" and ".join(tags), " ".join(re.sub(r"\\tag\{.*?\}", "", display).split())))
    return found


def cells(page: str) -> list[tuple[int, str]]:
    """(number of its first line, source) of every cell that is run."""
    found = []
    for match in re.finditer(r"^```\{code-cell\}.*\n((?:.*\n)*?)^```$", page, flags=re.MULTILINE):
        source = re.sub(r"\A(:.*\n)+", lambda options: "\n" * options[0].count("\n"), match[1])
        found.append((page[: match.start(1)].count("\n") + 1, source))
    return found


def run(chapter: Path) -> list[str]:
    """Run the cells of a chapter in one namespace, as Jupyter does from top to bottom; returns what each one printed.

    AssertionError, which names the chapter and the line, where one fails.
    """
    module = ModuleType("__main__")
    said = []
    for start, source in cells(chapter.read_text(encoding="utf-8")):
        try:
            with redirect_stdout(StringIO()) as out:
                _run_cell(source, start, chapter, module.__dict__)
        except Exception as error:
            raise AssertionError(f"{chapter.name}, line {_line(error, chapter) or start}: {_words(error)}") from error
        finally:
            print(out.getvalue(), end="")
        said.append(out.getvalue())
    return said


def _run_cell(source: str, start: int, chapter: Path, names: dict) -> None:
    """With lines numbered as in the chapter; the value of an expression at the end is shown."""
    tree = ast.parse("\n" * (start - 1) + source, str(chapter))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(chapter), "exec"), names)
    if last:
        value = eval(compile(ast.Expression(last.value), str(chapter), "eval"), names)
        if value is not None:
            print(repr(value))


def _line(error: Exception, chapter: Path) -> int | None:
    """The last line of the chapter that led to it."""
    line, trace = (error.lineno if isinstance(error, SyntaxError) else None), error.__traceback__
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(chapter) else line
        trace = trace.tb_next
    return line


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"


def _fails(tag: str, text: str, how: str) -> str:
    return f"equation ({tag}) does not hold\n    {text}\n  {how}"


def main(names: list[str]) -> None:
    """Prove these chapters, or all."""
    wanted = [c for c in chapters() if not names or any(c.name.startswith(Path(name).stem) for name in names)]
    if not wanted:
        sys.exit(f"no chapter begins with {', '.join(names)}; there are {', '.join(c.stem for c in chapters())}")
    for chapter in wanted:
        print(chapter.name)
        try:
            run(chapter)
        except AssertionError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    sys.modules["proof"] = sys.modules["__main__"]
    main(sys.argv[1:])
