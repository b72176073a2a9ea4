"""Training from Python, as the command line does it."""

from __future__ import annotations

import argparse
import os
from typing import Any

from scratchgen.commands import UsageError, did_you_mean
from scratchgen.commands.train import begin, resume
from scratchgen.data import Dataset, Points
from scratchgen.paths import as_path
from scratchgen.plots import load_matplotlib
from scratchgen.recipes import RECIPES, Recipe
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
    if model not in RECIPES:
        raise ValueError(f"train: model is {model!r}, needs one of {', '.join(RECIPES)}")
    recipe = RECIPES[model]
    options = recipe.all_options()
    for name, value in settings.items():
        if name not in options or name == "data":
            raise TypeError(f"train: {model} has no setting {name!r}{did_you_mean(name, options)}")
        settings[name] = value = list(value) if isinstance(value, tuple) else value
        try:
            options[name].kind.check(value)
        except ValueError as error:
            raise ValueError(f"train: {name} {error}") from None
    given = {
        **dict.fromkeys(options),
        **settings,
        "data": data if isinstance(data, Dataset | Points | None) else str(data),
    }
    places = {"out": out and as_path(out), "resume": resume_from and as_path(resume_from)}
    load_matplotlib()
    try:
        run = (resume if resume_from else begin)(
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
