"""report.html: one page that holds all it shows and asks nothing of the network."""

import html.parser
import json
import re
import shutil
import subprocess
from itertools import pairwise

import pytest
import tiny
from PIL import Image
from tiny import MODELS, run

from scratchgen.training import RunFolder
from scratchgen.training.report import SHEETS, write_report

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

        def written(folder, **options):
            path = write_report(folder, **options)
            names = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
            pages.append((options, path.read_text(encoding="utf-8"), names))
            return path

        patch.setattr("scratchgen.commands.training_run.write_report", written)
        argv = (*MODELS["ae"], "--latent", "2", "--epochs", "2", "--out", ODD, "--quiet")
        assert run("train", *argv) == 0
    return base / ODD, pages


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data + "\n"

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(text):
    assert "http:" not in text
    assert "https:" not in text
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form", "b", "a", "video"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "data", "action", "background", "style"):
                assert value.startswith("data:"), (tag, name, value[:40])
    assert not re.search(r"url\s*\(|@import", text)
    return page


def test_everything_is_there_during_a_run_and_after_it(trained):
    folder, pages = trained
    assert len(pages) >= 5  # before the first step, within the first epoch, after each epoch, at the end
    always = {"config.json", "checkpoint.safetensors", "weights.safetensors", "samples/epoch-000.png", "report.html"}
    for options, text, names in pages:
        assert names >= always
        assert ("http-equiv" in text) is options["under_way"]
        assert_self_contained(text)
    assert {"metrics.jsonl", "losses.png", "health.png", "samples/epoch-001.png"} <= pages[-2][2]
    assert [options["under_way"] for options, _, _ in pages][-2:] == [False, False]
    latest = [text for _, text, names in pages if "samples/latest.png" in names]
    assert latest
    assert all(">now<" in text for text in latest)
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == always | {
        *("metrics.jsonl", "losses.png", "health.png", "samples/epoch-001.png", "samples/epoch-002.png"),
        *("evaluation/measures.json", "evaluation/reconstructions.png", "evaluation/codes.png"),
    }
    for name in found:
        if name.endswith(".png"):
            with Image.open(folder / name) as image:
                image.load()
    for name in ("config.json", "evaluation/measures.json"):
        json.loads((folder / name).read_text())
    assert [r["kind"] for r in tiny.records(folder)].count("epoch") == 2
    assert tiny.records(folder)[-1] == {"kind": "end", "state": "finished"}


def test_the_page_says_what_the_run_was(trained):
    folder, _ = trained
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = assert_self_contained(text)
    assert f"autoencoder: {ODD}" in page.text
    assert page.text.count("autoencoder: ") == 2  # title and heading
    for words in ("2 of 2 epochs, 8 steps", "Losses", "Health", "Measures", "Settings", "mean squared error", "PCA"):
        assert words in page.text
    for words in ("batch size\n16", "latent\n2", "model\nae", "hidden\n6"):
        assert words in page.text
    assert "data_sha256" not in page.text
    captions = [i["alt"] for i in page.all("img")]
    sheets = ["before training", "after epoch 1", "after epoch 2"]
    assert captions == ["after epoch 2", "losses", "health", "codes", "reconstructions", *sheets]


def test_text_is_escaped_wherever_it_comes_from(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"model": ODD, ODD: [ODD, 1], "data": f"/{ODD}"})
    (folder.path / "evaluation").mkdir()
    for name in (f"evaluation/{ODD}.png", "samples/epoch-000.png"):
        folder.save_picture(Image.new("L", (2, 2)), name)
    folder.write_json("evaluation/measures.json", {"data": ODD, "epoch": 2, "rows": [[ODD, ODD]]})
    write_report(folder, model=ODD, state=ODD, under_way=True)
    page = assert_self_contained((folder.path / "report.html").read_text(encoding="utf-8"))
    assert page.text.count(ODD) == 11
    assert page.all("meta")[1] == {"http-equiv": "refresh", "content": "10"}
    write_report(folder, model="\udcff", state="", under_way=False)  # a folder whose name is no text
    assert "<title>?: run</title>" in (folder.path / "report.html").read_text(encoding="utf-8")


def test_sheets_stand_in_the_order_of_their_epochs_and_are_not_too_many(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"model": "ae"})
    shutil.rmtree(folder.path / "samples")  # killed at its very start
    write_report(folder, model="", state="", under_way=True)
    for i in range(0, 1100, 11):
        folder.save_picture(Image.new("L", (1, 1), i % 256), f"samples/epoch-{i:03d}.png")
    for stranger in ("epoch-001 (copy).png", "epoch-.png", "epoch-last.png", "epoch-٣.png"):
        (folder.path / "samples" / stranger).touch()
    write_report(folder, model="", state="", under_way=False)
    captions = [i["alt"] for i in Page((folder.path / "report.html").read_text(encoding="utf-8")).all("img")]
    assert captions[0] == "after epoch 1089"
    assert len(captions) == 1 + SHEETS
    numbers = [0, *(int(c.split()[-1]) for c in captions[2:])]
    assert captions[1] == "before training"
    assert numbers == sorted(numbers)
    assert numbers[-1] == 1089
    assert max(b - a for a, b in pairwise(numbers)) <= 55


# --- in a browser ---

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def opened(page, folder) -> tuple[str, list[str], set[str]]:
    """The document as the browser has it, what it said on its console, and the hosts that were asked for."""
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    switches += ["--enable-logging=stderr", "--v=0", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    switches += [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={folder / 'net.json'}"]
    done = subprocess.run([BROWSER, *switches, str(page)], capture_output=True, timeout=60)
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if "CONSOLE" in line]
    asked = set(re.findall(r'"url":"\w+://([^/"]+)', (folder / "net.json").read_text(errors="replace")))
    own = re.compile(r"(^|\.)(google|gvt1|googleapis|gstatic|chromium)\.\w+$")  # what it looks for at any start
    return done.stdout.decode(errors="replace"), said, {host for host in asked if not own.search(host)}


@pytest.mark.skipif(BROWSER is None, reason="needs chromium to open the page in")
def test_a_browser_shows_the_page_without_errors_or_requests(trained, tmp_path):
    folder, _ = trained
    widths = "<script>document.title = Array.from(document.images, i => i.naturalWidth).join(' ')</script>"
    (tmp_path / "page.html").write_text(
        (folder / "report.html").read_text(encoding="utf-8").replace("</body>", f"{widths}</body>"), encoding="utf-8"
    )
    document, said, asked = opened((tmp_path / "page.html").as_uri(), tmp_path)
    assert said == []
    shown = [int(w) for w in re.search(r"<title>([0-9 ]+)</title>", document)[1].split()]
    assert len(shown) == 8
    assert min(shown) > 100
    (tmp_path / "bad.html").write_text('<img src="http://example.com/x.png"><script>nothing()</script>')
    _, complaints, more = opened((tmp_path / "bad.html").as_uri(), tmp_path)
    assert complaints, "the console is not heard"
    assert more == {"example.com"}, "requests are not seen"
    assert asked == set()
