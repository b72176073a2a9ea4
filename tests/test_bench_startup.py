"""scratchgen bench --startup: processes in turn, their medians and parts, the short training of both libraries."""

# ruff: noqa: F811 fixtures are imported, and named again by who takes them

import itertools
import os
import types
from collections import Counter

import numpy as np
import pytest
from bench_sides import FakeTorch, inside, quick, written  # noqa: F401  fixtures
from tiny import run

from scratchgen import data
from scratchgen.bench import children, compare, printed, startup, steps, worker
from scratchgen.bench.settings import SETTINGS

SIDES = ("scratchgen", children.PLAIN, "torch", "jax")


# --- turns and figures ---


def test_processes_take_turns_and_the_first_does_not_count():
    log, seconds = (
        [],
        {"scratchgen": [9, 1, 2, 3], children.PLAIN: [9, 1, 1, 1], "torch": [9, 4, 4, 2], "jax": [9] * 4},
    )
    answers = {side: iter(values) for side, values in seconds.items()}

    def once(side):
        log.append(side[0])
        taken = next(answers[side])
        return {"seconds": taken, "import": taken / 2}

    told = []
    found = startup._in_turn({side: lambda side=side: once(side) for side in seconds}, 3, told.append)
    assert "".join(log) == "swtj" + "jtws" + "swtj" + "jtws"
    assert told == [0, 1, 2, 3]
    by_name = {side["side"]: side for side in found["sides"]}
    medians = [(side["seconds"]["median"], side["import"]) for side in found["sides"]]
    assert medians == [(2, 1), (1, 0.5), (4, 2), (9, 4.5)]
    assert by_name["torch"]["rounds"] == [4, 4, 2]
    assert by_name["torch"]["first"] == {"seconds": 9, "import": 4.5}
    assert by_name["torch"]["ratio"]["median"] == 0.5  # of 1/4, 2/4, 3/2
    assert (found["opponent"], found["ratio"]) == ("torch", by_name["torch"]["ratio"]), "ours without [fast] is none"
    alone = startup._in_turn({"scratchgen": lambda: {"seconds": 1.0}}, 1, told.append)
    assert (alone["opponent"], alone["ratio"]) == (None, None)


def test_a_first_step_is_timed_from_before_its_process(monkeypatch):
    now = itertools.count()
    monkeypatch.setattr(startup.time, "perf_counter", lambda: next(now))

    class Started:
        def __enter__(self):
            next(now)  # a tick to start
            return self

        def ask(self, do, what, layout, seed):
            next(now)
            next(now)
            assert (do, what, seed) == ("first", {"step": "ae"}, compare.SEED)
            return {"build": 0.25, "step": 0.5}

        def __exit__(self, *exception):
            next(now)  # what comes after the step is not in it

    running = types.SimpleNamespace(start=lambda side: Started())
    found = startup._first_step(running, "torch", {"step": "ae"})
    assert found == {"seconds": 5, "import": 2, "build": 0.25, "step": 0.5}


def test_a_first_step_is_built_and_run_once(monkeypatch):
    log, one = [], worker.Worker("scratchgen")
    step = types.SimpleNamespace(run=lambda: log.append("run"))
    one.module = types.SimpleNamespace(make=lambda what, **options: log.append(what) or step)
    ticks = iter([1.0, 3.0, 7.0])
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(ticks))
    assert one.first(64, "", 0) == {"build": 2.0, "step": 4.0}
    assert log == [64, "run"]


# --- the short training ---


@pytest.fixture
def few_images(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 28, 28, 1), np.uint8)
    np.savez("few.npz", x_train=images[:200], x_test=images[200:])
    monkeypatch.setenv("SCRATCHGEN_DATA", os.path.abspath("few.npz"))
    return data.load()


def test_pytorchs_training_is_ours(few_images, monkeypatch):
    """All images once in batches of 128, drawn as 0 or 1, a step of Adam for each, then the test images."""
    torch = pytest.importorskip("torch")
    from scratchgen.bench import opponent

    seen, moved, models = [], [], []

    class Recorded(opponent.VAE):
        def __init__(self, pixels):
            super().__init__(pixels)
            models.append(self)

        def forward(self, x):
            seen.append((len(x), set(x.unique().tolist()), x.mean().item(), torch.is_grad_enabled()))
            return super().forward(x)

    monkeypatch.setattr(opponent, "VAE", Recorded)
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: moved.append(self.defaults["lr"]) or step(self))
    np.savez("images.npz", train=few_images.train_images, test=few_images.test_images)
    found = opponent.train_vae("images.npz")
    assert [(n, training) for n, _, _, training in seen] == [(128, True), (72, True), (100, False)]
    assert moved == [1e-3] * 2
    assert all(values == {0, 1} for _, values, _, _ in seen)
    assert [mean for _, _, mean, _ in seen] == pytest.approx([0.5] * 3, abs=0.02), "the grey is the probability"
    assert sum(p.numel() for p in models[0].parameters()) == steps.make(SETTINGS["vae"]).parameters
    assert 400 < found["test_loss"] < 600  # 784 log 2 = 543 nats of pure noise
    assert found["loss"] > found["test_loss"] - 20


def test_the_command_says_what_its_json_says(inside, few_images, monkeypatch, capsys):
    """Our short training is the command itself; PyTorch's side and JAX's are faked."""
    torch, jax = FakeTorch(), FakeTorch()
    torch.about = {"torch": "9.9", "instructions": "few", "threads": 1}
    jax.about = {"jax": "9.8", "optax": "9.7", "threads": 1}
    files = []

    def train_vae(file):
        with np.load(file) as images:
            files.append({name: images[name].shape for name in images})
        return {"loss": 500.0, "test_loss": 400.0}

    torch.train_vae = train_vae
    plain = worker.load
    monkeypatch.setattr(worker, "load", lambda side: {"torch": torch, "jax": jax}.get(side) or plain(side))
    monkeypatch.setattr(steps, "numba", lambda: "0.99")
    environments, start = [], startup.subprocess.run

    def noted(command, **options):
        environments.append((command[command.index("--threads") + 1], options["env"].get("SCRATCHGEN_FAST")))
        return start(command, **options)

    monkeypatch.setattr(startup.subprocess, "run", noted)
    monkeypatch.delenv("SCRATCHGEN_FAST", raising=False)
    assert run("bench", "--startup", "--rounds", "1", "--threads", "1", "--json", "a.json") == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines, report = said.out.splitlines(), written("a.json")
    assert [entry["step"] for entry in report["steps"]] == ["ae", "dcgan28"]
    assert Counter(side for side, _ in inside) == {"scratchgen": 5, children.PLAIN: 5, "torch": 7, "jax": 5}
    assert environments == [("1", None), ("1", "0"), ("1", "0"), ("1", None)]
    assert files == [{"train": (200, 28, 28, 1), "test": (100, 28, 28, 1)}] * 2
    rows = [line for line in lines if any(f" {side} " in line for side in SIDES) and "Python" not in line]
    entries = [(entry, side, ("import", "build", "step")) for entry in report["steps"] for side in entry["sides"]]
    entries += [(report["training"], side, ("loss", "test_loss")) for side in report["training"]["sides"]]
    names = ["scratchgen", children.PLAIN, "jax", "torch"]
    assert [side["side"] for _, side, _ in entries] == names * 2 + ["scratchgen", children.PLAIN, "torch"]
    for row, (entry, side, parts) in zip(rows, entries, strict=True):
        seconds = side["seconds"]
        figures = [
            printed.number(seconds["median"]),
            printed.span(seconds),
            *(printed.number(side[p]) for p in parts),
        ]
        assert f"{side['side']} {' '.join(figures)} " in " ".join(row.split())
        if side["side"] == "scratchgen":
            assert row.endswith(printed.ratio(entry["ratio"]))
            assert seconds["median"] >= sum(side[p] for p in parts if p in ("import", "build", "step"))
        else:
            assert row.endswith(f"{side['ratio']['median']:.2f}" + " *" * (side["side"] == entry["opponent"]))
    assert report["training"]["images"] == 200
    ours = report["training"]["sides"][0]
    assert 0 < ours["test_loss"] < 600
    assert "training: on 200 images, −ELBO of 100 others after it" in said.out
    assert max(map(len, lines)) <= 110


def test_without_peers_it_is_ours_alone(inside, few_images, monkeypatch, capsys):
    monkeypatch.setattr(startup, "_own_training", lambda *_: {"seconds": 1.0, "loss": 2.0, "test_loss": 3.0})
    assert run("bench", "vae", "--startup", "--rounds", "1", "--threads", "1", "--markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| vae, 1 epoch | scratchgen | 1.00 | 1.00–1.00 | 2.00 | 3.00 |  |" in lines
    assert sum(line.startswith("| vae | scratchgen |") for line in lines) == 1
    assert [line.split()[0] for line in lines[-2:]] == ["PyTorch", "JAX"]
    assert not any(line.startswith("ratio:") for line in lines)


def test_a_training_that_fails_is_one_sentence(inside, few_images, monkeypatch, capsys):
    monkeypatch.setattr(startup, "TRAINING", "train vae --epochs 0")
    assert run("bench", "ae", "--startup", "--rounds", "1", "--threads", "1") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("scratchgen: scratchgen train vae --epochs 0: ")
    assert "at least 1" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--seconds", "2"], "--startup has no --seconds"),
        (["--backend", "cupy"], "--startup is for the CPU"),
        (["--profile"], "not allowed with"),
        (["--picture", "a.png"], "--picture goes with --scaling"),
    ],
)
def test_what_does_not_go_with_it(argv, says, monkeypatch, capsys):
    monkeypatch.setattr(compare, "Child", lambda *args, **options: pytest.fail("a process was started"))
    assert run("bench", "--startup", *argv) == 2
    assert says in capsys.readouterr().err


def test_points_are_refused_before_any_process(monkeypatch, capsys):
    monkeypatch.setattr(compare, "Child", lambda *args, **options: pytest.fail("a process was started"))
    monkeypatch.setenv("SCRATCHGEN_DATA", "ring")
    assert run("bench", "--startup") == 2
    assert "--startup trains on images, the data are points" in capsys.readouterr().err
