"""The three reports as lines of text, each from the very dictionary that is written as JSON."""

from scratchgen.bench.gpu import printed as on_gpu
from scratchgen.bench.table import Row, markdown_table, number, ratio, share, span, text_table


def heading(report: dict, table=text_table) -> list[str]:
    """The machine, who ran on it and with what, each thread count as its process tells it."""
    rows = on_gpu.heading(report) if _of_gpu(report) else _of_cpu(report)
    if table is markdown_table:
        return [f"- {name}: {what}" for name, what in rows]
    return [f"{name:<10}  {what}" for name, what in rows]


def _of_gpu(report: dict) -> bool:
    return report["options"].get("backend") == "cupy"


def _of_cpu(report: dict) -> list[Row]:
    machine, sides = report["machine"], report["sides"]
    rows = [
        ("machine", f"{machine['cpu']}, {_count(machine['cores'], 'core')}, {machine['system']}"),
        ("scratchgen", f"{report['scratchgen']}, Python {machine['python']}, {_numpy(sides['scratchgen'])}"),
    ]
    if "torch" in sides:
        torch = sides["torch"]
        threads = _count(torch["threads"], "thread")
        rows.append(("torch", f"{torch['torch']}, {torch['instructions']} instructions, {threads}"))
    if "sgemm" in sides:
        rows.append(("sgemm", _numpy(sides["sgemm"])))
    wanted = report["options"]["threads"]
    odd = [side for side, about in sides.items() if about["threads"] not in (wanted, None)]
    if odd:
        rows.append(("unequal", f"{', '.join(odd)} did not take the {_count(wanted, 'thread')} asked for"))
    return rows


def missing_torch(report: dict) -> list[str]:
    """How to get the comparison, where it was wanted and could not be had."""
    why = report["torch_missing"]
    if why is None:
        return []
    return [
        "",
        f'PyTorch cannot be used here ({why}), nothing is compared: pip install "scratchgen-nn[oracle]" brings it',
    ]


def _numpy(about: dict) -> str:
    kernels = ", ".join(about["blas"]) or "unknown"
    return f"NumPy {about['numpy']}, BLAS kernels for {kernels}, {_count(about['threads'], 'thread')}"


def _count(n: int | None, what: str) -> str:
    if n is None:
        return f"unknown {what}s"
    return f"{n} {what}{'s' * (n != 1)}"


# --- the comparison ---

COMPARISON = ("step", "batch", "GFLOP", "side", "ms", "10–90 %", "images/s", "GFLOP/s", "of sgemm", "ratio")
MEMORY = ("step", "side", "before", "peak", "growth", "ratio of growth")


def comparison(report: dict, table=text_table) -> list[str]:
    """The whole report of `compare`."""
    rows, gpu = [], _of_gpu(report)
    for entry in report["steps"]:
        what = (entry["step"], str(entry["batch"]), number(entry["gflop"]))
        for side in entry["sides"]:
            rows.append(
                (
                    *what,
                    side["side"],
                    number(side["ms"]["median"]),
                    span(side["ms"]),
                    f"{side['images_per_second']:,.0f}",
                    number(side["gflop_per_second"]),
                    share(side["share_of_sgemm"]),
                    *([on_gpu.launches(side)] if gpu else ()),
                    ratio(entry["ratio"]) if side is entry["sides"][0] else "*" * (side["side"] == entry["opponent"]),
                )
            )
            what = ("", "", "")
    columns = (*COMPARISON[:-1], "launches", COMPARISON[-1]) if gpu else COMPARISON
    lines = [*heading(report, table), "", *table(columns, rows, (0, 3)), ""]
    lines += _legend(report)
    if gpu and report["options"]["memory"]:
        lines += [on_gpu.LAUNCHES, *on_gpu.not_counted(report), "", *on_gpu.memory(report, table)]
    elif report["options"]["memory"]:
        lines += ["", *memory(report, table)]
    return [*lines, *missing_torch(report)]


def _legend(report: dict) -> list[str]:
    rates = [entry["sgemm_gflop_per_second"] for entry in report["steps"]]
    low, high = min(r["median"] for r in rates), max(r["median"] for r in rates)
    rate = number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
    what = "the median turn's step" if _of_gpu(report) else "the median step"
    lines = [
        f"ms: {what}, and from the 10th to the 90th percentile; sgemm: {rate} GFLOP/s in the same rounds",
    ]
    if any(entry["ratio"] for entry in report["steps"]):
        lines.append(
            "GFLOP: counted in ours; ratio: ours / the faster of PyTorch's formats (*), of rounds, median (10–90 %)"
        )
    return lines


def memory(report: dict, table=text_table) -> list[str]:
    """Memory in processes of its own, side by side."""
    rows = []
    for entry in report["steps"]:
        name = entry["step"]
        for side in entry["sides"]:
            held = side["memory"]
            figures = ["unknown"] * 3 if held is None else [f"{held[k]:,.0f}" for k in ("before", "peak", "growth")]
            known = side is entry["sides"][0] and entry["growth_ratio"] is not None
            rows.append((name, side["side"], *figures, f"{entry['growth_ratio']:.2f}" if known else ""))
            name = ""
    return [
        "memory in MiB, a fresh process each: before the model is built, the peak of a few steps, and the growth,",
        "in which is what a library loads only when it is first used",
        "",
        *table(MEMORY, rows, (0, 1)),
    ]


# --- profile ---

SMALL = 0.005  # of a step: parts below are summed up in one row
BY_KIND = ("kind", "forward", "dx", "dW, db, …", "shared", "adding", "ms", "share", "GFLOP/s")
BY_PART = ("part", "visit", "direction", "calls", "ms", "share", "GFLOP", "GFLOP/s")


def profile(report: dict, table=text_table) -> list[str]:
    """The whole report of a profile: for each step by kind of layer, then part by part, the largest first."""
    lines, gpu = heading(report, table), _of_gpu(report)
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
            lines += ["", *on_gpu.kernels(report, entry, table)]
    return [
        *lines,
        "",
        *(on_gpu.PROFILE if gpu else ()),
        "ms: medians, which need not add up to the median of the step; GFLOP/s: over a part's own time",
        "shared: what several gradients need; adding: gradients added up, and checks; other: the rest of the step",
    ]


def _by_kind(entry: dict) -> list[Row]:
    kinds: dict[str, list[dict]] = {}
    for part in entry["parts"]:
        kinds.setdefault(part["kind"], []).append(part)
    whole = entry["step_ms"]
    rows = []
    for kind, parts in sorted(kinds.items(), key=lambda item: -_ms(item[1])):
        columns = dict.fromkeys(("forward", "dx", "gradients", "shared", "adding"), 0.0)
        for part in parts:
            direction = part["direction"]
            if direction not in columns and direction.startswith("d"):  # of a parameter
                direction = "gradients"
            if direction in columns:
                columns[direction] += part["ms"]
        cells = [number(ms) if ms else "" for ms in columns.values()]
        ms = _ms(parts)
        rows.append((kind, *cells, number(ms), share(ms / whole), _rate(sum(p["gflop"] for p in parts), ms)))
    total = entry["sum_ms"]
    rows.append(("sum", "", "", "", "", "", number(total), share(total / whole), _rate(entry["gflop"], whole)))
    return rows


def _by_part(entry: dict) -> list[Row]:
    parts = sorted(entry["parts"], key=lambda part: -part["ms"])
    large = [part for part in parts if part["share"] >= SMALL]
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
        for part in large
    ]
    if small:
        ms = _ms(small)
        name = f"{_count(len(small), 'part')} below {share(SMALL)}"
        gflop = sum(p["gflop"] for p in small)
        rows.append((name, "", "", "", number(ms), share(ms / entry["step_ms"]), number(gflop) if gflop else "", ""))
    return rows


def _ms(parts) -> float:
    return sum(part["ms"] for part in parts)


def _rate(gflop: float, ms: float) -> str:
    return number(1e3 * gflop / ms) if gflop else ""


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
            best = next((s for s in point["sides"] if s["side"] == point["opponent"]), None)
            ours = point["sides"][0]
            growth = point["growth"]
            row = (
                str(point[report["axis"]]),
                number(point["gflop"]),
                number(ours["ms"]["median"]),
                f"{ours['images_per_second']:,.0f}",
                number(ours["gflop_per_second"]),
                *([number(growth[k]) for k in ("time", "gflop", "quotient")] if growth else [""] * 3),
            )
            if best is not None:
                slower = number(growth["opponent_time"]) if growth else ""
                row += (number(best["ms"]["median"]), best["side"], slower, ratio(point["ratio"]))
            rows.append(row)
        lines += ["", f"{entry['step']}, {entry['fixed']}", "", *table(head, rows), *entry["notes"]]
    lines += [
        "",
        "×: over the row before; quotient: growth of time / growth of arithmetic, at most 1 where nothing is lost",
    ]
    return [*lines, *missing_torch(report)]
