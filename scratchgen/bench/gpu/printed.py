"""What the reports on a GPU say beside those on a CPU, as lines of text."""

from scratchgen.bench.table import Row, number, share


def heading(report: dict) -> list[Row]:
    """The GPU, who ran on it and with what, and what the GPU itself can do."""
    machine, sides = report["machine"], report["sides"]
    ours = sides["scratchgen"]
    rows = [
        ("GPU", f"{ours['device']}, {ours['gib']:.1f} GiB, compute capability {ours['capability']}"),
        ("machine", f"{machine['cpu']}, {machine['system']}"),
        (
            "scratchgen",
            f"{report['scratchgen']}, Python {machine['python']}, CuPy {ours['cupy']}, "
            f"CUDA runtime {ours['runtime']}, driver for CUDA up to {ours['driver']}, {ours['precision']}",
        ),
    ]
    if "torch" in sides:
        torch = sides["torch"]
        tf32 = " and ".join(
            f"{what} {'in TF32' if torch[key] else 'in float32'}"
            for what, key in (("products", "tf32_products"), ("convolutions", "tf32_convolutions"))
        )
        tries = "on" if torch["cudnn_benchmark"] else "off"
        rows.append(
            (
                "torch",
                f"{torch['torch']}, CUDA {torch['cuda']}, cuDNN {torch['cudnn']}, {tf32}, cudnn.benchmark {tries}",
            )
        )
        if torch["device"] != ours["device"]:
            rows.append(("unequal", f"torch runs on another GPU, {torch['device']}"))
    if "copy_gbyte_per_second" in report:
        rows.append(("copy", f"{number(report['copy_gbyte_per_second']['median'])} GB/s, read and written"))
    if "sgemm_gflop_per_second" in report:
        rows.append(("sgemm", f"{number(report['sgemm_gflop_per_second']['median'])} GFLOP/s, {ours['precision']}"))
    return rows


def launches(side: dict) -> str:
    """The kernels of a step, where they were counted."""
    counted = side.get("launches", {"missing": ""})
    return "not counted" if "missing" in counted else f"{counted['kernels']:g}"


LAUNCHES = "launches: kernels a step, without copies, counted by PyTorch's profiler"


def not_counted(report: dict) -> list[str]:
    """Why launches were not counted, each reason once."""
    sides = [side for entry in report["steps"] for side in entry["sides"]]
    reasons = dict.fromkeys(side["launches"].get("missing") for side in sides if "launches" in side)
    return [f"launches not counted: {reason}" for reason in reasons if reason]


MEMORY = ("step", "side", "MiB", "ratio")


def memory(report: dict, table) -> list[str]:
    """What each side's memory pool needs, side by side."""
    rows = []
    for entry in report["steps"]:
        name = entry["step"]
        for side in entry["sides"]:
            known = side is entry["sides"][0] and entry["growth_ratio"] is not None
            held = "unknown" if side["memory"] is None else f"{side['memory']['peak']:,.0f}"
            rows.append((name, side["side"], held, f"{entry['growth_ratio']:.2f}" if known else ""))
            name = ""
    return [
        "memory of the GPU in MiB that each side's pool takes for a step, in a fresh process each",
        "",
        *table(MEMORY, rows, (0, 1)),
    ]


SMALL = 0.005  # of a step
KERNELS = ("kernel", "formula", "shape", "calls", "µs", "GB/s", "of copy")
PRODUCTS = ("product", "M×K×N", "calls", "µs", "TFLOP/s", "of sgemm")


def kernels(report: dict, entry: dict, table) -> list[str]:
    """Each kernel of a step by itself, by the bytes that it must move, and each product: the most time first.

    Those that take less than SMALL of the step are in the sums alone.
    """
    copy, sgemm = report["copy_gbyte_per_second"]["median"], report["sgemm_gflop_per_second"]["median"]
    ours = [
        (
            *(found[key] for key in ("kernel", "formula", "shape")),
            str(found["calls"]),
            number(1e6 * found["seconds"]),
            number(found["bytes"] / found["seconds"] / 1e9),
            share(found["bytes"] / found["seconds"] / 1e9 / copy),
        )
        for found in _large(entry, "kernels")
    ]
    products = [
        (
            found["form"],
            "×".join(map(str, found["sizes"])),
            str(found["calls"]),
            number(1e6 * found["seconds"]),
            number(found["operations"] / found["seconds"] / 1e12),
            share(found["operations"] / found["seconds"] / 1e9 / sgemm),
        )
        for found in _large(entry, "products")
    ]
    kinds = entry["kernels"], entry["products"]
    total = [sum(f["calls"] * f["seconds"] for f in found) * 1e3 for found in kinds]
    return [
        *table(KERNELS, ours, (0, 1, 2)),
        "",
        *table(PRODUCTS, products, (0, 1)),
        "",
        f"{entry['step']}: {number(total[0])} ms in these kernels, {number(total[1])} ms in these products, each by "
        f"itself; the step takes {number(entry['plain_ms'])} ms",
    ]


def _large(entry: dict, kind: str) -> list[dict]:
    found = sorted(entry[kind], key=lambda f: -f["calls"] * f["seconds"])
    return [f for f in found if f["calls"] * f["seconds"] * 1e3 >= SMALL * entry["plain_ms"]]


PROFILE = [
    "on a GPU the parts are waited for one by one, so that they take longer than in the step as it is",
    "GB/s: bytes that must move, read once and written once; what fits in the GPU's cache can beat the copy",
    "product: N as it lies in memory, T transposed; µs: by the GPU's clock, without Python",
]
