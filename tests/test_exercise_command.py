"""Exercises: listed, written, checked, graded; whatever an answer does, and whatever is in the way."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from answers import HOSTILE, RIGHT, WRONG, dense
from tiny import run

from scratchgen.exercises import answer, grading, record
from scratchgen.exercises.answer import NoAnswer
from scratchgen.exercises.table import EXERCISES
from scratchgen.gradcheck.apart import Limits
from scratchgen.paths import user_data_folder

posix = pytest.mark.skipif(os.name != "posix", reason="signals, forks and limits as POSIX has them")
LIMITS = Limits(seconds=30, memory=512 << 20)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.own_cache(tmp_path, monkeypatch)


def said(capsys, *argv, status=0):
    """What a command line prints, on both streams."""
    capsys.readouterr()
    assert run("exercise", *argv) == status
    return capsys.readouterr()


def refused(capsys, *argv) -> str:
    """The one sentence of a command that does nothing."""
    out, err = said(capsys, *argv, status=2)
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def put(name, source):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(source, encoding="utf-8")


# --- listing and writing ---


def test_the_list_says_what_is_done_and_what_comes_next(capsys):
    out = said(capsys).out
    lines = out.splitlines()
    for i, exercise in enumerate(EXERCISES):
        assert lines[i].split()[:2] == [str(i + 1), exercise.name]
        assert lines[i].endswith("open")
    assert lines[-2:] == [f"0 of {len(EXERCISES)} done", "next: scratchgen exercise dense"]
    assert said(capsys, "list").out == out
    put("dense.py", RIGHT)
    out = said(capsys).out
    assert "begun: dense.py" in out
    assert "next: write what dense.py leaves open, then scratchgen exercise check dense.py" in out
    said(capsys, "check", "dense.py")
    out = said(capsys).out
    assert "done" in out.splitlines()[0]
    assert out.endswith(f"1 of {len(EXERCISES)} done\nnext: scratchgen exercise {EXERCISES[1].name}\n")
    listed = json.loads(said(capsys, "--json").out)
    assert [e["name"] for e in listed["exercises"]] == [e.name for e in EXERCISES]
    assert listed["next"] == EXERCISES[1].name
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", listed["exercises"][0]["done"])
    assert listed["exercises"][0]["file"] == "dense.py"


def test_when_all_is_done_it_says_so(capsys):
    for exercise in EXERCISES:
        record.add_done(exercise.name)
    assert "that was the last one" in said(capsys).out
    assert json.loads(said(capsys, "--json").out)["next"] is None


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_a_skeleton_is_written_and_not_yet_an_answer(exercise, capsys):
    file = Path(f"{exercise.name}.py")
    out = said(capsys, exercise.name).out
    assert f"then scratchgen exercise check {file}\n" in out
    assert f"scratchgen exercise {exercise.name} --hint" in out
    assert file.read_text(encoding="utf-8") == answer.skeleton(exercise)
    out = said(capsys, "check", file, status=1).out
    assert out.startswith(f"not begun: {file} is still the skeleton")
    file.write_text("# a comment\n" + answer.skeleton(exercise), encoding="utf-8")
    assert said(capsys, "check", file, status=1).out.startswith("not begun")


def test_a_file_is_never_written_over(capsys):
    for source in (RIGHT, "x =", ""):
        put("dense.py", source)
        err = refused(capsys, "dense")
        assert "dense.py is there already and stays as it is: scratchgen exercise check dense.py checks it" in err
        assert Path("dense.py").read_text() == source
    put("dense.py", "class Model: pass\n")
    err = refused(capsys, "dense")
    assert "it is not the exercise's file: it does not define Dense; give it another name, or go to another" in err
    Path("dense.py").unlink()
    Path("dense.py").symlink_to("nowhere")
    assert "is there already" in refused(capsys, "dense")
    assert not Path("nowhere").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(capsys, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device", "dense.py")

    monkeypatch.setattr(answer, "skeleton", full)
    assert "dense.py: No space left on device" in refused(capsys, "dense")
    assert not Path("dense.py").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["dens"], "there is no exercise 'dens': did you mean dense?"),
        (["chek", "dense.py"], "did you mean check?"),
        (["zzz"], "there is no exercise 'zzz': scratchgen exercise lists them"),
        (["dense.py"], "scratchgen exercise check dense.py"),
        (["hint", "dense"], "scratchgen exercise dense --hint"),
        (["--hint"], "scratchgen exercise NAME --hint"),
        (["check"], "one file at a time"),
        (["check", "a.py", "b.py"], "grade FOLDER"),
        (["check", "no.py"], "no.py is not a file"),
        (["check", "."], "scratchgen exercise grade ."),
        (["grade"], "a folder of submissions"),
        (["grade", "nowhere"], "nowhere is not a folder"),
        (["grade", "."], "has no submissions: neither FOLDER/*.py nor FOLDER/STUDENT/*.py"),
        (["dense", "--csv", "x.csv"], "--csv goes with scratchgen exercise grade"),
        (["check", "x.py", "--jobs", "2"], "--jobs goes with"),
        (["dense", "--force"], "--force goes with scratchgen exercise grade FOLDER"),
        (["dense", "--json"], "--json goes with"),
        (["check", "x.py", "--exercise", "dens"], "did you mean dense?"),
        (["check", "x.py", "--timeout", "0"], "--timeout"),
        (["check", "x.py", "--memory", "1"], "--memory"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_sentence(argv, says, capsys):
    assert says in refused(capsys, *argv)
    assert list(Path().iterdir()) == []


def test_names_as_they_are_typed(capsys):
    said(capsys, "Dense")
    assert Path("dense.py").exists()


def state(capsys, name):
    """What the list says of an exercise."""
    (line,) = [line for line in said(capsys).out.splitlines() if line.split()[1:2] == [name]]
    return re.split(r"  +", line.strip())[-1]


def test_the_list_says_begun_where_the_check_does(capsys):
    said(capsys, "dense")
    assert state(capsys, "dense") == "not begun: dense.py"
    assert said(capsys, "check", "dense.py", status=1).out.startswith("not begun: ")
    put("dense.py", WRONG)
    assert state(capsys, "dense") == "begun: dense.py"
    put("dense.py", "class Model: pass\n")
    assert state(capsys, "dense") == "open"
    assert said(capsys).out.endswith("next: scratchgen exercise dense\n")
    assert json.loads(said(capsys, "--json").out)["exercises"][0]["file"] is None


def test_the_list_says_what_was_done_and_is_wrong_now(capsys):
    put("dense.py", RIGHT)
    said(capsys, "check", "dense.py")
    assert state(capsys, "dense") == "done"
    put("dense.py", WRONG)
    said(capsys, "check", "dense.py", status=1)
    assert state(capsys, "dense") == "done, now wrong"
    assert json.loads(said(capsys, "--json").out)["exercises"][0]["now_wrong"]
    said(capsys, "dense", "--hint")
    assert state(capsys, "dense") == "done, now wrong"
    put("dense.py", RIGHT)
    said(capsys, "check", "dense.py")
    assert state(capsys, "dense") == "done"
    put("relu.py", RIGHT.replace("Dense", "ReLU"))
    said(capsys, "check", "relu.py", status=1)
    assert state(capsys, "relu") == "begun: relu.py"


# --- hints ---


def test_hints_come_one_after_the_other(capsys):
    hints = EXERCISES[0].hints
    for i, hint in enumerate(hints, 1):
        assert said(capsys, "dense", "--hint").out == f"hint {i} of 3: {hint}\n"
    out = said(capsys, "dense", "--hint").out
    assert all(hint in out for hint in hints)
    assert out.endswith("there are no more hints for dense\n")
    assert json.loads(said(capsys, "relu", "--hint", "--json").out)["hints"] == [answer.named("relu").hints[0]]
    put("dense.py", WRONG)
    assert "hint 3 of 3" in said(capsys, "check", "dense.py", "--hint", status=1).out


ANSWERS = Path(__file__).parent / "exercises"


def test_the_formula_comes_when_all_hints_were_asked_for(capsys):
    formula = "the gradient is dy · y·(1 − y)"
    put("sigmoid.py", (ANSWERS / "sigmoid/wrong_without_y.py").read_text(encoding="utf-8"))
    for _ in range(3):
        out = said(capsys, "check", "sigmoid.py", status=1).out
        assert "wrong: dx: the factor y is missing" in out
        assert formula not in out
        assert formula in said(capsys, "check", "sigmoid.py", "--json", status=1).out
        said(capsys, "sigmoid", "--hint")
    assert formula in said(capsys, "check", "sigmoid.py", status=1).out
    assert formula in json.loads(said(capsys, "grade", ".", "--json", status=1).out)["submissions"][0]["faults"][0]


def test_figures_go_below_the_sentence(capsys):
    put("adam.py", (ANSWERS / "adam/wrong_eps_inside.py").read_text(encoding="utf-8"))
    out = said(capsys, "check", "adam.py", status=1).out
    assert out.index("wrong: eps stands inside of the root") < out.index("W after step 1:") < out.index("expected:")
    put("adam.py", (ANSWERS / "adam/right.py").read_text(encoding="utf-8"))
    assert "after step" not in said(capsys, "check", "adam.py").out


# --- checking ---


def test_a_right_answer(capsys):
    put("dense.py", RIGHT)
    out, err = said(capsys, "check", "dense.py")
    assert err == ""
    assert "W.grad" in out
    assert f"right: dense is done, 1 of {len(EXERCISES)}\nnext: scratchgen exercise {EXERCISES[1].name}\n" in out


def test_a_wrong_answer(capsys):
    put("dense.py", WRONG)
    out, err = said(capsys, "check", "dense.py", status=1)
    assert err == ""
    assert "W.grad" in out
    assert "\nwrong: " in out
    assert "scratchgen exercise dense --hint" in out
    assert "0 of" in said(capsys).out


def test_a_check_for_programs(capsys):
    for source, status, verdict in ((RIGHT, 0, "right"), (WRONG, 1, "wrong"), ("x =", 2, "does not load")):
        put("dense.py", source)
        out, err = said(capsys, "check", "dense.py", "--json", status=status)
        told = json.loads(out)
        assert (told["verdict"], told["status"], told["exercise"], told["file"]) == (
            verdict,
            status,
            "dense",
            "dense.py",
        )
        assert bool(told["faults"]) == (status > 0)
        assert not {"why", "details", "figures"} & set(told)
        rows = {row["name"]: row["verdict"] for row in told["gradients"]}
        assert rows == (
            {"dx": "right", "W.grad": verdict.replace("wrong", "WRONG"), "b.grad": "right"} if rows else {}
        )
        assert bool(rows) == (status < 2)
        assert err == ""


def test_what_an_answer_prints_is_told_from_the_report(capsys):
    put("dense.py", dense(top="print('right: dense is done\\x1b[2J')"))
    out, err = said(capsys, "check", "dense.py")
    assert err == "dense.py prints:\n  | right: dense is done\\x1b[2J\n"
    assert out.count("right: dense") == 1
    put("dense.py", dense(within="for _ in range(100): print('seen')"))
    err = said(capsys, "check", "dense.py").err
    assert err.count("| seen") == 40
    assert err.endswith("what the file prints further is not shown\n")


FOO = "class Foo: pass\n"
RELU = "class ReLU: pass\n"
FILES = {  # name, source, what is asked for; the exercise, or a part of the sentence
    "named after it": ("dense.py", RIGHT, None, "dense"),
    "upper case": ("Dense.py", RIGHT, None, "dense"),
    "by what it defines": ("mine.py", RIGHT, None, "dense"),
    "by both": ("alice_dense.py", RIGHT + RELU, None, "dense"),
    "as asked for": ("relu.py", RIGHT, "dense", "dense"),
    "in a branch": ("mine.py", "if True:\n    class ReLU: pass\n", None, "relu"),
    "of another kind": ("mine.py", "ReLU = type('ReLU', (), {})\n", None, "relu"),
    "a name alone": ("alice_dense_2.py", FOO, None, "does not define Dense, which the exercise dense asks for"),
    "no layer": ("mine.py", "x = 1\n", None, "is for no exercise: it defines no class and no function; name it"),
    "empty": ("dense.py", "", None, "does not define Dense, which the exercise dense asks for; it defines no class"),
    "nearly its name": ("dens.py", FOO, None, "it defines Foo, which none asks for; name it after its exercise; did"),
    "two layers": ("mine.py", RIGHT + RELU, None, "defines Dense and ReLU, answers to 2 exercises: give each a file"),
    "twice": ("relu.py", RELU + RELU, None, "defines ReLU in line 1 and again in line 2: leave one of them"),
    "another name": (
        "dense.py",
        "class MyDense: pass\n",
        None,
        "does not define Dense, which the exercise dense asks",
    ),
    "small letters": ("dense.py", "class dense: pass\n", None, "asks for; rename dense"),
    "another exercise": ("dense.py", RELU, None, "it defines ReLU: name it relu.py, or say --exercise relu"),
    "somebody's own": (
        "vae.py",
        FOO,
        None,
        "which the exercise vae asks for; it defines Foo; it is not the exercise's",
    ),
    "somebody's own, of the library's layers": (
        "vae.py",
        "from scratchgen import Dense\n" + FOO,
        None,
        "it is not the exercise's file, which scratchgen exercise vae writes: give it another name",
    ),
    "syntax": ("dense.py", "class Dense(:\n", None, "dense.py does not load: SyntaxError in line 1: invalid syntax"),
    "zero byte": ("dense.py", "x = 1\0", None, "does not load: SyntaxError"),
    "deep": ("dense.py", f"x = {'-' * 100_000}1", None, "does not load: SyntaxError"),
    "long": ("dense.py", "x = 1\n" * 200_000, None, "more than 1,048,576 bytes"),
    "notebook": ("dense.ipynb", "{}", None, "is a notebook"),
}


@pytest.mark.parametrize(("name", "source", "asked", "wanted"), FILES.values(), ids=FILES)
def test_which_exercise_a_file_is_for(name, source, asked, wanted):
    put(name, source)
    try:
        found = answer.read(Path(name), asked and answer.named(asked)).exercise.name
    except NoAnswer as error:
        found = str(error)
        assert name in found
        assert "\n" not in found
    assert found == wanted if wanted in ("dense", "relu") else wanted in found


def test_utf16_says_so():
    Path("dense.py").write_bytes(RIGHT.encode("utf-16"))
    with pytest.raises(NoAnswer, match="it is UTF-16, save it as UTF-8"):
        answer.read(Path("dense.py"))


@posix
def test_what_is_no_file_is_not_read():
    os.mkfifo("dense.py")
    with pytest.raises(NoAnswer, match=r"dense\.py is not a file"):
        answer.read(Path("dense.py"))


ALLOWED = {
    "the skeleton's imports": "",
    "the library's name": "import scratchgen as sg\nX = sg.Layer, sg.Parameter",
    "by a longer path": "from scratchgen.layers import Layer as L",
    "the usual": "import math, functools, dataclasses, typing, itertools",
    "its own trial": "if __name__ == '__main__':\n    import torch\n    from scratchgen import gradcheck, Dense",
    "a helper": "def helper(x): return x",
    "a number of NumPy's for old code": "np.float = float",
}


@pytest.mark.parametrize("top", ALLOWED.values(), ids=ALLOWED)
def test_what_an_answer_may_do(top):
    put("dense.py", dense(top=top))
    verdict = grading.check(Path("dense.py"), None, LIMITS)
    assert verdict.verdict == "right", verdict


def test_a_neighbour_is_not_found_and_that_is_said():
    put("helpers.py", "one = 1\n")
    put("dense.py", dense(top="import helpers"))
    verdict = grading.check(Path("dense.py"), None, LIMITS)
    assert verdict.verdict == "does not load"
    assert "No module named 'helpers'" in verdict.why
    assert "put what it needs into the one file" in verdict.why


def test_names_that_hide_modules_hide_nothing():
    put("numpy.py", "raise SystemExit\n")
    put("scratchgen/__init__.py", "raise SystemExit\n")
    put("dense.py", RIGHT)
    program = "import os, sys; from scratchgen.cli import main; sys.path[:0] = ['', os.getcwd()]; "
    command = [sys.executable, "-c", program + "sys.exit(main(['exercise', 'check', 'dense.py']))"]
    path = [str(Path(grading.__file__).parents[2]), *sys.path[1:]]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- the record ---


def test_a_damaged_record_is_made_anew(capsys):
    file = user_data_folder("exercises") / "record.json"
    for damage in ("{", "[]", '{"done": []}', '{"done": {}, "hints": {"dense": "x"}}', '{"done": 1, "hints": {}}'):
        record.add_done("relu")
        file.write_text(damage)
        out, err = said(capsys)
        assert err.count("\n") == 1
        assert "is damaged" in err
        assert "recorded anew" in err
        assert "0 of" in out
        record.add_done("dense")
        assert said(capsys).err == ""
        assert set(record.read().done) == {"dense"}
        file.unlink()


def test_a_record_that_cannot_be_kept_stops_nothing(capsys, monkeypatch):
    put("in_the_way", "")
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(Path("in_the_way").resolve()))
    put("dense.py", RIGHT)
    out, err = said(capsys, "check", "dense.py")
    assert "right: dense is done" in out
    assert err.count("\n") == 1
    assert "what is done cannot be recorded" in err
    out, err = said(capsys, "dense", "--hint")
    assert all(hint in out for hint in EXERCISES[0].hints)  # since nobody knows which was the last
    assert "cannot be recorded" in err
    assert "open" in said(capsys).out or "begun" in said(capsys).out


def test_the_record_is_in_the_users_data_folder(monkeypatch):
    monkeypatch.delenv("SCRATCHGEN_CACHE")
    monkeypatch.setenv("XDG_DATA_HOME", str(Path("data").resolve()))
    if sys.platform == "linux":
        assert user_data_folder("exercises") == Path("data/scratchgen/exercises").resolve()


# --- grading ---


@posix
@pytest.mark.parametrize(("source", "verdict", "says"), HOSTILE.values(), ids=HOSTILE)
def test_an_answer_that_does_other_things_is_marked_as_what_it_is(source, verdict, says, tmp_path):
    put("dense.py", source)
    start = time.monotonic()
    limits = Limits(seconds=4 if "time" in verdict else 30, memory=256 << 20)
    found = grading.check(Path("dense.py"), None, limits)
    assert (found.verdict, says in found.why) == (verdict, True), found
    assert found.status == (1 if verdict in ("wrong", "not allowed") else 2)
    assert time.monotonic() - start < 30
    assert "/scratchgen-" not in found.why
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense.py"]


@posix
def test_files_that_an_answer_writes_stay_in_its_folder_and_go(tmp_path, monkeypatch):
    monkeypatch.setattr(grading.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    write = "open('out.txt', 'w').write('x'); os.makedirs(os.path.expanduser('~/a/b'), exist_ok=True)\n"
    put("dense.py", dense(within=write + "open(os.path.expanduser('~/a/b/c'), 'a').write('x')"))
    verdict = grading.check(Path("dense.py"), None, LIMITS)
    assert verdict.verdict == "right"
    assert verdict.why == f"it writes files, which are gone: {Path('a/b/c')}, out.txt"
    assert list((tmp_path / "temporary").iterdir()) == []
    put("dense.py", dense(within="open('out', 'wb').write(bytes(10**8))"))
    verdict = grading.check(Path("dense.py"), None, LIMITS)
    assert verdict.verdict == "wrong"
    assert "File too large" in verdict.why


def test_too_little_time_is_told_from_a_loop():
    put("dense.py", RIGHT)
    verdict = grading.check(Path("dense.py"), None, Limits(seconds=0.01, memory=256 << 20))
    assert verdict.verdict == "time limit"
    assert verdict.why == (
        "it took longer than 0.01 s altogether before any code of the file has run: --timeout gives it more time"
    )


def crowd(folder):
    """Thirty submissions of which five are hostile, and their verdicts by student."""
    wanted = {}
    for i in range(20):
        wanted[f"right{i:02d}"] = ("right", RIGHT)
    for i, dW in enumerate(("-x.T @ dy", "x.T @ dy / len(x)", "2 * x.T @ dy", "0 * x.T @ dy")):
        wanted[f"wrong{i}"] = ("wrong", dense(dW=dW))
    wanted["syntax"] = ("does not load", "class Dense(:\n")
    for name in ("loops", "leaves", "bomb of forks", "allocates without end", "prints megabytes"):
        wanted[name.replace(" ", "-")] = (HOSTILE[name][1], HOSTILE[name][0])
    for i, (student, (_, source)) in enumerate(wanted.items()):
        put(folder / f"{student}_dense.py" if i % 2 else folder / student / "dense.py", source)
    return {student: verdict for student, (verdict, _) in wanted.items()}


@posix
def test_thirty_submissions_of_which_five_are_hostile(tmp_path, capsys):
    wanted = crowd(tmp_path / "handed-in")
    start = time.monotonic()
    argv = ("grade", "handed-in", "--timeout", "20", "--memory", "256", "--csv", "grades.csv", "--jobs", "2")
    out, err = said(capsys, *argv, status=1)
    assert time.monotonic() - start < 120
    assert err == ""
    with open("grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert {row["student"]: row["verdict"] for row in rows} == wanted
    for row in rows:
        assert row["exercise"] == "dense"
        assert row["file"] not in row["what is wrong"]
        assert bool(row["what is wrong"]) == (row["verdict"] != "right")
        assert float(row["seconds"]) < 30
        assert f"{row['student']} " in out
    assert "30 submissions in " in out
    assert "20 right" in out
    assert out.endswith("grades.csv\n")
    assert not list(Path("handed-in").rglob("__pycache__"))


def test_what_is_handed_in_is_found_in_both_ways(capsys):
    put("in/alice_dense.py", RIGHT)
    put("in/DENSE-bob.py", RIGHT)
    put("in/dense.py", RIGHT)
    put("in/carol/dense.py", RIGHT)
    put("in/carol/notes.txt", "")
    put("in/dave/essay.pdf", "")
    put("in/.hidden/dense.py", RIGHT)
    put("in/__pycache__/dense.py", RIGHT)
    found, others = grading.submissions(Path("in"))
    assert [(one.student, str(one.file)) for one in found] == [
        ("alice", str(Path("in/alice_dense.py"))),
        ("carol", str(Path("in/carol/dense.py"))),
        ("dave", str(Path("in/dave"))),
        ("bob", str(Path("in/DENSE-bob.py"))),
        ("dense", str(Path("in/dense.py"))),
    ]
    assert others == 2
    (told,) = grading.grade(found[2:3], None, LIMITS, 1)
    assert (told.verdict, told.student) == ("not checked", "dave")
    assert "has no file that ends in .py, or cannot be read" in told.why


def test_the_folder_of_one_student(capsys):
    put("in/anna/dense.py", RIGHT)
    put("in/anna/relu.py", "class ReLU(:\n")
    found, _ = grading.submissions(Path("in/anna"))
    assert [one.student for one in found] == ["anna", "anna"]
    put("in/anna/misc.py", RIGHT)
    found, _ = grading.submissions(Path("in/anna"))
    assert [one.student for one in found] == ["anna", "anna", "anna"]
    out = said(capsys, "grade", "in/anna", status=1).out
    assert re.search(r"\nstudent +right +of\nanna +1 +2\n", out)  # misc.py is for dense, too
    put("in/ben/dense.py", RIGHT)
    told = json.loads(said(capsys, "grade", "in", "--json", status=1).out)
    assert told["students"] == {"anna": {"right": 1, "of": 2}, "ben": {"right": 1, "of": 1}}
    row = told["submissions"][0]["gradients"][0]
    assert list(row) == ["name", "shape", "error", "index", "analytic", "numeric", "verdict", "hint"]
    assert (row["name"], row["shape"], row["verdict"]) == ("dx", [5, 3], "right")
    put("other/alice.py", RIGHT)
    put("other/dense.py", RIGHT)
    found, _ = grading.submissions(Path("other"))
    assert [one.student for one in found] == ["alice", "dense"]


def test_sentences_are_as_long_as_the_terminal_is_wide(capsys, monkeypatch):
    put("in/alice_dense.py", dense(dW="x.T @ dy / len(x)"))
    cut = "what is wrong is cut short here: --csv FILE has the whole sentences"
    for columns, shortened in (("100", True), ("500", False)):
        monkeypatch.setenv("COLUMNS", columns)
        out = said(capsys, "grade", "in", status=1).out
        assert ("…" in out, cut in out) == (shortened, shortened)
        assert max(map(len, out.splitlines())) <= int(columns)
    monkeypatch.setenv("COLUMNS", "100")
    assert cut not in said(capsys, "grade", "in", "--csv", "grades.csv", status=1).out


def test_a_grading_for_programs_and_its_csv(capsys):
    put("in/=cmd()_dense.py", dense(within="raise ValueError('=1+1\\x1b[2J,\"x\"')"))
    put("in/zoe.py", RIGHT)
    out, _ = said(capsys, "grade", "in", "--json", "--csv", "grades.csv", "--jobs", "1", status=1)
    told = json.loads(out)
    assert [one["student"] for one in told["submissions"]] == ["=cmd()", "zoe"]
    assert told["counts"] == {"wrong": 1, "right": 1}
    with open("grades.csv", encoding="utf-8", newline="") as file:
        head, first, second = csv.reader(file)
    assert tuple(head) == grading.COLUMNS
    assert first[0] == "'=cmd()"
    assert not any(cell.startswith(grading.FORMULA) for cell in first + second)
    assert "\x1b" not in first[4]
    assert "=1+1" in first[4]
    assert "grades.csv is there already" in refused(capsys, "grade", "in", "--csv", "grades.csv")
    assert "needs a name that ends in .csv" in refused(capsys, "grade", "in", "--csv", "grades.txt")
    shutil.rmtree("in")
    put("in/zoe.py", RIGHT)
    assert "1 right" in said(capsys, "grade", "in", "--csv", "grades.csv", "--force").out
    assert not Path("in/zoe.py").with_suffix(".csv").exists()


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_is_a_formula(cell):
    assert grading._no_formula(cell) == f"'{cell}"
    assert grading._no_formula(f"a{cell}") == f"a{cell}"


@posix
def test_a_grading_that_is_stopped_leaves_nothing_behind(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for i in range(4):
        put(f"in/s{i}_dense.py", dense(within="while True: pass"))
    command = [sys.executable, "-m", "scratchgen", "exercise", "grade", "in", "--csv", "grades.csv", "--jobs", "2"]
    env = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        while len(list(temporary.iterdir())) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        parent.send_signal(signal.SIGINT)
        out, err = parent.communicate(timeout=20)
    assert parent.returncode == 130
    assert "Traceback" not in err
    assert out == ""
    assert not Path("grades.csv").exists()
    assert list(temporary.iterdir()) == []
