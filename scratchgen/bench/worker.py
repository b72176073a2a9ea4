"""One side of the benchmark in a process of its own: a JSON line in, a JSON line out.

Started as a file, `python -P worker.py SIDE BACKEND PRECISION`, not as a module of scratchgen: PyTorch's side and
JAX's must not load the library that they are compared with. It ends when its standard input does, so that it never
outlives whoever asked, and leaves Ctrl-C to them.
"""

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
SIDES = {
    "scratchgen": "steps",
    "without [fast]": "steps",  # by its environment
    "torch": "opponent",
    "jax": "opponent_jax",
    "sgemm": "ceilings",
}
OTHERS = ("torch", "jax")
WARM = 0.2  # seconds that a step is run for before it is timed
BLOCK = 10  # steps in a row to find out how long one takes on a GPU
PATIENCE = 90  # seconds for a profiler
STEPS_HELD = 3  # after so many steps all that a step needs has been allocated


def load(side: str) -> types.ModuleType:
    """The module with `prepare` and `make`; for PyTorch and JAX without scratchgen's __init__, which loads the
    library."""
    sys.path.insert(0, str(PACKAGE.parent))
    if side in OTHERS:
        bare = types.ModuleType("scratchgen")
        bare.__path__ = [str(PACKAGE)]
        sys.modules["scratchgen"] = bare
    else:
        importlib.import_module("scratchgen")  # first of all, as it chooses how NumPy multiplies matrices
    return importlib.import_module(f"scratchgen.bench.{SIDES[side]}")


def timed(run: Callable[[], object], count: int, wait: Callable[[], None] | None = None) -> list[float]:
    """Seconds of each of so many runs. Where a run is only queued, `wait` returns when all are done: then a list of
    one, their mean from an idle GPU to an idle GPU."""
    turns, runs = (1, count) if wait else (count, 1)
    wait, seconds = wait or (lambda: None), []
    for _ in range(turns):
        wait()
        start = time.perf_counter()
        for _ in range(runs):
            run()
        wait()
        seconds.append((time.perf_counter() - start) / runs)
    return seconds


class Worker:
    """Answers requests; each method is one, its arguments and its result are what JSON can hold."""

    def __init__(self, side: str, backend: str = "numpy", precision: str = "float32"):
        self.side, self.backend, self.precision = side, backend, precision
        self.steps: dict[str, Any] = {}  # by lane: there may be one of each memory format
        self.module: Any = None

    @property
    def wait(self) -> Callable[[], None] | None:
        """What waits for the steps of a turn, on a GPU."""
        return self.module.wait if self.backend == "cupy" else None

    def prepare(self, threads: int) -> dict[str, Any]:
        """Load the library; what the side says of itself, or why its library cannot be used."""
        try:
            self.module = load(self.side)
            return self.module.prepare(threads, self.backend, self.precision)
        except ImportError as error:
            return {"missing": str(error)}

    def make(self, lane: str, what: Any, layout: str, seed: int) -> dict[str, Any]:
        """Build the step and warm it up; says what it is, and how many seconds it takes when warm."""
        step = self.steps[lane] = self._made(what, layout, seed)
        timed(step.run, 2, self.wait)  # on a GPU this compiles kernels, fills pools, tries algorithms
        start, seconds = time.perf_counter(), list[float]()
        while not seconds or time.perf_counter() - start < WARM:
            seconds += timed(step.run, BLOCK if self.wait else 1, self.wait)
        return {"images": step.images, "parameters": step.parameters, "seconds": min(seconds)}

    def first(self, what: Any, layout: str, seed: int) -> dict[str, float]:
        """Build a step and run it once; seconds of each."""
        start = time.perf_counter()
        step = self._made(what, layout, seed)
        built = time.perf_counter()
        step.run()
        return {"build": built - start, "step": time.perf_counter() - built}

    def train(self, file: str) -> dict[str, float]:
        """A first short training; PyTorch's side only, ours is its own command."""
        return self.module.train_vae(file)

    def turn(self, lane: str, steps: int) -> list[float]:
        """Run so many steps; seconds as `timed` gives them."""
        step = self.steps[lane]
        if self.wait:
            step.run()  # the GPU comes over from another process
        return timed(step.run, steps, self.wait)

    def clear(self) -> None:
        """Let go of all steps."""
        self.steps.clear()

    def memory(self, what: Any, layout: str, seed: int) -> dict[str, float | None]:
        """MiB before a step is built, and the most since, for a process that has done nothing else; on a GPU 0, and
        what this side's memory pool takes for a step, without what only the first ones needed."""
        from scratchgen.bench import machine

        machine.forget_peak()
        before = machine.resident()
        step = self._made(what, layout, seed)
        timed(step.run, STEPS_HELD, self.wait)
        if self.wait is None:
            return {"before": before, "peak": machine.peak()}
        free, taken = self.module.pool()
        free()
        timed(step.run, STEPS_HELD, self.wait)
        return {"before": 0.0, "peak": taken() / 2**20}

    def launches(self, what: Any, layout: str, seed: int) -> dict[str, Any]:
        """What one step launches on a GPU, see `bench.launches`; for a process of its own, as it loads PyTorch, and
        as it ends with a profiler that never comes back."""
        from scratchgen.bench import launches

        step = self._made(what, layout, seed)
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=2)
        try:
            return launches.count(step.run, self.module.wait)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def operations(self, lane: str) -> int:
        """How many arithmetic operations one step does; our side only, the others do as many."""
        from scratchgen.bench import count

        return count.operations(self.steps[lane].run, self.backend)

    def profile(self, lane: str, seconds: float) -> dict[str, Any]:
        """Where a step's time goes, on a GPU by kernel, too; our side only."""
        from scratchgen.bench import kernels, profile

        step = self.steps[lane]
        return profile.profile(step, seconds, self.wait) | (kernels.times(step) if self.wait else {})

    def _made(self, what: Any, layout: str, seed: int) -> Any:
        if isinstance(what, dict):
            from scratchgen.bench.settings import Setting

            what = Setting(**what)
        return self.module.make(what, layout=layout, seed=seed, backend=self.backend)


def serve(worker: Worker) -> None:
    """Answer until standard input ends. Standard output is for answers alone: what else is printed goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
        threading.Thread(target=_listen, args=(requests,), daemon=True).start()
        while True:
            request = requests.get()
            answer = getattr(worker, request.pop("do"))(**request)
            print(json.dumps(answer), file=answers, flush=True)


def _listen(requests: "SimpleQueue[dict[str, Any]]") -> None:
    """Runs beside the steps, asleep while they run, so that the end of the input ends them too."""
    with open(0, encoding="utf-8", closefd=False) as lines:
        for line in lines:
            requests.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(Worker(*sys.argv[1:]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # at once: the listener still waits for input
