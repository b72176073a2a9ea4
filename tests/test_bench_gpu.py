"""The benchmark on a GPU, without one: our side on the stand-in and in this process, PyTorch's faked or on no device.

What the figures are like on a GPU only a GPU can show; here it is that they are taken, added up and printed as said.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import backends as array_libraries
import numpy as np
import pytest
import tiny
from tiny import run

import scratchgen as sg
from scratchgen.backend import load_kernels, to_host
from scratchgen.backend.threads import get_threads, set_threads
from scratchgen.bench import ceilings, compare, kernels, launches, printed, profile, results, rounds, scaling, steps, worker
from scratchgen.bench.children import WORKER, Child
from scratchgen.bench.count import operations
from scratchgen.bench.settings import SETTINGS
from scratchgen.commands import bench as commands

ROOT = WORKER.parents[2]
SMALL = {
    "ae": SETTINGS["ae"].vary(batch=3),
    "vae": SETTINGS["vae"].vary(batch=3),
    "gan": SETTINGS["gan"].vary(batch=3),
    "dcgan28": SETTINGS["dcgan28"].vary(batch=2, width=2),
    "dcgan64": SETTINGS["dcgan64"].vary(batch=2, width=1),
}
QUICK = ("--rounds", "2", "--threads", "1")


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Short turns, small products and copies, elsewhere."""
    monkeypatch.chdir(tmp_path)
    for module, name, value in (
        (rounds, "TURN", 0.001),
        (rounds, "PAUSE", 0.0),
        (worker, "WARM", 0.0),
        (worker, "BLOCK", 1),
        (worker, "STEPS_HELD", 1),
        (profile, "QUEUED", 1),
        (profile, "LEAST_STEPS", 2),
        (kernels, "REPEATS", 2),
        (kernels, "READINGS", 1),
        (kernels, "AHEAD", 1),
        (ceilings, "COPIED", 1000),
        (compare, "SGEMM_SIZES", {"cupy": 16}),
    ):
        monkeypatch.setattr(module, name, value)
    before = get_threads()
    yield
    set_threads(before)


@pytest.fixture
def standin():
    """The stand-in's own tools, while it is CuPy."""
    for _ in array_libraries._installed("standin"):
        import standin

        yield standin


class Inside:
    """A side that works in this process, and is asked in JSON as if it were another."""

    started: list[tuple[str, str | None]] = []

    def __init__(self, side, *, threads, blas=None, backend, precision):
        self.side, self.worker = side, worker.Worker(side, backend, precision)
        self.started.append((side, precision))
        about = self.ask("prepare", threads=threads)
        self.missing = about.get("missing")
        self.about = None if self.missing else about

    def ask(self, do, **arguments):
        return json.loads(json.dumps(getattr(self.worker, do)(**json.loads(json.dumps(arguments)))))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pytest.fixture
def inside(standin, monkeypatch):
    """All sides in this process, without PyTorch; the list of those that were started."""
    plain = worker.load

    def load(side):
        if side == "torch":
            raise ImportError("there is none")
        return plain(side)

    monkeypatch.setattr(worker, "load", load)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(compare, "Child", Inside)
    monkeypatch.setattr(Inside, "started", [])
    return Inside.started


class FakeTorch:
    """In the place of `gpu.opponent`: a step is nothing."""

    parameters, images = 7, 2
    about = {
        "torch": "9.9",
        "cuda": "12.8",
        "cudnn": 91002,
        "device": "Stand-in for a GPU",
        "threads": 1,
        "tf32_products": False,
        "tf32_convolutions": False,
        "cudnn_benchmark": True,
    }

    def __init__(self, **changes):
        self.about = {**self.about, **changes}
        self.made = []

    def prepare(self, threads, backend, precision):
        return self.about

    def make(self, setting, *, layout, seed, backend):
        self.made.append((setting, layout))
        return self

    def run(self):
        sum(range(2000))

    def wait(self):
        pass

    def held(self, run, count):
        run()
        return 64.0


@pytest.fixture
def with_torch(inside, monkeypatch):
    """PyTorch's side faked, and the profiler that counts."""
    fake, plain = FakeTorch(), worker.load
    monkeypatch.setattr(worker, "load", lambda side: fake if side == "torch" else plain(side))
    counted = iter([{"kernels": 90.0, "copies": 1.0}, {"kernels": 200.5, "copies": 0.0}, {"missing": "lost"}] * 9)
    monkeypatch.setattr(launches, "count", lambda run, wait: next(counted))
    return fake


@pytest.fixture
def no_gpu(monkeypatch):
    tiny.without_cupy(monkeypatch, "CuPy is not here: install it")


def written(file) -> dict:
    return json.loads(Path(file).read_text(encoding="utf-8"))


# --- the steps ---


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_on_the_device_is_that_on_the_host_and_never_waits(name, standin):
    there, here = steps.make(SMALL[name], backend="cupy"), steps.make(SMALL[name])
    assert there.parameters == here.parameters
    there.run()
    here.run()
    with standin.no_sync():
        found = there.run()
    wanted = here.run()
    found, wanted = ([float(x) for x in (loss if isinstance(loss, tuple) else (loss,))] for loss in (found, wanted))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert operations(there.run, "cupy") == operations(here.run)


def test_the_batch_on_a_gpu_is_larger_where_that_is_said():
    assert SETTINGS["dcgan64"].on_gpu() == SETTINGS["dcgan64"].vary(batch=128)
    assert all(s.on_gpu() == s for name, s in SETTINGS.items() if name != "dcgan64")


@pytest.mark.parametrize(
    ("argv", "batch"), [((), 64), (("--backend", "cupy"), 128), (("--backend", "cupy", "--batch-size", "3"), 3)]
)
def test_the_command_times_that_batch(argv, batch, monkeypatch):
    asked = []
    monkeypatch.setattr(commands, "load_kernels", lambda backend: None)
    monkeypatch.setattr(commands, "compare", lambda settings, options, tell: asked.extend(settings) or {})
    monkeypatch.setattr(commands.printed, "comparison", lambda report, layout: [])
    assert run("bench", "dcgan64", *argv) == 0
    assert [s.batch for s in asked] == [batch]


# --- PyTorch's side ---


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

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "tf32"
    about = opponent.prepare(1, "cupy", precision)
    tf32 = precision == "tf32"
    assert (about["tf32_products"], about["tf32_convolutions"], about["cudnn_benchmark"]) == (tf32, tf32, True)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)
    assert about["device"] == "a GPU"
    heading = dict(printed._gpu_rows({**report_head(), "sides": {"scratchgen": OURS, "torch": about}}))
    row = heading["torch"]
    what = "in TF32" if tf32 else "in float32"
    assert f"products {what} and convolutions {what}, cudnn.benchmark on" in row
    assert heading["unequal"] == "torch runs on another GPU, a GPU"


OURS = {
    "device": "G",
    "gib": 79.1,
    "capability": "9.0",
    "cupy": "14",
    "runtime": "12.9",
    "driver": "12.8",
    "precision": "tf32",
}


def report_head() -> dict:
    return {"machine": {"cpu": "C", "system": "S", "python": "3"}, "scratchgen": "1"}


def test_the_opponents_memory_is_that_of_later_steps(fake_cuda):
    from scratchgen.bench import opponent

    assert opponent.held(lambda: fake_cuda.append("run"), 2) == 3.0
    before = ["run", "run", "synchronize", "empty_cache", "reset_peak_memory_stats"]
    assert fake_cuda == [*before, "run", "run", "synchronize", "max_memory_reserved"]


def test_a_pytorch_without_a_gpu_is_as_good_as_none(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    from scratchgen.bench import opponent

    monkeypatch.setattr(worker, "load", lambda side: opponent)
    about = worker.Worker("torch", "cupy").prepare(threads=1)
    assert about == {"missing": f"PyTorch {torch.__version__} finds no GPU"}


def test_the_opponents_process_on_a_gpu_loads_nothing_of_the_library():
    pytest.importorskip("torch")
    program = (
        f"import runpy, sys; worker = runpy.run_path({str(WORKER)!r}); "
        "worker['load']('torch'); import scratchgen.bench.launches; "
        "print(sorted(m for m in sys.modules if m.startswith('scratchgen')))"
    )
    found = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    bare = ["", ".bench", ".bench.launches", ".bench.opponent"]
    assert eval(found) == [f"scratchgen{name}" for name in (*bare, ".bench.settings")]


# --- processes, turns, counts ---


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


def test_a_turn_is_a_block_of_steps_between_two_waits(monkeypatch):
    queue, side = Queue(), worker.Worker("scratchgen", "cupy")
    side.module = queue
    monkeypatch.setattr(worker.time, "perf_counter", lambda: queue.now)
    made = side.make("a", None, "", 0)
    assert made == {"images": 5, "parameters": 7, "seconds": 1.0}
    queue.log.clear()
    assert side.turn("a", 3) == [1.0]
    assert queue.log == ["run", "wait", "run", "run", "run", "wait"], "the first step is not in it"
    lane = rounds.Lane("a", None, None, images=10, steps=3, rounds=[[0.5], [0.25]])
    found = compare.figures(lane, 10**9)
    assert (found["steps_timed"], found["ms"]["median"], found["round_ms"]) == (6, 375.0, [500.0, 250.0])


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


def test_the_steps_as_they_are_in_a_profile_are_timed_in_a_row(monkeypatch):
    queue = Queue()
    monkeypatch.setattr(profile, "QUEUED", 4)
    monkeypatch.setattr(profile.time, "perf_counter", lambda: queue.now)
    assert worker.timed(queue.run, 4, queue.wait) == [1.0]
    assert queue.log == ["wait", *["run"] * 4, "wait"]


def test_launches_are_the_kernels_in_a_trace():
    events = [{"cat": "kernel"}, {"cat": "Kernel"}, {"cat": "gpu_memcpy"}, {"cat": "gpu_memset"}, {"ph": "M"}]
    events += [{"cat": "cuda_runtime", "name": "cudaLaunchKernel"}, {"cat": "kernel"}, {"cat": "kernel"}]
    assert launches.counted(events, 2) == {"kernels": 2.0, "copies": 1.0}
    assert launches.counted(events[2:6], 2) == {"missing": "PyTorch's profiler saw no kernel"}
    assert printed.launches({"launches": {"kernels": 102.0}}) == "102"
    assert printed.launches({"launches": {"kernels": 102.5}}) == "102.5"
    assert printed.launches({"launches": {"missing": "x"}}) == printed.launches({}) == "not counted"


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
    lane = rounds.Lane("scratchgen", types.SimpleNamespace(side="scratchgen"), None)
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
side.module = types.SimpleNamespace(wait=None, make=lambda what, layout, seed, backend: types.SimpleNamespace(run=None))
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


# --- the comparison ---


def test_a_comparison_on_the_gpu(with_torch, inside, capsys):
    argv = ("vae", "dcgan28", "--batch-size", "2", "--backend", "cupy", "--json", "a.json", *QUICK)
    assert run("bench", *argv, "--record", "results.json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines, report = said.out.splitlines(), written("a.json")
    assert set(inside) == {(side, "float32") for side in ("scratchgen", "torch", "sgemm")}
    assert [(s.step, s.batch, layout) for s, layout in with_torch.made[:3]] == [
        *(("vae", 2, ""),) * 3,  # timed, and in a process of its own for memory and for launches
    ]
    assert report["options"]["backend"] == "cupy"
    assert lines[0].split(maxsplit=1) == ["GPU", "Stand-in for a GPU, 16.0 GiB, compute capability 9.0"]
    assert any(line.startswith("scratchgen") and "CuPy 14" in line and line.endswith(", float32") for line in lines)
    assert "torch       9.9, CUDA 12.8, cuDNN 91002, products in float32 and convolutions in float32" in said.out
    assert f"copy        {printed.number(report['copy_gbyte_per_second']['median'])} GB/s" in said.out
    assert f"sgemm       {printed.number(report['sgemm_gflop_per_second']['median'])} GFLOP/s, float32" in said.out

    top = next(i for i, line in enumerate(lines) if line.startswith("step ") and "launches" in line)
    assert lines[top].split()[-2:] == ["launches", "ratio"]
    sides = [(entry, side) for entry in report["steps"] for side in entry["sides"]]
    names = ["scratchgen", "torch", "scratchgen", "torch", "channels_last"]
    assert [side["side"] for _, side in sides] == names
    counted = ["90", "200.5", "not counted", "90", "200.5"]
    for line, (entry, side), count in zip(lines[top + 1 :], sides, counted, strict=False):
        rate = entry["gflop"] / side["ms"]["median"] * 1e3
        assert side["gflop_per_second"] == pytest.approx(rate)
        assert side["share_of_sgemm"] == pytest.approx(rate / entry["sgemm_gflop_per_second"]["median"])
        assert f" {printed.number(rate)} " in line
        assert f" {count}" in line
        assert f" {printed.share(side['share_of_sgemm'])} " in line
        assert entry["gflop"] == pytest.approx(
            operations(steps.make(SETTINGS[entry["step"]].vary(batch=2)).run) / 1e9
        )
    assert "launches not counted: lost" in lines
    for entry in report["steps"]:
        ours, *others = entry["sides"]
        assert {side["memory"]["peak"] for side in others} == {64.0}
        assert entry["growth_ratio"] == pytest.approx(ours["memory"]["peak"] / 64)
        best = min(others, key=lambda side: side["ms"]["median"])
        wanted = [a / b for a, b in zip(ours["round_ms"], best["round_ms"], strict=True)]
        assert (entry["opponent"], entry["ratio"]["rounds"]) == (best["side"], pytest.approx(wanted))
        row = next(r.split() for r in lines[top + 8 :] if r.startswith(f"{entry['step']} "))
        assert row == [entry["step"], "scratchgen", f"{ours['memory']['peak']:,.0f}", f"{entry['growth_ratio']:.2f}"]

    kept = written("results.json")["bench"]["float32"]
    assert (kept["device"], kept["kernels_sha256"]) == ("Stand-in for a GPU", results.source_hash())
    assert kept["report"] == results.summary(report)
    assert "rounds" not in kept["report"]["steps"][0]["ratio"]
    assert kept["report"]["steps"][0]["rounds"] == 2


def test_without_pytorch_it_runs_alone_and_says_so(inside, capsys):
    argv = ("vae", "--batch-size", "2", "--backend", "cupy", "--precision", "tf32", "--markdown", "--json", "a.json")
    assert run("bench", *argv, *QUICK) == 0
    said = capsys.readouterr()
    lines, report = said.out.splitlines(), written("a.json")
    assert lines[0].startswith("- GPU: Stand-in")
    assert lines[-1].startswith("PyTorch cannot be used here (there is none), nothing is compared")
    assert "launches not counted: PyTorch's profiler counts, and PyTorch is not here" in lines
    (row,) = [line for line in lines if line.startswith("| vae | 2 |")]
    assert row.endswith("| not counted |  |")
    (side,) = report["steps"][0]["sides"]
    assert side["memory"]["peak"] > 0
    assert set(inside) == {(side, "tf32") for side in ("scratchgen", "torch", "sgemm")}
    assert report["sides"]["sgemm"]["precision"] == report["sides"]["scratchgen"]["precision"] == "tf32"


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


def test_what_the_gpu_can_do(standin, monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.random((4, 4), np.float32), rng.random((4, 4), np.float32)
    for backend in ("numpy", "cupy"):
        np.testing.assert_allclose(to_host(ceilings.make(4, seed=1, backend=backend).run()), a @ b, rtol=1e-5)
    copied = []
    monkeypatch.setattr(load_kernels("cupy").xp, "copyto", lambda to, given: copied.append((to.nbytes, given.nbytes)))
    ceilings.make("copy", backend="cupy").run()
    assert copied == [(1000, 1000)]
    assert ceilings.prepare(1, "cupy")["copy_bytes"] == 2000


def test_memory_is_what_the_pool_takes_for_later_steps(standin, monkeypatch):
    from scratchgen.bench import steps as on_gpu

    log = []

    class Pool:
        free_all_blocks = staticmethod(lambda: log.append("free"))
        total_bytes = staticmethod(lambda: log.append("total") or 5 * 2**20)

    monkeypatch.setattr(load_kernels("cupy").xp, "get_default_memory_pool", lambda: Pool)
    monkeypatch.setattr(on_gpu, "wait", lambda: log.append("wait"))
    assert on_gpu.held(lambda: log.append("run"), 2) == 5.0
    assert log == ["run", "run", "wait", "free", "run", "run", "wait", "total"]


def test_scaling_on_the_gpu(inside, monkeypatch, capsys):
    monkeypatch.setitem(scaling.AXES, "batch", (1, 4))
    assert (
        run("bench", "vae", "--backend", "cupy", "--scaling", "batch", "--no-torch", "--json", "a.json", *QUICK) == 0
    )
    _, second = written("a.json")["steps"][0]["points"]
    assert second["growth"]["gflop"] == pytest.approx(4)
    assert capsys.readouterr().out.startswith("GPU ")


# --- the profile ---


def test_a_profile_on_the_gpu(inside, capsys, monkeypatch):
    from scratchgen.bench import steps as on_gpu

    waits, wait = [], on_gpu.wait
    monkeypatch.setattr(on_gpu, "wait", lambda: waits.append(1) or wait())
    argv = ("dcgan28", "--batch-size", "2", "--backend", "cupy", "--profile", "--seconds", "0.01", "--json", "a.json")
    assert run("bench", *argv, "--record", "results.json") == 0
    said = capsys.readouterr().out
    report = written("a.json")
    (entry,) = report["steps"]
    assert written("results.json")["profile"]["float32"]["report"]["steps"][0]["products"] == entry["products"]
    lines = said.splitlines()
    assert any(line.startswith("on a GPU the parts are waited for one by one") for line in lines)
    for head in (printed.KERNELS, printed.PRODUCTS):
        assert any(line.split() == " ".join(head).split() for line in lines)
    total = sum(e["calls"] * e["seconds"] for e in entry["kernels"]) * 1e3
    assert f"dcgan28: {printed.number(total)} ms in these kernels, " in said
    assert said.count("dcgan28, batch 2: ") == 1
    assert len(waits) > sum(part["calls"] for part in entry["parts"]) * entry["steps_timed"], (
        "one part after the other"
    )
    assert entry["gflop"] * 1e9 == operations(steps.make(SETTINGS["dcgan28"].vary(batch=2)).run)
    assert report["sgemm_gflop_per_second"]["median"] > 0


def test_the_figures_of_kernels_and_products():
    report = {"copy_gbyte_per_second": {"median": 2000.0}, "sgemm_gflop_per_second": {"median": 50_000.0}}
    kernel = {"kernel": "im2col", "formula": "4×4 stride 2", "shape": "2×8×8×3", "calls": 7}
    product = {"form": "NT", "sizes": [8, 4, 2], "calls": 3}
    entry = {
        "step": "dcgan64",
        "plain_ms": 10.0,
        "kernels": [
            {**kernel, "calls": 1, "seconds": 49e-6, "bytes": 1},  # below ½ %
            {**kernel, "seconds": 100e-6, "bytes": 150_000_000},
            {**kernel, "kernel": "adam", "seconds": 200e-6, "bytes": 40_000_000},
        ],
        "products": [{**product, "seconds": 1e-3, "operations": 40 * 10**9}],
    }
    lines = printed.kernels(report, entry, lambda head, rows, left: rows)
    assert lines == [
        ("adam", "4×4 stride 2", "2×8×8×3", "7", "200", "200", "10 %"),
        ("im2col", "4×4 stride 2", "2×8×8×3", "7", "100", "1,500", "75 %"),
        "",
        ("NT", "8×4×2", "3", "1,000", "40.0", "80 %"),
        "",
        "dcgan64: 2.15 ms in these kernels, 3.00 ms in these products, each by itself; the step takes 10.0 ms",
    ]


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
def test_the_kernels_of_a_step_are_all_there_with_what_they_must_move(name, standin):
    step = steps.make(SMALL[name], backend="cupy")
    found = kernels.times(step)
    assert all(entry["seconds"] > 0 for kind in found.values() for entry in kind)
    products = sum(entry["calls"] * entry["operations"] for entry in found["products"])
    assert products == operations(step.run, "cupy"), "all of the step's arithmetic"
    calls = {}
    for entry in found["kernels"]:
        calls[entry["kernel"]] = calls.get(entry["kernel"], 0) + entry["calls"]
    normalised = {"gan": 3, "dcgan64": 4 + 3 * 3}[name]  # BatchNorms of G once, of D three times
    assert calls["mean_and_variance"] == calls["channel_sums"] == normalised
    assert (calls["adam"], calls["sum_with_map"]) == (2, 3)
    formulas = {(entry["kernel"], entry["formula"]) for entry in found["kernels"]}
    assert {("elementwise", "batchnorm scale_and_shift"), ("elementwise", "activations leaky_relu_pullback")} <= formulas
    assert {("channel_sums", "batchnorm dbeta_dgamma"), ("sum_with_map", "losses cross_entropy")} <= formulas
    weights = [p.value.size for p in step.model.discriminator.parameters()]
    of_d = next(
        e for e in found["kernels"] if e["kernel"] == "adam" and e["shape"].endswith(f"in {len(weights)} arrays")
    )
    assert of_d["bytes"] == 7 * 4 * sum(weights), "value, gradient, m and v are read, value, m and v written"
    if name == "dcgan64":
        N, image, cols = 2, 64 * 64 * 3, 32 * 32 * 4 * 4 * 3
        entry = next(e for e in found["kernels"] if (e["kernel"], e["shape"]) == ("im2col", "2×64×64×3"))
        assert entry["bytes"] == 4 * N * (image + cols)
        assert (
            entry["calls"] == 3 + 2 + 2
        )  # D's forward and dW, G's dx and dW: its last layer is D's first turned round
        entry = next(
            e for e in found["kernels"] if e["formula"] == "batchnorm scale_and_shift" and e["shape"] == "2×32×32×1"
        )
        assert entry["bytes"] == 4 * (2 * 2 * 32 * 32 + 3)


# --- what is refused ---


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--precision", "tf32"], "--precision tf32 is a mode of NVIDIA's GPUs: add --backend cupy"),
        (["--backend", "cupy", "--scaling", "threads"], "--scaling threads is for the CPU"),
        (["--record", "a.json"], "--record is for steps timed or profiled with --backend cupy"),
        (
            ["--backend", "cupy", "--scaling", "batch", "--record", "a.json"],
            "--record is for steps timed or profiled",
        ),
        (["--backend", "cupy", "--record", "no/a.json"], "--record is no/a.json"),
        (["--backend", "cupy", "--record", "bad.json"], "bad.json is no file of results"),
        (["--backend", "cupy", "--record", "list.json"], "list.json is no file of results"),
        (["--backend", "cupy"], "scratchgen: CuPy is not here: install it\n"),
        (["--backend", "cupy", "--profile"], "scratchgen: CuPy is not here: install it\n"),
        (["--backend", "abacus"], "invalid choice"),
        (["--backend", "cupy", "--precision", "float16"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_said_before_any_process(argv, says, no_gpu, capsys, monkeypatch):
    Path("bad.json").write_text("{")
    Path("list.json").write_text('{"tests": 3}')
    monkeypatch.setattr(compare, "Child", lambda *args, **options: pytest.fail("a process was started"))
    assert run("bench", *argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert says in said.err
    assert sorted(path.name for path in Path().iterdir()) == ["bad.json", "list.json"]


# --- the file of results ---


def test_the_hash_is_of_every_source_by_name_and_text(tmp_path):
    folder = tmp_path / results.KERNELS.name
    shutil.copytree(results.KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(results.KERNELS.parent / "cupy_feed.py", tmp_path)
    plain = results.source_hash()
    assert results.source_hash(folder) == plain
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "rows.pyc").write_bytes(b"compiled")
    assert results.source_hash(folder) == plain
    seen = {plain}
    sources = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert {path.suffix for path in sources} == {".py", ".cu", ".cuh"}
    for path in sources:
        text = path.read_bytes()
        path.write_bytes(text.replace(b"\n", b"\r\n"))
        assert results.source_hash(folder) == plain
        path.write_bytes(text + b" ")
        seen.add(results.source_hash(folder))
        path.write_bytes(text)
    renamed = sources[0].rename(sources[0].with_name(f"{sources[0].stem}_.py"))
    seen.add(results.source_hash(folder))
    renamed.rename(sources[0])
    (folder / "sources" / "more.cu").write_text("")
    seen.add(results.source_hash(folder))
    assert len(seen) == len(sources) + 3


def test_the_verdict_on_the_kernels(standin, tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    assert results.verdict(file) == "warning: the GPU kernels have never been run on a GPU"
    results.record(file, "bench", {"report": {}}, precision="tf32")
    assert results.verdict(file) == "warning: the GPU kernels have never been run on a GPU", "timed is not tested"
    results.record(file, "tests", {"passed": 3})
    results.record(file, "bench", {"report": {"x": 1}}, precision="float32")
    kept = written(file)
    date = kept["tests"]["date"]
    assert results.verdict(file) == f"GPU: verified on Stand-in for a GPU, {date}"
    assert (kept["tests"]["passed"], set(kept["bench"])) == (3, {"tf32", "float32"})
    assert {"device", "cupy", "runtime", "driver", "scratchgen", "kernels_sha256"} <= set(kept["tests"])
    monkeypatch.setattr(results, "source_hash", lambda: "another")
    changed = f"warning: the GPU kernels have changed since they were verified on Stand-in for a GPU, {date}"
    assert results.verdict(file) == changed
    for damaged in ("{", '{"tests": {}}', "[]"):
        file.write_text(damaged)
        assert results.verdict(file).startswith(f"warning: {file} does not say on which GPU")


def test_the_verdict_as_a_command(standin, tmp_path, monkeypatch):
    def verified(*argv):
        command = [sys.executable, "-m", "scratchgen.bench.verified", *argv]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert ran.stderr == ""
        return ran.stdout

    file = tmp_path / "results.json"
    assert verified(str(file)) == "warning: the GPU kernels have never been run on a GPU\n"
    results.record(file, "tests", {})
    assert verified(str(file)).startswith("GPU: verified on Stand-in for a GPU, 20")
    kept = written(file)
    kept["tests"]["kernels_sha256"] = "0"
    file.write_text(json.dumps(kept))
    assert verified(str(file)).startswith(
        "warning: the GPU kernels have changed since they were verified on Stand-in"
    )


PROJECT = {
    "setup.cfg": """\
[tool:pytest]
testpaths = tests
addopts = -m "not gpu"
markers =
    gpu: one
""",
    "tests/conftest.py": """\
import sys
sys.path.append(TESTS)
import standin
place = standin.installed()
place.__enter__()
sys.modules["cupy"].__file__ = "as the real one has"
""",
    "tests/test_here.py": """\
import pytest
def test_without_mark(): assert 0
@pytest.mark.gpu
def test_one(): pass
@pytest.mark.gpu
def test_two(record_property): record_property("parity", {"ae": 1e-7})
@pytest.mark.gpu
def test_three(): pytest.skip("no tool")
""",
    "tests/gpu/test_there.py": """\
import os, pytest
@pytest.mark.gpu
def test_four(record_property): record_property("parity", {"vae": 2e-7})
@pytest.mark.gpu
def test_five(): assert "FAIL" not in os.environ
""",
}


def test_a_whole_run_of_the_tests_that_passes_is_put_on_record(tmp_path, monkeypatch):
    for name, text in PROJECT.items():
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("TESTS", repr(str(ROOT / "tests"))))
    shutil.copy(ROOT / "tests" / "gpu" / "conftest.py", tmp_path / "project" / "tests" / "gpu")
    (tmp_path / "project" / "demos").mkdir()
    file = tmp_path / "project" / "demos" / "gpu_results.json"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def tests(*argv):
        command = [sys.executable, "-m", "pytest", "-q", *argv]
        ran = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True)
        return ran.returncode, ran.stdout

    for argv in (("-m", "gpu", "-k", "one or four"), ("-m", "gpu", "tests/gpu")):
        status, said = tests(*argv)
        assert status == 0, said
        assert not file.exists(), argv
    with monkeypatch.context() as patch:
        patch.setenv("FAIL", "1")
        assert tests("-m", "gpu")[0] == 1
        assert not file.exists()
    status, said = tests("-m", "gpu")
    assert status == 0, said
    assert "on record: " in said
    found = written(file)["tests"]
    assert (found["passed"], found["skipped"]) == (4, 1)
    assert found["files"] == {"tests/gpu/test_there.py": 2, "tests/test_here.py": 2}
    assert found["reasons"] == ["Skipped: no tool"]
    assert found["parity"] == {"ae": 1e-7, "vae": 2e-7}
    assert (found["device"], found["kernels_sha256"]) == ("Stand-in for a GPU", results.source_hash())


def test_without_a_gpu_nothing_is_put_on_record(no_gpu, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("gpu_conftest", ROOT / "tests" / "gpu" / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    assert not conftest._real_gpu()
    monkeypatch.undo()
    with contextlib.suppress(StopIteration):
        for _ in array_libraries._installed("standin"):
            assert not conftest._real_gpu(), "the stand-in is none"
