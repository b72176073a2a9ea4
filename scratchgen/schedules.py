"""Learning-rate schedules: which share of the learning rate a step gets. By hand, in a loop of one's own:

    for step in range(steps):
        optimizer.lr = 1e-3 * share(cosine, step, steps, warmup=100)

A schedule is a function of progress, from 0 at the first step towards 1 after the last, that begins with share 1. The
share stays above 0 in every step, as an optimizer's lr must.

Chapter: demos/book/07-optimizers.md
"""

from collections.abc import Callable
from math import cos, pi
from typing import TypeAlias

from scratchgen import checks

Schedule: TypeAlias = Callable[[float], float]


def constant(progress: float) -> float:
    """1 all the way."""
    return 1.0


def linear(progress: float) -> float:
    """1 − progress: down to 0 at the same pace."""
    return 1 - progress


def cosine(progress: float) -> float:
    """½ (1 + cos(π · progress)): down to 0, slowly at first and in the end.

    As cos²(½ π · progress), which is the same and keeps its digits near 0. (Loshchilov & Hutter 2017, eq. 5, without
    restarts.)
    """
    return cos(pi / 2 * progress) ** 2


SCHEDULES: dict[str, Schedule] = {"none": constant, "linear": linear, "cosine": cosine}  # as --decay has them


def share(schedule: Schedule, step: int, steps: int, *, warmup: int = 0) -> float:
    """The share of the learning rate for a step of 0 … steps − 1: a warm-up, and the schedule over the rest.

        (step + 1) / (warmup + 1)                            while step < warmup
        schedule((step − warmup) / (steps − warmup))         from then on

    At first gradients are large, and Adam's moments are estimates from a few steps. A warm-up keeps the steps short
    until that has passed. (Goyal et al. 2017, §2.2.) ValueError unless 0 ≤ step < steps and 0 ≤ warmup < steps.
    """
    if checks.integer("share", "step", step, least=0) >= checks.integer("share", "steps", steps):
        raise ValueError(f"share: step is {step}, needs to be below {steps}, the number of steps")
    if checks.integer("share", "warmup", warmup, least=0) >= steps:
        raise ValueError(f"share: warmup is {warmup}, needs to be below {steps}, the number of steps")
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return schedule((step - warmup) / (steps - warmup))
