"""Settings of a run: what each needs to be, on the command line and in config.json, and which make up the run."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, NoReturn

from scratchgen.backend import BACKENDS
from scratchgen.backend.threads import MOST as MOST_THREADS
from scratchgen.data import AUGMENTATIONS
from scratchgen.schedules import SCHEDULES
from scratchgen.schema import MOST, Kind, choice, flag, real, several, text, whole

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
MOMENTUM, WEIGHT_DECAY = 0.0, 0.01  # where they are not given
PRECISIONS = ("float32", "tf32")
FEW = 5000  # training images, up to which there are other defaults
MOST_SEED = 2**128 - 1  # the bits of entropy that NumPy's own seeds have

positive = whole(1)
threads = whole(1, most=MOST_THREADS)
seed = whole(0, most=MOST_SEED)
rate = real(lambda x: x > 0, "a positive number")
non_negative = real(lambda x: x >= 0, "a number of at least 0")
fraction = real(lambda x: 0 <= x < 1, "a number of at least 0 and below 1")
sizes = several(positive, "whole numbers of at least 1, as in 512,128")


def some_of(names: Collection[str]) -> Kind:
    """A list of some of these names, each once, or of "none" alone."""

    def fits(value: Any) -> bool:
        known = isinstance(value, list) and len(value) > 0 and all(name in names for name in value)
        return value == ["none"] or (known and len({*value}) == len(value))

    form = f"none, or one or more of {', '.join(names)}, as in {','.join([*names][-2:])}"
    return Kind(form, fits, lambda text: text.split(","))


def _read_image_size(text: str) -> int | list[int]:
    """N and NxN are N, HxW is [H, W]."""
    sides = [int(side) for side in text.lower().replace("×", "x").split("x")]
    return sides[0] if len(sides) == 1 or (sides[0] == sides[-1] and len(sides) == 2) else sides


image_size = Kind(
    "a size in pixels, N for squares or HEIGHTxWIDTH, as in 64 or 32x64",
    lambda value: (
        all(map(positive.fits, value)) and len(value) == 2 if isinstance(value, list) else positive.fits(value)
    ),
    _read_image_size,
    MOST,
)


class Option(NamedTuple):
    """A setting that the command line has as --name; its help ends with the default, where there is one."""

    kind: Kind
    help: str
    default: Any = None
    metavar: str | None = None


COMMON = {  # the options of every recipe; in help, `names` are those of data, and `when` is a moment
    "data": Option(
        text,
        "a name: {names}; or a folder: of your own images, of IDX files as MNIST and Fashion-MNIST have them, or of "
        "CIFAR-10's binary files; without it the folder in SCRATCHGEN_DATA, else the sample: 10,000 digits that come "
        "with scratchgen",
        metavar="NAME|DIR",
    ),
    "image_size": Option(
        image_size,
        "cut out the middle and resize it to N×N pixels, or height × width (default: unchanged; folder: 64)",
        metavar="N|HxW",
    ),
    "channels": Option(choice((1, 3)), "1: grey, 3: coloured (default: unchanged; folder: 3)"),
    "epochs": Option(positive, "passes over the data", metavar="N"),
    "steps": Option(positive, "training steps, instead of --epochs: as many epochs as make that many", metavar="N"),
    "batch_size": Option(positive, "samples per step", metavar="N"),
    "lr": Option(rate, "learning rate", metavar="X"),
    "optimizer": Option(
        choice(OPTIMIZERS), "sgd needs ten times the learning rate of the others, or more", default="adam"
    ),
    "momentum": Option(fraction, f"of --optimizer sgd (default: {MOMENTUM:g})", metavar="X"),
    "weight_decay": Option(non_negative, f"of --optimizer adamw (default: {WEIGHT_DECAY})", metavar="X"),
    "decay": Option(
        choice(SCHEDULES), "linear and cosine lower the learning rate to 0 by the last epoch", default="none"
    ),
    "warmup": Option(
        whole(0), "steps at the start in which the learning rate grows to its full size", default=0, metavar="N"
    ),
    "augment": Option(
        some_of(AUGMENTATIONS),
        "what images go through each time they are shown: flip (mirrored left to right), crop (a part of them, "
        "enlarged), shift (moved by a few pixels), more than one as in flip,crop; or none (default: flip,crop for up "
        f"to {FEW:,} images of your own without labels, else none)",
        metavar="NAME,NAME",
    ),
    "seed": Option(seed, "of first weights, noise and the order of the data", default=0, metavar="N"),
    "backend": Option(choice(BACKENDS), "cupy runs on an NVIDIA GPU", default="numpy"),
    "precision": Option(
        choice(PRECISIONS),
        "of matrix products on the GPU: tf32 its tensor cores multiply elements rounded to 10 bits, faster",
        default="float32",
    ),
    "threads": Option(
        threads,
        "of the kernels; without it SCRATCHGEN_THREADS, else one a core. Any number gives the same bits",
        metavar="N",
    ),
    "save_every": Option(positive, "seconds between checkpoints", default=60, metavar="S"),
    "sample_every": Option(
        positive,
        "epochs from one sheet of samples, with its measures and its line, to the next (default: 1, and more in a "
        "long run or where an epoch has few steps)",
        metavar="N",
    ),
    "keep_weights": Option(flag, "keep the weights of every epoch that has a sheet, in weights/", default=False),
    "evaluate": Option(flag, "measure as `scratchgen evaluate` does, {when}", default=False),
}
FOUND: dict[str, Kind] = {  # what is in a config beside these
    "model": text,
    "image_shape": several(positive, "three whole numbers of at least 1: height, width, channels", count=3),
    "dimensions": positive,
    "modes": positive,
    "scale": positive,
    "parameters": positive,
    "data_name": text,
    "data_sha256": text,
    "scratchgen": text,
    "id": text,
}
# What a resumed run may be given anew; with other values of these, and of what follows from them, it is the same run.
FREE = (
    *("data", "epochs", "steps", "threads", "save_every", "sample_every", "backend", "precision", "keep_weights"),
    "evaluate",
)
NOT_IDENTITY = (*FREE, "data_name", "parameters", "scratchgen", "id")


class Lacking(ValueError):
    """A setting that is asked for is not there."""


class Config(dict[str, Any]):
    """The settings of a run, from `source`; Lacking, which names it, when one that is not there is asked for."""

    def __init__(self, settings: Mapping[str, Any], source: object = "the run's config"):
        super().__init__(settings)
        self.source = source

    def __missing__(self, key: str) -> NoReturn:
        raise Lacking(f"{self.source} lacks {key!r}")


def identity(config: Mapping[str, Any]) -> str:
    """What tells runs apart: a digest of all settings that decide their results, that of the data among them."""
    settings = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
