"""Answers proved, each in a process of its own with a time and a memory limit: one, or a folder of them."""

import csv
import io
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen import progress
from scratchgen.exercises import answer
from scratchgen.exercises.answer import Answer, NoAnswer
from scratchgen.exercises.exercise import Exercise
from scratchgen.files import atomic_write, printable
from scratchgen.gradcheck import TensorReport, apart, guard
from scratchgen.gradcheck.apart import Limits
from scratchgen.gradcheck.confine import spare
from scratchgen.gradcheck.student import demand_same, load_module, relied_on
from scratchgen.gradcheck.trials import CannotCheck

COLUMNS = ("student", "file", "exercise", "verdict", "what is wrong", "seconds")
WRONG = ("wrong", "not begun", "not allowed")  # verdicts on an answer; the others say why there is none
ENDS = {
    "exit": "left",
    "crash": "crashed",
    "killed": "crashed",
    "time": "time limit",
    "output": "output limit",
    "breach": "not allowed",
    "stopped": "not checked",
}
NO_MEMORY = "it needs more memory than it may have, --memory gives it more"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula


@dataclass
class Verdict:
    """What became of an answer: "right", "wrong" or another word, what is wrong in a sentence each, the tables of the
    check and figures that go below the sentences, the gradients as data, what the file printed, and whose it is: of
    nobody in particular where it was checked alone."""

    file: str
    exercise: str
    verdict: str
    faults: list[str] = field(default_factory=list)
    details: str = ""
    figures: str = ""
    gradients: list[dict[str, Any]] = field(default_factory=list)
    printed: str = ""
    seconds: float = 0.0
    student: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """As an exit status: 0 right, 1 wrong, 2 could not be checked."""
        return 0 if self.verdict == "right" else 1 if self.verdict in WRONG else 2

    @property
    def why(self) -> str:
        """What is wrong, in one sentence."""
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        return self.faults[0] + more if self.faults else "; ".join(self.notes)


def check(file: Path, exercise: Exercise | None, limits: Limits) -> Verdict:
    """The verdict on the answer in a file, see `answer.read` for which exercise it is for."""
    try:
        return prove(answer.read(file, exercise), limits)
    except NoAnswer as error:
        return _unread(file, exercise, error)


def _unread(file: Path, exercise: Exercise | None, error: NoAnswer) -> Verdict:
    known = exercise or answer.by_name(file)
    return Verdict(str(file), known.name if known else "", error.verdict, [_line(str(error))])


def prove(submitted: Answer, limits: Limits, stop: threading.Event | None = None) -> Verdict:
    """The verdict on an answer, which runs in a process of its own and in an empty folder that goes afterwards."""
    name = submitted.exercise.name
    with tempfile.TemporaryDirectory(prefix="scratchgen-", ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        file = folder / f"{name}.py"
        file.write_bytes(submitted.source)
        request = {"file": str(file), "name": name}
        job = f"{__name__}:prove_file"
        ended = apart.run(job, request, str(file), limits=limits, folder=folder, stop=stop)
        written = _written(folder, file)
    verdict = Verdict(str(submitted.file), name, "", seconds=ended.seconds)
    result: Any = next((message for message in ended.messages if "ok" in message), None)
    cannot: Any = next((message for message in ended.messages if "cannot" in message), None)
    if ended.why:
        verdict.verdict, verdict.faults = ENDS[ended.kind], [ended.why]
    elif result is not None:
        verdict.verdict, verdict.details = "right" if result["ok"] else "wrong", result["details"]
        verdict.figures, verdict.gradients = result["figures"], result["gradients"]
        verdict.faults = [] if result["ok"] else result["faults"] or ["the proof fails, and says no more"]
    else:
        why = cannot["why"] if cannot else "its proof did not come to its end"
        verdict.verdict, verdict.faults = (cannot or {}).get("verdict", "wrong"), [why]
    if written:
        verdict.notes.append(f"it writes files, which are gone: {', '.join(written)}")
    return _with_own_name(verdict, str(file), ended.printed, submitted.file)


def _written(folder: Path, file: Path) -> list[str]:
    """The files that an answer has left in its folder, a few of them."""
    found = []
    with suppress(OSError):
        found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path != file and not path.is_dir()]
    return [printable(name)[:60] for name in sorted(found)[:3]] + (["…"] if len(found) > 3 else [])


def _with_own_name(verdict: Verdict, copy: str, printed: str, file: Path) -> Verdict:
    """Speak of the file, not of the copy that was run; without what a terminal would obey."""
    verdict.faults = [_line(fault.replace(copy, str(file))) for fault in verdict.faults]
    verdict.details = "\n".join(map(printable, verdict.details.replace(copy, str(file)).split("\n")))
    verdict.figures = "\n".join(map(printable, verdict.figures.split("\n")))
    for row in verdict.gradients:
        row["hint"] = _line(row["hint"].replace(copy, str(file)))
    verdict.printed = "\n".join(map(printable, printed.replace(copy, str(file)).splitlines()))
    for i, fault in enumerate(verdict.faults):
        lacks = re.search(r"No module named '(\w+)'", fault)
        if lacks and file.with_name(f"{lacks[1]}.py").exists():
            verdict.faults[i] += ": an answer is checked by itself, so put what it needs into the one file"
    return verdict


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


# --- in the process apart ---


def prove_file(file: str, name: str, emit: Any) -> None:
    """Prove the answer in a file, and emit the result, or cannot=, why= and the verdict."""
    exercise = answer.named(name)
    assert exercise is not None
    mine = relied_on()
    verdict = "does not load"
    try:
        module = load_module(Path(file))
        verdict = "not allowed"
        _demand_own(module, exercise)
        verdict = "wrong"
        result = guard.guarded("a call of its code", exercise.prove, module, np.random.default_rng(0))
        verdict = "not allowed"
        demand_same(mine)
        memory = next((fault for fault in result.faults if "MemoryError" in fault), "")
        if memory and not result.ok:
            emit(cannot="", why=f"{NO_MEMORY}: {memory}", verdict="memory limit")
            return
        emit(
            ok=bool(result.ok),
            faults=list(map(str, result.faults)),
            details=str(result.details),
            figures=str(result.figures),
            gradients=list(map(_as_data, result.gradients)),
        )
    except Exception as error:
        spare()
        why = str(error) if isinstance(error, CannotCheck) else guard.described(error)
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            verdict, why = "memory limit", f"{NO_MEMORY}: {why}"
        emit(cannot="", why=why, verdict=verdict)


def _as_data(row: TensorReport) -> dict[str, Any]:
    """A gradient for a program that reads it; null for what is not finite."""

    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "name": row.name,
        "shape": list(map(int, row.shape)),
        "error": number(row.error),
        "index": row.index if isinstance(row.index, str) else list(map(int, row.index)),
        "analytic": number(row.analytic),
        "numeric": number(row.numeric),
        "verdict": row.verdict,
        "hint": row.hint,
    }


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _demand_own(module: Any, exercise: Exercise) -> None:
    """CannotCheck unless the module itself defines what is asked for, not the library."""
    target = getattr(module, exercise.target, None)
    if target is None:
        raise CannotCheck(f"it does not define {exercise.target}, which the exercise {exercise.name} asks for")
    bases = [base for base in getattr(target, "__mro__", ()) if base.__name__ not in ("Layer", "Module")]
    for part in (target, *bases):
        if str(getattr(part, "__module__", "")).partition(".")[0] == "scratchgen":
            raise CannotCheck(f"it replaces {exercise.target} by the library's own: write it yourself")


# --- a folder of them ---


@dataclass(frozen=True)
class Submission:
    """A file of somebody's; of a folder without any, the folder."""

    student: str
    file: Path


def submissions(folder: Path) -> tuple[list[Submission], int]:
    """The files FOLDER/*.py and FOLDER/STUDENT/*.py, and how many others lie beside them."""
    found: list[Submission] = []
    beside, others = [], 0
    for path in sorted(folder.iterdir(), key=lambda path: path.name.lower()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir():
            own: list[Path] = []
            with suppress(OSError):  # then it has none, as far as can be seen
                own = [file for file in sorted(path.iterdir()) if not file.name.startswith((".", "__"))]
            files = [file for file in own if file.suffix == ".py"]
            found += [Submission(path.name, file) for file in files] or [Submission(path.name, path)]
            others += len(own) - len(files)
        elif path.suffix == ".py":
            found.append(Submission(_student(path.stem), path))
            beside.append(path)
        else:
            others += 1
    if len(beside) == len(found) and _of_one_student(beside):
        found = [Submission(folder.resolve().name, one.file) for one in found]
    return found, others


def _of_one_student(files: Sequence[Path]) -> bool:
    """Whether files side by side are the folder of one student: most of them are named as exercises, none after
    somebody and an exercise."""
    bare = [file for file in files if answer.named(file.stem)]
    with_a_name = any(_student(file.stem) != file.stem for file in files)
    return 2 * len(bare) > len(files) and not with_a_name


def _student(stem: str) -> str:
    """Whose a file is by its name: alice of alice_dense."""
    named = [e.name for e in answer.EXERCISES if answer.is_in(e, stem)]
    if not named:
        return stem
    words = "[^A-Za-z0-9]+".join(max(named, key=len).split("_"))
    rest = re.sub(f"(^|[ _.-]+){words}($|[ _.-]+)", " ", stem, count=1, flags=re.IGNORECASE).strip()
    return rest or stem


def totals(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    """Of each student how many exercises are right, and how many were handed in: one of several files on an exercise
    counts, a right one if there is any."""
    handed: dict[str, dict[str, bool]] = {}
    for verdict in verdicts:
        own = handed.setdefault(verdict.student, {})
        key = verdict.exercise or verdict.file
        own[key] = own.get(key, False) or verdict.verdict == "right"
    return {student: {"right": sum(own.values()), "of": len(own)} for student, own in handed.items()}


def grade(
    submitted: Sequence[Submission], exercise: Exercise | None, limits: Limits, jobs: int, show_progress: bool = True
) -> list[Verdict]:
    """A verdict on each, in their order; `jobs` at a time. Ctrl-C ends them all."""
    verdicts: dict[int, Verdict] = {}
    answers: dict[int, Answer] = {}
    for i, one in enumerate(submitted):
        try:
            if one.file.is_dir():
                raise NoAnswer(f"{one.file} has no file that ends in .py, or cannot be read")
            answers[i] = answer.read(one.file, exercise)
        except NoAnswer as error:
            verdicts[i] = _unread(one.file, exercise, error)
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            waiting = {pool.submit(prove, one, limits, stop): i for i, one in answers.items()}
            for done in progress.over(as_completed(waiting), "grading", total=len(waiting), progress=show_progress):
                verdicts[waiting[done]] = done.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    for i, one in enumerate(submitted):
        verdicts[i].student = one.student
        # in a row the file has a cell of its own
        own = ((f"{one.file} ", "it "), (f"{one.file}, line", "line"))
        verdicts[i].faults = [reduce(lambda text, pair: text.replace(*pair), own, f) for f in verdicts[i].faults]
    return [verdicts[i] for i in range(len(submitted))]


def row(verdict: Verdict) -> tuple[str, ...]:
    """The cells of a verdict, as `COLUMNS` names them."""
    words = (verdict.student, verdict.file, verdict.exercise, verdict.verdict, verdict.why)
    return (*map(_line, words), f"{verdict.seconds:.1f}")


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for a program that reads it: the gradients as data, and not as the table."""
    told = {key: value for key, value in asdict(verdict).items() if key not in ("details", "figures")}
    return {**told, "status": verdict.status}


def write_csv(verdicts: Sequence[Verdict], file: Path) -> None:
    """A row each; whole or not at all."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_no_formula(cell) for cell in row(verdict)] for verdict in verdicts)
    with atomic_write(file) as target:
        target.write(stream.getvalue().encode("utf-8", "replace"))


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
