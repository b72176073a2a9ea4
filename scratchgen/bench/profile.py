"""Where a step's time goes: by layer and direction, losses, optimizers, and what is left.

The layers, optimizers and losses of one step are wrapped in stopwatches, which nest: each counts its own time,
without that of those inside it, so all of them and the rest of the step add up to the whole. On a GPU, where a call
only queues its work, each stopwatch waits for it: one part after the other, which is slower than the step as it is.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from scratchgen import losses
from scratchgen.backend import Array
from scratchgen.bench.count import counting, instead
from scratchgen.bench.steps import Step
from scratchgen.bench.worker import timed
from scratchgen.layers import Layer
from scratchgen.layers.module import Module
from scratchgen.layers.pullback import Pullback

LEAST_STEPS = 5
QUEUED = 20  # steps in a row on a GPU
VISITS = {"discriminator": ("real", "fake", "in G's step")}  # of a GAN's step, in this order


class Part(NamedTuple):
    """What a stopwatch is for. `visit` counts the evaluations of a layer in one step, from 0."""

    part: str  # "generator.1"
    kind: str  # "ConvTranspose2d"
    direction: str  # "forward", "dx", "dW", …
    visit: int = 0
    weights: str = ""  # the shape of W


STEP = Part("other", "other", "Python, checks")


class Clock:
    """Seconds, operations and calls of every part, its own alone; `wait` returns when all that is queued is done."""

    def __init__(self, wait: Callable[[], None] | None = None):
        self.wait = wait or (lambda: None)
        self.seconds: dict[Part, float] = defaultdict(float)
        self.operations: dict[Part, int] = defaultdict(int)
        self.calls: dict[Part, int] = defaultdict(int)
        self._running: list[Part] = []  # the innermost last

    def timed(self, part: Part, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a stopwatch."""

        def run(*args: Any, **options: Any) -> Any:
            self.wait()  # for what the part around this one has queued: that is its own
            self._running.append(part)
            start = time.perf_counter()
            try:
                result = function(*args, **options)
                self.wait()
                return result
            finally:
                took = time.perf_counter() - start
                self._running.pop()
                self.seconds[part] += took
                self.calls[part] += 1
                if self._running:
                    self.seconds[self._running[-1]] -= took  # that is not its own

        return run

    def count(self, operations: int) -> None:
        """Charge arithmetic to the part that is running."""
        self.operations[self._running[-1]] += operations


class _Timed(Pullback):
    """A pullback whose adjoints have stopwatches, and which has one itself: its own part is adding up and checks."""

    def __init__(self, plain: Pullback, clock: Clock, part: Part):
        def watched(direction: str, function: Any) -> Any:
            return function and clock.timed(part._replace(direction=direction), function)

        vars(self).update(vars(plain))
        self._dx, self._shared = watched("dx", plain._dx), watched("shared", plain._shared)
        self._grads = [(p, watched(f"d{p.name}", adjoint)) for p, adjoint in plain._grads]
        self._clock, self._part = clock, part._replace(direction="adding")

    def __call__(self, dy: Array, *, need_dx: bool = True) -> Any:
        # made at the call: kept, it would be a circle, and hold all that the step computed until it is collected
        return self._clock.timed(self._part, super().__call__)(dy, need_dx=need_dx)


def leaves(module: Module) -> Iterator[tuple[str, Layer]]:
    """Every layer that is not made of others, each once, with its dotted name."""
    seen = set()

    def walk(module: Module, name: str) -> Iterator[tuple[str, Layer]]:
        inner = [(key, part) for key, part in module.members() if isinstance(part, Layer)]
        for key, part in inner:
            yield from walk(part, f"{name}.{key}" if name else key)
        if not inner and isinstance(module, Layer) and id(module) not in seen:
            seen.add(id(module))
            yield name, module

    return walk(module, "")


@contextmanager
def watching(step: Step, wait: Callable[[], None] | None = None) -> Iterator[Callable[[], Clock]]:
    """Inside the block `step.run()` is timed in parts: gives a function that runs it once and returns its Clock."""
    clock, visits = Clock(wait), defaultdict[str, int](int)

    def watched(name: str, layer: Layer) -> Callable[[Array], tuple[Array, Any]]:
        kind, plain = type(layer).__name__, layer.forward
        weights = "×".join(map(str, layer.W.value.shape)) if hasattr(layer, "W") else ""

        def forward(x: Array) -> tuple[Array, Any]:
            part = Part(name, kind, "forward", visits[name], weights)
            visits[name] += 1
            y, backward = clock.timed(part, plain)(x)
            if type(backward) is Pullback:
                return y, _Timed(backward, clock, part)
            return y, clock.timed(part._replace(direction="backward"), backward)

        return forward

    def run() -> Clock:
        visits.clear()
        for figures in (clock.seconds, clock.operations, clock.calls):
            figures.clear()
        clock.timed(STEP, step.run)()
        return clock

    watches = [(vars(layer), "forward", watched(name, layer)) for name, layer in leaves(step.model)]
    for player, optimizer in step.optimizers.items():
        part = Part(f"{player} Adam".strip(), "optimizer", "step")
        watches.append((vars(optimizer), "step", clock.timed(part, optimizer.step)))
    for home, name, loss in _losses():
        watches.append((home, name, clock.timed(Part(loss.__name__, "loss", "L and dL"), loss)))
    watches.append((vars(step), "noise", clock.timed(Part("noise", "noise", "random"), step.noise)))
    with ExitStack() as undo:
        for watch in watches:
            undo.enter_context(instead(*watch))
        undo.enter_context(counting(clock.count, step.backend))
        yield run


def _losses() -> list[tuple[dict[str, Any], str, Callable[..., Any]]]:
    """Every place where a model keeps a loss: its dictionary, the name there, and the loss."""
    functions = [f for f in vars(losses).values() if callable(f) and getattr(f, "__module__", "") == losses.__name__]
    homes = [vars(m) for name, m in sys.modules.items() if name.startswith("scratchgen.models.")]
    homes += [value for home in homes for value in home.values() if isinstance(value, dict) and value is not home]
    return [(home, name, f) for home in homes for name, f in home.items() if f in functions]


def profile(step: Step, seconds: float, wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """Medians over steps for so many seconds: of the step as it is, of the step in parts, and of every part.

    The parts' medians need not add up to the median of the whole; "sum_ms" says what they add up to. Where steps are
    queued, `wait` returns when they are done; the step as it is is then one of many in a row.
    """
    plain = _repeat(lambda: timed(step.run, QUEUED if wait else 1, wait), seconds / 2)
    with watching(step, wait) as run:
        clock = run()  # whose operations and calls are the same each time
        records = _repeat(lambda: [dict(run().seconds)], seconds / 2)
    names = list(dict.fromkeys(part for taken in records for part in taken))
    times = {part: 1e3 * float(np.median([taken.get(part, 0.0) for taken in records])) for part in names}
    whole = 1e3 * float(np.median([sum(taken.values()) for taken in records]))
    return {
        "plain_ms": 1e3 * float(np.median(plain)),
        "step_ms": whole,
        "sum_ms": sum(times.values()),
        "steps_timed": len(records),
        "gflop": sum(clock.operations.values()) / 1e9,
        "parts": [
            part._asdict()
            | {
                "visit": _visit(part, names),
                "ms": times[part],
                "share": times[part] / whole,
                "calls": clock.calls.get(part, 0),
                "gflop": clock.operations.get(part, 0) / 1e9,
            }
            for part in names
        ],
    }


def _repeat(run: Callable[[], list[Any]], seconds: float) -> list[Any]:
    """What all runs give, of as many as the seconds have room for."""
    end, found = time.perf_counter() + seconds, list[Any]()
    while len(found) < LEAST_STEPS or time.perf_counter() < end:
        found += run()
    return found


def _visit(part: Part, parts: list[Part]) -> str:
    """Which of its evaluations in a step: in words where they are known, by number else, "" where there is one."""
    visits = max(p.visit for p in parts if p.part == part.part) + 1
    if visits == 1:
        return ""
    words = VISITS.get(part.part.partition(".")[0], ())
    return words[part.visit] if len(words) == visits else f"evaluation {part.visit + 1}"
