"""Pages, for the tests of what the library writes: taken apart, and opened in a browser."""

import html.parser
import re
import shutil
import subprocess


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
