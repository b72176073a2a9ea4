"""Weights files: safetensors, which holds arrays by name and cannot hold code."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from scratchgen import checks
from scratchgen.backend import to_host
from scratchgen.files import atomic_write
from scratchgen.layers.layer import Module


def save_weights(module: Module, path) -> None:
    """Write every parameter and buffer of a layer or model by its dotted name; an old file stays until all is there.

    ValueError, and the old file stays, when a number is not finite.
    """
    arrays = {name: np.asarray(to_host(a), order="C") for name, a in module.state().items()}
    _check_finite(arrays, f"not saved, {path} is as it was")
    data = save(arrays, metadata={"format": "scratchgen", "model": type(module).__name__})
    with atomic_write(path) as stream:
        stream.write(data)


def load_weights(module: Module, path) -> None:
    """Set every parameter and buffer of a layer or model from a file that `save_weights` wrote.

    FileNotFoundError; ValueError naming the file, before anything changes, when it is damaged or does not fit.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    except (TypeError, AttributeError, KeyError) as error:  # of a type that NumPy lacks, such as bfloat16
        raise ValueError(f"{path} holds arrays of a type that cannot be read here: {error}") from error
    try:
        checks.state(type(module).__name__, module.state(), arrays)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    _check_finite(arrays, f"not loaded from {path}")
    module.load_state(arrays)


def _check_finite(arrays, consequence: str) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite: {consequence}")
