"""What the kernels are tested on: drawn geometries, integers, arrays that lie in memory in every way."""

import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st

from scratchgen.backend import compiled, fast, numpy_ops
from scratchgen.backend.compiled.compiler import Loop
from scratchgen.backend.geometry import Geometry, correlated_size, transposed_size

MAPS = ("correlate", "correlate_adjoint_x", "correlate_adjoint_W")


def drawn(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def integers(rng, *shape, dtype=np.float32, most=4):
    """Small integers: sums of products of them are exact, so the order of summation cannot show."""
    return rng.integers(-most, most + 1, shape).astype(dtype)


# --- how an array may lie in memory: equal numbers, other strides ---


def _every_other(a):
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def _inside(a):
    """A part of a larger array, cut out on every axis."""
    larger = np.full([n + 3 for n in a.shape], np.nan, a.dtype)
    part = larger[tuple(slice(1, n + 1) for n in a.shape)]
    part[...] = a
    return part


def _on_no_line(a):
    """One number after the start of memory: no alignment but its own."""
    flat = np.empty(a.size + 1, a.dtype)[1:]
    flat[:] = a.reshape(-1)
    return flat.reshape(a.shape)


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.swapaxes(0, -1)).swapaxes(0, -1),
    "every other": _every_other,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "inside": _inside,
    "on no line": _on_no_line,
}


def laid(layout: str, a):
    """The same numbers in that layout, and read-only: no kernel writes into what it is given."""
    a = LAYOUTS[layout](np.array(a))
    a.flags.writeable = False
    return a


layouts = st.sampled_from(list(LAYOUTS))


# --- convolutions ---


@dataclass
class Problem:
    """A geometry, batch and channels, and how the arrays lie in memory."""

    seed: int
    N: int
    C: int
    O: int
    geometry: Geometry
    layouts: tuple[str, str, str]

    def arrays(self, draw=integers):
        """x, W, dy."""
        rng, g = np.random.default_rng(self.seed), self.geometry
        shapes = (self.N, *g.large, self.C), (*g.kernel, self.C, self.O), (self.N, *g.small, self.O)
        return [laid(layout, draw(rng, *shape)) for layout, shape in zip(self.layouts, shapes, strict=True)]

    def calls(self, draw=integers):
        """The arguments of each of the three maps, by its name."""
        x, W, dy = self.arrays(draw)
        return dict(zip(MAPS, ((x, W, self.geometry), (dy, W, self.geometry), (x, dy, self.geometry)), strict=True))


seeds = st.integers(0, 2**32 - 1)
three_layouts = st.one_of(st.just(("C",) * 3), st.tuples(layouts, layouts, layouts))


@st.composite
def any_geometry(draw, largest=7):
    """Of either kind of layer, so output_padding too."""
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    if draw(st.booleans()):
        large, small = size, tuple(map(correlated_size, size, kernel, stride, padding, dilation))
    else:
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
        large, small = tuple(map(transposed_size, size, kernel, stride, padding, dilation, extra)), size
    assume(min(*large, *small) >= 1)
    return Geometry(kernel, stride, padding, dilation, large, small)


@st.composite
def fours(draw, largest=11):
    """Kernel 4 and stride 2: every padding, odd sizes, images smaller than the kernel, pixels that none reads."""
    kernel, stride, dilation = (4, 4), (2, 2), (1, 1)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    large = tuple(draw(st.integers(max(1, 4 - 2 * p), largest)) for p in padding)
    fewer = draw(st.sampled_from([(0, 0), (0, 0), (0, 0), (0, 1), (1, 0), (2, 3)]))  # outputs than there might be
    small = tuple(map(correlated_size, large, kernel, stride, padding, dilation))
    small = tuple(max(1, n - less) for n, less in zip(small, fewer, strict=True))
    return Geometry(kernel, stride, padding, dilation, large, small)


few = st.integers(1, 5)


def problems(geometries, channels=few):
    return st.builds(Problem, seed=seeds, N=few, C=channels, O=channels, geometry=geometries, layouts=three_layouts)


# --- the library, set up to be caught ---


@contextmanager
def constants(**values):
    """Other numbers for the kernels' constants while the block runs: constants(columns__BLOCK_BYTES=700)."""
    patched = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            module, _, constant = name.rpartition("__")
            package = compiled.__name__ if module.startswith("compiled_") else numpy_ops.__name__
            patched.append(sys.modules[f"{package}.{module.removeprefix('compiled_')}"])
            patch.setattr(patched[-1], constant, value)
        _forget(patched)
        yield
    _forget(patched)


def _forget(modules):
    """What their functions have kept of other constants."""
    for module in modules:
        for value in vars(module).values():
            if hasattr(value, "cache_clear") and value.__module__ == module.__name__:
                value.cache_clear()


def compiled_or_python():
    """The compiled kernels' loops are compiled where there is Numba, and run as Python else."""
    return nullcontext() if fast.available() and fast.numba() is not None else loops_as_python()


@contextmanager
def loops_as_python():
    """The compiled kernels' loops run as the Python that they are, with Numba or without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "of", Loop.plain)
        yield


def kernel_modules():
    """The modules of the CPU's kernels."""
    prefixes = numpy_ops.__name__ + ".", compiled.__name__ + "."
    return [module for name, module in sys.modules.items() if name.startswith(prefixes)]


def poison(patch) -> None:
    """Uninitialised memory holds NaN, or ones, wherever a kernel asks for some: what it forgets to write shows."""
    for module in kernel_modules():
        for name in ("empty", "workspace"):
            if hasattr(module, name) and not module.__name__.endswith(".memory"):
                patch.setattr(module, name, _poisoned(getattr(module, name)))


def _poisoned(make):
    def made(*args):
        array = make(*args)
        array[...] = np.nan if array.dtype.kind == "f" else 1
        return array

    return made
