"""Runs beside each other: what they share, in which settings they differ, and how far each measure came."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from scratchgen.data import short_name
from scratchgen.files import printable
from scratchgen.training.records import Records
from scratchgen.training.run_folder import RunFolder

FEWEST, MOST = 2, 8  # runs
POINTS = 400  # of a curve, at the most
LOG4, LOG2 = math.log(4), math.log(2)
# Of the config, what decides no result or is shown as something else.
LEFT_OUT = (
    *("id", "scratchgen", "data_name", "data_sha256"),
    *("save_every", "sample_every", "keep_weights", "evaluate"),
)
NO_MEASURES = ("step", "epoch", "seconds", "per_second", "importance_samples")  # numbers of records beside these
OBJECTIVE = ("model", "loss", "likelihood", "beta", "binarise")  # what a loss is of
GAME = "A lower one is not a better model: it depends on the other network as well."


class Measure(NamedTuple):
    """What a measure is called, what it says, and which of two values is the better."""

    title: str
    words: str
    better: str = ""  # "lower", "higher", or neither
    depends: tuple[str, ...] = ()  # settings that change what is measured: with others of them it is another measure
    reference: tuple[float, str] | None = None  # a value to compare with, and what it is called
    log: bool = False


MEASURES = {
    "loss": Measure("training loss", "What training lowers, per image: a mean over batches.", "lower", OBJECTIVE),
    "test_loss": Measure("test loss", "The same loss, of images that were not trained on.", "lower", OBJECTIVE),
    "test_mse": Measure("test error", "Mean squared error per pixel of reconstructed test images.", "lower"),
    "pca_test_mse": Measure("test error of PCA", "With as many components as the code has dimensions."),
    "ratio": Measure("test error / that of PCA", "Below 1 the autoencoder beats the best linear one.", "lower"),
    "reconstruction": Measure(
        "reconstruction term", "−log p(x|z) of the training images, nats per image.", "lower", OBJECTIVE[:1]
    ),
    "kl": Measure("KL term", "What z says of a training image, KL(q(z|x) ‖ p(z)), nats per image."),
    "test_reconstruction": Measure(
        "test reconstruction term", "−log p(x|z) of the test images, nats per image.", "lower", OBJECTIVE[:1]
    ),
    "test_kl": Measure("test KL term", "What z says of a test image, KL(q(z|x) ‖ p(z)), nats per image."),
    "negative_elbo": Measure("−ELBO", "Of the test images, nats per image.", "lower"),
    "importance_weighted_nll": Measure("importance-weighted NLL", "Of the test images, nats per image.", "lower"),
    "active_units": Measure("active latent units", "Dimensions of z whose mean changes from image to image."),
    "gradient": Measure("gradient norm", "Length of the gradient over all parameters.", log=True),
    "d_gradient": Measure("gradient norm of D", "Length of the discriminator's gradient.", log=True),
    "g_gradient": Measure("gradient norm of G", "Length of the generator's gradient.", log=True),
    "d_loss": Measure(
        "discriminator loss",
        f"−log D(x) − log(1 − D(G(z))), in nats; log 4 where D cannot tell real from generated. {GAME}",
        depends=("smoothing",),
        reference=(LOG4, "log 4"),
    ),
    "g_loss": Measure(
        "generator loss",
        f"In nats: −log D(G(z)), or log(1 − D(G(z))) with the minimax loss. {GAME}",
        depends=("loss",),
        reference=(LOG2, "log 2"),
    ),
    "D(x)": Measure("D(x)", "Mean probability of being real that D gives to real samples.", reference=(0.5, "½")),
    "D(G(z))": Measure(
        "D(G(z))", "Mean probability of being real that D gives to generated samples.", reference=(0.5, "½")
    ),
    "modes": Measure("modes covered", "Modes of the data that the generated points reach.", "higher"),
    "high_quality": Measure("share of high quality", "Generated points within 3σ of a mode.", "higher"),
    "reverse_kl": Measure("reverse KL", "Of the shares of the modes in the samples, nats.", "lower"),
    "frechet": Measure("Fréchet distance", "Of samples and test images in a classifier's features.", "lower"),
    "smallest_share": Measure("smallest share of a class", "Of the samples, as a classifier sees them.", "higher"),
    "confident": Measure("confident share", "Samples of which a classifier is sure.", "higher"),
}
NAMES = {
    "arch": "architecture",
    "beta": "β of the KL",
    "beta1": "β₁ of Adam",
    "binarise": "binarisation",
    "d_lr": "learning rate of D",
    "decay": "decay of the learning rate",
    "hidden": "layer sizes",
    "image_shape": "image size",
    "k": "updates of D for one of G",
    "latent": "latent dimension",
    "lr": "learning rate",
    "prior": "prior of z",
    "smallest": "smallest side of a feature map",
    "smoothing": "label smoothing",
    "width": "channels next to the image",
}


def measure_of(key: str) -> Measure:
    """What is known of a measure by its key in the records."""
    return MEASURES.get(key) or Measure(key.replace("_", " ").replace(".", " "), "")


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

    def curve(self, key: str) -> list[Value]:
        """A measure by step, as finely as the records have it; of more than POINTS each is the mean of some."""
        values = self.values(key, "steps") or self.values(key, "epoch")
        n = -(-len(values) // POINTS)
        groups = [values[i : i + n] for i in range(0, len(values), n)] if n > 1 else [[v] for v in values]
        return [Value(sum(v.value for v in g) / len(g), g[-1].step, g[-1].epoch) for g in groups]

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
        runs = [run.config for _, run in self.with_key(key)]
        depends = (*measure_of(key).depends, "data_sha256", "image_shape")
        names = [name for name in depends if len({json.dumps(config.get(name)) for config in runs}) > 1]
        return list(dict.fromkeys("data" if name == "data_sha256" else setting_name(name) for name in names))

    def reference(self, key: str) -> tuple[float, str] | None:
        """The value that the measure has where the game of two networks is even, where that is the same for all."""
        runs = [run.config for _, run in self.with_key(key)]
        minimax = key == "g_loss" and any(config.get("loss") == "minimax" for config in runs)
        if minimax or any(config.get("smoothing") for config in runs):
            return None
        return measure_of(key).reference

    # --- settings ---

    def _settings(self) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
        """Those that differ, with the value of each run, and those that are the same."""
        shown = [dict(self._shown(run)) for run in self.runs]
        differ, same = [], []
        for name in dict.fromkeys(name for settings in shown for name in settings):
            values = [settings.get(name, "–") for settings in shown]
            if len(set(values)) > 1:
                differ.append((name, values))
            else:
                same.append((name, values[0]))
        return differ, same

    def _shown(self, run: ComparedRun) -> Iterator[tuple[str, str]]:
        for name, value in run.config.items():
            if name not in LEFT_OUT:
                yield setting_name(name), self._data(run) if name == "data" else _text(name, value)

    def _data(self, run: ComparedRun) -> str:
        """The name of the data, never where it lies; with a part of its digest where others have that name."""
        name, digest = _data_name(run.config), run.config.get("data_sha256")
        others = {c.config.get("data_sha256") for c in self.runs if _data_name(c.config) == name}
        return f"{name} ({str(digest)[:6]})" if len(others) > 1 else name


def setting_name(name: str) -> str:
    """A setting as it is called in words."""
    return NAMES.get(name, printable(name.replace("_", " ")))


def number(value: float) -> str:
    """A value for people: whole numbers in full, others to four digits."""
    whole = float(value).is_integer() and abs(value) < 1e15
    text = f"{value:,.0f}" if whole or abs(value) >= 1e4 else f"{value:#.4g}".removesuffix(".")
    return text.replace("-", "−")


def _data_name(config: Mapping[str, Any]) -> str:
    return short_name(str(config.get("data_name") or "unnamed"))


def _text(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ("×" if name in ("image_shape", "image_size") else ", ").join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


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
