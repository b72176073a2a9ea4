"""The parent's end of the pipes: start a side, ask it, and see to it that it ends; and turns in rounds, in which all
sides are timed side by side, so that what slows the machine for a while slows all alike.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen import blas as selection
from scratchgen.backend import Array

WORKER = Path(__file__).with_name("worker.py")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PATIENCE = 5  # seconds that a child has to end by itself
TURN = 0.3  # seconds, about
PAUSE = 0.05  # seconds between two turns, in which the threads of the last one stop spinning
LEAST_ROUNDS = 3
PLAIN = "without [fast]"  # our side without compiled kernels
MOST_STEPS = 1000  # in a turn


class Child:
    """One side in a process of its own; `about` is what it says of itself, or `missing` why its library cannot be
    used.

    ChildProcessError, with the last line that it wrote, when it ends before its time. Used in a `with` statement, at
    the end of which the process is gone, whatever happened.
    """

    def __init__(
        self, side: str, *, threads: int, blas: str | None = None, backend: str = "numpy", precision: str = "float32"
    ):
        self.side = side
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 closed by close()
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), side, backend, precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            encoding="utf-8",
            env=environment(threads, blas, fast=side != PLAIN),
        )
        try:
            about = self.ask("prepare", threads=threads)
        except BaseException:
            self.close()
            raise
        self.missing: str | None = about.get("missing")
        self.about: dict[str, Any] = {} if self.missing else about

    def ask(self, do: str, **arguments: Any) -> Any:
        """What the side answers; waits for as long as it takes."""
        assert self.process.stdout is not None
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except OSError:  # a broken pipe
            answer = ""
        if not answer:
            raise ChildProcessError(self._end())
        return json.loads(answer)

    def _end(self) -> str:
        status = self.process.wait()
        try:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        except ValueError:
            how = f"was ended by signal {-status}"
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip().splitlines()
        return f"the benchmark's process for {self.side} {how}" + (f": {said[-1].strip()}" if said else "")

    def close(self) -> None:
        """End the process: its input ends, and it with that; it is killed if it does not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            with suppress(OSError):  # a broken pipe: it has ended
                self.process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.log.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


BUSY = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many other programs, each of which wants a core of its own all the time."""
    command = [sys.executable, "-S", "-c", BUSY]  # ends with its input, so that none outlives this process
    loops = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.communicate()  # the end of its input


def environment(threads: int, blas: str | None, *, fast: bool = True) -> dict[str, str]:
    """The environment of every side: equal threads; `blas` "default" leaves NumPy's BLAS to choose its own kernels,
    "selected" lets scratchgen choose, None leaves that to the environment, as `fast` does with compiled kernels;
    False is without."""
    names = os.environ | dict.fromkeys(THREADS, str(threads))
    if blas is not None:
        for name in ("SCRATCHGEN_BLAS", *selection.chosen):  # what scratchgen chose for this very process
            names.pop(name, None)
    if blas == "default":
        names["SCRATCHGEN_BLAS"] = blas
    if not fast:
        names["SCRATCHGEN_FAST"] = "0"
    return names


# --- turns ---


@dataclass
class Lane:
    """One step of one side, and what its turns took: seconds of every step, by round."""

    name: str
    child: Child
    what: Any  # what the side makes: a setting as a dictionary, or the size of a matrix
    layout: str = ""
    images: int = 0
    parameters: int = 0
    steps: int = 1  # in a turn
    rounds: list[list[float]] = field(default_factory=list)

    def make(self, seed: int) -> None:
        """Build it in its process and warm it up there."""
        made = self.child.ask("make", lane=self.name, what=self.what, layout=self.layout, seed=seed)
        self.images, self.parameters = made["images"], made["parameters"]
        self.steps = int(np.clip(round(TURN / made["seconds"]), 1, MOST_STEPS))

    def turn(self) -> None:
        self.rounds.append(self.child.ask("turn", lane=self.name, steps=self.steps))

    @property
    def seconds(self) -> list[float]:
        """Of every timed step, or turn on a GPU."""
        return [seconds for turn in self.rounds for seconds in turn]

    @property
    def medians(self) -> Array:
        """Seconds a step, the median of each round."""
        return np.array([np.median(r) for r in self.rounds])


def alternate(
    lanes: list[Lane], *, rounds: int | None, seconds: float, tell: Callable[[int], None] = lambda done: None
) -> None:
    """Rounds in which every lane has a turn, there and back in turns; so many, or as many as fit in the seconds."""
    start, done = time.perf_counter(), 0
    while done < (LEAST_ROUNDS if rounds is None else rounds) or (
        rounds is None and time.perf_counter() - start < seconds
    ):
        for lane in lanes if done % 2 == 0 else reversed(lanes):
            time.sleep(PAUSE)
            lane.turn()
        done += 1
        tell(done)


def spread(values: Sequence[float] | Array) -> dict[str, float]:
    """The median, and what 10 % and 90 % lie below."""
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "p10": float(low), "p90": float(high)}
