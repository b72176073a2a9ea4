"""Files of arrays by name: safetensors, which cannot hold code, with a digest that finds any damage."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from scratchgen.backend import to_host
from scratchgen.files import atomic_write
from scratchgen.paths import as_path

FORMAT = "scratchgen 1"


def write_arrays(path, arrays: Mapping[str, object], about: Mapping[str, object]) -> None:
    """Write arrays (NumPy or CuPy) by name, and `about`, what JSON can hold; the file appears whole or not at all."""
    host = {name: np.array(to_host(a), order="C", copy=None) for name, a in arrays.items()}
    text = json.dumps(about, allow_nan=False)
    metadata = {"format": FORMAT, "about": text, "sha256": _digest(host, text)}
    with atomic_write(path) as stream:
        stream.write(save(host, metadata=metadata))


def read_arrays(path, *, ours: bool = True) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and `about` of a file that `write_arrays` wrote; with `ours=False` of any safetensors file.

    FileNotFoundError; ValueError, naming the file, when it is damaged in any way.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    except (TypeError, AttributeError, KeyError) as error:  # of a type that NumPy lacks, such as bfloat16
        raise ValueError(f"{path} holds arrays of a type that cannot be read here: {error}") from error
    except ValueError as error:  # of a shape that NumPy cannot have
        raise ValueError(f"{path} holds arrays of a shape that cannot be read here: {error}") from error
    signed = {"about", "sha256"} <= metadata.keys()
    if metadata.get("format") != FORMAT and (ours or signed):  # damage there must not switch the check below off
        raise ValueError(f"{path} was not written by this version of scratchgen, or is damaged")
    if metadata.get("format") != FORMAT:
        return arrays, {}
    if not signed or metadata["sha256"] != _digest(arrays, metadata["about"]):
        raise ValueError(f"{path} is damaged: its SHA-256 is not that of what was written")
    try:
        about = json.loads(metadata["about"], parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: what it says about its arrays is no JSON: {error}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} is damaged: what it says about its arrays is no JSON object")
    return arrays, about


def _refuse(constant: str):
    raise ValueError(f"it has {constant}")


def _digest(arrays: Mapping[str, np.ndarray], about: str) -> str:
    """SHA-256 over every name, type, shape and number."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(f"\0{name}\0{a.dtype.str}\0{a.shape}\0".encode())
        digest.update(np.ascontiguousarray(a).data if a.size else b"")
    return digest.hexdigest()
