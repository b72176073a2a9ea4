"""Situations that users of such software have reported in public: the surroundings, odd arrays, copies."""

import copy
import io
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny

import scratchgen as sg
from scratchgen import Adam, Dense, Parameter, Sequential, Sigmoid, frozen
from scratchgen.backend import threads
from scratchgen.cli import main
from scratchgen.gradcheck.student import load
from scratchgen.gradcheck.trials import CannotCheck
from scratchgen.interpolation import spherical
from scratchgen.paths import as_path
from scratchgen.plots import Panel, curves, load_matplotlib, write_figure
from scratchgen.recipes import config_of, load_run
from scratchgen.recipes.options import identity
from scratchgen.training import RunFolder
from scratchgen.version import __version__

# --- pictures, whatever the user's matplotlib is told ---

PICTURE = """
import hashlib, io, os, sys
from scratchgen.plots import Panel, curves, write_figure
figure = curves([{"epoch": e, "loss": e * e} for e in range(4)], [Panel("loss, 10$^3$ %", {"loss": "a_b & c"})])
stream = io.BytesIO()
write_figure(figure, stream)
print(hashlib.sha256(stream.getvalue()).hexdigest(), os.environ.get("MPLBACKEND"))
"""


def python(code: str, cwd, *, closed: str = "", **environment) -> subprocess.CompletedProcess:
    """Run Python code in that folder, with these variables, and without the streams that the shell closes."""
    command = f'exec {sys.executable} -c "$CODE" {closed}'
    env = {**os.environ, "CODE": code, **environment}
    return subprocess.run(["sh", "-c", command], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return python(PICTURE, tmp_path_factory.mktemp("plain")).stdout.split()[0]


@pytest.mark.parametrize("backend", ["junk", "module://matplotlib_inline.nowhere", "qtagg", "TkAgg", ""])
def test_a_backend_that_is_not_there_is_not_asked_for(backend, plain, tmp_path):
    ran = python(PICTURE, tmp_path, MPLBACKEND=backend)
    assert ran.stdout.split() == [plain, *backend.split()], ran.stderr


@pytest.mark.parametrize(
    "settings",
    [
        "text.usetex: True",
        "savefig.format: pdf\nsavefig.bbox: tight\nsavefig.dpi: 7",
        "font.family: Nowhere\nfont.size: 40\naxes.spines.left: False",
        "figure.dpi: banana\nno such key: 1\nlines.linewidth: 9",
        "backend: junk",
    ],
    ids=["LaTeX", "savefig", "fonts", "damaged", "backend"],
)
def test_pictures_are_the_same_whatever_a_matplotlibrc_says(settings, plain, tmp_path):
    (tmp_path / "matplotlibrc").write_text(settings)
    ran = python(PICTURE, tmp_path)
    assert ran.stdout.split()[:1] == [plain], ran.stderr


def test_a_style_of_the_programs_own_stays_and_does_not_show():
    matplotlib = load_matplotlib()

    def picture() -> bytes:
        stream = io.BytesIO()
        write_figure(curves([{"epoch": e, "loss": e} for e in range(3)], [Panel("loss", {"loss": "all"})]), stream)
        return stream.getvalue()

    usual = picture()
    with matplotlib.rc_context({"lines.linewidth": 9, "savefig.facecolor": "red", "text.usetex": True}):
        assert picture() == usual
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_settings_that_matplotlib_cannot_read_are_said_before_a_run_begins(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    train = "import sys; from scratchgen.cli import main; sys.exit(main(['train', 'vae', '--out', 'run']))"
    ran = python(train, tmp_path)
    assert ran.returncode == 2
    assert "matplotlibrc" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "run").exists()
    assert python("from scratchgen.cli import main; main(['info'])", tmp_path).returncode == 0  # which draws nothing


def test_the_command_line_starts_without_matplotlib(tmp_path):
    ran = python("import sys, scratchgen.cli; print('matplotlib' in sys.modules)", tmp_path)
    assert ran.stdout.split() == ["False"], ran.stderr


# --- streams that are closed ---

TRAIN = """
import pathlib
import sys
import tiny
from scratchgen.cli import main
data = str(tiny.photos(pathlib.Path("photos")))
sys.exit(main(["train", "vae", "--data", data, "--image-size", "8", "--epochs", "1", "--out", "run"]))
"""


@pytest.mark.skipif(os.name == "nt", reason="closes streams as a shell does")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_streams(closed, tmp_path):
    ran = python(TRAIN, tmp_path, closed=closed, PYTHONPATH=os.path.dirname(__file__))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "run" / "weights.safetensors").is_file()


# --- arrays that are none of NumPy's plain ones ---


def reversed_axes(a):
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def every_other(a):
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    wide[(slice(None, None, 2),) * a.ndim] = a
    return wide[(slice(None, None, 2),) * a.ndim]


def unaligned(a):
    found = np.ndarray(a.shape, a.dtype, buffer=bytearray(a.nbytes + 1), offset=1)
    found[...] = a
    assert not found.flags.aligned
    return found


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


class Own(np.ndarray):
    pass


FORMS = [reversed_axes, every_other, unaligned, read_only, np.asfortranarray, lambda a: a.view(Own)]
LAYERS = {
    "dense": (lambda r: Dense(6, 5, rng=r), (4, 6)),
    "conv": (lambda r: sg.Conv2d(3, 4, 4, stride=2, padding=1, rng=r), (2, 6, 8, 3)),
    "transposed": (lambda r: sg.ConvTranspose2d(3, 4, 4, stride=2, padding=1, rng=r), (2, 5, 6, 3)),
    "batchnorm": (lambda r: sg.BatchNorm(3), (4, 5, 5, 3)),
    "shapes": (lambda r: Sequential(sg.Flatten(), sg.Reshape(6, 5), sg.LeakyReLU(), sg.Tanh()), (4, 5, 6)),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__.strip("<>"))
@pytest.mark.parametrize("name", LAYERS)
def test_an_array_may_lie_in_memory_as_it_likes(form, name, rng):
    make, shape = LAYERS[name]
    x = rng.standard_normal(shape, np.float32)
    found = []
    for lie in (np.array, form):
        layer = make(np.random.default_rng(1))
        given = lie(x)
        y, backward = layer.forward(given)
        dy = lie(np.random.default_rng(2).standard_normal(y.shape, np.float32))
        kept = np.array(dy)
        found.append([y, backward(dy), layer.predict(given), *(p.grad for p in layer.parameters())])
        np.testing.assert_array_equal(given, x)
        np.testing.assert_array_equal(dy, kept)
    for wanted, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (lambda a: a.view(np.matrix), "asarray"),
        (lambda a: np.ma.masked_array(a, mask=a > 0), "filled"),
        (np.ma.masked_array, "filled"),
    ],
    ids=["matrix", "masked", "nothing masked"],
)
def test_arrays_that_compute_otherwise_are_refused(kind, word, rng):
    x = rng.standard_normal((4, 4), np.float32)
    layer, odd = Sequential(Dense(4, 4), Sigmoid()), kind(x)
    y, backward = layer.forward(x)
    for call in (
        lambda: layer.forward(odd),
        lambda: Sigmoid().predict(odd),
        lambda: backward(odd),
        lambda: sg.mse(y, odd),
        lambda: sg.softmax_cross_entropy(odd, x),
        lambda: Parameter("w", odd),
    ):
        with pytest.raises(TypeError, match=word):
            call()
    assert sum(float(np.abs(p.grad).sum()) for p in layer.parameters()) == 0


# --- gradients that the user sets, copies ---


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (None, TypeError),
        (0, TypeError),
        ([[0.0] * 5] * 6, TypeError),
        (np.zeros((6, 5)), TypeError),  # of a clip by a NumPy number, say: SGD would make the value float64
        (np.zeros((6, 5), np.float16), TypeError),
        (np.zeros((5, 6), np.float32), ValueError),
    ],
    ids=["None", "0", "list", "float64", "float16", "shape"],
)
def test_a_gradient_is_an_array_like_the_value(new, error):
    layer = Dense(6, 5)
    before = layer.W.grad
    with pytest.raises(error, match=r"W.*grad"):
        layer.W.grad = new
    assert layer.W.grad is before


def test_a_clipped_gradient_is_taken():
    layer = Dense(6, 5)
    layer.W.grad = np.full((6, 5), 3, np.float32)
    layer.W.grad *= np.float64(0.5)
    layer.W.grad = layer.W.grad * 0.5
    sg.SGD(layer.parameters(), 1.0).step()
    assert layer.W.value.dtype == np.float32


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: pickle.loads(pickle.dumps(m, 2))],
    ids=["deepcopy", "pickle", "pickle 2"],
)
def test_a_copy_is_not_frozen_with_its_original(duplicate):
    layer = Sequential(Dense(3, 2), sg.BatchNorm(2))
    x, dy = (np.random.default_rng(0).standard_normal((4, n), np.float32) for n in (3, 2))
    with frozen(layer):
        with frozen(layer):
            twin = duplicate(layer)
        assert not any(p.frozen for p in twin.parameters())
        optimizer = Adam(twin.parameters())
        backward = twin.forward(x)[1]
        backward(dy)
        before = [p.value for p in twin.parameters()]
        optimizer.step()
    assert all((p.value != old).any() for p, old in zip(twin.parameters(), before, strict=True))
    with frozen(twin):
        assert all(p.frozen for p in twin.parameters())
    assert not any(p.frozen for p in layer.parameters())


class Named(Parameter):
    """A parameter of the user's own, with more to it."""


def test_a_copy_keeps_what_a_subclass_adds():
    p = Named("w", np.ones(3, np.float32))
    p.unit = "nats"
    for twin in (copy.deepcopy(p), copy.copy(p), pickle.loads(pickle.dumps(p))):
        assert (type(twin), twin.unit, twin.name) == (Named, "nats", "w")


def test_a_copy_has_values_and_gradients_of_its_own():
    layer = Dense(3, 2)
    layer.W.grad = np.ones((3, 2), np.float32)
    twin = copy.deepcopy(layer)
    twin.W.value = twin.W.value + 1
    twin.W.grad += 1
    assert (twin.W.name, layer.W.grad.max(), twin.W.grad.max()) == ("W", 1, 2)
    np.testing.assert_array_equal(twin.W.value, layer.W.value + 1)


# --- walks ---


def test_a_walk_from_nowhere_is_straight():
    t, b = np.linspace(0, 1, 5, dtype=np.float32)[:, None], np.array([[3.0, 4.0]], np.float32)
    zero = np.zeros_like(b)
    np.testing.assert_allclose(spherical(zero, b, t), t * b, rtol=1e-6)
    np.testing.assert_allclose(spherical(b, zero, t), (1 - t) * b, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(spherical(zero, zero, t), np.zeros((5, 2)))
    both = spherical(np.concatenate([zero, b])[:, None], np.concatenate([b, b])[:, None], t)  # a batch with one in it
    np.testing.assert_allclose(both, np.stack([t * b, np.broadcast_to(b, (5, 2))]), rtol=1e-6)


# --- containers ---

QUOTAS = {
    "a container's own group": ({"cpu.max": "250000 100000\n"}, "0::/\n", 2),
    "its name on the host": ({"cpu.max": "250000 100000\n"}, "0::/docker/4f3a\n", 2),
    "less than one core": ({"cpu.max": "50000 100000\n"}, "0::/\n", 1),
    "no limit": ({"cpu.max": "max 100000\n"}, "0::/\n", None),
    "a slice above": ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 1),
    "another group": ({"a/cpu.max": "100000 100000"}, "0::/b\n", None),
    "version 1": (
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        "9:memory:/x\n4:cpu,cpuacct:/docker/4f3a\n",
        2,
    ),
    "version 1, no limit": (
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        "4:cpu,cpuacct:/\n",
        None,
    ),
    "nonsense": ({"cpu.max": "what\n"}, "0::/\n", None),
    "a period of 0": ({"cpu.max": "100 0\n"}, "0::/\n", None),
    "nothing": ({}, "", None),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_a_containers_quota_of_cores_is_kept(case, tmp_path, monkeypatch):
    files, own, wanted = QUOTAS[case]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    assert threads.cores(tmp_path / "cgroup", tmp_path / "own") == (wanted or 8)


def test_the_cores_are_all_where_nobody_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert threads.cores(tmp_path / "none", tmp_path / "nothing") == 3


# --- what a sentence has to say ---


@pytest.mark.parametrize("dtype", [">f4", ">f8", np.float16, np.longdouble, ">i4", bool])
def test_what_can_be_converted_is_told_how(dtype):
    with pytest.raises(TypeError, match=r"needs float32 or float64: convert it, x\.astype\(np\.float32\)"):
        Dense(6, 5).forward(np.ones((4, 6)).astype(dtype))
    with pytest.raises(TypeError, match=r"needs float32 or float64$"):
        Dense(6, 5).forward(np.ones((4, 6), complex))


@pytest.mark.parametrize(
    ("text", "home", "says"),
    [("~/x", None, "the home folder is unknown"), ("~nosuch/x", "/", "there is no user nosuch")],
)
def test_a_home_that_nobody_knows(text, home, says, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the password file has no such user
    with pytest.raises(ValueError, match=f"{says}.*is ./{text}"):
        as_path(text)


@pytest.mark.parametrize("model", [sg.dcgan, sg.dense_gan, None])
@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_model_that_was_converted_draws_noise_that_it_takes(model, prior, dtype, rng):
    made = model((8, 8, 1), latent=2, prior=prior) if model else sg.point_gan(prior=prior)
    z = made.astype(dtype).noise(4, rng)
    assert z.dtype == dtype
    assert made.generate(z).dtype == dtype


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_vae_that_was_converted_draws_noise_that_it_takes(dtype, rng):
    made = sg.dense_vae((4, 4, 1), latent=2, hidden=(5,)).astype(dtype)
    eps = made.noise(3, rng)
    assert eps.dtype == dtype
    made.loss(rng.random((3, 4, 4, 1)).astype(dtype), eps)


# --- files ---


@pytest.mark.parametrize("stem", ["a" * 243, "ä" * 121, "日" * 81, "x"])
def test_any_name_that_the_system_takes_can_be_written(stem, tmp_path):
    path = tmp_path / f"{stem}.safetensors"
    layer = Dense(2, 3)
    sg.save_weights(layer, path)
    sg.load_weights(Dense(2, 3), path)
    assert os.listdir(tmp_path) == [path.name]
    assert len(os.fsencode(path.name)) <= 255


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny VAE's run, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        tiny.folder_with_data(folder, patch)
        assert main(["train", *tiny.MODELS["vae"], "--quiet", "--epochs", "1", "--out", "run"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of that run, to work on in the folder above it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    tiny.no_pictures(monkeypatch)
    return tmp_path / "run"


def failing(capsys, *argv) -> str:
    """What a command that cannot be run says, in one line."""
    assert main([str(word) for word in argv]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("file", ["checkpoint.safetensors", "weights.safetensors", "samples/epoch-001.png"])
def test_a_file_of_a_run_is_told_from_its_folder(file, run, capsys):
    (run / file).parent.mkdir(exist_ok=True)
    (run / file).touch()
    for command in (("train", "vae", "--resume"), ("sample",)):
        assert f"is not a run folder: it is a file, give {run}\n" in failing(capsys, *command, f"run/{file}")
    alone = run.parent / "weights.safetensors"
    alone.touch()
    assert "it is a file, give the folder that train made" in failing(capsys, "sample", alone)


@pytest.mark.parametrize(
    ("settings", "version", "says"),
    [
        ({"curriculum": "hard"}, "99.0", "'curriculum' is unknown here"),
        ({"arch": "transformer"}, "99.0", "arch is 'transformer', needs one of"),
        ({"model": "diffusion"}, "99.0", "the run is of a model 'diffusion'"),
        ({"lr": [1e-3, 1e-4]}, "99.0", "lr is"),
        ({"curriculum": "hard"}, __version__, "is damaged: it is not what the run was started with"),
        ({}, "99.0", None),
    ],
)
def test_a_run_of_another_version_is_taken_as_far_as_it_is_known(settings, version, says, run, capsys):
    config = json.loads((run / "config.json").read_text()) | settings | {"scratchgen": version}
    if version != __version__:  # which is another's: its digest is right
        config["id"] = identity(config)
    (run / "config.json").write_text(json.dumps(config))
    if says is None:
        config_of(RunFolder.open(run))
        return
    said = failing(capsys, "train", "vae", "--resume", "run")
    assert says in said
    assert (f"config.json was written by scratchgen '{version}', go on with that" in said) == (version != __version__)


def test_of_no_samples_nothing_is_computed(run):
    recipe = load_run(run)
    for call, shape in ((recipe.generate, (0, 3)), (recipe.encode, (0, 8, 8, 1)), (recipe.reconstruct, (0, 8, 8, 1))):
        with pytest.raises(ValueError, match="needs at least one sample"):
            call(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("name", "samples", "status"),
    [("vae", 512, 0), ("ae", 512, 0), ("vae-gaussian", 512, 0), ("vae", 16, 1), ("gan", 16, 1), ("dcgan", 8, 1)],
)
def test_weights_that_blow_up_come_with_advice(name, samples, status, run, capsys, recwarn):
    """In the only step of the epoch, so that the measures meet them, or in one before."""
    options = ["--batch-size", str(samples), "--epochs", "1", "--lr", "1e37"]
    assert main(["train", *tiny.MODELS[name], *options, "--quiet", "--out", "large"]) == status
    said = capsys.readouterr()
    assert "a lower learning rate" in said.err
    assert "nan" not in said.out + said.err
    assert not recwarn.list


@pytest.mark.parametrize("setting", ["two", "0", "-3", "1.5", "\x1b[2J"])
def test_a_number_of_threads_that_is_none_is_said(setting, monkeypatch, capsys):
    monkeypatch.setenv("SCRATCHGEN_THREADS", setting)
    assert main(["info"]) == 0
    assert f"note: SCRATCHGEN_THREADS is {setting!r}, needs a whole number of at least 1" in capsys.readouterr().err
    for good in ("1", "1,2", " 1 ", ""):
        monkeypatch.setenv("SCRATCHGEN_THREADS", good)
        assert main(["info"]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not have")
@pytest.mark.parametrize("odd", ["p\x1b[31m", "p\r\n", "p\x9b2J", "p\u202e"])
def test_names_of_files_are_no_commands_to_a_terminal(odd, run, capsys):
    data = tiny.photos(run.parent / odd)
    (data / f"bad{odd}.png").write_bytes(b"x")
    quick = "--image-size", "8", "--hidden", "4", "--latent", "2", "--epochs", "1", "--quiet"
    out = f"out{odd}"
    assert main(["train", "ae", "--data", str(data), *quick, "--out", out]) == 0
    assert main(["evaluate", out, "--quiet"]) == 0
    failed = main(["train", "vae", "--data", f"none{odd}", *quick])
    said = capsys.readouterr()
    assert failed == 2
    for text in (said.out, said.err):
        assert "".join(text.split("\n")).isprintable(), ascii(text)
    assert repr(odd)[1:-1] in said.out


@pytest.mark.parametrize(("model", "count"), [("dcgan", 2), ("gan", 2), ("dcgan", 12)])
def test_too_few_images_are_told_from_too_small_a_batch(model, count, run, capsys):
    tiny.photos(run.parent / "few", count)
    size = () if count == 2 else ("--batch-size", "1")
    said = failing(capsys, "train", model, "--data", "few", "--image-size", "8", *size)
    assert ("there is 1 training image, needs at least 2" in said) == (count == 2)
    assert ("the batch size is 1, needs at least 2" in said) == (count != 2)


# --- own files that are to be checked ---

NEAR = "import scratchgen\nMine = lambda: scratchgen.Dense(3, 2)\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """own({name: text}) writes files, of which what they import is forgotten at the end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("files", "target"),
    [
        ({"lab1/__init__.py": "", "lab1/a.py": NEAR, "lab1/b.py": "from .a import Mine\n"}, "lab1/b.py"),
        (
            {
                "lab2/__init__.py": "",
                "lab2/a.py": NEAR,
                "lab2/deep/__init__.py": "from . import b\n",
                "lab2/deep/b.py": "from ..a import Mine\nfrom lab2 import a\n",
            },
            "lab2/deep/b.py",
        ),
        ({"lab3/__init__.py": NEAR, "lab3/b.py": "from . import Mine\nimport c\n", "lab3/c.py": ""}, "lab3/b.py"),
        ({"lab4/a4.py": NEAR, "lab4/b.py": "from a4 import Mine\n"}, "lab4/b.py"),
    ],
    ids=["neighbour", "two levels", "the package itself", "no package"],
)
def test_a_file_may_import_its_package(files, target, own):
    found = load(f"{own(files) / target}:Mine()", np.random.default_rng(0))
    assert isinstance(found, Dense)


def test_a_relative_import_outside_of_a_package_says_what_is_missing(own):
    folder = own({"lab5/a.py": NEAR, "lab5/b.py": "from .a import Mine\n"})
    with pytest.raises(CannotCheck, match=r"line 1: .*; an empty __init__\.py makes its folder one"):
        load(f"{folder / 'lab5/b.py'}:Mine()", np.random.default_rng(0))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_a_file_in_another_encoding(encoding, own):
    text = NEAR.encode(encoding)
    folder = own({"mine.py": b"\xfe\xff" + text if encoding == "utf-16-be" else text})
    if encoding == "utf-8-sig":
        assert isinstance(load(f"{folder / 'mine.py'}:Mine()", np.random.default_rng(0)), Dense)
        return
    with pytest.raises(CannotCheck, match="it is UTF-16, save it as UTF-8"):
        load(f"{folder / 'mine.py'}:Mine()", np.random.default_rng(0))


@pytest.mark.parametrize("masked", [[2], [0, 3]])
def test_logits_that_are_masked_with_minus_infinity(masked):
    """A class of probability 0 adds nothing to the loss, and takes no gradient: 0 log 0 is 0."""
    logits = np.random.default_rng(0).standard_normal((5, 4))
    logits[:, masked] = -np.inf
    kept = [k for k in range(4) if k not in masked]
    labels = np.array(kept)[np.arange(5) % len(kept)]
    loss, dlogits = sg.softmax_cross_entropy(logits, labels)
    alone, dkept = sg.softmax_cross_entropy(logits[:, kept], np.searchsorted(kept, labels))
    assert loss == pytest.approx(alone)
    np.testing.assert_allclose(dlogits[:, kept], dkept)
    assert not dlogits[:, masked].any()
