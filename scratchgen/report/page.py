"""The page put together: HTML that needs no other file, with a small script that it can do without."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from scratchgen.files import atomic_write
from scratchgen.plots import Panel, as_svg, bars, curve, histogram
from scratchgen.recipes import Recipe
from scratchgen.report.parts import as_image, document, escaped, explained, shape, table
from scratchgen.report.pictures import SHEETS, chosen, moment, packed
from scratchgen.report.words import Caption, words_of
from scratchgen.report.words.caption import Epochs, Measures
from scratchgen.report.words.settings import settings_of
from scratchgen.training import RunFolder

REFRESH = 10  # seconds between two looks of a browser at a run under way
# Where data came from, after how many they are; then what `evaluate` says of data that are not the run's own.
SOURCE = re.compile(r"( \([\d,]+ (?:training|image)[^()]*?) from .*?\)(; this data is .*)?$", re.DOTALL)
LEAST = 1e-6  # variance that is still drawn


def write(folder: RunFolder, recipe: Recipe, *, state: str, under_way: bool) -> Path:
    """Write the page anew from what lies in the folder; `state` says how far the run is."""
    page = _Page(folder, recipe, state, under_way).text()
    path = folder.path / "report.html"
    with atomic_write(path) as stream:
        stream.write(page.encode(errors="replace"))  # a name of bytes that are no text has no other form
    return path


class _Page:
    def __init__(self, folder: RunFolder, recipe: Recipe, state: str, under_way: bool):
        self.folder, self.recipe, self.state, self.under_way = folder, recipe, state, under_way
        self.words = words_of(recipe)
        self.records = folder.records()
        self.epochs = [r for r in self.records if r["kind"] == "epoch"]
        self.measures, self.unreadable = None, ""
        try:
            self.measures = folder.measures()
        except ValueError as error:
            self.unreadable = str(error)
        self.own = folder.own(self.measures)
        self.latest = packed(folder.latest_sheet)
        self.terms: list[str] = []  # used so far

    def text(self) -> str:
        title = f"{self.recipe.title}: {self.folder.path.resolve().name}"
        body = "\n".join(
            [
                f'<header><h1>{escape(title)}</h1><p class="state">{self.escaped(self.state)}</p>'
                f'<p class="lead">{self.words.lead}</p>{self.data()}{self.notes()}</header>',
                *self.made(),
                *self.curves("What the curves say", self.recipe.panels),
                *self.curves("Health of the training", self.recipe.health),
                *self.measured(),
                *self.from_epoch_to_epoch(),
                *self.settings(),
                explained(self.terms),
                LARGER,
            ]
        )
        return document(title, body, SCRIPT, REFRESH if self.under_way else 0)

    # --- from top to bottom ---

    def data(self) -> str:
        name = self.folder.config().get("data_name")
        return f'<p class="state">Data: {self.escaped(without_source(str(name)))}</p>' if name else ""

    def notes(self) -> str:
        """What is wrong with the training."""
        symptoms = self.recipe.symptoms(self.epochs) if self.epochs else {}
        items = "".join(f"<li>{self.escaped(sentence(text))}</li>" for text in symptoms.values())
        return f'<div class="notes"><strong>What stands out</strong><ul>{items}</ul></div>' if items else ""

    def made(self) -> list[str]:
        """The newest sheet, large."""
        files = chosen(self.folder.sheets(), SHEETS)
        shown = [(moment(p), p.stem, found) for p in files if (found := packed(p))]
        if self.latest:
            shown.append((self.latest_moment(self.latest.step), "latest", self.latest))
        self.earlier = shown[:-1]
        if not shown:
            return []
        when, _, newest = shown[-1]
        slider = (
            '<div class="controls" hidden><button type="button">Play</button>'
            '<input type="range" min="0" max="1" step="1" value="1" aria-label="epoch that is shown">'
            "<output></output></div>"
        )
        picture = (
            f'<div class="picture large {shape(newest)}">{as_image(newest, when, "stage")}</div>'
            f"{slider if self.earlier else ''}"
            f'<p class="state">The newest is of {"this moment" if when == "now" else f"the model {when}"}.</p>'
        )
        beside = " square" if shape(newest) == "grid" else ""
        return ["<section><h2>What the run made</h2>", self.of_now(picture, self.words.sheet, beside), "</section>"]

    def latest_moment(self, step: int | None) -> str:
        """When the latest sheet was made, which may have been before the last record; one of 0.1 does not say so."""
        if self.under_way and (step is None or step >= self.records.step):
            return "now"
        return f"after step {self.folder.position().steps if step is None else step:,}"

    def curves(self, heading: str, panels: Sequence[Panel]) -> list[str]:
        found = []
        for i, panel in enumerate(panels):
            drawn = curve(self.records, panel, self.own)
            if drawn is not None:
                name = f"c{i}{re.sub('[^a-z]', '', panel.name.lower())}"
                found.append(self.of_now(as_svg(drawn, name), self.words.panels[panel.name], " beside"))
        return [f"<section><h2>{heading}</h2>", *found, "</section>"] if found else []

    def measured(self) -> list[str]:
        """What `scratchgen evaluate` kept, or why it cannot be shown."""
        if self.unreadable:
            return ["<section><h2>Measures</h2>", f"<p>Left out: {self.escaped(self.unreadable)}</p></section>"]
        if self.measures is None:
            return []
        self.terms += self.words.measures
        epoch, step = self.measures["epoch"], self.measures.get("step")
        heading = f"Measures after {f'epoch {epoch}' if step is None else f'step {step:,} (epoch {epoch})'}"
        data = without_source(str(self.measures["data"]))
        found = [f'<section><h2>{heading}</h2><p class="state">{self.escaped(data)}</p>']
        found.append(table(self.measures["rows"], escaped=self.escaped))
        told = self.until_measured(), self.measures
        found += [self.figure(svg, caption, " beside", *told) for svg, caption in self.drawn_measures()]
        for name, caption in self.words.pictures.items():
            picture = packed(self.folder.path / "evaluation" / name) if name.endswith(".png") else None
            if picture:
                beside = " square" if shape(picture) == "grid" else ""
                image = f'<div class="picture {shape(picture)}">{as_image(picture, caption.title)}</div>'
                found.append(self.figure(image, caption, beside, *told))
        return [*found, "</section>"]

    def until_measured(self) -> Epochs:
        """The records of the epochs that were over when it was measured."""
        measures = self.measures or {}
        last, by = (measures["step"], "step") if "step" in measures else (measures.get("epoch", 0), "epoch")
        return [r for r in self.epochs if r[by] <= last]

    def measures_of_now(self) -> Measures:
        """The measures, where they are of the run's own data and nothing was trained since."""
        if self.own is None:
            return None
        if "step" in self.own:
            latest = (self.latest and self.latest.step) or 0
            return self.own if self.own["step"] >= max(self.records.step, latest) else None
        return self.own if self.own["epoch"] >= max((r.get("epoch", 0) for r in self.records), default=0) else None

    def drawn_measures(self) -> Iterable[tuple[str, Caption]]:
        """Charts of measures that were kept as numbers."""
        measures, captions = self.measures or {}, self.words.pictures
        if "variances" in captions and (values := numbers(measures.get("variances_of_mu"))):
            values = sorted((max(v, LEAST) for v in values), reverse=True)
            names = [str(i) for i in range(1, len(values) + 1)]
            figure = bars(values, names, "variance of μ", ("0.01: active above", 0.01), xlabel="rank", log=True)
            yield as_svg(figure, "variances"), captions["variances"]
        if "classes" in captions and (shares := numbers(measures.get("histogram"))):
            classes = measures.get("classes")
            fit = isinstance(classes, list) and len(classes) == len(shares)
            yield (
                as_svg(histogram(shares, list(map(str, classes or ())) if fit else ()), "classes"),
                captions["classes"],
            )
        if "modes" in captions and (counts := numbers(measures.get("counts"))):
            even = sum(counts) / len(counts)
            names = [str(i) for i in range(1, len(counts) + 1)]
            figure = bars(counts, names, "samples within 3σ", (f"even: {even:.4g}", even), xlabel="mode")
            yield as_svg(figure, "modes"), captions["modes"]

    def from_epoch_to_epoch(self) -> list[str]:
        if not self.earlier:
            return []
        figures = []
        for when, name, picture in self.earlier:
            figures.append(
                f'<figure id="{name}"><a href="#{name}">{as_image(picture, when)}</a>'
                f"<figcaption>{when}</figcaption></figure>"
            )
        rows = " of-rows" if shape(self.earlier[0][2]) == "wide" else ""
        return [
            f"<section><h2>Epoch by epoch</h2><p>{self.words.epochs} Each opens; the newest is at the top.</p>",
            f'<div class="thumbs{rows}">{"".join(figures)}</div></section>',
        ]

    def settings(self) -> list[str]:
        config = self.folder.config()
        found = settings_of(config, data=Path(str(config.get("data", ""))).name)
        return ["<section><h2>Settings</h2>", table(found.items(), escaped=self.escaped), "</section>"]

    # --- parts ---

    def of_now(self, picture: str, caption: Caption, kind: str) -> str:
        """A figure of how the run stands now."""
        return self.figure(picture, caption, kind, self.epochs, self.measures_of_now())

    def figure(self, picture: str, caption: Caption, kind: str, epochs: Epochs, measures: Measures) -> str:
        self.terms += caption.terms
        found = caption.this_run(epochs, measures)
        run = f'<dt>This run</dt><dd class="run">{self.escaped(found)}</dd>' if found else ""
        return (
            f'<figure class="figure{kind}"><div>{picture}</div><figcaption>'
            f"<h3>{caption.title}</h3><p>{caption.what}</p><dl>"
            f'<dt>What is plotted</dt><dd class="formula">{caption.formula}</dd>'
            f"<dt>When all is well</dt><dd>{caption.healthy}</dd>{run}</dl></figcaption></figure>"
        )

    def escaped(self, text: str) -> str:
        """Text for the page, without the folders of this machine."""
        for own in (str(self.folder.path.resolve()), str(self.folder.path)):
            text = text.replace(own + "/", "") if len(own) > 1 else text
        return escaped(text)


SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
LARGER = (
    '<dialog aria-label="larger view"><p><output></output><button type="button">Close</button></p>'
    '<div class="picture"><img alt="" src="data:,"></div></dialog>'
)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def without_source(name: str) -> str:
    """The name of a data set without where it came from, which is the end of its bracket."""
    return SOURCE.sub(r"\1)\2", name)


def numbers(values: Any) -> list[float]:
    """A list of numbers; an empty one for anything else."""
    if not isinstance(values, list) or not all(isinstance(v, int | float) and 0 <= v < 1e12 for v in values):
        return []
    return [float(v) for v in values]
