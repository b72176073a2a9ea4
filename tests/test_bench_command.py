"""scratchgen bench: what it prints and writes on a CPU and, with sides in this process, on a GPU; what it refuses."""

# ruff: noqa: F811 fixtures are imported, and named again by who takes them

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import backends
import numpy as np
import pytest
import tiny
from bench_sides import FakeTorch, by_hand, inside, quick, with_torch, written  # noqa: F401  fixtures
from PIL import Image
from standin import signatures
from tiny import run

from scratchgen import table
from scratchgen.backend.threads import cores
from scratchgen.bench import children, compare, picture, printed, results, scaling, worker
from scratchgen.bench import steps as ours
from scratchgen.bench.children import WORKER
from scratchgen.bench.settings import SETTINGS
from scratchgen.commands import bench as commands

ROOT = WORKER.parents[2]
QUICK = ("--rounds", "2", "--threads", "1")
GPU = ("--backend", "cupy")


# --- text ---


def test_numbers_have_three_digits():
    cases = {0: "0", 0.1234: "0.123", 0.99951: "1.00", 9.994: "9.99", 9.996: "10.0", 99.96: "100", 12345.6: "12,346"}
    assert {value: printed.number(value) for value in cases} == cases
    assert [printed.share(x) for x in (0.994, 0.0996, 0.0994)] == ["99 %", "10 %", "9.9 %"]
    assert printed.ratio(None) == ""


def test_tables():
    head, rows = ("a", "bbb"), [("xx", "1"), ("y", "22222")]
    assert table.text_table(head, rows) == ["a     bbb", "xx      1", "y   22222"]
    assert table.markdown_table(head, rows) == ["| a | bbb |", "| --- | --: |", "| xx | 1 |", "| y | 22222 |"]


SIDES = ("scratchgen", children.PLAIN, "torch", "channels_last", "jax")


def long_report() -> dict:
    """A report with figures as wide as they get."""
    ms = {"median": 1234.5, "p10": 1100.1, "p90": 12345.6}
    ratio = {"median": 10.25, "p10": 10.11, "p90": 11.99}
    side = {
        "ratio": ratio,
        "ms": ms,
        "images_per_second": 123456.7,
        "gflop_per_second": 1234.5,
        "share_of_sgemm": 1.0,
        "memory": None,
    }
    entry = {
        "step": "dcgan64",
        "batch": 128,
        "gflop": 123.4,
        "opponent": "channels_last",
        "growth_ratio": None,
        "ratio": ratio,
        "sgemm_gflop_per_second": {"median": 1234.5},
        "sides": [{"side": name, **side} for name in SIDES],
    }
    about = {"numpy": "2.4.6", "threads": 64, "blas": ["SkylakeX"]}
    return {
        "scratchgen": "0.1.0",
        "missing": {"jax": "No module named 'jax'", "torch": "No module named 'torch'"},
        "steps": [entry],
        "machine": {
            "cpu": "Intel(R) Xeon(R) Platinum 8480C CPU",
            "cores": 64,
            "system": "Linux x86_64",
            "python": "3.13.1",
        },
        "options": {"memory": True, "threads": 64, "backend": "numpy"},
        "sides": {
            "scratchgen": about | {"numba": "0.68.1"},
            "torch": {"torch": "2.13.0", "threads": 32, "instructions": "AVX512"},
            "jax": {"jax": "0.10.2", "optax": "0.2.8", "threads": None},
            "sgemm": about | {"threads": None, "blas": []},
        },
    }


def test_the_table_is_no_wider_than_110_and_says_what_is_unknown():
    lines = printed.comparison(long_report())
    assert max(map(len, lines[: lines.index("")])) <= 110
    assert max(len(line) for line in lines if "cannot be used" not in line) <= 110
    text = "\n".join(lines)
    assert "scratchgen  0.1.0, Python 3.13.1, NumPy 2.4.6, Numba 0.68.1, BLAS" in text
    assert "jax         0.10.2, optax 0.2.8, unknown threads" in text
    assert "unequal     torch did not take the 64 threads asked for" in text
    assert "BLAS kernels for unknown, unknown threads" in text
    assert text.count("unknown  unknown  unknown") == len(SIDES)
    report = long_report()
    report["steps"][0]["growth_ratio"] = 0.54
    for side in report["steps"][0]["sides"]:
        side["memory"] = {"before": 36.4, "peak": 1236.6, "growth": 1200.2}
    rows = [line.split() for line in printed.memory(report)[4:]]
    figures = ["36", "1,237", "1,200"]
    assert rows[0] == ["dcgan64", "scratchgen", *figures, "0.54"]
    assert [" ".join(row) for row in rows[1:]] == [" ".join((side, *figures)) for side in SIDES[1:]]
    starred = [line for line in lines if line.endswith("*")]
    assert len(starred) == 1
    assert "channels_last" in starred[0]
    assert starred[0].endswith(" 10.25 *")
    for name, extra in (("PyTorch", "oracle"), ("JAX", "jax")):
        (said,) = [line for line in lines if line.startswith(f"{name} cannot be used here (No module named '")]
        assert said.endswith(f'nothing is compared with it: pip install "scratchgen-nn[{extra}]" brings it')


def test_the_heading_on_a_gpu_says_who_multiplies_in_what():
    versions = {"cupy": "14", "runtime": "12.9", "driver": "12.8", "torch": "2", "cuda": "13", "cudnn": 9}
    about = {"device": "G", "gib": 79.1, "capability": "9.0", "precision": "tf32", "cudnn_benchmark": True} | versions
    report = long_report() | {"options": {"backend": "cupy"}}
    for tf32, what in ((True, "in TF32"), (False, "in float32")):
        other = about | {"device": "H", "tf32_products": tf32, "tf32_convolutions": tf32}
        lines = printed.heading(report | {"sides": {"scratchgen": about, "torch": other}})
        assert f"products {what} and convolutions {what}, cudnn.benchmark on" in lines[3]
        assert lines[4] == "unequal     torch runs on another GPU, H"


def test_the_figures_of_kernels_and_products():
    report = {"copy_gbyte_per_second": {"median": 2000.0}, "sgemm_gflop_per_second": {"median": 50_000.0}}
    kernel = {"kernel": "im2col", "formula": "4×4 stride 2", "shape": "2×8×8×3", "calls": 7}
    product = {"form": "NT", "sizes": [8, 4, 2], "calls": 3}
    entry = {
        "step": "dcgan64",
        "plain_ms": 10.0,
        "kernels": [
            {**kernel, "calls": 1, "seconds": 49e-6, "bytes": 1},  # below ½ %
            {**kernel, "seconds": 100e-6, "bytes": 150_000_000},
            {**kernel, "kernel": "adam", "seconds": 200e-6, "bytes": 40_000_000},
        ],
        "products": [{**product, "seconds": 1e-3, "operations": 40 * 10**9}],
    }
    lines = printed.kernels(report, entry, lambda head, rows, left: rows)
    assert lines == [
        ("adam", "4×4 stride 2", "2×8×8×3", "7", "200", "200", "10 %"),
        ("im2col", "4×4 stride 2", "2×8×8×3", "7", "100", "1,500", "75 %"),
        "",
        ("NT", "8×4×2", "3", "1,000", "40.0", "80 %"),
        "",
        "dcgan64: 2.15 ms in these kernels, 3.00 ms in these products, each by itself; the step takes 10.0 ms",
    ]


def test_launches_are_a_number_where_they_were_counted():
    counted = {"launches": {"kernels": 102.0}}, {"launches": {"kernels": 102.5}}, {"launches": {"missing": "x"}}, {}
    assert [printed.launches(side) for side in counted] == ["102", "102.5", "not counted", "not counted"]


# --- scaling ---


def test_the_points_of_every_axis():
    def points(axis, name, **options):
        found = scaling.along(axis, SETTINGS[name], **{"threads": 2, "batch": None} | options)
        return [value for value, _ in found], [setting for _, setting in found]

    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert points("batch", "dcgan28")[0] == [s.batch for s in points("batch", "dcgan28")[1]] == batches
    assert points("batch", "gan")[0] == batches[1:]
    assert points("batch", "dcgan64")[0] == batches[:8]
    sizes, settings = points("size", "dcgan28")
    assert sizes == [s.size for s in settings] == [28, 32, 64, 96, 128]
    assert {s.batch for s in settings} == {16}
    widths, settings = points("width", "dcgan64", batch=4)
    assert widths == [s.width for s in settings] == [16, 32, 64, 128]
    assert {s.batch for s in settings} == {4}
    assert points("threads", "ae")[0] == [1, 2]
    assert points("threads", "ae", batch=7)[1][0].batch == 7
    assert points("threads", "ae", threads=8)[0] == list(range(1, 9))
    assert points("threads", "ae", threads=24)[0] == [1, 2, 4, 8, 16, 24]
    assert points("threads", "ae", threads=16)[0] == [1, 2, 4, 8, 16]
    with pytest.raises(ValueError, match="fully connected"):
        points("size", "ae")


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_growth_is_over_the_point_before(backend, inside, monkeypatch, capsys):
    monkeypatch.setitem(scaling.AXES, "batch", (1, 4))
    argv = ("vae", "--backend", backend, "--scaling", "batch", "--no-torch", "--json", "a.json", "--picture", "a.png")
    assert run("bench", *argv, *QUICK) == 0
    said = capsys.readouterr()
    assert said.err == ""
    entry = written("a.json")["steps"][0]
    first, second = entry["points"]
    assert (first["batch"], second["batch"]) == (1, 4)
    assert first["growth"] is None
    assert second["gflop"] == pytest.approx(4 * first["gflop"])
    ms = [p["sides"][0]["ms"]["median"] for p in (first, second)]
    growth = second["growth"]
    assert growth["time"] == pytest.approx(ms[1] / ms[0])
    assert growth["gflop"] == pytest.approx(4)
    assert growth["quotient"] == pytest.approx(ms[1] / ms[0] / 4)
    row = next(line.split() for line in said.out.splitlines() if line.startswith("4 "))
    assert row[2] == printed.number(ms[1])
    assert row[5:] == [printed.number(growth[k]) for k in ("time", "gflop", "quotient")]
    assert "vae, 28×28×1, threads" in said.out
    assert said.out.startswith("GPU " if backend == "cupy" else "machine ")
    with Image.open("a.png") as picture:
        assert picture.size == (462, 418)


# --- the comparison ---


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """What a comparison with PyTorch prints, and its JSON: real processes, and no memory."""
    pytest.importorskip("torch")
    base = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setattr(children, "TURN", 0.02)
        patch.setattr(compare, "SGEMM_SIZES", {"numpy": 256})
        with open("printed.txt", "w+", encoding="utf-8") as said:
            patch.setattr(sys, "stdout", said)
            argv = (
                "vae",
                "dcgan28",
                "--batch-size",
                "2",
                "--json",
                "a.json",
                "--skip-memory",
                "--no-jax",
                "--fast-only",
            )
            assert run("bench", *argv, *QUICK) == 0
        return Path("printed.txt").read_text(encoding="utf-8").splitlines(), written("a.json")


@pytest.fixture
def on_gpu(with_torch, inside, capsys):
    argv = ("vae", "dcgan28", "--batch-size", "2", *GPU, "--json", "a.json", "--record", "results.json")
    assert run("bench", *argv, *QUICK) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines(), written("a.json")


@pytest.mark.parametrize("where", ["on_cpu", "on_gpu"])
def test_the_table_says_what_the_json_says(where, request):
    lines, report = request.getfixturevalue(where)
    top = next(i for i, line in enumerate(lines) if line.startswith("step ") and "GFLOP/s" in line)
    assert [entry["step"] for entry in report["steps"]] == ["vae", "dcgan28"]
    sides = [(entry, side) for entry in report["steps"] for side in entry["sides"]]
    names = ["scratchgen", "torch", "scratchgen", "torch", "channels_last"]
    assert [side["side"] for _, side in sides] == names
    launched = ["90", "200.5", "not counted", "90", "200.5"]
    for line, (entry, side), counted in zip(lines[top + 1 :], sides, launched, strict=False):
        cells = line.split()
        if side["side"] == "scratchgen":
            assert cells[:3] == [entry["step"], "2", printed.number(entry["gflop"])]
            assert line.endswith(printed.ratio(entry["ratio"]))
            cells = cells[3:]
        else:
            mark = " *" * (side["side"] == entry["opponent"])
            assert line.endswith(f" {side['ratio']['median']:.2f}{mark}")
        name, ms, span, images, gflops, share, percent = cells[:7]
        assert (name, percent) == (side["side"], "%")
        assert ms == printed.number(side["ms"]["median"])
        assert span == printed.span(side["ms"])
        assert images == f"{side['images_per_second']:,.0f}"
        assert gflops == printed.number(side["gflop_per_second"])
        assert f"{share} %" == printed.share(side["share_of_sgemm"])
        if where == "on_gpu":
            assert " ".join(cells[7:]).startswith(counted)
    if where == "on_cpu":
        assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("where", ["on_cpu", "on_gpu"])
def test_the_figures_of_a_comparison_agree_with_each_other(where, request):
    _, report = request.getfixturevalue(where)
    assert set(report["sides"]) == {"scratchgen", "torch", "sgemm"}
    assert report["missing"] == {}
    assert {side["threads"] for side in report["sides"].values()} <= {1, None}
    for entry in report["steps"]:
        assert entry["gflop"] == pytest.approx(by_hand(SETTINGS[entry["step"]].vary(batch=2)) / 1e9)
        assert len({side["parameters"] for side in entry["sides"]}) == (1 if where == "on_cpu" else 2)
        for side in entry["sides"]:
            ms = side["ms"]["median"]
            assert side["images_per_second"] == pytest.approx(2e3 / ms)
            assert side["gflop_per_second"] == pytest.approx(1e3 * entry["gflop"] / ms)
            sgemm = entry["sgemm_gflop_per_second"]["median"]
            assert side["share_of_sgemm"] == pytest.approx(side["gflop_per_second"] / sgemm)
            assert side["ms"]["p10"] <= ms <= side["ms"]["p90"]
            assert len(side["round_ms"]) == entry["rounds"] == 2
        ours, *others = entry["sides"]
        best = min(others, key=lambda side: side["ms"]["median"])
        assert best["side"] == entry["opponent"]
        wanted = [a / b for a, b in zip(ours["round_ms"], best["round_ms"], strict=True)]
        assert entry["ratio"]["rounds"] == pytest.approx(wanted)
        assert entry["ratio"]["median"] == pytest.approx(np.median(wanted))
        assert best["ratio"] == entry["ratio"]
        for side in others:
            wanted = [a / b for a, b in zip(ours["round_ms"], side["round_ms"], strict=True)]
            assert side["ratio"]["rounds"] == pytest.approx(wanted)


def test_a_comparison_on_a_gpu_names_it_and_is_put_on_record(on_gpu, with_torch, inside):
    lines, report = on_gpu
    assert set(inside) == {(side, "float32") for side in ("scratchgen", "torch", "sgemm")}
    made = [(s.step, s.batch, layout) for s, layout in with_torch.made]
    assert made[:3] == [("vae", 2, "")] * 3, "timed, and in a process of its own for memory and for launches"
    assert report["options"]["backend"] == "cupy"
    said = "\n".join(lines)
    assert lines[0].split(maxsplit=1) == ["GPU", "Stand-in for a GPU, 16.0 GiB, compute capability 9.0"]
    library = f"CuPy {signatures.table()['version']}"  # that of the stand-in
    assert any(line.startswith("scratchgen") and library in line and line.endswith(", float32") for line in lines)
    assert "torch       9.9, CUDA 12.8, cuDNN 91002, products in float32 and convolutions in float32" in said
    assert f"copy        {printed.number(report['copy_gbyte_per_second']['median'])} GB/s" in said
    assert f"sgemm       {printed.number(report['sgemm_gflop_per_second']['median'])} GFLOP/s, float32" in said
    assert "launches not counted: lost" in lines
    memory = lines[next(i for i, line in enumerate(lines) if line.startswith("memory of the GPU")) :]
    for entry in report["steps"]:
        ours, *others = entry["sides"]
        assert {side["memory"]["peak"] for side in others} == {64.0}
        assert entry["growth_ratio"] == pytest.approx(ours["memory"]["peak"] / 64)
        row = next(line.split() for line in memory if line.startswith(f"{entry['step']} "))
        assert row == [entry["step"], "scratchgen", f"{ours['memory']['peak']:,.0f}", f"{entry['growth_ratio']:.2f}"]
    kept = written("results.json")["bench"]["float32"]
    assert (kept["device"], kept["kernels_sha256"]) == ("Stand-in for a GPU", results.source_hash())
    assert kept["report"] == results.summary(report)
    assert "rounds" not in kept["report"]["steps"][0]["ratio"]
    assert kept["report"]["steps"][0]["rounds"] == 2


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_without_torch_it_runs_alone_and_says_so(backend, inside, capsys):
    argv = ("vae", "--batch-size", "2", "--backend", backend, "--markdown", "--json", "a.json", *QUICK)
    precision = "tf32" if backend == "cupy" else "float32"
    assert run("bench", *argv, "--precision", precision) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines, report = said.out.splitlines(), written("a.json")
    missing = [line for line in lines if "cannot be used here" in line]
    assert missing[0].startswith("PyTorch cannot be used here (there is none), nothing is compared")
    assert 'pip install "scratchgen-nn[oracle]"' in missing[0]
    assert len(missing) == len(report["missing"]) == (2 if backend == "numpy" else 1)
    assert lines[-len(missing) :] == missing
    (row,) = [line for line in lines if line.startswith("| vae | 2 |")]
    assert not any("torch |" in line for line in lines)
    assert sum(line.startswith("| vae | scratchgen |") for line in lines) == 1  # its memory
    assert any(line.startswith("- sgemm: ") for line in lines)
    (entry,) = report["steps"]
    (held,) = [side["memory"] for side in entry["sides"]]
    assert (entry["ratio"], entry["growth_ratio"]) == (None, None)
    jax = ["jax"] * (backend == "numpy")  # whose side is of the CPU alone
    assert set(inside) == {(name, precision) for name in ("scratchgen", "torch", "sgemm", *jax)}
    if backend == "cupy":
        assert held["peak"] > 0
        assert lines[0].startswith("- GPU: Stand-in")
        assert "launches not counted: PyTorch's profiler counts, and PyTorch is not here" in lines
        assert row.endswith("| not counted |  |")
        assert report["sides"]["sgemm"]["precision"] == report["sides"]["scratchgen"]["precision"] == "tf32"
    elif held is not None:
        assert held["growth"] == pytest.approx(held["peak"] - held["before"])
        assert f"| {held['before']:,.0f} | {held['peak']:,.0f} | {held['growth']:,.0f} |" in said.out


def test_a_broken_torch_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "torch.py").write_text("raise RuntimeError('a library of it is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run("bench", "vae", "--rounds", "1", "--json", "a.json", "--no-jax", "--fast-only") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "process for torch ended with status 1: RuntimeError: a library of it is broken" in said.err
    assert not os.path.exists("a.json")


@pytest.fixture
def every_side(inside, with_torch, monkeypatch):
    """PyTorch's and JAX's sides faked, and Numba found."""
    plain = worker.load
    jax = FakeTorch()
    jax.about = {"jax": "9.8", "optax": "9.7", "threads": 1}
    with_torch.about = {"torch": "9.9", "instructions": "few", "threads": 1}
    monkeypatch.setattr(worker, "load", lambda side: jax if side == "jax" else plain(side))
    monkeypatch.setattr(ours, "numba", lambda: "0.99")
    return inside


def test_ours_without_fast_and_jax_take_turns_too(every_side, capsys):
    assert run("bench", "dcgan28", "--batch-size", "2", *QUICK, "--json", "a.json", "--skip-memory") == 0
    lines, (entry,) = capsys.readouterr().out.splitlines(), written("a.json")["steps"]
    assert [side["side"] for side in entry["sides"]] == list(SIDES)
    assert any(line.startswith("scratchgen ") and "Numba 0.99," in line for line in lines)
    assert any(line.startswith("jax         9.8, optax 9.7, 1 thread") for line in lines)
    (row,) = [line for line in lines if line.lstrip().startswith(children.PLAIN)]
    assert row.endswith(f" {entry['sides'][1]['ratio']['median']:.2f}")
    assert {side for side, _ in every_side} == {*SIDES, "sgemm"} - {"channels_last"}


@pytest.mark.parametrize(
    ("argv", "gone"), [(["--no-jax"], {"jax"}), (["--fast-only"], {children.PLAIN}), (["--no-torch"], {"torch"})]
)
def test_sides_that_are_not_wanted_are_not_started(argv, gone, every_side, capsys):
    assert run("bench", "ae", "--batch-size", "2", *QUICK, "--skip-memory", *argv) == 0
    assert {side for side, _ in every_side} == {*SIDES, "sgemm"} - {"channels_last"} - gone
    assert "cannot be used" not in capsys.readouterr().out
    every_side.clear()
    assert run("bench", "ae", "--profile", "--seconds", "0.02") == 0
    assert {side for side, _ in every_side} == {"scratchgen"}


def test_memory_is_that_of_every_side(every_side, monkeypatch):
    monkeypatch.setattr(worker.Worker, "memory", lambda self, **what: {"before": 1.0, "peak": 1.0 + len(self.side)})
    assert run("bench", "dcgan28", "--batch-size", "2", *QUICK, "--json", "a.json") == 0
    sides = written("a.json")["steps"][0]["sides"]
    growths = {side["side"]: side["memory"]["growth"] for side in sides}
    assert growths == {side: len(side) for side in SIDES} | {"channels_last": len("torch")}


def test_scaling_along_the_threads_starts_jax_anew_at_each(every_side, capsys, monkeypatch):
    monkeypatch.setattr(commands, "cores", lambda: 2)
    argv = ("ae", "--batch-size", "2", "--scaling", "threads", "--threads", "2", "--rounds", "1")
    assert run("bench", *argv, "--json", "a.json", "--picture", "a.png") == 0
    assert Counter(side for side, _ in every_side) == {"scratchgen": 1, "torch": 1, "jax": 3}
    points = written("a.json")["steps"][0]["points"]
    assert [[side["side"] for side in point["sides"]] for point in points] == [["scratchgen", "torch", "jax"]] * 2
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:2] in ("1 ", "2 ")]
    assert all(point["opponent"] in row for row, point in zip(rows, points, strict=True))


def test_the_picture_has_a_line_for_each_library():
    def point(batch, **ms):
        sides = [{"side": side, "ms": {"median": value}} for side, value in ms.items()]
        return {"batch": batch, "gflop": batch, "sides": sides}

    points = [point(n, scratchgen=n, torch=3 * n, channels_last=2 * n, jax=4 * n) for n in (1, 2)]
    report = {"axis": "batch", "steps": [{"step": "dcgan28", "points": points}]}

    def lines(report):
        (axes,) = picture.scaling_picture(report).axes
        return {line.get_label(): list(line.get_ydata()) for line in axes.lines}

    found = lines(report)
    assert found.pop("slope of the arithmetic") == [1, 2]
    assert found == {"scratchgen": [1, 2], "PyTorch, faster format": [2, 4], "JAX": [4, 8]}
    for one in points:
        one["sides"] = one["sides"][:1]
    assert set(lines(report)) == {"scratchgen", "slope of the arithmetic"}


@pytest.mark.parametrize(("argv", "batch"), [((), 64), (GPU, 128), ((*GPU, "--batch-size", "3"), 3)])
def test_the_batch_on_a_gpu_is_another_where_that_is_said(argv, batch, monkeypatch):
    asked = []
    monkeypatch.setattr(commands, "load_kernels", lambda backend: None)
    monkeypatch.setattr(commands, "compare", lambda settings, options, tell: asked.extend(settings) or {})
    monkeypatch.setattr(commands.printed, "comparison", lambda report, table: [])
    assert run("bench", "dcgan64", *argv) == 0
    assert [s.batch for s in asked] == [batch]


# --- the profile ---


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_profile_of_the_command(backend, inside, capsys, monkeypatch):
    waits, wait = [], ours.wait
    monkeypatch.setattr(ours, "wait", lambda: waits.append(1) or wait())
    argv = ("dcgan28", "--batch-size", "2", "--backend", backend, "--profile", "--seconds", "0.02")
    record = ("--record", "results.json") if backend == "cupy" else ()
    assert run("bench", *argv, "--json", "a.json", *record) == 0
    said = capsys.readouterr()
    assert said.err == ""
    report, lines = written("a.json"), said.out.splitlines()
    (entry,) = report["steps"]
    assert entry["gflop"] == pytest.approx(by_hand(SETTINGS["dcgan28"].vary(batch=2)) / 1e9)
    assert said.out.count(f"dcgan28, batch 2: {printed.number(entry['step_ms'])} ms a step in parts") == 1
    total = next(line.split() for line in lines if line.startswith("sum "))
    assert total[1] == printed.number(entry["sum_ms"])
    adam = next(part for part in entry["parts"] if part["part"] == "generator Adam")
    row = next(line.split() for line in lines if line.startswith("generator Adam optimizer "))
    assert row[3:6] == ["step", "1", printed.number(adam["ms"])]
    assert any(line.startswith("ConvTranspose2d ") for line in lines)
    if backend == "numpy":
        assert not waits
        return
    assert written("results.json")["profile"]["float32"]["report"]["steps"][0]["products"] == entry["products"]
    assert any(line.startswith("on a GPU the parts are waited for one by one") for line in lines)
    for head in (printed.KERNELS, printed.PRODUCTS):
        assert any(line.split() == " ".join(head).split() for line in lines)
    milliseconds = sum(e["calls"] * e["seconds"] for e in entry["kernels"]) * 1e3
    assert f"dcgan28: {printed.number(milliseconds)} ms in these kernels, " in said.out
    parts = sum(part["calls"] for part in entry["parts"])
    assert len(waits) > parts * entry["steps_timed"], "one part after the other"
    assert report["sgemm_gflop_per_second"]["median"] > 0


# --- what is refused ---


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["dcgan"], "there is no step dcgan; there are ae, vae, gan, dcgan28, dcgan64"),
        (["ae", "--scaling", "size"], "ae is fully connected, its size is fixed"),
        (["dcgan28", "gan", "--scaling", "width"], "gan is fully connected, its width is fixed"),
        (["gan", "--batch-size", "1"], "at least 2"),
        (["--threads", cores() + 1], f"may use {cores()} cores"),
        (["--scaling", "batch", "--batch-size", "4"], "leave one out"),
        (["--picture", "a.png"], "--picture goes with --scaling"),
        (["--scaling", "batch", "--picture", "a.jpg"], "ends in .png"),
        (["--json", "no/a.json"], "--json is no/a.json"),
        (["--json", "."], "--json is ."),
        (["--profile", "--rounds", "2"], "--profile has no rounds"),
        (["--profile", "--scaling", "batch"], "not allowed with"),
        (["--rounds", "2", "--seconds", "2"], "not allowed with"),
        (["--rounds", "0"], "at least 1"),
        (["--blas", "mine"], "--blas"),
        (["--precision", "tf32"], "--precision tf32 is a mode of NVIDIA's GPUs: add --backend cupy"),
        (["--backend", "cupy", "--scaling", "threads"], "--scaling threads is for the CPU"),
        (["--record", "a.json"], "--record is for steps timed or profiled with --backend cupy"),
        (
            ["--backend", "cupy", "--scaling", "batch", "--record", "a.json"],
            "--record is for steps timed or profiled",
        ),
        (["--backend", "cupy", "--record", "no/a.json"], "--record is no/a.json"),
        (["--backend", "cupy", "--record", "bad.json"], "bad.json is not a file of results"),
        (["--backend", "cupy", "--record", "list.json"], "list.json is not a file of results"),
        (["--backend", "cupy"], "scratchgen: CuPy is not here: install it\n"),
        (["--backend", "cupy", "--profile"], "scratchgen: CuPy is not here: install it\n"),
        (["--backend", "abacus"], "invalid choice"),
        (["--backend", "cupy", "--precision", "float16"], "invalid choice"),
    ],
)
def test_usage_errors_come_before_any_process(argv, says, capsys, monkeypatch):
    tiny.without_cupy(monkeypatch, "CuPy is not here: install it")
    Path("bad.json").write_text("{")
    Path("list.json").write_text('{"tests": 3}')
    monkeypatch.setattr(compare, "Child", lambda *args, **options: pytest.fail("a process was started"))
    assert run("bench", *argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert says in said.err
    assert sorted(path.name for path in Path().iterdir()) == ["bad.json", "list.json"]


# --- the file of results ---


def test_the_hash_is_of_every_source_by_name_and_text(tmp_path):
    folder = tmp_path / results.KERNELS.name
    shutil.copytree(results.KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(results.KERNELS.parent / "cupy_feed.py", tmp_path)
    plain = results.source_hash()
    assert results.source_hash(folder) == plain
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "rows.pyc").write_bytes(b"compiled")
    assert results.source_hash(folder) == plain
    seen = {plain}
    sources = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert {path.suffix for path in sources} == {".py", ".cu", ".cuh"}
    for path in sources:
        text = path.read_bytes()
        path.write_bytes(text.replace(b"\n", b"\r\n"))
        assert results.source_hash(folder) == plain
        path.write_bytes(text + b" ")
        seen.add(results.source_hash(folder))
        path.write_bytes(text)
    renamed = sources[0].rename(sources[0].with_name(f"{sources[0].stem}_.py"))
    seen.add(results.source_hash(folder))
    renamed.rename(sources[0])
    (folder / "sources" / "more.cu").write_text("")
    seen.add(results.source_hash(folder))
    assert len(seen) == len(sources) + 3


def test_the_verdict_on_the_kernels(strict, tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    assert results.verdict(file) == "warning: the GPU kernels have never been run on a GPU"
    results.record(file, "bench", {"report": {}}, precision="tf32")
    assert results.verdict(file) == "warning: the GPU kernels have never been run on a GPU", "timed is not tested"
    results.record(file, "tests", {"passed": 3})
    results.record(file, "bench", {"report": {"x": 1}}, precision="float32")
    kept = written(file)
    date = kept["tests"]["date"]
    assert results.verdict(file) == f"GPU: verified on Stand-in for a GPU, {date}"
    assert (kept["tests"]["passed"], set(kept["bench"])) == (3, {"tf32", "float32"})
    assert {"device", "cupy", "runtime", "driver", "scratchgen", "kernels_sha256"} <= set(kept["tests"])
    monkeypatch.setattr(results, "source_hash", lambda: "another")
    changed = f"warning: the GPU kernels have changed since they were verified on Stand-in for a GPU, {date}"
    assert results.verdict(file) == changed
    for damaged in ("{", '{"tests": {}}', "[]"):
        file.write_text(damaged)
        assert results.verdict(file).startswith(f"warning: {file} does not say on which GPU")


def test_the_verdict_as_a_command(strict, tmp_path):
    def verified(*argv):
        command = [sys.executable, "-m", "scratchgen.bench.verified", *argv]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return ran.returncode, ran.stdout, ran.stderr

    file = tmp_path / "results.json"
    assert verified(file) == (0, "warning: the GPU kernels have never been run on a GPU\n", "")
    results.record(file, "tests", {})
    assert verified(file) == (0, results.verdict(file) + "\n", "")
    assert results.verdict(file).startswith("GPU: verified on Stand-in for a GPU, 20")
    status, said, error = verified()
    assert (status, said) == (2, "")
    assert error.startswith("usage: python -m scratchgen.bench.verified FILE")


PROJECT = {
    "setup.cfg": """\
[tool:pytest]
testpaths = tests
addopts = -m "not gpu"
markers =
    gpu: one
""",
    "tests/conftest.py": """\
import sys
sys.path.append(TESTS)
import standin
place = standin.installed()
place.__enter__()
sys.modules["cupy"].__file__ = "as the real one has"
""",
    "tests/test_here.py": """\
import pytest
def test_without_mark(): assert 0
@pytest.mark.gpu
def test_one(): pass
@pytest.mark.gpu
def test_two(record_property): record_property("parity", {"ae": 1e-7})
@pytest.mark.gpu
def test_three(): pytest.skip("no tool")
""",
    "tests/gpu/test_there.py": """\
import os, pytest
@pytest.mark.gpu
def test_four(record_property): record_property("parity", {"vae": 2e-7})
@pytest.mark.gpu
def test_five(): assert "FAIL" not in os.environ
""",
}


def test_a_whole_run_of_the_tests_that_passes_is_put_on_record(tmp_path, monkeypatch):
    for name, text in PROJECT.items():
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("TESTS", repr(str(ROOT / "tests"))))
    shutil.copy(ROOT / "tests" / "gpu" / "conftest.py", tmp_path / "project" / "tests" / "gpu")
    (tmp_path / "project" / "demos").mkdir()
    file = tmp_path / "project" / "demos" / "gpu_results.json"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def tests(*argv):
        command = [sys.executable, "-m", "pytest", "-q", *argv]
        ran = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True)
        return ran.returncode, ran.stdout

    for argv in (("-m", "gpu", "-k", "one or four"), ("-m", "gpu", "tests/gpu")):
        status, said = tests(*argv)
        assert status == 0, said
        assert not file.exists(), argv
    with monkeypatch.context() as patch:
        patch.setenv("FAIL", "1")
        assert tests("-m", "gpu")[0] == 1
        assert not file.exists()
    assert tests("-m", "gpu", "-n", "2")[0] == 0
    assert not file.exists()  # each process has seen a part
    status, said = tests("-m", "gpu")
    assert status == 0, said
    assert "on record: " in said
    found = written(file)["tests"]
    assert (found["passed"], found["skipped"]) == (4, 1)
    assert found["files"] == {"tests/gpu/test_there.py": 2, "tests/test_here.py": 2}
    assert found["reasons"] == ["Skipped: no tool"]
    assert found["parity"] == {"ae": 1e-7, "vae": 2e-7}
    assert (found["device"], found["kernels_sha256"]) == ("Stand-in for a GPU", results.source_hash())


def test_without_a_gpu_nothing_is_put_on_record(monkeypatch):
    tiny.without_cupy(monkeypatch, "CuPy is not here: install it")
    import importlib.util

    spec = importlib.util.spec_from_file_location("gpu_conftest", ROOT / "tests" / "gpu" / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    assert not conftest._real_gpu()
    monkeypatch.undo()
    with contextlib.suppress(StopIteration):
        for _ in backends._installed("standin"):
            assert not conftest._real_gpu(), "the stand-in is none"
