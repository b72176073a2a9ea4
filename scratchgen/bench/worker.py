"""One side of the benchmark in a process of its own: a JSON line in, a JSON line out.

Started as a file, `python -P worker.py SIDE [PRECISION]`, not as a module of scratchgen: PyTorch's side must not load
the library that it is compared with. With a precision it works on the GPU, in that. It ends when its standard input
does, so that it never outlives whoever asked, and leaves Ctrl-C to them.
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
from pathlib import Path
from queue import SimpleQueue

PACKAGE = Path(__file__).resolve().parents[1]
SIDES = {"scratchgen": "steps", "torch": "opponent", "sgemm": "sgemm"}
GPU_SIDES = {"scratchgen": "gpu.steps", "torch": "gpu.opponent", "sgemm": "gpu.ceilings"}
WARM = 0.2  # seconds that a step is run for before it is timed, and twice at the least
BLOCK = 10  # steps in a row to find out how long one takes on a GPU
PATIENCE = 90  # seconds for a profiler
STEPS_HELD = 3  # after so many steps all that a step needs has been allocated


def load(side: str, modules: dict[str, str] = SIDES):
    """The module with `prepare` and `make`; for PyTorch without scratchgen's __init__, which loads the library."""
    sys.path.insert(0, str(PACKAGE.parent))
    if side == "torch":
        bare = types.ModuleType("scratchgen")
        bare.__path__ = [str(PACKAGE)]
        sys.modules["scratchgen"] = bare
    else:
        importlib.import_module("scratchgen")  # first of all, as it chooses how NumPy multiplies matrices
    return importlib.import_module(f"scratchgen.bench.{modules[side]}")


class Worker:
    """Answers requests; each method is one, its arguments and its result are what JSON can hold."""

    def __init__(self, side: str):
        self.side = side
        self.steps: dict[str, object] = {}  # by lane: there may be one of each memory format

    def prepare(self, threads: int) -> dict:
        try:
            self.module = load(self.side)
        except ImportError as error:
            return {"missing": str(error)}
        return self.module.prepare(threads)

    def make(self, lane: str, what, layout: str, seed: int) -> dict:
        """Build the step and warm it up; says what it is, and how many seconds it took when warm."""
        step = self.steps[lane] = self._made(what, layout, seed)
        start, seconds = time.perf_counter(), _timed(step, 2)
        while time.perf_counter() - start < WARM:
            seconds += _timed(step, 1)
        return {"images": step.images, "parameters": step.parameters, "seconds": min(seconds)}

    def turn(self, lane: str, steps: int) -> list[float]:
        """Run so many steps; seconds of each."""
        return _timed(self.steps[lane], steps)

    def clear(self) -> None:
        """Let go of all steps."""
        self.steps.clear()

    def memory(self, what, layout: str, seed: int) -> dict:
        """MiB before a step is built, and the most since; for a process that has done nothing else."""
        from scratchgen.bench import memory

        memory.forget_peak()
        before = memory.resident()
        step = self._made(what, layout, seed)
        for _ in range(STEPS_HELD):
            step.run()
        return {"before": before, "peak": memory.peak()}

    def operations(self, lane: str) -> int:
        """How many arithmetic operations one step does; our side only, the others do as many."""
        from scratchgen.bench import count

        return count.operations(self.steps[lane].run)

    def profile(self, lane: str, seconds: float) -> dict:
        """Where a step's time goes; our side only."""
        from scratchgen.bench import profile

        return profile.profile(self.steps[lane], seconds)

    def _made(self, what, layout, seed):
        if isinstance(what, dict):
            from scratchgen.bench.settings import Setting

            what = Setting(**what)
        return self.module.make(what, layout=layout, seed=seed)


class GPUWorker(Worker):
    """The same where a step is only queued: a turn is timed as a whole, from an idle GPU to an idle GPU."""

    def __init__(self, side: str, precision: str):
        super().__init__(side)
        self.precision = precision

    def prepare(self, threads: int) -> dict:
        try:
            self.module = load(self.side, GPU_SIDES)
            return self.module.prepare(threads, self.precision)
        except ImportError as error:
            return {"missing": str(error)}

    def make(self, lane: str, what, layout: str, seed: int) -> dict:
        step = self.steps[lane] = self._made(what, layout, seed)
        self._block(step, 2)  # compiles kernels, fills pools, tries algorithms
        start, seconds = time.perf_counter(), []
        while not seconds or time.perf_counter() - start < WARM:
            seconds.append(self._block(step, BLOCK))
        return {"images": step.images, "parameters": step.parameters, "seconds": min(seconds)}

    def turn(self, lane: str, steps: int) -> list[float]:
        """Run so many steps; seconds of each, as one number."""
        step = self.steps[lane]
        step.run()  # the GPU comes over from another process
        return [self._block(step, steps)]

    def memory(self, what, layout: str, seed: int) -> dict:
        """MiB of the GPU that this side's memory pool needs for a step; for a process that has done nothing else."""
        return {"before": 0.0, "peak": self.module.held(self._made(what, layout, seed).run, STEPS_HELD)}

    def launches(self, what, layout: str, seed: int) -> dict:
        """What one step launches, see `gpu.launches`; for a process of its own, as it loads PyTorch, and as it ends
        with a profiler that never comes back."""
        from scratchgen.bench.gpu import launches

        step = self._made(what, layout, seed)
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=2)
        try:
            return launches.count(step.run, self.module.wait)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def operations(self, lane: str) -> int:
        from scratchgen.bench import count

        return count.operations(self.steps[lane].run, "cupy")

    def profile(self, lane: str, seconds: float) -> dict:
        from scratchgen.bench import profile
        from scratchgen.bench.gpu import kernels

        step = self.steps[lane]
        return profile.profile(step, seconds, self.module.wait) | kernels.times(step)

    def _block(self, step, count: int) -> float:
        """Seconds a step, of so many in a row."""
        self.module.wait()
        start = time.perf_counter()
        for _ in range(count):
            step.run()
        self.module.wait()
        return (time.perf_counter() - start) / count


def _timed(step, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        step.run()
        seconds.append(time.perf_counter() - start)
    return seconds


def serve(worker: Worker) -> None:
    """Answer until standard input ends. Standard output is for answers alone: what else is printed goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        requests: SimpleQueue = SimpleQueue()
        threading.Thread(target=_listen, args=(requests,), daemon=True).start()
        while True:
            request = requests.get()
            answer = getattr(worker, request.pop("do"))(**request)
            print(json.dumps(answer), file=answers, flush=True)


def _listen(requests: SimpleQueue) -> None:
    """Runs beside the steps, asleep while they run, so that the end of the input ends them too."""
    with open(0, encoding="utf-8", closefd=False) as lines:
        for line in lines:
            requests.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        serve(Worker(*sys.argv[1:]) if len(sys.argv) == 2 else GPUWorker(*sys.argv[1:]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # at once: the listener still waits for input
