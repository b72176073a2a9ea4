"""Pages of runs of every kind in a real browser: nothing overflows or is asked of the network, all is readable."""

import http.server
import json
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import tiny
from browsing import CONTRAST, OVERFLOW, asked, driven, needs_both, shown
from PIL import Image, ImageOps
from tiny import MODELS, run

from scratchgen import report
from scratchgen.recipes import load_run
from scratchgen.training import RunFolder

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: the extra `pages`")
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
pytestmark = needs_both

RUNS = {  # name: command line of a tiny run, epochs
    "ae": (MODELS["ae"], 2),
    "ae-plane": ((*MODELS["ae"], "--latent", "2"), 2),
    "ae-conv": (MODELS["ae-conv"], 1),
    "vae": ((*MODELS["vae"], "--evaluate"), 2),
    "vae-plane": ((*MODELS["vae-gaussian"], "--evaluate"), 2),
    "gan": ((*MODELS["gan"], "--image-size", "8", "--evaluate"), 2),
    "dcgan": ((*MODELS["dcgan"], "--evaluate"), 2),
    "dcgan-digits": ((*MODELS["dcgan"], "--data", "digits", "--batch-size", "16"), 1),
    "ring": ((*MODELS["points"], "--evaluate", "--smoothing", "0.1"), 2),
    "grid": (("gan", "--data", "grid", "--batch-size", "64", "--hidden", "8", "--evaluate"), 1),
    "moons": (("gan", "--data", "moons", "--batch-size", "64", "--hidden", "8", "--loss", "minimax"), 1),
}
COMPARED = {"compared": ("ae", "ae-plane", "ae-conv"), "games": ("ring", "grid", "moons")}
WIDTHS = (360, 768, 1280)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Pages by name: of the runs, of one under way, of one with nothing to show yet."""
    base = tmp_path_factory.mktemp("pages")
    tiny.digits(base / "digits")
    tiny.photos(base / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        tiny.own_cache(base, patch)
        patch.delenv("SCRATCHGEN_DATA", raising=False)
        patch.setattr("scratchgen.measures.classifier.SHOWN", 60)
        patch.setattr("scratchgen.commands.training_run.take_away", lambda *args: {})
        for points in ("ring", "grid", "moons"):
            made = getattr(tiny.toys, points)
            patch.setattr(tiny.toys, points, lambda rng, made=made: made(256, 40, rng))
        for name, (argv, epochs) in RUNS.items():
            assert run("train", *argv, "--epochs", epochs, "--out", name, "--quiet") == 0
        for name, runs in COMPARED.items():
            (base / name).mkdir()
            assert run("compare", *runs, "--output", f"{name}/report.html") == 0
    _variants(base)
    return base


def _variants(base: Path) -> None:
    """Pages of what runs are only for a moment, and of names and records as long as they may be."""
    for name, kind in {"under-way": "vae", "nothing-yet": "ring", "long": "gan"}.items():
        folder = RunFolder(shutil.copytree(base / kind, base / name))
        recipe = load_run(folder.path)
        state = "1 of 2 epochs, 4 steps, 1 s; this page reloads itself"
        if name == "under-way":
            with Image.open(folder.path / "samples" / "epoch-002.png") as sheet:
                folder.save_picture(ImageOps.invert(sheet.convert("L")), "samples/latest.png")
        if name == "nothing-yet":
            folder.metrics.unlink()
            shutil.rmtree(folder.path / "evaluation")
            for sheet in ("epoch-001.png", "epoch-002.png"):
                (folder.path / "samples" / sheet).unlink()
        if name == "long":
            long = "a_name_without_a_space_" * 12
            config = folder.config()
            config |= {"data_name": long, "data": f"/{long}", "hidden": list(range(1000, 1100)), long: long}
            folder.write_json("config.json", config)
            folder.write_measures({"data": long, "epoch": 2, "rows": [[long, long], ["  a " * 40, "b " * 400]]})
            state = f"stopped: {long}"
        report.write(folder, recipe, state=state, under_way=name != "long")


PAGES = (*RUNS, *COMPARED, "under-way", "nothing-yet", "long")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = driven(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_is_readable_and_asks_for_nothing(name, base, browser):
    page = base / name / "report.html"
    shown(browser, page)
    for width in WIDTHS:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert browser.execute_script(OVERFLOW) == [], f"at {width} pixels"
    for dark in (False, True):
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
        texts, poor, ground = browser.execute_script(CONTRAST)
        assert texts > 40
        assert poor == []
        assert ground < 0.02 if dark else ground > 0.9
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => [f.querySelectorAll('img, svg.chart').length, "
        "f.querySelector('figcaption')?.innerText.trim().length || 0, "
        "[...f.querySelectorAll('img')].map(i => i.complete && i.naturalWidth)])"
    )
    assert len(figures) >= (1 if name == "nothing-yet" else 5)
    for pictures, caption, widths in figures:
        assert pictures == 1
        assert caption > 8
        assert all(widths)
    sources = browser.execute_script("return [...document.querySelectorAll('figure img')].map(i => i.src)")
    assert len(sources) == len(set(sources)), "a picture stands twice"
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert asked(browser) == [page.as_uri()]


def test_what_these_tests_look_for_they_see(base, browser, tmp_path):
    bad = "<body style='background:#fff'><div style='width:3000px'>wide</div><p style='color:#999'>pale</p>"
    bad += "<img src='http://example.com/x.png'><script>nothing()</script>"
    (tmp_path / "bad.html").write_text(bad)
    shown(browser, tmp_path / "bad.html", width=360)
    assert len(browser.execute_script(OVERFLOW)) >= 2
    assert [text.split()[0] for text in browser.execute_script(CONTRAST)[1]] == ["P"]
    assert len(browser.get_log("browser")) >= 2
    assert "http://example.com/x.png" in asked(browser)


def test_no_other_script_than_its_own_runs_in_a_page(base, browser, tmp_path):
    text = (base / "ae" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</body>", "<script>document.title = 'mine'</script></body>"))
    shown(browser, tmp_path / "page.html")
    assert browser.title.startswith("autoencoder: ")
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_the_slider_goes_through_the_sheets(base, browser):
    keys = webdriver.Keys
    shown(browser, base / "vae" / "report.html", width=360)
    stage, slider = (browser.find_element("css selector", s) for s in ("#stage", ".controls input"))
    label = browser.find_element("css selector", ".controls output")
    assert slider.get_attribute("max") == "2"
    first = stage.get_attribute("src")
    said = [label.text]
    seen = {first}
    for _ in range(2):
        slider.send_keys(keys.ARROW_LEFT)
        seen.add(stage.get_attribute("src"))
        said.append(label.text)
    assert said == ["after epoch 2", "after epoch 1", "before training"]
    assert len(seen) == 3
    assert stage.get_attribute("alt") == "before training"
    slider.send_keys(keys.END)
    assert stage.get_attribute("src") == first
    play = browser.find_element("css selector", ".controls button")
    assert play.text == "Play"
    play.send_keys(keys.ENTER)
    assert (play.text, label.text) == ("Stop", "before training")
    waited = WebDriverWait(browser, 10, 0.1)
    waited.until(lambda _: play.text == "Play")
    assert stage.get_attribute("src") == first


def test_each_sheet_opens_large_by_keyboard(base, browser):
    keys, active = webdriver.Keys, lambda: browser.switch_to.active_element
    for width in (360, 1280):
        shown(browser, base / "gan" / "report.html", width=width)
        thumbs = browser.find_elements("css selector", ".thumbs a")
        dialog, large = (browser.find_element("css selector", s) for s in ("dialog", "dialog img"))
        assert len(thumbs) == 2
        assert not dialog.is_displayed()
        browser.execute_script("arguments[0].focus()", thumbs[0])
        active().send_keys(keys.ENTER)
        assert dialog.is_displayed()
        assert large.get_attribute("src") == thumbs[0].find_element("css selector", "img").get_attribute("src")
        assert large.size["width"] > thumbs[0].size["width"]
        box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", dialog)
        assert 0 <= box["left"] < box["right"] <= width
        active().send_keys(keys.ARROW_RIGHT)
        assert dialog.find_element("css selector", "output").text == "after epoch 1"
        for _ in range(3):
            active().send_keys(keys.ARROW_RIGHT)
        assert dialog.find_element("css selector", "output").text == "after epoch 2", "the newest is the last"
        active().send_keys(keys.ESCAPE)
        assert not dialog.is_displayed()
        assert active() == thumbs[0]
        thumbs[1].click()
        assert dialog.is_displayed()
        dialog.find_element("css selector", "button").click()
        assert not dialog.is_displayed()
        assert browser.execute_script(OVERFLOW) == []


VISIBLE = """
return [...document.querySelectorAll('figure img, figure svg')].filter(i => i.getClientRects().length).length
"""


def test_without_scripts_all_pictures_are_there(base, browser):
    shown(browser, base / "ring" / "report.html", scripts=False)
    try:
        tree = browser.execute_cdp_cmd("DOM.getDocument", {"depth": -1})["root"]
        text = json.dumps(tree)
        assert text.count('"nodeName": "IMG"') >= 3
        picture = browser.execute_cdp_cmd("DOM.querySelector", {"nodeId": tree["nodeId"], "selector": "#stage"})
        box = browser.execute_cdp_cmd("DOM.getBoxModel", {"nodeId": picture["nodeId"]})["model"]
        assert box["width"] > 300
        controls = browser.execute_cdp_cmd("DOM.querySelector", {"nodeId": tree["nodeId"], "selector": ".controls"})
        with pytest.raises(Exception, match="box model"):  # what only works by script is not there
            browser.execute_cdp_cmd("DOM.getBoxModel", {"nodeId": controls["nodeId"]})
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.get(f"{(base / 'ring' / 'report.html').as_uri()}#epoch-001")  # as a link without the script goes
    (target,) = browser.find_elements("css selector", ".thumbs figure:target")
    assert target.size["width"] > 600


def test_on_paper_there_are_no_controls_and_the_ground_is_white(base, browser):
    shown(browser, base / "vae" / "report.html", dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert not browser.find_element("css selector", ".controls").is_displayed()
    texts, poor, ground = browser.execute_script(CONTRAST)
    assert texts > 60
    assert poor == []
    assert ground == 1
    assert browser.execute_script(VISIBLE) == len(browser.find_elements("css selector", "figure"))
    assert len(browser.print_page()) > 20_000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.fixture(scope="module")
def served(base):
    """The address at which the runs are served, and what was asked for there."""
    wanted: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            wanted.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=base))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", wanted
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_under_way_renews_itself_unless_one_is_looking_closely(base, browser, served):
    address, wanted = served
    text = (base / "under-way" / "report.html").read_text(encoding="utf-8")
    assert 'data-refresh="10"' in text
    (base / "soon.html").write_text(text.replace('data-refresh="10"', 'data-refresh="1"'))
    browser.get(f"{address}/soon.html")
    browser.execute_script("window.first = true")
    waited = WebDriverWait(browser, 10, 0.05)
    waited.until(lambda _: wanted.count("/soon.html") > 1)
    anew = "return !window.first && document.readyState === 'complete'"
    waited.until(lambda _: browser.execute_script(anew))  # a second is left from here
    browser.execute_script("document.querySelector('.thumbs a').click()")
    before = wanted.count("/soon.html")
    time.sleep(2.5)
    assert wanted.count("/soon.html") == before
    assert browser.find_element("css selector", "dialog").is_displayed()
    browser.execute_script("document.querySelector('dialog').close()")
    waited.until(lambda _: wanted.count("/soon.html") > before)
    browser.get("about:blank")
