"""`scratchgen.train`: what the command line does, from Python."""

import numpy as np
import pytest
import tiny

import scratchgen as sg
from scratchgen.data import Dataset, load
from scratchgen.training import NotFinite

SMALL = {"image_size": 8, "hidden": (6,), "latent": 3, "batch_size": 16}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    tiny.folder_with_data(tmp_path, monkeypatch)


def test_it_is_the_run_of_the_command_line(capsys):
    run = sg.train("vae", "digits", epochs=2, out="python", quiet=True, **SMALL)
    assert "epoch   2/2" in capsys.readouterr().out
    line = "vae --data digits --image-size 8 --hidden 6 --latent 3 --batch-size 16 --epochs 2 --out shell --quiet"
    assert tiny.run("train", *line.split()) == 0
    assert run.folder.weights.read_bytes() == (run.folder.path.parent / "shell/weights.safetensors").read_bytes()
    assert run.generate(run.noise(5, np.random.default_rng(0))).shape == (5, 8, 8, 1)
    assert run.folder.records().epochs == 2


def test_it_goes_on_with_a_run():
    first = sg.train("ae", "digits", epochs=1, quiet=True, **SMALL)
    assert first.folder.path.parts == ("runs", "ae-dense")
    again = sg.train("ae", resume_from=first.folder.path, epochs=3, quiet=True)
    assert again.folder.path == first.folder.path
    assert again.folder.records().epochs == 3


def test_data_may_be_arrays():
    images = np.zeros((40, 8, 8, 3), np.uint8)
    data = Dataset("mine", images, None, images[:2], None)
    run = sg.train("dcgan", data, steps=2, width=1, latent=2, quiet=True)
    assert run.config["data"] == "mine"
    assert sg.train("gan", load("ring"), epochs=1, hidden=[4], quiet=True).config["dimensions"] == 2
    with pytest.raises(ValueError, match=r"^train: --image-size and --channels are for data that are loaded"):
        sg.train("dcgan", data, image_size=16)


@pytest.mark.parametrize(
    ("model", "settings", "error", "said"),
    [
        ("vea", {}, ValueError, "train: model is 'vea', needs one of ae, vae, gan, dcgan"),
        ("vae", {"latent": "x"}, ValueError, "train: latent 'x' is not a whole number of at least 1"),
        ("vae", {"latent": 0}, ValueError, "train: latent is 0, needs a whole number of at least 1"),
        (["ae"], {}, ValueError, "train: model is ['ae'], needs one of ae, vae, gan, dcgan"),
        (
            "ae",
            {"data": np.zeros(3)},
            TypeError,
            "train: data is ndarray, needs a name, a path,",
        ),
        ("ae", {"resume_from": ""}, ValueError, "'' is not a path"),
        ("vae", {"epoch": 3}, TypeError, "train: vae has no setting 'epoch': did you mean epochs?"),
        ("vae", {"epochs": 3, "steps": 3}, ValueError, "train: --epochs and --steps cannot be given together"),
        ("ae", {"latent": 1000}, ValueError, "train: --latent is 1000, needs no more than there are"),
        ("ae", {"data": "nowhere"}, FileNotFoundError, "'nowhere': is not a directory"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(model, settings, error, said, tmp_path):
    settings = {"data": "digits", **settings}
    with pytest.raises(error) as raised:
        sg.train(model, settings.pop("data"), **settings)
    assert str(raised.value).startswith(said)
    assert not (tmp_path / "runs").exists()


def test_natural_values_are_those_of_the_command_line():
    given = {
        "latent": np.int64(2),
        "lr": np.float32(0.5),
        "hidden": "6,5",
        "beta": 1,
        "image_size": (8, 8),
        "epochs": 1,
    }
    run = sg.train("vae", "digits", **given, seed=None, batch_size=30, quiet=True)
    line = "vae --data digits --latent 2 --lr 0.5 --hidden 6,5 --beta 1 --image-size 8 --epochs 1 --batch-size 30"
    assert tiny.run("train", *line.split(), "--quiet", "--out", "shell") == 0
    assert run.folder.config() == sg.recipes.load_run("shell").folder.config()
    assert sg.train("ae", "digits", epochs=1, evaluate=True, quiet=True, **SMALL).folder.measures() is not None


def test_points_that_are_given_have_their_modes():
    run = sg.train("gan", load("grid"), steps=2, hidden=[4], quiet=True)
    assert run.config["modes"] == 25
    again = sg.train("gan", load("grid"), resume_from=run.folder.path, steps=2, quiet=True)
    assert again.folder.ended
    with pytest.raises(ValueError, match=r"was given in Python, as .*: give it again"):
        sg.train("gan", resume_from=run.folder.path, quiet=True)


def test_the_learning_rate_is_the_full_one_again():
    run = sg.train("ae", "digits", epochs=1, decay="linear", lr=0.01, quiet=True, **SMALL)
    assert run.optimizers["optimizer"].lr == 0.01


def test_how_a_run_ends_early(monkeypatch, capsys):
    tiny.stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        sg.train("ae", "digits", epochs=1, quiet=True, out="run", **SMALL)
    assert "To go on:" in capsys.readouterr().out
    tiny.stop_after(monkeypatch, None)
    assert sg.train("ae", resume_from="run", quiet=True).folder.ended
    with pytest.raises(NotFinite):
        sg.train("ae", "digits", epochs=9, lr=1e30, quiet=True, **SMALL)


def test_a_notebook_shows_the_last_sheet_and_the_curves(monkeypatch):
    run = sg.train("ae", "digits", epochs=1, quiet=True, out="<run>", **SMALL)
    assert run._repr_html_().count("<img ") == 1  # there are no curves without pictures
    assert "&lt;run&gt;" in run._repr_html_()
    assert sg.recipes.load_run("<run>")._repr_html_() == run._repr_html_()
    (run.folder.path / "losses.png").write_bytes(b"")
    assert run._repr_html_().count("<img ") == 2
    assert sg.recipes.build(run.config)._repr_html_() is None
