"""What the training of one kind of model consists of: its switches, networks, step, pictures and measures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from scratchgen.backend import load_kernels, to_host, transfer
from scratchgen.data import Dataset, Points
from scratchgen.errors import sentence
from scratchgen.models import Model
from scratchgen.optim import Adam, Optimizer

BLOCK = 500  # samples at a time
PATIENCE = 3  # epochs in a row that look alike before they are a symptom
_PICTURES, _MEASURES = 0x91C7, 0x3EA5  # keep their streams apart from all others of the same seed


class RecipeError(ValueError):
    """A switch does not fit the data or another switch; the message is the sentence that says so."""


@dataclass
class Findings:
    """What measures found: rows to print, numbers to keep (JSON), and pictures by file name; and what could not be
    found, with the reason."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    values: dict = field(default_factory=dict)
    pictures: dict[str, object] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """What may fail without the rest, whatever the error: then `missing` says why. A measure is never worth more
        than the model that it measures, and that is saved."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is found where it is measured
                yield
        except Exception as error:
            self.missing[what] = sentence(error)


class Recipe:
    """Built from a run's config alone, so that a run can be taken up again by anyone who has its folder.

    `settled(config, data)` fills in what depends on the data, before the config is written. A subclass sets `model`
    in `build`, and writes `step`; the rest says what users see.
    """

    name: str
    title: str  # for a heading
    defaults: Mapping[str, object]  # of epochs, batch_size, lr
    panels = health = ()  # plots.Panel of the losses, and of what tells whether training is healthy
    has_encoder = has_prior = False
    drop_last = False
    always_measured = False  # at the end of training, asked for or not
    measured_by_epoch = False  # by `quality(data)`, where asked for
    points: type["Recipe"] | None = None  # the recipe in its place for points in the plane

    model: Model
    optimizers: dict[str, Optimizer]

    def __init__(self, config: Mapping):
        self.config = config
        self.backend = config.get("backend", "numpy")
        if self.backend == "cupy":  # for the whole process: the recipe that is built last says how
            load_kernels("cupy").set_precision(config.get("precision", "float32"))
        self.build(np.random.default_rng(config["seed"]))
        self.model.to(self.backend)
        self.optimizers = self.make_optimizers()

    def __repr__(self):
        return f"<{type(self).__name__}: {self.describe()}>"

    # --- switches ---

    @classmethod
    def add_options(cls, option) -> None:
        """Add the model's own switches: option(name, help=..., type=..., choices=..., ...). What a value needs to be
        on the command line it needs to be in a run's config."""

    @classmethod
    def settled(cls, config: dict, data) -> dict:
        """The config with what depends on the data filled in. RecipeError when the two do not fit."""
        if isinstance(data, Points) and cls.points is not None:
            return cls.points.settled(config, data)
        if isinstance(data, Points):
            raise RecipeError(f"train {cls.name} needs images, {data.name} are points: try train gan")
        return cls.filled(config, cls.defaults, len(data.train_images)) | {"image_shape": list(data.image_shape)}

    @staticmethod
    def filled(config: dict, defaults: Mapping, samples: int) -> dict:
        """The config with defaults where a switch was not given, and a batch no larger than the data."""
        config = {**defaults, **{key: value for key, value in config.items() if value is not None}}
        return config | {"batch_size": min(config["batch_size"], samples)}

    # --- the model ---

    def build(self, rng: np.random.Generator) -> None:
        """Set `self.model` from `self.config`."""
        raise NotImplementedError

    def make_optimizers(self) -> dict[str, Optimizer]:
        return {"optimizer": Adam(self.model.parameters(), self.config["lr"])}

    def samples_of(self, data) -> np.ndarray:
        """What is trained on."""
        return data.train_images

    def step(self, batch, rng: np.random.Generator, watch) -> None:
        """One training step on a batch of the model's backend; noise is drawn on the host from rng."""
        raise NotImplementedError

    # --- what users see ---

    def describe(self) -> str:
        """The model in a line."""
        size = sum(p.value.size for p in self.model.parameters())
        return f"{self.title}, {size:,} parameters"

    def epoch_measures(self, data) -> Findings:
        """Cheap measures after each epoch: its `values` go into the epoch's record."""
        return Findings()

    def line(self, record: Mapping) -> str:
        """An epoch's record for the terminal; measures may be missing in it."""
        raise NotImplementedError

    def symptoms(self, epochs: Sequence[Mapping]) -> dict[str, str]:
        """What ails the training by the records of its epochs so far: kinds, each with a sentence and what to try."""
        return {}

    def advice(self, *, updated: bool) -> str:
        """What to try where a number is no longer finite; `updated` when weights had been updated before."""
        if updated:
            return "try a lower learning rate"
        return "no weight was updated before, so it is not the learning rate; look at the data and the settings"

    def for_long(self, epochs: Sequence[Mapping], fits: Callable[..., bool], *keys: str) -> bool:
        """Whether the numbers of these keys fit in each of the last PATIENCE epochs, or in all of a shorter run."""
        long = min(PATIENCE, self.config["epochs"])
        numbers = [[r.get(key) for key in keys] for r in epochs[-long:]]
        there = all(isinstance(number, int | float) for each in numbers for number in each)
        return there and len(epochs) >= long and all(fits(*each) for each in numbers)

    def sheet(self, data):
        """The picture that shows how far training is, always of the same images and noise."""
        raise NotImplementedError

    def measure(self, data, **options) -> Findings:
        """Everything that `scratchgen evaluate` says."""
        raise NotImplementedError

    # --- in common ---

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.config["image_shape"])

    @property
    def numbers(self) -> int:
        """Of one sample: pixels and channels, or coordinates."""
        return int(np.prod(self.config["image_shape"])) if "image_shape" in self.config else self.config["dimensions"]

    def picture_rng(self) -> np.random.Generator:
        """The same noise for every picture of the run."""
        return np.random.default_rng(np.random.SeedSequence(self.config["seed"], spawn_key=(_PICTURES,)))

    def measure_rng(self) -> np.random.Generator:
        """The same noise for every measure of the run."""
        return np.random.default_rng(np.random.SeedSequence(self.config["seed"], spawn_key=(_MEASURES,)))

    def on_host(self, function, x) -> np.ndarray:
        """function(x) for a NumPy array, computed on the model's backend, BLOCK samples at a time; ValueError when it
        is not finite."""
        starts = range(0, len(x) or 1, BLOCK)  # of no samples the layers say that they need one
        blocks = (transfer(x[i : i + BLOCK], self.backend) for i in starts)
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.concatenate([to_host(function(block)) for block in blocks])
        self.demand_finite(y)
        return y

    def demand_finite(self, *found) -> None:
        """ValueError, with what to try, when a number that the model computed is not finite."""
        if not all(np.isfinite(numbers).all() for numbers in found):
            remedy = self.advice(updated=True)
            raise ValueError(f"what the model computes is not finite, its weights are too large: {remedy}")


def formatted(record: Mapping, key: str, form: str) -> str:
    """A number of a record in this form, or a dash of the same width where it is missing."""
    number = record.get(key)
    return f"{number:{form}}" if number is not None else f"{'–':>{form.partition('.')[0] or 1}}"


def sized(config: dict, *, hidden: list[int]) -> dict:
    """The config with the sizes of its --arch; RecipeError for a size that the other one has."""
    arch, other, default = config["arch"], "width", {"hidden": hidden}
    if arch == "conv":
        other, default = "hidden", {"width": 32}
    if other in config:
        raise RecipeError(f"--{other} is not of --arch {arch}, which has --{next(iter(default))}")
    return {**default, **config}


def typical(data: Dataset, count: int) -> np.ndarray:
    """The numbers of `count` test images to show: one of each class as far as there are classes, then the first."""
    n = len(data.test_images)
    first: list[int] = []
    if data.test_labels is not None:
        first = [int(np.flatnonzero(data.test_labels == k)[0]) for k in np.unique(data.test_labels)]
    rest = np.setdiff1d(np.arange(n), first)
    return np.concatenate([np.array(first, int), rest])[:count]
