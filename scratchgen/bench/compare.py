"""The comparison: every side in turn on each step, and the figures that come of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from scratchgen.bench.children import Child
from scratchgen.bench.machine import machine
from scratchgen.bench.rounds import LEAST_ROUNDS, Lane, alternate, spread
from scratchgen.bench.settings import Setting
from scratchgen.version import __version__

OURS, TORCH, SGEMM = "scratchgen", "torch", "sgemm"
SGEMM_SIZE = 2048  # a product of 17 GFLOP: large enough to reach what the machine can do
GPU_SGEMM_SIZE = 8192  # 1.1 TFLOP
COPY = "copy"
SEED = 0


@dataclass(frozen=True)
class Options:
    """How to measure. `rounds` None fills `seconds` for each step; `blas` as in `children.environment`; `precision`
    is that of matrix products on a GPU."""

    threads: int
    rounds: int | None = None
    seconds: float = 12.0
    torch: bool = True
    memory: bool = True
    blas: str | None = None
    backend: str = "numpy"
    precision: str = "float32"

    @property
    def on_gpu(self) -> bool:
        return self.backend == "cupy"


class Sides:
    """The processes, and what they say of themselves; PyTorch's is None where it is missing or not wanted."""

    def __init__(self, options: Options, stack: ExitStack, *, sgemm: bool = True):
        self.options = options
        self.ours = stack.enter_context(self.start(OURS))
        self.sgemm = stack.enter_context(self.start(SGEMM)) if sgemm else None
        self.torch, self.missing = None, None
        if options.torch:
            child = stack.enter_context(self.start(TORCH))
            self.torch, self.missing = (None, child.missing) if child.missing else (child, None)

    def start(self, side: str) -> Child:
        precision = self.options.precision if self.options.on_gpu else None
        return Child(side, threads=self.options.threads, blas=self.options.blas, precision=precision)

    def lanes(self, setting: Setting) -> list[Lane]:
        """Ours, and PyTorch's in each of its memory formats that makes a difference."""
        what = asdict(setting)
        lanes = [Lane(OURS, self.ours, what)]
        if self.torch is not None:
            lanes.append(Lane(TORCH, self.torch, what))
            if setting.convolutional:
                lanes.append(Lane("channels_last", self.torch, what, layout="channels_last"))
        return lanes

    def product(self) -> Lane:
        """The large matrix product."""
        return Lane(SGEMM, self.sgemm, GPU_SGEMM_SIZE if self.options.on_gpu else SGEMM_SIZE)

    def ceilings(self) -> dict:
        """What the GPU can do: GB/s of a large copy in its memory, read and written, and GFLOP/s of the product."""
        product, copy = self.product(), Lane(COPY, self.sgemm, COPY)
        for lane in (product, copy):
            lane.make(SEED)
        alternate([product, copy], rounds=LEAST_ROUNDS, seconds=0)
        self.sgemm.ask("clear")
        moved = self.sgemm.about["copy_bytes"]
        return {
            "copy_gbyte_per_second": spread([moved / s / 1e9 for r in copy.rounds for s in r]),
            "sgemm_gflop_per_second": sgemm_rate(product),
        }

    def use(self, threads: int) -> None:
        """Change the number of threads of all sides."""
        for child in (self.ours, self.torch, self.sgemm):
            if child is not None:
                child.ask("prepare", threads=threads)

    def clear(self) -> None:
        """Let go of all steps."""
        for child in (self.ours, self.torch, self.sgemm):
            if child is not None:
                child.ask("clear")

    def head(self) -> dict:
        """What every report begins with."""
        children = {child.side: child.about for child in (self.ours, self.torch, self.sgemm) if child is not None}
        return {
            "scratchgen": __version__,
            "machine": machine(),
            "options": asdict(self.options),
            "sides": children,
            "torch_missing": self.missing,
        }


@contextmanager
def sides(options: Options, *, sgemm: bool = True) -> Iterator[Sides]:
    """Start a process for every side; all of them have ended when the block does."""
    with ExitStack() as stack:
        yield Sides(options, stack, sgemm=sgemm)


def compare(settings: list[Setting], options: Options, tell: Callable[[str], None] = lambda text: None) -> dict:
    """The report on these steps; `tell` hears how far it is."""
    with sides(options) as running:
        report = running.head() | {"steps": []}
        if options.on_gpu:
            tell("what the GPU can do")
            report |= running.ceilings()
        for setting in settings:
            report["steps"].append(_compared(running, setting, tell))
    return report


def _compared(running: Sides, setting: Setting, tell) -> dict:
    lanes = running.lanes(setting)
    product = running.product()
    tell(f"{setting.step}: building")
    running.clear()
    for lane in (*lanes, product):
        lane.make(SEED)
    operations = running.ours.ask("operations", lane=OURS)
    options = running.options
    alternate(
        [*lanes, product],
        rounds=options.rounds,
        seconds=options.seconds,
        tell=lambda done: tell(f"{setting.step}: round {done}"),
    )
    rate = sgemm_rate(product)
    entry = {
        **described(setting),
        "gflop": operations / 1e9,
        "rounds": len(product.rounds),
        "sgemm_gflop_per_second": rate,
        "sides": [figures(lane, operations) for lane in lanes],
        **versus(lanes),
    }
    for side in entry["sides"]:
        side["share_of_sgemm"] = side["gflop_per_second"] / rate["median"]
    if options.memory:
        running.clear()
        for side, lane in zip(entry["sides"], lanes, strict=True):
            tell(f"{setting.step}: memory of {lane.name}")
            side |= _apart(running, lane)
        entry["growth_ratio"] = _growth_ratio(entry)
    return entry


def described(setting: Setting) -> dict:
    """What an entry of a report begins with."""
    return {"step": setting.step, "about": setting.about, "batch": setting.batch, "size": setting.size} | (
        {"width": setting.width} if setting.convolutional else {}
    )


def figures(lane: Lane, operations: int) -> dict:
    """What one lane's turns come to; the arithmetic is that of our step for all of them."""
    seconds = [s for r in lane.rounds for s in r]
    milliseconds = spread([1e3 * s for s in seconds])
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


def sgemm_rate(product: Lane) -> dict:
    """GFLOP/s of the turns of an n×n matrix product, n³ multiplications and as many additions."""
    return spread([2 * product.what**3 / s / 1e9 for r in product.rounds for s in r])


def versus(lanes: list[Lane]) -> dict:
    """Ours beside the faster of PyTorch's: the ratio of the times, round by round, below 1 where ours is faster."""
    ours, *others = lanes
    if not others:
        return {"opponent": None, "ratio": None}
    best = min(others, key=lambda lane: np.median([s for r in lane.rounds for s in r]))
    ratios = ours.medians / best.medians
    return {"opponent": best.name, "ratio": spread(ratios) | {"rounds": [float(r) for r in ratios]}}


def _apart(running: Sides, lane: Lane) -> dict:
    """What is found out in a process of its own: memory, and on a GPU the launches."""
    with running.start(lane.child.side) as child:
        found = {"memory": _memory(child, lane)}
        if running.options.on_gpu:
            found["launches"] = _launches(child, lane, counted=running.torch is not None)
    return found


def _memory(child: Child, lane: Lane) -> dict | None:
    """MiB before the step is built, the most since, and the growth; None where unknown."""
    held = child.ask("memory", what=lane.what, layout=lane.layout, seed=SEED)
    if held["before"] is None or held["peak"] is None:
        return None
    return held | {"growth": held["peak"] - held["before"]}


def _launches(child: Child, lane: Lane, *, counted: bool) -> dict:
    """What a step launches on the GPU, as `gpu.launches` counts it; what goes wrong there costs no other figure."""
    if not counted:
        return {"missing": "PyTorch's profiler counts, and PyTorch is not here"}
    try:
        return child.ask("launches", what=lane.what, layout=lane.layout, seed=SEED)
    except ChildProcessError as error:
        return {"missing": str(error)}


def _growth_ratio(entry: dict) -> float | None:
    """Growth of ours over that of the opponent whose time is compared."""
    growths = {side["side"]: side["memory"] and side["memory"]["growth"] for side in entry["sides"]}
    ours, other = growths[OURS], growths.get(entry["opponent"])
    return ours / other if ours is not None and other else None
