"""Turns in rounds: all sides are timed side by side, so that what slows the machine for a while slows all alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchgen.backend import Array
from scratchgen.bench.children import Child

TURN = 0.3  # seconds, about
PAUSE = 0.05  # seconds between two turns, in which the threads of the last one stop spinning
LEAST_ROUNDS = 3
MOST_STEPS = 1000  # in a turn


@dataclass
class Lane:
    """One step of one side, and what its turns took: seconds of every step, by round."""

    name: str
    child: Child
    what: Any  # what the side makes: a setting as a dictionary, or the size of a matrix
    layout: str = ""
    images: int = 0
    parameters: int = 0
    steps: int = 1  # in a turn
    rounds: list[list[float]] = field(default_factory=list)

    def make(self, seed: int) -> None:
        """Build it in its process and warm it up there."""
        made = self.child.ask("make", lane=self.name, what=self.what, layout=self.layout, seed=seed)
        self.images, self.parameters = made["images"], made["parameters"]
        self.steps = int(np.clip(round(TURN / made["seconds"]), 1, MOST_STEPS))

    def turn(self) -> None:
        self.rounds.append(self.child.ask("turn", lane=self.name, steps=self.steps))

    @property
    def seconds(self) -> list[float]:
        """Of every timed step, or turn on a GPU."""
        return [seconds for turn in self.rounds for seconds in turn]

    @property
    def medians(self) -> Array:
        """Seconds a step, the median of each round."""
        return np.array([np.median(r) for r in self.rounds])


def alternate(
    lanes: list[Lane], *, rounds: int | None, seconds: float, tell: Callable[[int], None] = lambda done: None
) -> None:
    """Rounds in which every lane has a turn, there and back in turns; so many, or as many as fit in the seconds."""
    start, done = time.perf_counter(), 0
    while done < (LEAST_ROUNDS if rounds is None else rounds) or (
        rounds is None and time.perf_counter() - start < seconds
    ):
        for lane in lanes if done % 2 == 0 else reversed(lanes):
            time.sleep(PAUSE)
            lane.turn()
        done += 1
        tell(done)


def spread(values: Sequence[float] | Array) -> dict[str, float]:
    """The median, and what 10 % and 90 % lie below."""
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "p10": float(low), "p90": float(high)}
