"""How a step's time grows with its batch, its images, its width, and the threads: no faster than its arithmetic."""

from collections.abc import Sequence
from itertools import pairwise

from scratchgen.bench.compare import OURS, Options, Report, Tell, reporting
from scratchgen.bench.settings import Setting

AXES = {
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    "size": (28, 32, 64, 96, 128),
    "width": (16, 32, 64, 128),
    "threads": (),  # 1, 2, … as many as asked for, doubling where that is many
}
BATCHES = {"size": 16, "width": 32}  # small, as the largest step of these axes is large
LARGEST_BATCH = {"dcgan64": 128}  # 512 would hold several GB on each side


def scaling(
    axis: str,
    settings: Sequence[Setting],
    options: Options,
    *,
    batch: int | None = None,
    tell: Tell = lambda text: None,
) -> Report:
    """The report on these steps along an axis; `batch` is for the other axes, whose own it replaces."""
    with reporting(options, sgemm=False) as (running, report):
        report |= {"axis": axis, "steps": []}
        for setting in settings:
            varied = along(axis, setting, threads=options.threads, batch=batch)
            notes, points = [], []
            if axis == "batch" and varied[-1][0] < AXES["batch"][-1]:
                notes = [f"batches above {varied[-1][0]} are left out: they would hold several GB"]
            for value, one in varied:
                tell(f"{setting.step}: {axis} {value}")
                if axis == "threads":
                    running.use_threads(value)
                points.append({axis: value, "batch": one.batch, **running.timed(running.lanes(one)), "growth": None})
            for before, point in pairwise(points):
                point["growth"] = _growth(before, point)
            fixed = _fixed(axis, varied[0][1], options)
            report["steps"].append({"step": setting.step, "fixed": fixed, "notes": notes, "points": points})
    return report


def along(axis: str, setting: Setting, *, threads: int, batch: int | None) -> list[tuple[int, Setting]]:
    """The points of an axis, each with its setting. ValueError where the step has no such axis."""
    if axis == "batch":
        largest = LARGEST_BATCH.get(setting.step, AXES[axis][-1])
        return [(n, setting.vary(batch=n)) for n in AXES[axis] if setting.least_batch <= n <= largest]
    start = setting.vary(batch=batch or BATCHES.get(axis, setting.batch))
    if axis == "threads":
        few = range(1, threads + 1)
        return [(n, start) for n in few if threads <= 8 or n == threads or n & (n - 1) == 0]  # powers of two
    return [(n, start.vary(**{axis: n})) for n in AXES[axis]]


def _fixed(axis: str, setting: Setting, options: Options) -> str:
    """What stays as it is, in words."""
    parts = {"batch": f"batch {setting.batch}", "size": f"{setting.size}×{setting.size}×{setting.channels}"}
    if setting.convolutional:
        parts["width"] = f"width {setting.width}"
    parts["threads"] = f"threads {options.threads}"
    return ", ".join(text for name, text in parts.items() if name != axis)


def _growth(before: Report, point: Report) -> dict[str, float]:
    """Time and arithmetic over those of the point before, and the one over the other."""
    time, arithmetic = _ms(point, OURS) / _ms(before, OURS), point["gflop"] / before["gflop"]
    growth = {"time": time, "gflop": arithmetic, "quotient": time / arithmetic}
    if point["opponent"] is not None:
        growth["opponent_time"] = _ms(point, point["opponent"]) / _ms(before, before["opponent"])
    return growth


def _ms(point: Report, side: str) -> float:
    return next(s["ms"]["median"] for s in point["sides"] if s["side"] == side)
