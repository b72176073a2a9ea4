"""How long it takes until something is done: a first training step, and a first short training, from the start of a
fresh process each time, of all sides in turn.

Each process has run once before it counts, as the files of a library are read from the disk by the first, and ours
keeps what it has compiled. The short training is `scratchgen train vae --epochs 1`, and PyTorch's of the same network
on the same images (`opponent.train_vae`); ours also writes a checkpoint, weights, pictures and a report.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from scratchgen.bench.children import PLAIN, environment, spread
from scratchgen.bench.compare import OURS, SEED, TORCH, Options, Report, Sides, Tell, reporting
from scratchgen.bench.settings import Setting
from scratchgen.data import Dataset, load

STEPS = ("ae", "dcgan28")
ROUNDS = 5
TRAINING = "train vae --epochs 1"


def startup(settings: Sequence[Setting], options: Options, tell: Tell = lambda text: None) -> Report:
    """The report on these steps and on the short training. ValueError where the data are points."""
    data = load(progress=False)
    if not isinstance(data, Dataset):
        raise ValueError(
            "--startup trains on images, the data are points: set SCRATCHGEN_DATA to images, or unset it"
        )
    with reporting(options, sgemm=False) as (running, report):
        sides = list(running.children)
    report["steps"], rounds = [], options.rounds or ROUNDS
    for setting in settings:
        runs = {side: partial(_first_step, running, side, asdict(setting)) for side in sides}
        about = {"step": setting.step, "about": setting.about, "batch": setting.batch}
        report["steps"].append(about | _in_turn(runs, rounds, partial(_tell, tell, setting.step)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "images.npz")
        np.savez(file, train=data.train_images, test=data.test_images)
        runs = {side: partial(_own_training, running, side, Path(folder)) for side in (OURS, PLAIN) if side in sides}
        if TORCH in sides:
            runs[TORCH] = partial(_training, running, TORCH, file)
        found = _in_turn(runs, rounds, partial(_tell, tell, TRAINING))
    report["training"] = {"images": len(data.train_images), "tested": len(data.test_images)} | found
    return report


def _tell(tell: Tell, what: str, done: int) -> None:
    tell(f"{what}: round {done}")


def _first_step(running: Sides, side: str, what: Report) -> dict[str, float]:
    start = time.perf_counter()
    with running.start(side) as child:
        ready = time.perf_counter()
        parts = child.ask("first", what=what, layout="", seed=SEED)
        return {"seconds": time.perf_counter() - start, "import": ready - start, **parts}


def _training(running: Sides, side: str, file: Path) -> dict[str, float]:
    start = time.perf_counter()
    with running.start(side) as child:
        found = child.ask("train", file=str(file))
    return {"seconds": time.perf_counter() - start, **found}


def _own_training(running: Sides, side: str, folder: Path) -> dict[str, float]:
    """By the command itself; ChildProcessError, with the last line that it wrote, where it fails."""
    o, out = running.options, folder / f"run-{len(list(folder.iterdir()))}"
    command = [sys.executable, "-P", "-m", "scratchgen", *TRAINING.split(), "--quiet"]
    start = time.perf_counter()
    ran = subprocess.run(
        [*command, "--threads", str(o.threads), "--out", str(out)],
        env=environment(o.threads, o.blas, fast=side != PLAIN),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    seconds = time.perf_counter() - start
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"it ended with status {ran.returncode}"]
        raise ChildProcessError(f"scratchgen {TRAINING}: {said[-1]}")
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epoch = next(record for record in map(json.loads, lines) if "test_loss" in record)
    return {"seconds": seconds, "loss": epoch["loss"], "test_loss": epoch["test_loss"]}


def _in_turn(runs: Mapping[str, Callable[[], dict[str, float]]], rounds: int, tell: Callable[[int], None]) -> Report:
    """What the runs of each side come to, there and back in turns after one that does not count; ours beside the
    fastest of the others."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in runs}
    for done in range(rounds + 1):
        tell(done)
        for side in list(runs) if done % 2 == 0 else reversed(list(runs)):
            found[side].append(runs[side]())
    sides: list[Report] = []
    for side, (first, *counted) in found.items():
        medians = {key: float(np.median([run[key] for run in counted])) for key in first if key != "seconds"}
        seconds = [run["seconds"] for run in counted]
        sides.append({"side": side, "seconds": spread(seconds), "rounds": seconds, "first": first, **medians})
    ours, *others = sides
    for other in others:
        other["ratio"] = spread(np.array(ours["rounds"]) / np.array(other["rounds"]))
    peers = [side for side in others if side["side"] != PLAIN]
    best = min(peers, key=lambda side: side["seconds"]["median"], default=None)
    return {"sides": sides, "opponent": best and best["side"], "ratio": best and best["ratio"]}
