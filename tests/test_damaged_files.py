"""Files of every kind, damaged at random: each is read, or refused in one sentence; nothing else happens.

A draw: a target (a kind of file), a damage, a reader. No traceback, no hang, no more than 1 GiB, no other file
written or changed, nothing executed. A few hundred draws always, 10,000 in the slow suite. More kinds: see `Target`.
"""

import contextlib
import io
import os
import random
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import damage
import pytest
import tiny
from damage import ACCIDENTS, limits, needs_limits
from tiny import MODELS, stop_after

from scratchgen import report
from scratchgen.cli import main
from scratchgen.recipes import load_run
from scratchgen.training import RunFolder

SECONDS = 120  # for one file, on a machine that is busy
SOME, MANY = 200, 10_000
SEED = os.environ.get("SCRATCHGEN_TEST_SEED", "1")


@dataclass
class Target:
    """A kind of file.

    `make(folder)` makes a whole file, and all that goes with it, in an empty folder, and returns its path. A damage
    is a function of a random.Random and the file's bytes that returns others. A reader is a function of the path: it
    returns None when it has read the file, or the sentence with which it refused it, which must name something of
    `names`; it may change nothing unless it is in `writers`, and has read the file.
    """

    name: str
    make: Callable[[Path], Path]
    damages: tuple[Callable, ...]
    readers: tuple[Callable[[Path], str | None], ...]
    names: tuple[str, ...]
    writers: tuple[Callable, ...] = ()


# --- readers ---


def command(*argv) -> str | None:
    """A command line in this process: None when it did what it was told, or its one sentence. All else is a fault."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code
    said = err.getvalue()
    diverged = status == 1 and "no longer finite" in said  # it was read, and trained until then
    assert status in (0, 2) or diverged, f"exit status {status}: {said}"
    assert "Traceback" not in said, said
    assert not any(c in out.getvalue() + said for c in "\x1b\x07\0\r"), f"control characters: {said!r}"
    if status == 2:
        assert said.count("\n") == 1, f"{said.count(chr(10))} lines: {said}"
        return said
    return None


def called(function) -> str | None:
    """A function of the library: None, or the sentence of an error that a user can expect."""
    try:
        function()
    except (ValueError, FileNotFoundError) as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said, repr(said)
    return said


def sampled(file):
    return command("sample", file.parents[0], "--output", OUTPUT / "x.npy", "--count", "2", "--force")


def loaded(file):
    return called(lambda: load_run(file.parent))


def evaluated(file):
    return command("evaluate", file.parent, "--quiet", "--importance", "1")


def resumed(file, *more):
    argv = ("train", "vae", "--resume", file.parent, "--epochs", "2")  # a damaged config may say 2,000
    return command(*argv, "--quiet", *more)


def resumed_by_force(file):
    return resumed(file, "--force")


def reported(file):
    folder = file.parent if file.name != "measures.json" else file.parents[1]
    recipe = load_run(RUNS / "run")
    said = called(lambda: report.write(RunFolder.open(folder), recipe, state="", under_way=False))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # its own
    return said or (page.partition("Left out: ")[2].partition("<")[0] or None)


OUTPUT = Path()  # set by `base`

# --- runs ---


def a_run(name: str) -> Callable[[Path], Path]:
    """A run that was stopped in its second epoch, and measured; with another seed there is another beside it."""

    def make(folder):
        shutil.copytree(RUNS / "run", folder / "run")
        shutil.copytree(RUNS / "other", folder / "other")
        return folder / "run" / name

    return make


def swapped(rng, raw):
    """The file of another run, or another file."""
    other = rng.choice([p for p in sorted((RUNS / "other").rglob("*")) if p.is_file()])
    return other.read_bytes()


RUNS = Path()  # set by `base`
READERS = (loaded, sampled, resumed, resumed_by_force, evaluated)
WRITERS = (resumed, resumed_by_force, evaluated, reported)
JSON = (*(damage.json_changed,) * 6, damage.key_twice, damage.too_deep, swapped, *ACCIDENTS)
LINES = (*(damage.lines_changed,) * 8, damage.too_deep, swapped, *ACCIDENTS)
TENSORS = (damage.headers_changed, damage.headers_changed, damage.resigned, damage.resigned, swapped, *ACCIDENTS)
FILES = ("config.json", "metrics.jsonl", "checkpoint.safetensors", "weights.safetensors", "measures.json")

TARGETS = [
    Target("weights", a_run("weights.safetensors"), TENSORS, READERS, FILES, WRITERS),
    Target("checkpoint", a_run("checkpoint.safetensors"), TENSORS, READERS, FILES, WRITERS),
    Target("config", a_run("config.json"), JSON, (*READERS, reported), FILES, WRITERS),
    Target("metrics", a_run("metrics.jsonl"), LINES, READERS[2:], FILES, WRITERS),
    Target("measures", a_run("evaluation/measures.json"), JSON, (reported,), FILES, WRITERS),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with two small runs, and a whole file of each target in a folder of its own."""
    global RUNS, OUTPUT
    base = tmp_path_factory.mktemp("damaged")
    RUNS, OUTPUT = base / "runs", base / "output"
    RUNS.mkdir(), OUTPUT.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        tiny.folder_with_data(RUNS, patch)
        patch.setattr("scratchgen.training.loop.FETCH_EVERY", 2)
        for name, seed in (("run", "1"), ("other", "2")):
            stop_after(patch, 6)
            argv = ("train", *MODELS["vae"], "--epochs", "2", "--seed", seed, "--quiet", "--out", name)
            assert tiny.run(*argv) == 130
            assert tiny.run("evaluate", name, "--quiet", "--importance", "1") == 0
        stop_after(patch, None)
        whole = {}
        for target in TARGETS:
            folder = base / target.name
            folder.mkdir()
            whole[target.name] = target.make(folder)
    return base, whole


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def restored(folder: Path, before: dict[Path, bytes]) -> None:
    now = contents(folder)
    for path in now.keys() - before.keys():
        path.unlink()
    for path, content in before.items():
        if now.get(path) != content:
            path.write_bytes(content)


def fuzz(base, whole, count: int, monkeypatch) -> dict[str, Counter]:
    """That many draws, evenly over the targets; how many files were read and refused, by target."""
    monkeypatch.chdir(base / "runs")
    monkeypatch.setattr("scratchgen.training.loop.FETCH_EVERY", 2)
    tiny.no_pictures(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda number: None)  # a wait for the disk
    faults, counts = [], {target.name: Counter() for target in TARGETS}
    before = {target.name: contents(base / target.name) for target in TARGETS}
    elsewhere = sorted(os.listdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(count):
        target = TARGETS[i % len(TARGETS)]
        rng = random.Random(f"{SEED} {target.name} {i}")
        file, folder, was = whole[target.name], base / target.name, before[target.name]
        change, reader = rng.choice(target.damages), rng.choice(target.readers)
        file.write_bytes(change(rng, was[file]))
        damaged = contents(folder)
        signal.alarm(SECONDS)
        try:
            said = reader(file)
            assert said is None or any(name in said for name in target.names), f"names no file: {said}"
            assert said is None or "memory" not in said, said
            written = reader in target.writers and (said is None or reader is reported)
            assert written or contents(folder) == damaged, "it wrote something"
            assert sorted(os.listdir()) == elsewhere, "it left something"
            counts[target.name]["read" if said is None else "refused"] += 1
        except (Exception, damage.Late) as error:
            where = f"SCRATCHGEN_TEST_SEED={SEED}, draw {i}: {target.name}, {change.__name__}, {reader.__name__}"
            faults.append(f"{where}: {type(error).__name__}: {error}"[:600])
            shutil.copy(file, OUTPUT / f"fault-{i}-{file.name}")
        finally:
            signal.alarm(0)
        restored(folder, was)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert not faults, f"{len(faults)} of {count}, files in {OUTPUT}:\n" + "\n".join(faults[:20])
    assert peak < 1 << 20, f"{peak >> 10} MiB more"  # Linux counts in KiB
    return counts


def checked(counts):
    for name, count in counts.items():
        assert count["refused"] > 0, f"nothing of {name} was refused"
    print({name: dict(count) for name, count in counts.items()})


@needs_limits
def test_a_few_damaged_files(base, monkeypatch):
    with limits():
        checked(fuzz(*base, SOME, monkeypatch))


@needs_limits
@pytest.mark.slow
def test_ten_thousand_damaged_files(base, monkeypatch):
    with limits():
        checked(fuzz(*base, MANY, monkeypatch))
