"""The command line: what it prints, what it writes, how it fails."""

import json
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from safetensors.numpy import load_file

import scratchgen as sg
from scratchgen.cli import main
from scratchgen.data import load_mnist, to_float
from scratchgen.gradcheck import Report
from scratchgen.measures import reconstruction_error
from scratchgen.weights import load_weights

QUICK = ["train", "ae", "--data", "sample", "--epochs", "2", "--latent", "8", "--quiet"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCRATCHGEN_DATA", raising=False)


def run(*argv):
    """Exit status of a command line, argparse's exits included."""
    try:
        return main(list(argv))
    except SystemExit as stop:
        return stop.code


def fails(capsys, *argv, status=2):
    """The one sentence that a failing command line says."""
    assert run(*argv) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder, and what was printed while it was made."""
    folder = tmp_path_factory.mktemp("runs") / "ae"
    done = subprocess.run(
        [sys.executable, "-m", "scratchgen", *QUICK, "--out", str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return folder, done.stdout


def test_train_ae_prints_both_errors_and_where_the_picture_is(trained):
    folder, printed = trained
    assert "10,000 training and 2,000 test digits" in printed
    errors = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith(("  autoencoder", "  PCA"))]
    assert len(errors) == 2
    assert f"picture  {folder / 'reconstructions.png'}" in printed
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert errors == pytest.approx([last["test_mse"], last["pca_test_mse"]], abs=1e-5)
    assert last["ratio"] == pytest.approx(last["test_mse"] / last["pca_test_mse"])


def test_run_folder_holds_everything(trained):
    folder, _ = trained
    files = {"config.json", "metrics.jsonl", "weights.safetensors", "loss.png", "reconstructions.png"}
    assert {p.name for p in folder.iterdir()} == files
    config = json.loads((folder / "config.json").read_text())
    assert (config["model"], config["latent"], config["epochs"], config["seed"]) == ("ae", 8, 2, 0)
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][:-1]
    assert [e["epoch"] for e in epochs] == [1, 2]
    assert epochs[1]["loss"] < epochs[0]["loss"]
    assert epochs[1]["test_mse"] < epochs[0]["test_mse"]
    for name in ("loss.png", "reconstructions.png"):
        pixels = matplotlib.image.imread(folder / name)
        assert min(pixels.shape[:2]) > 300
        assert pixels[..., :3].std() > 0.05


def test_saved_weights_give_the_printed_error(trained):
    folder, _ = trained
    model = sg.dense_autoencoder(latent=8)
    load_weights(model, folder / "weights.safetensors")
    error = reconstruction_error(model.reconstruct, load_mnist("sample").test_images)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert error == pytest.approx(last["test_mse"], rel=1e-6)


def test_picture_shows_originals_over_reconstructions(trained):
    """The first row of the picture is the digit 0 of the test images, the second its reconstruction."""
    folder, _ = trained
    data = load_mnist("sample")
    zero = to_float(data.test_images[data.test_labels == 0][:1])
    model = sg.dense_autoencoder(latent=8)
    load_weights(model, folder / "weights.safetensors")
    pixels = matplotlib.image.imread(folder / "reconstructions.png")[..., 0]
    side = pixels.shape[0] // 3
    left = pixels.shape[1] - 12 * side
    scale = side / 30  # 28 pixels and a margin of one on each side
    at = (np.arange(1, 29) + 0.5) * scale
    for row, image in enumerate((zero[0], model.reconstruct(zero)[0])):
        shown = pixels[np.ix_((row * side + at).astype(int), (left + at).astype(int))]
        np.testing.assert_allclose(shown, image[..., 0], atol=0.02)


def test_same_seed_same_weights_other_seed_others(tmp_path):
    tiny_mnist(tmp_path / "digits")
    for out, seed in (("first", "3"), ("again", "3"), ("other", "4")):
        argv = ("train", "ae", "--data", "digits", "--epochs", "2", "--quiet", "--out", out, "--seed", seed)
        assert run(*argv) == 0
    first, again, other = (load_file(tmp_path / out / "weights.safetensors") for out in ("first", "again", "other"))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first if name.endswith("W"))


@pytest.mark.parametrize(
    "options", [("--arch", "conv", "--epochs", "1"), ("--loss", "squared-error", "--epochs", "1")]
)
def test_other_architecture_and_loss(options, tmp_path, monkeypatch, capsys):
    tiny_mnist(tmp_path / "digits")
    assert run("train", "ae", "--data", "digits", "--latent", "4", "--quiet", *options) == 0
    assert "ratio" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").iterdir())) == 1


def tiny_mnist(folder):
    """200 training and 100 test digits in the format of the original files."""
    from scratchgen.data import write_idx
    from scratchgen.data.mnist import FILES

    data = load_mnist("sample")
    folder.mkdir()
    arrays = (data.train_images[:200, ..., 0], data.train_labels[:200], data.test_images[:100, ..., 0])
    for name, array in zip(FILES, (*arrays, data.test_labels[:100]), strict=True):
        write_idx(folder / name, array)


def test_a_run_is_never_written_over(trained, tmp_path, capsys):
    folder, _ = trained
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert "choose another folder with --out" in fails(capsys, *QUICK, "--out", str(folder))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    tiny_mnist(tmp_path / "digits")
    for _ in range(2):
        assert run("train", "ae", "--data", "digits", "--epochs", "1", "--latent", "4", "--quiet") == 0
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"ae-dense", "ae-dense-2"}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, capsys):
    tiny_mnist(tmp_path / "digits")
    said = fails(capsys, "train", "ae", "--data", "digits", "--lr", "1e30", "--quiet", "--out", "run", status=1)
    assert "no longer finite in epoch" in said
    assert "lower learning rate" in said
    for weights in (tmp_path / "run").glob("*.safetensors"):
        assert all(np.isfinite(a).all() for a in load_file(weights).values())


def test_ctrl_c_keeps_what_was_saved(tmp_path, monkeypatch, capsys):
    tiny_mnist(tmp_path / "digits")
    steps = []

    def interrupted(self, x, optimizer):
        steps.append(x)
        if len(steps) > 3:
            raise KeyboardInterrupt
        return np.float32(1)

    monkeypatch.setattr(sg.Autoencoder, "train_step", interrupted)
    argv = ("train", "ae", "--data", "digits", "--epochs", "5", "--quiet", "--out", "run", "--latent", "4")
    assert run(*argv) == 130
    assert "what was saved stays" in capsys.readouterr().err
    assert (tmp_path / "run" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "COMMAND"),
        (["train"], "MODEL"),
        (["train", "diffusion"], "invalid choice: 'diffusion'"),
        ([*QUICK, "--latent", "0"], "--latent"),
        ([*QUICK, "--latent", "1000"], "784 pixels"),
        ([*QUICK, "--epochs", "two"], "whole number"),
        ([*QUICK, "--lr", "-1"], "positive number"),
        ([*QUICK, "--lr", "nan"], "positive number"),
        ([*QUICK, "--seed", "-1"], "at least 0"),
        ([*QUICK, "--nonsense"], "--nonsense"),
        (["train", "ae", "--data", "no/such/folder"], "missing: train-images-idx3-ubyte.gz"),
        (["gradcheck", "Conv3d"], "there is no built-in Conv3d; there are Dense"),
        (["gradcheck", "Dense", "--input-shape", "2,3"], "go with a layer of your own"),
        (["gradcheck", "mine.py:f", "--input-range", "2,1"], "no range"),
        (["gradcheck", "mine.py:f", "Dense"], "calls of their own"),
        (["gradcheck", "Dense", "--mutants"], "leave out the names"),
        (["gradcheck", "--tolerance", "0"], "--tolerance"),
        (["gradcheck", "--seed", "-1"], "--seed"),
        (["gradcheck", "no.py:Layer"], "no.py is not a file"),
        (["gradcheck", "layer.py"], "path/to/file.py:MyLayer"),
    ],
)
def test_usage_errors_are_one_sentence_and_status_2(argv, says, capsys, tmp_path):
    assert says in fails(capsys, *argv)
    assert not list(tmp_path.iterdir()), "something was made before the arguments were checked"


def test_asking_for_a_gpu_where_there_is_none_says_what_is_missing(capsys, tmp_path):
    if not why_no_gpu():
        pytest.skip("there is a GPU here")
    assert why_no_gpu() in fails(capsys, *QUICK, "--backend", "cupy")
    assert not list(tmp_path.iterdir())


def why_no_gpu() -> str:
    try:
        sg.Dense(1, 1).to("cupy")
    except sg.BackendUnavailable as error:
        return str(error)
    return ""


def test_info(capsys):
    assert run("info") == 0
    printed = capsys.readouterr().out
    for word in ("scratchgen", "NumPy", "BLAS", "threads", "GPU"):
        assert word in printed


def test_version(capsys):
    assert run("--version") == 0
    assert sg.__version__ in capsys.readouterr().out


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
    assert "kernel flipped in dW" in printed
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


def test_files_that_cannot_be_had_are_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert "file" in fails(capsys, *QUICK, "--out", "file/run")
    monkeypatch.setenv("SCRATCHGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("scratchgen.data.mnist.MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setattr("scratchgen.data.mnist.PAUSE", 0)
    monkeypatch.setattr(
        "scratchgen.data.mnist.download_mnist.__kwdefaults__",
        {"mirrors": ("http://127.0.0.1:9/",), "progress": False},
    )
    assert run("train", "ae", "--data", "download", "--quiet") == 2
    said = capsys.readouterr().err
    assert "no mirror gave it" in said
    assert "Traceback" not in said


def test_input_range(layers, capsys):
    assert "not finite" in fails(capsys, "gradcheck", f"{layers}:logarithm")
    assert run("gradcheck", f"{layers}:logarithm", "--input-range", "0.1,5") == 0


def test_gradients_only_leaves_the_contract_out(layers, capsys):
    assert run("gradcheck", f"{layers}:Late") == 1
    assert "FAULT: backward uses the parameters as they are when it runs" in capsys.readouterr().out
    assert run("gradcheck", f"{layers}:Late", "--gradients-only") == 0


def test_report_of_nothing_is_right():
    assert Report("empty").ok
    assert Report("empty").error == 0
