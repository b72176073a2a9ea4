"""What the README and the pages that it leads to show works as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

import scratchgen as sg
import scratchgen.data
from scratchgen.cli import main

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "demos/RESULTS.md",
        *sorted(f"demos/guide/{path.name}" for path in (ROOT / "demos/guide").glob("*.md")),
    )
}
BLOCKS = [
    block for page in PAGES.values() for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
]
MINE, WRONG_VAE, ON_A_GPU, BY_HAND, A_MODEL, A_RUN, TRAINED = range(7)
SCREEN = 62  # lines of the README, of 130 letters at the most: one screen


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_block_is_tested_here():
    assert [block.split("\n")[0] for block in BLOCKS] == [
        "# mine.py",
        "# my_vae.py",
        "import numpy as np",
        "import numpy as np",
        "import numpy as np",
        "import numpy as np",
        "import numpy as np",
    ]


def test_a_layer_of_ones_own(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(BLOCKS[MINE], encoding="utf-8")
    assert main(["gradcheck", "mine.py:Scale(3)"]) == 0
    assert capsys.readouterr().out.count("all right") == 2  # vectors and images


def test_a_wrong_loss_and_what_the_page_says_of_it(tmp_path, capsys):
    (tmp_path / "my_vae.py").write_text(BLOCKS[WRONG_VAE], encoding="utf-8")
    assert main(["gradcheck", "--objective", "my_vae.py:MyVAE"]) == 1
    words = capsys.readouterr().out.split()
    figures = [word for word in words if re.fullmatch(r"-?[\d.]+", word)]
    shown = PAGES["demos/guide/check.md"]
    assert [word for word in words if word not in shown.split() and word not in figures] == []
    assert len([figure for figure in figures if figure in shown]) > 0.9 * len(figures)  # but for the last digit


def test_a_wrong_gradient_of_a_model_and_what_the_page_says_of_it(tmp_path, capsys):
    source = BLOCKS[WRONG_VAE].replace("std = np.exp(logvar)", "std = np.exp(0.5 * logvar)")
    (tmp_path / "vae.py").write_text(source, encoding="utf-8")
    assert main(["gradcheck", "vae.py:MyVAE"]) == 1
    said = next(line for line in capsys.readouterr().out.splitlines() if "the dy that encoder is given" in line)
    assert said in PAGES["demos/guide/check.md"]


def test_training_by_hand():
    names = {}
    exec(BLOCKS[BY_HAND], names)
    x = np.random.default_rng(1).standard_normal((64, 8), dtype=np.float32)
    t = x.sum(axis=1, keepdims=True)
    assert sg.mse(names["network"].predict(x), t)[0] < 0.05 * sg.mse(0 * t, t)[0]


def test_a_model_by_hand():
    names = {}
    exec(BLOCKS[A_MODEL], names)
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
    exec(BLOCKS[A_RUN], names)
    assert names["images"].shape == (16, 28, 28, 1)


def test_on_a_gpu(device):
    names = {}
    exec(BLOCKS[ON_A_GPU], names)
    assert device.name == "cupy"
    assert type(names["loss"]) is device.xp.ndarray
    assert type(names["pixels"]) is np.ndarray


def test_a_training_and_its_pictures():
    names = {}
    exec(BLOCKS[TRAINED], names)
    assert names["digits"].shape == (16, 28, 28, 1)
    assert len(names["losses"]) == 1
    assert names["run"].folder.records().epochs == 2


def test_the_readme_is_a_screen_with_four_ways_on():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= SCREEN
    ways = re.findall(r"^\| \*\*\[(\w+)\]\((.*?)\)", PAGES["README.md"], re.MULTILINE)
    assert {way for way, _ in ways} >= {"Study", "Train", "Check", "GPU"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_files_that_a_page_names_exist(page):
    text, folder = PAGES[page], (ROOT / page).parent
    for path in re.findall(r"`(?:python )?((?:scratchgen|tests|demos)/[\w/]+\.\w+)", text):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"\]\(([\w./]+)\)|src=\"([\w./]+)\"", text):
        path = "".join(path)
        assert (folder / path).exists(), path
    for command in re.findall(r"`scratchgen (\w+)", text):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0


def test_every_picture_is_shown_on_a_page():
    pictures = {path.name for path in (ROOT / "demos/pictures").iterdir()}
    shown = set(re.findall(r"pictures/([\w.]+)", "".join(PAGES.values())))
    assert pictures == shown


def test_every_page_is_reached_from_the_readme():
    for page in PAGES:
        assert page == "README.md" or f"]({page})" in PAGES["README.md"], page
