"""--backend and --precision: the same run on either array library, moved from one to the other, with steps that never
wait for a GPU; and what is said where there is none.

`device` stands for the strict stand-in, and for CuPy itself (pytest -m gpu).
"""

import contextlib
import importlib.util
import inspect
import json
import re
import sys
import time
import types
from pathlib import Path

import backends as backends_of_tests
import numpy as np
import pytest
import tiny
from tiny import MODELS, run

import scratchgen as sg
from scratchgen import backend as backends
from scratchgen.backend import load_kernels, to_host
from scratchgen.recipes import load_run
from scratchgen.safetensors_file import read_arrays
from scratchgen.training import Means, NotFinite, Settings, Training, Watch
from scratchgen.training.feed import feed
from scratchgen.training.loop import FETCH_EVERY

MISSING = "CuPy is not here: install it"
CLOSE = 1e-4  # relative, after a few steps


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with tiny data in it."""
    return tiny.folder_with_data(tmp_path, monkeypatch)


@pytest.fixture
def no_gpu(monkeypatch):
    tiny.without_cupy(monkeypatch, MISSING)


@pytest.fixture
def standin():
    """The stand-in's own tools, while it is CuPy."""
    for _ in backends_of_tests._installed("standin"):
        import standin

        yield standin


def train(name, *more, out):
    assert run("train", *MODELS[name], "--epochs", "2", "--quiet", "--out", out, *more) == 0


def fails(capsys, *argv) -> str:
    """The one sentence with which a command line ends, exit status 2."""
    capsys.readouterr()
    assert run(*argv) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def as_if_trained_on_cupy(folder, **more):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"backend": "cupy", **more}))


def without_precision(folder):
    """As in the config of an older run."""
    config = json.loads((folder / "config.json").read_text())
    del config["precision"]
    (folder / "config.json").write_text(json.dumps(config))


def config_of(folder) -> tuple[str, str]:
    config = json.loads((folder / "config.json").read_text())
    return config["backend"], config["precision"]


# --- what is said where it cannot be ---


def test_tf32_is_of_a_gpu(here, capsys):
    before = sorted(here.rglob("*"))
    said = fails(capsys, "train", *MODELS["ae"], "--precision", "tf32", "--out", "run")
    assert said == "scratchgen: --precision tf32 is a mode of NVIDIA's GPUs: add --backend cupy\n"
    assert "invalid choice" in fails(capsys, "train", *MODELS["ae"], "--precision", "float16")
    assert sorted(here.rglob("*")) == before


def test_without_a_gpu_one_sentence_says_why_and_nothing_is_made(no_gpu, here, capsys):
    before = sorted(here.rglob("*"))
    for more in ((), ("--precision", "tf32")):
        said = fails(capsys, "train", *MODELS["ae"], "--backend", "cupy", "--out", "run", *more)
        assert said == f"scratchgen: {MISSING}\n"
    assert sorted(here.rglob("*")) == before
    assert run("info") == 0
    assert f"GPU         none: {MISSING}\n" in capsys.readouterr().out


def test_a_run_from_a_gpu_is_used_where_there_is_none(no_gpu, here, capsys):
    train("vae", out="run")
    wanted = load_run(here / "run")
    as_if_trained_on_cupy(here / "run")
    before = (here / "run" / "config.json").read_bytes()
    capsys.readouterr()
    for command in (
        ("sample", "run", "--seed", "1", "--count", "3", "--output", "samples.npy", "--force"),
        ("reconstruct", "run", "--output", "reconstructions.npy", "--force"),
        ("interpolate", "run", "--rows", "1", "--seed", "1", "--force"),
        ("evaluate", "run", "--importance", "2", "--quiet"),
    ):
        assert run(*command) == 0, command
        said = capsys.readouterr().err
        assert said == f"note: run was trained on cupy, and this runs on numpy, since {MISSING}\n"
        assert run(*command, "--backend", "numpy") == 0
        assert capsys.readouterr().err == ""
        assert fails(capsys, *command, "--backend", "cupy") == f"scratchgen: {MISSING}\n"
    assert run("export", "run") == 0
    assert capsys.readouterr().err == ""  # it computes nothing
    drawn = wanted.generate(wanted.noise(3, np.random.default_rng(1)))
    assert np.array_equal(np.load("samples.npy"), drawn)
    assert (here / "run" / "config.json").read_bytes() == before


def test_a_run_from_a_gpu_goes_on_where_there_is_none_when_asked_to(no_gpu, here, capsys):
    train("ae", out="run")
    train("ae", "--epochs", "3", out="whole")
    as_if_trained_on_cupy(here / "run", precision="tf32")
    before = (here / "run" / "config.json").read_bytes()
    said = fails(capsys, "train", "ae", "--resume", "run", "--epochs", "3")
    assert said == (
        f"scratchgen: run was trained with --backend cupy, and {MISSING}; "
        "with --backend numpy it goes on on the CPU\n"
    )
    assert fails(capsys, "train", "ae", "--resume", "run", "--backend", "cupy") == f"scratchgen: {MISSING}\n"
    said = fails(capsys, "train", "ae", "--resume", "run", "--backend", "numpy", "--precision", "tf32")
    assert "--precision tf32 is a mode of NVIDIA's GPUs" in said
    assert (here / "run" / "config.json").read_bytes() == before
    assert run("train", "ae", "--resume", "run", "--epochs", "3", "--backend", "numpy", "--quiet") == 0
    assert "note     until now on cupy in tf32, from here on numpy: the same run" in capsys.readouterr().out
    assert config_of(here / "run") == ("numpy", "float32")
    tiny.assert_same(tiny.outcome(here / "run"), tiny.outcome(here / "whole"))
    as_if_trained_on_cupy(here / "run")
    assert run("train", "ae", "--resume", "run", "--backend", "numpy", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "the run has had 3 epochs" in printed
    assert "note" not in printed
    assert config_of(here / "run")[0] == "cupy"


def test_a_config_of_an_unknown_backend_is_refused(here, capsys):
    train("ae", out="run")
    as_if_trained_on_cupy(here / "run", backend="abacus")
    for command in (("train", "ae", "--resume", "run"), ("reconstruct", "run")):
        assert "backend is 'abacus', needs one of numpy, cupy" in fails(capsys, *command)


def test_a_run_is_on_numpy_in_float32_unless_asked_otherwise(here, capsys):
    train("ae", out="run")
    assert config_of(here / "run") == ("numpy", "float32")
    without_precision(here / "run")
    capsys.readouterr()
    assert run("train", "ae", "--resume", "run", "--epochs", "3", "--quiet") == 0
    assert "note" not in capsys.readouterr().out
    assert config_of(here / "run") == ("numpy", "float32")


# --- the loop ---


class Counting:
    """A recipe that reports which batch it is at, and takes no time."""

    def __init__(self):
        self.model = sg.Dense(1, 1)
        self.optimizers = {"optimizer": sg.SGD(self.model.parameters(), 0.1)}
        self.batches = []

    def step(self, batch, rng):
        self.batches.append(to_host(batch).copy())
        return {"loss": float(len(self.batches))}


def test_the_clock_of_an_epoch_is_read_when_its_work_is_done(monkeypatch):
    """On a GPU the steps are done when their numbers have come, which here takes some time."""
    training = Training(Counting(), np.ones((15, 1), np.float32), Settings(epochs=1, batch_size=1, seed=0))
    fetch = Training._fetch
    monkeypatch.setattr(Training, "_fetch", lambda self: (time.sleep(0.05), fetch(self)))
    (record,) = training.train(on_record=lambda record: None, on_pause=lambda: False, progress=False)
    assert record["seconds"] >= 0.1  # after step 10, and after the last
    assert record["per_second"] <= 15 / 0.1


def test_the_next_batch_is_made_before_the_numbers_are_waited_for(monkeypatch):
    order = []
    recipe = Counting()
    training = Training(recipe, np.ones((FETCH_EVERY + 2, 1), np.float32), Settings(epochs=1, batch_size=1, seed=0))
    batches = training.batches

    def told():
        for i, batch in enumerate(batches()):
            order.append(f"batch {i + 1}")
            yield batch

    fetch = training._fetch
    monkeypatch.setattr(training, "batches", told)
    monkeypatch.setattr(training, "_fetch", lambda: (order.append(f"fetch {training.step}"), fetch()))
    list(training.train(on_record=lambda record: None, on_pause=lambda: False, progress=False))
    assert order[FETCH_EVERY:] == [f"batch {FETCH_EVERY + 1}", f"fetch {FETCH_EVERY}", "batch 12", "fetch 12"]


# --- the feed ---


def sizes(*counts):
    """Batches of these sizes, each different everywhere."""
    rng = np.random.default_rng(0)
    return [rng.random((n, 3, 2), np.float32) for n in counts]


def test_on_numpy_batches_are_handed_on_as_they_are():
    batches = sizes(4, 4, 1)
    assert all(a is b for a, b in zip(feed(batches, "numpy"), batches, strict=True))
    closed = []

    def source():
        try:
            yield from batches
        finally:
            closed.append(True)

    with contextlib.closing(feed(source(), "numpy")) as some:
        next(some)
    assert closed == [True]


@pytest.mark.parametrize("counts", [(), (3,), (4, 4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 1), (1, 1), (5, 2, 5, 3)])
def test_the_feed_moves_every_batch_as_it_is(device, counts):
    batches = sizes(*counts)
    found = []
    for batch in feed(iter(batches), "cupy"):
        assert backends.backend_of(batch) == "cupy"
        found.append(batch * 1)  # a computation, while others are on their way
    assert len(found) == len(batches)
    assert all(np.array_equal(to_host(a), b) for a, b in zip(found, batches, strict=True))


def test_batches_of_other_types_and_shapes_are_moved(device):
    for batches in ([np.arange(6.0)] * 5, [np.ones((2, 3, 3, 1), np.float32)[:, ::-1]] * 5):
        moved = [batch + 0 for batch in feed(batches, "cupy")]
        assert all(a.dtype == b.dtype and np.array_equal(to_host(a), b) for a, b in zip(moved, batches, strict=True))


def test_a_batch_stays_while_fewer_than_depth_more_are_asked_for(device):
    from scratchgen.backend.cupy_feed import DEPTH

    batches, held = sizes(*[4] * (3 * DEPTH)), []
    for i, batch in enumerate(feed(batches, "cupy")):
        held = [*held, batch][-(DEPTH - 1) :]
        sums = [float(b.sum()) for b in held]
        assert sums == pytest.approx([b.sum() for b in batches[: i + 1][-(DEPTH - 1) :]], rel=1e-6)


def test_a_feed_that_is_closed_early_leaves_no_copy_under_way(device):
    import standin.streams

    drawn, before = [], list(standin.streams._pending)  # what another test left there

    def source():
        for batch in sizes(*[4] * 9):
            drawn.append(batch)
            yield batch

    with contextlib.closing(feed(source(), "cupy")) as some:
        first = next(some)
        total = first.sum()
    assert standin.streams._pending == before
    assert len(drawn) == 1
    assert float(total) == pytest.approx(drawn[0].sum(), rel=1e-6)


def broken_feed(old: str, new: str):
    """The feed with a part of its source changed, which must be there."""
    from scratchgen.backend import cupy_feed

    source = inspect.getsource(cupy_feed)
    assert source.count(old) == 1, old
    names = {"__name__": "broken_feed"}
    exec(compile(source.replace(old, new), "broken_feed", "exec"), names)
    return names["feed"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("DEPTH = 3", "DEPTH = 3", None),  # as it is
        ("compute.wait_event(place.copied)", "pass", "before its copy was waited for"),
        ("copies.wait_event(used)", "pass", "overwritten"),
        ("place.copied.synchronize()", "pass", "a host buffer was rewritten"),
        ("place, n = ring[i % depth]", "place, n = ring[i % 1]", "overwritten"),
        ("used.record(compute)\n            compute.wait", "compute.wait", "overwritten"),
    ],
)
def test_the_stand_in_sees_a_race_in_the_feed(standin, old, new, words):
    feed = broken_feed(old, new)
    with contextlib.nullcontext() if words is None else pytest.raises(AssertionError, match=words):
        for batch in feed(sizes(*[4] * 9)):
            batch * 2


# --- the watch ---


def told(place, numbers):
    """What a watch makes of these numbers, each of some library and type, and of gradients there."""
    net = sg.Sequential(sg.Dense(3, 4, rng=np.random.default_rng(0)), sg.Dense(4, 1, rng=np.random.default_rng(1)))
    net.to(place)
    optimizers = {"optimizer": sg.SGD(net.parameters(), 0.1)}
    watch, means = Watch(net, optimizers), Means()
    for i, number in enumerate(numbers):
        for k, p in enumerate(net.parameters()):
            p.grad[...] = i + 0.5 * k
        optimizers["optimizer"].step()
        watch.end_step("here", i + 1, {"number": number})
    return watch, means


def test_numbers_of_all_kinds_come_in_one_transfer(standin):
    xp = load_kernels("cupy").xp
    third = 1 / 3
    numbers = [
        third,
        np.float32(third),
        np.float64(third),
        2,
        *(xp.asarray(third, t) for t in ("float32", "float64")),
    ]
    watch, means = told("cupy", numbers)
    before = standin.counts().to_host
    watch.fetch(means)
    watch.fetch(means)  # there is nothing new, and nothing to wait for
    assert standin.counts().to_host == before + 1
    same, wanted = told("numpy", [to_host(n)[()] if type(n).__module__ == "cupy" else n for n in numbers])
    same.fetch(wanted)
    assert means.state()["number"] == wanted.state()["number"]  # exact: none was rounded on the way
    assert means.means()["gradient"] == pytest.approx(wanted.means()["gradient"], rel=1e-6)


def test_the_first_number_gone_bad_is_named_on_a_device_too(device):
    xp = load_kernels("cupy").xp
    watch, means = told("cupy", [xp.asarray(1, "float32"), xp.asarray(np.nan, "float32"), xp.asarray(1, "float32")])
    with pytest.raises(NotFinite, match=r"^number is no longer finite here$"):
        watch.fetch(means)
    net = sg.Sequential(sg.Dense(3, 4), sg.Dense(4, 1)).to("cupy")
    optimizers = {"optimizer": sg.SGD(net.parameters(), 0.1)}
    watch = Watch(net, optimizers)
    net.layers[0].W.grad[0, 0] = np.inf
    net.layers[1].W.grad[1, 0] = np.nan
    optimizers["optimizer"].step()
    watch.end_step("in epoch 3, step 4", 1, {})
    with pytest.raises(NotFinite, match=r"^the gradient of 1\.W is no longer finite in epoch 3, step 4$"):
        watch.fetch(means)


# --- whole runs ---


def losses(folder) -> dict[str, list[float]]:
    """Every number of every record, by name."""
    found: dict[str, list] = {}
    for record in tiny.records(folder):
        for name, value in record.items():
            if isinstance(value, float):
                found.setdefault(name, []).append(value)
    return found


# Of the dense GAN: biases before batch statistics, which take them out, so that their gradient is rounding alone, by
# which Adam takes steps of full length; and the running means, which have them in.
IDLE = re.compile(r"generator\.((2|5|8)\.b|(3|6|9)\.running_mean)")


def assert_close(found, wanted):
    """Two runs that are the same up to rounding: their records, and their weights tensor by tensor."""
    a, b = losses(found), losses(wanted)
    assert a.keys() == b.keys()
    for name in b:
        assert a[name] == pytest.approx(b[name], rel=CLOSE, abs=1e-6), name
    (a, at), (b, wanted_at) = (read_arrays(folder / "weights.safetensors") for folder in (found, wanted))
    assert a.keys() == b.keys()
    assert at == wanted_at
    for name in b:
        if not IDLE.fullmatch(name):
            assert np.linalg.norm(a[name] - b[name]) <= CLOSE * np.linalg.norm(b[name]) + 1e-6, name
    rngs = [read_arrays(folder / "checkpoint.safetensors")[1]["rng"] for folder in (found, wanted)]
    assert rngs[0] == rngs[1]


def steps_that_may_not_wait(monkeypatch) -> list:
    """From here on a step that waits for the stand-in fails; the list gets the backend of each step taken."""
    import standin.modules

    on_it = sys.modules["cupy"] is standin.modules.MODULES["cupy"]
    one_step, taken = Training._one_step, []

    def watched(self, batch):
        taken.append(self.settings.backend)
        with standin.no_sync() if on_it else contextlib.nullcontext():
            one_step(self, batch)

    monkeypatch.setattr(Training, "_one_step", watched)
    return taken


@pytest.mark.parametrize("name", MODELS)
def test_a_run_on_a_device_is_the_run_on_the_host(name, here, device, monkeypatch, capsys):
    steps = steps_that_may_not_wait(monkeypatch)
    # A seed with which no unit comes within rounding of LeakyReLU's kink, where either side may be taken.
    train(name, "--seed", "1", "--backend", "cupy", out="device")
    train(name, "--seed", "1", out="host")
    assert len(steps) >= 12
    assert steps.count("cupy") == steps.count("numpy")
    assert "GPU      " in capsys.readouterr().out
    assert config_of(here / "device") == ("cupy", "float32")
    assert_close(here / "device", here / "host")


@pytest.mark.parametrize("first", ["numpy", "cupy"])
@pytest.mark.parametrize("name", ["ae-conv", "vae", "points", "dcgan"])
def test_a_run_moves_from_one_to_the_other(name, first, here, device, monkeypatch, capsys):
    """In the midst of an epoch, by way of its folder."""
    train(name, out="host")
    second = {"numpy": "cupy", "cupy": "numpy"}[first]
    tiny.stop_after(monkeypatch, 3)
    assert run("train", *MODELS[name], "--epochs", "2", "--quiet", "--backend", first, "--out", "moved") == 130
    tiny.stop_after(monkeypatch, None)
    capsys.readouterr()
    assert run("train", MODELS[name][0], "--resume", "moved", "--backend", second, "--quiet") == 0
    assert f"note     until now on {first}, from here on {second}: the same run" in capsys.readouterr().out
    assert config_of(here / "moved") == (second, "float32")
    assert_close(here / "moved", here / "host")


def test_a_run_stays_on_its_backend_and_precision_when_it_goes_on(here, device, capsys):
    train("ae", "--backend", "cupy", "--precision", "tf32", out="run")
    assert ", tf32\n" in capsys.readouterr().out
    assert run("train", "ae", "--resume", "run", "--epochs", "3", "--quiet") == 0
    printed = capsys.readouterr().out
    assert ", tf32\n" in printed
    assert "note" not in printed
    assert config_of(here / "run") == ("cupy", "tf32")
    again = ("train", "ae", "--resume", "run", "--epochs", "4", "--quiet")
    assert run(*again, "--precision", "float32") == 0
    assert "note     until now on cupy in tf32, from here on cupy: the same run" in capsys.readouterr().out
    assert config_of(here / "run") == ("cupy", "float32")
    without_precision(here / "run")
    assert run("train", "ae", "--resume", "run", "--epochs", "5", "--quiet") == 0
    assert config_of(here / "run") == ("cupy", "float32")


@pytest.mark.parametrize("how", ["none", "threshold", "dynamic"])
def test_pixels_are_binary_by_the_same_draws(how, here, device):
    train("vae", "--binarise", how, out="run")
    batch = np.random.default_rng(5).random((16, 8, 8, 1), np.float32)
    batch[0, 0, :3, 0] = 0, 0.5, 1
    batch[1] = np.random.default_rng(6).random(batch.shape, np.float32)[1]  # the very numbers they are compared with
    rngs = [np.random.default_rng(6) for _ in range(2)]
    on_host, on_device = (load_run(here / "run", backend=b)._binary for b in ("numpy", "cupy"))
    wanted, found = on_host(batch, rngs[0]), on_device(device.array(batch), rngs[1])
    assert (found.dtype, backends.backend_of(found)) == (np.float32, "cupy")
    assert np.array_equal(to_host(found), wanted)
    assert rngs[0].bit_generator.state == rngs[1].bit_generator.state


def test_training_has_the_precision_of_the_run_and_what_looks_at_it_float32(here, device, monkeypatch):
    asked = []
    ops = load_kernels("cupy")
    plain = ops.set_precision
    monkeypatch.setattr(ops, "set_precision", lambda precision: (asked.append(precision), plain(precision))[1])
    for precision in ("tf32", "float32"):
        train("ae", "--backend", "cupy", "--precision", precision, out=precision)
        assert asked == [precision] * 2  # when the switches are checked, and when the model is there: not each step
        assert run("reconstruct", precision, "--output", "x.npy", "--force") == 0
        assert asked[2:] == ["float32"]
        asked.clear()
    train("ae", out="host")
    assert not asked


def test_a_gpu_without_tf32_says_so_before_anything_is_made(here, standin, capsys, monkeypatch):
    monkeypatch.setattr("standin.device.Device.compute_capability", "75")
    said = fails(capsys, "train", *MODELS["ae"], "--backend", "cupy", "--precision", "tf32", "--out", "run")
    assert "this GPU has no TF32: its compute capability is 7.5" in said
    assert "--precision float32" in said
    assert not (here / "run").exists()


def test_a_fetch_is_one_copy_to_the_host(here, standin, monkeypatch):
    fetch, found = Watch.fetch, []

    def counted(self, *means):
        numbers = sum(len(step) for _, _, step in self._pending)
        before = standin.counts()
        fetch(self, *means)
        spent = standin.counts() - before
        found.append((numbers, spent.to_host, spent.launches))

    monkeypatch.setattr(Watch, "fetch", counted)
    train("points", "--batch-size", "10", "--epochs", "1", "--backend", "cupy", out="run")
    assert [copies for numbers, copies, _ in found if numbers] == [1] * sum(1 for numbers, *_ in found if numbers)
    assert all(copies == 0 for numbers, copies, _ in found if not numbers)
    assert max(numbers for numbers, *_ in found) >= 40
    assert max(launches for *_, launches in found) <= 4  # not one for each number


def test_measures_and_pictures_of_a_run_are_those_of_the_host(here, device, capsys):
    train("vae", "--backend", "cupy", out="run")
    for command in (
        ("sample", "run", "--seed", "1", "--count", "3"),
        ("reconstruct", "run"),
        ("interpolate", "run", "--rows", "2", "--steps", "3", "--seed", "1"),
    ):
        for place in ((), ("--backend", "cupy"), ("--backend", "numpy")):
            assert run(*command, *place, "--output", f"{len(place)}{place[-1:]}.npy", "--force") == 0
        default, on_device, on_host = (np.load(f) for f in ("0().npy", "2('cupy',).npy", "2('numpy',).npy"))
        assert np.array_equal(default, on_device)
        assert np.allclose(on_device, on_host, rtol=CLOSE, atol=1e-6)
    assert capsys.readouterr().err == ""
    measures = []
    for place in ("cupy", "numpy"):
        assert run("evaluate", "run", "--importance", "5", "--quiet", "--backend", place) == 0
        measures.append(json.loads((here / "run" / "evaluation" / "measures.json").read_text()))
    for name in ("negative_elbo", "kl", "importance_weighted_nll"):
        assert measures[0][name] == pytest.approx(measures[1][name], rel=CLOSE)
    assert run("export", "run", "--backend", "cupy") == 0


def test_info_describes_the_gpu(device, capsys):
    assert run("info") == 0
    printed = capsys.readouterr().out
    lines = printed[printed.index("GPU         ") :].splitlines()
    assert re.fullmatch(r"GPU         \S.*, \d{1,3}\.\d GiB, compute capability \d+\.\d", lines[0])
    assert re.fullmatch(r" {12}CuPy \S+, CUDA runtime \d+\.\d, driver for CUDA up to \d+\.\d", lines[1])
    assert lines[2].startswith("            precision float32")


INSTALLED, INSTALL = "CuPy 14.2.0 is installed", "pip install 'cupy-cuda12x"


def _cupy(count, driver=13000, probe=None):
    """A module that answers like CuPy on such a machine; an exception as an answer is raised."""

    def answer(value):
        def call(*_, **__):
            if isinstance(value, Exception):
                raise value
            return value

        return call

    runtime = types.SimpleNamespace(getDeviceCount=answer(count), driverGetVersion=answer(driver))
    return types.SimpleNamespace(
        __version__="14.2.0", cuda=types.SimpleNamespace(runtime=runtime), arange=answer(probe), asnumpy=None
    )


def _status(number: int):
    error = RuntimeError("cudaErrorOfSomeKind: what CUDA says\nand more")
    error.status = number
    return error


@pytest.mark.parametrize(
    ("cupy", "says"),
    [
        (_cupy(_status(35), driver=0), f"{INSTALLED} but there is no NVIDIA driver: install the driver"),
        (_cupy(_status(35), driver=RuntimeError()), f"{INSTALLED} but there is no NVIDIA driver: install the driver"),
        (_cupy(_status(35), driver=12040), f"too old for it, it supports CUDA 12.4: {INSTALL}"),
        (_cupy(_status(100)), f"{INSTALLED} but there is no GPU that CUDA can see: check nvidia-smi"),
        (_cupy(0), f"{INSTALLED} but there is no GPU that CUDA can see: check nvidia-smi"),
        (
            _cupy(1, probe=RuntimeError("Failed to find NVRTC")),
            f"libraries are not all there (Failed to find NVRTC): {INSTALL}",
        ),
        (_cupy(1, probe=ImportError("libcublas.so.12: cannot open shared object file")), f"object file): {INSTALL}"),
        (_cupy(1, probe=MemoryError()), "but the GPU does not work (MemoryError): see what nvidia-smi says"),
        (
            _cupy(1, probe=_status(802)),
            "does not work (cudaErrorOfSomeKind: what CUDA says): see what nvidia-smi says",
        ),
        (None, f"CuPy is not installed: {INSTALL}"),
    ],
    ids=range(10),
)
def test_the_sentence_says_what_is_missing(cupy, says, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert says in _refusal()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            ModuleNotFoundError("No module named 'cuda'", name="cuda"),
            f"a part of it is not (No module named 'cuda'): {INSTALL}",
        ),
        (PermissionError("[Errno 13] denied: '/.cupy'"), "'/.cupy'): set CUPY_CACHE_DIR to a folder"),
        (ValueError("numpy.dtype size changed\nmore"), f"does not import (numpy.dtype size changed): {INSTALL}"),
    ],
    ids=["a part", "no home", "another NumPy"],
)
def test_the_sentence_says_why_cupy_does_not_import(error, says, monkeypatch):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise error

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert says in _refusal()


def _refusal() -> str:
    """What asking for CuPy says, in one line."""
    file = Path(backends.__file__).parent / "cupy_ops" / "device.py"
    spec = importlib.util.spec_from_file_location("device_of_a_test", file)
    with pytest.raises(sg.BackendUnavailable) as refused:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert "\n" not in str(refused.value)
    return str(refused.value)
