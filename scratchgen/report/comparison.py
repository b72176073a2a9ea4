"""Runs beside each other: what they share, in which settings they differ, and how far each measure came."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from scratchgen.data import short_name
from scratchgen.files import printable
from scratchgen.plots import Point, Reference
from scratchgen.plots.curves import fewer
from scratchgen.recipes.gan import at_equilibrium
from scratchgen.report.words.measures import measure_of
from scratchgen.report.words.settings import name_of, settings_of
from scratchgen.training import RunFolder
from scratchgen.training.records import Records

FEWEST, MOST = 2, 8  # runs
NO_MEASURES = ("step", "epoch", "seconds", "per_second", "importance_samples")  # numbers of records beside these


class Value(NamedTuple):
    """A value of a measure and where it was reached."""

    value: float
    step: int
    epoch: float


@dataclass
class ComparedRun:
    """A run with all that is compared of it, under a name that no other has."""

    name: str
    folder: RunFolder
    config: Mapping[str, Any]
    records: Records

    @cached_property
    def data(self) -> str:
        return short_name(str(self.config.get("data_name") or "unnamed"))

    @cached_property
    def steps(self) -> int:
        return self.records.step

    @cached_property
    def epochs(self) -> float:
        return max((r["epoch"] for r in self.records if "epoch" in r), default=0)

    @cached_property
    def seconds(self) -> float | None:
        """Of training."""
        return max((r["seconds"] for r in self.records if _is_number(r.get("seconds"))), default=None)

    @cached_property
    def steps_per_epoch(self) -> float:
        return self.steps / self.epochs if self.epochs else 0.0

    @cached_property
    def keys(self) -> list[str]:
        """The measures that its records have, in the order in which they first appear."""
        records = (r for r in self.records if r["kind"] in ("steps", "epoch"))
        return list(dict.fromkeys(k for r in records for k, v in r.items() if k not in NO_MEASURES and _is_number(v)))

    @cached_property
    def evaluated(self) -> dict[str, float]:
        """What `scratchgen evaluate` kept; nothing where it cannot be read."""
        try:
            measures = self.folder.measures() or {}
        except ValueError:
            return {}
        return {k: float(v) for k, v in measures.items() if k not in NO_MEASURES and _is_number(v)}

    def values(self, key: str, kind: str) -> list[Value]:
        """A measure as records of one kind have it."""
        return [
            Value(r[key], r["step"], r["epoch"]) for r in self.records if r["kind"] == kind and _is_number(r.get(key))
        ]

    def curve(self, key: str, by_steps: bool) -> list[Point]:
        """A measure by step or by epoch, as finely as the records have it and a curve shows it."""
        values = self.values(key, "steps") or self.values(key, "epoch")
        return fewer([(float(v.step if by_steps else v.epoch), v.value) for v in values])

    def reached(self, key: str) -> tuple[Value, Value | None]:
        """The last value of a measure, and its best where one is better than another; of epochs, which are less noisy
        than steps, where these have it."""
        values = self.values(key, "epoch") or self.values(key, "steps")
        better = measure_of(key).better
        choose = {"lower": min, "higher": max}.get(better)
        return values[-1], choose(values, key=lambda v: v.value) if choose else None


class Comparison:
    """Two to eight runs. ValueError where they share nothing."""

    def __init__(self, folders: Sequence[RunFolder]):
        self.runs = [
            ComparedRun(name, folder, folder.config(), folder.records())
            for name, folder in zip(_names(folders), folders, strict=True)
        ]
        self.keys = self._shared([run.keys for run in self.runs])
        if not self.keys:
            raise ValueError(f"the runs share no measure, so there is nothing to compare: {self._what_each_has()}")
        self.evaluated = self._shared([list(run.evaluated) for run in self.runs])
        self.differ, self.same = self._settings()

    def _shared(self, keys: Sequence[Sequence[str]]) -> list[str]:
        """What at least two have, in their order."""
        every = dict.fromkeys(key for of_run in keys for key in of_run)
        return [key for key in every if sum(key in of_run for of_run in keys) >= FEWEST]

    def _what_each_has(self) -> str:
        return "; ".join(f"{run.name} has {', '.join(run.keys) or 'no records yet'}" for run in self.runs)

    @cached_property
    def by_steps(self) -> bool:
        """Whether curves go by steps, as epochs have not the same number of them everywhere."""
        per_epoch = [run.steps_per_epoch for run in self.runs if run.steps]
        return max(per_epoch) > 1.01 * min(per_epoch)

    def with_key(self, key: str) -> list[tuple[int, ComparedRun]]:
        """The runs that have a measure, with their numbers."""
        return [(i, run) for i, run in enumerate(self.runs) if key in run.keys]

    def unlike(self, key: str) -> list[str]:
        """The settings in which runs differ so that this measure is not the same one in all of them."""
        runs = [run.config for run in self.runs if key in run.keys or key in run.evaluated]
        depends = (*measure_of(key).depends, "data_sha256", "image_shape")
        names = [name for name in depends if len({json.dumps(config.get(name)) for config in runs}) > 1]
        return list(dict.fromkeys("data" if name == "data_sha256" else name_of(name) for name in names))

    def reference(self, key: str) -> Reference | None:
        """The value that the measure has at equilibrium, where that is the same one in all runs."""
        try:
            lines = [at_equilibrium({"smoothing": 0, **run.config}).get(key) for _, run in self.with_key(key)]
        except (KeyError, TypeError, ValueError):  # no game, or a damaged config
            return None
        return lines[0] if len(set(lines)) == 1 else None

    # --- settings ---

    def _settings(self) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
        """Those that differ, with the value of each run, and those that are the same."""
        shown = [settings_of(run.config, self._data(run)) for run in self.runs]
        differ, same = [], []
        for name in dict.fromkeys(name for settings in shown for name in settings):
            values = [settings.get(name, "–") for settings in shown]
            if len(set(values)) > 1:
                differ.append((name, values))
            else:
                same.append((name, values[0]))
        return differ, same

    def _data(self, run: ComparedRun) -> str:
        """The name of the data, with a part of their digest where others have that name."""
        digests = {c.config.get("data_sha256") for c in self.runs if c.data == run.data}
        return f"{run.data} ({str(run.config.get('data_sha256'))[:6]})" if len(digests) > 1 else run.data


def number(value: float) -> str:
    """A value for people: whole numbers in full, others to four digits."""
    whole = float(value).is_integer() and abs(value) < 1e15
    text = f"{value:,.0f}" if whole or abs(value) >= 1e4 else f"{value:#.4g}".removesuffix(".")
    return text.replace("-", "−")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """The folders' own names, with a number where another has that name already."""
    names: list[str] = []
    for folder in folders:
        name = printable(folder.path.resolve().name) or "run"
        taken = (f"{name} ({i})" for i in range(2, MOST + 2))
        names.append(name if name not in names else next(n for n in taken if n not in names))
    return names
