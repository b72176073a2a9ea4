"""What a caption is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from scratchgen.report.words.measures import MEASURES

Epochs: TypeAlias = Sequence[Mapping[str, Any]]
Measures: TypeAlias = Mapping[str, Any] | None


def silent(epochs: Epochs, measures: Measures) -> str:
    return ""


@dataclass(frozen=True)
class Caption:
    """The words below a figure. All but what is found in this run is HTML, written here."""

    title: str
    what: str  # is shown
    formula: str  # of what is plotted
    healthy: str  # how it looks when all is well
    this_run: Callable[[Epochs, Measures], str] = silent  # plain text, from the records of the epochs, or ""
    terms: Sequence[str] = ()  # of `terms.py`, which it uses


def of_measure(key: str, *, title: str, healthy: str, this_run: Callable[[Epochs, Measures], str]) -> Caption:
    """Of the figure of one measure, which says of it what every page says."""
    measure = MEASURES[key]
    return Caption(title, measure.what, measure.formula, healthy, this_run, measure.terms)


@dataclass(frozen=True)
class Words:
    """A model's page: each figure's caption, by the name of its panel or file."""

    lead: str  # what the model is
    sheet: Caption
    panels: Mapping[str, Caption]
    pictures: Mapping[str, Caption] = field(default_factory=dict)
    measures: Sequence[str] = ()  # terms of the table of measures
    epochs: str = ""  # on the sheets of earlier epochs
