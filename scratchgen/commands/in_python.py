"""Training from Python, as the command line does it."""

from __future__ import annotations

import argparse
import os
from typing import Any

import numpy as np

from scratchgen.commands import UsageError, did_you_mean
from scratchgen.commands.train import begin, resume
from scratchgen.data import Dataset, Points
from scratchgen.paths import as_path
from scratchgen.plots import warm_up
from scratchgen.recipes import RECIPES, Recipe
from scratchgen.schema import Kind
from scratchgen.training import Stopped


def train(
    model: str,
    data: str | os.PathLike[str] | Dataset | Points | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume_from: str | os.PathLike[str] | None = None,
    force: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Recipe[Any]:
    """Train a model as `scratchgen train MODEL` does, and return the run.

        run = train("vae", latent=2, epochs=10)      # on the embedded digits; or "mnist", "ring", a folder of photos
        run                                          # in a notebook: its last sheet and its curves
        run.generate(run.noise(16, rng)), run.encode(images), run.decode(z), run.reconstruct(images), run.model
        run.folder.path, run.folder.records()        # where it lives, and its metrics, a dict each

    `model` is "ae", "vae", "gan" or "dcgan". `settings` are the options of the command line, with _ for -: `epochs`,
    `steps`, `batch_size`, `lr`, `latent`, … (`scratchgen train vae --help`). `data` may be a `Dataset` or `Points` as
    well. The run's folder is `out`, or a new one in runs/; with `resume_from` it goes on with the run in that folder.
    `quiet` leaves out progress bars.

    Raises ValueError or TypeError for settings that are not what they need to be, before anything is written;
    FileExistsError for an `out` with something in it; KeyboardInterrupt when it was stopped, and ArithmeticError when
    a value was no longer finite: what was trained is in the folder.
    """
    if not isinstance(model, str) or model not in RECIPES:
        raise ValueError(f"train: model is {model!r}, needs one of {', '.join(RECIPES)}")
    recipe = RECIPES[model]
    options = recipe.all_options()
    if not isinstance(data, str | os.PathLike | Dataset | Points | None):
        raise TypeError(
            f"train: data is {type(data).__name__}, needs a name, a path, or a Dataset or Points of scratchgen.data"
        )
    given: dict[str, Any] = dict.fromkeys(options)
    for name, value in settings.items():
        if name == "evaluate" and recipe.always_measured:
            continue
        if name not in options:
            raise TypeError(f"train: {model} has no setting {name!r}{did_you_mean(name, options)}")
        if value is not None:
            given[name] = _as_on_the_command_line(name, value, options[name].kind)
    given["data"] = data if isinstance(data, Dataset | Points | None) else os.fspath(data)
    places = {name: None if p is None else as_path(p) for name, p in (("out", out), ("resume", resume_from))}
    warm_up()
    try:
        run = (begin if resume_from is None else resume)(
            argparse.Namespace(**given, **places, recipe=recipe, force=force, quiet=quiet)
        )
    except UsageError as error:
        raise ValueError(f"train: {error}") from None
    if isinstance(run.failure, Stopped):
        raise KeyboardInterrupt from run.failure
    if run.failure is not None:
        raise run.failure
    run.recipe.folder = run.folder
    return run.recipe


def _as_on_the_command_line(name: str, value: Any, kind: Kind) -> Any:
    """The value that the command line reads for the same: so that the same run has the same name for itself."""
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    value = list(value) if isinstance(value, tuple) else value
    try:
        if isinstance(value, str) and kind.read is not str and not kind.choices:
            return kind.parse(value)
        kind.check(value)
    except ValueError as error:
        raise ValueError(f"train: {name} {error}") from None
    if isinstance(value, list) and name == "image_size" and value[0] == value[-1]:
        return value[0]
    return float(value) if kind.read is float else value
