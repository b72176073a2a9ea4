"""Settings of a run: what each needs to be, on the command line and in config.json, and which make up the run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from scratchgen.backend import BACKENDS
from scratchgen.backend.threads import MOST as MOST_THREADS
from scratchgen.schema import MOST, Kind, choice, flag, real, several, text, whole

PRECISIONS = ("float32", "tf32")
MOST_SEED = 2**128 - 1  # the bits of entropy that NumPy's own seeds have

positive = whole(1)
threads = whole(1, most=MOST_THREADS)
seed = whole(0, most=MOST_SEED)
rate = real(lambda x: x > 0, "a positive number")
non_negative = real(lambda x: x >= 0, "a number of at least 0")
fraction = real(lambda x: 0 <= x < 1, "a number of at least 0 and below 1")
sizes = several(positive, "whole numbers of at least 1, as in 512,128")


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
    """A setting of one kind of model, which the command line has as --name."""

    kind: Kind
    help: str
    default: object = None
    metavar: str | None = None


COMMON: dict[str, Kind] = {  # the settings of every recipe; those of one are its `options`
    "data": text,
    "image_size": image_size,
    "channels": choice((1, 3)),
    "epochs": positive,
    "batch_size": positive,
    "lr": rate,
    "decay": choice(("none", "linear")),
    "seed": seed,
    "backend": choice(BACKENDS),
    "precision": choice(PRECISIONS),
    "threads": threads,
    "save_every": positive,
    "keep_weights": flag,
    "evaluate": flag,
}
FOUND: dict[str, Kind] = {  # what is in a config beside these
    "model": text,
    "image_shape": several(positive, "three whole numbers of at least 1: height, width, channels", count=3),
    "dimensions": positive,
    "scale": positive,
    "parameters": positive,
    "data_name": text,
    "data_sha256": text,
    "scratchgen": text,
    "id": text,
}
FREE = ("data", "epochs", "threads", "save_every", "backend", "precision")  # what a resumed run may be given anew
# with another one of these it is the same run
BESIDE = (*FREE, "keep_weights", "evaluate", "data_name", "parameters", "scratchgen", "id")


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
    settings = {key: value for key, value in config.items() if key not in BESIDE}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
