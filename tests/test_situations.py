"""Situations that users of such software have reported in public: the surroundings, odd arrays, copies."""

import copy
import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Adam, Dense, Parameter, Sequential, Sigmoid, frozen
from scratchgen.backend import threads
from scratchgen.interpolation import spherical
from scratchgen.plots import Panel, curves, load_matplotlib, write_figure

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


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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
    x = np.random.default_rng(0).standard_normal((4, 3), np.float32)
    with frozen(layer):
        with frozen(layer):
            twin = duplicate(layer)
        assert not any(p.frozen for p in twin.parameters())
        optimizer = Adam(twin.parameters())
        y, backward = twin.forward(x)
        backward(y)
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
