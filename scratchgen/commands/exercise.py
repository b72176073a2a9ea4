"""scratchgen exercise: backward passes to write by hand, proved; a folder of them graded."""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from scratchgen.backend.threads import cores
from scratchgen.commands import UsageError, did_you_mean
from scratchgen.commands.arguments import Commands, path, seconds, typed
from scratchgen.commands.results import check_new
from scratchgen.exercises import answer, grading, record
from scratchgen.exercises.exercise import Exercise
from scratchgen.exercises.table import EXERCISES
from scratchgen.exercises.withheld import without_formula
from scratchgen.files import shown
from scratchgen.gradcheck.apart import Limits
from scratchgen.paths import as_path
from scratchgen.progress import doing
from scratchgen.schema import whole
from scratchgen.table import aligned, text_table

DESCRIPTION = """\
Write backward passes by hand, each proved when it is done.

  scratchgen exercise                 all exercises in order, what is done, and what comes next
  scratchgen exercise NAME            write NAME.py into this folder: the forward map, its formula, an empty backward
  scratchgen exercise NAME --hint     the next of three hints
  scratchgen exercise check FILE      prove it, and say what is wrong
  scratchgen exercise grade FOLDER    for teachers: check FOLDER/*.py and FOLDER/STUDENT/*.py, and say who is right

A file is for the exercise that it is named after, as dense.py; one of another name for that whose class or function
it defines, as alice_dense.py or alice.py; --exercise NAME says it for all.

Exit status of a check: 0 right, 1 wrong, 2 it could not be checked; of a folder: 0 all are right, 1 some are not,
2 there is nothing to grade.
"""
SHORT = 76  # characters of a sentence in the table where no terminal says how wide it is
HINTS = 3  # of every exercise
ACTIONS = ("check", "grade")


def add_parser(commands: Commands) -> None:
    parser = commands.add_parser(
        "exercise",
        help="backward passes to write by hand, each proved when it is done",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="NAME | check FILE | grade FOLDER", help="see above")
    parser.add_argument("--hint", action="store_true", help="show the next of the exercise's three hints")
    parser.add_argument("--exercise", type=typed(_exercise), metavar="NAME", help="the exercise that the file is for")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--csv", type=path, metavar="FILE", help="write a row for each submission into FILE")
    parser.add_argument(
        "--jobs", type=typed(whole(1, 1024)), metavar="N", help="grade N at a time (default: one a core)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=60,
        metavar="SECONDS",
        help="how long the check of a file may take altogether (default 60)",
    )
    parser.add_argument(
        "--memory",
        type=typed(whole(16, 1 << 20)),
        default=1024,
        metavar="MIB",
        help="how much memory a file may take, where the system is Linux (default 1024)",
    )
    parser.add_argument("--force", action="store_true", help="with grade: replace the file of --csv if it exists")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    words = args.words
    grades = words[:1] == ["grade"]
    if not grades and (args.csv or args.jobs or args.force):
        option = "--csv" if args.csv else "--jobs" if args.jobs else "--force"
        raise UsageError(f"{option} goes with scratchgen exercise grade FOLDER")
    if words[:1] in (["check"], ["grade"]):
        if len(words) != 2:
            what = "a folder of submissions" if grades else "one file at a time; grade FOLDER takes a folder of them"
            raise UsageError(f"scratchgen exercise {words[0]} takes {what}, and {len(words) - 1} are given")
        return (_grade if grades else _check)(as_path(words[1]), args)
    if words == ["list"]:
        words = []
    if words[:1] == ["hint"]:
        raise UsageError(f"a hint is shown by scratchgen exercise {' '.join(words[1:]) or 'NAME'} --hint")
    if not words and args.exercise is None:
        if args.hint:
            raise UsageError("whose hint? Write it as scratchgen exercise NAME --hint")
        return _list(args.json)
    exercise = args.exercise or _named(" ".join(words))
    if args.hint:
        return _hint(exercise, args.json)
    if args.json:
        raise UsageError("--json goes with the list of exercises, with check, grade and --hint")
    return _begin(exercise)


def _exercise(word: str) -> Exercise:
    exercise = answer.named(word)
    if exercise is None:
        names = [exercise.name for exercise in EXERCISES]
        raise ValueError(
            f"there is no exercise {shown(word)}{did_you_mean(word, names) or ': scratchgen exercise lists them'}"
        )
    return exercise


def _named(word: str) -> Exercise:
    exercise = answer.named(word)
    if exercise is not None:
        return exercise
    if word.endswith(".py") and " " not in word:
        raise UsageError(f"to check a file: scratchgen exercise check {word}; to begin one, leave out .py")
    near = did_you_mean(word.split()[0], [*(exercise.name for exercise in EXERCISES), *ACTIONS])
    raise UsageError(f"there is no exercise {shown(word)}{near or ': scratchgen exercise lists them'}")


def _note(notes: list[str]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


# --- the list ---


def _list(as_json: bool) -> int:
    kept = record.read()
    _note(kept.notes)
    states = {exercise.name: answer.state(exercise, Path(f"{exercise.name}.py")) for exercise in EXERCISES}
    if as_json:
        told = [
            {
                "name": e.name,
                "title": e.title,
                "done": kept.done.get(e.name),
                "now_wrong": e.name in kept.wrong,
                "file": f"{e.name}.py" if states[e.name] in ("begun", "not begun") else None,
            }
            for e in EXERCISES
        ]
        print(json.dumps({"exercises": told, "next": _next(kept)}, indent=1, ensure_ascii=False))
        return 0
    rows = [(str(i), e.name, e.title, _state(e, kept, states[e.name])) for i, e in enumerate(EXERCISES, 1)]
    print(*(f"  {line}" for line in aligned(rows, left=(1, 2, 3))), sep="\n")
    print(f"\n{_count(kept)} of {len(EXERCISES)} done")
    _say_next(kept)
    return 0


def _state(exercise: Exercise, kept: record.Record, file: str) -> str:
    """What the list says of an exercise; `file` is the state of its file in this folder."""
    if exercise.name in kept.done:
        return "done, now wrong" if exercise.name in kept.wrong else "done"
    return f"{file}: {exercise.name}.py" if file in ("begun", "not begun") else "open"


def _next(kept: record.Record) -> str | None:
    return next((exercise.name for exercise in EXERCISES if exercise.name not in kept.done), None)


def _say_next(kept: record.Record) -> None:
    name = _next(kept)
    exercise = answer.named(name or "")
    if name is None or exercise is None:
        print("that was the last one: read on in scratchgen/layers/, and check layers of your own with gradcheck")
    elif answer.state(exercise, Path(f"{name}.py")) in ("begun", "not begun"):
        print(f"next: write what {name}.py leaves open, then scratchgen exercise check {name}.py")
    else:
        print(f"next: scratchgen exercise {name}")


# --- one exercise ---


def _begin(exercise: Exercise) -> int:
    file = Path(f"{exercise.name}.py")
    try:
        stream = open(file, "x", encoding="utf-8")  # noqa: SIM115  closed below
    except FileExistsError:
        if answer.state(exercise, file) == "another's":
            raise UsageError(
                f"{file} is there already, and it is not the exercise's file: it does not define {exercise.target}; "
                "give it another name, or go to another folder"
            ) from None
        raise UsageError(
            f"{file} is there already and stays as it is: scratchgen exercise check {file} checks it; "
            "to begin anew, move it away or go to another folder"
        ) from None
    try:
        with stream:
            stream.write(answer.skeleton(exercise))
    except OSError:
        file.unlink(missing_ok=True)
        raise
    print(f"{file}: {exercise.title}, exercise {EXERCISES.index(exercise) + 1} of {len(EXERCISES)}")
    print(f"next: open it, write what it leaves open, then scratchgen exercise check {file}")
    print(f"stuck? scratchgen exercise {exercise.name} --hint")
    return 0


def _hint(exercise: Exercise, as_json: bool) -> int:
    """The next hint; after the last, or where it cannot be remembered which was shown, all of them."""
    before = record.read().hints.get(exercise.name, 0)
    most = len(exercise.hints)
    kept = record.add_hint(exercise.name, min(before + 1, most))
    _note(kept.notes)
    numbers = range(1, most + 1) if before >= most or kept.notes else [before + 1]
    if as_json:
        hints = [exercise.hints[number - 1] for number in numbers]
        print(json.dumps({"exercise": exercise.name, "hints": hints, "of": most}, indent=1, ensure_ascii=False))
        return 0
    for number in numbers:
        print(f"hint {number} of {most}: {exercise.hints[number - 1]}")
    if before >= most:
        print(f"there are no more hints for {exercise.name}")
    return 0


def _check(file: Path, args: argparse.Namespace) -> int:
    with doing(f"checking {file}"):
        verdict = grading.check(file, args.exercise, _limits(args))
    right = verdict.verdict == "right"
    if right:
        kept = record.add_done(verdict.exercise)
    else:
        kept = record.add_wrong(verdict.exercise) if verdict.verdict == "wrong" else record.read()
    _note(kept.notes)
    if args.json:
        print(json.dumps(grading.as_json(verdict), indent=1, ensure_ascii=False))
        return verdict.status
    if verdict.printed:
        print(f"{file} prints:", *(f"  | {line}" for line in verdict.printed.splitlines()), sep="\n", file=sys.stderr)
    faults, details = verdict.faults, verdict.details.split("\n")
    if kept.hints.get(verdict.exercise, 0) < HINTS:  # the last of which is the formula
        faults, details = list(map(without_formula, faults)), list(map(without_formula, details))
    if verdict.details:
        print(*details, "", sep="\n")
    _note(verdict.notes)
    if right:
        print(f"right: {verdict.exercise} is done, {_count(kept)} of {len(EXERCISES)}")
        _say_next(kept)
        return 0
    if verdict.status == 2:
        print(*(f"scratchgen: {fault}" for fault in faults), sep="\n", file=sys.stderr)
    else:
        print(*(f"{verdict.verdict}: {fault}" for fault in faults), sep="\n")
    if verdict.figures:
        print("", verdict.figures, "", sep="\n")
    exercise = answer.named(verdict.exercise)
    if exercise is not None and args.hint:
        _hint(exercise, as_json=False)
    elif exercise is not None and verdict.verdict == "wrong":
        print(f"next: mend {file} and check it again; stuck? scratchgen exercise {exercise.name} --hint")
    return verdict.status


def _count(kept: record.Record) -> int:
    return sum(exercise.name in kept.done for exercise in EXERCISES)


def _limits(args: argparse.Namespace) -> Limits:
    return Limits(seconds=args.timeout, memory=args.memory << 20)


# --- a folder of submissions ---


def _grade(folder: Path, args: argparse.Namespace) -> int:
    if args.hint:
        raise UsageError("--hint goes with an exercise, or with the check of one file")
    if not folder.is_dir():
        mend = f": scratchgen exercise check {folder} checks one file" if folder.is_file() else ""
        raise UsageError(f"{folder} is not a folder{mend}")
    if args.csv:
        check_new(args.csv, "--csv", args.force, ".csv")
    found, others = grading.submissions(folder)
    if not found:
        raise UsageError(f"{folder} has no submissions: neither FOLDER/*.py nor FOLDER/STUDENT/*.py")
    start = time.perf_counter()
    verdicts = grading.grade(found, args.exercise, _limits(args), args.jobs or cores())
    took = time.perf_counter() - start
    if args.csv:
        grading.write_csv(verdicts, args.csv)
    counts = Counter(verdict.verdict for verdict in verdicts)
    if args.json:
        told = [grading.as_json(verdict) for verdict in verdicts]
        students = grading.totals(verdicts)
        print(json.dumps({"submissions": told, "students": students, "counts": counts}, indent=1, ensure_ascii=False))
    else:
        rows, is_short = _fitted(list(map(grading.row, verdicts)))
        print(*text_table(grading.COLUMNS, rows, left=range(5)), sep="\n")
        students = grading.totals(verdicts)
        if any(total["of"] > 1 for total in students.values()):
            head, each = ("student", "right", "of"), [(s, str(t["right"]), str(t["of"])) for s, t in students.items()]
            print("", *text_table(head, each), sep="\n")
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        print(f"\n{len(verdicts)} submissions in {took:.0f} s: {said}")
        if is_short and not args.csv:
            print("what is wrong is cut short here: --csv FILE has the whole sentences")
        if others:
            print(f"left out: {others} {'file' if others == 1 else 'files'} whose name does not end in .py")
        if args.csv:
            print(args.csv)
    return 0 if set(counts) == {"right"} else 1


def _fitted(rows: list[tuple[str, ...]]) -> tuple[list[list[str]], bool]:
    """The rows with sentences as long as the terminal is wide, and whether any of them was cut."""
    others = [max(len(cell) for cell in column) for column in zip(grading.COLUMNS, *rows, strict=True)]
    wide = shutil.get_terminal_size(fallback=(0, 0)).columns
    room = max(wide - sum(others) + others[4] - 2 * (len(others) - 1), 40) if wide else SHORT
    cut = [[*row[:4], row[4] if len(row[4]) <= room else f"{row[4][: room - 1]}…", row[5]] for row in rows]
    return cut, any(len(row[4]) > room for row in rows)
