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
from typing import NamedTuple

import numpy as np

from scratchgen import losses
from scratchgen.bench.count import counting
from scratchgen.bench.steps import Step
from scratchgen.layers import Layer
from scratchgen.layers.pullback import Pullback

LEAST_STEPS = 5
QUEUED = 20  # steps in a row on a GPU
VISITS = {"discriminator": ("real", "fake", "in G's step")}  # of a GAN's step, in this order


class Part(NamedTuple):
    """What a stopwatch is for. `visit` counts the evaluations of a layer in one step, from 0."""

    name: str  # "generator.1"
    kind: str  # "ConvTranspose2d"
    direction: str  # "forward", "dx", "dW", …
    visit: int = 0
    weights: str = ""  # the shape of W


STEP = Part("other", "other", "Python, checks")


class Clock:
    """Seconds, operations and calls of every part, its own alone; `wait` returns when all that is queued is done."""

    def __init__(self, wait: Callable[[], None] = lambda: None):
        self.wait = wait
        self.seconds: dict[Part, float] = defaultdict(float)
        self.operations: dict[Part, int] = defaultdict(int)
        self.calls: dict[Part, int] = defaultdict(int)
        self._running: list[list] = []  # [part, seconds of those inside it], the innermost last

    def timed(self, part: Part, function: Callable) -> Callable:
        """The function with a stopwatch."""

        def run(*args, **options):
            entry = [part, 0.0]
            self.wait()  # for what the part around this one has queued: that is its own
            self._running.append(entry)
            start = time.perf_counter()
            try:
                result = function(*args, **options)
                self.wait()
                return result
            finally:
                took = time.perf_counter() - start
                self._running.pop()
                self.seconds[part] += took - entry[1]
                self.calls[part] += 1
                if self._running:
                    self._running[-1][1] += took

        return run

    def count(self, operations: int) -> None:
        """Charge arithmetic to the part that is running."""
        self.operations[self._running[-1][0]] += operations


class _Timed(Pullback):
    """A pullback whose adjoints have stopwatches, and which has one itself: its own part is adding up and checks."""

    def __init__(self, plain: Pullback, clock: Clock, part: Part):
        def watched(direction, function):
            return clock.timed(part._replace(direction=direction), function)

        plain._dx = watched("dx", plain._dx)
        if plain._shared is not None:
            plain._shared = watched("shared", plain._shared)
        plain._grads = [(p, watched(f"d{p.name}", adjoint)) for p, adjoint in plain._grads]
        self._plain, self._call = plain, watched("adding", plain)

    @property
    def idle(self):
        return self._plain.idle

    def __call__(self, dy, *, need_dx: bool = True):
        return self._call(dy, need_dx=need_dx)


def leaves(module, name: str = "") -> Iterator[tuple[str, Layer]]:
    """Every layer that is not made of others, each once, with its dotted name."""
    seen = set()

    def walk(module, name):
        inner = [(key, part) for key, part in module.members() if isinstance(part, Layer)]
        for key, part in inner:
            yield from walk(part, f"{name}.{key}" if name else key)
        if not inner and isinstance(module, Layer) and id(module) not in seen:
            seen.add(id(module))
            yield name, module

    return walk(module, name)


@contextmanager
def watching(step: Step, wait: Callable[[], None] = lambda: None):
    """Inside the block `step.run()` is timed in parts: gives a function that runs it once and returns its Clock."""
    clock, visits = Clock(wait), defaultdict(int)

    def watched(name, layer):
        kind, plain = type(layer).__name__, layer.forward
        weights = "×".join(map(str, layer.W.value.shape)) if hasattr(layer, "W") else ""

        def forward(x):
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

    with ExitStack() as undo:
        for name, layer in leaves(step.model):
            undo.enter_context(_instead(vars(layer), "forward", watched(name, layer)))
        for player, optimizer in step.optimizers.items():
            part = Part(f"{player} Adam".strip(), "optimizer", "step")
            undo.enter_context(_instead(vars(optimizer), "step", clock.timed(part, optimizer.step)))
        for home, name, loss in _losses():
            undo.enter_context(_instead(home, name, clock.timed(Part(loss.__name__, "loss", "L and dL"), loss)))
        drawn = clock.timed(Part("noise", "noise", "random"), step.noise)
        undo.enter_context(_instead(vars(step), "noise", drawn))
        undo.enter_context(counting(clock.count, step.backend))
        yield run


@contextmanager
def _instead(home: dict, name: str, new):
    """Put `new` under a name of an object's or module's dictionary; afterwards what was there, or nothing, is."""
    missing = object()
    before = home.get(name, missing)
    home[name] = new
    try:
        yield
    finally:
        if before is missing:
            del home[name]
        else:
            home[name] = before


def _losses() -> list[tuple[dict, str, Callable]]:
    """Every place where a model keeps a loss: its dictionary, the name there, and the loss."""
    functions = [f for f in vars(losses).values() if callable(f) and getattr(f, "__module__", "") == losses.__name__]
    modules = [m for name, m in sys.modules.items() if name.startswith("scratchgen.models.")]
    homes = [vars(m) for m in modules]
    homes += [value for home in homes for value in home.values() if isinstance(value, dict) and value is not home]
    return [(home, name, f) for home in homes for name, f in home.items() if f in functions]


def profile(step: Step, seconds: float, wait: Callable[[], None] | None = None) -> dict:
    """Medians over steps for so many seconds: of the step as it is, of the step in parts, and of every part.

    The parts' medians need not add up to the median of the whole; "sum_ms" says what they add up to. Where steps are
    queued, `wait` returns when they are done; the step as it is is then one of many in a row.
    """
    plain = _repeat(step.run, seconds / 2) if wait is None else _queued(step.run, wait, seconds / 2)
    totals, records = [], []
    with watching(step, wait or (lambda: None)) as run:
        run()

        def once():
            clock = run()
            totals.append(sum(clock.seconds.values()))
            records.append((dict(clock.seconds), dict(clock.operations), dict(clock.calls)))

        _repeat(once, seconds / 2)
    _, operations, calls = records[-1]
    names = list(dict.fromkeys(part for taken, _, _ in records for part in taken))
    times = {part: 1e3 * float(np.median([taken.get(part, 0.0) for taken, _, _ in records])) for part in names}
    whole = 1e3 * float(np.median(totals))
    return {
        "plain_ms": 1e3 * float(np.median(plain)),
        "step_ms": whole,
        "sum_ms": sum(times.values()),
        "steps_timed": len(totals),
        "gflop": sum(operations.values()) / 1e9,
        "parts": [
            {
                "part": part.name,
                "kind": part.kind,
                "weights": part.weights,
                "visit": _visit(part, names),
                "direction": part.direction,
                "ms": times[part],
                "share": times[part] / whole,
                "calls": calls.get(part, 0),
                "gflop": operations.get(part, 0) / 1e9,
            }
            for part in names
        ],
    }


def _repeat(run, seconds: float) -> list[float]:
    end, taken = time.perf_counter() + seconds, []
    while len(taken) < LEAST_STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def _queued(run, wait, seconds: float) -> list[float]:
    """As `_repeat`, of QUEUED steps at a time."""

    def several():
        for _ in range(QUEUED):
            run()
        wait()

    return [taken / QUEUED for taken in _repeat(several, seconds)]


def _visit(part: Part, parts: list[Part]) -> str:
    """Which of its evaluations in a step: in words where they are known, by number else, "" where there is one."""
    visits = max(p.visit for p in parts if p.name == part.name) + 1
    if visits == 1:
        return ""
    words = VISITS.get(part.name.partition(".")[0], ())
    return words[part.visit] if len(words) == visits else f"evaluation {part.visit + 1}"
