"""Files of arrays by name: safetensors, which cannot hold code, with a digest that finds any damage."""

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.backend import Array, to_host
from scratchgen.files import atomic_write, from_json, printable
from scratchgen.paths import as_path

FORMAT = "scratchgen 1"
# NumPy's names of types, f4 say, and the format's, F32
TYPES = {"b1": "BOOL"} | {f"{kind}{n}": f"{kind.upper()}{8 * n}" for kind in "fiu" for n in (1, 2, 4, 8)}


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array], about: Mapping[str, object]) -> None:
    """Write arrays (NumPy or CuPy) by name, and `about`, what JSON can hold; the file appears whole or not at all."""
    host = {name: _plain(to_host(a)) for name, a in arrays.items()}
    text = json.dumps(about, allow_nan=False)
    metadata = {"format": FORMAT, "about": text, "sha256": _digest(host, text)}
    with atomic_write(path) as stream:
        for part in serialised(host, metadata):
            stream.write(part)


def serialised(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file: always the same bytes for the same arrays and metadata.

    (The library's own `save` keeps metadata in an order that changes from call to call.) The format: the length of
    the header in 8 bytes; the header, JSON, with spaces up to a multiple of 8; the values of all arrays one after
    the other, little-endian, the widest type first, so that each lies where its type may lie in memory.
    https://huggingface.co/docs/safetensors

    TypeError for arrays of a type that the format lacks.
    """
    arrays = {name: _plain(a) for name, a in arrays.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        a = arrays[name]
        start, end = end, end + a.nbytes
        header[name] = {"dtype": TYPES[a.dtype.str[1:]], "shape": list(a.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in order:
        yield arrays[name].reshape(-1).data.cast("B") if arrays[name].size else b""


def _plain(a: np.ndarray) -> np.ndarray:
    """Row by row in memory, little-endian, of a type that a file can hold."""
    if a.dtype.str[1:] not in TYPES:
        raise TypeError(f"arrays of dtype {a.dtype} cannot be written to a safetensors file")
    return np.array(a, a.dtype.newbyteorder("<"), order="C", copy=None)


def read_arrays(path: str | os.PathLike[str], *, ours: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and `about` of a file that `write_arrays` wrote; with `ours=False` of any safetensors file.

    FileNotFoundError; ValueError, naming the file, when it is damaged in any way.
    """
    from safetensors import SafetensorError, safe_open  # here: whoever reads no file does without its MiB

    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _refused(path, "is not a complete safetensors file", error) from error
    except (TypeError, AttributeError, KeyError) as error:  # of a type that NumPy lacks, such as bfloat16
        raise _refused(path, "holds arrays of a type that cannot be read here", error) from error
    except ValueError as error:  # of a shape that NumPy cannot have
        raise _refused(path, "holds arrays of a shape that cannot be read here", error) from error
    signed = {"about", "sha256"} <= metadata.keys()
    if metadata.get("format") != FORMAT and (ours or signed):  # damage there must not switch the check below off
        raise ValueError(f"{path} was not written by this version of scratchgen, or is damaged")
    if metadata.get("format") != FORMAT:
        return arrays, {}
    if not signed or metadata["sha256"] != _digest(arrays, metadata["about"]):
        raise ValueError(f"{path} is damaged: its SHA-256 is not that of what was written")
    try:
        about = from_json(metadata["about"])
    except ValueError as error:
        raise ValueError(f"{path} is damaged: what it says about its arrays is not JSON: {error}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} is damaged: what it says about its arrays is not a JSON object")
    return arrays, about


def _refused(path: Path, why: str, error: Exception) -> ValueError:
    return ValueError(f"{path} {why}: {printable(str(error))}")


def _digest(arrays: Mapping[str, np.ndarray], about: str) -> str:
    """SHA-256 over every name, type, shape and value."""
    digest = hashlib.sha256(about.encode())
    for name in sorted(arrays):
        a = arrays[name]
        digest.update(f"\0{name}\0{a.dtype.str}\0{a.shape}\0".encode())
        digest.update(np.ascontiguousarray(a).data if a.size else b"")
    return digest.hexdigest()
