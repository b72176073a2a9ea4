"""From a CUDA source in `sources/` to a kernel that can be called; compiled on first use, and kept."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from scratchgen.backend.cupy_ops.device import xp

SOURCES = Path(__file__).parent / "sources"
THREADS = 256  # of a block, a power of two
OPTIONS = (
    "--std=c++17",
    # x * y + z rounded twice, as on a CPU: every operation but exp, log, tanh and the like is then equal bit for bit,
    # except on float32 below 1e-38, which CuPy has taken for 0 (it adds -ftz=true to the options).
    "--fmad=false",
)
REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
BLOCKS = 2048  # at the most where threads walk: several for each processor of the largest GPU
WIDE = 1 << 31  # elements from which they are counted in 64 bits

Kernel: TypeAlias = Callable[[tuple[int, ...], tuple[int, ...], tuple[Any, ...]], None]  # of grid, block, arguments
IndexType: TypeAlias = Callable[[int], Any]  # np.uint32 or np.uint64


def index_type(count: int) -> IndexType:
    """What a kernel counts so many elements in."""
    return np.uint64 if count >= WIDE else np.uint32


def source(
    name: str, dtype: DTypeLike, *, index: IndexType = np.uint32, before: str = "", **constants: int | str
) -> str:
    """The whole CUDA text of `sources/name.cu` for a float type: constants, types, what all share, `before`."""
    head = [f"#define {key} {value}" for key, value in {"THREADS": THREADS, **constants}.items()]
    head.append(f"typedef {REALS[np.dtype(dtype)]} real;")
    head.append(f"typedef {'unsigned long long' if index is np.uint64 else 'unsigned'} Index;")
    return "\n".join((*head, _text("common.cuh"), before, _text(f"{name}.cu")))


@cache
def _text(file: str) -> str:
    return (SOURCES / file).read_text(encoding="utf-8")


@cache
def compiled(text: str, function: str) -> Kernel:
    """The kernel of that name in a CUDA text."""
    return xp.RawModule(code=text, options=OPTIONS).get_function(function)


@cache
def kernel(name: str, function: str, dtype: DTypeLike, index: Any = np.uint32, **constants: Any) -> Kernel:
    """A kernel of `sources/name.cu`."""
    return compiled(source(name, dtype, index=index, **constants), function)


def power_of_two(n: int, most: int) -> int:
    """The smallest power of two that is at least n, or `most`."""
    return min(most, 1 << max(0, n - 1).bit_length())


def quotient(a: int, b: int) -> int:
    """⌈a / b⌉."""
    return -(-a // b)
