"""Settings of a run: what each needs to be, on the command line and in config.json, and which make up the run."""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from scratchgen.backend import BACKENDS
from scratchgen.backend.threads import MOST as MOST_THREADS
from scratchgen.paths import as_path
from scratchgen.schema import Choice, ImageSize, Kind, Real, Several, Whole, flag, text

PRECISIONS = ("float32", "tf32")
MOST_SEED = 2**128 - 1  # the bits of entropy that NumPy's own seeds have

positive = Whole(1)
threads = Whole(1, most=MOST_THREADS)
seed = Whole(0, most=MOST_SEED)
rate = Real(lambda x: x > 0, "a positive number")
non_negative = Real(lambda x: x >= 0, "a number of at least 0")
fraction = Real(lambda x: 0 <= x < 1, "a number of at least 0 and below 1")
sizes = Several(positive, "whole numbers of at least 1, as in 512,128")

COMMON: dict[str, Kind] = {  # the switches of every recipe; those of one are in its `add_options`
    "data": text,
    "image_size": ImageSize(),
    "channels": Choice((1, 3)),
    "epochs": positive,
    "batch_size": positive,
    "lr": rate,
    "decay": Choice(("none", "linear")),
    "seed": seed,
    "backend": Choice(BACKENDS),
    "precision": Choice(PRECISIONS),
    "threads": threads,
    "save_every": positive,
    "keep_weights": flag,
    "evaluate": flag,
}
FOUND: dict[str, Kind] = {  # what is in a config beside the switches
    "model": text,
    "image_shape": Several(positive, "three whole numbers of at least 1: height, width, channels", count=3),
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


def path(text: str) -> Path:
    """For argparse: a path, which is no setting of a run."""
    try:
        return as_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class Lacking(ValueError):
    """A setting that is asked for is not there."""


class Config(dict):
    """The settings of a run, from `source`; Lacking, which names it, when one that is not there is asked for."""

    def __init__(self, settings: Mapping, source: object = "the run's config"):
        super().__init__(settings)
        self.source = source

    def __missing__(self, key):
        raise Lacking(f"{self.source} lacks {key!r}")


def identity(config: Mapping) -> str:
    """What tells runs apart: a digest of all settings that make their numbers, the data's own digest among them."""
    settings = {key: value for key, value in config.items() if key not in BESIDE}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
