"""What an exercise is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchgen.gradcheck import TensorReport


@dataclass
class Result:
    """What became of an answer: `ok`, what is wrong with it in a sentence each, the details as text (the tables of
    the gradient check, say), `figures` as text that go below the sentences, and the gradients that were checked last.
    """

    ok: bool
    faults: list[str] = field(default_factory=list)
    details: str = ""
    figures: str = ""
    gradients: list[TensorReport] = field(default_factory=list)

    def add(self, faults: list[str]) -> None:
        """More that is wrong, if anything is."""
        self.faults += faults
        self.ok = self.ok and not faults


@dataclass(frozen=True)
class Exercise:
    """A task whose answer is proved.

    `name` is also that of its file, NAME.py, whose skeleton is `skeletons/NAME.py`: the forward map, its formula in
    the docstring, and an empty backward. `target` is the class or function that the file defines. `hints` go from a
    nudge to nearly the answer. `prove` takes the module that the file makes, and draws what it needs from rng.
    """

    name: str
    title: str
    target: str
    hints: tuple[str, str, str]
    prove: Callable[[Any, np.random.Generator], Result]
