"""The three reports as lines of text, each from the very dictionary that is written as JSON."""

from scratchgen.table import Row, markdown_table, text_table


def number(value: float) -> str:
    """Three significant digits, more before the point."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    digits = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2 if magnitude >= 0.9995 else 3
    return f"{value:,.{digits}f}"


def share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.1f} %"


def span(values: dict) -> str:
    return f"{number(values['p10'])}–{number(values['p90'])}"


def ratio(values: dict | None) -> str:
    return "" if values is None else f"{values['median']:.2f} ({values['p10']:.2f}–{values['p90']:.2f})"


def heading(report: dict, table=text_table) -> list[str]:
    """The machine, who ran on it and with what, each thread count as its process tells it; what a GPU can do."""
    rows = _gpu_rows(report) if _on_gpu(report) else _cpu_rows(report)
    form = "- {}: {}" if table is markdown_table else "{:<10}  {}"
    return [form.format(*row) for row in rows]


def _on_gpu(report: dict) -> bool:
    return report["options"].get("backend") == "cupy"


def _cpu_rows(report: dict) -> list[Row]:
    machine, sides = report["machine"], report["sides"]
    rows = [
        ("machine", f"{machine['cpu']}, {_count(machine['cores'], 'core')}, {machine['system']}"),
        ("scratchgen", f"{report['scratchgen']}, Python {machine['python']}, {_numpy(sides['scratchgen'])}"),
    ]
    if torch := sides.get("torch"):
        threads = _count(torch["threads"], "thread")
        rows.append(("torch", f"{torch['torch']}, {torch['instructions']} instructions, {threads}"))
    if "sgemm" in sides:
        rows.append(("sgemm", _numpy(sides["sgemm"])))
    wanted = report["options"]["threads"]
    odd = [side for side, about in sides.items() if about["threads"] not in (wanted, None)]
    if odd:
        rows.append(("unequal", f"{', '.join(odd)} did not take the {_count(wanted, 'thread')} asked for"))
    return rows


def _gpu_rows(report: dict) -> list[Row]:
    machine, ours = report["machine"], report["sides"]["scratchgen"]
    programs = (
        f"{report['scratchgen']}, Python {machine['python']}, CuPy {ours['cupy']}, "
        f"CUDA runtime {ours['runtime']}, driver for CUDA up to {ours['driver']}, {ours['precision']}"
    )
    rows = [
        ("GPU", f"{ours['device']}, {ours['gib']:.1f} GiB, compute capability {ours['capability']}"),
        ("machine", f"{machine['cpu']}, {machine['system']}"),
        ("scratchgen", programs),
    ]
    if torch := report["sides"].get("torch"):
        products, convolutions = (
            "in TF32" if torch[f"tf32_{what}"] else "in float32" for what in ("products", "convolutions")
        )
        programs = (
            f"{torch['torch']}, CUDA {torch['cuda']}, cuDNN {torch['cudnn']}, products {products} and convolutions "
            f"{convolutions}, cudnn.benchmark {'on' if torch['cudnn_benchmark'] else 'off'}"
        )
        rows.append(("torch", programs))
        if torch["device"] != ours["device"]:
            rows.append(("unequal", f"torch runs on another GPU, {torch['device']}"))
    if copy := report.get("copy_gbyte_per_second"):
        rows.append(("copy", f"{number(copy['median'])} GB/s, read and written"))
    if sgemm := report.get("sgemm_gflop_per_second"):
        rows.append(("sgemm", f"{number(sgemm['median'])} GFLOP/s, {ours['precision']}"))
    return rows


def missing_torch(report: dict) -> list[str]:
    """How to get the comparison, where it was wanted and could not be had."""
    why = report["torch_missing"]
    how = 'nothing is compared: pip install "scratchgen-nn[oracle]" brings it'
    return [] if why is None else ["", f"PyTorch cannot be used here ({why}), {how}"]


def _numpy(about: dict) -> str:
    kernels = ", ".join(about["blas"]) or "unknown"
    return f"NumPy {about['numpy']}, BLAS kernels for {kernels}, {_count(about['threads'], 'thread')}"


def _count(n: int | None, what: str) -> str:
    return f"unknown {what}s" if n is None else f"{n} {what}{'s' * (n != 1)}"


# --- the comparison ---

COMPARISON = ("step", "batch", "GFLOP", "side", "ms", "10–90 %", "images/s", "GFLOP/s", "of sgemm", "ratio")


def comparison(report: dict, table=text_table) -> list[str]:
    """The whole report of `compare`."""
    rows, gpu = [], _on_gpu(report)
    for entry in report["steps"]:
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
            last = ratio(entry["ratio"]) if side is entry["sides"][0] else "*" * (side["side"] == entry["opponent"])
            rows.append((*what, side["side"], *figures, last))
            what = ("", "", "")
    columns = (*COMPARISON[:-1], "launches", COMPARISON[-1]) if gpu else COMPARISON
    lines = [*heading(report, table), "", *table(columns, rows, (0, 3)), ""]
    rates = [entry["sgemm_gflop_per_second"]["median"] for entry in report["steps"]]
    rate = " to ".join(dict.fromkeys((number(min(rates)), number(max(rates)))))
    step = "the median turn's step" if gpu else "the median step"
    lines.append(f"ms: {step}, and from the 10th to the 90th percentile; sgemm: {rate} GFLOP/s in the same rounds")
    if any(entry["ratio"] for entry in report["steps"]):
        lines.append(
            "GFLOP: counted in ours; ratio: ours / the faster of PyTorch's formats (*), of rounds, median (10–90 %)"
        )
    if report["options"]["memory"]:
        if gpu:
            lines.append("launches: kernels a step, without copies, counted by PyTorch's profiler")
            sides = [side for entry in report["steps"] for side in entry["sides"]]
            reasons = dict.fromkeys(side.get("launches", {}).get("missing") for side in sides)
            lines += [f"launches not counted: {reason}" for reason in reasons if reason]
        lines += ["", *memory(report, table)]
    return [*lines, *missing_torch(report)]


def launches(side: dict) -> str:
    """The kernels of a step, where they were counted."""
    counted = side.get("launches", {}).get("kernels")
    return "not counted" if counted is None else f"{counted:g}"


CPU_MEMORY = [
    "memory in MiB, a fresh process each: before the model is built, the peak of a few steps, and the growth,",
    "in which is what a library loads only when it is first used",
]


def memory(report: dict, table=text_table) -> list[str]:
    """Memory in processes of its own, side by side."""
    if _on_gpu(report):
        said = ["memory of the GPU in MiB that each side's pool takes for a step, in a fresh process each"]
        columns, keys = ("MiB", "ratio"), ("peak",)
    else:
        said = CPU_MEMORY
        columns, keys = ("before", "peak", "growth", "ratio of growth"), ("before", "peak", "growth")
    rows = []
    for entry in report["steps"]:
        name, last = entry["step"], "" if entry["growth_ratio"] is None else f"{entry['growth_ratio']:.2f}"
        for side in entry["sides"]:
            held = side["memory"]
            figures = ["unknown" if held is None else f"{held[key]:,.0f}" for key in keys]
            rows.append((name, side["side"], *figures, last))
            name = last = ""
    return [*said, "", *table(("step", "side", *columns), rows, (0, 1))]


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


def profile(report: dict, table=text_table) -> list[str]:
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


def _by_kind(entry: dict) -> list[Row]:
    kinds: dict[str, list[dict]] = {}
    for part in entry["parts"]:
        kinds.setdefault(part["kind"], []).append(part)
    rows, whole = [], entry["step_ms"]
    for kind, parts in sorted(kinds.items(), key=lambda item: -_ms(item[1])):
        columns = dict.fromkeys(("forward", "dx", "gradients", "shared", "adding"), 0.0)
        for part in parts:
            direction = part["direction"]
            if direction not in columns and direction.startswith("d"):  # of a parameter
                direction = "gradients"
            if direction in columns:
                columns[direction] += part["ms"]
        ms = _ms(parts)
        cells = [number(part) if part else "" for part in columns.values()]
        rows.append((kind, *cells, number(ms), share(ms / whole), _rate(sum(p["gflop"] for p in parts), ms)))
    total = entry["sum_ms"]
    return [*rows, ("sum", *[""] * 5, number(total), share(total / whole), _rate(entry["gflop"], whole))]


def _by_part(entry: dict) -> list[Row]:
    parts = sorted(entry["parts"], key=lambda part: -part["ms"])
    small = [part for part in parts if part["share"] < SMALL]
    rows = [
        (
            " ".join(dict.fromkeys(filter(None, (part["part"], part["kind"], part["weights"])))),
            part["visit"],
            part["direction"],
            str(part["calls"]),
            number(part["ms"]),
            share(part["share"]),
            number(part["gflop"]) if part["gflop"] else "",
            _rate(part["gflop"], part["ms"]),
        )
        for part in parts
        if part["share"] >= SMALL
    ]
    if small:
        ms, gflop = _ms(small), sum(p["gflop"] for p in small)
        figures = number(ms), share(ms / entry["step_ms"]), number(gflop) if gflop else "", ""
        rows.append((f"{_count(len(small), 'part')} below {share(SMALL)}", "", "", "", *figures))
    return rows


def _ms(parts) -> float:
    return sum(part["ms"] for part in parts)


def _rate(gflop: float, ms: float) -> str:
    return number(1e3 * gflop / ms) if gflop else ""


def kernels(report: dict, entry: dict, table=text_table) -> list[str]:
    """Each kernel of a step by itself, by the bytes that it must move, and each product: the most time first.

    Those that take less than SMALL of the step are in the sums alone.
    """
    copy, sgemm = report["copy_gbyte_per_second"]["median"], report["sgemm_gflop_per_second"]["median"]

    def rows(kind, names, unit, scale, ceiling):
        found = sorted(entry[kind], key=_milliseconds, reverse=True)
        return [
            (
                *names(one),
                str(one["calls"]),
                number(1e6 * one["seconds"]),
                number(one[unit] / one["seconds"] / scale),
                share(one[unit] / one["seconds"] / 1e9 / ceiling),
            )
            for one in found
            if _milliseconds(one) >= SMALL * entry["plain_ms"]
        ]

    ours = rows("kernels", lambda k: (k["kernel"], k["formula"], k["shape"]), "bytes", 1e9, copy)
    products = rows("products", lambda p: (p["form"], "×".join(map(str, p["sizes"]))), "operations", 1e12, sgemm)
    total = [number(sum(map(_milliseconds, entry[kind]))) for kind in ("kernels", "products")]
    return [
        *table(KERNELS, ours, (0, 1, 2)),
        "",
        *table(PRODUCTS, products, (0, 1)),
        "",
        f"{entry['step']}: {total[0]} ms in these kernels, {total[1]} ms in these products, each by itself; "
        f"the step takes {number(entry['plain_ms'])} ms",
    ]


def _milliseconds(found: dict) -> float:
    return 1e3 * found["calls"] * found["seconds"]


# --- scaling ---

GROWTH = ("GFLOP", "ms", "images/s", "GFLOP/s", "time ×", "GFLOP ×", "quotient")


def scaling(report: dict, table=text_table) -> list[str]:
    """The whole report of `scaling`: for each step a row a point, growth beside that of the point before."""
    lines = heading(report, table)
    for entry in report["steps"]:
        others = entry["points"][0]["opponent"] is not None
        head = (report["axis"], *GROWTH, *(("torch ms", "format", "time ×", "ratio") if others else ()))
        rows = []
        for point in entry["points"]:
            ours, growth = point["sides"][0], point["growth"]
            row = (
                str(point[report["axis"]]),
                number(point["gflop"]),
                number(ours["ms"]["median"]),
                f"{ours['images_per_second']:,.0f}",
                number(ours["gflop_per_second"]),
                *([number(growth[k]) for k in ("time", "gflop", "quotient")] if growth else [""] * 3),
            )
            if others:
                best = next(s for s in point["sides"] if s["side"] == point["opponent"])
                slower = number(growth["opponent_time"]) if growth else ""
                row += (number(best["ms"]["median"]), best["side"], slower, ratio(point["ratio"]))
            rows.append(row)
        lines += ["", f"{entry['step']}, {entry['fixed']}", "", *table(head, rows), *entry["notes"]]
    last = "×: over the row before; quotient: growth of time / growth of arithmetic, at most 1 where nothing is lost"
    return [*lines, "", last, *missing_torch(report)]
