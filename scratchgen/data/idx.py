"""IDX files, the format of MNIST: a magic number, the sizes, then the values in big-endian byte order.

    byte 0, 1   zero
    byte 2      type code (`TYPES`)
    byte 3      number of dimensions n
    n × 4       sizes, unsigned 32-bit big-endian
    the rest    values, last index fastest

Source: http://yann.lecun.com/exdb/mnist/, section "The IDX file format".
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.data.limits import check_expansion, check_memory
from scratchgen.data.tally import short
from scratchgen.files import atomic_write
from scratchgen.paths import as_path

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
MAX_DIMS = 64  # NumPy's limit
MAX_SIZE = 2**32 - 1  # of one dimension, in an unsigned 32-bit field
GZIP_MAGIC = b"\x1f\x8b"
# DEFLATE spends at least 1 bit on a length and 1 bit on a distance for a match of at most 258 bytes:
# no stream grows more than 8 · 258 / 2 = 1032-fold.
MAX_EXPANSION = 1032
CHUNK = 1 << 20  # bytes


class IdxError(ValueError):
    """A file is not a whole, well-formed IDX file; the message names it, what it has and what it needs."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file, plain or gzipped, as an array in native byte order.

    Gzip is recognised by its first bytes, whatever the name. Memory stays in proportion to the file, even
    when a forged header states enormous sizes: a packed file that would grow as no images do is refused
    (`limits.MOST_EXPANSION`), and the values are read once, into the array that is returned.

    Raises IdxError for a malformed, truncated, over-long or damaged file, FileNotFoundError for none at all,
    ValueError for more values than this machine has memory.
    """
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; an IDX file is needed here.")
    if not path.is_file():
        raise IdxError(f"{path}: is not a regular file; an IDX file is needed here.")
    with open(path, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        if not zipped:
            return _parse(path, file, most=size)
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _parse(path, stream, most=MAX_EXPANSION * size, packed=size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise IdxError(f"{path}: has a damaged gzip stream ({short(error)}); fetch or copy it again.") from error


def _parse(path: Path, stream: io.BufferedReader | gzip.GzipFile, most: int, packed: int | None = None) -> np.ndarray:
    """Read header and values of a stream that can hold `most` bytes, and is `packed` bytes on the disk."""
    magic = stream.read(4)
    if not magic:
        raise IdxError(f"{path}: is empty; an IDX file starts with a 4-byte magic number.")
    if len(magic) < 4:
        raise IdxError(f"{path}: has {len(magic)} bytes; an IDX file starts with a 4-byte magic number.")
    if magic[:2] != b"\0\0":
        raise IdxError(f"{path}: starts with bytes {magic[:2].hex(' ')}; an IDX file starts with 00 00.")
    code, ndim = magic[2:]
    if code not in TYPES:
        known = ", ".join(f"0x{c:02x} ({t})" for c, t in TYPES.items())
        raise IdxError(f"{path}: has type code 0x{code:02x}; IDX knows {known}.")
    if not 1 <= ndim <= MAX_DIMS:
        raise IdxError(f"{path}: states {ndim} dimensions; 1 to {MAX_DIMS} are possible.")
    sizes = stream.read(4 * ndim)
    header = 4 + 4 * ndim
    if 4 + len(sizes) < header:
        raise IdxError(f"{path}: header ends after {4 + len(sizes)} bytes; {ndim} dimensions need {header}.")

    dtype = TYPES[code]
    shape = struct.unpack(f">{ndim}I", sizes)
    stated = f"shape {shape} of {dtype}"
    # Zero sizes are left out first: NumPy refuses an empty array whose other sizes overflow.
    if math.prod(n or 1 for n in shape) * dtype.itemsize > np.iinfo(np.intp).max:
        raise IdxError(f"{path}: states {stated}, which is more than an array can address.")
    needed = math.prod(shape) * dtype.itemsize
    if needed > most - header:
        raise IdxError(f"{path}: has room for {most - header} bytes of values; {stated} needs {needed}.")
    if packed is not None:
        check_expansion(path, packed, needed, IdxError)
    check_memory(path, needed, "a data set with fewer or smaller images needs less")
    array = np.empty(shape, dtype.newbyteorder(">"))  # pages that the stream does not fill cost nothing
    values = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < needed and (count := stream.readinto(values[filled : filled + CHUNK])):  # gzip makes a copy of it
        filled += count
    if filled < needed:
        raise IdxError(f"{path}: has {filled} bytes of values; {stated} needs {needed}.")
    if stream.read(1):  # asked at the end, gzip reaches and checks its checksum, too
        raise IdxError(f"{path}: has trailing bytes; {stated} needs exactly {needed} bytes of values.")
    return array.astype(dtype, copy=False)


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write an array as an IDX file, gzipped if the name ends in .gz; the file appears whole or not at all.

    The same array gives the same bytes: the gzip header holds neither time nor name.

    Raises TypeError for something else than a NumPy array of one of the six IDX types, ValueError for a shape
    that IDX cannot state, FileNotFoundError for a missing folder.
    """
    path = as_path(path)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{path}: an IDX file holds a NumPy array, not {type(array).__name__}.")
    codes = {dtype: code for code, dtype in TYPES.items()}
    dtype = array.dtype.newbyteorder("=")
    if dtype not in codes:
        raise TypeError(f"{path}: IDX cannot hold {array.dtype}; it holds {', '.join(map(str, codes))}.")
    if array.ndim < 1 or max(array.shape) > MAX_SIZE:
        raise ValueError(f"{path}: IDX holds 1 or more sizes of at most {MAX_SIZE}, not shape {array.shape}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; create {path.parent} first.")

    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, codes[dtype], array.ndim, *array.shape)
    values = array.astype(dtype.newbyteorder(">"), copy=False).tobytes()  # in C order
    with atomic_write(path) as file:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as stream:
                stream.write(header)
                stream.write(values)
        else:
            file.write(header)
            file.write(values)
