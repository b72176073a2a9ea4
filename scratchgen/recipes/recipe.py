"""What the training of one kind of model consists of: its options, networks, step, pictures and measures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from scratchgen.backend import Array, load_kernels, to_host, transfer
from scratchgen.data import AUGMENTATIONS, Dataset, Points
from scratchgen.data.resize import MODES
from scratchgen.errors import sentence
from scratchgen.layers.parameter import Parameter
from scratchgen.models import GAN, VAE, Autoencoder
from scratchgen.notebook import block, picture
from scratchgen.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from scratchgen.plots import Panel
from scratchgen.recipes.options import COMMON, FEW, MOMENTUM, WEIGHT_DECAY, Option
from scratchgen.training import RunFolder, steps_per_epoch

BLOCK = 500  # samples at a time
LEAST = 1000  # training images, below which not much is to be expected of new ones
_PICTURES, _MEASURES = 0x91C7, 0x3EA5  # keep their streams apart from all others of the same seed

D = TypeVar("D", Dataset, Points)


class RecipeError(ValueError):
    """An option does not fit the data or another option; the message is the sentence that says so."""


@dataclass
class Findings:
    """What measures found: rows to print, values to keep (JSON), and pictures by file name; and what could not be
    made, with the reason."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
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


class Recipe(Generic[D]):
    """Built from a run's config alone, so that anyone who has its folder can resume a run.

    `resolve_config(config, data)` fills in what depends on the data, before the config is written. A subclass sets
    `model` in `build`, and writes `step`; the rest is what users see.
    """

    name: str
    title: str  # for a heading
    help: str
    description: str
    options: ClassVar[Mapping[str, Option]] = {}  # the model's own
    defaults: ClassVar[Mapping[str, Any]]  # of epochs, batch_size and lr, and others instead of the options' own
    few: ClassVar[Mapping[str, Any]] = {}  # the same for FEW images or fewer; `steps` is the least number of updates
    before: ClassVar[Mapping[str, Any]] = {}  # what a run of an earlier version was, whose config lacks these
    mark_steps = 50  # updates between two records, at the least, so that these cost little beside them
    sheet_steps = 50  # the same of sheets of samples
    has_encoder = has_prior = False
    drop_last = False
    always_measured = False  # at the end of training, asked for or not
    measured_by_epoch = False  # by `quality(data)`, where asked for
    points: "ClassVar[type[Recipe[Points]] | None]" = None  # the recipe in its place for points in the plane

    model: Autoencoder | VAE | GAN
    optimizers: dict[str, Optimizer]
    _folder: RunFolder | None = None

    def __init__(self, config: Mapping[str, Any]):
        self.config = config
        self.backend = config.get("backend", "numpy")
        if self.backend == "cupy":  # for the whole process: the recipe that is built last says how
            load_kernels("cupy").set_precision(config.get("precision", "float32"))
        self.build(np.random.default_rng(config["seed"]))
        self.model.to(self.backend)
        self.optimizers = self.make_optimizers()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.describe()}>"

    @property
    def folder(self) -> RunFolder:
        """Of a trained run. AttributeError where there is none."""
        if self._folder is None:
            raise AttributeError("there is no run folder yet: scratchgen.train and load_run give a run that has one")
        return self._folder

    @folder.setter
    def folder(self, folder: RunFolder) -> None:
        self._folder = folder

    def _repr_html_(self) -> str | None:
        """For a notebook: the last sheet of samples, and the curves."""
        if self._folder is None:
            return None
        folder: RunFolder = self._folder
        sheets: list[Path] = [p for p in (*folder.sheets(), folder.latest_sheet) if p.is_file()]
        pictures = [p for p in (*sheets[-1:], folder.path / "losses.png") if p.is_file()]
        shown = (picture(p.read_bytes(), "curves" if p.stem == "losses" else "the last sheet") for p in pictures)
        return block(self.describe(), *shown, about=f"in {folder.path}")

    # --- the config ---

    @classmethod
    def of_data(cls, data: Dataset | Points) -> "type[Recipe[Any]]":
        """The recipe for such data. RecipeError when there is none."""
        if not isinstance(data, Points):
            return cls
        if cls.points is None:
            raise RecipeError(f"train {cls.name} needs images, {data.name} are points: try train gan")
        return cls.points

    @classmethod
    def all_options(cls) -> dict[str, Option]:
        """The model's own, and those of every model."""
        return {**cls.options, **{k: v for k, v in COMMON.items() if k != "evaluate" or not cls.always_measured}}

    @classmethod
    def resolve_config(cls, given: dict[str, Any], data: D) -> dict[str, Any]:
        """The config of a run from what was given: with defaults, and with what depends on the data, its shape and a
        batch no larger. RecipeError when the two do not fit."""
        own = {name: option.default for name, option in cls.all_options().items() if option.default is not None}
        config = {"model": cls.name, **own, **cls.defaults}
        least, size = 0, len(data.samples)
        if isinstance(data, Points):
            config["dimensions"] = data.train.shape[1]
            if "augment" in given:
                raise RecipeError("--augment is for images, points are shown as they are")
        else:
            config["image_shape"] = list(data.image_shape)
            if not len(data.test_images):
                raise RecipeError(f"{data.name}: there are no test images, needs at least one")
            if data.image_shape[2] not in MODES and given.get("augment", ["none"]) != ["none"]:
                raise RecipeError(
                    f"--augment is for grey and coloured images, these have {data.image_shape[2]} channels"
                )
            if size <= FEW:
                config |= cls.few
                least = config.pop("steps", 0)
                if data.train_labels is None and data.image_shape[2] in MODES:
                    config["augment"] = ["flip", "crop"]
        config |= given
        _settle_optimizer(config, given)
        config["batch_size"] = min(config["batch_size"], size)
        for name in ("augment", "d_augment"):
            if config.get(name) == ["none"]:
                del config[name]  # as in a run from before there was any
        if "augment" in config:
            config["augment"] = [kind for kind in AUGMENTATIONS if kind in config["augment"]]
        if "steps" in given:
            config["epochs"] = cls.epochs_of(config.pop("steps"), size, config["batch_size"])
        elif "epochs" not in given:
            config["epochs"] = max(config["epochs"], cls.epochs_of(least, size, config["batch_size"]))
        return config

    @classmethod
    def epochs_of(cls, steps: int, samples: int, batch_size: int) -> int:
        """The epochs in which there are so many steps."""
        return -(-steps // max(1, steps_per_epoch(samples, batch_size, cls.drop_last)))

    # --- the model ---

    def build(self, rng: np.random.Generator) -> None:
        """Set `self.model` from `self.config`."""
        raise NotImplementedError

    def make_optimizers(self) -> dict[str, Optimizer]:
        return {"optimizer": self.optimizer(self.model.parameters(), self.config["lr"])}

    def optimizer(self, parameters: Sequence[Parameter], lr: float, beta1: float = 0.9) -> Optimizer:
        """The one that the config names, Adam where it names none, as configs of 0.1 do."""
        c = self.config
        match c.get("optimizer", "adam"):
            case "sgd":
                return SGD(parameters, lr, c["momentum"])
            case "rmsprop":
                return RMSprop(parameters, lr)
            case "adamw":
                return AdamW(parameters, lr, (beta1, 0.999), weight_decay=c["weight_decay"])
            case _:
                return Adam(parameters, lr, (beta1, 0.999))

    def step(self, batch: Array, rng: np.random.Generator) -> dict[str, Array]:
        """One training step on a batch of the model's backend, and its losses by name, in the order in which they
        were computed, as 0-d arrays; noise is drawn on the host from rng."""
        raise NotImplementedError

    # --- what the model does, for arrays on the host ---

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Latent codes (N, latent) of images in [0, 1]; where `has_encoder`, as the two below."""
        raise NotImplementedError

    def decode(self, z: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def noise(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws (count, latent) from the prior; where `has_prior`, as the one below."""
        raise NotImplementedError

    def generate(self, z: np.ndarray) -> np.ndarray:
        """Images in [0, 1], or points."""
        raise NotImplementedError

    # --- what users see ---

    @property
    def panels(self) -> Sequence[Panel]:
        """Of the losses and of what they are to lead to."""
        return ()

    @property
    def health(self) -> Sequence[Panel]:
        """Of what tells whether training is healthy."""
        return ()

    @property
    def parameter_count(self) -> int:
        return sum(p.value.size for p in self.model.parameters())

    def describe(self) -> str:
        """The model in a line."""
        return f"{self.title}, {self.parameter_count:,} parameters"

    def epoch_measures(self, data: D) -> Findings:
        """Cheap measures after each epoch: its `values` go into the epoch's record."""
        return Findings()

    def quality(self, data: D, *, progress: bool = True) -> dict[str, Any]:
        """Dearer measures, which `measured_by_epoch` allows after each epoch where they are asked for."""
        return {}

    def line(self, r: Mapping[str, Any]) -> str:
        """An epoch's record for the terminal; measures may be missing in it."""
        raise NotImplementedError

    def symptoms(self, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """What is wrong with the training, by the records of its epochs so far: names, each with a sentence."""
        return {}

    def expectations(self, data: D) -> list[str]:
        """What to expect of such data, where that is less than one would hope for: sentences."""
        return []

    def advice(self, *, updated: bool) -> str:
        """What to try where a value is no longer finite; `updated` when weights had been updated before."""
        if updated:
            return "try a lower learning rate"
        return "no weight was updated before, so it is not the learning rate; look at the data and the settings"

    def sheet(self, data: D) -> object:
        """The picture that shows how far training is, always of the same images and noise."""
        raise NotImplementedError

    def measure(self, data: D, **options: Any) -> Findings:
        """Everything that `scratchgen evaluate` says."""
        raise NotImplementedError

    # --- in common ---

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.config["image_shape"]
        return height, width, channels

    @property
    def sample_size(self) -> int:
        """Elements of one sample: pixels times channels, or coordinates."""
        return prod(self.config["image_shape"]) if "image_shape" in self.config else self.config["dimensions"]

    def picture_rng(self) -> np.random.Generator:
        """The same noise for every picture of the run."""
        return np.random.default_rng(np.random.SeedSequence(self.config["seed"], spawn_key=(_PICTURES,)))

    def measure_rng(self) -> np.random.Generator:
        """The same noise for every measure of the run."""
        return np.random.default_rng(np.random.SeedSequence(self.config["seed"], spawn_key=(_MEASURES,)))

    def on_host(self, function: Callable[[Array], Array], x: np.ndarray) -> np.ndarray:
        """function(x) for a NumPy array, computed on the model's backend, BLOCK samples at a time; ValueError when it
        is not finite."""
        starts = range(0, len(x) or 1, BLOCK)  # of no samples the layers say that they need one
        blocks = (transfer(x[i : i + BLOCK], self.backend) for i in starts)
        with np.errstate(over="ignore", invalid="ignore"):
            y = np.concatenate([to_host(function(block)) for block in blocks])
        self.demand_finite(y)
        return y

    def demand_finite(self, *arrays: ArrayLike) -> None:
        """ValueError, with what to try, when something that the model computed is not finite."""
        if not all(np.isfinite(array).all() for array in arrays):
            whose = "its weights" if self._folder is None else f"the weights in {self._folder.trained}"
            remedy = self.advice(updated=True)
            raise ValueError(f"what the model computes is not finite, {whose} are too large: {remedy}")


def _settle_optimizer(config: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put the optimizer's own settings into the config; RecipeError where one was given that is of another."""
    owners = {"momentum": ("sgd",), "weight_decay": ("adamw",), "beta1": ("adam", "adamw")}
    for name, optimizers in owners.items():
        if name in given and config["optimizer"] not in optimizers:
            option, needed = name.replace("_", "-"), " or ".join(optimizers)
            raise RecipeError(f"--{option} is of --optimizer {needed}, and this is {config['optimizer']}")
    for name, default in (("momentum", MOMENTUM), ("weight_decay", WEIGHT_DECAY)):
        if config["optimizer"] in owners[name]:
            config.setdefault(name, default)


def formatted(record: Mapping[str, Any], key: str, form: str) -> str:
    """A value of a record in this form, or a dash of the same width where it is missing."""
    value = record.get(key)
    return f"{value:{form}}" if value is not None else f"{'–':>{form.partition('.')[0] or 1}}"


def typical(data: Dataset, count: int) -> np.ndarray:
    """Indices of `count` test images to show: one of each class as far as there are classes, then the first."""
    n = len(data.test_images)
    first: list[int] = []
    if data.test_labels is not None:
        first = [int(np.flatnonzero(data.test_labels == k)[0]) for k in np.unique(data.test_labels)]
    rest = np.setdiff1d(np.arange(n), first)
    return np.concatenate([np.array(first, int), rest])[:count]
