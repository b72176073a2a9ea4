"""A checkpoint: all that a training run needs to go on as if it had never stopped."""

from collections.abc import Callable

import numpy as np

from scratchgen.backend import to_host
from scratchgen.layers.layer import Module
from scratchgen.optim import Optimizer
from scratchgen.safetensors_file import read_arrays, write_arrays
from scratchgen.training.watch import NotFinite


def save_checkpoint(path, model: Module, optimizers: dict[str, Optimizer], position: dict) -> None:
    """Write weights, BatchNorm statistics, the state of each optimizer, and `position` (what JSON can hold).

    NotFinite, and the old checkpoint stays, when a number among them is not.
    """
    arrays = {f"model/{name}": a for name, a in model.state().items()}
    for key, optimizer in optimizers.items():
        arrays |= {f"{key}/{name}": a for name, a in optimizer.state().items()}
    arrays = {name: to_host(a) for name, a in arrays.items()}
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            raise NotFinite(f"{name.removeprefix('model/')} is no longer finite")
    write_arrays(path, arrays, position)


def load_checkpoint(
    path, model: Module, optimizers: dict[str, Optimizer], *, check: Callable[[dict], None] | None = None
) -> dict:
    """Set model and optimizers to what the checkpoint holds, and return its position, which `check` may refuse.

    FileNotFoundError; ValueError naming the file, before anything changes, when it is damaged or of another model.
    """
    arrays, position = read_arrays(path)
    if check is not None:
        try:
            check(position)
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise ValueError(f"{path} does not fit this run: {_sentence(error)}") from None
    owners = {"model": model, **optimizers}
    parts: dict[str, dict] = {key: {} for key in owners}
    for name, a in arrays.items():
        key, _, rest = name.partition("/")
        if key not in parts:
            raise ValueError(f"{path} has {name}, which is no part of this model")
        if not np.isfinite(a).all():
            raise ValueError(f"{path} is damaged: {name} holds numbers that are not finite")
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


def _sentence(error: Exception) -> str:
    return f"its position lacks {error}" if isinstance(error, KeyError) else str(error)
