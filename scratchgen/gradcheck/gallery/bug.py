"""What an entry of the gallery is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Case:
    """The thing with the bug, the same without it, and inputs that show the difference.

    For a bug that a gradient or contract check sees, what `gradcheck.check` takes: a layer or a function, and its
    inputs. For a bug of an objective, what `gradcheck.objective` takes: a model.
    """

    wrong: Any
    right: Any
    inputs: tuple = ()


@dataclass(frozen=True)
class Bug:
    """A mistake that published code has had.

    `name` is for the command line, `title` one line; `right` and `wrong` are the formula as it should be and as it
    was written; `symptom` is what its author saw; `sources` are addresses where it was reported (none: everybody
    meets it). `caught_by` says which check sees it. `cause` is a regular expression that matches a hint which names
    the cause, and no other. `make` draws the case, from another generator than the check draws dy from, or x and dy
    may be the same; `train` gives the loss over a small training with the bug (True) or without, or what `measure`
    says in its place: before each step, or `every` so many.
    """

    name: str
    title: str
    right: str
    wrong: str
    symptom: str
    sources: tuple[str, ...]
    caught_by: Literal["gradient", "contract", "objective"]
    cause: str
    make: Callable[[np.random.Generator], Case]
    train: Callable[[bool], list[float]]
    measure: str = "loss"
    every: int = 1
