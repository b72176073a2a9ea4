"""A checkpoint: all that a training run needs to go on as if it had never stopped."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen.backend import to_host
from scratchgen.layers.module import Module
from scratchgen.optim import Optimizer
from scratchgen.safetensors_file import read_arrays, write_arrays
from scratchgen.training.watch import NotFinite


def save_checkpoint(
    path: str | os.PathLike[str], model: Module, optimizers: dict[str, Optimizer], position: dict[str, Any]
) -> None:
    """Write weights, BatchNorm statistics, the state of each optimizer, and `position` (what JSON can hold).

    NotFinite, and the old checkpoint stays, when an element of them is not.
    """
    owners: dict[str, Module | Optimizer] = {"model": model, **optimizers}
    arrays = {f"{key}/{name}": to_host(a) for key, owner in owners.items() for name, a in owner.state().items()}
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            raise NotFinite(f"{name.removeprefix('model/')} is no longer finite")
    write_arrays(path, arrays, position)


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizers: dict[str, Optimizer],
    *,
    check: Callable[[dict], None] = lambda position: None,
) -> dict[str, Any]:
    """Set model and optimizers to what the checkpoint holds, and return its position, which `check` may refuse.

    FileNotFoundError; ValueError naming the file, before anything changes, when it is damaged or of another model.
    """
    arrays, position = read_arrays(path)
    try:
        check(position)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        why = f"its position lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} does not fit this run: {why}") from None
    owners: dict[str, Module | Optimizer] = {"model": model, **optimizers}
    parts: dict[str, dict] = {key: {} for key in owners}
    for name, a in arrays.items():
        key, _, rest = name.partition("/")
        if key not in parts:
            raise ValueError(f"{path} has {name}, which is not part of this model")
        if not np.isfinite(a).all():
            raise ValueError(f"{path} is damaged: {name} holds elements that are not finite")
        parts[key][rest] = a
    before = {key: {n: a.copy() for n, a in owner.state().items()} for key, owner in owners.items()}
    try:
        for key, owner in owners.items():
            owner.load_state(parts[key])
    except (ValueError, TypeError) as error:
        for key, owner in owners.items():
            owner.load_state(before[key])
        raise ValueError(f"{path} does not fit this model: {error}") from None
    return position
