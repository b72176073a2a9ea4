"""How a run goes on where something fails that it does not need, and how it ends where it cannot go on."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tiny
from tiny import MODELS, assert_same, outcome, run

from scratchgen.recipes import RECIPES, build, load_run
from scratchgen.safetensors_file import read_arrays
from scratchgen.training import RunFolder, Training, stop_request
from scratchgen.weights import save_weights

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's & ignores it


def python(*argv, first: str = FOREGROUND) -> list[str]:
    """A command that does something first, in the process that it then is."""
    become = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return [sys.executable, "-S", "-c", f"{first}\n{become}", *map(str, argv)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    tiny.own_cache(tmp_path, monkeypatch)
    tiny.folder_with_data(tmp_path, monkeypatch)
    monkeypatch.delenv("SCRATCHGEN_THREADS", raising=False)


def train(name, *options, out="run", status=0):
    """A small run; what it printed on standard error goes to the caller's capsys."""
    assert run("train", *MODELS[name], "--quiet", "--out", out, *options) == status
    return RunFolder(Path(out))


def resume(name, *options, out="run", status=0):
    assert run("train", MODELS[name][0], "--resume", out, "--quiet", *options) == status
    return RunFolder(Path(out))


def epochs(folder) -> list[dict]:
    return [r for r in folder.records() if r["kind"] == "epoch"]


def notes(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


# --- a measure or picture that fails is a line ---

ERRORS = {  # and what is said of them
    "needs two images": ValueError("needs two images"),
    "sheet.png: No space left on device": OSError(errno.ENOSPC, "No space left on device", "sheet.png"),
    "SVD did not converge": np.linalg.LinAlgError("SVD did not converge"),
    "Unable to allocate 9.00 TiB": MemoryError("Unable to allocate 9.00 TiB"),
    "two lines": RuntimeError("two\nlines"),
    "KeyError: 'x'": KeyError("x"),
    "ZeroDivisionError": ZeroDivisionError(),
}
PLACES = {  # what fails, and what is then said to be missing
    "scratchgen.recipes.vae.VAERecipe.sheet": "the picture of the samples",
    "scratchgen.recipes.vae.VAERecipe.test_terms": "the test loss",
    "scratchgen.recipes.vae.VAERecipe.epoch_measures": "the measures of the epoch",
    "scratchgen.recipes.vae.active_units": "active latent units",
    "scratchgen.recipes.vae.VAERecipe.measure": "the evaluation",
    "scratchgen.commands.training_run.take_away": "losses.png, health.png, samples.gif",
    "scratchgen.commands.training_run.write": "report.html",
    "scratchgen.commands.training_run.evaluate": "the evaluation",
    "scratchgen.training.run_folder.save_picture": "the picture of the samples",
}


def failing(error):
    def fail(*args, **options):
        raise error

    return fail


@pytest.mark.parametrize("says", ERRORS)
def test_whatever_the_error(says, monkeypatch, capsys):
    monkeypatch.setattr("scratchgen.recipes.vae.VAERecipe.sheet", failing(ERRORS[says]))
    train("vae", "--epochs", "2")
    assert notes(capsys) == [f"note: the picture of the samples could not be made: {says}"]


@pytest.mark.parametrize("place", PLACES)
def test_wherever_it_fails_the_run_goes_on_and_says_so_once(place, monkeypatch, capsys):
    whole = outcome(train("vae", "--epochs", "3", "--evaluate", out="whole").path)
    with monkeypatch.context() as patch:
        patch.setattr(place, failing(ValueError("planted")))
        capsys.readouterr()
        folder = train("vae", "--epochs", "2", "--evaluate")
        said = notes(capsys)
        assert said.count(f"note: {PLACES[place]} could not be made: planted") == 1
        assert len(set(said)) == len(said)
        assert folder.ended
        assert [r["epoch"] for r in epochs(folder)] == [1, 2]
    resume("vae", "--epochs", "3")
    found = outcome(folder.path)
    assert {"arrays", "weights"} <= found.keys()
    for part in ("arrays", "weights", "position"):
        assert found[part] == whole[part], part


@pytest.mark.parametrize(
    ("model", "count", "options"),
    [
        ("vae", 10, ()),
        ("vae", 2, ("--latent", "2", "--evaluate")),
        ("ae", 2, ("--latent", "1")),
        ("ae", 10, ("--latent", "2", "--loss", "squared-error")),
        ("gan", 10, ("--evaluate",)),
        ("dcgan", 3, ("--evaluate", "--width", "1")),
    ],
)
def test_a_folder_of_few_images_is_enough(model, count, options, tmp_path, capsys):
    """One test image has no variance, and no rank: what cannot be measured of it is left out, without a word."""
    tiny.photos(tmp_path / "few", count)
    argv = ("train", model, "--data", "few", "--image-size", "8", "--sample-every", "1", "--quiet")
    assert run(*argv, *options, "--epochs", "2", "--out", "run") == 0
    assert notes(capsys) == []
    folder = RunFolder("run")
    assert all(r.get("test_loss", 0) == r.get("test_loss", 0) for r in epochs(folder))
    if model in ("ae", "vae"):
        assert all("test_loss" in r for r in epochs(folder))
    resume_argv = ("train", model, "--resume", "run", "--quiet", "--epochs", "3")
    assert run(*resume_argv) == 0
    assert len(epochs(folder)) == 3
    capsys.readouterr()
    assert run("evaluate", "run", "--quiet", "--importance", "2") == 0
    assert "could not be measured" not in capsys.readouterr().out
    assert not {"active_units", "variances_of_mu"} & folder.measures().keys()


class Killed(BaseException):
    """As by kill -9: nothing is written after it."""


@pytest.mark.parametrize("place", ["epoch_measures", "sheet", "line"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_epoch_is_saved_before_it_is_measured(place, epoch, monkeypatch):
    """A process that dies at it has lost nothing, and the epoch is measured when the run goes on."""
    whole = outcome(train("vae", "--epochs", "3", out="whole").path)
    with monkeypatch.context() as patch:
        right, calls = getattr(RECIPES["vae"], place), []

        def dies(self, *args):
            calls.append(1)
            if len(calls) == epoch + (place == "sheet"):  # the first sheet is that of the start
                raise Killed
            return right(self, *args)

        patch.setattr(RECIPES["vae"], place, dies)
        patch.setattr("scratchgen.commands.training_run.TrainingRun.affordable", lambda self, now: False)
        patch.setattr("scratchgen.commands.training_run.TrainingRun.close", lambda *args: None)
        with pytest.raises(Killed):
            train("vae", "--epochs", "3")
    position = read_arrays(Path("run/checkpoint.safetensors"))[1]
    assert (position["epoch"], position["step"]) == (epoch + 1, 0)
    resume("vae")
    assert_same(outcome(Path("run")), whole)


def test_an_epoch_is_measured_late_only_by_its_own_weights(monkeypatch):
    """Where its record was lost, and training has gone on since, it stays lost."""
    switches = ("--epochs", "6", "--sample-every", "2")
    tiny.stop_after(monkeypatch, 12)  # 4 steps an epoch: after epoch 3, which is not marked
    folder = train("vae", *switches, status=130)
    tiny.stop_after(monkeypatch, None)
    (folder.path / "metrics.jsonl").unlink()
    assert run("train", "vae", "--resume", "run", "--force", "--quiet") == 0
    assert [r["epoch"] for r in epochs(folder)] == [4, 6]


# --- what a run that stopped says of itself ---


def page(folder: RunFolder) -> str:
    return (folder.path / "report.html").read_text(encoding="utf-8")


def state(folder: RunFolder) -> str:
    """The state on its page, with the seconds left out."""
    return re.sub(r"[0-9]+ s\b", "… s", re.search(r'class="state">([^<]*)', page(folder))[1])


def test_a_run_that_stopped_shows_how_far_it_came(monkeypatch, capsys):
    tiny.stop_after(monkeypatch, 6)
    folder = train("ae", "--epochs", "3", status=130)
    assert state(folder) == "1 of 3 epochs, 6 steps, … s; stopped"
    assert b64encode(folder.latest_sheet.read_bytes()).decode() in load_run("run")._repr_html_()
    for _ in range(2):  # as it stopped, and as it was evaluated
        assert re.search(r'<img id="stage" alt="([^"]*)"', page(folder))[1] == "after step 6"
        assert "The newest is of the model after step 6." in page(folder)
        assert run("evaluate", "run", "--quiet") == 0
        assert state(folder) == "1 of 3 epochs, 6 steps, … s"
        assert "<h2>Measures after step 6 (epoch 2)</h2>" in page(folder)
    assert (folder.measures()["step"], folder.measures()["epoch"]) == (6, 2)
    tiny.stop_after(monkeypatch, None)
    resume("ae")
    assert not folder.latest_sheet.exists()
    assert state(folder) == "3 of 3 epochs, 12 steps, … s"


@pytest.mark.parametrize("name", ["ae", "vae", "points", "dcgan"])
def test_a_run_that_stopped_before_its_first_mark_is_evaluated(name, monkeypatch, capsys):
    tiny.stop_after(monkeypatch, 5)
    folder = train(name, "--epochs", "9", "--sample-every", "4", status=130)
    tiny.stop_after(monkeypatch, None)
    assert epochs(folder) == []
    assert run("evaluate", "run", "--quiet", "--importance", "2") == 0
    assert state(folder) == "1 of 9 epochs, 5 steps, … s"
    assert "<h2>Measures after step 5 (epoch 2)</h2>" in page(folder)


def test_how_far_a_run_is_comes_from_its_weights_or_else_from_what_is_left(monkeypatch):
    tiny.stop_after(monkeypatch, 13)
    folder = train("ae", "--epochs", "9", "--sample-every", "9", status=130)
    found = folder.position()
    assert (found.steps, found.epochs, found.epoch) == (13, 3, 4)
    save_weights(load_run("run").model, folder.weights, about={"run": folder.id, "step": 11})  # before a power cut
    assert folder.position()[:2] == (11, 4)
    save_weights(load_run("run").model, folder.weights, about={"run": "another", "step": 2})
    assert folder.position() == found
    folder.weights.unlink()
    assert folder.position() == found
    folder.checkpoint.write_bytes(b"")
    found = folder.position()
    assert (found.steps, found.steps_per_epoch) == (12, 4)
    folder.metrics.unlink()
    assert folder.position() == (0, 1, 0)


def test_a_page_says_the_seconds_of_its_own_moment(monkeypatch):
    states = []

    def write(folder, recipe, *, state, under_way):
        states.append(state)

    monkeypatch.setattr("scratchgen.commands.training_run.write", write)
    monkeypatch.setattr("scratchgen.commands.training_run.CREDIT", 99)
    clock = iter(range(1000))
    monkeypatch.setattr(Training, "tick", lambda self: float(next(clock)))
    train("ae", "--epochs", "1")
    seconds = [int(re.search(r"([0-9]+) s\b", state)[1]) for state in states]
    assert len(seconds) >= 4
    assert len(set(seconds)) == len(seconds), "each is read from the clock"


# --- what cannot be written ---


def full(monkeypatch, name: str, number: int, *, after: int = 0):
    """Files of this name cannot be written any more, from the (after + 1)-th time on."""
    replace, opened, tries = os.replace, open, []

    def refuse():
        tries.append(1)
        if len(tries) > after:
            raise OSError(number, os.strerror(number))  # as write() says it, which knows no names

    def replaced(source, target):
        if Path(target).name == name:
            refuse()
        replace(source, target)

    def appended(file, mode="r", **options):
        if "a" in mode and Path(file).name == name:
            refuse()
        return opened(file, mode, **options)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr("scratchgen.training.run_folder.open", appended, raising=False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EDQUOT, errno.EACCES])
@pytest.mark.parametrize(
    ("name", "after", "safe"),
    [
        ("checkpoint.safetensors", 2, "the checkpoint of epoch 1 is safe"),
        ("checkpoint.safetensors", 1, "the checkpoint of the start is safe"),
        ("checkpoint.safetensors", 0, "nothing had been saved yet"),
        ("weights.safetensors", 2, "the checkpoint of epoch 2 is safe"),
        ("metrics.jsonl", 2, "the checkpoint of epoch 1 is safe"),
    ],
)
def test_what_cannot_be_written_is_named_with_what_is_safe(name, after, safe, number, monkeypatch, capsys):
    whole = outcome(train("vae", "--epochs", "3", out="whole").path)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        full(patch, name, number, after=after)
        train("vae", "--epochs", "3", status=2)
    (said,) = notes(capsys)
    assert said.startswith(f"scratchgen: {Path('run', name)}: {os.strerror(number)}; {safe}")
    assert ("scratchgen train vae --resume run goes on" in said) is ("nothing" not in safe)
    if name != "metrics.jsonl":
        assert RunFolder("run").records()[-1] == {"kind": "end", "state": "stopped"}
    assert "reloads itself" not in Path("run/report.html").read_text(encoding="utf-8")
    resume("vae")
    assert_same(outcome(Path("run")), whole)


def test_a_limit_on_the_size_of_files(tmp_path):
    """The system's own: a report that is too large costs the report, and no more."""
    first = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))"
    argv = ["-m", "scratchgen", "train", *MODELS["vae"], "--epochs", "2", "--quiet", "--out", "run"]
    command = python(*argv, first=first)
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert all(line.startswith("note: ") and line.endswith(": File too large") for line in said), said
    assert any("run/report.html" in line for line in said)
    assert len(epochs(RunFolder(tmp_path / "run"))) == 2


@pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate"])
def test_a_result_that_cannot_be_written_is_named(command, monkeypatch, capsys):
    train("vae", "--epochs", "1")
    full(monkeypatch, "x.npy", errno.ENOSPC)
    assert run(command, "run", "--output", "x.npy") == 2
    assert capsys.readouterr().err == "scratchgen: x.npy: No space left on device\n"
    assert not list(Path().glob("*x.npy*"))


def test_standard_output_that_cannot_be_written(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as stream:
        argv = [sys.executable, "-m", "scratchgen", "info"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(argv, cwd=tmp_path, env=env, stdout=stream, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "scratchgen: standard output: No space left on device\n")


# --- weights that could not be written are in the checkpoint ---


@pytest.mark.parametrize("name", ["vae", "ae", "gan", "points"])
def test_a_run_without_weights_has_those_of_its_checkpoint(name, capsys):
    folder = train(name, "--epochs", "2")
    commands = [["sample", "--seed", "1", "--output", "s.npy"]] if name != "ae" else []
    if name in ("ae", "vae"):
        commands += [["reconstruct", "--output", "r.npy"], ["interpolate", "--seed", "1", "--output", "i.npy"]]
    results = []
    for _ in range(2):
        for command, *options in commands:
            assert run(command, "run", *options, "--force") == 0
        assert run("export", "run", "--output", "e.safetensors", "--force") == 0
        results.append({p.name: p.read_bytes() for p in [*Path().glob("*.npy"), Path("e.safetensors")]})
        folder.weights.unlink(missing_ok=True)
    assert results[0] == results[1]
    assert run("evaluate", "run", "--quiet", "--importance", "2") == 0
    folder.checkpoint.unlink()
    capsys.readouterr()
    assert run(commands[0][0], "run") == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- memory ---


class NumPysOwn(MemoryError):
    """With the shape of the array, as NumPy's has it."""

    def __init__(self, shape):
        super().__init__("Unable to allocate 1.00 TiB for an array")
        self.shape = shape


SHORT = "scratchgen: Unable to allocate 1.00 TiB for an array: "


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        (
            "scratchgen.commands.train.load",
            "there is not enough memory for the data: a smaller --image-size needs less",
        ),
        ("scratchgen.commands.train.build", "there is not enough memory for the network: a smaller one needs less"),
        ("scratchgen.training.Training._one_step", "a smaller --batch-size needs less memory"),
        ("scratchgen.training.RunFolder.save", None),
    ],
)
def test_what_needs_less_memory(place, advice, monkeypatch, capsys):
    monkeypatch.setattr(place, failing(NumPysOwn((16, 9))))
    train("vae", "--epochs", "1", status=2)
    (said,) = notes(capsys)
    assert said.startswith(SHORT + advice if advice else SHORT[:-2])
    assert ("--batch-size" in said) is ("_one_step" in place)


@pytest.mark.parametrize(("batch", "shape", "advice"), [("16", (6, 64), "network"), ("2", (2, 9), "network")])
def test_a_smaller_batch_is_not_advised_where_it_does_not_help(batch, shape, advice, monkeypatch, capsys):
    """Of an array as large as a weight, and of the smallest batch."""
    monkeypatch.setattr(Training, "_one_step", failing(NumPysOwn(shape)))
    train("gan" if batch == "2" else "vae", "--epochs", "1", "--batch-size", batch, status=2)
    assert notes(capsys) == [f"{SHORT}a smaller {advice} needs less memory"]


@pytest.mark.parametrize("command", ["sample", "interpolate"])
def test_more_than_this_machine_has(command, monkeypatch, capsys):
    train("vae", "--epochs", "1")
    count = ["--count"] if command == "sample" else ["--rows", "1000000", "--steps"]
    assert run(command, "run", *count, "2000000000") == 2
    (said,) = notes(capsys)
    assert "and this machine has " in said
    assert "GiB of memory" in said


# --- words that fit the cause ---


@pytest.mark.parametrize("k", [3, 5, 9, 50])
def test_an_epoch_without_an_update_of_g_has_no_loss_of_it(k, capsys):
    """With 3 steps an epoch; a dash is no number gone bad, and why it stands there is said once."""
    train("gan", "--epochs", "3", "--k", str(k))
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("epoch ")]
    assert "nan" not in printed
    for epoch, line in enumerate(lines, start=1):
        updates = 3 * epoch // k - 3 * (epoch - 1) // k
        assert ("G loss     –  " in line) is (updates == 0)
    why = f"note     G was not updated: with --k {k} it is at every {k}th step of 3 an epoch"
    assert printed.count(why) == (k > 3)


@pytest.mark.parametrize("name", MODELS)
def test_the_line_of_an_epoch_without_measures(name):
    folder = train(name, "--epochs", "1")
    recipe = build(folder.config())
    (record,) = epochs(folder)
    assert "–" not in recipe.line(record).replace("−", "")
    measured = recipe.line({k: v for k, v in record.items() if not k.startswith(("test", "modes", "high"))})
    assert "nan" not in measured
    assert len(measured) > 10


LR = "try a lower learning rate"


@pytest.mark.parametrize(
    ("name", "options", "says", "not_said"),
    [
        ("vae", ["--beta", "1e30"], "try a smaller --beta than 1e+30", LR),
        ("vae", ["--beta", "1e300"], "try a smaller --beta than 1e+300", LR),
        ("vae-gaussian", ["--beta", "1e25"], "try a smaller --beta than 1e+25", LR),
        ("vae", ["--lr", "1e30"], LR, "--beta"),
        ("vae", ["--lr", "1e30", "--beta", "1e4"], "try a smaller --beta than 10000, or a lower learning rate", None),
        ("ae", ["--lr", "1e39"], LR, "--beta"),
        ("gan", ["--lr", "1e30"], LR, "--beta"),
    ],
)
def test_the_advice_fits_what_diverged(name, options, says, not_said, capsys):
    train(name, "--epochs", "2", *options, status=1)
    (said,) = notes(capsys)
    assert "is no longer finite" in said
    assert says in said
    assert not_said is None or not_said not in said


@pytest.mark.parametrize("name", ["ae", "vae", "gan"])
def test_before_the_first_update_the_learning_rate_is_not_to_blame(name, monkeypatch, capsys):
    one_step = Training._one_step

    def spoilt(self, batch):
        p = self.recipe.model.parameters()[-1]
        p.value = np.full_like(p.value, np.nan)
        one_step(self, batch)

    monkeypatch.setattr(Training, "_one_step", spoilt)
    train(name, "--epochs", "1", status=1)
    (said,) = notes(capsys)
    assert "in epoch 1, step 1: no weight was updated before, so it is not the learning rate" in said
    assert LR not in said


def recipe_of(name, **settings):
    config = {"model": name, "seed": 0, "lr": 1e-3, "image_shape": [8, 8, 1], "epochs": 20, "latent": 2, **settings}
    vae = {"arch": "dense", "hidden": [4], "likelihood": "bernoulli", "beta": 1.0}
    gan = {"loss": "minimax", "k": 2, "smoothing": 0.0, "prior": "normal", "beta1": 0.5}
    return build({**(vae if name == "vae" else gan), **config})


def game(real, fake):
    return {"epoch": 1, "step": 4, "D(x)": real, "D(G(z))": fake, "g_loss": 1.0}


def test_a_discriminator_that_has_won_for_long():
    recipe = recipe_of("gan")
    won, open_ = game(0.999, 0.001), game(0.7, 0.2)
    said = recipe.symptoms([open_, won, won, won])
    assert said["won"] == (
        "D is sure of every sample (D(x) 1.00, D(G(z)) 0.00), which leaves G little to learn from; "
        "try --k 1 or --loss non-saturating or --smoothing 0.1 or --d-lr 0.00025"
    )
    for early in ([won], [won, won], [won, won, open_], [won, open_, won, won], [won, won, game(0.999, 0.2)]):
        assert recipe.symptoms(early) == {}, early
    assert recipe.symptoms([{**won, "D(x)": None}] * 3) == {}  # of a file that somebody has written in
    smooth = recipe_of("gan", smoothing=0.2, loss="non-saturating", k=1, d_lr=1e-4)
    assert smooth.symptoms([game(0.8, 0.0)] * 3)["won"].endswith("try --d-lr 2.5e-05")
    assert "won" in recipe_of("gan", epochs=2).symptoms([won, won])  # all of a short run


def test_a_code_that_says_nothing_for_long():
    silent, fine = {"kl": 1e-4}, {"kl": 5.0}
    for beta, tries in ((4.0, "--beta 1"), (1.0, "--beta 0.1"), (0.5, "--beta 0.05")):
        said = recipe_of("vae", beta=beta).symptoms([silent] * 3)["collapse"]
        assert said.startswith("the KL is 0.000 nats: z tells the decoder nothing of the image (posterior collapse)")
        assert said.endswith(f"try {tries}")
    for early in ([silent], [silent] * 2, [silent, silent, fine], [{}] * 3, [{"kl": None}] * 3, [{"kl": [0]}] * 3):
        assert recipe_of("vae").symptoms(early) == {}, early


def test_a_symptom_is_said_once_also_over_a_resume(monkeypatch, capsys):
    monkeypatch.setattr("scratchgen.recipes.judgements.NO_KL", 1e9)
    train("vae", "--epochs", "5")
    assert capsys.readouterr().out.count("posterior collapse") == 1
    resume("vae", "--epochs", "7")
    assert "posterior collapse" not in capsys.readouterr().out


# --- threads ---


@pytest.mark.parametrize(
    ("variable", "option", "wanted"),
    [
        ("1", None, 1),
        ("3", None, 3),
        ("99", None, 8),
        (None, None, 8),
        ("all", None, 8),
        ("3", "2", 2),
        ("0", None, 8),
    ],
)
def test_the_variable_reaches_training(variable, option, wanted, monkeypatch):
    for module in ("scratchgen.backend.threads", "scratchgen.commands.train"):
        monkeypatch.setattr(f"{module}.cores", lambda: 8)
    if variable is not None:
        monkeypatch.setenv("SCRATCHGEN_THREADS", variable)
    used = []
    monkeypatch.setattr("scratchgen.commands.train.limited", lambda n: used.append(n) or nullcontext())
    folder = train("ae", "--epochs", "1", *(["--threads", option] if option else []))
    assert folder.config()["threads"] == wanted
    assert used == [wanted]


@pytest.mark.parametrize("model", ["ae", "vae", "gan", "dcgan"])
def test_a_run_is_the_same_with_any_number_of_threads(model, monkeypatch, capsys):
    """Also one that goes on with another number; what is tiny is shared out too."""
    monkeypatch.setattr("scratchgen.backend.threads.WORTH_WAKING", 2e4)
    weights = {}
    for n in (1, 2, 3, 8):
        folder = train(model, "--epochs", "2", "--threads", str(n), out=f"run{n}")
        weights[n] = (folder.path / "weights.safetensors").read_bytes()
    tiny.stop_after(monkeypatch, 3)
    train(model, "--epochs", "2", "--threads", "2", status=130)
    tiny.stop_after(monkeypatch, None)
    folder = resume(model, "--threads", "3")
    assert folder.config()["threads"] == 3
    weights["resumed"] = (folder.path / "weights.safetensors").read_bytes()
    assert [n for n, found in weights.items() if found != weights[1]] == []
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note ")]
    assert all("training images are few" in note for note in notes)


# --- nobody reads any more ---


class Pipe(io.StringIO):
    """A pipe whose reader leaves after so many lines, as `head -n` does."""

    def __init__(self, lines):
        super().__init__()
        self.lines = lines

    def write(self, text):
        if self.getvalue().count("\n") >= self.lines:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


@pytest.mark.parametrize(("lines", "logged"), [(0, 0), (6, 1), (7, 2), (8, 3)])
def test_a_run_whose_reader_leaves_ends_as_one_that_is_stopped(lines, logged, monkeypatch, capsys):
    whole = outcome(train("vae", "--epochs", "4", out="whole").path)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Pipe(lines))
        folder = train("vae", "--epochs", "4", status=141)
    (said,) = notes(capsys)
    assert "the output was closed" in said
    assert ("--resume run goes on" in said) is (logged > 0)
    assert folder.records()[-1] == {"kind": "end", "state": "stopped"}
    assert len(epochs(folder)) == logged
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "refresh=" not in page
    assert "reloads itself" not in page
    resume("vae")
    assert_same(outcome(Path("run")), whole)


def test_the_last_words_of_a_run_may_find_no_reader(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Pipe(6 + 2))
    folder = train("vae", "--epochs", "2", status=141)
    assert folder.ended
    assert "stopped" not in Path("run/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("argv", [["info"], ["gradcheck", "Tanh"], ["evaluate", "run"], ["sample", "run"]])
def test_commands_whose_reader_has_left(argv, monkeypatch):
    train("vae", "--epochs", "1")
    monkeypatch.setattr(sys, "stdout", Pipe(0))
    assert run(*argv) == 141


@pytest.mark.parametrize("argv", [["train", "--help"], ["info"]])
def test_a_pipe_that_is_closed(argv, tmp_path):
    """What was printed is on its way until the process ends, and fails only then."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "scratchgen", *argv]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, tiny.said(done.stderr)) == (141, "")


def test_standard_output_that_is_closed(tmp_path):
    argv = [sys.executable, "-m", "scratchgen", "train", *MODELS["ae"], "--epochs", "1", "--quiet", "--out", "run"]
    command = subprocess.list2cmdline(argv) + " >&-"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, tiny.said(done.stderr)) == (0, "")
    assert RunFolder(tmp_path / "run").ended


# --- signals ---


@pytest.fixture
def interruptible():
    """SIGINT as it is in a program of its own, also where a shell has started the tests in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_signal_that_stops_a_run_is_its_exit_status(number, interruptible, monkeypatch, capsys):
    one_step = Training._one_step

    def signalled(self, batch):
        one_step(self, batch)
        if self.steps == 6:
            signal.raise_signal(number)

    monkeypatch.setattr(Training, "_one_step", signalled)
    folder = train("vae", "--epochs", "3", status=128 + number)
    assert "everything is saved. To go on:" in capsys.readouterr().out
    assert folder.records()[-1] == {"kind": "end", "state": "stopped"}
    assert "refresh=" not in Path("run/report.html").read_text(encoding="utf-8")
    assert outcome(folder.path)["position"]["step"] == 2


def test_a_terminal_that_is_closed(tmp_path):
    """The system's own SIGHUP, and a standard output and error that can be written no more."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    first = f"import fcntl, os; os.setsid(); fcntl.ioctl(0, {termios.TIOCSCTTY}, 0)"
    argv = ["-m", "scratchgen", "train", *MODELS["vae"], "--batch-size", "1", "--epochs", "900", "--out", "run"]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen(python(*argv, first=first), cwd=tmp_path, env=ENVIRONMENT, **streams)
    os.close(theirs)
    said = b""
    while b"epoch   1/900" not in said:
        said += os.read(ours, 1 << 12)
    os.close(ours)
    assert process.wait(60) == 128 + signal.SIGHUP
    folder = RunFolder("run")
    assert folder.records()[-1] == {"kind": "end", "state": "stopped"}
    assert "refresh=" not in Path("run/report.html").read_text(encoding="utf-8")
    resume("vae", "--epochs", str(epochs(folder)[-1]["epoch"] + 1))


def test_the_end_of_the_terminal_comes_after_another_signal(interruptible):
    with stop_request() as stop:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
            signal.raise_signal(number)  # and does not interrupt what the first one asked for
        assert stop.is_set()
        assert stop.number == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_so(number):
    """As `nohup` has SIGHUP, and a shell SIGINT for what runs in its background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_request() as stop:
            signal.raise_signal(number)
            assert not stop.is_set()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a bug"), MemoryError()], ids=repr)
def test_however_it_ends_the_page_no_longer_renews_itself(error, monkeypatch, capsys):
    one_step = Training._one_step

    def fails(self, batch):
        if self.steps == 6:
            raise error
        one_step(self, batch)

    monkeypatch.setattr(Training, "_one_step", fails)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a bug"):
            train("vae", "--epochs", "3")
    else:
        train("vae", "--epochs", "3", status=130 if error is KeyboardInterrupt else 2)
    assert "refresh=" not in Path("run/report.html").read_text(encoding="utf-8")
    assert RunFolder("run").records()[-1] == {"kind": "end", "state": "stopped"}


LAST_LINE = "scratchgen: stopped; what was saved stays"


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """The two ways to start the command line; the first by a script as pip makes it."""
    script = tmp_path_factory.mktemp("bin") / "scratchgen"
    script.write_text(
        "import sys\nfrom scratchgen.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    return {"script": [str(script)], "module": ["-m", "scratchgen"]}


@pytest.fixture(scope="module")
def modules(ways):
    """How many modules `scratchgen info` loads from its first own one on; fewer where CuPy is not installed."""
    command = python("-X", "importtime", *ways["module"], "info")
    said = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True).stderr.splitlines()
    names = [line.rpartition("|")[2].strip() for line in said if line.startswith("import time:")]
    return len(names) - names.index("scratchgen.starting")


@pytest.mark.parametrize("way", ["script", "module"])
@pytest.mark.parametrize("moment", [0.0, 0.1, 0.35, 0.6, 0.85, 0.99])
def test_ctrl_c_while_modules_load(way, moment, ways, modules, tmp_path):
    """At moments of its start, told by the modules that have been loaded: one line, whatever was under way."""
    command = python("-X", "importtime", *ways[way], "info")
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, text=True, **streams)
    loaded, begun = 0, False
    for line in process.stderr:
        begun = begun or line.rstrip().endswith("scratchgen.starting")
        loaded += begun
        if begun and loaded > moment * 0.85 * modules:  # after the last of them the command is soon over
            break
    process.send_signal(signal.SIGINT)
    said = [line for line in process.communicate(timeout=60)[1].splitlines() if "import time:" not in line]
    assert process.returncode == 130
    assert [line for line in said if line] == [LAST_LINE]


def test_a_program_that_uses_the_library_keeps_its_ctrl_c(tmp_path):
    code = "import signal, scratchgen; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    (tmp_path / "mine.py").write_text(code)
    for argv in (["mine.py"], ["-c", code], ["-m", "mine"]):
        done = subprocess.run(python(*argv), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.stdout == "True\n", (argv, done.stderr)


def test_config_is_as_json_has_it():
    """What a run was started with and what its folder says are equal, lists and all."""
    folder = train("vae", "--epochs", "1", "--image-size", "6x9")
    assert json.loads((folder.path / "config.json").read_text())["image_size"] == [6, 9]
