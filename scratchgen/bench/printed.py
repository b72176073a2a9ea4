"""The reports as lines of text, each from the very dictionary that is written as JSON."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from scratchgen.table import Row, markdown_table, text_table

Report: TypeAlias = dict[str, Any]
Table: TypeAlias = Callable[..., list[str]]


def number(value: float) -> str:
    """Three significant digits, more before the point."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    digits = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2 if magnitude >= 0.9995 else 3
    return f"{value:,.{digits}f}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.1f} %"


def span(values: dict[str, float]) -> str:
    return f"{number(values['p10'])}–{number(values['p90'])}"


def ratio(values: dict[str, float] | None) -> str:
    return "" if values is None else f"{values['median']:.2f} ({values['p10']:.2f}–{values['p90']:.2f})"


def _count(n: int | None, what: str) -> str:
    return f"unknown {what}s" if n is None else f"{n} {what}{'s' * (n != 1)}"


def _on_gpu(report: Report) -> bool:
    return bool(report["options"].get("backend") == "cupy")


# --- the heading ---


def heading(report: Report, table: Table = text_table) -> list[str]:
    """The machine, who ran on it and with what, each thread count as its process tells it; what a GPU can do."""
    form = "- {}: {}" if table is markdown_table else "{:<10}  {}"
    return [form.format(*row) for row in (_gpu_rows if _on_gpu(report) else _cpu_rows)(report)]


def _cpu_rows(report: Report) -> Iterator[Row]:
    machine, sides, wanted = report["machine"], report["sides"], report["options"]["threads"]
    yield "machine", f"{machine['cpu']}, {_count(machine['cores'], 'core')}, {machine['system']}"
    yield "scratchgen", f"{report['scratchgen']}, Python {machine['python']}, {_numpy(sides['scratchgen'])}"
    if torch := sides.get("torch"):
        yield "torch", f"{torch['torch']}, {torch['instructions']} instructions, {_count(torch['threads'], 'thread')}"
    if jax := sides.get("jax"):
        yield "jax", f"{jax['jax']}, optax {jax['optax']}, {_count(jax['threads'], 'thread')}"
    if "sgemm" in sides:
        yield "sgemm", _numpy(sides["sgemm"])
    if busy := report["options"].get("busy"):
        yield "beside", _count(busy, "busy loop")
    if odd := [side for side, about in sides.items() if about["threads"] not in (wanted, None)]:
        yield "unequal", f"{', '.join(odd)} did not take the {_count(wanted, 'thread')} asked for"


def _numpy(about: Report) -> str:
    kernels = ", ".join(about["blas"]) or "unknown"
    numba = f", Numba {about['numba']}" if about.get("numba") else ""
    return f"NumPy {about['numpy']}{numba}, BLAS kernels for {kernels}, {_count(about['threads'], 'thread')}"


def _gpu_rows(report: Report) -> Iterator[Row]:
    machine, ours = report["machine"], report["sides"]["scratchgen"]
    yield "GPU", f"{ours['device']}, {ours['gib']:.1f} GiB, compute capability {ours['capability']}"
    yield "machine", f"{machine['cpu']}, {machine['system']}"
    cuda = f"CUDA runtime {ours['runtime']}, driver for CUDA up to {ours['driver']}, {ours['precision']}"
    yield "scratchgen", f"{report['scratchgen']}, Python {machine['python']}, CuPy {ours['cupy']}, {cuda}"
    if torch := report["sides"].get("torch"):
        tf32 = {True: "in TF32", False: "in float32"}
        precision = f"products {tf32[torch['tf32_products']]} and convolutions {tf32[torch['tf32_convolutions']]}"
        tried = f"cudnn.benchmark {'on' if torch['cudnn_benchmark'] else 'off'}"
        yield "torch", f"{torch['torch']}, CUDA {torch['cuda']}, cuDNN {torch['cudnn']}, {precision}, {tried}"
        if torch["device"] != ours["device"]:
            yield "unequal", f"torch runs on another GPU, {torch['device']}"
    if copy := report.get("copy_gbyte_per_second"):
        yield "copy", f"{number(copy['median'])} GB/s, read and written"
    if sgemm := report.get("sgemm_gflop_per_second"):
        yield "sgemm", f"{number(sgemm['median'])} GFLOP/s, {ours['precision']}"


EXTRAS = {"torch": ("PyTorch", "oracle"), "jax": ("JAX", "jax")}


def missing(report: Report) -> list[str]:
    """How to get the comparisons that were wanted and were not possible."""
    lines = [
        f"{name} cannot be used here ({report['missing'][side]}), nothing is compared with it: "
        f'pip install "scratchgen-nn[{extra}]" brings it'
        for side, (name, extra) in EXTRAS.items()
        if side in report["missing"]
    ]
    return ["", *lines] if lines else []


# --- the comparison ---

RATIO = "ratio: ours / this side, median of rounds; on our row to the fastest of the others (*), and 10–90 %"
COMPARISON = ("step", "batch", "GFLOP", "side", "ms", "10–90 %", "images/s", "GFLOP/s", "of sgemm")


def comparison(report: Report, table: Table = text_table) -> list[str]:
    """The whole report of `compare`."""
    rows, gpu, steps = [], _on_gpu(report), report["steps"]
    for entry in steps:
        what = (entry["step"], str(entry["batch"]), number(entry["gflop"]))
        for side in entry["sides"]:
            figures = (
                number(side["ms"]["median"]),
                span(side["ms"]),
                f"{side['images_per_second']:,.0f}",
                number(side["gflop_per_second"]),
                share(side["share_of_sgemm"]),
                *([launches(side)] if gpu else ()),
            )
            rows.append((*what, side["side"], *figures, _ratio_of(side, entry)))
            what = "", "", ""
    columns = (*COMPARISON, *(["launches"] if gpu else ()), "ratio")
    lines = [*heading(report, table), "", *table(columns, rows, (0, 3)), ""]
    rates = [entry["sgemm_gflop_per_second"]["median"] for entry in steps]
    rate = " to ".join(dict.fromkeys((number(min(rates)), number(max(rates)))))
    step = "the median turn's step" if gpu else "the median step"
    lines.append(f"ms: {step}, and from the 10th to the 90th percentile; sgemm: {rate} GFLOP/s in the same rounds")
    if any(len(entry["sides"]) > 1 for entry in steps):
        lines += ["GFLOP: counted in ours, the same for all sides", RATIO]
    if report["options"]["memory"]:
        if gpu:
            lines.append("launches: kernels a step, without copies, counted by PyTorch's profiler")
            counts = [side.get("launches", {}) for entry in steps for side in entry["sides"]]
            reasons = dict.fromkeys(count["missing"] for count in counts if count.get("missing"))
            lines += [f"launches not counted: {reason}" for reason in reasons]
        lines += ["", *memory(report, table)]
    return [*lines, *missing(report)]


def _ratio_of(side: Report, entry: Report) -> str:
    """On our row to the fastest of the others, on the others' rows to these."""
    if side["side"] == "scratchgen":
        return ratio(entry["ratio"])
    return f"{side['ratio']['median']:.2f}" + " *" * (side["side"] == entry["opponent"])


def launches(side: Report) -> str:
    """The kernels of a step, where they were counted."""
    counted = side.get("launches", {}).get("kernels")
    return "not counted" if counted is None else f"{counted:g}"


ON_GPU_MEMORY = ["memory of the GPU in MiB that each side's pool takes for a step, in a fresh process each"]
ON_CPU_MEMORY = [
    "memory in MiB, a fresh process each: before the model is built, the peak of a few steps, and the growth,",
    "in which is what a library loads, or JAX compiles, only when it is first used",
]


def memory(report: Report, table: Table = text_table) -> list[str]:
    """Memory in processes of its own, side by side."""
    columns, keys = ["before", "peak", "growth", "ratio of growth"], ["before", "peak", "growth"]
    if _on_gpu(report):
        columns, keys = ["MiB", "ratio"], ["peak"]
    rows = []
    for entry in report["steps"]:
        name, last = entry["step"], "" if entry["growth_ratio"] is None else f"{entry['growth_ratio']:.2f}"
        for side in entry["sides"]:
            held = side["memory"]
            rows.append((name, side["side"], *("unknown" if held is None else f"{held[k]:,.0f}" for k in keys), last))
            name = last = ""
    return [
        *(ON_GPU_MEMORY if _on_gpu(report) else ON_CPU_MEMORY),
        "",
        *table(("step", "side", *columns), rows, (0, 1)),
    ]


# --- profile ---

SMALL = 0.005  # of a step: parts below are summed up in one row
BY_KIND = ("kind", "forward", "dx", "dW, db, …", "shared", "adding", "ms", "share", "GFLOP/s")
BY_PART = ("part", "visit", "direction", "calls", "ms", "share", "GFLOP", "GFLOP/s")
KERNELS = ("kernel", "formula", "shape", "calls", "µs", "GB/s", "of copy")
PRODUCTS = ("product", "M×K×N", "calls", "µs", "TFLOP/s", "of sgemm")
ON_GPU = (
    "on a GPU the parts are waited for one by one, so that they take longer than in the step as it is",
    "GB/s: bytes that must move, read once and written once; what fits in the GPU's cache can beat the copy",
    "product: N as it lies in memory, T transposed; µs: by the GPU's clock, without Python",
)


def profile(report: Report, table: Table = text_table) -> list[str]:
    """The whole report of a profile: for each step by kind of layer, then part by part, the largest first."""
    lines, gpu = heading(report, table), _on_gpu(report)
    for entry in report["steps"]:
        lines += [
            "",
            f"{entry['step']}, batch {entry['batch']}: {number(entry['step_ms'])} ms a step in parts, "
            f"{number(entry['plain_ms'])} ms without the stopwatches (medians of {entry['steps_timed']} steps)",
            "",
            *table(BY_KIND, _by_kind(entry)),
            "",
            *table(BY_PART, _by_part(entry), (0, 1, 2)),
        ]
        if gpu:
            lines += ["", *kernels(report, entry, table)]
    return [
        *lines,
        "",
        *(ON_GPU if gpu else ()),
        "ms: medians, which need not add up to the median of the step; GFLOP/s: over a part's own time",
        "shared: what several gradients need; adding: gradients added up, and checks; other: the rest of the step",
    ]


def _by_kind(entry: Report) -> list[Row]:
    kinds: dict[str, list[Report]] = {}
    for part in entry["parts"]:
        kinds.setdefault(part["kind"], []).append(part)
    rows: list[Row] = []
    for kind, parts in sorted(kinds.items(), key=lambda item: -sum(part["ms"] for part in item[1])):
        columns = dict.fromkeys(("forward", "dx", "gradients", "shared", "adding"), 0.0)
        for part in parts:
            of_a_parameter = part["direction"].startswith("d") and part["direction"] != "dx"
            direction = "gradients" if of_a_parameter else part["direction"]
            if direction in columns:
                columns[direction] += part["ms"]
        cells = [number(ms) if ms else "" for ms in columns.values()]
        ms, of_step, _, rate = _figures(parts, entry)
        rows.append((kind, *cells, ms, of_step, rate))
    whole = number(entry["sum_ms"]), share(entry["sum_ms"] / entry["step_ms"])
    return [*rows, ("sum", *[""] * 5, *whole, _rate(entry["gflop"], entry["step_ms"]))]


def _by_part(entry: Report) -> list[Row]:
    parts, rows = sorted(entry["parts"], key=lambda part: -part["ms"]), []
    for part in (part for part in parts if part["share"] >= SMALL):
        name = " ".join(dict.fromkeys(filter(None, (part["part"], part["kind"], part["weights"]))))
        rows.append((name, part["visit"], part["direction"], str(part["calls"]), *_figures([part], entry)))
    if small := [part for part in parts if part["share"] < SMALL]:
        name = f"{_count(len(small), 'part')} below {share(SMALL)}"
        rows.append((name, "", "", "", *_figures(small, entry)[:3], ""))
    return list(rows)


def _figures(parts: list[Report], entry: Report) -> tuple[str, str, str, str]:
    """Milliseconds of parts of a step, their share of it, GFLOP, and GFLOP/s."""
    ms, gflop = (sum(part[key] for part in parts) for key in ("ms", "gflop"))
    return number(ms), share(ms / entry["step_ms"]), number(gflop) if gflop else "", _rate(gflop, ms)


def _rate(gflop: float, ms: float) -> str:
    return number(1e3 * gflop / ms) if gflop else ""


def kernels(report: Report, entry: Report, table: Table = text_table) -> list[str]:
    """Each kernel of a step by itself, by the bytes that it must move, and each product: the most time first.

    Those that take less than SMALL of the step are in the sums alone.
    """
    copy, sgemm = report["copy_gbyte_per_second"]["median"], report["sgemm_gflop_per_second"]["median"]
    ours = [
        (k["kernel"], k["formula"], k["shape"], *_alone(k, k["bytes"], 1e9, copy)) for k in _longest(entry, "kernels")
    ]
    products = [
        (p["form"], "×".join(map(str, p["sizes"])), *_alone(p, p["operations"], 1e12, sgemm))
        for p in _longest(entry, "products")
    ]
    total = [number(sum(map(_milliseconds, entry[kind]))) for kind in ("kernels", "products")]
    return [
        *table(KERNELS, ours, (0, 1, 2)),
        "",
        *table(PRODUCTS, products, (0, 1)),
        "",
        f"{entry['step']}: {total[0]} ms in these kernels, {total[1]} ms in these products, each by itself; "
        f"the step takes {number(entry['plain_ms'])} ms",
    ]


def _longest(entry: Report, kind: str) -> list[Report]:
    found = sorted(entry[kind], key=_milliseconds, reverse=True)
    return [one for one in found if _milliseconds(one) >= SMALL * entry["plain_ms"]]


def _alone(found: Report, work: float, unit: float, ceiling: float) -> Row:
    """Calls, microseconds of one, its rate in units a second, and that over the ceiling, in 1e9 a second."""
    rate = work / found["seconds"]
    return str(found["calls"]), number(1e6 * found["seconds"]), number(rate / unit), share(rate / 1e9 / ceiling)


def _milliseconds(found: Report) -> float:
    return float(1e3 * found["calls"] * found["seconds"])


# --- starting up ---

STARTUP = ("step", "side", "s", "10–90 %", "import", "model", "first step", "ratio")
FIRST_TRAINING = ("training", "side", "s", "10–90 %", "loss", "test", "ratio")


def startup(report: Report, table: Table = text_table) -> list[str]:
    """The whole report of `startup`."""

    def rows(name: str, entry: Report, keys: Iterable[str]) -> Iterator[Row]:
        for side in entry["sides"]:
            seconds = side["seconds"]
            known = [number(side[key]) for key in keys]
            yield name, side["side"], number(seconds["median"]), span(seconds), *known, _ratio_of(side, entry)
            name = ""

    steps, training = report["steps"], report["training"]
    first_steps = [row for entry in steps for row in rows(entry["step"], entry, ("import", "build", "step"))]
    return [
        *heading(report, table),
        "",
        *table(STARTUP, first_steps, (0, 1)),
        "",
        *table(FIRST_TRAINING, list(rows("vae, 1 epoch", training, ("loss", "test_loss"))), (0, 1)),
        "",
        "s: from the start of a fresh process to the end of the first step, or of the training and the process,",
        f"median of {len(training['sides'][0]['rounds'])} and from the 10th to the 90th percentile, "
        "after one that does not count; its parts: medians",
        f"training: on {training['images']:,} images, −ELBO of {training['tested']:,} others after it; "
        "ours also writes checkpoint, pictures and report",
        *([RATIO] if len(training["sides"]) > 1 else ()),
        *missing(report),
    ]


# --- scaling ---

GROWTH = ("GFLOP", "ms", "images/s", "GFLOP/s", "time ×", "GFLOP ×", "quotient")


def scaling(report: Report, table: Table = text_table) -> list[str]:
    """The whole report of `scaling`: for each step a row a point, growth beside that of the point before."""
    lines = heading(report, table)
    for entry in report["steps"]:
        others = entry["points"][0]["opponent"] is not None
        head = (report["axis"], *GROWTH, *(("peer ms", "peer", "time ×", "ratio") if others else ()))
        rows = []
        for point in entry["points"]:
            ours, growth = point["sides"][0], point["growth"] or {}
            row = [
                str(point[report["axis"]]),
                number(point["gflop"]),
                number(ours["ms"]["median"]),
                f"{ours['images_per_second']:,.0f}",
                number(ours["gflop_per_second"]),
                *_known(growth, ("time", "gflop", "quotient")),
            ]
            if others:
                best = next(s for s in point["sides"] if s["side"] == point["opponent"])
                row += [number(best["ms"]["median"]), best["side"], *_known(growth, ("opponent_time",))]
                row.append(ratio(point["ratio"]))
            rows.append(row)
        lines += ["", f"{entry['step']}, {entry['fixed']}", "", *table(head, rows), *entry["notes"]]
    last = "×: over the row before; quotient: growth of time / growth of arithmetic, at most 1 where nothing is lost"
    return [*lines, "", last, *missing(report)]


def _known(growth: dict[str, float], keys: Iterable[str]) -> list[str]:
    return [number(growth[key]) if growth else "" for key in keys]
