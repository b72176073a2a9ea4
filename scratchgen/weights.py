"""Weights files: every parameter and buffer of a layer or model by its dotted name."""

import os
from collections.abc import Mapping

import numpy as np

from scratchgen import checks
from scratchgen.backend import to_host
from scratchgen.layers.module import Module
from scratchgen.safetensors_file import read_arrays, write_arrays


def save_weights(module: Module, path: str | os.PathLike[str], *, about: Mapping[str, object] | None = None) -> None:
    """Write every parameter and buffer of a layer or model by its dotted name; an old file stays until all is there.

    `about` is kept beside them, and can be what JSON can hold. ValueError, and the old file stays, when an element
    is not finite.
    """
    arrays = {name: to_host(a) for name, a in module.state().items()}
    _check_finite(arrays, f"not saved, {path} is as it was")
    write_arrays(path, arrays, {"model": type(module).__name__, **(about or {})})


def load_weights(module: Module, path: str | os.PathLike[str]) -> None:
    """Set every parameter and buffer of a layer or model from a safetensors file, by name and shape.

    FileNotFoundError; ValueError naming the file, before anything changes, when it is damaged or does not fit.
    """
    arrays, _ = read_arrays(path, ours=False)
    fit(module, arrays, path)


def fit(module: Module, arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> None:
    """Set every parameter and buffer from arrays that were read from a file; ValueError, naming it, as above."""
    try:
        checks.state(type(module).__name__, module.state(), arrays)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    _check_finite(arrays, f"not loaded from {path}")
    module.load_state(arrays)


def _check_finite(arrays: Mapping[str, np.ndarray], consequence: str) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds elements that are not finite: {consequence}")
