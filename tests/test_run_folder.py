"""What a run keeps on disk: whose each file is, what may be missing, one trainer at a time, the same bytes."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import MODELS, assert_same, outcome, run, stop_after

import scratchgen as sg
from scratchgen import files, report
from scratchgen.recipes import load_run
from scratchgen.safetensors_file import read_arrays, write_arrays
from scratchgen.training import RunFolder

TIMES = ("seconds", "per_second")  # the only keys whose values differ between two runs of the same
VAE = ("train", *MODELS["vae"], "--quiet", "--seed", "3")
STATE = ("config.json", "metrics.jsonl", "checkpoint.safetensors", "weights.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs of one model: after 1, 2 and 3 epochs, in the midst of the third, and with another seed."""
    base = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        tiny.folder_with_data(base, patch)
        patch.setattr("scratchgen.training.loop.FETCH_EVERY", 2)
        for epochs in ("1", "2", "3"):
            assert run(*VAE, "--epochs", epochs, "--out", epochs) == 0
        stop_after(patch, 10)
        assert run(*VAE, "--epochs", "3", "--out", "2.5") == 130
        stop_after(patch, None)
        assert run(*VAE, "--epochs", "3", "--seed", "4", "--out", "other") == 0
    return base


@pytest.fixture
def here(trained, monkeypatch):
    """In that folder, without pictures, and without a wait for the disk."""
    monkeypatch.chdir(trained)
    monkeypatch.setattr(os, "fsync", lambda number: None)
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)
    monkeypatch.setattr("scratchgen.training.loop.FETCH_EVERY", 2)
    tiny.few_points(monkeypatch)
    tiny.no_pictures(monkeypatch)
    return trained


def contents(folder) -> dict:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def resume(folder, *more) -> int:
    return run("train", "vae", "--resume", folder, "--epochs", "3", "--quiet", *more)


def refused(folder, capsys, *more) -> str:
    """The one sentence with which a run does not go on, and nothing is written."""
    before = contents(folder)
    capsys.readouterr()
    assert resume(folder, *more) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert contents(folder) == before
    return said.err


# --- a file that is missing, empty, older than another, or of another run ---


def emptied(path):
    path.write_bytes(b"")


def line_removed(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))


def torn(path):
    path.write_bytes(path.read_bytes()[:-40])


# of a run in the midst of epoch 3: what happened to its files (a function, or whose was copied there), what is said
PARTS = {
    "no checkpoint": (
        {"checkpoint.safetensors": Path.unlink},
        "checkpoint.safetensors is missing, and metrics.jsonl shows that the run was trained",
    ),
    "no checkpoint, no metrics": (
        {"checkpoint.safetensors": Path.unlink, "metrics.jsonl": Path.unlink},
        "checkpoint.safetensors is missing, and weights.safetensors shows that the run was trained",
    ),
    "pictures only": (
        dict.fromkeys(STATE[1:], Path.unlink),
        "checkpoint.safetensors is missing, and samples/latest.png shows that the run was trained",
    ),
    "empty checkpoint": ({"checkpoint.safetensors": emptied}, "checkpoint.safetensors is not a complete safetensors"),
    "torn checkpoint": ({"checkpoint.safetensors": torn}, "checkpoint.safetensors is not a complete safetensors"),
    "older checkpoint": (
        {"checkpoint.safetensors": "1"},
        "checkpoint.safetensors is of step 4, and weights.safetensors of step 10",
    ),
    "older checkpoint, no weights": (
        {"checkpoint.safetensors": "1", "weights.safetensors": Path.unlink},
        "checkpoint.safetensors is of step 4, and metrics.jsonl goes to step 10",
    ),
    "another's checkpoint": (
        {"checkpoint.safetensors": "other"},
        "checkpoint.safetensors does not fit this run: it is of another run",
    ),
    "weights for a checkpoint": (
        {"checkpoint.safetensors": "weights.safetensors"},
        "checkpoint.safetensors does not fit this run: its position lacks",
    ),
    "newer weights": (
        {"weights.safetensors": "3"},
        "checkpoint.safetensors is of step 10, and weights.safetensors of step 12",
    ),
    "another's weights": ({"weights.safetensors": "other"}, "weights.safetensors is of another run"),
    "no metrics": ({"metrics.jsonl": Path.unlink}, "metrics.jsonl is missing: put the right one back, or go on"),
    "empty metrics": ({"metrics.jsonl": emptied}, "metrics.jsonl is empty, and the checkpoint is of step 10"),
    "older metrics": ({"metrics.jsonl": "2"}, "metrics.jsonl ends at step 8, and the checkpoint is of step 10"),
    "torn metrics": ({"metrics.jsonl": line_removed}, "metrics.jsonl ends at step 8, and the checkpoint is of step"),
    "another's metrics": ({"metrics.jsonl": "other"}, "metrics.jsonl is of another run"),
    "no config": ({"config.json": Path.unlink}, "is not a run folder: there is no config.json in it"),
    "empty config": ({"config.json": emptied}, "config.json is damaged"),
    "another's config": ({"config.json": "other"}, "checkpoint.safetensors does not fit this run: it is of another"),
}  # fmt: skip


def spoilt(here, tmp_path, changes, start="2.5") -> Path:
    """A copy of a run in which that happened to these files."""
    folder = tmp_path / "run"
    shutil.copytree(here / start, folder)
    for file, change in changes.items():
        if callable(change):
            change(folder / file)
        else:
            shutil.copy(here / change / file if (here / change).is_dir() else folder / change, folder / file)
    return folder


@pytest.mark.parametrize("case", PARTS)
def test_a_part_that_is_missing_old_or_of_another_run_stops_a_resume(case, here, tmp_path, capsys):
    changes, says = PARTS[case]
    assert says in refused(spoilt(here, tmp_path, changes), capsys)


@pytest.mark.parametrize("case", PARTS)
def test_force_goes_on_from_a_whole_checkpoint_of_this_run_and_from_no_other(case, here, tmp_path, capsys):
    changes, says = PARTS[case]
    folder = spoilt(here, tmp_path, changes)
    if "put the right one back, or go on" not in refused(folder, capsys):
        assert says in refused(folder, capsys, "--force")
        return
    assert resume(folder, "--force") == 0
    found, wanted = outcome(folder), outcome(here / "3")
    if "metrics" in case:
        found["records"] = wanted["records"]
    assert_same(found, wanted)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"weights.safetensors": Path.unlink}, None),
        ({"weights.safetensors": "1"}, None),  # killed between checkpoint and weights, a while ago
        ({"weights.safetensors": emptied}, "weights.safetensors is not a complete safetensors"),
        ({"weights.safetensors": torn}, "weights.safetensors is not a complete safetensors"),
    ],
    ids=["none", "older", "empty", "torn"],
)
def test_weights_are_written_anew_from_the_checkpoint(changes, note, here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, changes)
    assert resume(folder) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert note is None or note in said.out
    assert_same(outcome(folder), outcome(here / "3"))


@pytest.mark.parametrize("removed", [STATE[1:], STATE[1::2]], ids=["before the first checkpoint", "after it"])
def test_a_run_in_which_nothing_was_trained_yet_begins_anew(removed, here, tmp_path, capsys):
    """Killed before the first checkpoint, or right after it."""
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scratchgen.training.Training.train", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*VAE, "--epochs", "3", "--out", folder)
    for file in removed:
        (folder / file).unlink(missing_ok=True)
    assert resume(folder) == 0
    assert_same(outcome(folder), outcome(here / "3"))


def test_weights_that_are_missing_are_taken_from_the_checkpoint(here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {"weights.safetensors": Path.unlink})
    whole, found = load_run(here / "2.5").model.state(), load_run(folder).model.state()
    assert all(np.array_equal(found[name], a) for name, a in whole.items())
    assert run("sample", folder, "--output", tmp_path / "x.npy") == 0
    (folder / "checkpoint.safetensors").unlink()
    capsys.readouterr()
    assert run("sample", folder, "--output", tmp_path / "y.npy") == 2
    assert "weights.safetensors is missing, and so is the checkpoint" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"weights\.safetensors is of another run"):
        load_run(spoilt(here, tmp_path / "2", {"weights.safetensors": "other"}))
    changed = spoilt(here, tmp_path / "3", {})
    model = load_run(changed).model
    model.decoder.layers[0].b.value[:] = 7
    sg.save_weights(model, changed / "weights.safetensors")  # of no run, from someone who knows what he does
    assert (load_run(changed).model.decoder.layers[0].b.value == 7).all()
    assert "weights.safetensors is of another run" in refused(changed, capsys)


def as_before_ids(folder) -> None:
    """As an earlier version wrote it, which knew of no ids."""
    config = json.loads((folder / "config.json").read_text())
    del config["id"]
    (folder / "config.json").write_text(json.dumps(config))
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[0])["kind"] == "run"
    (folder / "metrics.jsonl").write_text("".join(lines[1:]))
    for name, keys in (("checkpoint", ("run", "logged")), ("weights", ("run", "step"))):
        arrays, about = read_arrays(folder / f"{name}.safetensors")
        for key in keys:
            del about[key]
        write_arrays(folder / f"{name}.safetensors", arrays, about)


def test_a_run_from_before_there_were_ids_goes_on(here, tmp_path, capsys):
    folder, whole = spoilt(here, tmp_path, {}), spoilt(here, tmp_path / "whole", {}, "3")
    as_before_ids(folder)
    as_before_ids(whole)
    found, wanted = outcome(folder), outcome(whole)
    assert resume(folder) == 0
    found = outcome(folder)
    assert found["position"].pop("logged") == 12
    assert found["about"].pop("step") == 12
    assert_same(found, wanted)
    refused(spoilt(here, tmp_path / "2", {"config.json": lambda path: as_before_ids(path.parent)} | {
        "checkpoint.safetensors": "2.5"}), capsys)  # fmt: skip


# --- two processes in one folder ---


def creating(barrier, queue, path, i):
    barrier.wait()
    try:
        RunFolder.create(path, {"model": "vae", "number": i})
        queue.put(i)
    except FileExistsError:
        queue.put(None)


def test_of_processes_that_make_a_folder_at_once_one_gets_it(tmp_path):
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    barrier, queue, rounds = context.Barrier(3), context.Queue(), 8
    (tmp_path / "1").mkdir()  # that it is there already, and empty, makes no difference
    for n in range(rounds):
        path = tmp_path / str(n)
        processes = [context.Process(target=creating, args=(barrier, queue, path, i)) for i in range(3)]
        for process in processes:
            process.start()
        got = [queue.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        winners = [i for i in got if i is not None]
        assert len(winners) == 1
        assert json.loads((path / "config.json").read_text())["number"] == winners[0]
        assert {p.name for p in path.iterdir()} == {"config.json", "samples"}


def test_a_name_that_was_taken_meanwhile_is_not_insisted_on(here, tmp_path, monkeypatch, capsys):
    unused, taken = RunFolder.unused, []

    def too_late(parent, name):
        path = unused(parent, name)
        if len(taken) < 2:
            taken.append(RunFolder.create(path, {"model": "vae"}))
        return path

    monkeypatch.setattr(RunFolder, "unused", staticmethod(too_late))
    before = set((here / "runs").glob("*")) if (here / "runs").is_dir() else set()
    assert run(*VAE, "--epochs", "1") == 0
    new = sorted(set((here / "runs").glob("*")) - before, key=lambda p: len(p.name))
    assert len(new) == 3
    assert [(p / "weights.safetensors").is_file() for p in new].count(True) == 1
    shutil.rmtree(here / "runs")


HOLDER = """
import sys, time
from scratchgen.training import RunFolder
with RunFolder.open(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(here, tmp_path):
    """A run that another process trains, and this process."""
    folder = spoilt(here, tmp_path, {})
    root = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.communicate()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that kills")
def test_a_run_that_is_being_trained_is_not_resumed_and_can_be_read(held, here, tmp_path, capsys):
    folder, process = held
    said = refused(folder, capsys)
    assert re.search(rf"run is being trained by process {process.pid} on \S+ since 2\d+-\d+-\d+ \d+:\d+:\d+: ", said)
    assert (folder / ".lock").is_file()
    assert run("sample", folder, "--output", tmp_path / "x.npy") == 0
    assert run("evaluate", folder, "--quiet", "--importance", "1") == 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / ".lock").is_file()  # of a crash: it stops nobody
    assert resume(folder) == 0
    assert_same(outcome(folder), outcome(here / "3"))
    assert not (folder / ".lock").exists()


def test_a_lock_is_one_and_is_gone_afterwards(tmp_path):
    path = tmp_path / "lock"
    with files.locked(path) as held:
        assert held
        with pytest.raises(files.InUse, match=rf"^process {os.getpid()} on "), files.locked(path):
            pass
        assert path.is_file()
    assert not path.exists()
    path.write_text("\x1b[31m a stranger's\n")
    with files.locked(path), pytest.raises(files.InUse), files.locked(path):
        pass
    number = os.open(path, os.O_CREAT | os.O_RDWR)
    assert files._lock(number)
    with pytest.raises(files.InUse, match=r"^another process$"), files.locked(path):  # who has not said yet who it is
        pass
    os.close(number)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs a system that can refuse links")
def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "lock").symlink_to("mine")
    with pytest.raises(OSError, match=r"lock"), files.locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the file and locking it the one before lets go and removes it: the lock would be of no file."""
    path, lock, removed = tmp_path / "lock", files._lock, []

    def late(number):
        if not removed:
            removed.append(path.unlink())
        return lock(number)

    monkeypatch.setattr(files, "_lock", late)
    with files.locked(path) as held:
        assert held
        monkeypatch.setattr(files, "_lock", lock)
        with pytest.raises(files.InUse), files.locked(path):
            pass


@pytest.mark.skipif(files.fcntl is None, reason="needs locks of this kind")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_a_run_goes_on_with_a_note(number, here, tmp_path, monkeypatch, capsys):
    def none(*args):
        raise OSError(number, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", none)
    folder = spoilt(here, tmp_path, {})
    assert resume(folder) == 0
    assert "note     this file system has no locks" in capsys.readouterr().out
    assert_same(outcome(folder), outcome(here / "3"))
    assert not list(folder.glob(".*"))


def test_where_locks_are_of_bytes(tmp_path, monkeypatch):
    """As on Windows: a byte is locked at the place where the file stands, beyond all that is read or written."""
    held = {}

    class Bytes:
        LK_NBLCK = 2

        @staticmethod
        def locking(number, mode, count):
            assert (mode, count) == (2, 1)
            key = os.fstat(number).st_ino, os.lseek(number, 0, os.SEEK_CUR)
            assert key[1] > 1 << 20
            if held.get(key) not in (None, number):
                raise PermissionError(errno.EACCES, "locked")
            held[key] = number

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", Bytes)
    with files.locked(tmp_path / "lock") as ours:
        assert ours
        with pytest.raises(files.InUse, match=r"^process "), files.locked(tmp_path / "lock"):
            pass
    with files.atomic_write(tmp_path / "x") as stream:
        stream.write(b"abc")
    assert (tmp_path / "x").read_bytes() == b"abc"
    monkeypatch.setattr(files, "msvcrt", None)
    with files.locked(tmp_path / "lock") as ours:
        assert not ours


def test_clearing_leaves_what_another_process_is_writing(tmp_path):
    (tmp_path / ".old.0123abcd.tmp").write_bytes(b"left by one that was killed")
    with files.atomic_write(tmp_path / "new") as stream:
        stream.write(b"new")
        files.clear(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"new"}
    assert (tmp_path / "new").read_bytes() == b"new"


# --- the same run has the same bytes ---


def timeless(name: str, content: bytes):
    """A file's content without times."""

    def without(about):
        return {k: without(v) if isinstance(v, dict) else v for k, v in about.items() if k not in TIMES}

    if name == "metrics.jsonl":
        return [without(json.loads(line)) for line in content.splitlines()]
    if name == "report.html":
        return re.sub(rb"\d+ s\b", b"", content)
    if name == "checkpoint.safetensors":
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert header["__metadata__"].pop("sha256")
        position = json.loads(header["__metadata__"].pop("about"))
        return list(header.items()), without(position), content[-1000:]
    return content


def assert_same_bytes(first, second):
    one, other = contents(first), contents(second)
    assert one.keys() == other.keys()
    assert [name for name in one if timeless(name, one[name]) != timeless(name, other[name])] == []


@pytest.mark.parametrize("name", MODELS)
def test_the_same_run_writes_the_same_bytes(name, here, tmp_path, monkeypatch):
    argv = ["train", *MODELS[name], "--epochs", "2", "--keep-weights", "--quiet"]
    argv = [str(here / a) if a in ("digits", "photos") else a for a in argv]  # a resumed run names the whole path
    monkeypatch.setattr("scratchgen.training.loop.FETCH_EVERY", 2)
    for folder in ("a", "b"):
        assert run(*argv, "--out", tmp_path / folder / "run") == 0
        assert run("export", tmp_path / folder / "run") == 0
    assert_same_bytes(tmp_path / "a" / "run", tmp_path / "b" / "run")
    stop_after(monkeypatch, 3)
    assert run(*argv, "--out", tmp_path / "c" / "run") == 130  # and in two parts
    stop_after(monkeypatch, None)
    assert run("train", MODELS[name][0], "--resume", tmp_path / "c" / "run", "--quiet") == 0
    assert run("export", tmp_path / "c" / "run") == 0
    assert_same_bytes(tmp_path / "a" / "run", tmp_path / "c" / "run")


def test_the_same_run_draws_the_same_pictures_in_another_process(trained, tmp_path, monkeypatch):
    """And measures the same, whatever the order of Python's sets, which is another in every process."""
    monkeypatch.chdir(trained)
    argv = ("train", *MODELS["ae"], "--latent", "2", "--epochs", "1", "--quiet", "--out")
    assert run(*argv, tmp_path / "1" / "run") == 0
    program = "import sys; from scratchgen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *argv, str(tmp_path / "2" / "run")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "7"}
    subprocess.run(command, env=env, check=True, capture_output=True)
    some = {"losses.png", "evaluation/codes.png", "evaluation/measures.json", "samples/epoch-001.png"}
    assert some <= contents(tmp_path / "1" / "run").keys()
    assert_same_bytes(tmp_path / "1" / "run", tmp_path / "2" / "run")


@pytest.mark.parametrize("changed", ["--threads 1", "--save-every 7", "--keep-weights", "--epochs 2"])
def test_what_does_not_change_the_numbers_is_not_in_the_id(changed, here, tmp_path):
    assert run(*VAE, "--epochs", "1", *changed.split(), "--out", tmp_path / "run") == 0
    assert RunFolder.open(tmp_path / "run").id == RunFolder.open(here / "1").id


@pytest.mark.parametrize("changed", ["--lr 0.002", "--seed 5", "--hidden 6,6", "--batch-size 15"])
def test_what_changes_the_numbers_is_in_the_id(changed, here, tmp_path):
    assert run(*VAE, "--epochs", "1", *changed.split(), "--out", tmp_path / "run") == 0
    assert RunFolder.open(tmp_path / "run").id != RunFolder.open(here / "1").id


# --- a power cut ---


@pytest.fixture
def synced(monkeypatch):
    """What has come to the disk, in its order: files by their names, and folders, which hold the names."""
    found, fsync, replace = [], os.fsync, os.replace

    def noted(number):
        name, folder = Path(os.readlink(f"/proc/self/fd/{number}")).name, stat.S_ISDIR(os.fstat(number).st_mode)
        found.append(f"{name}/" if folder else re.sub(r"^\.|\.\w{8}\.tmp$", "", name))
        fsync(number)

    def renamed(source, target):
        found.append(f"named {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux to see which file it is")
def test_a_checkpoint_is_on_the_disk_with_its_name_and_the_records_before_it(here, tmp_path, synced):
    assert run(*VAE, "--epochs", "2", "--out", tmp_path / "new" / "run") == 0
    assert synced[:3] == [f"{tmp_path.name}/", "new/", "config.json"]  # the names of the folders that were made
    for name in ("config.json", "checkpoint.safetensors", "weights.safetensors", "epoch-002.png", "report.html"):
        last = len(synced) - 1 - synced[::-1].index(name)
        folder = "samples/" if name.startswith("epoch") else "run/"
        assert synced[last : last + 3] == [name, f"named {name}", folder]
    ends = [i for i, what in enumerate(synced) if what == "checkpoint.safetensors"]
    assert len(ends) == 3  # at the start and after each epoch
    for end in ends[1:]:
        assert synced[end - 2 : end] == ["metrics.jsonl", "run/"]
    assert synced[-2:] == ["metrics.jsonl", "run/"]  # and the record of the end
    assert synced.count("metrics.jsonl") == 3  # not at every line


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_file_system_that_cannot_sync_folders_is_as_good_as_it_can_be(number, tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse(of):
        if stat.S_ISDIR(os.fstat(of).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(of)

    monkeypatch.setattr(os, "fsync", refuse)

    def write():
        with files.atomic_write(tmp_path / "x") as stream:
            stream.write(b"abc")

    if number == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            write()
    else:
        write()
    assert (tmp_path / "x").read_bytes() == b"abc"


# --- what stands in the files ---


def edited(folder, key, value) -> None:
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps({**config, key: value}).replace('"infinity"', "1e999")
    (folder / "config.json").write_text(text)


HUGE = 10**400
WRONG = [
    ("model", 7, "model is 7, needs a text"),
    ("model", "x", "the run is of a model 'x', known are ae, vae, gan, dcgan"),
    ("threads", "x", "threads is 'x', needs a whole number of at least 1"),
    ("threads", HUGE, "threads is 1000000"),
    ("save_every", -1, "save_every is -1, needs a whole number of at least 1"),
    ("epochs", 2.5, "epochs is 2.5, needs a whole number"),
    ("epochs", True, "epochs is True, needs a whole number"),
    ("epochs", HUGE, "needs at most 2,147,483,647"),
    ("lr", HUGE, "lr is 1000"),
    ("lr", 0, "lr is 0, needs a positive number"),
    ("lr", "infinity", "lr is inf, needs a positive number"),
    ("lr", None, "lr is None, needs a positive number"),
    ("beta", -1, "beta is -1, needs a number of at least 0"),
    ("data", 3, "data is 3, needs a text"),
    ("image_size", [1], "image_size is [1], needs "),
    ("channels", True, "channels is True, needs one of 1, 3"),
    ("image_shape", [8, 8], "image_shape is [8, 8], needs three whole numbers"),
    ("image_shape", "8", "image_shape is '8', needs three whole numbers"),
    ("hidden", [], "hidden is [], needs whole numbers of at least 1"),
    ("hidden", [0], "hidden is [0], needs whole numbers of at least 1"),
    ("arch", "Dense", "arch is 'Dense', needs one of dense, conv"),
    ("seed", -1, "seed is -1, needs a whole number of at least 0"),
    ("backend", "gpu", "backend is 'gpu', needs one of numpy, cupy"),
    ("keep_weights", 1, "keep_weights is 1, needs true or false"),
    ("decay", [], "decay is [], needs one of none, linear, cosine"),
    ("latent", {"a": "\x1b[31m\n"}, r"latent is {'a': '\x1b[31m\n'}, needs a whole number"),
    ("id", 7, "id is 7, needs a text"),
    ("latent", 4, "a setting was changed"),
    ("batch_size", 15, "a setting was changed"),
    ("more", 1, "a setting was changed"),
]


@pytest.mark.parametrize(("key", "value", "says"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_setting_is_named_with_what_it_needs(key, value, says, here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {})
    edited(folder, key, value)
    said = refused(folder, capsys)
    assert f"{folder / 'config.json'} is damaged: " in said
    assert says in said
    for command in ("sample", "evaluate", "export"):
        assert run(command, folder) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(ValueError, match=re.escape(says)):
        load_run(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"model": "vae", "model": "ae"}', "it has 'model' twice"),
        ('{"model": "vae", "lr": NaN}', "it has NaN, which is not a number"),
        ('{"model": "vae", "lr": ' + "9" * 5000 + "}", "damaged: "),
        ('{"model": ' * 40 + "1" + "}" * 40, "it is nested too deeply"),
        ("[" * 100_000, "it is nested too deeply"),
        ("\x00" * 100, "damaged: "),
        (" " * (1 << 24) + "{}", "it has more than 16,777,216 bytes"),
        ('{"model": "vae"}', "config.json lacks 'batch_size'"),
    ],
    ids=range(8),
)
def test_a_config_that_is_no_config(text, says, here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {"config.json": lambda path: path.write_text(text)})
    if "lacks" in says:
        with pytest.raises(ValueError, match=r"config\.json lacks 'seed'"):
            load_run(folder)
        return
    assert says in refused(folder, capsys)


def test_every_switch_has_a_kind_that_its_own_values_fit(here):
    """The command line and config.json are held to the same: whatever the first lets through the second does too."""
    from scratchgen.cli import parser
    from scratchgen.commands.train import NOT_KEPT
    from scratchgen.recipes import RECIPES, _schema

    for name, recipe in RECIPES.items():
        kept = vars(parser().parse_args(["train", name])).keys() - set(NOT_KEPT)
        assert kept <= _schema(recipe).keys()


LINES = [
    '{"kind": "steps", "step": 5, "epocX": 1.5, "loss": 3.0}',
    '{"kind": "steps", "step": null, "epoch": 1.5, "loss": 3.0}',
    '{"kind": "steps", "step": 5, "epoch": "1.5", "loss": 3.0}',
    '{"kind": "epoch", "step": 5, "epoch": 1, "loss": "x"}',
    '{"kind": "epoch", "step": 5, "epoch": 1, "loss": ' + "9" * 400 + "}",
    '{"kind": "epoch", "step": 5, "epoch": 1, "loss": NaN}',
    '{"kind": "epoch", "step": 5, "epoch": 1, "step": 6}',
    '{"kind": "epoch", "step": -5, "epoch": 1}',
    '{"kind": ["epoch"], "step": 5, "epoch": 1}',
    '{"step": 5, "epoch": 1}',
    "[" * 100_000,
    '"' + "x" * (3 << 20) + '"',
    "\x00\x1b[2J",
    "7",
    "",
]


def test_records_that_cannot_be_read_are_left_out_and_counted(here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {})
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], *LINES, *lines[3:]]) + "\n")
    assert RunFolder.open(folder).records().unreadable == len(LINES)
    assert run("evaluate", folder, "--quiet", "--importance", "1") == 0
    note = f"note     {path}: {len(LINES)} lines cannot be read and are left out"
    assert note in capsys.readouterr().out
    assert resume(folder) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert note in said.out
    assert_same(outcome(folder), outcome(here / "3"))


@pytest.mark.parametrize("at", range(9))
def test_one_wrong_character_in_the_records_does_not_stop_a_resume(at, here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {})
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) >= 9
    lines[at] = b"#" + lines[at][1:]
    path.write_bytes(b"".join(lines))
    assert resume(folder) == 0
    assert f"{path}: 1 line cannot be read" in capsys.readouterr().out
    found, wanted = outcome(folder), outcome(here / "3")
    assert len(found["records"]) >= len(wanted["records"]) - 1
    found["records"] = wanted["records"]
    assert_same(found, wanted)


SCRIPT = "<script>alert(1)</script>"
MEASURED = [
    ({"epoch": SCRIPT}, "epoch is '&lt;script&gt;alert(1)&lt;/script&gt;', needs a whole number"),
    ({"epoch": 1.5}, "epoch is 1.5"),
    ({"rows": None}, "rows is None, needs a list of pairs of texts"),
    ({"rows": [["a"]]}, "rows is"),
    ({"rows": [["a", 1]]}, "rows is"),
    ({"rows": {"a": "b"}}, "rows is"),
    ({"data": [SCRIPT]}, "data is"),
    ({"run": "another"}, "is of another run"),
    ({"rows": ...}, "it lacks rows"),
]


@pytest.mark.parametrize(("change", "says"), MEASURED)
def test_measures_that_cannot_be_read_are_left_out_of_the_page_with_the_reason(change, says, here, tmp_path):
    folder = RunFolder.open(spoilt(here, tmp_path, {}))
    folder.write_measures({"data": "d", "epoch": 2, "rows": [["mean", "7"]]})
    recipe = load_run(folder.path)
    assert "mean</th>" in report.write(folder, recipe, state="", under_way=False).read_text()
    measures = {k: v for k, v in ({**folder.measures(), **change}).items() if v is not ...}
    (folder.path / "evaluation" / "measures.json").write_text(json.dumps(measures))
    page = report.write(folder, recipe, state="", under_way=False).read_text()
    assert says.replace("'", "&#x27;") in page
    assert "measures.json" in page
    assert page.count("<script") == 1  # its own
    assert ">7<" not in page
    assert resume(folder.path) == 0


@pytest.mark.parametrize("digits", [20, 400, 5000])
@pytest.mark.parametrize("switch", ["--threads", "--epochs", "--latent", "--batch-size", "--save-every", "--hidden"])
def test_numbers_that_are_too_large_are_one_sentence(switch, digits, here, tmp_path, capsys):
    assert run(*VAE, switch, "9" * digits, "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 300
    assert f"argument {switch}: '9999" in said
    assert not (tmp_path / "run").exists()


FORGED = {
    "logged is text": ({"logged": "x"}, {}, "logged is 'x', needs a whole number of at least 0"),
    "logged is negative": ({"logged": -1}, {}, "logged is -1, needs a whole number of at least 0"),
    "run is a number": ({"run": 7}, {}, "run is 7, needs a text"),
    "an infinite weight": ({}, {"model/decoder.0.W": np.inf}, "model/decoder.0.W holds elements that are not finite"),
    "a moment that is none": ({}, {"optimizer/m.0": np.nan}, "optimizer/m.0 holds elements that are not finite"),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_checkpoint_is_refused_before_anything_is_written(case, here, tmp_path, capsys):
    """Its digest is right, whoever made it."""
    marks, numbers, says = FORGED[case]
    folder = spoilt(here, tmp_path, {})
    arrays, position = read_arrays(folder / "checkpoint.safetensors")
    for name, number in numbers.items():
        assert name in arrays
        arrays[name] = np.full_like(arrays[name], number)
    write_arrays(folder / "checkpoint.safetensors", arrays, {**position, **marks})
    said = refused(folder, capsys, "--force")
    assert f"{folder / 'checkpoint.safetensors'} " in said
    assert says in said


def test_what_a_run_draws_is_finite_or_refused(here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {})
    arrays, about = read_arrays(folder / "weights.safetensors")
    rng = np.random.default_rng(0)
    huge = {k: rng.choice([-3e38, 3e38], a.shape).astype(np.float32) for k, a in arrays.items()}
    write_arrays(folder / "weights.safetensors", huge, about)
    assert run("sample", folder, "--output", tmp_path / "x.npy") == 2
    said = capsys.readouterr().err
    assert "what the model computes is not finite" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("command", ["train", "evaluate", "reconstruct"])
def test_data_that_is_gone_names_the_run_and_writes_no_control_characters(command, here, tmp_path, capsys):
    folder = spoilt(here, tmp_path, {})
    edited(folder, "data", "/gone\x1b[2J\n")
    before = contents(folder)
    argv = ("train", "vae", "--resume", folder) if command == "train" else (command, folder)
    assert run(*argv) == 2
    said = capsys.readouterr().err
    assert f"the data of {folder} is not where its config.json says: " in said
    assert "\x1b" not in said
    assert contents(folder) == before
