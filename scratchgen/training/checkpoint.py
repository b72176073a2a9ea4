"""A checkpoint: all that a training run needs to go on as if it had never stopped."""

from scratchgen.layers.layer import Module
from scratchgen.optim import Optimizer
from scratchgen.safetensors_file import read_arrays, write_arrays


def save_checkpoint(path, model: Module, optimizers: dict[str, Optimizer], position: dict) -> None:
    """Write weights, BatchNorm statistics, the state of each optimizer, and `position` (what JSON can hold)."""
    arrays = {f"model/{name}": a for name, a in model.state().items()}
    for key, optimizer in optimizers.items():
        arrays |= {f"{key}/{name}": a for name, a in optimizer.state().items()}
    write_arrays(path, arrays, position)


def load_checkpoint(path, model: Module, optimizers: dict[str, Optimizer]) -> dict:
    """Set model and optimizers to what the checkpoint holds, and return its position.

    FileNotFoundError; ValueError naming the file, before anything changes, when it is damaged or of another model.
    """
    arrays, position = read_arrays(path)
    owners = {"model": model, **optimizers}
    parts: dict[str, dict] = {key: {} for key in owners}
    for name, a in arrays.items():
        key, _, rest = name.partition("/")
        if key not in parts:
            raise ValueError(f"{path} has {name}, which is no part of this model")
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
