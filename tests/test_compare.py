"""Runs beside each other, `scratchgen compare`, and their figures for other programs, `scratchgen metrics`."""

import csv
import importlib.util
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from browsing import BROWSER, assert_self_contained, opened
from PIL import Image
from tiny import MODELS, run

from scratchgen.plots import CSS, SERIES
from scratchgen.plots.curves import POINTS
from scratchgen.report.comparison import Comparison, number
from scratchgen.report.comparison_page import page
from scratchgen.report.parts import STYLE
from scratchgen.report.words.measures import MEASURES
from scratchgen.training import RunFolder

ODD = "<b>&\"'x"
VAE = tuple(word for word in MODELS["vae"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs in runs/: of several models and settings, with their data beside."""
    base = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        tiny.folder_with_data(base, patch)
        runs = {
            "ae": MODELS["ae"],
            ODD: (*MODELS["ae"], "--latent", "2"),
            "small-batch": (*MODELS["ae"], "--batch-size", "10"),
            "of-photos": (*MODELS["ae"], "--data", "photos", "--channels", "1"),
            "vae": VAE,
            "beta": (*VAE, "--beta", "4"),
            "ring": MODELS["points"],
            "minimax": (*MODELS["points"], "--loss", "minimax"),
        }
        for name, options in runs.items():
            assert run("train", *options, "--epochs", "2", "--quiet", "--out", Path("runs", name)) == 0, name
        assert run("evaluate", "ae", "--quiet") == 0
    return base


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys, *argv) -> str:
    capsys.readouterr()
    before = sorted(Path().rglob("*"))
    assert run(*argv) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert sorted(Path().rglob("*")) == before
    return said.err


def compared(capsys, *argv) -> tuple[str, str]:
    """What is printed, and the page."""
    capsys.readouterr()
    assert run("compare", *argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out, Path(said.out.splitlines()[-1]).read_text(encoding="utf-8")


def cells(printed: str, name: str) -> list[str]:
    """A row of the printed table."""
    (row,) = [line for line in printed.splitlines() if line.startswith(f"  {name}  ")]
    return re.split(r"  +", row.strip())[1:]


# --- compare ---


def test_compare_prints_what_differs_and_how_far_each_came(here, capsys):
    printed, text = compared(capsys, "vae", "beta")
    assert printed.splitlines()[-1] == "compare.html"
    assert printed.split("\n")[0].split() == ["vae", "beta"]
    assert cells(printed, "β of the KL") == ["1", "4"]
    assert cells(printed, "steps") == ["8", "8"]
    (same,) = [line for line in printed.splitlines() if line.startswith("the same: ")]
    assert "model vae" in same
    assert "learning rate 0.001" in same
    assert "β of the KL" not in same
    last = [[r for r in tiny.records(Path("runs", n)) if r["kind"] == "epoch"] for n in ("vae", "beta")]
    for key in ("test_loss", "kl", "active_units"):
        row = cells(printed, MEASURES[key].title + " (≠: other β of the KL)" * (key == "test_loss"))
        for cell, epochs in zip(row, last, strict=True):
            assert cell.startswith(number(epochs[-1][key]))
            if MEASURES[key].better:
                best = min(epoch[key] for epoch in epochs)
                assert cell.endswith("(best)" if best == epochs[-1][key] else f"(best {number(best)} at epoch 1)")
    assert compared(capsys, "vae", "beta")[0].endswith("\ncompare-2.html\n")
    for name in ("β of the KL", "test loss", "not trained on", "Last sheets", "vae, after epoch 2"):
        assert name in text


def figures(text: str) -> list[str]:
    return re.findall(r"<figure>.*?</figure>", text, re.DOTALL)


def curves_of(figure: str, i: int) -> list[str]:
    """The paths of a run's curves in a figure."""
    return re.findall(rf'<path d="([^"]+)"[^>]* style="fill: none; stroke: var\(--curve-{i + 1}\)', figure)


def test_the_page_has_a_figure_for_each_shared_measure_with_a_legend_and_a_caption(here, capsys):
    _, text = compared(capsys, "ring", "minimax")
    page = assert_self_contained(text)
    keys = Comparison([RunFolder(Path("runs", n)) for n in ("ring", "minimax")]).keys
    assert {"D(x)", "d_loss", "g_loss", "modes", "g_gradient"} <= set(keys)
    found = figures(text)
    assert len(found) == len(keys) + 2  # and the sheets
    for figure in found:
        assert re.search(r"<figcaption>[^<]{4}", figure)
    for key, figure in zip(keys, found, strict=False):
        assert f"<h3>{MEASURES[key].title}</h3>" in figure
        legend, drawing = figure.split("</ul>")
        assert ">ring <strong>" in legend.replace("\n", "")
        assert ">minimax <strong>" in legend
        for i in range(2):
            assert len(curves_of(drawing, i)) == 1
            assert f'stroke="var(--curve-{i + 1})"' in legend
    assert len(page.all("svg")) == 3 * len(keys)
    by_title = dict(zip(keys, found, strict=False))
    assert ">log 4 = 1.39, equilibrium</text>" in by_title["d_loss"]
    assert "differ in loss" in by_title["g_loss"]
    assert ", equilibrium</text>" not in by_title["g_loss"]
    assert "differ in" not in by_title["d_loss"]
    assert page.text.count("\nequilibrium\n") == 1  # a term, explained


def test_a_line_lies_where_its_values_are(here):
    """By the labels of the y axis."""
    comparison = Comparison([RunFolder(Path("runs", n)) for n in ("ae", ODD)])
    figure = next(f for f in figures(page(comparison)) if "<h3>test error</h3>" in f)
    marks = [  # the tick and the number beside it
        (float(y), float(label))
        for y, label in re.findall(
            r'<use [^>]*y="([\d.]+)"[^>]*/>\s*(?:</g>\s*)+<g>\s*<text[^>]*end[^>]*>([^<]+)<', figure
        )
    ]
    (y0, v0), (y1, v1) = marks[0], marks[-1]
    for i, run_ in enumerate(comparison.runs):
        (path,) = curves_of(figure, i)
        ys = [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path)]
        values = [v0 + (y - y0) * (v1 - v0) / (y1 - y0) for y in ys]
        assert values == pytest.approx([y for _, y in run_.curve("test_mse", by_steps=False)], abs=abs(v1 - v0) / 50)


def test_epochs_or_steps_whichever_is_the_same_for_all(here, capsys):
    assert "x axis are epochs." in compared(capsys, "ae", ODD)[1]
    printed, text = compared(capsys, "ae", "small-batch")
    assert "x axis are steps, since the runs differ in steps per epoch" in text
    assert cells(printed, "steps") == ["8", "12"]
    assert ">step</text>" in text
    assert ">epoch</text>" not in text


def test_what_is_not_one_measure_is_not_compared(here, capsys):
    for runs, key, why in (
        (("vae", "beta"), "test loss", "β of the KL"),
        (("ae", "of-photos"), "test error", "data"),
        (("ae", "vae"), "training loss", "model, loss, likelihood, β of the KL, binarisation"),
    ):
        printed, text = compared(capsys, *runs, "--output", "x.html", "--force")
        figure = next(f for f in figures(text) if f"<h3>{key}</h3>" in f)
        assert f"Not to be compared: the runs differ in {why}, and" in figure
        assert f"{key} (≠: other {why})" in printed
        assert "best is" not in figure
    alike = figures(compared(capsys, "ae", ODD)[1])
    assert "differ in" not in "".join(alike)
    assert sum("is better: best is " in figure for figure in alike) == 3


def test_the_page_names_no_place_and_escapes_every_text(here, capsys):
    shutil.copytree(Path("runs", "ae"), Path("other", "ae"))
    printed, text = compared(capsys, "ae", ODD, Path("other", "ae"))
    page = assert_self_contained(text)
    assert ODD in page.text
    assert page.text.count("ae (2)") >= 5  # two of one name
    for place in (str(here), "runs/", "other/", str(here.parent)):
        assert place not in text
    assert cells(printed, "latent dimension") == ["3", "2", "3"]
    table = page.text.replace("\n", " ")
    assert "evaluated" in table  # by two of the three


def test_data_of_one_name_are_told_apart(here, capsys):
    config = json.loads(Path("runs", "ae", "config.json").read_text())
    shutil.copytree(Path("runs", "ae"), Path("runs", "twin"))
    Path("runs", "twin", "config.json").write_text(json.dumps(config | {"data_sha256": "f" * 64}))
    printed, _ = compared(capsys, "ae", "twin")
    assert cells(printed, "data") == [f"MNIST ({config['data_sha256'][:6]})", "MNIST (ffffff)"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["ae"], "compare takes 2 to 8 runs, and 1 is given"),
        (["ae"] * 9, "compare takes 2 to 8 runs, and 9 is given"),
        (["ae", "runs/ae"], "is given twice"),
        (["ae", "vae", "runs/../runs/vae"], "is given twice"),
        (["ae", "nowhere"], "nowhere is not a run folder: there is no such folder; in runs/ there are"),
        (["ae", "digits"], "digits is not a run folder: there is no config.json in it"),
        (["ae", "ring"], "the runs share no measure, so there is nothing to compare: ae has loss, "),
        (["ae", "new"], "new has no records yet"),
        (["ae", "vae", "--output", "x.pdf"], "needs a name that ends in .html"),
        (["ae", "vae", "--output", "no/x.html"], "there is no folder no"),
        (["ae", "vae", "--output", "there.html"], "there.html is there already: --force replaces it"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(argv, says, here, capsys):
    RunFolder.create(Path("runs", "new"), RunFolder(Path("runs", "ae")).config())
    Path("there.html").write_text("mine")
    assert says in fails(capsys, "compare", *argv)
    assert Path("there.html").read_text() == "mine"


def test_damaged_parts_of_a_run_are_left_out(here, capsys):
    with open(Path("runs", "ae", "metrics.jsonl"), "a") as file:
        file.write('{"kind": "epoch", "epoch": 3, "step": 12, "loss": null, "test_loss": 1.5}\nbroken\n')
    Path("runs", "ae", "evaluation", "measures.json").write_text("{")
    printed, _ = compared(capsys, "ae", ODD)
    assert cells(printed, "test loss")[0] == "1.500 (best)"
    assert "evaluated" not in printed


def test_long_runs_are_drawn_in_few_points(tmp_path):
    folders = []
    for name in ("a", "b"):
        folder = RunFolder.create(tmp_path / name, {"model": "ae", "seed": int(name == "b")})
        lines = [{"kind": "steps", "step": i, "epoch": i / 100, "loss": 1e3 / i + 5} for i in range(1, 20_001)]
        folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        folders.append(folder)
    comparison = Comparison(folders)
    curve = comparison.runs[0].curve("loss", by_steps=True)
    assert len(curve) == POINTS
    assert curve[-1][0] == 20_000
    assert curve[0][1] == pytest.approx(np.mean([1e3 / i + 5 for i in range(1, 20_000 // POINTS + 1)]))
    text = page(comparison)
    assert len(text) < 60_000
    assert "Cut off at the top: the first steps reach " in text
    (figure,) = figures(text)
    ticks = [float(label) for label in re.findall(r"text-anchor: end[^>]*>([\d.]+)<", figure)]
    assert len(ticks) >= 3
    assert max(ticks) < curve[0][1] / 2
    assert "The same in a and b: one curve hides the other." in text
    assert comparison.differ == [("seed", ["0", "1"])]


# --- colours ---

SCREEN = STYLE[: STYLE.index("@media print")]  # which has the colours twice: on light, then on dark
SIGHT = {  # matrices on linear RGB: Machado et al. 2009, in full severity
    "normal": np.eye(3),
    "deuteranope": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanope": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lightness_and_hue(rgb: np.ndarray) -> np.ndarray:
    """Oklab, in which distances are about as large as they look (Ottosson 2020)."""
    lms = rgb @ np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]).T
    to_lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.cbrt(np.clip(lms, 0, None)) @ np.array(to_lab).T


@pytest.mark.parametrize("at", [0, -1], ids=["light", "dark"])
def test_colours_of_runs_are_told_apart_by_everybody(at):
    names = [CSS[colour] for colour, _ in SERIES]
    assert len(set(names)) == 8
    *colours, paper = (re.findall(rf"{name}: (#[0-9a-f]{{6}});", SCREEN)[at] for name in (*names, "--paper"))
    luminance = [float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (*colours, paper)]
    for ours in luminance[:-1]:
        light, dark = sorted((ours, luminance[-1]), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3
    for matrix in SIGHT.values():
        seen = lightness_and_hue(np.clip(np.array([linear(c) for c in colours]) @ np.array(matrix).T, 0, 1))
        distances = np.linalg.norm(seen[:, None] - seen, axis=-1) + 9 * np.eye(8)
        assert distances.min() > 0.1


# --- in a browser ---


@pytest.mark.skipif(BROWSER is None, reason="needs chromium to open the page in")
def test_a_browser_shows_the_page_and_nothing_is_wider(here, capsys):
    _, text = compared(capsys, "ae", ODD, "small-batch", "of-photos", "--output", "page.html")
    look = (
        "<script>document.title = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll table') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName).join() +"
        " Math.max(0, document.documentElement.scrollWidth - innerWidth) + '|' +"
        " [...document.querySelectorAll('svg[role=img]')].filter(e => e.getBoundingClientRect().height > 100).length;"
        "parent.postMessage(document.title, '*')</script>"
    )
    text = re.sub("<meta http-equiv[^>]*>", "", text)  # which lets no script run
    Path("look.html").write_text(text.replace("</body>", f"{look}</body>"), encoding="utf-8")
    phone = '<iframe src="look.html" style="width: 360px; height: 900px"></iframe>'
    Path("phone.html").write_text(
        f"<script>onmessage = e => document.title = e.data</script>{phone}", encoding="utf-8"
    )
    for file in ("look.html", "phone.html"):
        document, said, asked = opened(Path(file).resolve().as_uri(), here)
        assert (said, asked) == ([], set())
        assert re.search("<title>(.*?)</title>", document)[1] == "0|4"


# --- metrics ---


def test_metrics_as_csv(here, capsys):
    capsys.readouterr()
    assert run("metrics", "vae") == 0
    text = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(text)))
    lines = [json.loads(x) for x in Path("runs", "vae", "metrics.jsonl").read_text().splitlines()]
    records = [r for r in lines if r["kind"] in ("steps", "epoch")]
    assert len(rows) == len(records)
    assert text.split("\n")[0].split(",")[:3] == ["kind", "step", "epoch"]
    assert "\r" not in text
    for row, record in zip(rows, records, strict=True):
        assert {k: v for k, v in row.items() if v} == {k: str(v) for k, v in record.items()}
        assert all(float(row[k]) == v for k, v in record.items() if k != "kind")  # to the last bit
    assert run("metrics", "vae", "--output", "m.csv") == 0
    assert capsys.readouterr().out == "m.csv\n"
    assert Path("m.csv").read_text() == text
    assert "m.csv is there already: --force" in fails(capsys, "metrics", "vae", "--output", "m.csv")
    assert run("metrics", "ae", "--output", "m.csv", "--force") == 0
    assert Path("m.csv").read_text() != text


def test_lists_are_spread_and_what_is_missing_is_empty(here, capsys):
    with open(Path("runs", "vae", "metrics.jsonl"), "a") as file:
        file.write(
            json.dumps({"kind": "epoch", "epoch": 3, "step": 12, "histogram": [0.25, None], "kl": None}) + "\n"
        )
    capsys.readouterr()
    assert run("metrics", "vae") == 0
    *_, last = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (last["histogram.0"], last["histogram.1"], last["kl"], last["loss"]) == ("0.25", "", "", "")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "nowhere is not a run folder"),
        (["new"], "has no records: it was stopped before its first ones"),
        (["vae", "--output", "x.txt"], "ends in .csv"),
        (["vae", "--output", "no/x.csv"], "there is no folder no"),
        (["vae", "--output", "x.csv", "--tensorboard", "logs"], "--output is for CSV"),
    ],
)
def test_what_metrics_refuses(argv, says, here, capsys):
    RunFolder.create(Path("runs", "new"), RunFolder(Path("runs", "ae")).config())
    assert says in fails(capsys, "metrics", *argv)


def test_without_the_extra_one_sentence_says_what_brings_it(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    said = fails(capsys, "metrics", "vae", "--tensorboard", "logs")
    assert 'pip install "scratchgen-nn[tensorboard]" brings it' in said


needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="needs tensorboardX: the extra `tensorboard`"
)


def events(folder: Path) -> list:
    """The events in a folder's one event file, as protobuf reads them."""
    from tensorboardX.event_file_writer import RecordWriter  # noqa: F401  the format: length, CRC, data, CRC
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.out.tfevents.*")
    data, found = file.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


@needs_tensorboard
def test_event_files_hold_scalars_sheets_and_settings(here, capsys):
    capsys.readouterr()
    assert run("metrics", "ring", "--tensorboard", "logs") == 0
    assert capsys.readouterr().out == f"{Path('logs', 'ring')}\n"
    found = events(Path("logs", "ring"))
    values = [(e.step, e.wall_time, v) for e in found for v in e.summary.value]
    scalars = {(v.tag, step): v.simple_value for step, _, v in values if v.WhichOneof("value") == "simple_value"}
    records = [json.loads(x) for x in Path("runs", "ring", "metrics.jsonl").read_text().splitlines()]
    wanted = {
        (f"{r['kind']}/{ {'D(x)': 'D_x', 'D(G(z))': 'D_G_z'}.get(k, k) }", r["step"]): v
        for r in records
        if r["kind"] in ("steps", "epoch")
        for k, v in r.items()
        if k not in ("kind", "step", "epoch")
    }
    assert scalars == pytest.approx(wanted, rel=1e-6)
    images = {step: v.image.encoded_image_string for step, _, v in values if v.WhichOneof("value") == "image"}
    assert sorted(images) == [0, 4, 8]
    with (
        Image.open(io.BytesIO(images[8])) as shown,
        Image.open(Path("runs", "ring", "samples", "epoch-002.png")) as sheet,
    ):
        assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(sheet.convert("RGB")))
    (text,) = [v.tensor.string_val[0].decode() for _, _, v in values if v.tag.startswith("config")]
    assert "| prior | " in text
    times = [time for _, time, _ in values]
    assert max(times) - min(times) == pytest.approx(max(r.get("seconds", 0) for r in records), abs=0.01)


@needs_tensorboard
def test_event_files_are_replaced_only_by_force(here, capsys):
    assert run("metrics", "vae", "--tensorboard", "logs") == 0
    first = {p: p.read_bytes() for p in Path("logs").rglob("*") if p.is_file()}
    assert "logs/vae has event files already: --force replaces them" in fails(
        capsys, "metrics", "vae", "--tensorboard", "logs"
    ).replace("\\", "/")
    assert {p: p.read_bytes() for p in Path("logs").rglob("*") if p.is_file()} == first
    assert run("metrics", "vae", "--tensorboard", "logs", "--force") == 0
    assert len(list(Path("logs", "vae").iterdir())) == 1
    Path("file").write_text("mine")
    assert run("metrics", "vae", "--tensorboard", "file") == 2
    assert Path("file").read_text() == "mine"
