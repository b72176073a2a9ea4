"""What the README shows works as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

import scratchgen as sg
import scratchgen.data
from scratchgen.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_block_is_tested_here():
    assert [block.split("\n")[0] for block in BLOCKS] == [
        "# mine.py",
        "import numpy as np",
        "import numpy as np",
        "import numpy as np",
        "import numpy as np",
    ]


def test_a_layer_of_ones_own(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(BLOCKS[0], encoding="utf-8")
    assert main(["gradcheck", "mine.py:Scale(3)"]) == 0
    assert capsys.readouterr().out.count("all right") == 2  # vectors and images


def test_training_by_hand():
    names = {}
    exec(BLOCKS[1], names)
    x = np.random.default_rng(1).standard_normal((64, 8), dtype=np.float32)
    t = x.sum(axis=1, keepdims=True)
    assert sg.mse(names["network"].predict(x), t)[0] < 0.05 * sg.mse(0 * t, t)[0]


def test_a_model_by_hand():
    names = {}
    exec(BLOCKS[2], names)
    assert names["d_optimizer"].t == names["g_optimizer"].t == 1


def test_a_run_again(tmp_path):
    digits = sg.data.load("sample")
    for name, images in (("train", digits.train_images[:8]), ("t10k", digits.test_images[:4])):
        labels = (digits.train_labels if name == "train" else digits.test_labels)[: len(images)]
        sg.data.write_idx(tmp_path / f"{name}-images-idx3-ubyte", images[..., 0])
        sg.data.write_idx(tmp_path / f"{name}-labels-idx1-ubyte", labels)
    switches = ["--width", "1", "--epochs", "1", "--batch-size", "4", "--quiet", "--data", str(tmp_path)]
    assert main(["train", "dcgan", *switches]) == 0
    names = {}
    exec(BLOCKS[3], names)
    assert names["images"].shape == (16, 28, 28, 1)


def test_on_a_gpu(device):
    names = {}
    exec(BLOCKS[4], names)
    assert device.name == "cupy"
    assert type(names["loss"]) is device.xp.ndarray
    assert type(names["pixels"]) is np.ndarray


def test_commands_and_files_that_it_names_exist():
    root = Path(__file__).parents[1]
    for path in re.findall(r"`((?:scratchgen|tests|demos)/[\w/]+\.\w+)`", README):
        assert (root / path).is_file(), path
    for path in re.findall(r"\]\(([\w/]+\.png)\)", README):
        assert (root / path).is_file(), path
    for command in re.findall(r"`scratchgen (\w+)", README):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
