"""The benchmark: arithmetic by hand, stopwatches that leave no trace, processes that end, the command."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from itertools import count, pairwise

import numpy as np
import pytest
from PIL import Image
from tiny import run

import scratchgen as sg
from scratchgen import blas as selection
from scratchgen.backend import load_kernels
from scratchgen.backend.threads import cores, get_threads, set_threads
from scratchgen import table
from scratchgen.bench import ceilings, compare, machine, memory, printed, profile, rounds, scaling, steps
from scratchgen.bench.children import THREADS, WORKER, Child, environment
from scratchgen.bench.count import OPERATIONS, counting, operations
from scratchgen.bench.settings import SETTINGS
from scratchgen.bench.worker import Worker

SMALL = {
    "ae": SETTINGS["ae"].vary(batch=3),
    "vae": SETTINGS["vae"].vary(batch=3),
    "gan": SETTINGS["gan"].vary(batch=3),
    "dcgan28": SETTINGS["dcgan28"].vary(batch=2, width=2),
    "dcgan64": SETTINGS["dcgan64"].vary(batch=2, width=1),
}
AE, VAE = (784, 512, 128, 32, 128, 512, 784), ((784, 400, 40), (20, 400, 784))
GAN = (100, 128, 256, 512, 1024, 784), (784, 512, 256, 1)


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Short turns and a small product, elsewhere; the threads of the tests as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rounds, "TURN", 0.01)
    monkeypatch.setattr(rounds, "PAUSE", 0.0)
    monkeypatch.setattr(compare, "SGEMM_SIZES", {"numpy": 64})
    before = get_threads()
    yield
    set_threads(before)


@pytest.fixture
def without_torch(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('there is none')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def kernels():
    ops = load_kernels("numpy")
    return {name: getattr(ops, name) for name in OPERATIONS}


# --- arithmetic ---


def dense(sizes) -> list[int]:
    """Multiplications of each layer for one sample."""
    return [n_in * n_out for n_in, n_out in pairwise(sizes)]


def dcgan(setting) -> tuple[list[int], list[int]]:
    """Multiplications of each layer of G and of D for one image: (size of the small map)² · kernel² · in · out."""
    size, width, colours = setting.size, setting.width, setting.channels
    if size == 28:
        inner = [(14, 4, colours, width), (7, 4, width, 2 * width)]
        base, wide = 7, 2 * width
    else:
        inner = [(size >> k + 1, 4, width << k - 1 if k else colours, width << k) for k in range(4)]
        base, wide = 4, 8 * width
    maps = [n * n * k * k * c * o for n, k, c, o in inner]
    return [base * base * 100 * wide, *reversed(maps)], [*maps, base * base * wide]


def by_hand(setting) -> int:
    """Operations of one step: forward, dW, and dx but for the entrance; a frozen D needs no dW, but its dx."""
    name, N = setting.step, setting.batch
    if name == "ae":
        layers = dense(AE)
        total = 3 * sum(layers) - layers[0]
    elif name == "vae":
        layers = dense(VAE[0]) + dense(VAE[1])
        total = 3 * sum(layers) - layers[0]
    else:
        g, d = map(dense, GAN) if name == "gan" else dcgan(setting)
        total = 3 * sum(g) - g[0] + 2 * (3 * sum(d) - d[0]) + 2 * sum(d)
    return 2 * N * total


@pytest.mark.parametrize("name", SETTINGS)
def test_the_operations_of_every_step_are_those_of_a_hand_count(name):
    setting = SMALL[name]
    plain = kernels()
    assert operations(steps.make(setting).run) == by_hand(setting)
    assert kernels() == plain


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
    plain = kernels()

    def fails():
        assert kernels() != plain
        raise KeyError("in the step")

    with pytest.raises(KeyError):
        operations(fails)
    assert kernels() == plain
    ops = load_kernels("numpy")
    told = []
    with counting(told.append):
        with pytest.raises(ValueError, match="matmul"):
            ops.matmul(np.ones((2, 3)), np.ones((2, 3)))  # fails within a kernel: the next one is counted again
        ops.matmul(np.ones((2, 3)), np.ones((3, 1)))
    assert told[1:] == [12]


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


# --- the profile ---


def marks(step) -> list[dict]:
    """The functions in every place where a profile puts others; compared with == they are the same ones."""
    layers = [layer for _, layer in profile.leaves(step.model)]
    modules = [vars(module) for name, module in sys.modules.items() if name.startswith("scratchgen.models.")]
    places = [vars(thing) for thing in (step, *layers, *step.optimizers.values())] + modules
    places.append(sg.models.autoencoder.LOSSES)
    return [{name: f for name, f in place.items() if callable(f)} for place in places] + [kernels()]


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
    parts = {(p.name, p.visit, p.direction): p for p in clock.seconds}
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
    calls = {p.name: clock.calls[p] for p in clock.seconds if p.kind in ("loss", "optimizer", "noise", "other")}
    assert calls == {"bce_with_logits": 3, "discriminator Adam": 1, "generator Adam": 1, "noise": 1, "other": 1}


def test_what_a_step_leaves_out_a_profiled_one_does_too():
    step = steps.make(SMALL["gan"])
    with profile.watching(step) as run_once:
        parts = run_once().seconds
    entrance = [(p.visit, p.direction) for p in parts if p.name == "discriminator.0"]  # Flatten
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


# --- rounds and figures ---


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
    lanes = [rounds.Lane(name, Fake(log, name, [1.0] * 99), None) for name in "abc"]
    told = []
    rounds.alternate(lanes, rounds=3, seconds=1e9, tell=told.append)
    assert "".join(log) == "abc" + "cba" + "abc"
    assert told == [1, 2, 3]
    log.clear()
    rounds.alternate(lanes, rounds=1, seconds=1e9)
    assert "".join(log) == "abc"
    log.clear()
    rounds.alternate(lanes, rounds=None, seconds=1e-9)
    assert len(log) == 3 * rounds.LEAST_ROUNDS


def test_a_turn_is_as_many_steps_as_fill_it(monkeypatch):
    lane = rounds.Lane("a", Fake([], "a", [1.0]), None)
    for turn, wanted in ((0.01, 10), (1e-9, 1), (1e9, rounds.MOST_STEPS)):
        monkeypatch.setattr(rounds, "TURN", turn)
        lane.make(0)
        assert (lane.steps, lane.images, lane.parameters) == (wanted, 10, 7)


def test_the_figures_are_those_of_all_steps_and_the_ratio_that_of_each_round():
    lanes = []
    for name, seconds in (("scratchgen", (1, 2, 9)), ("torch", (4, 4, 3)), ("channels_last", (2, 8, 3))):
        lane = rounds.Lane(name, Fake([], name, seconds), None, images=10, parameters=7, steps=2)
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
    assert against["opponent"] == "channels_last"  # median 3, torch's is 4
    assert against["ratio"]["rounds"] == [0.5, 0.25, 3]
    assert against["ratio"]["median"] == 0.5
    assert compare.versus(lanes[:1]) == {"opponent": None, "ratio": None}
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


def test_the_opponents_process_loads_nothing_of_the_library():
    pytest.importorskip("torch")
    program = (
        f"import runpy, sys; load = runpy.run_path({str(WORKER)!r})['load']; load('torch'); "
        "print(sorted(m for m in sys.modules if m.startswith('scratchgen')))"
    )
    found = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    bare = ["scratchgen", "scratchgen.bench", "scratchgen.bench.opponent", "scratchgen.bench.settings"]
    assert eval(found) == bare


def test_ctrl_c_stops_everything_at_once(without_torch, tmp_path):
    (tmp_path / "torch.py").write_text(f"open({str(tmp_path / 'asked')!r}, 'x')\nraise ImportError('there is none')")
    argv = [sys.executable, "-m", "scratchgen", "bench", "ae", "--rounds", "1000", "--json", "never.json"]
    root = str(WORKER.parents[2])
    path = os.pathsep.join([os.environ["PYTHONPATH"], root])
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
    log = []
    for name, answer in (("forget_peak", None), ("resident", 3.0), ("peak", 5.0)):
        monkeypatch.setattr(memory, name, lambda name=name, answer=answer: log.append(name) or answer)
    step = type("Step", (), {"run": lambda self: log.append("run")})
    side = type("Side", (), {"make": lambda what, layout, seed, backend: log.append(f"make {what} {layout} {seed}") or step()})
    worker = Worker("scratchgen")
    worker.module = side
    assert worker.memory(64, "flat", 1) == {"before": 3.0, "peak": 5.0}
    assert log == ["forget_peak", "resident", "make 64 flat 1", "run", "run", "run", "peak"]


def test_memory_is_read_where_the_system_says_it(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n")
    monkeypatch.setattr(memory, "STATUS", status)
    assert (memory.resident(), memory.peak()) == (2.0, 4.0)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "none" / "none")
    memory.forget_peak()
    resource = pytest.importorskip("resource")
    usage = type("Usage", (), {"ru_maxrss": 3 * 2**20})
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    for platform, mebibytes in (("linux", 3072.0), ("darwin", 3.0)):
        monkeypatch.setattr(sys, "platform", platform)
        assert memory.resident() == memory.peak() == mebibytes
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows
    assert memory.resident() is memory.peak() is None


def test_a_forgotten_peak_is_no_longer_seen():
    if memory._status("VmHWM") is None:
        pytest.skip("this system does not say")
    block = np.ones(8 * 2**20, np.float32)  # 32 MiB
    high = memory.peak()
    del block
    memory.forget_peak()
    if memory.peak() > high - 16:
        pytest.skip("this system does not forget")
    assert memory.peak() < high - 16


def test_the_machine_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    assert machine.machine()["cpu"] == "unknown"
    (tmp_path / "some").write_text("processor: 0\nmodel name\t: Best CPU: 9\nmodel name: other\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "some")
    assert machine.machine()["cpu"] == "Best CPU: 9"
    assert machine.machine()["cores"] == cores()


# --- text ---


def test_numbers_have_three_digits():
    cases = {0: "0", 0.1234: "0.123", 0.99951: "1.00", 9.994: "9.99", 9.996: "10.0", 99.96: "100", 12345.6: "12,346"}
    assert {value: printed.number(value) for value in cases} == cases
    assert [printed.share(x) for x in (0.994, 0.0996, 0.0994)] == ["99 %", "10 %", "9.9 %"]
    assert printed.ratio(None) == ""


def test_tables():
    head, rows = ("a", "bbb"), [("xx", "1"), ("y", "22222")]
    assert table.text_table(head, rows) == ["a     bbb", "xx      1", "y   22222"]
    assert table.markdown_table(head, rows) == ["| a | bbb |", "| --- | --: |", "| xx | 1 |", "| y | 22222 |"]


def long_report() -> dict:
    """A report with figures as wide as they get."""
    ms = {"median": 1234.5, "p10": 1100.1, "p90": 12345.6}
    side = {
        "ms": ms,
        "images_per_second": 123456.7,
        "gflop_per_second": 1234.5,
        "share_of_sgemm": 1.0,
        "memory": None,
    }
    entry = {
        "step": "dcgan64",
        "batch": 128,
        "gflop": 123.4,
        "opponent": "channels_last",
        "growth_ratio": None,
        "ratio": {"median": 10.25, "p10": 10.11, "p90": 11.99},
        "sgemm_gflop_per_second": {"median": 1234.5},
        "sides": [{"side": name, **side} for name in ("scratchgen", "torch", "channels_last")],
    }
    about = {"numpy": "2.4.6", "threads": 64, "blas": ["SkylakeX"]}
    return {
        "scratchgen": "0.1.0",
        "torch_missing": "No module named 'torch'",
        "steps": [entry],
        "machine": {
            "cpu": "Intel(R) Xeon(R) Platinum 8480C CPU",
            "cores": 64,
            "system": "Linux x86_64",
            "python": "3.13.1",
        },
        "options": {"memory": True, "threads": 64, "backend": "numpy"},
        "sides": {
            "scratchgen": about,
            "torch": {"torch": "2.13.0", "threads": 32, "instructions": "AVX512"},
            "sgemm": about | {"threads": None, "blas": []},
        },
    }


def test_the_table_is_no_wider_than_110_and_says_what_is_unknown():
    lines = printed.comparison(long_report())
    assert max(map(len, lines[: lines.index("")])) <= 110
    assert max(len(line) for line in lines if "PyTorch cannot" not in line) <= 110
    text = "\n".join(lines)
    assert "unequal     torch did not take the 64 threads asked for" in text
    assert "BLAS kernels for unknown, unknown threads" in text
    assert text.count("unknown  unknown  unknown") == 3
    report = long_report()
    report["steps"][0]["growth_ratio"] = 0.54
    for side in report["steps"][0]["sides"]:
        side["memory"] = {"before": 36.4, "peak": 1236.6, "growth": 1200.2}
    rows = [line.split() for line in printed.memory(report)[4:]]
    figures = ["36", "1,237", "1,200"]
    assert rows == [["dcgan64", "scratchgen", *figures, "0.54"], ["torch", *figures], ["channels_last", *figures]]
    starred = [line for line in lines if line.endswith("*")]
    assert len(starred) == 1
    assert "channels_last" in starred[0]


# --- scaling ---


def test_the_points_of_every_axis():
    def points(axis, name, **options):
        found = scaling.along(axis, SETTINGS[name], **{"threads": 2, "batch": None} | options)
        return [value for value, _ in found], [setting for _, setting in found]

    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert points("batch", "dcgan28")[0] == [s.batch for s in points("batch", "dcgan28")[1]] == batches
    assert points("batch", "gan")[0] == batches[1:]
    assert points("batch", "dcgan64")[0] == batches[:8]
    sizes, settings = points("size", "dcgan28")
    assert sizes == [s.size for s in settings] == [28, 32, 64, 96, 128]
    assert {s.batch for s in settings} == {16}
    widths, settings = points("width", "dcgan64", batch=4)
    assert widths == [s.width for s in settings] == [16, 32, 64, 128]
    assert {s.batch for s in settings} == {4}
    assert points("threads", "ae")[0] == [1, 2]
    assert points("threads", "ae", batch=7)[1][0].batch == 7
    assert points("threads", "ae", threads=8)[0] == list(range(1, 9))
    assert points("threads", "ae", threads=24)[0] == [1, 2, 4, 8, 16, 24]
    assert points("threads", "ae", threads=16)[0] == [1, 2, 4, 8, 16]
    with pytest.raises(ValueError, match="fully connected"):
        points("size", "ae")


def test_growth_is_over_the_point_before(monkeypatch, capsys):
    monkeypatch.setitem(scaling.AXES, "batch", (1, 4))
    assert run("bench", "vae", "--scaling", "batch", "--no-torch", "--rounds", "2", "--json", "a.json",
               "--picture", "a.png") == 0  # fmt: skip
    said = capsys.readouterr()
    assert said.err == ""
    with open("a.json", encoding="utf-8") as file:
        entry = json.load(file)["steps"][0]
    first, second = entry["points"]
    assert (first["batch"], second["batch"]) == (1, 4)
    assert first["growth"] is None
    assert second["gflop"] == pytest.approx(4 * first["gflop"])
    ms = [p["sides"][0]["ms"]["median"] for p in (first, second)]
    growth = second["growth"]
    assert growth["time"] == pytest.approx(ms[1] / ms[0])
    assert growth["gflop"] == pytest.approx(4)
    assert growth["quotient"] == pytest.approx(ms[1] / ms[0] / 4)
    row = next(line.split() for line in said.out.splitlines() if line.startswith("4 "))
    assert row[2] == printed.number(ms[1])
    assert row[5:] == [printed.number(growth[k]) for k in ("time", "gflop", "quotient")]
    assert "vae, 28×28×1, threads" in said.out
    with Image.open("a.png") as picture:
        assert picture.size == (462, 418)


# --- the command ---


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """What a comparison with PyTorch prints, and its JSON."""
    pytest.importorskip("torch")
    base = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setattr(rounds, "TURN", 0.02)
        patch.setattr(compare, "SGEMM_SIZES", {"numpy": 256})
        with open("printed.txt", "w+", encoding="utf-8") as said:
            patch.setattr(sys, "stdout", said)
            argv = ("vae", "dcgan28", "--batch-size", "2", "--rounds", "2", "--threads", "1", "--json", "a.json")
            argv += ("--skip-memory",)
            assert run("bench", *argv) == 0
        with open("printed.txt", encoding="utf-8") as said, open("a.json", encoding="utf-8") as file:
            return said.read().splitlines(), json.load(file)


def test_the_table_says_what_the_json_says(compared):
    lines, report = compared
    top = next(i for i, line in enumerate(lines) if line.startswith("step ") and "GFLOP/s" in line)
    assert [entry["step"] for entry in report["steps"]] == ["vae", "dcgan28"]
    sides = [(entry, side) for entry in report["steps"] for side in entry["sides"]]
    assert [side["side"] for _, side in sides] == [
        *("scratchgen", "torch"),
        *("scratchgen", "torch", "channels_last"),
    ]
    for line, (entry, side) in zip(lines[top + 1 :], sides, strict=False):
        cells = line.split()
        if side["side"] == "scratchgen":
            assert cells[:3] == [entry["step"], "2", printed.number(entry["gflop"])]
            assert line.endswith(printed.ratio(entry["ratio"]))
            cells = cells[3:]
        else:
            assert line.endswith("*") == (side["side"] == entry["opponent"])
        name, ms, span, images, gflops, share, percent = cells[:7]
        assert (name, percent) == (side["side"], "%")
        assert ms == printed.number(side["ms"]["median"])
        assert span == printed.span(side["ms"])
        assert images == f"{side['images_per_second']:,.0f}"
        assert gflops == printed.number(side["gflop_per_second"])
        assert f"{share} %" == printed.share(side["share_of_sgemm"])
    assert max(map(len, lines)) <= 110


def test_the_figures_of_a_comparison_agree_with_each_other(compared):
    _, report = compared
    assert {side["threads"] for side in report["sides"].values()} == {1}
    assert set(report["sides"]) == {"scratchgen", "torch", "sgemm"}
    for entry in report["steps"]:
        setting = SETTINGS[entry["step"]].vary(batch=2)
        assert entry["gflop"] == pytest.approx(by_hand(setting) / 1e9)
        assert len({side["parameters"] for side in entry["sides"]}) == 1
        sgemm = entry["sgemm_gflop_per_second"]["median"]
        for side in entry["sides"]:
            ms = side["ms"]["median"]
            assert side["images_per_second"] == pytest.approx(2e3 / ms)
            assert side["gflop_per_second"] == pytest.approx(1e3 * entry["gflop"] / ms)
            assert side["share_of_sgemm"] == pytest.approx(side["gflop_per_second"] / sgemm)
            assert side["ms"]["p10"] <= ms <= side["ms"]["p90"]
            assert len(side["round_ms"]) == entry["rounds"] == 2
        ours, *others = entry["sides"]
        best = min(others, key=lambda side: side["ms"]["median"])
        assert best["side"] == entry["opponent"]
        wanted = [a / b for a, b in zip(ours["round_ms"], best["round_ms"], strict=True)]
        assert entry["ratio"]["rounds"] == pytest.approx(wanted)
        assert entry["ratio"]["median"] == pytest.approx(np.median(wanted))


def test_without_torch_it_runs_alone_and_says_so(without_torch, capsys):
    assert (
        run("bench", "vae", "--batch-size", "2", "--rounds", "1", "--threads", "1", "--markdown", "--json", "a.json")
        == 0
    )
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[-1].startswith("PyTorch cannot be used here (there is none)")
    assert 'pip install "scratchgen-nn[oracle]"' in lines[-1]
    assert sum(line.startswith("| vae | 2 |") for line in lines) == 1
    assert not any("torch |" in line for line in lines)
    assert sum(line.startswith("| vae | scratchgen |") for line in lines) == 1  # its memory
    assert any(line.startswith("- sgemm: ") for line in lines)
    with open("a.json", encoding="utf-8") as file:
        entry = json.load(file)["steps"][0]
    (side,) = entry["sides"]
    assert (entry["ratio"], entry["growth_ratio"]) == (None, None)
    if (held := side["memory"]) is not None:
        assert 0 < held["growth"] == pytest.approx(held["peak"] - held["before"])
        assert f"| {held['before']:,.0f} | {held['peak']:,.0f} | {held['growth']:,.0f} |" in said.out


def test_a_broken_torch_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "torch.py").write_text("raise RuntimeError('a library of it is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run("bench", "vae", "--rounds", "1", "--json", "a.json") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "process for torch ended with status 1: RuntimeError: a library of it is broken" in said.err
    assert not os.path.exists("a.json")


def test_profile_of_the_command(capsys):
    assert run("bench", "vae", "--batch-size", "2", "--profile", "--seconds", "0.05", "--json", "a.json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    with open("a.json", encoding="utf-8") as file:
        report = json.load(file)
    (entry,) = report["steps"]
    assert entry["gflop"] == pytest.approx(by_hand(SETTINGS["vae"].vary(batch=2)) / 1e9)
    lines = said.out.splitlines()
    assert f"vae, batch 2: {printed.number(entry['step_ms'])} ms a step in parts" in said.out
    total = next(line.split() for line in lines if line.startswith("sum "))
    assert total[1] == printed.number(entry["sum_ms"])
    adam = next(part for part in entry["parts"] if part["part"] == "Adam")
    row = next(line.split() for line in lines if line.startswith("Adam optimizer "))
    assert row[2:5] == ["step", "1", printed.number(adam["ms"])]
    assert any(line.startswith("Dense ") for line in lines)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["dcgan"], "there is no step dcgan; there are ae, vae, gan, dcgan28, dcgan64"),
        (["ae", "--scaling", "size"], "ae is fully connected, its size is fixed"),
        (["dcgan28", "gan", "--scaling", "width"], "gan is fully connected, its width is fixed"),
        (["gan", "--batch-size", "1"], "at least 2"),
        (["--threads", cores() + 1], f"may use {cores()} cores"),
        (["--scaling", "batch", "--batch-size", "4"], "leave one out"),
        (["--picture", "a.png"], "--picture goes with --scaling"),
        (["--scaling", "batch", "--picture", "a.jpg"], "ends in .png"),
        (["--json", "no/a.json"], "--json is no/a.json"),
        (["--json", "."], "--json is ."),
        (["--profile", "--rounds", "2"], "--profile has no rounds"),
        (["--profile", "--scaling", "batch"], "not allowed with"),
        (["--rounds", "2", "--seconds", "2"], "not allowed with"),
        (["--rounds", "0"], "at least 1"),
        (["--blas", "mine"], "--blas"),
    ],
)
def test_usage_errors_come_before_any_process(argv, says, capsys, monkeypatch):
    monkeypatch.setattr(compare, "Child", lambda *args, **options: pytest.fail("a process was started"))
    assert run("bench", *argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert says in said.err
