"""The command line: what each command prints and writes, and how it fails."""

import importlib.util
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from safetensors.numpy import load_file
from tiny import MODELS, assert_same, outcome, run

import scratchgen as sg
from scratchgen.cli import main, parser
from scratchgen.commands.arguments import path
from scratchgen.data import load, to_float
from scratchgen.gradcheck import Report
from scratchgen.recipes import build
from scratchgen.schema import text
from scratchgen.training import RunFolder
from scratchgen.weights import load_weights, save_weights

AE = ("train", *MODELS["ae"], "--epochs", "1", "--quiet")
COMMANDS = (
    *("train", "sample", "reconstruct", "interpolate", "evaluate", "compare", "metrics", "export"),
    *("gradcheck", "exercise", "bench", "info"),
)
IMAGES = [name for name in MODELS if name != "points"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)
    tiny.own_cache(tmp_path, monkeypatch)


def fails(capsys, *argv, status=2):
    """The one sentence that a failing command line says, on stderr, and nothing else."""
    capsys.readouterr()
    assert run(*argv) == status
    said = capsys.readouterr()
    assert said.err.count("\n") == 1, said.err
    assert said.out == ""
    return said.err


def succeeds(capsys, *argv) -> str:
    """What a command line prints."""
    capsys.readouterr()
    assert run(*argv) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained run of each model, its data, and what was printed: by the model's name."""
    base = tmp_path_factory.mktemp("runs")
    tiny.digits(base / "digits")
    tiny.photos(base / "photos")
    printed = {}
    for name, options in MODELS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(base)
            patch.delenv("SCRATCHGEN_DATA", raising=False)
            tiny.few_points(patch)
            with open(base / f"{name}.txt", "w+", encoding="utf-8") as said:
                patch.setattr(sys, "stdout", said)
                assert run("train", *options, "--epochs", "2", "--quiet", "--out", name) == 0, name
                said.seek(0)
                printed[name] = said.read()
    return base, printed


@pytest.fixture
def here(trained, monkeypatch):
    """In the folder with the runs."""
    monkeypatch.chdir(trained[0])
    tiny.few_points(monkeypatch)
    return trained[0]


def opened(folder):
    """The recipe of a run with its trained weights, and its config."""
    config = json.loads((folder / "config.json").read_text())
    recipe = build(config)
    load_weights(recipe.model, folder / "weights.safetensors")
    return recipe, config


# --- train ---


@pytest.mark.parametrize("name", MODELS)
def test_train_prints_where_things_are_and_makes_them(name, trained):
    base, printed = trained
    said = printed[name].splitlines()
    assert said[0].startswith("data     ")
    assert any(line.startswith("model    ") and "parameters" in line for line in said)
    assert f"run      {name}" in said
    assert f"report   {Path(name) / 'report.html'}" in said
    assert sum(line.startswith("epoch   ") and line.endswith(" samples/s") for line in said) == 2
    assert f"samples  {Path(name) / 'samples' / 'epoch-002.png'}" in said
    assert said[-1] == f"report   {Path(name) / 'report.html'}"
    found = {str(p.relative_to(base / name)) for p in (base / name).rglob("*") if p.is_file()}
    files = {"config.json", "metrics.jsonl", "checkpoint.safetensors", "weights.safetensors", "report.html"}
    files |= {"losses.png", "health.png", "samples.gif", *(f"samples/epoch-00{i}.png" for i in range(3))}
    assert {f for f in found if not f.startswith("evaluation")} == files
    for file in files:
        if file.endswith(".png"):
            with Image.open(base / name / file) as image:
                assert min(image.size) > 20
                assert len(set(image.convert("L").resize((32, 32)).tobytes())) > 3
    records = tiny.records(base / name)
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert [r["epoch"] for r in epochs] == [1, 2]
    for record in epochs:
        assert all(np.isfinite(v) for v in record.values() if not isinstance(v, str))
    assert records[-1] == {"kind": "end", "state": "finished"}


def test_config_holds_every_switch(trained):
    base, _ = trained
    config = json.loads((base / "vae-gaussian" / "config.json").read_text())
    wanted = {"model": "vae", "arch": "dense", "latent": 2, "hidden": [6], "likelihood": "gaussian", "beta": 2.0}
    wanted |= {"binarise": "none", "epochs": 2, "batch_size": 8, "lr": 0.001, "seed": 0, "backend": "numpy"}
    wanted |= {"image_size": 8, "image_shape": [8, 8, 3], "data": str(base / "photos"), "decay": "none"}
    assert {k: config.get(k) for k in wanted} == wanted
    assert config["scratchgen"] == sg.__version__
    config = json.loads((base / "points" / "config.json").read_text())
    wanted = {"model": "gan", "latent": 2, "k": 3, "prior": "uniform", "batch_size": 64, "lr": 0.001, "beta1": 0.5}
    assert {k: config.get(k) for k in wanted} == wanted


SWITCHES = [
    ("ae", "--arch conv --width 3 --loss squared-error --decay linear --seed 4 --threads 1 --channels 3"),
    ("ae", "--batch-size 1000 --lr 0.01 --hidden 7,5 --keep-weights --save-every 1 --sample-every 1"),
    ("vae", "--arch conv --width 2 --likelihood gaussian --beta 0 --binarise threshold"),
    ("vae", "--likelihood bernoulli --binarise none --latent 2 --hidden 5"),
    ("gan", "--latent 2 --loss minimax --k 3 --smoothing 0.1 --prior uniform --beta1 0 --d-lr 0.0004"),
    ("ae", "--hidden 5 --latent 2 --optimizer sgd --momentum 0.9 --decay cosine --warmup 1"),
    ("gan", "--latent 2 --optimizer adamw --weight-decay 0.1 --beta1 0.9"),
    ("vae", "--hidden 5 --latent 2 --optimizer rmsprop"),
    ("dcgan", "--width 1 --latent 2 --loss minimax --smoothing 0.2 --k 2 --channels 3 --image-size 20"),
]


@pytest.mark.parametrize(("model", "switches"), SWITCHES)
def test_every_switch_of_every_model(model, switches, here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    switches = switches.split()
    sizes = [] if "--image-size" in switches else ["--image-size", "8"]
    out = tmp_path / "run"
    argv = ("train", model, "--data", "digits", *sizes, "--epochs", "2", "--quiet", "--out", out, *switches)
    succeeds(capsys, *argv)
    config = json.loads((out / "config.json").read_text())
    for switch, value in pairwise(switches):
        if switch.startswith("--") and not value.startswith("--"):
            kept = config.get(switch[2:].replace("-", "_"))
            if switch == "--batch-size":
                assert kept == 60  # all there are
            elif switch != "--save-every":
                assert (
                    ",".join(map(str, kept)) == value
                    if isinstance(kept, list)
                    else str(kept) in (value, value + ".0")
                )
    assert (out / "weights").exists() is ("--keep-weights" in switches)
    if "--keep-weights" in switches:
        kept = load_file(out / "weights" / "epoch-002.safetensors")
        last = load_file(out / "weights.safetensors")
        assert all(np.array_equal(kept[name], last[name]) for name in last)
        assert not np.array_equal(
            load_file(out / "weights" / "epoch-001.safetensors")["decoder.0.W"], last["decoder.0.W"]
        )


def test_what_evaluate_adds_to_each_epoch_of_a_gan(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    monkeypatch.setattr("scratchgen.measures.classifier.SHOWN", 120)
    argv = (
        "train",
        "gan",
        "--data",
        "digits",
        "--image-size",
        "8",
        "--latent",
        "2",
        "--epochs",
        "2",
        "--sample-every",
        "1",
    )
    printed = succeeds(capsys, *argv, "--quiet", "--evaluate", "--out", tmp_path / "run")
    assert printed.count("Fréchet ") >= 3
    epochs = [r for r in tiny.records(tmp_path / "run") if r["kind"] == "epoch"]
    assert all({"frechet", "smallest_share", "confident", "histogram"} <= r.keys() for r in epochs)
    assert json.loads((tmp_path / "run" / "evaluation" / "measures.json").read_text())["frechet"] >= 0


def test_same_seed_same_weights_other_seed_others(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    for out, seed in (("first", "3"), ("again", "3"), ("other", "4")):
        succeeds(capsys, *AE, "--out", tmp_path / out, "--seed", seed)
    first, again, other = (load_file(tmp_path / out / "weights.safetensors") for out in ("first", "again", "other"))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first if name.endswith("W"))
    assert_same(outcome(tmp_path / "again"), outcome(tmp_path / "first"))


def test_the_environment_names_the_data_of_a_run_without_data(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    monkeypatch.setenv("SCRATCHGEN_DATA", "digits")
    argv = ("train", "ae", "--image-size", "8", "--hidden", "4", "--latent", "2", "--epochs", "1", "--quiet")
    succeeds(capsys, *argv, "--out", tmp_path / "run")
    monkeypatch.delenv("SCRATCHGEN_DATA")
    monkeypatch.chdir(tmp_path)
    succeeds(capsys, "train", "ae", "--resume", "run", "--epochs", "2", "--quiet")


# --- resume ---


def test_a_run_goes_on_from_another_folder_by_a_relative_path(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    shutil.copytree("vae", tmp_path / "deep" / "run")
    monkeypatch.chdir(tmp_path / "deep")
    succeeds(capsys, "train", "vae", "--resume", "run", "--epochs", "3", "--quiet")
    assert [r["epoch"] for r in tiny.records(Path("run")) if r["kind"] == "epoch"] == [1, 2, 3]
    for command in (
        ["sample", "run"],
        ["evaluate", "run", "--importance", "2"],
        ["reconstruct", "run"],
        ["interpolate", "run"],
    ):
        succeeds(capsys, *command)
    succeeds(capsys, "export", "run")
    assert Path("run_pytorch.safetensors").is_file()


def test_raised_epochs_are_kept_so_that_the_printed_command_goes_on(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    name, *options = MODELS["vae"]
    tiny.stop_after(monkeypatch, None)
    succeeds(capsys, "train", name, *options, "--epochs", "4", "--quiet", "--out", tmp_path / "whole")
    succeeds(capsys, "train", name, *options, "--epochs", "2", "--quiet", "--out", tmp_path / "run")
    tiny.stop_after(monkeypatch, 2)
    assert run("train", name, "--resume", tmp_path / "run", "--epochs", "4", "--quiet") == 130
    tiny.stop_after(monkeypatch, None)
    succeeds(capsys, "train", name, "--resume", tmp_path / "run", "--quiet")
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))


def test_a_finished_run_says_so_and_stays_as_it_is(here, capsys):
    before = {p: p.read_bytes() for p in Path("vae").rglob("*") if p.is_file()}
    printed = succeeds(capsys, "train", "vae", "--resume", "vae")
    assert "the run has had 2 epochs: raise --epochs above that to go on" in printed
    after = {p: p.read_bytes() for p in Path("vae").rglob("*") if p.is_file()}
    assert [p for p in after if after[p] != before.get(p)] == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["vae", "--resume", "vae", "--latent", "4"], "vae was started with --latent 3"),
        (["vae", "--resume", "vae", "--batch-size", "4"], "--batch-size 16"),
        (["vae", "--resume", "vae", "--lr", "0.1"], "--lr 0.001"),
        (["vae", "--resume", "vae", "--seed", "1"], "--seed 0"),
        (["vae", "--resume", "vae", "--beta", "2"], "--beta 1.0"),
        (["vae", "--resume", "vae", "--hidden", "7"], "--hidden"),
        (["vae", "--resume", "vae", "--decay", "linear"], "--decay none"),
        (["vae", "--resume", "vae", "--optimizer", "sgd"], "--optimizer adam"),
        (["vae", "--resume", "vae", "--momentum", "0.5"], "without --momentum"),
        (["vae", "--resume", "vae", "--warmup", "3"], "--warmup 0"),
        (["vae", "--resume", "vae", "--binarise", "none"], "--binarise dynamic"),
        (["gan", "--resume", "points", "--k", "1"], "--k 3"),
        (["gan", "--resume", "points", "--d-lr", "0.1"], "--d-lr"),
        (["vae", "--resume", "vae", "--image-size", "4"], "--image-size 8"),
        (["vae", "--resume", "vae", "--channels", "3"], "--channels"),
        (["vae", "--resume", "vae", "--data", "photos"], "the data is not what vae was trained on"),
        (["vae", "--resume", "vae", "--data", "nowhere"], "nowhere"),
        (["ae", "--resume", "vae"], "vae is a run of vae: scratchgen train vae --resume"),
        (["dcgan", "--resume", "gan"], "gan is a run of gan"),
        (["vae", "--resume", "vae", "--out", "other"], "--out and --resume cannot be given together"),
        (["vae", "--resume", "nowhere"], "nowhere is not a run folder: there is no such folder"),
        (["vae", "--resume", "digits"], "digits is not a run folder: there is no config.json in it"),
    ],
)
def test_a_run_goes_on_as_it_was_or_says_why_not(argv, says, here, capsys):
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    assert says in fails(capsys, "train", *argv, "--quiet")
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


def test_switches_that_say_the_same_may_be_given_again(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    shutil.copytree("vae", tmp_path / "run")
    argv = (*MODELS["vae"], "--resume", tmp_path / "run", "--epochs", "3", "--threads", "1", "--quiet")
    succeeds(capsys, "train", *argv)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    succeeds(capsys, *AE, "--out", tmp_path / "whole")
    RunFolder.create(tmp_path / "run", json.loads((tmp_path / "whole" / "config.json").read_text()))
    shutil.rmtree(tmp_path / "run" / "samples")
    assert "has no weights yet" in fails(capsys, "reconstruct", tmp_path / "run")
    succeeds(capsys, "train", "ae", "--resume", tmp_path / "run", "--quiet")
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))


BROKEN = [
    ("data", None), ("epochs", None), ("data_sha256", None), ("seed", None), ("latent", None), ("image_shape", None),
    ("latent", "x"), ("latent", -1), ("hidden", 7), ("model", "x"), ("epochs", "x"), ("image_shape", [1]),
    ("lr", "x"), ("batch_size", 0), ("data", 7),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BROKEN)
def test_a_damaged_config_is_one_sentence(key, value, here, tmp_path, capsys):
    shutil.copytree("vae", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config = {**config, key: value} if value is not None else {k: v for k, v in config.items() if k != key}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    more = [] if key == "epochs" else ["--epochs", "3"]
    fails(capsys, "train", "vae", "--resume", tmp_path / "run", *more, "--quiet")


@pytest.mark.parametrize("file", ["checkpoint", "weights"])
def test_a_damaged_file_of_a_run_is_one_sentence(file, here, tmp_path, capsys):
    shutil.copytree("vae", tmp_path / "run")
    path = tmp_path / "run" / f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    argv = (
        ("train", "vae", "--resume", tmp_path / "run", "--epochs", "3")
        if file == "checkpoint"
        else ("sample", tmp_path / "run")
    )
    assert f"{file}.safetensors is not a complete safetensors file" in fails(capsys, *argv)


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_everything_and_the_printed_command_goes_on(number, trained, tmp_path):
    base, _ = trained
    name, *options = MODELS["vae"]
    argv = ["train", name, *options, "--batch-size", "1", "--epochs", "40", "--quiet"]
    folder = tmp_path / "a run"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "scratchgen", *argv, "--out", str(folder)]
    process = subprocess.Popen(command, cwd=base, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith("epoch   1/40"):
            break
    time.sleep(0.05)
    process.send_signal(number)
    rest, said = process.communicate(timeout=60)
    said = tiny.said(said)
    printed += rest
    assert process.returncode == 128 + number, said
    assert said == ""
    assert "everything is saved. To go on:" in printed
    position = outcome(folder)["position"]
    assert 2 <= position["epoch"] < 40
    weights = load_file(folder / "weights.safetensors")
    kept = load_file(folder / "checkpoint.safetensors")
    assert all(np.array_equal(kept[f"model/{k}"], v) for k, v in weights.items())
    assert tiny.records(folder)[-1] == {"kind": "end", "state": "stopped"}
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "refresh=" not in report
    assert "stopped" in report
    again = shlex.split(printed.splitlines()[-1])
    assert again[0] == "scratchgen"
    total = str(position["epoch"])  # to the end of the epoch under way
    done = subprocess.run(
        [sys.executable, "-m", *again, "--epochs", total, "--quiet"],
        cwd=base,
        env=env,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["epoch"] for r in tiny.records(folder) if r["kind"] == "epoch"] == list(range(1, position["epoch"] + 1))


def test_an_impatient_second_ctrl_c_keeps_what_was_saved(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    step, taken = sg.Autoencoder.train_step, []

    def interrupted(self, *args, **options):
        taken.append(1)
        if len(taken) == 6:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(self, *args, **options)

    monkeypatch.setattr(sg.Autoencoder, "train_step", interrupted)
    assert run("train", *MODELS["ae"], "--epochs", "3", "--quiet", "--out", tmp_path / "run") == 130
    assert capsys.readouterr().err == "\nscratchgen: stopped; what was saved stays\n"
    position = outcome(tmp_path / "run")["position"]
    assert (position["epoch"], position["step"]) == (2, 0)


# --- sample ---


def numbers(path, shape):
    x = np.load(path, allow_pickle=False)
    assert (x.dtype, x.shape) == (np.float32, shape)
    assert x.min() >= 0
    assert x.max() <= 1
    return x


SHAPES = {"vae": (8, 8, 1), "vae-gaussian": (8, 8, 3), "gan": (4, 4, 1), "dcgan": (16, 16, 3)}


@pytest.mark.parametrize("name", SHAPES)
def test_sample_draws_as_many_as_asked_for(name, here, tmp_path, capsys):
    argv = ("sample", name, "--seed", "1", "--output")
    assert succeeds(capsys, *argv, tmp_path / "a.npy", "--count", "1003") == f"{tmp_path / 'a.npy'}\n"
    a = numbers(tmp_path / "a.npy", (1003, *SHAPES[name]))
    assert len(np.unique(a.reshape(1003, -1), axis=0)) == 1003  # no block is drawn twice
    succeeds(capsys, *argv, tmp_path / "b.NPY", "--count", "1003")
    assert np.array_equal(a, np.load(tmp_path / "b.NPY"))
    succeeds(capsys, "sample", name, "--seed", "2", "--output", tmp_path / "c.npy", "--count", "3")
    assert not np.array_equal(a[:3], np.load(tmp_path / "c.npy"))
    for file in ("d.npy", "e.npy"):
        succeeds(capsys, "sample", name, "--output", tmp_path / file, "--count", "1")
    assert not np.array_equal(np.load(tmp_path / "d.npy"), np.load(tmp_path / "e.npy"))
    recipe, _ = opened(here / name)
    z = recipe.noise(5, np.random.default_rng(1))
    succeeds(capsys, *argv, tmp_path / "f.npy", "--count", "5")
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), np.clip(recipe.generate(z), 0, 1), atol=1e-6)
    succeeds(capsys, *argv, tmp_path / "s.png", "--count", "6", "--columns", "2")
    H, W, C = SHAPES[name]
    scale = round(56 / W)
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (2 * (W * scale + 2) + 2, 3 * (H * scale + 2) + 2)
        assert sheet.mode == ("RGB" if C == 3 else "L")


def test_the_mean_of_a_normal_pixel_is_clipped_to_its_range(here, tmp_path, capsys):
    shutil.copytree("vae-gaussian", tmp_path / "run")
    recipe, _ = opened(tmp_path / "run")
    bias = recipe.model.decoder.parameters()[-1]
    bias.value = bias.value + np.where(np.arange(bias.value.size) % 2, 3, -3).astype(np.float32)
    save_weights(recipe.model, tmp_path / "run" / "weights.safetensors")
    for command, shape in (("sample", (64, 8, 8, 3)), ("reconstruct", (4, 8, 8, 3)), ("interpolate", (80, 8, 8, 3))):
        options = ["--count", "4"] if command == "reconstruct" else []
        succeeds(capsys, command, tmp_path / "run", *options, "--output", tmp_path / "x.npy", "--force")
        assert {0, 1} <= set(numbers(tmp_path / "x.npy", shape).ravel().tolist())


def test_sample_of_points(here, tmp_path, capsys):
    succeeds(capsys, "sample", "points", "--count", "1234", "--output", tmp_path / "p.npy")
    points = np.load(tmp_path / "p.npy")
    assert (points.shape, points.dtype) == ((1234, 2), np.float32)
    succeeds(capsys, "sample", "points", "--count", "20", "--output", tmp_path / "p.png")


def test_results_go_into_the_working_folder_when_none_is_named(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, file in (
        ("sample", "samples"),
        ("reconstruct", "reconstructions"),
        ("interpolate", "interpolation"),
    ):
        assert succeeds(capsys, command, here / "vae") == f"vae-{file}.png\n"
        with Image.open(f"vae-{file}.png") as image:
            assert min(image.size) > 100
    monkeypatch.chdir(here / "vae")
    assert succeeds(capsys, "export", ".") == "vae_pytorch.safetensors\nvae_pytorch.py\n"
    for name in ("vae_pytorch.safetensors", "vae_pytorch.py"):
        Path(name).unlink()


# --- reconstruct ---


@pytest.mark.parametrize("name", ["ae", "ae-conv", "vae", "vae-gaussian"])
def test_reconstruct(name, here, tmp_path, capsys):
    recipe, config = opened(here / name)
    data = load(config["data"], image_size=config["image_size"], channels=config.get("channels"), progress=False)
    succeeds(capsys, "reconstruct", name, "--count", "3", "--output", tmp_path / "r.npy")
    shape = tuple(config["image_shape"])
    y = numbers(tmp_path / "r.npy", (3, *shape))
    images = to_float(data.test_images)[:3]  # of the digits the first three have the labels 0, 1, 2
    np.testing.assert_allclose(y, np.clip(recipe.reconstruct(images), 0, 1), atol=1e-6)


def test_reconstruct_draws_rows_of_twelve(here, tmp_path, capsys):
    sizes = {}
    for count in (12, 13, 20):
        succeeds(capsys, "reconstruct", "ae", "--count", count, "--output", tmp_path / "r.png", "--force")
        with Image.open(tmp_path / "r.png") as image:
            sizes[count] = image.size
    width, height = sizes[12]
    assert sizes[13] == sizes[20] == (width, 2 * height)


def test_reconstruct_of_more_images_than_there_are_says_so(here, tmp_path, capsys):
    assert "20" in fails(capsys, "reconstruct", "ae", "--count", "21", "--output", tmp_path / "r.npy")


# --- interpolate ---


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ae", []),
        ("vae", []),
        ("vae-gaussian", ["--between", "prior"]),
        ("gan", []),
        ("dcgan", ["--between", "prior"]),
    ],
)
def test_walks_begin_and_end_at_the_decoded_codes(name, options, here, tmp_path, capsys):
    recipe, config = opened(here / name)
    shape = tuple(config["image_shape"])
    argv = ("interpolate", name, *options, "--seed", "3", "--rows", "2", "--steps")
    succeeds(capsys, *argv, "5", "--output", tmp_path / "w.npy")
    walks = numbers(tmp_path / "w.npy", (10, *shape)).reshape(2, 5, *shape)
    rng = np.random.default_rng(3)
    if options or not recipe.has_encoder:
        ends = recipe.noise(4, rng)
    else:
        data = load(config["data"], image_size=config["image_size"], progress=False)
        chosen = rng.choice(len(data.test_images), 4, replace=False)
        assert len(set(chosen)) == 4
        ends = recipe.encode(to_float(data.test_images[chosen]))
    decode = recipe.decode if recipe.has_encoder else recipe.generate
    wanted = np.clip(decode(ends), 0, 1)
    np.testing.assert_allclose(walks[:, 0], wanted[:2], atol=1e-5)
    np.testing.assert_allclose(walks[:, -1], wanted[2:], atol=1e-5)
    succeeds(capsys, *argv, "5", "--output", tmp_path / "again.npy")
    assert np.array_equal(np.load(tmp_path / "again.npy").reshape(walks.shape), walks)
    succeeds(capsys, *argv, "1", "--output", tmp_path / "one.npy")
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), wanted[:2], atol=1e-5)
    succeeds(capsys, *argv, "4", "--output", tmp_path / "w.png")
    scale = round(56 / shape[1])
    with Image.open(tmp_path / "w.png") as sheet:
        assert sheet.size == (4 * (shape[1] * scale + 2) + 2, 2 * (shape[0] * scale + 2) + 2)


def test_more_walks_than_images(here, tmp_path, capsys):
    succeeds(capsys, "interpolate", "ae", "--rows", "15", "--steps", "2", "--output", tmp_path / "w.npy")
    numbers(tmp_path / "w.npy", (30, 8, 8, 1))


def test_a_great_circle_keeps_its_length_or_changes_it_evenly():
    from scratchgen.interpolation import linear, spherical

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 6, 1, 50)).astype(np.float32)
    t = np.linspace(0, 1, 9, dtype=np.float32)[:, None]
    z = spherical(a, b, t)
    assert (z.shape, z.dtype) == ((6, 9, 50), np.float32)
    lengths = np.linalg.norm(z, axis=-1)
    wanted = (1 - t[:, 0]) * np.linalg.norm(a, axis=-1) + t[:, 0] * np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(lengths, wanted, rtol=1e-5)
    np.testing.assert_allclose(z[:, 0], a[:, 0], atol=1e-5)
    np.testing.assert_allclose(z[:, -1], b[:, 0], atol=1e-5)
    directions = z / lengths[..., None]
    angles = np.arccos(np.clip((directions[:, 1:] * directions[:, :-1]).sum(axis=-1), -1, 1))
    np.testing.assert_allclose(angles, angles[:, :1].repeat(8, axis=1), rtol=1e-2)  # even steps
    assert np.linalg.norm(linear(a, b, np.float32(0.5)), axis=-1).max() < lengths[:, 4].min()
    np.testing.assert_allclose(spherical(a, 2 * a, t), (1 + t) * a, rtol=1e-4, atol=1e-6)  # one direction
    assert np.isfinite(spherical(a, -a, t)).all()


# --- evaluate, export ---


@pytest.mark.parametrize("name", MODELS)
def test_evaluate(name, here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scratchgen.measures.classifier.SHOWN", 60)
    folder = tmp_path / "run"
    shutil.copytree(name, folder)
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    printed = succeeds(capsys, "evaluate", folder, "--quiet", "--importance", "3")
    measures = json.loads((folder / "evaluation" / "measures.json").read_text())
    assert all(np.isfinite(v) for v in measures.values() if isinstance(v, float))
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "Measures" in report
    assert "refresh=" not in report
    assert f"report   {folder / 'report.html'}" in printed
    pictures = {p.stem for p in (folder / "evaluation").glob("*.png")}
    last = [r for r in tiny.records(folder) if r["kind"] == "epoch"][-1]
    if name.startswith("ae"):
        assert f"{measures['test_mse']:.5f}" in printed
        assert measures["test_mse"] == pytest.approx(last["test_mse"], rel=1e-6)
        assert measures["ratio"] == pytest.approx(measures["test_mse"] / measures["pca_test_mse"])
        assert pictures == {"reconstructions"}
    elif name.startswith("vae"):
        assert "K = 3" in printed
        assert measures["negative_elbo"] == pytest.approx(last["test_reconstruction"] + last["test_kl"], rel=1e-6)
        assert measures["importance_weighted_nll"] <= measures["negative_elbo"] + 0.2
        assert pictures >= {"reconstructions", "samples"}
        assert ("codes" in pictures) is (name == "vae-gaussian")
    elif name == "points":
        assert measures["of"] == 8
        assert measures["modes"] == last["modes"]
    else:
        assert pictures == {"samples", "neighbours"}
        if name == "gan":  # a classifier needs eight pixels, and there are four: what needs none is measured
            (why,) = [text for what, text in measures["rows"] if what == "the classes"]
            assert why.startswith("could not be measured: ")
            assert "8×8" in why
            assert why in printed
        else:
            assert "no labels" in printed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ae", ["PCA of the training images, 3 components …"]),
        ("vae", ["−ELBO of the test images …", "importance-weighted NLL, K = 2:"]),
        ("dcgan", ["nearest training images …"]),
    ],
)
def test_evaluate_says_on_a_terminal_what_it_is_doing(name, says, here, tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    tiny.no_pictures(monkeypatch)
    shutil.copytree(name, tmp_path / "run")
    for options in ([], ["--quiet"]):
        said = Terminal()
        monkeypatch.setattr(sys, "stderr", said)
        assert run("evaluate", tmp_path / "run", "--importance", "2", *options) == 0
        for words in says:
            assert (words in said.getvalue()) is (not options)
    assert said.getvalue() == ""


def test_evaluate_of_a_gan_on_labelled_images(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    monkeypatch.setattr("scratchgen.measures.classifier.SHOWN", 60)
    argv = ("train", "gan", "--data", "digits", "--image-size", "8", "--epochs", "1", "--quiet")
    succeeds(capsys, *argv, "--out", tmp_path / "run")
    printed = succeeds(capsys, "evaluate", tmp_path / "run", "--quiet")
    assert "Fréchet distance" in printed
    assert "shares of the classes" in printed
    assert (tmp_path / "run" / "evaluation" / "classes.png").is_file()


def test_other_data_of_the_same_form(here, tmp_path, capsys):
    shutil.copytree("ae", tmp_path / "run")
    printed = succeeds(capsys, "evaluate", tmp_path / "run", "--data", "photos", "--quiet")
    assert "photos" in printed
    note = "this data is photos, and the run was trained on MNIST\n"
    assert f"note     {note}" in printed
    measures = json.loads((tmp_path / "run" / "evaluation" / "measures.json").read_text())
    assert measures["data"].endswith(f"; {note[:-1]}")
    assert note not in succeeds(capsys, "evaluate", tmp_path / "run", "--data", "digits", "--quiet")
    sizes = {}
    for command in ("reconstruct", "interpolate"):
        for data in ("photos", "digits"):
            file = tmp_path / f"{command}-{data}.png"
            assert run(command, "ae", "--data", data, "--output", file) == 0
            said = capsys.readouterr()
            assert said.out == f"{file}\n"
            assert said.err == (f"note: {note}" if data == "photos" else "")
            with Image.open(file) as image:
                sizes[command, data] = image.size
                if (command, data) == ("interpolate", "photos"):
                    assert len(set(image.convert("L").crop((0, 0, image.width, 20)).tobytes())) > 2  # words
    assert sizes["interpolate", "photos"][1] == sizes["interpolate", "digits"][1] + 24
    for name in ("ring", "moons"):
        fails(capsys, "evaluate", tmp_path / "run", "--data", name)
    assert "does not fit" in fails(capsys, "evaluate", "points", "--data", "digits")


@pytest.mark.parametrize("name", MODELS)
def test_export_writes_files_that_load(name, here, tmp_path, capsys):
    output = tmp_path / "exported_model.safetensors"
    assert succeeds(capsys, "export", name, "--output", output) == f"{output}\n{output.with_suffix('.py')}\n"
    assert load_file(output)
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location(output.stem, output.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()
    recipe, _ = opened(here / name)
    theirs = sum(p.numel() for p in network.parameters())
    assert theirs == sum(p.value.size for p in recipe.model.parameters())


# --- what is wrong ---


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["train"], "MODEL"),
        (["train", "diffusion"], "invalid choice: 'diffusion'"),
        ([*AE, "--latent", "0"], "--latent"),
        ([*AE, "--latent", "61"], "60 training images"),
        ([*AE, "--epochs", "two"], "whole number"),
        ([*AE, "--lr", "-1"], "positive number"),
        ([*AE, "--lr", "nan"], "positive number"),
        ([*AE, "--lr", "inf"], "positive number"),
        ([*AE, "--seed", "-1"], "at least 0"),
        ([*AE, "--optimizer", "lion"], "adam, adamw, sgd, rmsprop"),
        ([*AE, "--momentum", "0.9"], "--momentum is of --optimizer sgd, and this is adam"),
        ([*AE, "--optimizer", "sgd", "--momentum", "1"], "below 1"),
        (
            [*AE, "--optimizer", "sgd", "--weight-decay", "1"],
            "--weight-decay is of --optimizer adamw, and this is sgd",
        ),
        (
            ["train", "gan", "--data", "digits", "--optimizer", "rmsprop", "--beta1", "0"],
            "--beta1 is of --optimizer adam or adamw, and this is",
        ),
        ([*AE, "--decay", "step"], "none, linear, cosine"),
        ([*AE, "--warmup", "-1"], "at least 0"),
        ([*AE, "--warmup", "4"], "--warmup is 4, needs to be below 4, the steps of the whole run"),
        ([*AE, "--hidden", "5,"], "512,128"),
        ([*AE, "--hidden", "5,0"], "512,128"),
        ([*AE, "--channels", "2"], "--channels"),
        ([*AE, "--image-size", "0"], "--image-size"),
        ([*AE, "--save-every", "0"], "--save-every"),
        ([*AE, "--threads", "0"], "--threads"),
        ([*AE, "--nonsense"], "--nonsense. See scratchgen train ae --help"),
        ([*AE, "--lat", "3"], "--lat"),
        ([*AE, "--arch", "conv"], "--hidden does not apply to --arch conv, which has --width"),
        (
            ["train", "vae", "--data", "digits", "--width", "4"],
            "--width does not apply to --arch dense, which has --hidden",
        ),
        (["train", "ae", "--data", "digits", "--latent", "2", "--arch", "conv", "--image-size", "3"], "at least 4×4"),
        ([*AE, "--data", "no/such/folder"], "no/such/folder"),
        ([*AE, "--data", "empty"], "empty"),
        (["train", "vae", "--data", "digits", "--beta", "-1"], "at least 0"),
        (["train", "vae", "--data", "ring"], "try train gan"),
        (["train", "ae", "--data", "moons"], "try train gan"),
        (["train", "dcgan", "--data", "grid"], "try train gan"),
        (["train", "gan", "--data", "ring", "--image-size", "8"], "points have neither"),
        (["train", "gan", "--data", "digits", "--smoothing", "1"], "below 1"),
        (["train", "gan", "--data", "digits", "--beta1", "1"], "below 1"),
        (["train", "gan", "--data", "digits", "--k", "0"], "--k"),
        (["train", "gan", "--data", "digits", "--batch-size", "1"], "batch"),
        (["train", "dcgan", "--data", "digits", "--image-size", "7"], "needs at least 8 pixels a side"),
        (
            ["train", "vae", "--data", "digits", "--likelihood", "gaussian", "--data", "digits", "--latent", "x"],
            "'x'",
        ),
        (["sample"], "RUN"),
        (["sample", "nowhere"], "nowhere is not a run folder"),
        (["sample", "ae"], "no prior to sample from"),
        (["sample", "vae", "--count", "0"], "--count"),
        (["sample", "vae", "--output", "x.jpg"], "ends in .png (a picture) or .npy"),
        (["sample", "vae", "--output", "no/x.png"], "there is no folder no"),
        (["sample", "vae", "--columns", "0"], "--columns"),
        (["reconstruct", "gan"], "no encoder"),
        (["reconstruct", "points"], "no encoder"),
        (["reconstruct", "ae", "--output", "x"], "ends in .png"),
        (["reconstruct", "ae", "--data", "nowhere"], "nowhere"),
        (["interpolate", "ae", "--between", "prior"], "no prior"),
        (["interpolate", "gan", "--between", "images"], "no encoder"),
        (["interpolate", "points"], "this run is of points"),
        (["interpolate", "ae", "--steps", "0"], "--steps"),
        (["evaluate", "digits"], "no config.json"),
        (["evaluate", "vae", "--importance", "0"], "--importance"),
        (["export", "vae", "--output", "x.pt"], "ends in .safetensors"),
        (["export", "vae", "--output", "no/x.safetensors"], "there is no folder no"),
        (["export", "vae", "--format", "onnx"], "onnx"),
        (["export", "nowhere"], "nowhere"),
        (["gradcheck", "Conv3d"], "there is no built-in Conv3d; there are Dense"),
        (["gradcheck", "Dense", "--input-shape", "2,3"], "go with a layer of your own"),
        (["gradcheck", "mine.py:f", "--input-range", "2,1"], "not a range"),
        (["gradcheck", "mine.py:f", "Dense"], "calls of their own"),
        (["gradcheck", "Dense", "--mutants"], "leave out the names"),
        (["gradcheck", "--tolerance", "0"], "--tolerance"),
        (["gradcheck", "--seed", "-1"], "--seed"),
        (["gradcheck", "no.py:Layer"], "no.py is not a file"),
        (["gradcheck", "layer.py"], "path/to/file.py:MyLayer"),
        (["info", "more"], "more"),
    ],
)
def test_usage_errors_are_one_sentence_and_status_2(argv, says, here, capsys):
    (here / "empty").mkdir(exist_ok=True)
    before = sorted(here.rglob("*"))
    assert says in fails(capsys, *argv)
    assert sorted(here.rglob("*")) == before, "something was made before the arguments were checked"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    printed = succeeds(capsys, command, "--help")
    assert printed.startswith(f"usage: scratchgen {command}")
    assert command in succeeds(capsys, "--help")


@pytest.mark.parametrize("model", ["ae", "vae", "gan", "dcgan"])
def test_help_of_every_model_names_its_switches_and_defaults(model, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    printed = succeeds(capsys, "train", model, "--help")
    for switch in ("--data", "--epochs", "--lr", "--resume", "--out", "--latent", "--seed"):
        assert switch in printed
    lines = " ".join(printed.split())
    epochs = {"ae": "30", "vae": "20", "gan": "50 for images, 20 for points", "dcgan": "15"}[model]
    assert f"passes over the data (default: {epochs})" in lines
    assert "%(default)s" not in printed
    assert "None" not in printed
    assert model in succeeds(capsys, "train", "--help")


def test_a_run_is_never_written_over(here, tmp_path, monkeypatch, capsys):
    tiny.no_pictures(monkeypatch)
    before = {p: p.read_bytes() for p in Path("ae").rglob("*") if p.is_file()}
    assert "ae is there already and not empty; choose another folder with --out" in fails(capsys, *AE, "--out", "ae")
    assert {p: p.read_bytes() for p in Path("ae").rglob("*") if p.is_file()} == before
    assert "not empty" in fails(capsys, *AE, "--out", "ae/config.json")
    shutil.copytree("digits", tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        succeeds(capsys, *AE)
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"ae-dense", "ae-dense-2"}
    (tmp_path / "mine").mkdir()
    succeeds(capsys, *AE, "--out", "mine")
    monkeypatch.chdir(tmp_path / "mine")
    succeeds(capsys, "train", "ae", "--resume", ".", "--epochs", "2", "--quiet")
    assert "<title>autoencoder: mine</title>" in Path("report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_one_sentence(here, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert "nothing can be written in" in fails(capsys, *AE, "--out", tmp_path / "file" / "run")

    def refused(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        said = fails(capsys, *AE, "--out", tmp_path / "locked")
    assert "nothing can be written in" in said
    assert "Permission denied" in said
    assert "--out" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_download_that_fails_is_one_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scratchgen.data.mnist.MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setattr(
        "scratchgen.data.mnist.download_mnist.__kwdefaults__",
        {"mirrors": ("http://127.0.0.1:9/",), "progress": False},
    )
    for module in ("scratchgen.data.mnist", "scratchgen.data.download"):
        monkeypatch.setattr(f"{module}.PAUSE", 0, raising=False)
    assert run("train", "ae", "--data", "mnist", "--quiet") == 2
    said = capsys.readouterr().err
    assert "it could not be downloaded from any mirror" in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_asking_for_a_gpu_where_there_is_none_says_what_is_missing(here, capsys):
    if not why_no_gpu():
        pytest.skip("there is a GPU here")
    before = sorted(here.rglob("*"))
    assert why_no_gpu() in fails(capsys, *AE, "--backend", "cupy")
    assert why_no_gpu() in fails(capsys, "sample", "vae", "--backend", "cupy")
    assert sorted(here.rglob("*")) == before


def why_no_gpu() -> str:
    try:
        sg.Dense(1, 1).to("cupy")
    except sg.BackendUnavailable as error:
        return str(error)
    return ""


def test_info(capsys):
    printed = succeeds(capsys, "info")
    for word in ("scratchgen", "Python", "NumPy", "BLAS", "threads", "compiled", "GPU"):
        assert word in printed


def test_info_says_what_compiles(capsys, monkeypatch, tmp_path):
    """And where what is compiled is kept; or how to have it, or that it was refused."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"numba": "0.99.1"}[name])
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path))
    monkeypatch.delenv("SCRATCHGEN_FAST", raising=False)
    monkeypatch.setattr("scratchgen.backend.fast.installed", lambda: True)
    assert f"compiled    Numba 0.99.1, loops kept in {tmp_path / 'kernels'}\n" in succeeds(capsys, "info")
    monkeypatch.setenv("SCRATCHGEN_CACHE", "~no-such-user")
    assert "compiled    Numba 0.99.1, loops kept nowhere: ~no-such-user is not a path" in succeeds(capsys, "info")
    monkeypatch.setenv("SCRATCHGEN_FAST", "0")
    assert "compiled    nothing: Numba 0.99.1 is installed, but SCRATCHGEN_FAST is 0\n" in succeeds(capsys, "info")
    monkeypatch.setattr("scratchgen.backend.fast.installed", lambda: False)
    wanted = (
        'compiled    nothing: pip install "scratchgen-nn[fast]" brings Numba, which makes training on a CPU faster\n'
    )
    assert wanted in succeeds(capsys, "info")


@pytest.mark.parametrize("argv", [["info"], ["gradcheck", "Tanh"]])
def test_numba_is_not_loaded_for_nothing(argv, tmp_path):
    """It takes a third of a second."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    code = f"import sys\nfrom scratchgen.cli import main\nmain({argv!r})\nprint('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_version(capsys):
    assert sg.__version__ in succeeds(capsys, "--version")


def test_as_a_module(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "scratchgen", "--version"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"scratchgen {sg.__version__}\n")


# --- gradcheck ---


def test_gradcheck_proves_the_built_in_layers(capsys):
    assert run("gradcheck", "dense", "Tanh", "mse") == 0
    printed = capsys.readouterr().out
    assert "all right" in printed
    assert "Dense" in printed
    assert "Conv2d" not in printed


def test_gradcheck_fails_when_a_built_in_gradient_is_wrong(capsys, monkeypatch):
    right = sg.Tanh.forward

    def wrong(self, x):
        y, backward = right(self, x)
        return y, lambda dy: 1.0001 * backward(dy)

    monkeypatch.setattr(sg.Tanh, "forward", wrong)
    assert run("gradcheck", "Tanh", "Sigmoid") == 1
    printed = capsys.readouterr().out
    assert "2 WRONG" in printed
    assert "exactly 1.0001 times" in printed


def test_gradcheck_shows_the_gallery(capsys):
    assert run("gradcheck", "--mutants") == 0
    printed = capsys.readouterr().out
    assert "The kernel's gradient is flipped" in printed
    assert "every one was found" in printed


LAYERS = """
import numpy as np
from scratchgen import Dense, Layer, Parameter

class Scale(Layer):
    def __init__(self, channels=3, start=1.0):
        self.w = Parameter("w", np.full(channels, start, np.float32))

    def forward(self, x):
        w = self.w.value
        axes = tuple(range(x.ndim - 1))
        return x * w, self.pullback(x * w, dx=lambda dy: dy * w, grads={self.w: lambda dy: (dy * x).sum(axis=axes)})

class Wrong(Scale):
    def forward(self, x):
        y, backward = super().forward(x)
        return y, lambda dy: 2 * backward(dy)

class Late(Scale):
    def forward(self, x):
        def backward(dy):
            self.w.grad += (dy * x).sum(axis=tuple(range(x.ndim - 1)))
            return dy * self.w.value

        return x * self.w.value, backward

class Needs(Scale):
    def __init__(self, channels):
        super().__init__(channels)

class Drawn(Dense):
    def __init__(self, *, rng):
        super().__init__(7, 2, rng=rng)

def cube(x):
    return x**3, lambda dy: 3 * dy * x**2

def vectors_only(x):
    n, d = x.shape
    return x[:, :1] * x, lambda dy: np.hstack([(dy * x).sum(1, keepdims=True), 0 * dy[:, 1:]]) + dy * x[:, :1]

def squared_error(y, target):
    return ((y - target) ** 2).sum(), lambda dy: (2 * dy * (y - target), -2 * dy * (y - target))

def no_pair(x):
    return x

def broken(x):
    return undefined, 1

ready = Scale(2)
CONSTANT = 3.0

class Locked(Scale):
    def __init__(self):
        import threading
        super().__init__(3)
        self.lock = threading.Lock()

class TextbookDense(Layer):
    def __init__(self):
        self.W, self.b = Parameter("W", np.ones((3, 2))), Parameter("b", np.ones(2))

    def forward(self, x):
        W = self.W.value
        def backward(dy):
            self.W.grad += x.T @ dy
            self.b.grad += dy.sum(axis=0)
            return dy @ W.T
        return x @ W + self.b.value, backward

def logarithm(x):
    return np.log(x), lambda dy: dy / x
"""


@pytest.fixture
def layers(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LAYERS)
    return path


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("Scale", 0, ["Scale() on 5×3", "Scale() on 3×6×5×3", "w.grad"]),
        ("Scale(4, start=0.5)", 0, ["on 5×4"]),
        ("Wrong", 1, ["dx: exactly 2 times", "WRONG"]),
        ("Needs(2)", 0, ["on 5×2"]),
        ("Drawn", 0, ["Dense(7, 2) on 5×7"]),
        ("cube", 0, ["cube on 5×4", "cube on 3×6×5×4"]),
        ("vectors_only", 0, ["vectors_only on 5×4"]),
        ("squared_error", 0, ["dy", "dtarget"]),
        ("ready", 0, ["on 5×2"]),
        ("TextbookDense", 0, ["TextbookDense() on 5×3", "not counted: forward takes images, backward does not"]),
    ],
)
def test_gradcheck_of_ones_own_file(layers, name, status, says, capsys):
    assert run("gradcheck", f"{layers}:{name}") == status
    printed = capsys.readouterr().out
    for words in says:
        assert words in printed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Needs", "Needs takes (channels)"),
        ("Scale(1, 2, 3)", "too many positional arguments"),
        ("Scale(-1)", "cannot be built"),
        ("Nowhere", "it has Scale, Wrong"),
        ("Scale(open)", "with plain values"),
        ("no_pair", "needs the pair y, backward"),
        ("broken", "name 'undefined' is not defined"),
        ("CONSTANT", "needs a layer or a function"),
        ("CONSTANT(3)", "cannot be called, it is a float"),
        ("np", "needs a layer or a function"),
        ("Locked", "cannot be checked"),
    ],
)
def test_what_cannot_be_checked_in_ones_own_file(layers, name, says, capsys):
    assert says in fails(capsys, "gradcheck", f"{layers}:{name}")


OWN_MODELS = """
import numpy as np
from scratchgen import Dense, frozen

class MyVAE:
    def __init__(self, features=6, wrong=False, rng=None):
        self.encoder, self.decoder = Dense(features, 4, rng=rng), Dense(2, features, rng=rng)
        self.wrong = wrong

    def loss(self, x, eps):
        h, encoder_backward = self.encoder.forward(x)
        mu, logvar = h[:, :2], h[:, 2:]
        std = np.exp(0.5 * logvar)
        y, decoder_backward = self.decoder.forward(mu + std * eps)
        n = len(x)

        def backward():
            dz = decoder_backward((y - x) / n)
            dlogvar = dz * eps * (1 if self.wrong else 0.5) * std + 0.5 * (std**2 - 1) / n
            encoder_backward(np.concatenate([dz + mu / n, dlogvar], axis=1))

        return (0.5 * ((y - x) ** 2).sum() + 0.5 * (mu**2 + std**2 - 1 - logvar).sum()) / n, backward

class MyAutoencoder(MyVAE):
    def loss(self, x):
        h, encoder_backward = self.encoder.forward(x)
        y, decoder_backward = self.decoder.forward(h[:, :2])
        dh = np.zeros_like(h)

        def backward():
            dh[:, :2] = decoder_backward(2 * (y - x))
            return encoder_backward(dh)                          # no gradient of x, which is the target as well

        return ((y - x) ** 2).sum(), backward

class MyGAN:
    def __init__(self, rng):
        self.generator, self.discriminator = Dense(3, 4, rng=rng), Dense(4, 1, rng=rng)

    def discriminator_loss(self, real, z):
        s, back = self.discriminator.forward(real)
        f, back_fake = self.discriminator.forward(self.generator.predict(z))
        return (s.sum() - f.sum()) / len(z), lambda: (back(s * 0 + 1 / len(z)), back_fake(f * 0 - 1 / len(z)))

    def generator_loss(self, z):
        fake, generator_backward = self.generator.forward(z)
        with frozen(self.discriminator):
            f, back = self.discriminator.forward(fake)
        return f.sum() / len(z), lambda: generator_backward(back(f * 0 + 1 / len(z)))

class Draws(MyVAE):
    def loss(self, x):
        return super().loss(x, np.random.standard_normal((len(x), 2)))

class Half(MyGAN):
    generator_loss = None
"""


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("MyVAE", 0, ["MyVAE.loss on 6×6, 6×2", "encoder.W.grad", "decoder.b.grad", "all right"]),
        ("MyVAE.loss", 0, ["MyVAE.loss on 6×6, 6×2"]),
        ("MyVAE(9)", 0, ["MyVAE.loss on 6×9, 6×2"]),
        ("MyVAE(wrong=True)", 1, ["dlogvar: ½ · d(input of decoder) · exp(logvar/2)·eps is too much"]),
        ("MyVAE(wrong=True).loss", 1, ["dlogvar: ½ ·"]),
        ("MyAutoencoder", 0, ["MyAutoencoder.loss on 6×6"]),
        ("MyGAN", 0, ["MyGAN.discriminator_loss on 6×4, 6×3", "MyGAN.generator_loss on 6×3", "left out: disc"]),
        ("MyGAN.generator_loss", 0, ["MyGAN.generator_loss on 6×3"]),
        ("Half.discriminator_loss", 0, ["Half.discriminator_loss on"]),
    ],
)
def test_gradcheck_of_ones_own_model(tmp_path, name, status, says, capsys):
    (tmp_path / "models.py").write_text(OWN_MODELS)
    assert run("gradcheck", f"{tmp_path}/models.py:{name}") == status
    printed = capsys.readouterr().out
    for words in says:
        assert words in printed
    if name == "MyGAN.generator_loss":
        assert "discriminator_loss" not in printed


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("MyVAE.los", "MyVAE in "),
        ("Draws", "gave two values at one point"),
        ("Half", "has discriminator_loss and no generator_loss"),
    ],
)
def test_what_cannot_be_checked_of_ones_own_model(tmp_path, name, says, capsys):
    (tmp_path / "models.py").write_text(OWN_MODELS)
    assert says in fails(capsys, "gradcheck", f"{tmp_path}/models.py:{name}")


def test_a_models_loss_takes_shapes_by_name(tmp_path, capsys):
    (tmp_path / "models.py").write_text(OWN_MODELS)
    shapes = ("--input-shape", "3,6", "--input-shape", "3,2")
    assert run("gradcheck", f"{tmp_path}/models.py:MyVAE.loss", *shapes) == 0
    assert "MyVAE.loss on 3×6, 3×2" in capsys.readouterr().out
    assert "models.py:MyVAE.loss" in fails(capsys, "gradcheck", f"{tmp_path}/models.py:MyVAE", *shapes)


def test_input_shape(layers, capsys):
    assert run("gradcheck", f"{layers}:cube", "--input-shape", "2,1,4") == 0
    assert "cube on 2×1×4" in capsys.readouterr().out
    assert "operands could not be broadcast" in fails(capsys, "gradcheck", f"{layers}:Scale", "--input-shape", "2,4")


def test_a_file_that_does_not_load(tmp_path, capsys):
    (tmp_path / "syntax.py").write_text("x = 1\ny = (\n")
    assert "SyntaxError in line 2" in fails(capsys, "gradcheck", "syntax.py:f")
    (tmp_path / "raises.py").write_text("import numpy\n\nnumpy.nothing\n")
    assert "AttributeError in line 3" in fails(capsys, "gradcheck", "raises.py:f")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    assert "SystemExit in line 2" in fails(capsys, "gradcheck", "leaves.py:f")
    (tmp_path / "modern.py").write_text(MODERN)
    assert run("gradcheck", "modern.py:Double") == 0


MODERN = """
from __future__ import annotations
from dataclasses import dataclass
from scratchgen import Layer

@dataclass(eq=False)
class Double(Layer):
    factor: float = 2.0

    def forward(self, x):
        return self.factor * x, lambda dy: self.factor * dy
"""


def test_input_range(layers, capsys):
    assert "not finite" in fails(capsys, "gradcheck", f"{layers}:logarithm")
    assert run("gradcheck", f"{layers}:logarithm", "--input-range", "0.1,5") == 0


def test_gradients_only_leaves_the_contract_out(layers, capsys):
    assert run("gradcheck", f"{layers}:Late") == 1
    assert "FAULT: backward uses the parameters as they are when it runs" in capsys.readouterr().out
    assert run("gradcheck", f"{layers}:Late", "--gradients-only") == 0


def test_report_of_nothing_is_not_right():
    assert not Report("empty").ok
    assert Report("empty").error == 0


@pytest.mark.parametrize("command", ["sample", "reconstruct", "interpolate", "evaluate", "export"])
def test_a_run_whose_config_is_damaged_is_one_sentence(command, tmp_path, capsys):
    run = RunFolder.create(tmp_path / "run", {"model": "vae", "seed": 0, "image_shape": [8, 8, 1], "arch": "dense"})
    run.weights.write_bytes(b"")
    for broken in ({}, {"latent": "x", "hidden": [4], "likelihood": "bernoulli", "beta": 1}):
        run.write_json("config.json", {**run.config(), **broken})
        assert main([command, str(run.path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert "config" in said.err


def test_no_memory_is_said_in_a_sentence(monkeypatch, capsys):
    def refuse(*_):
        raise MemoryError("Unable to allocate 1.00 TiB for an array")

    monkeypatch.setattr("scratchgen.training.Training._one_step", refuse)
    assert run("train", "ae", "--epochs", "1", "--out", "run") == 2
    said = capsys.readouterr().err
    assert said == (
        "scratchgen: Unable to allocate 1.00 TiB for an array: a smaller --batch-size needs less memory\n"
    )


# --- files that are there ---

WRITERS = {  # a command, the option that names its file, and the files that it writes
    "sample .png": (["sample", "vae"], "--output", ["x.png"]),
    "sample .npy": (["sample", "vae"], "--output", ["x.npy"]),
    "reconstruct": (["reconstruct", "ae"], "--output", ["x.png"]),
    "interpolate": (["interpolate", "gan"], "--output", ["x.npy"]),
    "export": (["export", "ae"], "--output", ["x.safetensors", "x.py"]),
    "bench --json": (["bench", "ae", "--no-torch", "--skip-memory", "--rounds", "1"], "--json", ["x.json"]),
    "bench --picture": (
        ["bench", "ae", "--no-torch", "--scaling", "threads", "--rounds", "1"],
        "--picture",
        ["x.png"],
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_there_is_replaced_only_by_force(writer, here, tmp_path, capsys):
    command, option, names = WRITERS[writer]
    argv = [*command, option, tmp_path / names[0]]
    for name in names:  # one of them there is enough
        (tmp_path / name).write_text("mine")
        said = fails(capsys, *argv)
        assert (
            said
            == f"scratchgen: {tmp_path / name} is there already: --force replaces it, {option} chooses another name\n"
        )
        assert [p.read_text() for p in tmp_path.glob("x.*")] == ["mine"]
        (tmp_path / name).unlink()
    for name in names:
        (tmp_path / name).write_text("mine")
    assert run(*argv, "--force") == 0
    for name in names:
        assert (tmp_path / name).read_bytes() != b"mine"


def test_the_usual_names_are_not_replaced_either(here, tmp_path, monkeypatch, capsys):
    shutil.copytree("vae", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    shown = {"sample": "samples", "reconstruct": "reconstructions", "interpolate": "interpolation"}
    for command, what in shown.items():
        Path(f"run-{what}-2.png").write_text("mine")
        for number in ("", "-3"):
            assert succeeds(capsys, command, "run") == f"run-{what}{number}.png\n"
        assert Path(f"run-{what}-2.png").read_text() == "mine"
        first = Path(f"run-{what}.png")
        first.write_text("mine")
        assert succeeds(capsys, command, "run", "--force") == f"{first}\n"
        assert first.read_bytes() != b"mine"
    Path("run_pytorch.py").write_text("mine")  # one of the two is enough
    assert succeeds(capsys, "export", "run") == "run_pytorch_2.safetensors\nrun_pytorch_2.py\n"
    assert Path("run_pytorch.py").read_text() == "mine"
    succeeds(capsys, "export", "run", "--force")
    assert Path("run_pytorch.py").read_text() != "mine"
    (tmp_path / "run").rename("2nd run")
    assert succeeds(capsys, "export", "2nd run").startswith("_2nd_run_pytorch.safetensors\n")  # Python can import it


def test_a_run_is_found_by_its_name_in_runs(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fails(capsys, "sample", "vae") == "scratchgen: vae is not a run folder: there is no such folder\n"
    assert "required: RUN. See" in fails(capsys, "sample")
    for i, name in enumerate(("vae", "ae", *(f"run{i}" for i in range(5)))):
        shutil.copytree(here / ("ae" if name == "ae" else "vae"), Path("runs") / name)
        for file in ("config.json", "metrics.jsonl"):
            os.utime(Path("runs") / name / file, (1000 + i, 1000 + i))
    (tmp_path / "runs" / "notes").mkdir()
    listed = "in runs/ there are, newest first, run4, run3, run2, run1, run0 and 2 more"
    said = fails(capsys, "sample", "vea")
    assert said == f"scratchgen: vea is not a run folder: there is no such folder; {listed}\n"
    assert f"required: RUN; {listed}. See scratchgen evaluate --help" in fails(capsys, "evaluate")
    assert f"expected one argument; {listed}. See" in fails(capsys, "train", "vae", "--resume")
    for command in ("sample", "reconstruct", "interpolate", "export"):
        assert succeeds(capsys, command, "vae").startswith("vae")
    tiny.no_pictures(monkeypatch)
    succeeds(capsys, "evaluate", "vae", "--quiet", "--importance", "2")
    printed = succeeds(capsys, "train", "vae", "--resume", "vae", "--epochs", "3", "--quiet")
    assert f"run      {Path('runs', 'vae')}\n" in printed
    assert "nowhere/vae is not a run folder" in fails(capsys, "sample", "nowhere/vae")
    Path("vae").mkdir()  # something else: it is not guessed which is meant
    assert fails(capsys, "sample", "vae").endswith(f"no config.json in it; did you mean {Path('runs', 'vae')}?\n")
    shutil.copytree(here / "vae-gaussian", "vae", dirs_exist_ok=True)  # a run here comes first
    succeeds(capsys, "sample", "vae", "--count", "1", "--output", "one.npy")
    numbers("one.npy", (1, 8, 8, 3))


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["sample", "vae", "--output", "folder.png"], "--output is folder.png: that is a folder"),
        (["export", "vae", "--output", "folder.safetensors"], "--output is folder.safetensors: that is a folder"),
        (["bench", "--json", "folder.png"], "--json is folder.png: that is a folder"),
        (["export", "nowhere"], "nowhere is not a run folder: there is no such folder"),
        (["export", "nowhere/deep"], "nowhere/deep is not a run folder: there is no such folder"),
        (["export", "digits"], "digits is not a run folder: there is no config.json in it"),
        (["export", "nowhere", "--output", "x.safetensors"], "nowhere is not a run folder"),
        (["reconstruct", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_what_was_not_given_is_not_complained_of(argv, says, here, capsys):
    for name in ("folder.png", "folder.safetensors"):
        Path(name).mkdir(exist_ok=True)
    said = fails(capsys, *argv, "--force")
    assert says in said
    assert "None" not in said


# --- what was meant ---


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["train", "vae", "--device", "cuda"],
            ": --backend cupy runs on an NVIDIA GPU, --backend numpy on the CPU. See ",
        ),
        (["train", "gan", "--device=cpu"], "--backend numpy on the CPU"),
        (["sample", "run", "--gpu"], "--backend cupy runs on an NVIDIA GPU"),
        (["train", "dcgan", "--no-cuda"], "--backend numpy on the CPU"),
        (["evaluate", "run", "--devise", "gpu"], "--backend cupy runs on an NVIDIA GPU"),
        (["train", "ae", "--backend", "cuda"], "choose from numpy, cupy: --backend cupy runs on an NVIDIA GPU"),
        (["bench", "--backend", "gpu"], "choose from numpy, cupy: --backend cupy runs on an NVIDIA GPU"),
        (["train", "vae", "--batch_size", "8"], ": did you mean --batch-size? See "),
        (["train", "vae", "--epoch", "8"], "did you mean --epochs?"),
        (["train", "vae", "--latnet", "8"], "did you mean --latent?"),
        (["train", "vae", "-lr", "1"], "did you mean --lr?"),
        (["train", "gan", "--Seed", "1"], "did you mean --seed?"),
        (["train", "vae", "--learning-rate", "1"], ": here it is called --lr. See "),
        (["train", "vae", "--z_dim", "1"], "here it is called --latent"),
        (["train", "dcgan", "--ngf", "1"], "here it is called --width"),
        (["sample", "run", "--overwrite"], "here it is called --force"),
        (["sample", "run", "--ouput", "x.png"], "did you mean --output?"),
        (["bench", "--theads", "2"], "did you mean --threads?"),
        (["trian"], "did you mean train?"),
        (["gradchek"], "did you mean gradcheck?"),
        (["vae"], "that is a model, scratchgen train vae. See scratchgen --help"),
        (["train", "vea"], "did you mean vae?"),
        (["train", "VAE"], "did you mean vae?"),
        (["train", "vae", "--likelihood", "gausian"], "did you mean gaussian?"),
        (["train", "gan", "--loss", "minmax"], "did you mean minimax?"),
        (["interpolate", "run", "--between", "image"], "did you mean images?"),
        (["export", "run", "--format", "torche"], "did you mean torch?"),
        (["bench", "dcgan2"], "did you mean dcgan28?"),
        (["train", "vae", "--colour", "8"], "unrecognized arguments: --colour 8. See scratchgen train vae --help"),
        (["info", "--gpu"], "unrecognized arguments: --gpu. See scratchgen info --help"),
        (["sample", "run", "--ngf", "1"], "unrecognized arguments: --ngf 1. See "),
        (["qqq"], "bench, info. See scratchgen --help"),
    ],
)
def test_what_a_misspelled_word_meant(argv, says, capsys):
    said = fails(capsys, *argv)
    assert says in said
    assert said.count("did you mean") == says.count("did you mean")


# --- rectangles ---


@pytest.mark.parametrize("form", ["16x24", "16X24", "16×24"])
def test_images_that_are_no_squares(form, here, tmp_path, monkeypatch, capsys):
    """Height × width, from the option to the samples."""
    tiny.no_pictures(monkeypatch)
    sizes = ["--data", "photos", "--image-size", form, "--epochs", "1", "--quiet", "--batch-size", "8"]
    for model, options in (("dcgan", ["--width", "1"]), ("vae", ["--hidden", "4"])):
        folder = tmp_path / model
        succeeds(capsys, "train", model, *sizes, "--latent", "2", *options, "--out", folder)
        config = json.loads((folder / "config.json").read_text())
        assert config["image_size"] == [16, 24]
        assert config["image_shape"] == [16, 24, 3]
        succeeds(capsys, "sample", folder, "--count", "3", "--output", tmp_path / f"{model}.npy")
        numbers(tmp_path / f"{model}.npy", (3, 16, 24, 3))
        succeeds(capsys, "sample", folder, "--count", "4", "--output", tmp_path / f"{model}.png")
        succeeds(capsys, "train", model, "--resume", folder, "--epochs", "2", "--image-size", form, "--quiet")
        other = ("train", model, "--resume", folder, "--image-size", "24x16")
        assert "was started with --image-size 16x24, and a resumed run keeps that" in fails(capsys, *other)
        succeeds(capsys, "evaluate", folder, "--quiet", "--importance", "2")
    succeeds(capsys, "reconstruct", tmp_path / "vae", "--count", "2", "--output", tmp_path / "r.npy")
    numbers(tmp_path / "r.npy", (2, 16, 24, 3))
    argv = ("reconstruct", tmp_path / "vae", "--data", "digits", "--count", "2", "--output", tmp_path / "d.npy")
    assert run(*argv) == 0  # other data is made to fit: cut to 16 × 24, and coloured
    assert capsys.readouterr().err == "note: this data is MNIST, and the run was trained on photos\n"
    numbers(tmp_path / "d.npy", (2, 16, 24, 3))


@pytest.mark.parametrize("given", ["x", "16x", "x16", "16x0", "-1x3", "16x16x3", "16,24", "1.5x2", "", "sixteen"])
def test_what_is_no_image_size(given, capsys):
    said = fails(capsys, "train", "ae", f"--image-size={given}")
    assert f"{given!r} is not a size in pixels, N for squares or HEIGHTxWIDTH, as in 64 or 32x64" in said


# --- numbers beyond all measure ---


def numeric_options():
    """ "command --option" of all that are numbers, found in the parser itself."""
    found = []

    def look(parser, argv):
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for name, sub in action.choices.items():
                    look(sub, [*argv, name])
            elif action.option_strings and action.choices is None and action.type not in (None, path, str, text):
                found.append(" ".join([*argv, action.option_strings[-1]]))

    look(parser(), [])
    return found


HUGE = ["9" * 60, "9" * 400, "9" * 5000, "-" + "9" * 400, "1e999", "nan", "٣" * 5000]


@pytest.mark.parametrize("words", numeric_options())
def test_absurd_numbers_are_one_sentence(words, capsys):
    *command, option = words.split()
    folder = ["run"] if command[0] in ("sample", "reconstruct", "interpolate", "evaluate") else []
    for number in HUGE:
        if option in ("--lr", "--d-lr", "--beta", "--seconds") and number == HUGE[0]:
            continue  # that is one
        said = fails(capsys, *command, *folder, f"{option}={number}")
        assert option in said
        assert len(said) < 400, "the number is quoted at full length"


def test_there_are_numbers_to_be_absurd():
    options = {words.split()[-1] for words in numeric_options()}
    assert options >= {
        "--epochs",
        "--threads",
        "--latent",
        "--hidden",
        "--count",
        "--rows",
        "--k",
        "--lr",
        "--rounds",
    }
