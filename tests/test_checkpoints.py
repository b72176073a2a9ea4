"""A run that is interrupted, in whatever way, arrives exactly where it would have arrived."""

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny
from damage import damages, forgeries, limits, needs_limits
from tiny import MODELS, assert_same, outcome, run, stop_after

import scratchgen as sg
from scratchgen.plots import load_matplotlib
from scratchgen.safetensors_file import FORMAT, read_arrays, write_arrays
from scratchgen.training import NotFinite, Settings, Training, load_checkpoint, save_checkpoint
from scratchgen.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny.digits(folder / "digits")
    tiny.photos(folder / "photos")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)
    tiny.own_cache(tmp_path, monkeypatch)


@pytest.fixture
def quick(monkeypatch, data):
    """Only what counts here: no pictures, records every second step."""
    monkeypatch.chdir(data)
    monkeypatch.setattr("scratchgen.training.loop.FETCH_EVERY", 2)
    tiny.few_points(monkeypatch)
    tiny.no_pictures(monkeypatch)


# --- Ctrl-C, and on ---


def steps_of(folder) -> int:
    return max(r["step"] for r in tiny.records(folder) if r["kind"] == "epoch")


CHOICES = {  # of optimizer and schedule, for 12 steps
    "ae": "--optimizer sgd --momentum 0.5 --warmup 5",
    "gan": "--optimizer adamw --decay cosine --warmup 6",
    "vae": "--optimizer rmsprop --decay linear --warmup 1",
}
WITH_CHOICES = MODELS | {f"{name} {words}": (*MODELS[name], *words.split()) for name, words in CHOICES.items()}


@pytest.mark.parametrize("model", WITH_CHOICES)
def test_a_stopped_run_goes_on_exactly(model, quick, monkeypatch, tmp_path, capsys):
    name, *options = WITH_CHOICES[model]
    argv = ("train", name, *options, "--epochs", "3", "--quiet", "--seed", "5")
    stop_after(monkeypatch, None)
    assert run(*argv, "--out", tmp_path / "whole") == 0
    whole = outcome(tmp_path / "whole")
    assert [r["epoch"] for r in whole["records"] if r["kind"] == "epoch"] == [1, 2, 3]
    assert any(r["kind"] == "steps" and r["epoch"] % 1 for r in whole["records"]), "none within an epoch"
    total = steps_of(tmp_path / "whole")
    rng = random.Random(model)
    plans = [[1], [total // 3], [total - 1], sorted(rng.sample(range(1, total), 3))]  # total // 3 ends an epoch
    for i, plan in enumerate(plans):
        folder, before = tmp_path / f"run-{i}", 0
        for j, stop in enumerate([*plan, None]):
            stop_after(monkeypatch, None if stop is None else stop - before)
            how = (*argv, "--out", folder) if j == 0 else ("train", name, "--resume", folder, "--quiet")
            assert run(*how) == (0 if stop is None else 130)
            if stop is not None:
                position = read_arrays(folder / "checkpoint.safetensors")[1]
                assert (position["epoch"] - 1) * position["steps_per_epoch"] + position["step"] == stop
            before = stop
        assert_same(outcome(folder), whole)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert f"scratchgen train {name} --resume {tmp_path / 'run-0'}" in printed.out


def test_more_epochs_of_a_finished_run_are_those_of_a_longer_run(quick, monkeypatch, tmp_path, capsys):
    name, *options = MODELS["vae"]
    stop_after(monkeypatch, None)
    assert run("train", name, *options, "--epochs", "4", "--quiet", "--out", tmp_path / "whole") == 0
    assert run("train", name, *options, "--epochs", "2", "--quiet", "--out", tmp_path / "run") == 0
    assert run("train", name, "--resume", tmp_path / "run", "--epochs", "3", "--quiet") == 0
    assert run("train", name, "--resume", tmp_path / "run", "--epochs", "4", "--quiet") == 0
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))


def test_a_checkpoint_of_another_number_of_steps_changes_nothing(tmp_path):
    trainings = [training_of(batch_size) for batch_size in (16, 20)]
    for training in trainings:
        list(training.train(on_record=lambda r: None, on_pause=lambda: False, progress=False))
    trainings[0].save(tmp_path / "c")
    before = everything(trainings[1])
    with pytest.raises(ValueError, match=r"c does not fit this run: it is of a run with 3 steps per epoch.* has 2:"):
        trainings[1].load(tmp_path / "c")
    assert everything(trainings[1]) == before


# --- a process that dies at any moment ---


class Killed(BaseException):
    """Nothing more is written from here on, as by kill -9."""


class Disk:
    """Counts what is done to files, and dies at a given one; a write is cut in the middle."""

    def __init__(self, monkeypatch):
        self.count, self.dies_at, self.dead = 0, None, False
        import builtins

        def opened(path, mode="r", *args, **options):
            self.act()
            file = builtins.open(path, mode, *args, **options)  # noqa: SIM115
            return _File(file, self) if set(mode) & set("wxa") else file

        for module in ("scratchgen.files", "scratchgen.training.run_folder"):
            monkeypatch.setattr(f"{module}.open", opened, raising=False)
        for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self.acting(getattr(owner, name)))

    def acting(self, function):
        def acted(*args, **options):
            self.act()
            return function(*args, **options)

        return acted

    def act(self):
        self.count += 1
        self.dead = self.dead or self.count == self.dies_at
        if self.dead:
            raise Killed

    def revive(self, dies_at=None):
        self.count, self.dies_at, self.dead = 0, dies_at, False


class _File:
    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def write(self, content):
        try:
            self.disk.act()
        except Killed:
            if not self.disk.count > (self.disk.dies_at or 0):
                self.file.write(content[: len(content) // 2])
                self.file.flush()
            raise
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def test_killed_at_any_operation_on_files_a_run_goes_on_exactly(quick, monkeypatch, tmp_path, capsys):
    name, *options = MODELS["vae"]
    monkeypatch.setattr("scratchgen.commands.training_run.FIRST_SAVE", 0)
    every_step(monkeypatch)
    argv = ["train", name, *options, "--batch-size", "30", "--epochs", "2", "--quiet", "--keep-weights"]
    load_matplotlib()  # which makes folders of its own when it is loaded
    disk = Disk(monkeypatch)
    assert run(*argv, "--out", tmp_path / "whole") == 0
    operations, whole = disk.count, outcome(tmp_path / "whole")
    names, faults = everything_below(tmp_path / "whole"), {}
    assert operations > 100
    some = random.Random(3).sample(range(11, operations - 30), 12)
    for i in (*range(1, 11), *some, *range(operations - 30, operations + 1)):  # the start, the last epoch's end
        folder = tmp_path / f"run-{i}"
        disk.revive(i)
        with pytest.raises(Killed):
            run(*argv, "--out", folder)
        disk.revive()
        if not (folder / "config.json").is_file():  # there is nothing yet to go on with: the same command again
            assert run(*argv, "--out", folder) == 0, (i, capsys.readouterr().err)
        else:
            assert run("train", name, "--resume", folder, "--quiet", "--keep-weights") == 0, i
        wrong = [
            what
            for what, right in {
                "outcome": outcome(folder) == whole,
                "files": everything_below(folder) == names,
                "end": tiny.records(folder)[-1] == {"kind": "end", "state": "finished"},
                "report": b"refresh=" not in (folder / "report.html").read_bytes(),
            }.items()
            if not right
        ]
        if wrong:
            faults[i] = wrong
    assert not faults, f"of {operations} operations on files"


def every_step(monkeypatch):
    """A checkpoint after every step."""
    from scratchgen.commands.training_run import TrainingRun

    init = TrainingRun.__init__

    def patched(self, *args, **options):
        init(self, *args, **options)
        self.config, self.next_save = {**self.config, "save_every": 0}, 0

    monkeypatch.setattr(TrainingRun, "__init__", patched)


def everything_below(folder) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


# A checkpoint after every step, without pictures, which take most of the time of a run as small as this one.
PROGRAM = """
import sys
from scratchgen.cli import main
from scratchgen.commands import training_run
from scratchgen.report import page

started = training_run.TrainingRun.__init__

def often(self, *args, **options):
    started(self, *args, **options)
    self.config, self.next_save = {**self.config, "save_every": 0.01}, 0

training_run.TrainingRun.__init__ = often
training_run.CREDIT = 1e9
if "plain" in sys.argv[1]:
    page.curve = lambda *args: None
    training_run.take_away = lambda *args: {}
sys.exit(main(sys.argv[2:]))
"""


def start(folder, *argv, pictures: bool = False):
    """A process of its own that trains in a folder, saves at every step, and has a group of its own."""
    root = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "pictures" if pictures else "plain", *map(str, argv)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_and_resume(data, tmp_path, kills: int, seed: int, *, places: int = 1, epochs: int = 3) -> list[str]:
    """A run that is killed so often or more, until the blows have fallen in so many places, beside one that is not;
    returns where they fell."""
    rng = random.Random(seed)
    name, *options = MODELS["vae"]
    argv = ["train", name, *options, "--hidden", "200", "--batch-size", "4", "--epochs", str(epochs), "--quiet"]
    began = time.monotonic()
    whole = start(data, *argv, "--out", tmp_path / "whole", pictures=places > 1)
    assert tiny.said(whole.communicate()[1]) == ""
    seconds = time.monotonic() - began
    wanted, fallen, folder = outcome(tmp_path / "whole"), [], tmp_path / "run"
    finished, runs = False, 0
    while len(fallen) < kills or len(set(fallen)) < places:
        assert len(fallen) < 5 * kills, fallen
        if finished or not folder.exists():  # that one is over, and was right: a new one
            runs += 1
            folder = tmp_path / f"run-{runs}"
            command = [*argv, "--out", folder]
        elif (folder / "config.json").is_file():
            command = ["train", name, "--resume", folder, "--quiet"]
        process = start(data, *command, pictures=rng.random() < (0.5 if places > 1 else 0.25))
        try:
            process.wait(rng.uniform(0.05, 1.1) * seconds * rng.choice((0.5, 1)))
            finished = True
        except subprocess.TimeoutExpired:
            process.kill()
            finished = False
        _, said = process.communicate()
        if finished:
            assert process.returncode == 0, said
            assert_same(outcome(folder), wanted)
            continue
        assert tiny.said(said) == ""
        fallen.append(where(folder))
        if not (folder / "config.json").is_file():
            continue
    if not finished:
        command = ["train", name, "--resume", folder, "--quiet"] if (folder / "config.json").is_file() else command
        process = start(data, *command)
        _, said = process.communicate()
        assert process.returncode == 0, said
        assert_same(outcome(folder), wanted)
        assert not [p for p in folder.rglob("*") if p.name.endswith(".tmp")]
    return fallen


def where(folder) -> str:
    """What a killed run left."""
    if not (folder / "config.json").is_file():
        return "before config.json"
    torn = sorted({p.name.split(".")[1] for p in folder.rglob(".*.tmp")})
    if not (folder / "checkpoint.safetensors").is_file():
        return f"before the first checkpoint, half written: {torn}"
    position = read_arrays(folder / "checkpoint.safetensors")[1]
    return f"epoch {position['epoch']}, step {position['step']}, half written: {torn}"


def test_kill_9_at_a_few_moments(data, tmp_path):
    print("\n".join(kill_and_resume(data, tmp_path, kills=3, seed=1, epochs=2)))


@pytest.mark.slow
def test_kill_9_at_twenty_moments(data, tmp_path):
    fallen = kill_and_resume(
        data, tmp_path, kills=20, seed=int(os.environ.get("SCRATCHGEN_TEST_SEED", "2")), places=10
    )
    print("\n".join(fallen))


# --- writing that fails ---


class Box(sg.Layer):
    """A layer, and an optimizer of it, in a state of their own."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.net = sg.Sequential(sg.Dense(4, 3, rng=rng), sg.BatchNorm(3), sg.Dense(3, 2, rng=rng))


def box(seed, steps=2):
    """(model, optimizers) after a few steps."""
    model = Box(seed)
    optimizers = {"optimizer": sg.Adam(model.parameters())}
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        y, backward = model.net.forward(rng.standard_normal((5, 4), np.float32))
        backward(y)
        optimizers["optimizer"].step()
    return model, optimizers


def exactly(*owners) -> dict:
    """Everything that they hold, as bytes."""
    states = [owner.state() for owner in owners]
    return {(i, k): (a.dtype.str, a.shape, a.tobytes()) for i, state in enumerate(states) for k, a in state.items()}


POSITION = {"epoch": 2, "step": 3, "words": "ε", "state": 2**127, "none": None}


def test_checkpoint_round_trip(tmp_path):
    model, optimizers = box(0)
    save_checkpoint(tmp_path / "c", model, optimizers, POSITION)
    other, others = box(1, steps=0)
    assert load_checkpoint(tmp_path / "c", other, others) == POSITION
    assert exactly(other, *others.values()) == exactly(model, *optimizers.values())
    assert others["optimizer"].t == 2
    held = [p.value for p in other.parameters()]
    save_checkpoint(tmp_path / "c", other, others, POSITION)
    assert all(p.value is v for p, v in zip(other.parameters(), held, strict=True))


@pytest.mark.parametrize("place", ["replace", "fsync", "write", "open"])
def test_writing_that_fails_leaves_the_old_checkpoint_and_weights(place, tmp_path, monkeypatch):
    model, optimizers = box(0)
    save_checkpoint(tmp_path / "c", model, optimizers, POSITION)
    save_weights(model, tmp_path / "w")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    model, optimizers = box(1)
    fail(monkeypatch, place)
    for write in (
        lambda: save_checkpoint(tmp_path / "c", model, optimizers, {}),
        lambda: save_weights(model, tmp_path / "w"),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert load_checkpoint(tmp_path / "c", model, optimizers) == POSITION


def fail(monkeypatch, place):
    """No space is left on the disk."""
    import builtins
    import errno

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            full()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    if place in ("replace", "fsync"):
        monkeypatch.setattr(os, place, full)
    else:
        opened = full if place == "open" else lambda *args: Full(builtins.open(*args))  # noqa: SIM115
        monkeypatch.setattr("scratchgen.files.open", opened, raising=False)


@pytest.mark.parametrize("place", ["replace", "fsync", "write", "open"])
def test_a_full_disk_is_one_error_and_the_checkpoint_stays(place, quick, monkeypatch, tmp_path, capsys):
    every_step(monkeypatch)
    name, *options = MODELS["vae"]
    from scratchgen.commands import train

    draw, drawn = train.TrainingRun.draw, []

    def then_full(self, **options):
        draw(self, **options)
        drawn.append(1)
        if len(drawn) == 4:
            fail(monkeypatch, place)

    monkeypatch.setattr(train.TrainingRun, "draw", then_full)
    argv = ("train", name, *options, "--epochs", "3", "--quiet")
    with monkeypatch.context():
        assert run(*argv, "--out", tmp_path / "run") not in (0, None)
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert said.count("\n") == 1
    monkeypatch.undo()
    _, position = read_arrays(tmp_path / "run" / "checkpoint.safetensors")
    assert (position["epoch"], position["step"]) == (1, 3)
    assert not list((tmp_path / "run").rglob(".*.tmp"))


# --- numbers that are no longer finite ---


def training_of(batch_size=16, **settings):
    """A VAE-free, quick training: an autoencoder of 40 images of 4×4 pixels."""
    from scratchgen.recipes import build

    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8)
    config = {
        "model": "ae",
        "arch": "dense",
        "latent": 2,
        "hidden": [6, 5],
        "loss": "bernoulli",
        "lr": 1e-3,
        "seed": 0,
    }
    recipe = build({**config, "image_shape": [4, 4, 1]})
    return Training(recipe, images, Settings(**{"epochs": 2, "seed": 0, **settings}, batch_size=batch_size))


def everything(training) -> tuple:
    """All that a training holds."""
    where = (training.epoch, training.step, training.rng.bit_generator.state)
    means = (training.of_epoch.state(), training.recent.state())
    return exactly(training.recipe.model, *training.recipe.optimizers.values()), where, means


def plant(monkeypatch, array_of):
    """Before the sixth step array_of(model) gets a NaN in its middle."""
    one_step = Training._one_step

    def planted(self, batch):
        if self.steps == 5:
            array_of(self.recipe)
        one_step(self, batch)

    monkeypatch.setattr(Training, "_one_step", planted)


def spoil_weight(recipe):
    p = recipe.model.decoder.layers[0].W
    value = p.value.copy()
    value[value.shape[0] // 2, 0] = np.nan
    p.value = value


def spoil_gradient(recipe):
    """The pullback of the middle layer gives one NaN for its own weights, and passes on what is right."""
    layer = recipe.model.decoder.layers[0]
    forward = layer.forward

    def wrong(x):
        y, backward = forward(x)

        def spoilt(dy, **options):
            dx = backward(dy, **options)
            layer.W.grad[0, 0] = np.nan
            return dx

        return y, spoilt

    layer.forward = wrong


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_weight, "loss is no longer finite in epoch 2, step 2"),
        (spoil_gradient, "the gradient of decoder.0.W is no longer finite in epoch 2, step 2"),
    ],
)
def test_what_is_no_longer_finite_stops_the_run_and_is_named(spoil, says, quick, monkeypatch, tmp_path, capsys):
    plant(monkeypatch, spoil)
    name, *options = MODELS["ae"]
    assert run("train", name, *options, "--epochs", "3", "--quiet", "--out", tmp_path / "run") == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"scratchgen: {says}")
    assert "try a lower learning rate" in printed.err
    assert f"{tmp_path / 'run' / 'checkpoint.safetensors'} is the last good checkpoint" in printed.err
    assert printed.err.count("\n") == 1
    arrays, position = read_arrays(tmp_path / "run" / "checkpoint.safetensors")
    assert (position["epoch"], position["step"]) == (2, 0)
    weights, _ = read_arrays(tmp_path / "run" / "weights.safetensors")
    assert all(np.isfinite(a).all() for a in (*arrays.values(), *weights.values()))
    assert "no longer finite" in (tmp_path / "run" / "report.html").read_text()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run("train", name, "--resume", tmp_path / "run", "--quiet") == 0


@pytest.mark.parametrize("rate", ["1e30", "1e39"])  # the second overflows a float32 weight in one update
@pytest.mark.parametrize("model", ["ae", "gan"])
def test_an_overflowing_learning_rate_never_reaches_a_checkpoint(rate, model, quick, monkeypatch, tmp_path, capsys):
    every_step(monkeypatch)
    monkeypatch.setattr("scratchgen.commands.training_run.FIRST_SAVE", 0)
    name, *options = MODELS[model]
    assert run("train", name, *options, "--lr", rate, "--quiet", "--out", tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert "no longer finite" in said
    assert "try a lower learning rate" in said
    for file in ("checkpoint", "weights"):
        arrays, _ = read_arrays(tmp_path / "run" / f"{file}.safetensors")
        assert all(np.isfinite(a).all() for a in arrays.values()), file


def test_a_checkpoint_is_not_written_over_by_numbers_that_are_not_finite(tmp_path):
    model, optimizers = box(0)
    save_checkpoint(tmp_path / "c", model, optimizers, POSITION)
    before = (tmp_path / "c").read_bytes()
    model.net.layers[1].running_var = np.array([1, np.inf, 1], np.float32)
    with pytest.raises(NotFinite, match=r"^net\.layers\.1\.running_var is no longer finite|^net\.1\.running_var"):
        save_checkpoint(tmp_path / "c", model, optimizers, POSITION)
    assert (tmp_path / "c").read_bytes() == before


# --- damaged files ---


@pytest.fixture
def limited():
    with limits():
        yield


def what_it_raises(function):
    try:
        function()
    except Exception as error:
        return error
    return None


def each_is_refused_or_right(files, load, read, path):
    """`load()` of each file: what `read()` gives is what it was, or what was written."""
    written, counts = read(), {"refused": 0, "right": 0}
    tracemalloc.start()
    try:
        for label, content in files:
            path.write_bytes(content)
            tracemalloc.reset_peak()
            signal.alarm(5)
            error = what_it_raises(load)
            signal.alarm(0)
            if error is None:
                assert read() == written, label
                counts["right"] += 1
            else:
                assert type(error) is ValueError, (label, repr(error))
                assert str(error).startswith(str(path)), (label, error)
                assert "\n" not in str(error), (label, error)
                assert read() == "old", label
                counts["refused"] += 1
            assert tracemalloc.get_traced_memory()[1] < 8 << 20, label
            assert sorted(p.name for p in path.parent.iterdir()) == [path.name], label  # nothing was executed
    finally:
        tracemalloc.stop()
    return counts


@needs_limits
def test_damaged_checkpoints_are_refused_or_right(tmp_path, limited):
    model, optimizers = box(0)
    path = tmp_path / "files" / "checkpoint"
    path.parent.mkdir()
    save_checkpoint(path, model, optimizers, POSITION)
    raw, new = path.read_bytes(), exactly(model, *optimizers.values())
    arrays, about = read_arrays(path)
    other, others = box(1)
    old = exactly(other, *others.values())
    before = [a.copy() for a in (*other.state().values(), *others["optimizer"].state().values())]
    found = []

    def load():
        found[:] = [load_checkpoint(path, other, others)]

    def read():
        state = exactly(other, *others.values())
        if state == old:
            return "old"
        assert found == [POSITION]
        put_back()
        return "new" if state == new else "something else"

    def put_back():
        names = list(other.state())
        other.load_state(dict(zip(names, before, strict=False)))
        others["optimizer"].load_state(dict(zip(others["optimizer"].state(), before[len(names) :], strict=True)))

    load()
    files = [*damages(raw, 420, seed=1), *forgeries(raw, arrays, about)]
    assert len(files) >= 500
    counts = each_is_refused_or_right(files, load, read, path)
    assert counts["refused"] > 0.98 * len(files), counts


@needs_limits
def test_damaged_weights_are_refused_or_right(tmp_path, limited):
    model, other = box(0)[0], box(1)[0]
    path = tmp_path / "files" / "weights"
    path.parent.mkdir()
    save_weights(model, path)
    raw, old, new = path.read_bytes(), exactly(other), exactly(model)
    before = {k: a.copy() for k, a in other.state().items()}
    arrays, about = read_arrays(path)

    def read():
        state = exactly(other)
        other.load_state(before)
        return "old" if state == old else "new" if state == new else "something else"

    load_weights(other, path)
    counts = each_is_refused_or_right(
        [*damages(raw, 300, seed=2), *forgeries(raw, arrays, about)], lambda: load_weights(other, path), read, path
    )
    assert counts["refused"] > 300, counts


def test_damage_cannot_pass_a_file_off_as_a_foreign_one(tmp_path):
    """A foreign file has no digest. A flipped bit in our mark must not make one of ours foreign, and flip others."""
    model, other = box(0)[0], box(1)[0]
    path = tmp_path / "w"
    save_weights(model, path)
    raw = bytearray(path.read_bytes())
    at = raw.index(FORMAT.encode())
    raw[at] ^= 1
    raw[-2] ^= 1
    path.write_bytes(raw)
    old = exactly(other)
    with pytest.raises(ValueError, match="is damaged"):
        load_weights(other, path)
    assert exactly(other) == old


def test_the_digest_covers_names_types_and_shapes(tmp_path):
    path = tmp_path / "w"
    write_arrays(path, {"abc": np.ones((2, 3), np.float32), "d": np.ones(4, np.int32)}, {"x": 1})
    raw = path.read_bytes()
    for old, new in ((b'"abc"', b'"abd"'), (b'"F32"', b'"U32"'), (b'"I32"', b'"F32"'), (b"[2,3]", b"[3,2]")):
        assert raw.count(old) == 1
        path.write_bytes(raw.replace(old, new))
        for ours in (True, False):
            with pytest.raises(ValueError, match="its SHA-256 is not that of what was written"):
                read_arrays(path, ours=ours)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epoch": 0}, "epoch is 0"),
        ({"epoch": "1"}, "epoch is '1'"),
        ({"step": -1}, "step is -1"),
        ({"step": 3}, "after step 3 of 3"),
        ({"seconds": "x"}, "seconds is 'x'"),
        ({"rng": {}}, ""),
        ({"rng": {"bit_generator": "MT19937"}}, ""),
        ({"rng": 7}, ""),
        ({"of_epoch": {"loss": [1.0, 0]}}, ""),
        ({"recent": {"loss": 7}}, ""),
        ({"recent": None, "epoch": 1}, None),  # None stands for no means at all
        ({"steps_per_epoch": 4}, "4 steps per epoch"),
        ("step", "its position lacks 'step'"),
        ("rng", "its position lacks 'rng'"),
    ],
)
def test_a_checkpoint_with_a_forged_position_changes_nothing(change, says, tmp_path):
    training, other = training_of(), training_of(seed=1)
    list(training.train(on_record=lambda r: None, on_pause=lambda: False, progress=False))
    training.save(tmp_path / "c")
    arrays, position = read_arrays(tmp_path / "c")
    if isinstance(change, str):
        del position[change]
    else:
        position |= change
    write_arrays(tmp_path / "c", arrays, position)
    before = everything(other)
    if says is None:
        other.load(tmp_path / "c")
        return
    with pytest.raises(ValueError, match=r"c does not fit this run: ") as error:
        other.load(tmp_path / "c")
    assert says in str(error.value)
    assert everything(other) == before


def test_files_of_another_model_and_weights_are_no_checkpoint(tmp_path):
    model, optimizers = box(0)
    save_weights(model, tmp_path / "w")
    with pytest.raises(ValueError, match=r"w has .*, which is not part of this model"):
        load_checkpoint(tmp_path / "w", model, optimizers)
    save_checkpoint(tmp_path / "c", model, {"d": optimizers["optimizer"]}, {})
    with pytest.raises(ValueError, match=r"c has d/.*, which is not part of this model"):
        load_checkpoint(tmp_path / "c", model, optimizers)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_checkpoint(tmp_path / "none", model, optimizers)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_checkpoint(tmp_path, model, optimizers)
    with pytest.raises(ValueError, match="JSON"):
        write_arrays(tmp_path / "w2", {}, {"loss": float("nan")})
    assert not (tmp_path / "w2").exists()
