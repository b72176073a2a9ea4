"""Runs on few images of one's own: how long they are by default, what they show, and what is said of them."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
import tiny
from tiny import MODELS, run

import scratchgen as sg
from scratchgen.data import Dataset
from scratchgen.recipes import RECIPES, RecipeError, build, load_run
from scratchgen.recipes.gan import PointGANRecipe
from scratchgen.recipes.options import FEW
from scratchgen.training import RunFolder

DCGAN = MODELS["dcgan"][:-2]  # without --sample-every


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    tiny.folder_with_data(tmp_path, monkeypatch)


def images(count, labelled=False, shape=(16, 16, 3)):
    labels = np.zeros(count, np.uint8) if labelled else None
    test = labels[:1] if labelled else None
    return Dataset("images", np.zeros((count, *shape), np.uint8), labels, np.zeros((1, *shape), np.uint8), test)


def config(model, data, **given):
    return RECIPES[model].resolve_config(given, data)


def steps(config, samples):
    return config["epochs"] * (samples // config["batch_size"])


def test_few_images_are_trained_on_for_some_thousand_steps_in_small_batches():
    few, many = config("dcgan", images(54)), config("dcgan", images(FEW + 1))
    assert 1000 <= steps(few, 54) < 1000 + steps(config("dcgan", images(54)), 54)
    assert (few["batch_size"], many["batch_size"]) == (16, 128)
    assert few["width"] < many["width"]
    assert few["augment"] == ["flip", "crop"]
    assert few["d_augment"] == ["shift", "cutout"]
    assert "d_augment" not in many
    assert "augment" not in many
    assert many["epochs"] == RECIPES["dcgan"].defaults["epochs"]
    assert "augment" not in config("dcgan", images(54, labelled=True))  # digits are not to be mirrored
    assert config("dcgan", images(3))["batch_size"] == 3
    for model in ("ae", "vae"):
        assert steps(config(model, images(54)), 54) >= 1000


def test_what_is_given_wins():
    given = {"epochs": 3, "batch_size": 5, "width": 7, "augment": ["none"], "d_augment": ["none"]}
    made = config("dcgan", images(54), **given)
    assert {name: made.get(name) for name in given} == given | {"augment": None, "d_augment": None}
    assert config("dcgan", images(54), steps=100)["epochs"] == 34  # 3 steps an epoch
    assert "steps" not in config("dcgan", images(54), steps=100)


def test_a_rate_that_is_given_is_that_of_both_players():
    assert "d_lr" not in config("dcgan", images(54), lr=0.01)
    assert config("dcgan", images(54), lr=0.01, d_lr=0.02)["d_lr"] == 0.02
    assert config("dcgan", images(54))["d_lr"] < config("dcgan", images(54))["lr"]


def test_large_images_have_convolutional_networks():
    large, small = images(54, shape=(64, 64, 3)), images(54)
    assert config("ae", large)["arch"] == config("vae", large)["arch"] == "conv"
    assert config("ae", small)["arch"] == "dense"
    assert config("ae", large, arch="dense")["arch"] == "dense"
    assert config("ae", large, hidden=[3])["arch"] == "dense"


def test_the_head_says_how_long_it_takes_and_what_to_expect(capsys):
    assert run("train", *DCGAN, "--steps", "9", "--quiet") == 0
    out = capsys.readouterr().out
    assert "training 3 epochs, 9 steps of 8, each image mirrored and cut at random" in out
    assert "note     30 training images are few" in out
    assert run("train", *DCGAN, "--epochs", "1", "--augment", "none", "--quiet") == 0
    assert "training 1 epoch, 3 steps of 8\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--steps 3 --epochs 2", "--epochs and --steps cannot be given together"),
        ("--augment turn", "'turn' is not none, or one or more of flip, crop, shift, as in crop,shift"),
        ("--d-augment turn", "'turn' is not none, or one or more of flip, shift, cutout"),
        ("--augment flip,none", "'flip,none' is not none, or one or more of"),
    ],
)
def test_options_that_do_not_go_together(words, said, capsys, tmp_path):
    assert run("train", *DCGAN, *words.split()) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_discriminator_sees_images_through_random_layers():
    run_config = config("dcgan", images(54), width=1, seed=0)
    model = build(run_config).model
    del run_config["d_augment"]
    plain = build(run_config).model
    first, second = model.discriminator.layers[:2]
    assert (type(first).__name__, type(second).__name__) == ("RandomShift", "RandomCutout")
    assert first.seed != second.seed
    x = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    assert np.array_equal(model.discriminator.predict(x), plain.discriminator.predict(x))
    assert not np.array_equal(model.discriminator.forward(x)[0], plain.discriminator.forward(x)[0])


def test_augmentations_have_one_order_and_come_once():
    assert config("ae", images(54), augment=["crop", "flip"])["augment"] == ["flip", "crop"]
    assert run("train", *DCGAN, "--augment", "flip,flip") == 2
    assert run("train", *DCGAN, "--augment", "crop,flip", "--steps", "3", "--out", "run", "--quiet") == 0
    for same in ("flip,crop", "crop,flip"):
        assert run("train", "dcgan", "--resume", "run", "--augment", same, "--quiet") == 0
    assert run("train", *DCGAN, "--augment", "none", "--steps", "3", "--out", "none", "--quiet") == 0
    assert run("train", "dcgan", "--resume", "none", "--augment", "none", "--quiet") == 0


def test_a_few_images_bound_the_latent_dimension_only_where_it_was_asked_for():
    assert config("ae", images(18))["latent"] == 18
    with pytest.raises(RecipeError, match="--latent is 19"):
        config("ae", images(18), latent=19)


def test_images_that_cannot_be_trained_on_are_refused_at_once():
    with pytest.raises(RecipeError, match="there are no test images"):
        config("ae", Dataset("mine", np.zeros((9, 8, 8, 1), np.uint8), None, np.zeros((0, 8, 8, 1), np.uint8), None))
    two = images(54, shape=(8, 8, 2))
    assert "augment" not in config("ae", two)
    with pytest.raises(RecipeError, match="--augment is for grey and coloured images, these have 2 channels"):
        config("ae", two, augment=["crop"])


def test_points_are_not_augmented(capsys):
    assert run("train", "gan", "--data", "ring", "--augment", "flip") == 2
    assert "--augment is for images" in capsys.readouterr().err


def test_a_run_goes_on_with_more_steps_and_the_same_views(capsys):
    constant = [*DCGAN, "--decay", "none"]
    assert run("train", *constant, "--steps", "12", "--out", "whole", "--quiet") == 0
    assert run("train", *constant, "--steps", "6", "--out", "part", "--quiet") == 0
    assert run("train", "dcgan", "--resume", "part", "--steps", "12", "--quiet") == 0
    whole, part = ((RunFolder.open(name).weights).read_bytes() for name in ("whole", "part"))
    assert whole == part
    assert run("train", "dcgan", "--resume", "part", "--steps", "3", "--quiet") == 2
    assert "--steps is 3, and the run is in epoch 4, at step 12, already" in capsys.readouterr().err
    assert run("train", "dcgan", "--resume", "part", "--augment", "shift", "--quiet") == 2
    assert "was started with --augment flip,crop" in capsys.readouterr().err


def test_five_hundred_epochs_leave_a_small_folder():
    assert run("train", *DCGAN, "--epochs", "500", "--out", "run", "--quiet") == 0
    folder = RunFolder.open("run")
    sheets = sorted(p.name for p in (folder.path / "samples").iterdir())
    epochs = [r["epoch"] for r in folder.records() if r["kind"] == "epoch"]
    assert sheets == [f"epoch-{epoch:03d}.png" for epoch in (0, *epochs)]
    assert epochs[-1] == 500
    assert 20 <= len(epochs) <= 25
    assert all(b - a >= 50 / 3 for a, b in pairwise(epochs))  # 50 steps apart, 3 steps an epoch
    within = [r["step"] for r in folder.records() if r["kind"] == "steps"]
    assert len(within) <= 1500 / 10 + len(epochs)
    assert sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file()) < 2e6


def test_sheets_are_made_when_they_are_asked_for():
    assert run("train", *DCGAN, "--epochs", "7", "--sample-every", "3", "--out", "run", "--quiet") == 0
    assert sorted(p.name for p in RunFolder.open("run").path.glob("samples/*")) == [
        *("epoch-000.png", "epoch-003.png", "epoch-006.png", "epoch-007.png")
    ]
    assert json.loads((RunFolder.open("run").path / "config.json").read_text())["sample_every"] == 3


def test_the_last_line_says_the_time_by_the_clock(capsys):
    assert run("train", *DCGAN, "--epochs", "1", "--out", "run", "--quiet") == 0
    out = capsys.readouterr().out
    assert re.search(r"^trained  \d+ s, \d+\.\d % of the time for pictures and the report$", out, re.MULTILINE)


def test_weights_that_overflow_are_named(capsys):
    assert run("train", *DCGAN, "--steps", "3", "--out", "run", "--quiet") == 0
    gan = load_run("run")
    for p in gan.model.parameters():
        p.value = p.value * np.float32(1e30)
    gan.folder.weights.unlink()
    sg.save_weights(gan.model, gan.folder.weights)
    capsys.readouterr()
    assert run("sample", "run") == 2
    assert "the weights in run/weights.safetensors are too large" in capsys.readouterr().err


def test_sheets_that_are_dear_come_less_often_than_records(monkeypatch):
    """And a run that is stopped between two of them shows where it was."""
    monkeypatch.setattr(PointGANRecipe, "mark_steps", 1)
    monkeypatch.setattr(PointGANRecipe, "sheet_steps", 8)  # 2 epochs
    monkeypatch.setattr("scratchgen.commands.training_run.TrainingRun.affordable", lambda self, now: False)
    points = MODELS["points"][:-2]
    assert run("train", *points, "--epochs", "5", "--out", "run", "--quiet") == 0
    folder = RunFolder.open("run")
    assert [r["epoch"] for r in folder.records() if r["kind"] == "epoch"] == [1, 2, 3, 4, 5]
    assert [p.name for p in folder.sheets()] == [f"epoch-00{n}.png" for n in (0, 2, 4, 5)]
    for steps, shown in ((8, False), (12, True)):  # after epoch 2, which has a sheet, and after 3, which has none
        tiny.stop_after(monkeypatch, steps)
        assert run("train", *points, "--epochs", "5", "--out", f"stopped{steps}", "--quiet") == 130
        assert RunFolder(f"stopped{steps}").latest_sheet.exists() is shown
