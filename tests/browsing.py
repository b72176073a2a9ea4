"""Pages, for the tests of what the library writes: taken apart, and opened in a browser."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text, and the figures: their pictures and their captions."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open, self.figures = [], "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "figure":
            self.figures.append({"pictures": 0, "caption": ""})
        if "figure" in self.open and tag in ("img", "svg"):
            self.figures[-1]["pictures"] += 1
        if tag not in ("meta", "link", "img", "input", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "use"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data + "\n"
        if "figcaption" in self.open:
            self.figures[-1]["caption"] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(text):
    assert "http:" not in text
    assert "https:" not in text
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form", "b", "video"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "data", "action", "background"):
                assert value.startswith(("data:", "#")), (tag, name, value[:40])
    assert not re.search(r"url\s*\((?!#)|@import", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)), "an id stands twice"
    for _, attributes in page.tags:
        references = [attributes.get(name) or "" for name in ("href", "clip-path")]
        for reference in re.findall(r"#([\w-]+)", " ".join(references)):
            assert reference in ids, reference
    return page


# --- in a browser ---

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
needs_both = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver to open pages in")


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


def driven(profile):
    """A Chromium that a test drives, which finds nothing outside of this machine."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: the extra `pages`")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    switches = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars"
    for switch in switches.split():
        options.add_argument(switch)
    options.add_argument("--disable-background-networking")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def shown(browser, page: Path, *, width=1280, dark=False, scripts=True) -> None:
    """Open a page; what it said on its console and what it asked for before is forgotten."""
    browser.get("about:blank")
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())


def asked(browser) -> list[str]:
    """The addresses that were asked for, but for data in the page itself."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]


# What is wider than the page, and does not scroll within a box of its own.
OVERFLOW = """
const wide = [];
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) wide.push(`the page: ${document.documentElement.scrollWidth}`);
for (const element of document.body.querySelectorAll("*")) {
  const box = element.getBoundingClientRect();
  if (box.width === 0 || (box.right <= width + 0.5 && box.left >= -0.5)) continue;
  let parent = element.parentElement;
  while (parent && getComputedStyle(parent).overflowX === "visible") parent = parent.parentElement;
  if (!parent || parent === document.documentElement) wide.push(`${element.tagName}: ${box.right}`);
}
return wide;
"""
# Texts, with the contrast of their colour to the ground that they stand on.
CONTRAST = """
const parse = (text) => {
  const [r, g, b, a = 1] = text.match(/[0-9.]+/g).map(Number);
  return [r, g, b, a];
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const poor = [];
let seen = 0;
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName) || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const ink = parse(element instanceof SVGElement ? style.fill : style.color);
  const below = (e) => parse(getComputedStyle(e).backgroundColor);
  let ground = element;
  while (ground.parentElement && below(ground)[3] === 0) ground = ground.parentElement;
  const [a, b] = [light(ink), light(below(ground))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  seen += 1;
  if (contrast < 4.5) poor.push(`${element.tagName} ${element.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
}
return [seen, poor, light(parse(getComputedStyle(document.body).backgroundColor))];
"""
