"""The benchmark: steps and their arithmetic, stopwatches that leave no trace, turns, processes that end.

On a GPU it is our side on the stand-in, and PyTorch's faked or on no device: what the figures are like there only a
GPU can show; here it is that they are taken and added up as said. What is printed: test_bench_command.py.
"""

# ruff: noqa: F811 fixtures are imported, and named again by who takes them

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections import Counter
from dataclasses import asdict
from itertools import count

import numpy as np
import pytest
import standin
from bench_sides import GAN, SMALL, by_hand, dcgan, dense, inside, quick  # noqa: F401  fixtures

import scratchgen as sg
from scratchgen import blas as selection
from scratchgen.backend import load_kernels, to_host
from scratchgen.backend.threads import cores
from scratchgen.bench import ceilings, children, compare, kernels, launches, machine, profile, steps, worker
from scratchgen.bench.children import THREADS, WORKER, Child, environment
from scratchgen.bench.count import OPERATIONS, counting, operations
from scratchgen.bench.settings import SETTINGS

ROOT = WORKER.parents[2]


def plain_kernels():
    ops = load_kernels("numpy")
    return {name: getattr(ops, name) for name in OPERATIONS}


# --- steps and their arithmetic ---


@pytest.mark.parametrize("name", SETTINGS)
def test_the_operations_of_every_step_are_those_of_a_hand_count(name, strict):
    """On a GPU it is the same step, and never waits."""
    plain = plain_kernels()
    here, there = steps.make(SMALL[name]), steps.make(SMALL[name], backend="cupy")
    assert operations(here.run) == operations(there.run, "cupy") == by_hand(SMALL[name])
    assert plain_kernels() == plain
    assert here.parameters == there.parameters
    with standin.no_sync():
        found = there.run()
    wanted = here.run()
    found, wanted = ([float(x) for x in (loss if isinstance(loss, tuple) else (loss,))] for loss in (found, wanted))
    assert found == pytest.approx(wanted, rel=1e-4)


def test_the_operations_of_a_tiny_model_by_hand():
    rng = np.random.default_rng(0)
    network = sg.Sequential(
        sg.Conv2d(3, 5, 2, stride=2, padding=1), sg.ConvTranspose2d(5, 2, 3), sg.Flatten(), sg.Dense(50, 7)
    )
    x = rng.random((4, 4, 4, 3), np.float32)  # → 3×3×5 → 5×5×2 → 50 → 7

    def step():
        y, backward = network.forward(x)
        backward(y)

    layers = 4 * (9 * 4 * 3 * 5 + 9 * 9 * 2 * 5 + 50 * 7)
    assert operations(lambda: network.forward(x)) == 2 * layers
    assert operations(step) == 3 * 2 * layers


def test_a_kernel_within_a_kernel_or_on_another_thread_is_not_counted_again(monkeypatch):
    ops = load_kernels("numpy")
    a = np.ones((2, 3), np.float32)
    monkeypatch.setattr(ops, "correlate", lambda x, W, g: ops.matmul(a, a.T))
    W = np.ones((1, 1, 5, 7), np.float32)
    geometry = sg.Conv2d(5, 7, 1).geometry(1, 1)
    told = []
    with counting(told.append):
        ops.correlate(np.ones((1, 1, 1, 5), np.float32), W, geometry)
        other = threading.Thread(target=ops.matmul, args=(a, a.T))
        other.start()
        other.join()
        ops.matmul(a, a.T)
    assert told == [2 * 5 * 7, 2 * 2 * 3 * 2]


def test_the_kernels_are_back_after_an_error():
    plain = plain_kernels()

    def fails():
        assert plain_kernels() != plain
        raise KeyError("in the step")

    with pytest.raises(KeyError):
        operations(fails)
    assert plain_kernels() == plain
    ops = load_kernels("numpy")
    told = []
    with counting(told.append):
        with pytest.raises(ValueError, match="matmul"):
            ops.matmul(np.ones((2, 3)), np.ones((2, 3)))  # fails within a kernel: the next one is counted again
        ops.matmul(np.ones((2, 3)), np.ones((3, 1)))
    assert told[1:] == [12]


def test_a_step_is_that_of_its_seed_and_moves_every_weight():
    for name, setting in SMALL.items():
        a, b, other = steps.make(setting, seed=1), steps.make(setting, seed=1), steps.make(setting, seed=2)
        before = {key: p.value for key, p in a.model.named_parameters().items()}
        assert a.run() == b.run() != other.run(), name
        for key, p in a.model.named_parameters().items():
            assert (p.value != before[key]).any(), (name, key)
            np.testing.assert_array_equal(p.value, b.model.named_parameters()[key].value)
        first, second = a.noise(), a.noise()
        assert (first is None) == (name == "ae")
        assert first is None or (first != second).all()


def test_every_side_takes_the_threads_and_says_so():
    for side in (steps, ceilings):
        assert [side.prepare(n)["threads"] for n in (2, 1)] == [2, 1]
    torch = pytest.importorskip("torch")
    from scratchgen.bench import opponent

    before = torch.get_num_threads()
    assert [opponent.prepare(n)["threads"] for n in (2, 1)] == [2, 1]
    torch.set_num_threads(before)


def test_settings_vary_only_where_they_can():
    assert SETTINGS["ae"].vary(batch=1).batch == 1
    assert SETTINGS["dcgan64"].vary(size=32, width=8).width == 8
    for change in ({"size": 32}, {"width": 8}):
        with pytest.raises(ValueError, match="vae is fully connected"):
            SETTINGS["vae"].vary(**change)
    with pytest.raises(ValueError, match="at least 2"):
        SETTINGS["gan"].vary(batch=1)
    assert SETTINGS["dcgan64"].on_gpu() == SETTINGS["dcgan64"].vary(batch=128)
    assert all(s.on_gpu() == s for name, s in SETTINGS.items() if name != "dcgan64")


# --- PyTorch's side ---


@pytest.mark.parametrize("name", SETTINGS)
def test_the_opponent_has_the_same_layers_and_does_the_same_arithmetic(name, monkeypatch):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from scratchgen.bench import opponent

    setting = SMALL[name]
    ours, theirs = steps.make(setting), opponent.make(setting, layout="channels_last" if name == "dcgan28" else "")
    assert (ours.images, theirs.images) == (setting.batch, setting.batch)
    assert ours.parameters == theirs.parameters
    names = {"Linear": "Dense", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm"}
    modules = [m for m in theirs.networks.modules() if not list(m.children())]
    layers = [layer for _, layer in profile.leaves(ours.model) if type(layer).__name__ not in ("Flatten", "Reshape")]
    if name != "vae":  # there it has two heads, we one of twice the width
        assert [names.get(type(m).__name__, type(m).__name__) for m in modules] == [type(m).__name__ for m in layers]
        sizes = [sum(p.numel() for p in m.parameters()) for m in modules]
        assert sizes == [sum(p.value.size for p in layer.parameters()) for layer in layers]
    before = [p.detach().clone() for p in theirs.networks.parameters()]
    draws = []
    for function in ("randn", "randn_like"):
        plain = getattr(torch, function)
        monkeypatch.setattr(torch, function, lambda *args, plain=plain, **on: draws.append(1) or plain(*args, **on))
    with FlopCounterMode(display=False) as counter:
        theirs.run()
    assert len(draws) == (name != "ae"), "noise is drawn each step"
    for old, p in zip(before, theirs.networks.parameters(), strict=True):
        assert not torch.equal(old, p), "a step left a weight where it was"
    extra = 0  # what it works out and drops: dW of D in G's step
    if "gan" in name:
        extra = 2 * setting.batch * sum(dense(GAN[1]) if name == "gan" else dcgan(setting)[1])
    assert counter.get_total_flops() == by_hand(setting) + extra


@pytest.mark.parametrize(("size", "width"), [(36, 3), (32, 1)])
def test_the_opponent_varies_as_we_do(size, width):
    pytest.importorskip("torch")
    from scratchgen.bench import opponent

    setting = SETTINGS["dcgan28"].vary(batch=2, size=size, width=width)
    ours, theirs = steps.make(setting), opponent.make(setting)
    assert ours.parameters == theirs.parameters
    ours.run()
    theirs.run()


@pytest.mark.parametrize("layout", ["", "channels_last"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_opponent_has_everything_on_its_device(name, layout, monkeypatch):
    """On the device "meta", which holds no numbers and takes no tensor of the CPU's."""
    torch = pytest.importorskip("torch")
    from scratchgen.bench import opponent

    monkeypatch.setitem(opponent.DEVICES, "cupy", "meta")
    step = opponent.make(SMALL[name], layout=layout, backend="cupy")
    assert {p.device.type for p in step.networks.parameters()} == {"meta"}
    step.run()
    gradients = {p.grad.device.type for p in step.networks.parameters()}
    assert gradients == {"meta"}
    assert torch.empty(1).device.type == "cpu"


@pytest.fixture
def fake_cuda(monkeypatch):
    """PyTorch's functions for a GPU, which note that they were called."""
    torch = pytest.importorskip("torch")
    log = []
    answers = {"is_available": True, "get_device_name": "a GPU", "max_memory_reserved": 3 * 2**20}
    for name in (*answers, "synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: log.append(name) or answers.get(name))
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.get_num_threads()
    yield log
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before[:3]
    torch.set_num_threads(before[3])


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_opponent_multiplies_in_the_same_precision_everywhere(precision, fake_cuda):
    import torch

    from scratchgen.bench import opponent

    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not tf32
    about = opponent.prepare(1, "cupy", precision)
    assert (about["tf32_products"], about["tf32_convolutions"], about["cudnn_benchmark"]) == (tf32, tf32, True)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)
    assert about["device"] == "a GPU"


def test_a_pytorch_without_a_gpu_is_as_good_as_none(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    from scratchgen.bench import opponent

    monkeypatch.setattr(worker, "load", lambda side: opponent)
    about = worker.Worker("torch", "cupy").prepare(threads=1)
    assert about == {"missing": f"PyTorch {torch.__version__} finds no GPU"}


@pytest.mark.parametrize(("library", "module"), [("torch", "opponent"), ("jax", "opponent_jax")])
def test_the_opponents_process_loads_nothing_of_the_library(library, module):
    if not importlib.util.find_spec(library):
        pytest.skip(f"{library} is not installed")
    program = (
        f"import runpy, sys; runpy.run_path({str(WORKER)!r})['load']({library!r}); import scratchgen.bench.launches; "
        "print(sorted(m for m in sys.modules if m.startswith('scratchgen')))"
    )
    found = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    bare = ["", ".bench", ".bench.launches", f".bench.{module}", ".bench.settings"]
    assert eval(found) == [f"scratchgen{name}" for name in bare]


# --- what a GPU can do ---


def test_the_precision_is_that_of_the_products(inside):
    from cupy._core import _routines_linalg as linalg

    for precision, mode in (("tf32", linalg.COMPUTE_TYPE_TF32), ("float32", linalg.COMPUTE_TYPE_FP32)):
        for side in ("scratchgen", "sgemm"):
            other = "float32" if precision == "tf32" else "tf32"
            load_kernels("cupy").set_precision(other)
            assert worker.Worker(side, "cupy", precision).prepare(1)["precision"] == precision
            assert linalg.get_compute_type(np.float32) == mode
    load_kernels("cupy").set_precision("float32")


def test_the_ceilings_are_of_turns_in_a_row():
    class Child:
        about = {"copy_bytes": 3 * 10**9}
        asked = []

        def ask(self, do, lane=None, **arguments):
            self.asked.append((do, lane))
            return {"make": {"images": 0, "parameters": 0, "seconds": 1.0}, "turn": [0.5], "clear": None}[do]

    running = compare.Sides.__new__(compare.Sides)
    running.options, running.children = compare.Options(threads=1, backend="cupy"), {"sgemm": Child()}
    found = running.ceilings()
    assert found["copy_gbyte_per_second"]["median"] == 6.0
    assert found["sgemm_gflop_per_second"]["median"] == 2 * 16**3 / 0.5 / 1e9
    turns = [("turn", "sgemm"), ("turn", "copy")]
    assert Child.asked[2:] == [*turns, *turns[::-1], *turns, ("clear", None)]


def test_what_the_gpu_can_do(strict, monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.random((4, 4), np.float32), rng.random((4, 4), np.float32)
    for backend in ("numpy", "cupy"):
        np.testing.assert_allclose(to_host(ceilings.make(4, seed=1, backend=backend).run()), a @ b, rtol=1e-5)
    copied = []
    monkeypatch.setattr(load_kernels("cupy").xp, "copyto", lambda to, given: copied.append((to.nbytes, given.nbytes)))
    ceilings.make("copy", backend="cupy").run()
    assert copied == [(1000, 1000)]
    assert ceilings.prepare(1, "cupy")["copy_bytes"] == 2000


# --- the profile ---


def marks(step) -> list[dict]:
    """The functions in every place where a profile puts others; compared with == they are the same ones."""
    layers = [layer for _, layer in profile.leaves(step.model)]
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("scratchgen.models.")]
    places = [vars(thing) for thing in (step, *layers, *step.optimizers.values())] + modules
    places.append(sg.models.autoencoder.LOSSES)
    return [{name: f for name, f in place.items() if callable(f)} for place in places] + [plain_kernels()]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_parts_of_a_step_add_up_to_it(name, monkeypatch):
    step = steps.make(SMALL[name])
    step.run()
    before = marks(step)
    ticks = count()
    with profile.watching(step) as run_once, monkeypatch.context() as patch:
        patch.setattr(profile.time, "perf_counter", lambda: float(next(ticks)))
        for _ in range(2):  # each run is counted by itself
            start = next(ticks)
            clock = run_once()
            whole = next(ticks) - start - 2  # the two ticks here lie outside
            assert sum(clock.seconds.values()) == whole
    assert marks(step) == before
    assert all(seconds > 0 for seconds in clock.seconds.values())
    assert sum(clock.operations.values()) == by_hand(SMALL[name])
    assert profile.STEP not in clock.operations, "arithmetic that is no part's"


def test_parts_are_told_apart_by_layer_direction_and_visit():
    step = steps.make(SMALL["dcgan28"])
    with profile.watching(step) as run_once:
        run_once()
        clock = run_once()
    parts = {(p.part, p.visit, p.direction): p for p in clock.seconds}
    n = SMALL["dcgan28"].batch
    first, second = ("discriminator.0", "discriminator.2")
    for visit in range(3):
        assert {d for name, v, d in parts if (name, v) == (second, visit)} == (
            {"forward", "dx", "dW", "adding"} if visit < 2 else {"forward", "dx", "adding"}
        )
        assert clock.operations[parts[second, visit, "dx"]] == 2 * n * 7 * 7 * 16 * 2 * 4
    assert (first, 0, "dx") not in parts
    assert (first, 2, "dx") in parts
    assert (first, 2, "dW") not in parts
    assert {d for name, _, d in parts if name == "generator.2"} == {
        *("forward", "shared", "dx", "dgamma", "dbeta", "adding")
    }
    assert parts[second, 0, "forward"][1:] == ("Conv2d", "forward", 0, "4×4×2×4")
    calls = {p.part: clock.calls[p] for p in clock.seconds if p.kind in ("loss", "optimizer", "noise", "other")}
    assert calls == {"bce_with_logits": 3, "discriminator Adam": 1, "generator Adam": 1, "noise": 1, "other": 1}


def test_what_a_step_leaves_out_a_profiled_one_does_too():
    step = steps.make(SMALL["gan"])
    with profile.watching(step) as run_once:
        parts = run_once().seconds
    entrance = [(p.visit, p.direction) for p in parts if p.part == "discriminator.0"]  # Flatten
    assert sorted(entrance) == [(0, "forward"), (1, "forward"), (2, "adding"), (2, "dx"), (2, "forward")]


def test_a_profiled_step_is_the_step():
    for name, setting in SMALL.items():
        plain, watched = steps.make(setting), steps.make(setting)
        for _ in range(2):
            plain.run()
        with profile.watching(watched) as run_once:
            for _ in range(2):
                run_once()
        for key, p in plain.model.named_parameters().items():
            np.testing.assert_array_equal(
                p.value, watched.model.named_parameters()[key].value, err_msg=f"{name} {key}"
            )


@pytest.mark.parametrize("where", ["noise", "loss", "optimizer"])
def test_a_profile_leaves_no_trace_after_an_error(where, monkeypatch):
    step = steps.make(SMALL["vae"])

    def fails(*args):
        raise KeyError(where)

    if where == "noise":
        step.noise = fails
    elif where == "loss":
        monkeypatch.setattr(sg.models.vae, "gaussian_kl", fails)
        monkeypatch.setattr(sg.losses, "gaussian_kl", fails)
        fails.__module__ = "scratchgen.losses"
    else:
        step.optimizers[""].step = fails
    before = marks(step)
    with pytest.raises(KeyError), profile.watching(step) as run_once:
        run_once()
    assert marks(step) == before


def test_the_figures_of_a_profile():
    step = steps.make(SMALL["gan"])
    entry = profile.profile(step, 0.02)
    assert entry["steps_timed"] >= profile.LEAST_STEPS
    assert entry["sum_ms"] == pytest.approx(sum(part["ms"] for part in entry["parts"]))
    assert 0.5 < entry["sum_ms"] / entry["step_ms"] < 1.5
    assert entry["gflop"] == pytest.approx(by_hand(SMALL["gan"]) / 1e9)
    assert sum(part["gflop"] for part in entry["parts"]) == pytest.approx(entry["gflop"])
    visits = {part["visit"] for part in entry["parts"] if part["part"].startswith("discriminator.")}
    assert visits == {"real", "fake", "in G's step"}
    assert {part["visit"] for part in entry["parts"] if part["part"].startswith("generator.")} == {""}


class Queue:
    """Steps that are queued at once, and take a second each of a clock that stands while nobody waits."""

    images, parameters = 5, 7

    def __init__(self):
        self.now, self.queued, self.log = 0.0, 0, []

    def run(self):
        self.queued += 1
        self.log.append("run")

    def wait(self):
        self.now += self.queued
        self.queued = 0
        self.log.append("wait")

    def make(self, what, *, layout, seed, backend):
        return self


def test_stopwatches_wait_for_what_was_queued_in_them(monkeypatch):
    queue = Queue()
    monkeypatch.setattr(profile.time, "perf_counter", lambda: queue.now)
    clock = profile.Clock(queue.wait)

    def part(name):
        return profile.Part(name, "kind", "forward")

    inner = clock.timed(part("inner"), lambda: [queue.run() for _ in range(5)])

    def work():
        queue.run()
        inner()
        queue.run()
        queue.run()

    queue.run()  # before all of it: nobody's
    clock.timed(part("outer"), work)()
    assert dict(clock.seconds) == {part("inner"): 5.0, part("outer"): 3.0}


def test_a_kernel_is_timed_behind_other_work_by_the_gpus_own_clock(monkeypatch):
    """Events before and after the calls, when the copies are queued already, and nothing waits in between."""
    log = []

    class Event:
        def record(self):
            log.append("event")

        def synchronize(self):
            log.append("wait")

    class Library:
        class cuda:
            get_elapsed_time = staticmethod(lambda start, end: 6.0 if start is not end else 0.0)

    Library.cuda.Event = Event
    monkeypatch.setattr(kernels.ceilings, "copy", lambda: lambda: log.append("copy"))
    monkeypatch.setattr(kernels, "wait", lambda: log.append("wait"))
    monkeypatch.setattr(kernels, "AHEAD", 2)
    monkeypatch.setattr(kernels, "REPEATS", 3)
    clock = kernels.Clock(Library)
    assert clock.seconds(lambda: log.append("run")) == pytest.approx(6e-3 / 3)
    assert log == ["run", "copy", "copy", "event", "run", "run", "run", "event", "wait", "wait"]


@pytest.mark.parametrize("name", ["gan", "dcgan64"])
def test_the_kernels_of_a_step_are_all_there_with_what_they_must_move(name, strict):
    step = steps.make(SMALL[name], backend="cupy")
    found = kernels.times(step)
    assert all(entry["seconds"] > 0 for kind in found.values() for entry in kind)
    products = sum(entry["calls"] * entry["operations"] for entry in found["products"])
    assert products == operations(step.run, "cupy"), "all of the step's arithmetic"
    calls = Counter()
    for entry in found["kernels"]:
        calls[entry["kernel"]] += entry["calls"]
    normalised = {"gan": 3, "dcgan64": 4 + 3 * 3}[name]  # BatchNorms of G once, of D three times
    assert calls["mean_and_variance"] == calls["channel_sums"] == normalised
    assert (calls["adam"], calls["sum_with_map"]) == (2, 3)
    formulas = {(entry["kernel"], entry["formula"]) for entry in found["kernels"]}
    assert {
        ("elementwise", "batchnorm scale_and_shift"),
        ("elementwise", "activations leaky_relu_pullback"),
    } <= formulas
    assert {
        ("channel_sums", "batchnorm terms_of_dbeta_and_dgamma"),
        ("sum_with_map", "losses guarded_cross_entropy"),
    } <= formulas
    weights = [p.value.size for p in step.model.discriminator.parameters()]
    of_d = next(
        e for e in found["kernels"] if e["kernel"] == "adam" and e["shape"].endswith(f"in {len(weights)} arrays")
    )
    assert of_d["bytes"] == 7 * 4 * sum(weights), "value, gradient, m and v are read, value, m and v written"
    if name == "dcgan64":
        N, image, cols = 2, 64 * 64 * 3, 32 * 32 * 4 * 4 * 3
        entry = next(e for e in found["kernels"] if (e["kernel"], e["shape"]) == ("im2col", "2×64×64×3"))
        assert entry["bytes"] == 4 * N * (image + cols)
        assert entry["calls"] == 3 + 1  # D's forward; G's dx, its last layer is D's first turned round. dW has them
        entry = next(
            e for e in found["kernels"] if e["formula"] == "batchnorm scale_and_shift" and e["shape"] == "2×32×32×1"
        )
        assert entry["bytes"] == 4 * (2 * 2 * 32 * 32 + 4)


@pytest.mark.parametrize("columns_bytes", [1 << 30, 1 << 12])
def test_the_columns_in_a_profile_are_those_that_a_step_launches(columns_bytes, strict, monkeypatch):
    """Counted where kernels are got: kept columns launch nothing, and a batch in parts launches for each."""
    from scratchgen.backend.cupy_ops import convolution

    monkeypatch.setattr(convolution, "COLUMNS_BYTES", columns_bytes)
    step, plain, launched = steps.make(SMALL["dcgan28"], backend="cupy"), convolution.kernel, Counter()
    with monkeypatch.context() as patch:
        patch.setattr(
            convolution, "kernel", lambda file, name, *a, **k: launched.update([name]) or plain(file, name, *a, **k)
        )
        step.run()
    found = Counter()
    for entry in kernels.times(step)["kernels"]:
        if entry["kernel"] in ("im2col", "col2im"):
            found[entry["kernel"]] += entry["calls"]
    assert found == launched
    parts = 1 if columns_bytes == 1 << 30 else 2  # of the batch, and then no columns are kept
    assert found["im2col"] == (2 * 3 + 2 if parts == 1 else parts * (2 * (3 + 2) + 2 * 2))


# --- turns and figures ---


class Fake:
    """A side that answers from a list."""

    side = "fake"

    def __init__(self, log, name, seconds):
        self.log, self.name, self.seconds = log, name, iter(seconds)

    def ask(self, do, lane, **arguments):
        if do == "make":
            return {"images": 10, "parameters": 7, "seconds": 0.001}
        self.log.append(self.name)
        return [next(self.seconds)] * arguments["steps"]


def test_turns_alternate_there_and_back():
    log = []
    lanes = [children.Lane(name, Fake(log, name, [1.0] * 99), None) for name in "abc"]
    told = []
    children.alternate(lanes, rounds=3, seconds=1e9, tell=told.append)
    assert "".join(log) == "abc" + "cba" + "abc"
    assert told == [1, 2, 3]
    log.clear()
    children.alternate(lanes, rounds=1, seconds=1e9)
    assert "".join(log) == "abc"
    log.clear()
    children.alternate(lanes, rounds=None, seconds=1e-9)
    assert len(log) == 3 * children.LEAST_ROUNDS


def test_a_turn_is_as_many_steps_as_fill_it(monkeypatch):
    lane = children.Lane("a", Fake([], "a", [1.0]), None)
    for turn, wanted in ((0.01, 10), (1e-9, 1), (1e9, children.MOST_STEPS)):
        monkeypatch.setattr(children, "TURN", turn)
        lane.make(0)
        assert (lane.steps, lane.images, lane.parameters) == (wanted, 10, 7)


def test_a_turn_on_a_gpu_is_a_block_of_steps_between_two_waits(monkeypatch):
    queue, side = Queue(), worker.Worker("scratchgen", "cupy")
    side.module = queue
    monkeypatch.setattr(worker.time, "perf_counter", lambda: queue.now)
    made = side.make("a", None, "", 0)
    assert made == {"images": 5, "parameters": 7, "seconds": 1.0}
    queue.log.clear()
    assert side.turn("a", 3) == [1.0]
    assert queue.log == ["run", "wait", "run", "run", "run", "wait"], "the first step is not in it"
    lane = children.Lane("a", None, None, images=10, steps=3, rounds=[[0.5], [0.25]])
    found = compare.figures(lane, 10**9)
    assert (found["steps_timed"], found["ms"]["median"], found["round_ms"]) == (6, 375.0, [500.0, 250.0])


def test_the_figures_are_those_of_all_steps_and_the_ratio_that_of_each_round():
    lanes = []
    every = {"scratchgen": (1, 2, 9), "without [fast]": (1, 1, 1), "torch": (4, 4, 3), "channels_last": (2, 8, 3)}
    for name, seconds in every.items():
        lane = children.Lane(name, Fake([], name, seconds), None, images=10, parameters=7, steps=2)
        for _ in range(3):
            lane.turn()
        lanes.append(lane)
    found = compare.figures(lanes[0], 4 * 10**9)
    assert found["ms"]["median"] == 2000
    assert found["ms"]["p10"] == 1000
    assert found["ms"]["p90"] == 9000
    assert (found["images_per_second"], found["gflop_per_second"]) == (5, 2)
    assert (found["steps_timed"], found["round_ms"], found["parameters"]) == (6, [1000, 2000, 9000], 7)
    against = compare.versus(lanes)
    assert against["opponent"] == "channels_last"  # median 3, torch's is 4; ours without [fast] is no opponent
    assert against["ratio"]["rounds"] == [0.5, 0.25, 3]
    assert against["ratio"]["median"] == 0.5
    assert compare.versus(lanes[:1]) == compare.versus(lanes[:2]) == {"opponent": None, "ratio": None}
    lanes[0].what = 1000
    assert compare.sgemm_rate(lanes[0])["median"] == 1


def test_the_ratio_of_growth_is_to_the_opponent_whose_time_is_compared():
    def entry(ours, torch, channels_last):
        growths = {"scratchgen": ours, "torch": torch, "channels_last": channels_last}
        sides = [{"side": name, "memory": None if g is None else {"growth": g}} for name, g in growths.items()]
        return {"opponent": "channels_last", "sides": sides}

    assert compare._growth_ratio(entry(30, 10, 20)) == 1.5
    assert compare._growth_ratio(entry(30, 10, None)) is None
    assert compare._growth_ratio(entry(None, 10, 20)) is None
    assert compare._growth_ratio(entry(30, 10, 20) | {"opponent": None}) is None


# --- launches ---


def test_launches_are_the_kernels_in_a_trace():
    events = [{"cat": "kernel"}, {"cat": "Kernel"}, {"cat": "gpu_memcpy"}, {"cat": "gpu_memset"}, {"ph": "M"}]
    events += [{"cat": "cuda_runtime", "name": "cudaLaunchKernel"}, {"cat": "kernel"}, {"cat": "kernel"}]
    assert launches.counted(events, 2) == {"kernels": 2.0, "copies": 1.0}
    assert launches.counted(events[2:6], 2) == {"missing": "PyTorch's profiler saw no kernel"}


def test_a_profiler_that_fails_costs_no_more_than_the_count(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = launches.count(lambda: pytest.fail("nothing is run"), lambda: None)
    assert found["missing"].startswith("PyTorch's profiler: ModuleNotFoundError: ")

    class Ended:
        def ask(self, do, **arguments):
            if do == "memory":
                return {"before": 0.0, "peak": 1.0}
            raise ChildProcessError(f"the process ended in {do}")

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    running = compare.Sides.__new__(compare.Sides)
    running.options, running.children = compare.Options(threads=1, backend="cupy"), {"torch": None}
    running.start = lambda side: Ended()
    lane = children.Lane("scratchgen", types.SimpleNamespace(side="scratchgen"), None)
    assert compare._apart(running, lane)["launches"] == {"missing": "the process ended in launches"}


def test_a_profiler_that_never_comes_back_ends_its_process():
    """And no other: what it says last is where it was."""
    program = f"""
import runpy, time, types
worker = runpy.run_path({str(WORKER)!r})
side = worker["Worker"]("scratchgen", "cupy")
side.launches.__func__.__globals__["PATIENCE"] = 0.2
import scratchgen.bench.launches as launches
launches.count = lambda run, wait: time.sleep(60)
step = types.SimpleNamespace(run=None)
side.module = types.SimpleNamespace(wait=None, make=lambda what, **options: step)
side.launches(1, "", 0)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 1
    assert "in launches" in ran.stderr


def test_a_trace_of_pytorchs_is_read(fake_cuda, monkeypatch):
    """Its form, on the CPU: the profiler is asked for what happens there."""
    torch = pytest.importorskip("torch")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        torch.ones(3) + 1
    events = launches._events(profiler)
    assert any(event.get("cat") == "cpu_op" and event["name"] == "aten::add" for event in events)

    class Profile:
        def __init__(self, activities):
            assert activities == [torch.profiler.ProfilerActivity.CUDA]
            self.__enter__ = None

        def __enter__(self):
            ran.append("start")
            return self

        def __exit__(self, *exception):
            ran.append("end")

    ran = []
    monkeypatch.setattr(torch.profiler, "profile", Profile)
    monkeypatch.setattr(launches, "_events", lambda profiler: [{"cat": "kernel"}] * 30)
    found = launches.count(lambda: ran.append("run"), lambda: ran.append("wait"))
    assert found == {"kernels": 30 / launches.STEPS, "copies": 0.0}
    once = ["wait", "start", *["run"] * launches.STEPS, "wait", "end"]
    assert ran == ["run", "run", *once, *once], "the second profile counts, of steps that are done"


# --- processes ---


def test_a_child_answers_and_is_gone_with_its_block():
    with Child("scratchgen", threads=1) as child:
        assert child.about["threads"] == 1
        assert child.about["numpy"] == np.__version__
        child.process.send_signal(signal.SIGINT)  # Ctrl-C is for whoever asked
        made = child.ask("make", lane="a", what=asdict(SMALL["vae"]), layout="", seed=0)
        assert made["images"] == 3
        assert made["parameters"] == steps.make(SMALL["vae"]).parameters
        assert 0 < made["seconds"] < 1
        seconds = child.ask("turn", lane="a", steps=4)
        assert len(seconds) == 4
        assert min(seconds) > 0
        assert child.ask("operations", lane="a") == by_hand(SMALL["vae"])
        child.ask("clear")
        # it ends with its input, even in the middle of a turn that would take hours
        child.ask("make", lane="a", what=asdict(SMALL["ae"]), layout="", seed=0)
        print(json.dumps({"do": "turn", "lane": "a", "steps": 10**9}), file=child.process.stdin, flush=True)
        time.sleep(0.1)
        assert child.process.poll() is None
        start = time.perf_counter()
        child.close()
        assert time.perf_counter() - start < 2
    assert child.process.returncode == 0


def test_a_side_without_fast_says_so():
    with Child("scratchgen", threads=1) as child, Child(children.PLAIN, threads=1) as plain:
        assert plain.about["numba"] is None
        assert plain.about | {"numba": child.about["numba"]} == child.about


def test_whether_numba_is_used_is_said_without_loading_it(monkeypatch):
    monkeypatch.delenv("SCRATCHGEN_FAST", raising=False)
    monkeypatch.setattr(steps.fast, "installed", lambda: True)
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 9")
    assert steps.numba() == "numba 9"
    monkeypatch.setenv("SCRATCHGEN_FAST", "0")
    assert steps.numba() is None
    monkeypatch.delenv("SCRATCHGEN_FAST")
    monkeypatch.setattr(steps.fast, "installed", lambda: False)
    assert steps.numba() is None


def test_a_child_that_dies_is_one_sentence():
    with Child("sgemm", threads=1) as child:
        with pytest.raises(
            ChildProcessError, match=r"^the benchmark's process for sgemm ended with status 1: KeyError: 'no'$"
        ):
            child.ask("turn", lane="no", steps=1)
        with pytest.raises(ChildProcessError):
            child.ask("turn", lane="no", steps=1)
    with Child("sgemm", threads=1) as child:
        child.process.kill()
        child.process.wait()
        with pytest.raises(ChildProcessError, match=r"was ended by SIGKILL|ended with status"):
            child.ask("clear")


def test_a_process_on_the_gpu_or_why_there_is_none():
    reason = None
    try:
        load_kernels("cupy")
    except sg.BackendUnavailable as error:
        reason = str(error)
    if reason is None:
        with Child("scratchgen", threads=1, backend="cupy", precision="tf32") as child:
            assert child.about["precision"] == "tf32"
    else:
        with pytest.raises(ChildProcessError) as ended:
            Child("scratchgen", threads=1, backend="cupy")
        assert reason in str(ended.value)


def test_the_environment_of_a_child(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("SCRATCHGEN_BLAS", "default")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    names = environment(2, None)
    assert {names[name] for name in THREADS} == {"2"}
    assert (names["SCRATCHGEN_BLAS"], names["OPENBLAS_CORETYPE"]) == ("default", "Haswell")
    names = environment(2, "selected")
    assert "SCRATCHGEN_BLAS" not in names
    assert names["OPENBLAS_CORETYPE"] == "Haswell", "the user's own stays"
    monkeypatch.setitem(selection.chosen, "OPENBLAS_CORETYPE", "Haswell")
    assert "OPENBLAS_CORETYPE" not in environment(2, "default"), "what scratchgen chose for this process does not"
    monkeypatch.delenv("SCRATCHGEN_BLAS")
    names = environment(2, "default")
    assert names["SCRATCHGEN_BLAS"] == "default"
    assert "OPENBLAS_CORETYPE" not in names
    monkeypatch.delenv("SCRATCHGEN_FAST", raising=False)
    assert "SCRATCHGEN_FAST" not in environment(2, None)
    assert environment(2, None, fast=False)["SCRATCHGEN_FAST"] == "0"
    monkeypatch.setenv("SCRATCHGEN_FAST", "1")
    assert environment(2, None)["SCRATCHGEN_FAST"] == "1", "the user's own stays"


def test_ctrl_c_stops_everything_at_once(tmp_path):
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'asked')!r}, 'x')\nraise ImportError('there is none')")
    argv = [sys.executable, "-m", "scratchgen", "bench", "ae", "--rounds", "1000", "--json", "never.json"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    bench = subprocess.Popen(
        argv,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it behind an &
    )
    while not os.path.exists("asked"):  # for PyTorch, which is the last process to start
        assert bench.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(bench.pid, signal.SIGINT)
    out, err = bench.communicate(timeout=10)
    assert (bench.returncode, out) == (130, "")
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.killpg(bench.pid, 0)
    assert set(os.listdir()) - {"__pycache__"} == {"asked", "torch.py"}


# --- memory and the machine ---


def test_memory_grows_with_what_a_step_holds():
    grown = []
    for n in (1, 32):
        with Child("scratchgen", threads=1) as child:
            setting = SETTINGS["dcgan28"].vary(batch=n, width=8)
            held = child.ask("memory", what=asdict(setting), layout="", seed=0)
        if held["before"] is None:
            pytest.skip("this system does not say")
        grown.append(held["peak"] - held["before"])
    assert 0 < grown[0] < grown[1]


def test_the_peak_is_that_of_building_a_step_and_running_it_a_few_times(monkeypatch):
    """On a GPU that of the side's memory pool, without what only the first steps needed."""
    log = []

    def noted(name, answer=None):
        return lambda *args, **options: log.append(name) or answer

    for name, answer in (("forget_peak", None), ("resident", 3.0), ("peak", 5.0)):
        monkeypatch.setattr(machine, name, noted(name, answer))
    side = types.SimpleNamespace(
        make=noted("make", types.SimpleNamespace(run=noted("run"))),
        wait=noted("wait"),
        pool=lambda: (noted("free"), noted("taken", 7 * 2**20)),
    )
    monkeypatch.setattr(worker, "STEPS_HELD", 2)
    for backend, found in (("numpy", {"before": 3.0, "peak": 5.0}), ("cupy", {"before": 0.0, "peak": 7.0})):
        log.clear()
        one = worker.Worker("scratchgen", backend)
        one.module = side
        assert one.memory(64, "flat", 1) == found
        assert log[:3] == ["forget_peak", "resident", "make"]
        runs = ["wait", "run", "run", "wait"]
        assert log[3:] == (["run", "run", "peak"] if backend == "numpy" else [*runs, "free", *runs, "taken"])


def test_the_pools_give_back_and_say_what_they_have_taken(strict, fake_cuda, monkeypatch):
    from scratchgen.bench import opponent

    pool = types.SimpleNamespace(free_all_blocks=lambda: "free", total_bytes=lambda: 5)
    monkeypatch.setattr(load_kernels("cupy").xp, "get_default_memory_pool", lambda: pool)
    assert [f() for f in steps.pool()] == ["free", 5]
    free, taken = opponent.pool()
    free()
    assert taken() == 3 * 2**20
    assert fake_cuda == ["empty_cache", "reset_peak_memory_stats", "max_memory_reserved"]


def test_memory_is_read_where_the_system_says_it(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n")
    monkeypatch.setattr(machine, "STATUS", status)
    assert (machine.resident(), machine.peak()) == (2.0, 4.0)
    monkeypatch.setattr(machine, "STATUS", tmp_path / "none")
    monkeypatch.setattr(machine, "CLEAR", tmp_path / "none" / "none")
    machine.forget_peak()
    resource = pytest.importorskip("resource")
    usage = type("Usage", (), {"ru_maxrss": 3 * 2**20})
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    for platform, mebibytes in (("linux", 3072.0), ("darwin", 3.0)):
        monkeypatch.setattr(sys, "platform", platform)
        assert machine.resident() == machine.peak() == mebibytes
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    assert machine.resident() is machine.peak() is None


def test_a_forgotten_peak_is_no_longer_seen():
    if machine._status("VmHWM") is None:
        pytest.skip("this system does not say")
    block = np.ones(8 * 2**20, np.float32)  # 32 MiB
    high = machine.peak()
    del block
    machine.forget_peak()
    if machine.peak() > high - 16:
        pytest.skip("this system does not forget")
    assert machine.peak() < high - 16


def test_the_machine_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    assert machine.machine()["cpu"] == "unknown"
    (tmp_path / "some").write_text("processor: 0\nmodel name\t: Best CPU: 9\nmodel name: other\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "some")
    assert machine.machine()["cpu"] == "Best CPU: 9"
    assert machine.machine()["cores"] == cores()


def test_busy_loops_run_beside_and_end(monkeypatch):
    started, popen = [], children.subprocess.Popen
    monkeypatch.setattr(children.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with children.busy_loops(2):
        time.sleep(0.2)
        assert [loop.poll() for loop in started] == [None, None]
    assert None not in [loop.poll() for loop in started]


def test_a_busy_loop_ends_with_who_started_it():
    loop = subprocess.Popen([sys.executable, "-S", "-c", children.BUSY], stdin=subprocess.PIPE)
    time.sleep(0.2)
    assert loop.poll() is None
    loop.stdin.close()
    assert loop.wait(20) == 0
