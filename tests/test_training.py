"""The training loop, what it watches, weights files, the run folder, and the autoencoder on real digits."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from time import sleep

import numpy as np
import pytest
from safetensors.numpy import save_file

import scratchgen as sg
from scratchgen.backend import fast
from scratchgen.backend.compiled import compiler
from scratchgen.data import epoch_rng, load_mnist, minibatches, to_float
from scratchgen.files import atomic_write
from scratchgen.measures import PCA, reconstruction_error
from scratchgen.recipes import build
from scratchgen.training import Means, NotFinite, RunFolder, Settings, Stopped, Training, Watch, stop_request
from scratchgen.weights import load_weights, save_weights

# --- the loop ---


class Seen:
    """A recipe of one weight that notes what it is given, and reports the mean of the batch."""

    def __init__(self, lr=0.5):
        self.model = sg.Dense(1, 1, bias=False)
        self.optimizers = {"optimizer": sg.SGD(self.model.parameters(), lr)}
        self.batches, self.noise, self.rates = [], [], []
        self.tells = lambda batch: batch.mean()
        self.advice = lambda updated: "try a lower learning rate" if updated else "look at the data"

    def step(self, batch, rng):
        self.batches.append(batch.copy())
        self.noise.append(rng.random())
        self.rates.append(self.optimizers["optimizer"].lr)
        self.model.W.grad[...] = len(batch)
        self.optimizers["optimizer"].step()
        return {"loss": self.tells(batch)}


def train(samples, recipe=None, *, on_pause=lambda: False, **settings):
    """The recipe, the records within epochs and those of the epochs."""
    recipe = recipe or Seen()
    training = Training(recipe, samples, Settings(**{"epochs": 2, "batch_size": 4, "seed": 0, **settings}))
    within = []
    of_epochs = list(training.train(on_record=within.append, on_pause=on_pause, progress=False))
    return recipe, within, of_epochs, training


TEN = np.arange(10, dtype=np.float32).reshape(10, 1)


def test_every_sample_is_shown_once_an_epoch_in_an_order_that_the_seed_fixes():
    recipe, _, _, training = train(TEN)
    assert [len(b) for b in recipe.batches] == [4, 4, 2, 4, 4, 2]
    for epoch, batches in ((1, recipe.batches[:3]), (2, recipe.batches[3:])):
        assert sorted(np.concatenate(batches).ravel()) == list(range(10))
        wanted = list(minibatches(TEN, 4, epoch_rng(0, epoch)))
        assert all(np.array_equal(a, b) for a, b in zip(batches, wanted, strict=True))
    assert not np.array_equal(np.concatenate(recipe.batches[:3]), np.concatenate(recipe.batches[3:]))
    again, other = train(TEN)[0], train(TEN, seed=1)[0]
    assert all(np.array_equal(a, b) for a, b in zip(recipe.batches, again.batches, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(recipe.batches, other.batches, strict=True))
    assert recipe.noise == again.noise != other.noise
    assert (training.finished, training.steps, training.epoch, training.step) == (True, 6, 3, 0)
    left_out = train(TEN, drop_last=True)[0]
    assert [len(b) for b in left_out.batches] == [4, 4, 4, 4]


def test_records_are_means_over_samples_not_over_batches():
    _, within, of_epochs, training = train(TEN)
    assert [r["epoch"] for r in of_epochs] == [1, 2]
    assert [r["step"] for r in of_epochs] == [3, 6]
    assert [r["loss"] for r in of_epochs] == pytest.approx([4.5, 4.5])
    assert [r["gradient"] for r in of_epochs] == pytest.approx([(4 * 4 + 4 * 4 + 2 * 2) / 10] * 2)
    assert within == [
        {"step": 3, "epoch": 1, "loss": of_epochs[0]["loss"], "gradient": of_epochs[0]["gradient"]},
        {"step": 6, "epoch": 2, "loss": of_epochs[1]["loss"], "gradient": of_epochs[1]["gradient"]},
    ]
    assert [r["seconds"] for r in of_epochs] == sorted(r["seconds"] for r in of_epochs)
    assert of_epochs[-1]["seconds"] == round(training.seconds, 3)
    assert all(r["per_second"] > 0 for r in of_epochs)


@pytest.mark.parametrize(("samples", "spacing"), [(7, 10), (95, 10), (401, 20), (1210, 40)])
def test_an_epoch_has_some_forty_records_each_of_the_last_few_steps(samples, spacing):
    recipe, within, _, _ = train(np.arange(samples, dtype=np.float32)[:, None], epochs=1, batch_size=1)
    steps = [r["step"] for r in within]
    assert steps == [*range(spacing, samples, spacing), samples]
    assert [r["epoch"] for r in within] == pytest.approx([s / samples for s in steps])
    for before, record in zip([0, *steps], within, strict=False):
        shown = np.concatenate(recipe.batches[before : record["step"]])
        assert record["loss"] == pytest.approx(shown.mean(), rel=1e-6)


def test_linear_decay_takes_the_rate_to_zero_at_the_end():
    recipe = train(TEN, Seen(0.6), decay="linear")[0]
    assert recipe.rates == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert train(TEN, Seen(0.6))[0].rates == [0.6] * 6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_stops_within_a_few_steps_and_says_where(bad):
    recipe = Seen()
    recipe.tells = lambda batch: np.float32(bad if len(recipe.batches) == 24 else 1)
    with pytest.raises(NotFinite, match=r"^loss is no longer finite in epoch 2, step 4: try a lower learning rate$"):
        train(np.ones((20, 1), np.float32), recipe, batch_size=1, epochs=9)
    assert len(recipe.batches) <= 24 + 10


def test_stopping_in_the_course_of_a_step():
    recipe = Seen()
    with pytest.raises(Stopped):
        train(TEN, recipe, on_pause=lambda: len(recipe.batches) >= 2)
    assert len(recipe.batches) == 2
    asked = []
    train(TEN, on_pause=lambda: bool(asked.append(1)))
    assert len(asked) == 4  # after every step but the last of an epoch, whose record comes first


def test_seconds_are_those_of_the_clock_and_speed_is_that_of_the_steps():
    _, _, records, training = train(TEN, on_pause=lambda: bool(sleep(0.05)), epochs=1)
    assert 0.1 <= records[0]["seconds"] < 5
    assert records[0]["per_second"] > 10 / 0.05
    sleep(0.05)  # what is done after the last step counts, too
    assert training.tick() > records[0]["seconds"] + 0.04


def test_time_that_compiling_takes_is_not_that_of_the_steps(monkeypatch):
    recipe, one = Seen(), np.dtype(np.float32)
    monkeypatch.setattr(compiler, "_compiled", lambda loop, dtype: sleep(0.2))
    monkeypatch.setattr(fast, "numba", lambda: "there is one")
    recipe.tells = lambda batch: compiler.Loop("none", "", []).of(one) or np.float32(0)
    _, _, records, _ = train(TEN, recipe, epochs=1)
    assert len(recipe.batches) > 1
    assert records[0]["per_second"] > 10 / 0.2


def marked(epochs, **settings):
    _, within, records, _ = train(TEN, epochs=epochs, batch_size=5, **settings)
    return [r["epoch"] for r in records], within


def test_marks_are_every_epoch_at_first_and_then_fewer():
    first = list(range(1, 21))
    assert marked(20)[0] == first
    assert marked(41)[0] == [*first, *range(22, 41, 2), 41]  # the last in any case
    assert marked(120)[0] == [*first, *range(22, 41, 2), *range(45, 101, 5), 110, 120]


def test_marks_are_some_steps_apart():
    assert marked(30, mark_steps=20)[0] == [10, 20, 30]  # 2 steps an epoch
    assert marked(30, mark_steps=21)[0] == [20, 30]
    assert marked(3, mark_steps=10**9)[0] == [3]


def test_marks_are_where_they_are_asked_for():
    assert marked(10, sample_every=4, mark_steps=50)[0] == [4, 8, 10]


def test_a_mark_sums_up_all_epochs_since_the_last():
    recipe, within, (first, second), _ = train(TEN, epochs=4, batch_size=5, sample_every=2)
    seen = [np.concatenate(recipe.batches[i : i + 4]).mean() for i in (0, 4)]
    assert [first["loss"], second["loss"]] == pytest.approx(seen)
    assert [r["step"] for r in within] == [4, 8]


def test_epochs_of_few_steps_have_records_ten_steps_apart():
    within = marked(40, sample_every=40)[1]
    assert [r["step"] for r in within] == [10, 20, 30, 40, 50, 60, 70, 80]


def test_a_run_stopped_between_marks_goes_on_as_if_it_had_not(tmp_path):
    whole = train(TEN, epochs=9, sample_every=6, batch_size=5)
    recipe = Seen()
    with pytest.raises(Stopped):
        train(TEN, recipe, on_pause=lambda: len(recipe.batches) >= 4, epochs=9, sample_every=6, batch_size=5)
    training = Training(recipe, TEN, Settings(epochs=9, batch_size=5, seed=0, sample_every=6))
    recipe.batches.clear()
    with pytest.raises(Stopped):
        list(training.train(on_pause=lambda: training.epoch == 3, progress=False))
    assert (training.epoch, training.step) == (3, 0)
    training.save(tmp_path / "c")
    after = Training(Seen(), TEN, Settings(epochs=9, batch_size=5, seed=0, sample_every=6))
    after.load(tmp_path / "c")
    records = list(after.train(progress=False))
    assert [(r["epoch"], r["loss"]) for r in records] == [(r["epoch"], r["loss"]) for r in whole[2]]


def test_each_image_is_seen_in_another_way_each_time(tmp_path):
    images = np.zeros((8, 4, 4, 1), np.uint8)
    images[:, :, 0, 0] = np.arange(1, 9)[:, None]  # marked at the left

    def mirrored(recipe):
        """Of each batch, whether its images are, in their order."""
        return [tuple(batch[:, 0, 0, 0] == 0) for batch in recipe.batches]

    settings = {"augment": ("flip",), "epochs": 4, "batch_size": 4}
    seen = mirrored(train(images, **settings)[0])
    assert len(set(seen)) > 4  # of 8: neither epochs nor batches are alike
    assert seen == mirrored(train(images, **settings)[0]) != mirrored(train(images, **settings, seed=1)[0])
    recipe, _, _, training = train(images, **settings | {"epochs": 2})
    training.epoch, training.step, training.settings.epochs = 2, 1, 4  # as if it had been stopped there
    recipe.batches.clear()
    list(training.train(progress=False))
    assert mirrored(recipe) == seen[3:]


def test_images_come_as_floats():
    recipe = train(np.full((3, 1), 255, np.uint8), epochs=1)[0]
    assert (recipe.batches[0].dtype, recipe.batches[0].max()) == (np.float32, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_second_interrupts(number):
    before = signal.getsignal(number)
    with stop_request() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nobody_can_ask():
    found = []

    def body():
        with stop_request() as stop:
            found.append(stop.is_set())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGINT) is before


# --- what it watches ---


def watched(rng):
    """A network of three layers, two optimizers for it, and their watch."""
    net = sg.Sequential(sg.Dense(3, 4, rng=rng), sg.Dense(4, 2, rng=rng), sg.Dense(2, 1, rng=rng))
    first, rest = net.layers[0].parameters(), net.layers[1].parameters() + net.layers[2].parameters()
    optimizers = {"d": sg.SGD(first, 0.1), "g": sg.SGD(rest, 0.1)}
    return net, optimizers, Watch(net, optimizers)


def test_gradient_norms_are_those_of_numpy(rng):
    net, optimizers, watch = watched(rng)
    wanted = {"d_gradient": [], "g_gradient": []}
    counts = (5, 1, 3)
    for count in counts:
        for key, optimizer in optimizers.items():
            for p in optimizer.parameters:
                p.grad[...] = rng.standard_normal(p.grad.shape)
            flat = np.concatenate([p.grad.ravel() for p in optimizer.parameters]).astype(np.float64)
            wanted[f"{key}_gradient"].append(np.linalg.norm(flat))
            optimizer.step()
        watch.end_step("here", count, {})
    found = Means()
    watch.fetch(found)
    for key, norms in wanted.items():
        assert found.means()[key] == pytest.approx(np.average(norms, weights=counts), rel=1e-6)
    watch.fetch(found)  # there is nothing new
    assert found.state()["d_gradient"][1] == sum(counts)
    one = sg.Adam(net.parameters())
    watch = Watch(net, {"any": one})
    net.layers[0].W.grad[0, 0] = -3
    one.step()
    watch.end_step("here", 1, {})
    only = Means()
    watch.fetch(only)
    assert only.means() == {"gradient": 3}


def test_means_are_weighted_by_samples_and_come_back_from_their_state():
    means = Means()
    means.add("a", 1.0, 3)
    means.add("a", 5.0, 1)
    means.add("b", 7.0, 2)
    assert means.means() == {"a": 2.0, "b": 7.0}
    again = Means(json.loads(json.dumps(means.state())))
    again.add("a", 4.0, 4)
    assert again.means() == {"a": 3.0, "b": 7.0}
    assert means.means() == {"a": 2.0, "b": 7.0}, "the state is shared"
    shared = Means(means.state())
    kept = shared.state()
    Means(kept).add("a", 9.0, 1)
    assert kept == means.state(), "the state is shared"
    assert Means().means() == {}


def test_the_first_number_gone_bad_is_named(rng):
    """In the order of the computation: a loss before the gradients, of gradients the one nearest to the loss."""
    net, optimizers, watch = watched(rng)

    def step(where, *, loss=1.0, bad=()):
        for optimizer in optimizers.values():
            for p in optimizer.parameters:
                p.grad[...] = np.inf if any(p is b for b in bad) else 1
            optimizer.step()
        watch.end_step(where, 2, {"loss": np.float32(loss), "other": np.float32(loss)})

    first, middle, _ = net.layers
    for options, says in (
        ({"loss": np.nan, "bad": [first.W]}, "loss is no longer finite in step 2"),
        ({"bad": [middle.W]}, "the gradient of layers.1.W is no longer finite in step 2"),
        ({"bad": [middle.W, middle.b]}, "the gradient of layers.1.b is no longer finite in step 2"),
        (
            {"bad": [first.W, middle.W]},
            "the gradient of layers.0.W is no longer finite in step 2",
        ),  # d's step is first
    ):
        step("in step 1")
        step("in step 2", **options)
        step("in step 3", loss=np.inf)
        means = Means()
        with pytest.raises(NotFinite) as error:
            watch.fetch(means)
        assert str(error.value).replace("of 0.", "of layers.0.").replace("of 1.", "of layers.1.") == says
        assert means.means()["loss"] == 1
        watch.fetch(means)  # forgotten


# --- the run folder ---


def test_run_folder(tmp_path):
    run = RunFolder.create(tmp_path / "a" / "run", {"model": "ae", "lr": 0.1})
    assert json.loads((run.path / "config.json").read_text()) == {"model": "ae", "lr": 0.1}
    assert (run.path / "samples").is_dir()
    assert RunFolder.open(run.path).config() == {"model": "ae", "lr": 0.1}
    with pytest.raises(FileExistsError, match="not empty; choose another folder with --out"):
        RunFolder.create(run.path, {})
    with pytest.raises(FileExistsError, match="not empty"):
        RunFolder.create(run.path / "config.json", {})
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".config.json.12345678.tmp").touch()  # a run that was killed at its very start
    RunFolder.create(tmp_path / "empty", {"model": "ae"})
    assert {p.name for p in (tmp_path / "empty").iterdir()} == {"config.json", "samples"}
    assert RunFolder.unused(tmp_path, "b") == tmp_path / "b"
    (tmp_path / "b").mkdir()
    (tmp_path / "b-2").touch()
    assert RunFolder.unused(tmp_path, "b") == tmp_path / "b-3"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", "{}", '{"model": 7}', '{"model": ["ae"]}', "\udcff", "[" * 99_999]
)
def test_a_damaged_config_is_named(text, tmp_path):
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json is damaged: "):
        RunFolder.open(tmp_path)


def test_what_is_no_run_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-run is not a run folder: there is no such folder"):
        RunFolder.open(tmp_path / "no-run")
    with pytest.raises(FileNotFoundError, match=r"is not a run folder: there is no config\.json in it"):
        RunFolder.open(tmp_path)


def test_metrics_are_lines_of_json_and_can_be_taken_back(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"model": "ae"})
    assert run.records() == []
    parts = {"a": [np.float64("inf"), 1.5]}
    run.log({"kind": "steps", "step": 1, "epoch": 0.5, "loss": float("nan"), "parts": parts})
    run.log({"kind": "epoch", "step": 2, "epoch": 1, "loss": 0.5})
    run.log({"kind": "steps", "step": 3, "epoch": 1.5, "loss": 0.25})
    run.log({"kind": "end", "state": "stopped"})
    text = (run.path / "metrics.jsonl").read_text()
    first = '{"kind": "steps", "step": 1, "epoch": 0.5, "loss": null, "parts": {"a": [null, 1.5]}}'
    assert text.splitlines()[0] == first
    with open(run.path / "metrics.jsonl", "a") as stream:
        stream.write('[1]\n7\n{"a": 1}\n\x00\xff\n{"kind": "epoch", "st')  # cut by a crash
    assert [r.get("step") for r in run.records()] == [1, 2, 3, None]
    assert run.records().unreadable == 4
    (run.path / "samples" / ".latest.png.0123abcd.tmp").touch()
    (run.path / ".checkpoint.safetensors.0123abcd.tmp").touch()
    run.rewind(2)
    assert run.records() == [json.loads(line) for line in text.splitlines()[:2]]
    assert not list(run.path.rglob(".*"))
    run.log({"kind": "epoch", "step": 4, "epoch": 2})
    assert [r["step"] for r in run.records()] == [1, 2, 4]
    with pytest.raises(ValueError, match="JSON"):
        run.write_json("config.json", {"model": float("nan")})
    assert run.config() == {"model": "ae"}


# --- files ---


def test_atomic_write_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with atomic_write(path) as stream:
        stream.write(b"old")

    def interrupted():
        with atomic_write(path) as stream:
            stream.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    synced = []

    def fsync(number):
        what = "name" if stat.S_ISDIR(os.fstat(number).st_mode) else os.fstat(number).st_size
        synced.append((what, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(path) as stream:
        stream.write(b"newer")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"newer"
    assert synced == [(5, b"old"), ("name", b"newer")], "first the bytes are on the disk, then the name"

    def refuse(source, target):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk"), atomic_write(path) as stream:
        stream.write(b"newest")
    assert path.read_bytes() == b"newer"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def network(rng):
    return sg.Sequential(sg.Conv2d(1, 2, 3, rng=rng), sg.BatchNorm(2), sg.Flatten(), sg.Dense(8, 3, rng=rng))


def test_weights_round_trip_with_running_statistics(tmp_path, rng):
    first, second = network(rng), network(rng)
    x = rng.standard_normal((5, 4, 4, 1)).astype(np.float32)
    first.forward(x)  # moves the running statistics
    save_weights(first, tmp_path / "w")
    load_weights(second, tmp_path / "w")
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    np.testing.assert_array_equal(first.layers[1].running_var, second.layers[1].running_var)
    second.forward(x)
    assert not np.array_equal(first.layers[1].running_mean, second.layers[1].running_mean), "the arrays are shared"


def test_weights_that_are_not_finite_are_not_saved(tmp_path, rng):
    model = network(rng)
    save_weights(model, tmp_path / "w")
    before = (tmp_path / "w").read_bytes()
    value = model.layers[3].W.value.copy()
    value[0, 0] = np.nan
    model.layers[3].W.value = value
    with pytest.raises(ValueError, match=r"3\.W holds elements that are not finite"):
        save_weights(model, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == before


def test_foreign_weights_fit_or_are_refused_and_nothing_changes(tmp_path, rng):
    model = network(rng)
    before = {name: a.copy() for name, a in model.state().items()}
    state = {name: np.asarray(a) for name, a in model.state().items()}
    lacking = {name: a for name, a in state.items() if name != "0.W"}
    save_file(lacking, tmp_path / "lacks")
    with pytest.raises(ValueError, match=r"lacks.*it lacks 0\.W"):
        load_weights(model, tmp_path / "lacks")
    save_file({**state, "3.W": np.zeros((8, 4), np.float32)}, tmp_path / "shape")
    with pytest.raises(ValueError, match=r"3\.W has shape \(8, 4\), needs \(8, 3\)"):
        load_weights(model, tmp_path / "shape")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_weights(model, tmp_path / "nowhere")
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])
    save_file({name: 2 * a for name, a in state.items()}, tmp_path / "fits", metadata={"format": "pt", "about": "x"})
    load_weights(model, tmp_path / "fits")
    np.testing.assert_array_equal(model.layers[3].W.value, 2 * before["3.W"])


def test_weights_without_axes_not_finite_or_of_another_type(tmp_path, rng):
    class Shift(sg.Layer):
        def __init__(self, start):
            self.shift = sg.Parameter("shift", np.array(start, np.float32))

        def forward(self, x):
            return x + self.shift.value, lambda dy: dy

    save_weights(Shift(2.0), tmp_path / "w")
    layer = Shift(0.0)
    load_weights(layer, tmp_path / "w")
    assert layer.shift.value == 2
    save_file({"shift": np.array(np.inf, np.float32)}, tmp_path / "inf")
    with pytest.raises(ValueError, match=r"shift holds elements that are not finite: not loaded from .*inf"):
        load_weights(layer, tmp_path / "inf")
    save_file({"shift": np.array(3)}, tmp_path / "int")
    with pytest.raises(ValueError, match=r"int: .*shift has dtype int64"):
        load_weights(layer, tmp_path / "int")
    header = b'{"shift":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}'
    (tmp_path / "bf16").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match=r"bf16( holds arrays of a type|: .*bfloat16)"):
        load_weights(layer, tmp_path / "bf16")
    assert layer.shift.value == 2


# --- the autoencoder ---


def train_autoencoder(data, epochs):
    config = {"model": "ae", "arch": "dense", "latent": 32, "hidden": [512, 128], "loss": "bernoulli", "lr": 1e-3}
    recipe = build({**config, "seed": 0, "image_shape": [28, 28, 1]})
    _, _, records, _ = train(data, recipe, epochs=epochs, batch_size=128)
    return recipe, records


def test_autoencoder_learns_digits():
    images = load_mnist("sample").train_images[:2000]
    recipe, records = train_autoencoder(images, 4)
    assert records[-1]["loss"] < 0.65 * records[0]["loss"]
    x = to_float(images[:10])
    z = recipe.encode(x)
    assert z.shape == (10, 32)
    np.testing.assert_array_equal(z, recipe.encode(x))  # the same x, always the same z
    np.testing.assert_array_equal(recipe.reconstruct(x), recipe.decode(z))
    assert 0 <= recipe.decode(z).min() <= recipe.decode(z).max() <= 1


@pytest.mark.parametrize("size", [(28, 28, 1), (30, 17, 3), (4, 5, 2)])
@pytest.mark.parametrize("builder", [sg.dense_autoencoder, sg.conv_autoencoder])
@pytest.mark.parametrize("loss", ["bernoulli", "squared-error"])
def test_builders_fit_images_of_any_size(builder, size, loss, rng):
    model = builder(size, latent=6, loss=loss, rng=rng)
    x = rng.random((3, *size), np.float32)
    assert model.reconstruct(x).shape == x.shape
    assert model.reconstruct(x).dtype == np.float32
    assert model.encode(x).shape == (3, 6)
    before = [p.value for p in model.parameters()]
    optimizer = sg.Adam(model.parameters())
    for _ in range(2):  # the output layer starts near 0, but a ReLU may be shut for a whole tiny batch
        model.train_step(x, optimizer)
    moved = [not np.array_equal(p.value, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert all(moved)


def test_32_numbers_halve_the_error_of_pca_on_all_digits():
    """The acceptance figure on all 60,000 digits, in fewer epochs than the command takes by default."""
    if not os.environ.get("SCRATCHGEN_DATA"):
        pytest.skip("needs the 60,000 digits: set SCRATCHGEN_DATA to a folder with the four original files")
    data = load_mnist()
    assert (len(data.train_images), len(data.test_images)) == (60_000, 10_000)
    recipe, _ = train_autoencoder(data.train_images, 6)
    error = reconstruction_error(recipe.reconstruct, data.test_images)
    pca = reconstruction_error(PCA(data.train_images, 32).reconstruct, data.test_images)
    assert pca == pytest.approx(0.01683, abs=1e-4)
    assert error <= 0.5 * pca, (error, pca)


def test_a_progress_bar_takes_no_semaphore_of_the_systems():
    """It would outlive a killed run, and Python 3.14 would say so on the terminal."""
    code = (
        "import sys, scratchgen.progress as p\n"
        "with p.tqdm(total=2, disable=False) as bar:\n"
        "    bar.update()\n"
        "print('multiprocessing.synchronize' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_the_users_own_progress_bars_stay_as_they_are():
    code = (
        "from tqdm import tqdm\n"
        "import scratchgen.training, scratchgen.progress as p\n"
        "print(hasattr(tqdm, '_lock'), p.tqdm.get_lock() is tqdm.get_lock())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "False False\n"), done.stderr
