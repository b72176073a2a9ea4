"""Run folders of an earlier version (`old_files/README.md`): models compute the same, and training goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

import scratchgen as sg
import scratchgen.data
from scratchgen.cli import main
from scratchgen.recipes import build, load_run
from scratchgen.training import RunFolder
from scratchgen.weights import load_weights

OLD = Path(__file__).parent / "old_files"
# Of the second epoch, as that version went on with the run.
NEXT_EPOCH = {
    "ae": {"loss": 484.46866, "test_loss": 434.74876, "test_mse": 0.1633921},
    "ae_conv": {"loss": 69.174602, "test_loss": 73.13997, "test_mse": 0.09329079},
    "vae": {"loss": 280.29145, "kl": 13.250128, "test_loss": 246.82786},
    "gan": {"d_loss": 1.3941101, "g_loss": 0.71044259, "D(x)": 0.48894505},
    "dcgan": {"d_loss": 0.35900714, "g_loss": 1.9649669, "D(x)": 0.88265049},
}


@pytest.mark.parametrize("name", NEXT_EPOCH)
def test_an_old_model_predicts_what_it_did(name):
    """Loaded as a run, and from the weights file alone."""
    from_file = build(RunFolder.open(OLD / name).config()).model
    load_weights(from_file, OLD / name / "weights.safetensors")
    expected = load_file(OLD / name / "outputs.safetensors")
    networks = {key.partition(".")[0] for key in expected}
    assert len(networks) == 2
    for model in (load_run(OLD / name).model, from_file):
        for network in networks:
            y = getattr(model, network).predict(expected[f"{network}.input"])
            np.testing.assert_allclose(y, expected[f"{network}.output"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NEXT_EPOCH)
def test_an_old_run_goes_on(name, tmp_path, monkeypatch):
    """Settings that came later have for it the values of today's defaults, which may be given."""
    tiny.no_pictures(monkeypatch)
    run = shutil.copytree(OLD / name, tmp_path / name)
    argv = ["train", name.partition("_")[0], "--resume", str(run), "--epochs", "2", "--quiet"]
    assert main([*argv, "--optimizer", "adamw"]) == main([*argv, "--warmup", "1"]) == 2
    assert main([*argv, "--optimizer", "adam", "--warmup", "0"]) == 0
    epochs = [record for record in tiny.records(run) if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [1, 2]
    rounding = 1e-2 if name == "dcgan" else 1e-5  # grows from step to step, in a GAN of images most
    assert {key: epochs[1][key] for key in NEXT_EPOCH[name]} == pytest.approx(NEXT_EPOCH[name], rel=rounding)


def test_a_dcgan_from_before_its_smallest_side_was_a_setting(tmp_path, rng):
    """Images were halved until a side was at most 7, which is no longer the default."""
    model = sg.dcgan((28, 28, 1), latent=4, width=2, smallest=7, rng=rng)
    config = {k: v for k, v in RunFolder.open(OLD / "dcgan").config().items() if k != "smallest"}
    folder = RunFolder.create(tmp_path / "run", config)
    sg.save_weights(model, folder.weights)
    z = rng.standard_normal((2, 4), np.float32)
    assert np.array_equal(load_run(folder.path).model.generate(z), model.generate(z))


def test_a_run_of_the_data_that_was_called_download_goes_on(tmp_path, monkeypatch):
    """All of MNIST has one name now."""
    tiny.no_pictures(monkeypatch)
    run = shutil.copytree(OLD / "ae", tmp_path / "ae")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": "download"}))
    asked = []

    def load(source, **options):
        asked.append(source)
        return sg.data.load("sample", **options)

    for module in ("train", "trained"):
        monkeypatch.setattr(f"scratchgen.commands.{module}.load", load)
    assert main(["train", "ae", "--resume", str(run), "--epochs", "2", "--quiet"]) == 0
    assert main(["reconstruct", str(run), "--output", str(tmp_path / "r.png")]) == 0
    assert asked == ["mnist", "mnist"]
