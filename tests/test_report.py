"""report.html: one page that explains what it shows, holds all of it, and asks nothing of the network."""

import json
import re
import shutil
from base64 import b64decode, b64encode
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
from browsing import Page, assert_self_contained
from PIL import Image
from tiny import MODELS, run

from scratchgen import report
from scratchgen.recipes import judgements, load_run
from scratchgen.report.page import without_source
from scratchgen.report.pictures import FRAMES, LARGEST, SHEETS, animate, measures_of
from scratchgen.training import RunFolder

ODD = "<b>&\"'x"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run with all its pictures, and the pages that it wrote on the way."""
    base = tmp_path_factory.mktemp("report")
    tiny.digits(base / "digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        tiny.own_cache(base, patch)
        patch.setattr("scratchgen.commands.training_run.FIRST_SAVE", 0)
        patch.setattr("scratchgen.commands.training_run.CREDIT", 99)
        pages = []

        def written(folder, recipe, **options):
            path = report.write(folder, recipe, **options)
            names = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
            pages.append((options, path.read_text(encoding="utf-8"), names))
            return path

        patch.setattr("scratchgen.commands.training_run.write", written)
        argv = (*MODELS["ae"], "--latent", "2", "--epochs", "2", "--out", ODD, "--quiet")
        assert run("train", *argv) == 0
    return base / ODD, pages


def assert_own(text):
    """A page that holds all that it shows, and lets no other script run than its own."""
    page = assert_self_contained(text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{allowed}'" in policy
    assert len(page.all("script")) == 1
    return page


def captions(page):
    return [i["alt"] for i in page.all("img") if i["alt"]]


def assert_no_picture_twice(page):
    sources = [i["src"] for i in page.all("img") if i["src"] != "data:,"]
    assert len(sources) == len(set(sources))


def test_everything_is_there_during_a_run_and_after_it(trained):
    folder, pages = trained
    assert len(pages) >= 5  # before the first step, within the first epoch, after each epoch, at the end
    always = {"config.json", "checkpoint.safetensors", "weights.safetensors", "samples/epoch-000.png", "report.html"}
    for options, text, names in pages:
        assert names >= always
        assert ('http-equiv="refresh"' in text) is options["under_way"]
        assert ("data-refresh=" in text) is options["under_way"]
        assert_no_picture_twice(assert_own(text))
    assert {"metrics.jsonl", "samples/epoch-001.png"} <= pages[-2][2]
    assert [options["under_way"] for options, _, _ in pages] == [True] * (len(pages) - 1) + [False]
    latest = [(options, text) for options, text, names in pages if "samples/latest.png" in names]
    assert latest
    assert all('alt="now"' in text for options, text in latest if options["under_way"])
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == always | {
        *("metrics.jsonl", "losses.png", "health.png", "samples/epoch-001.png", "samples/epoch-002.png"),
        *("samples.gif", "evaluation/measures.json", "evaluation/reconstructions.png", "evaluation/codes.png"),
    }
    for name in found:
        if name.endswith((".png", ".gif")):
            with Image.open(folder / name) as image:
                image.load()
                assert name != "samples.gif" or image.n_frames == 3
    for name in ("config.json", "evaluation/measures.json"):
        json.loads((folder / name).read_text())
    assert [r["kind"] for r in tiny.records(folder)].count("epoch") == 2
    assert tiny.records(folder)[-1] == {"kind": "end", "state": "finished"}


def test_the_page_says_what_the_run_was(trained):
    folder, _ = trained
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = assert_own(text)
    assert f"autoencoder: {ODD}" in page.text
    assert page.text.count("autoencoder: ") == 2  # title and heading
    for words in ("2 of 2 epochs, 8 steps", "What the run made", "What the curves say", "Health", "Settings", "PCA"):
        assert words in page.text
    for words in ("batch size\n16", "latent dimension\n2", "model\nae", "layer sizes\n6", "data\ndigits"):
        assert words in page.text
    assert "data_sha256" not in page.text
    headings = ("run made", "curves say", "Health of", "Measures", "Epoch by", "Settings", "Terms")
    order = [page.text.index(heading) for heading in headings]
    assert order == sorted(order)
    sheets = ["before training", "after epoch 1"]
    assert captions(page) == ["after epoch 2", "From the best to the worst", "Codes of test images", *sheets]
    assert len(page.all("svg")) == 3


def test_every_figure_says_what_it_shows_and_what_this_run_is_like(trained):
    folder, pages = trained
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.figures) == 1 + 3 + 2 + 2  # the sheet, curves, pictures of the evaluation, earlier sheets
    for figure in page.figures:
        assert figure["pictures"] == 1
        assert len(figure["caption"]) > 8
    long = [f["caption"] for f in page.figures if "What is plotted" in f["caption"]]
    assert len(long) == 6
    assert all("When all is well" in caption for caption in long)
    assert sum("This run" in caption for caption in long) >= 5
    early = Page(next(text for options, text, names in pages if "metrics.jsonl" not in names))
    assert not any("This run" in f["caption"] for f in early.figures)


def test_no_folder_of_this_machine_is_on_the_page(trained, tmp_path):
    folder, pages = trained
    for _, text, _ in pages:
        assert str(folder.parent) not in text
        assert "/tmp" not in text
    copy = RunFolder(shutil.copytree(folder, tmp_path / "run"))
    recipe = load_run(folder)
    secret = "/home/me/secret"
    name = f"photos (1 training image from {secret}/photos)"
    config = copy.config() | {"data": f"{secret}/photos", "data_name": name}
    copy.write_json("config.json", config)
    rows = [["the classes", f"could not be made: {secret}/x.npy: no such file"], ["a/b", "1/2 of 3 / 4"]]
    copy.write_measures({"data": f"photos (2 images from {secret}/of mine)", "epoch": 2, "rows": rows})
    no_space = f"stopped: {copy.path}/metrics.jsonl: no space"
    for state in (f"stopped: {secret}/x: no space left", no_space, r"C:\Users\me\y: z"):
        text = report.write(copy, recipe, state=state, under_way=False).read_text()
        assert not re.search(r"secret|/home|Users", text)
        assert str(tmp_path) not in text
    page = Page(text)
    cleaned = ("photos (1 training image)", "photos (2 images)", "data\nphotos\n")
    for words in (*cleaned, "x.npy: no such file", "1/2 of 3 / 4"):
        assert words in page.text
    (copy.path / "evaluation" / "measures.json").write_text("{")
    text = report.write(copy, recipe, state="", under_way=False).read_text()
    assert "Left out: " in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("folder", ["photos", "pics from Rome", "a (2 images) from B", "x from y)"])
def test_of_a_data_set_its_source_is_left_out_and_no_part_of_its_name(folder):
    counts = "18 training and 2 test images of 16 × 16"
    other = "; this data is photos, and the run was trained on pics from Rome (8)"
    for source in (f"/home/me/{folder}", folder, f"/tmp/1 from 2 (3 training images from 4)/{folder}"):
        for end in ("", other):
            assert without_source(f"{folder} ({counts} from {source}){end}") == f"{folder} ({counts}){end}"
    embedded = "MNIST sample (6,000 training and 1,000 test digits, embedded)"
    assert without_source(embedded) == embedded


def test_measures_are_said_of_now_only_where_they_are_of_these_data_and_weights(trained, tmp_path):
    folder = RunFolder(shutil.copytree(trained[0], tmp_path / "run"))
    recipe, plain = load_run(folder.path), folder.measures()
    assert (plain["step"], plain["epoch"], plain["data_sha256"]) == (8, 2, folder.config()["data_sha256"])
    first = next(r["test_mse"] for r in folder.records() if r["kind"] == "epoch")
    plain |= {"rows": [], "test_mse": 0.5, "pca_test_mse": 0.25}

    def said(**change):
        """On the curve of the error, in the section of the measures, and whether PCA's line is drawn."""
        measures = {k: v for k, v in (plain | change).items() if v is not ...}
        folder.write_measures(measures)
        page = Page(report.write(folder, recipe, state="", under_way=False).read_text(encoding="utf-8"))
        figures = {f["caption"].split("How far")[0].split("Test images in")[0]: f["caption"] for f in page.figures}
        curve, best = figures["Error of reconstruction"], figures["From the best to the worst"]
        return "PCA is ahead" in curve, "PCA is ahead" in best, "PCA, 2 components" in page.text

    assert said() == (True, True, True)
    assert said(step=...) == (True, True, True)  # of 0.1
    for stale in ({"step": 7}, {"step": ..., "epoch": 1}):
        assert said(**stale) == (False, True, True)
    of_other_data = f"photos; this data is photos, and the run was trained on {ODD}"
    for other in ({"data_sha256": "0" * 64}, {"data_sha256": ..., "data": of_other_data}):
        assert said(**other) == (False, True, False)
    assert first > 0
    assert measures_of(folder) is None
    folder.save_picture(Image.new("L", (9, 9)), "samples/latest.png", step=9)  # trained on since, without a record
    assert said() == (False, True, True)
    assert measures_of(folder) is not None
    folder.save_picture(Image.new("L", (9, 9)), "samples/latest.png")  # of 0.1: as far as the weights are
    assert "after step 8." in report.write(folder, recipe, state="", under_way=False).read_text(encoding="utf-8")
    for step, moment in ((7, "after step 7"), (8, "now"), (9, "now")):  # the last record is of step 8
        folder.save_picture(Image.new("L", (9, 9)), "samples/latest.png", step=step)
        text = report.write(folder, recipe, state="", under_way=True).read_text(encoding="utf-8")
        assert captions(Page(text))[0] == moment


def test_a_measured_picture_is_told_of_by_the_epochs_until_then(trained, tmp_path, monkeypatch):
    folder = RunFolder(shutil.copytree(trained[0], tmp_path / "run"))
    recipe, plain = load_run(folder.path), folder.measures()
    monkeypatch.setattr(judgements, "beside_pca", lambda epochs, config, measures: f"{len(epochs)} of them")
    for change, count in (({}, 2), ({"step": 7, "epoch": 2}, 1), ({"step": 3, "epoch": 1}, 0)):
        folder.write_measures(plain | change)
        page = Page(report.write(folder, recipe, state="", under_way=False).read_text(encoding="utf-8"))
        told = {f["caption"][:12]: re.search("[0-9] of them", f["caption"]) for f in page.figures}
        assert told["Error of rec"][0] == "2 of them"
        assert told["From the bes"][0] == f"{count} of them"
    del plain["step"]  # as of 0.1
    folder.write_measures(plain | {"epoch": 1})
    assert "1 of them" in report.write(folder, recipe, state="", under_way=False).read_text(encoding="utf-8")


def test_text_is_escaped_wherever_it_comes_from(trained, tmp_path):
    recipe = load_run(trained[0])
    folder = RunFolder.create(tmp_path / "run", {"model": ODD, ODD: [ODD, 1], "data_name": ODD})
    (folder.path / "evaluation").mkdir()
    for name in (f"evaluation/{ODD}.png", "samples/epoch-000.png"):
        folder.save_picture(Image.new("L", (2, 2)), name)
    folder.write_json("evaluation/measures.json", {"data": ODD, "epoch": 2, "rows": [[ODD, ODD]]})
    report.write(folder, recipe, state=ODD, under_way=True)
    page = assert_own((folder.path / "report.html").read_text(encoding="utf-8"))
    assert page.text.count(ODD) == 8
    assert {"http-equiv": "refresh", "content": "10"} in page.all("meta")
    report.write(folder, recipe, state="\udcff", under_way=False)
    assert '<p class="state">?</p>' in (folder.path / "report.html").read_text(encoding="utf-8")


def test_sheets_stand_in_the_order_of_their_epochs_and_are_not_too_many(trained, tmp_path):
    recipe = load_run(trained[0])
    folder = RunFolder.create(tmp_path / "run", {"model": "ae"})
    shutil.rmtree(folder.path / "samples")  # killed at its very start
    report.write(folder, recipe, state="", under_way=True)
    rng = np.random.default_rng(0)
    for i in range(0, 1100, 11):
        folder.save_picture(Image.fromarray(rng.integers(0, 256, (3, 3), np.uint8)), f"samples/epoch-{i:03d}.png")
    for stranger in ("epoch-001 (copy).png", "epoch-.png", "epoch-last.png", "epoch-٣.png", "epoch-500.png"):
        (folder.path / "samples" / stranger).write_bytes(b"no picture")
    report.write(folder, recipe, state="", under_way=False)
    page = Page((folder.path / "report.html").read_text(encoding="utf-8"))
    assert_no_picture_twice(page)
    shown = captions(page)
    assert shown[0] == "after epoch 1089"
    assert SHEETS - 1 <= len(shown) <= SHEETS  # one may have been the file that is no picture
    assert shown[1] == "before training"
    numbers = [0, *(int(c.split()[-1]) for c in shown[2:]), 1089]
    assert numbers == sorted(numbers)
    assert max(b - a for a, b in pairwise(numbers)) <= 110


def test_a_page_of_many_large_sheets_stays_small(trained, tmp_path):
    recipe = load_run(trained[0])
    folder = RunFolder.create(tmp_path / "run", {"model": "ae"})
    rng = np.random.default_rng(0)
    for i in range(40):
        tiles = rng.integers(0, 256, (8, 8, 3), np.uint8)
        photo = np.asarray(Image.fromarray(tiles).resize((530, 530), Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(photo + rng.normal(0, 12, photo.shape), 0, 255).astype(np.uint8)
        folder.save_picture(Image.fromarray(noisy), f"samples/epoch-{i:03d}.png")
    path = report.write(folder, recipe, state="", under_way=False)
    assert path.stat().st_size < 4_000_000
    for source in (i["src"] for i in Page(path.read_text()).all("img") if i["src"] != "data:,"):
        kind, _, content = source.partition(";base64,")
        assert kind in ("data:image/webp", "data:image/jpeg", "data:image/png")
        assert b64decode(content)
    sheets = sorted((folder.path / "samples").glob("*.png"))
    with open(tmp_path / "samples.gif", "wb") as stream:
        animate([sheets[i % 40] for i in range(90)], stream)
    assert (tmp_path / "samples.gif").stat().st_size <= LARGEST
    with Image.open(tmp_path / "samples.gif") as image:
        assert 10 <= image.n_frames <= FRAMES


def test_the_page_s_own_files_come_along():
    import scratchgen.report as package

    for name in ("page.css", "page.js"):
        assert (Path(package.__file__).parent / name).is_file()
        assert name in (Path(__file__).parents[1] / "setup.cfg").read_text()


def test_an_animation_has_the_colours_of_its_sheets(tmp_path):
    blue, red, size = (11, 111, 164), (209, 73, 91), (40, 40)
    for i in range(6):
        sheet = Image.new("RGB", size, "white")
        sheet.paste(blue, (0, 0, 20, 5))
        sheet.paste(red, (20, 0, 40, 5 + i))
        sheet.save(tmp_path / f"epoch-{i:03d}.png")
    with open(tmp_path / "samples.gif", "wb") as stream:
        animate(sorted(tmp_path.glob("*.png")), stream)
    with Image.open(tmp_path / "samples.gif") as image:
        assert image.n_frames == 6
        for i in range(6):
            image.seek(i)
            frame = image.convert("RGB")
            for place, colour in (((5, 2), blue), ((30, 4 + i), red), ((30, 6 + i), (255, 255, 255))):
                assert max(abs(a - b) for a, b in zip(frame.getpixel(place), colour, strict=True)) < 12, (i, place)
