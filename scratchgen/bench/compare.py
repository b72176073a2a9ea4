"""The comparison and the profile: every side in turn on each step, and the figures that come of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from scratchgen.bench.children import LEAST_ROUNDS, PLAIN, Child, Lane, alternate, busy_loops, spread
from scratchgen.bench.machine import machine
from scratchgen.bench.settings import Setting
from scratchgen.version import __version__

OURS, TORCH, JAX, SGEMM, COPY = "scratchgen", "torch", "jax", "sgemm", "copy"
SGEMM_SIZES = {"numpy": 2048, "cupy": 8192}  # 17 GFLOP and 1.1 TFLOP: large enough to reach what the machine can do
SEED = 0

Report: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[str], None]  # hears how far it is


@dataclass(frozen=True)
class Options:
    """How to measure. `rounds` None fills `seconds` for each step; `torch` and `jax` are compared where they are
    installed, JAX on a CPU alone; `plain` is ours without [fast] beside ours with it; `blas` as in
    `children.environment`; `precision` is that of matrix products on a GPU; `busy` other programs run beside."""

    threads: int
    rounds: int | None = None
    seconds: float = 12.0
    torch: bool = True
    jax: bool = True
    plain: bool = True
    memory: bool = True
    blas: str | None = None
    backend: str = "numpy"
    precision: str = "float32"
    busy: int = 0

    @property
    def on_gpu(self) -> bool:
        return self.backend == "cupy"


class Sides:
    """The processes by name, and what they say of themselves; left out are PyTorch's and JAX's where they are missing
    or not wanted, with the reason in `missing`, and ours without [fast] where there is no [fast]."""

    def __init__(self, options: Options, stack: ExitStack, *, sgemm: bool = True):
        self.options, self.stack = options, stack
        self.children: dict[str, Child] = {}
        self.missing: dict[str, str] = {}
        self._take(OURS)
        if options.plain and not options.on_gpu and self.children[OURS].about.get("numba"):
            self._take(PLAIN)
        for side, wanted in ((SGEMM, sgemm), (JAX, options.jax and not options.on_gpu), (TORCH, options.torch)):
            if wanted:
                self._take(side)

    def _take(self, side: str) -> None:
        child = self.stack.enter_context(self.start(side))
        if child.missing:
            self.missing[side] = child.missing
        else:
            self.children[side] = child

    def use_threads(self, threads: int) -> None:
        """So many from now on; JAX's process settles that at its start, so that it is started anew."""
        self.options = replace(self.options, threads=threads)
        for side, child in self.children.items():
            if side != JAX:
                child.ask("prepare", threads=threads)
        if JAX in self.children:
            self.children[JAX].close()
            self._take(JAX)

    def start(self, side: str) -> Child:
        o = self.options
        return Child(side, threads=o.threads, blas=o.blas, backend=o.backend, precision=o.precision)

    def lanes(self, setting: Setting) -> list[Lane]:
        """Ours, and PyTorch's in each of its memory formats that makes a difference, and JAX's."""
        what = asdict(setting)
        lanes = [Lane(side, self.children[side], what) for side in (OURS, PLAIN, TORCH) if side in self.children]
        if TORCH in self.children and setting.convolutional:
            lanes.append(Lane("channels_last", self.children[TORCH], what, layout="channels_last"))
        if JAX in self.children:
            lanes.append(Lane(JAX, self.children[JAX], what))
        return lanes

    def product(self) -> Lane:
        """The large matrix product."""
        return Lane(SGEMM, self.children[SGEMM], SGEMM_SIZES[self.options.backend])

    def ceilings(self) -> Report:
        """What the GPU can do: GB/s of a large copy in its memory, read and written, and GFLOP/s of the product."""
        child = self.children[SGEMM]
        product, copy = self.product(), Lane(COPY, child, COPY)
        for lane in (product, copy):
            lane.make(SEED)
        alternate([product, copy], rounds=LEAST_ROUNDS, seconds=0)
        child.ask("clear")
        rates = spread([child.about["copy_bytes"] / s / 1e9 for s in copy.seconds])
        return {"copy_gbyte_per_second": rates, "sgemm_gflop_per_second": sgemm_rate(product)}

    def ask_all(self, do: str, **arguments: Any) -> None:
        for child in self.children.values():
            child.ask(do, **arguments)

    def timed(self, lanes: list[Lane], *also: Lane, tell: Callable[[int], None] = lambda done: None) -> Report:
        """What every timed step comes to, when these lanes have had their turns, and others with them."""
        self.ask_all("clear")
        every = [*lanes, *also]
        for lane in every:
            lane.make(SEED)
        operations = self.children[OURS].ask("operations", lane=OURS)
        alternate(every, rounds=self.options.rounds, seconds=self.options.seconds, tell=tell)
        sides = [figures(lane, operations) for lane in lanes]
        for side, lane in zip(sides[1:], lanes[1:], strict=True):
            side["ratio"] = ratio(lanes[0], lane)
        return {"gflop": operations / 1e9, "sides": sides, **versus(lanes)}


@contextmanager
def reporting(options: Options, *, sgemm: bool) -> Iterator[tuple[Sides, Report]]:
    """A process for every side, all of which have ended when the block does, and what a report begins with."""
    with ExitStack() as stack:
        running = Sides(options, stack, sgemm=sgemm)
        stack.enter_context(busy_loops(options.busy))
        yield (
            running,
            {
                "scratchgen": __version__,
                "machine": machine(),
                "options": asdict(options),
                "sides": {side: child.about for side, child in running.children.items()},
                "missing": running.missing,
            },
        )


def compare(settings: Sequence[Setting], options: Options, tell: Tell = lambda text: None) -> Report:
    """The report on these steps beside PyTorch's and JAX's."""
    return _by_step(_compared, settings, options, tell, sgemm=True)


def profiled(settings: Sequence[Setting], options: Options, tell: Tell = lambda text: None) -> Report:
    """The report on where the time of these steps goes."""
    return _by_step(_profiled, settings, options, tell, sgemm=options.on_gpu)


def _by_step(
    entry: Callable[[Sides, Setting, Tell], Report],
    settings: Sequence[Setting],
    options: Options,
    tell: Tell,
    *,
    sgemm: bool,
) -> Report:
    with reporting(options, sgemm=sgemm) as (running, report):
        report["steps"] = []
        if options.on_gpu:
            tell("what the GPU can do")
            report |= running.ceilings()
        for setting in settings:
            about: Report = {
                "step": setting.step,
                "about": setting.about,
                "batch": setting.batch,
                "size": setting.size,
            }
            if setting.convolutional:
                about["width"] = setting.width
            report["steps"].append(about | entry(running, setting, tell))
    return report


def _profiled(running: Sides, setting: Setting, tell: Tell) -> Report:
    tell(f"{setting.step}: profile")
    running.ask_all("clear")
    ours = running.lanes(setting)[0]
    ours.make(SEED)
    return ours.child.ask("profile", lane=OURS, seconds=running.options.seconds)


def _compared(running: Sides, setting: Setting, tell: Tell) -> Report:
    lanes, product = running.lanes(setting), running.product()
    tell(f"{setting.step}: building")
    entry = running.timed(lanes, product, tell=lambda done: tell(f"{setting.step}: round {done}"))
    rate = sgemm_rate(product)
    entry |= {"rounds": len(product.rounds), "sgemm_gflop_per_second": rate}
    for side in entry["sides"]:
        side["share_of_sgemm"] = side["gflop_per_second"] / rate["median"]
    if running.options.memory:
        running.ask_all("clear")
        for side, lane in zip(entry["sides"], lanes, strict=True):
            tell(f"{setting.step}: memory of {lane.name}")
            side |= _apart(running, lane)
        entry["growth_ratio"] = _growth_ratio(entry)
    return entry


def figures(lane: Lane, operations: int) -> Report:
    """What one lane's turns come to; the arithmetic is that of our step for all of them."""
    milliseconds = spread([1e3 * s for s in lane.seconds])
    median = milliseconds["median"] / 1e3
    return {
        "side": lane.name,
        "parameters": lane.parameters,
        "ms": milliseconds,
        "images_per_second": lane.images / median,
        "gflop_per_second": operations / median / 1e9,
        "steps_timed": lane.steps * len(lane.rounds),
        "round_ms": [float(1e3 * m) for m in lane.medians],
    }


def sgemm_rate(product: Lane) -> dict[str, float]:
    """GFLOP/s of the turns of an n×n matrix product, n³ multiplications and as many additions."""
    return spread([2 * product.what**3 / s / 1e9 for s in product.seconds])


def ratio(ours: Lane, other: Lane) -> Report:
    """Of the times, round by round, below 1 where ours is faster."""
    ratios = ours.medians / other.medians
    return spread(ratios) | {"rounds": [float(r) for r in ratios]}


def versus(lanes: list[Lane]) -> Report:
    """Ours beside the fastest of the others', which ours without [fast] is none of."""
    ours, *others = lanes
    peers = [lane for lane in others if lane.name != PLAIN]
    if not peers:
        return {"opponent": None, "ratio": None}
    best = min(peers, key=lambda lane: float(np.median(lane.seconds)))
    return {"opponent": best.name, "ratio": ratio(ours, best)}


def _apart(running: Sides, lane: Lane) -> Report:
    """What is found out in a process of its own: MiB before the step is built, the most since, and the growth, or
    None where unknown; on a GPU also what a step launches, where PyTorch is here to count it."""
    what = {"what": lane.what, "layout": lane.layout, "seed": SEED}
    with running.start(lane.child.side) as child:
        held = child.ask("memory", **what)
        known = held["before"] is not None and held["peak"] is not None
        found: Report = {"memory": held | {"growth": held["peak"] - held["before"]} if known else None}
        if running.options.on_gpu:
            found["launches"] = {"missing": "PyTorch's profiler counts, and PyTorch is not here"}
            if TORCH in running.children:
                try:
                    found["launches"] = child.ask("launches", **what)
                except ChildProcessError as error:  # which costs no other figure
                    found["launches"] = {"missing": str(error)}
    return found


def _growth_ratio(entry: Report) -> float | None:
    """Growth of ours over that of the opponent whose time is compared."""
    growths = {side["side"]: side["memory"] and side["memory"]["growth"] for side in entry["sides"]}
    ours, other = growths[OURS], growths.get(entry["opponent"])
    return ours / other if ours is not None and other else None
