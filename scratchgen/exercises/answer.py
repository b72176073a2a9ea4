"""Somebody's answer, before it runs: which exercise it is for, and whether it is written with what it may be."""

import ast
import difflib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from scratchgen.exercises.exercise import Exercise
from scratchgen.exercises.table import EXERCISES
from scratchgen.files import shown
from scratchgen.gradcheck.student import not_python

LARGEST = 1 << 20  # bytes of an answer
FRAMEWORKS = ("torch", "jax", "tensorflow", "keras", "autograd", "tinygrad", "mxnet", "theano")
BY_NAME = ("importlib", "runpy", "imp", "pkgutil")  # modules that load others


class NoAnswer(ValueError):
    """Why a file cannot be checked, in a sentence that says what to do. `verdict` is a word for it."""

    def __init__(self, why: str, verdict: str = "not checked") -> None:
        super().__init__(why)
        self.verdict = verdict


@dataclass(frozen=True)
class Answer:
    """A file, what is in it, and the exercise that it is for."""

    file: Path
    source: bytes
    exercise: Exercise


def named(word: str) -> Exercise | None:
    """The exercise of that name; upper case, - and a space for _ do not matter."""
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")
    return next((exercise for exercise in EXERCISES if exercise.name == plain), None)


def is_in(exercise: Exercise, stem: str) -> bool:
    """Whether the name of a file has the exercise's name in it, as a word or some."""
    return f"_{exercise.name}_" in f"_{re.sub('[^a-z0-9]+', '_', stem.lower())}_"


def by_name(file: Path) -> Exercise | None:
    """The exercise that a file is named after, or whose name is in that of the file."""
    return named(file.stem) or max((e for e in EXERCISES if is_in(e, file.stem)), key=_length, default=None)


def _length(exercise: Exercise) -> int:
    return len(exercise.name)


def skeleton(exercise: Exercise) -> str:
    """The file that the exercise begins with."""
    return (files("scratchgen.exercises") / "skeletons" / f"{exercise.name}.py").read_text(encoding="utf-8")


def read(file: Path, asked: Exercise | None = None) -> Answer:
    """The answer in a file: to the exercise asked for; or to that which the file is named after, as dense.py; or, the
    file having another name, to that whose class or function it defines, where it defines that of one alone or its
    name has the exercise's in it, as alice_dense.py. Nothing of the file is run. Raises NoAnswer."""
    if not file.is_file():
        raise NoAnswer(
            f"{file} is a folder: scratchgen exercise grade {file} checks all files in it"
            if file.is_dir()
            else f"{file} is not a file" + _near(file)
        )
    if file.suffix.lower() == ".ipynb":
        raise NoAnswer(f"{file} is a notebook: put the class or function into a Python file, NAME.py")
    try:
        with open(file, "rb") as stream:
            source = stream.read(LARGEST + 1)
    except OSError as error:
        raise NoAnswer(f"{file} cannot be read: {error.strerror}") from None
    if len(source) > LARGEST:
        raise NoAnswer(f"{file} has more than {LARGEST:,} bytes, which no answer needs")
    try:
        tree = _parsed(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NoAnswer(f"{file} does not load: {not_python(source, error)}", "does not load") from None
    exercise = asked or named(file.stem) or _by_definitions(file, tree)
    if _is_skeleton(tree, exercise):
        raise NoAnswer(f"{file} is still the skeleton: write what it leaves open, then check it again", "not begun")
    if any(_defined(tree.body)):  # of somebody's own file that is all there is to say
        _demand_target(file, tree, exercise)
    _demand_own_work(file, tree, exercise)
    _demand_target(file, tree, exercise)
    return Answer(file, source, exercise)


def _is_skeleton(tree: ast.Module, exercise: Exercise) -> bool:
    return ast.dump(tree) == ast.dump(_parsed(skeleton(exercise).encode()))


def state(exercise: Exercise, file: Path) -> str:
    """What became of the file of an exercise so far: "not begun", the skeleton as it was written; "begun";
    "another's", where it defines other things; "" where there is none."""
    if not file.is_file():
        return ""
    try:
        with open(file, "rb") as stream:
            tree = _parsed(stream.read(LARGEST))
        if _is_skeleton(tree, exercise):
            return "not begun"
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return "begun"  # and the check says what is the matter
    defined = {name for name, _ in _defined(tree.body)}
    return "another's" if defined and exercise.target not in defined else "begun"


def _parsed(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _near(file: Path) -> str:
    try:
        there = [path.name for path in file.parent.glob("*.py")]
    except OSError:
        return ""
    near = difflib.get_close_matches(file.name, there, 1)
    return f": did you mean {file.with_name(near[0])}?" if near else ""


# --- which exercise ---


def _defined(body: Iterable[ast.stmt]) -> Iterator[tuple[str, int]]:
    """The names that a module defines, and in which lines."""
    for part in body:
        if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield part.name, part.lineno
        elif isinstance(part, ast.Assign):
            for target in part.targets:
                yield from ((name.id, part.lineno) for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(part, ast.If | ast.Try | ast.With):
            yield from _defined([*part.body, *getattr(part, "orelse", []), *getattr(part, "finalbody", [])])


def _by_definitions(file: Path, tree: ast.Module) -> Exercise:
    names = {name for name, _ in _defined(tree.body)}
    found = [exercise for exercise in EXERCISES if exercise.target in names]
    in_name = [exercise for exercise in found or EXERCISES if is_in(exercise, file.stem)]
    if len(found) == 1 or in_name:
        return max(in_name or found, key=_length)
    if found:
        targets, first = [e.target for e in found], found[0].name
        raise NoAnswer(
            f"{file} defines {', '.join(targets[:-1])} and {targets[-1]}, answers to {len(found)} exercises: "
            f"give each a file of its own, as {first}.py, or say which with --exercise {first}"
        )
    near = difflib.get_close_matches(file.stem.lower(), [exercise.name for exercise in EXERCISES], 1)
    meant = f"; did you mean {near[0]}.py?" if near else f", as {EXERCISES[0].name}.py, or say --exercise NAME"
    raise NoAnswer(f"{file} is for no exercise: {_has(tree)}; name it after its exercise{meant}")


def _has(tree: ast.Module) -> str:
    classes = [part.name for part in tree.body if isinstance(part, ast.ClassDef | ast.FunctionDef)]
    if not classes:
        return "it defines no class and no function"
    return f"it defines {', '.join(classes[:5])}{' …' if len(classes) > 5 else ''}, which none asks for"


def _demand_target(file: Path, tree: ast.Module, exercise: Exercise) -> None:
    """NoAnswer unless the file defines what the exercise asks for, once."""
    defined = Counter(name for name, _ in _defined(tree.body))
    target = exercise.target
    if target in defined:
        lines = [part.lineno for part in tree.body if getattr(part, "name", None) == target]
        if len(lines) > 1:
            raise NoAnswer(
                f"{file} defines {target} in line {lines[0]} and again in line {lines[-1]}: leave one of them"
            )
        return
    other = next((e for e in EXERCISES if e.target in defined), None)
    near = difflib.get_close_matches(target.lower(), {name.lower(): name for name in defined}, 1)
    if other is not None:
        mend = f"; it defines {other.target}: name it {other.name}.py, or say --exercise {other.name}"
    elif near:
        mend = f"; rename {next(name for name in defined if name.lower() == near[0])}"
    else:
        mend = f"; {_has(tree).partition(', which')[0]}" if defined else f"; {_has(tree)}"
    said = f"{file} does not define {target}, which the exercise {exercise.name} asks for{mend}"
    if other is None and not near and defined and named(file.stem) is exercise:
        said += (
            f"; it is not the exercise's file, which scratchgen exercise {exercise.name} writes: give it another name"
        )
    raise NoAnswer(said)


# --- with what ---


def _demand_own_work(file: Path, tree: ast.Module, exercise: Exercise) -> None:
    """NoAnswer where the file takes gradients from elsewhere: from this library, or from a framework."""
    allowed = {"Layer", "Parameter"} | {name for _, _, name in _imports(_parsed(skeleton(exercise).encode()))}
    library = {"scratchgen"}  # names of it in this file
    tree.body = [part for part in tree.body if not (isinstance(part, ast.If) and "__main__" in ast.dump(part.test))]
    for part, module, name in _imports(tree):
        first = module.partition(".")[0]
        if first in FRAMEWORKS:
            raise _not_allowed(file, part, f"imports {first}", "the backward is to be written by hand, with NumPy")
        if first in BY_NAME:
            raise _not_allowed(file, part, f"imports {first}", "an answer needs no more than its skeleton imports")
        if first == "scratchgen" and (module if isinstance(part, ast.Import) else name) not in {first, *allowed}:
            raise _taken(file, part, name, allowed)
        if first == "scratchgen" and isinstance(part, ast.Import):
            library |= {alias.asname for alias in part.names if alias.name == first and alias.asname}
    attributes = {id(part.value): part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
    for part in ast.walk(tree):
        if isinstance(part, ast.Name) and part.id in library and attributes.get(id(part)) not in allowed:
            raise _taken(file, part, attributes.get(id(part), part.id), allowed)
        if isinstance(part, ast.Name) and part.id == "__import__":
            raise _not_allowed(file, part, "calls __import__", "an answer needs no more than its skeleton imports")


def _imports(tree: ast.Module) -> Iterator[tuple[ast.AST, str, str]]:
    """Each import, with the module and the name that it takes."""
    for part in ast.walk(tree):
        if isinstance(part, ast.Import | ast.ImportFrom):
            for alias in part.names:
                module = alias.name if isinstance(part, ast.Import) else part.module or ""
                yield part, module, alias.name


def _taken(file: Path, part: ast.AST, what: str, allowed: set[str]) -> NoAnswer:
    *others, last = sorted(allowed)
    return _not_allowed(
        file, part, f"takes {shown(what)} from scratchgen", f"an answer takes {', '.join(others)} and {last} alone"
    )


def _not_allowed(file: Path, part: ast.AST, does: str, why: str) -> NoAnswer:
    return NoAnswer(f"{file} {does} in line {getattr(part, 'lineno', 0)}: {why}", "not allowed")
