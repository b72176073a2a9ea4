"""Every CUDA kernel over a set of shapes, each result beside the reference's, in a process of its own.

    python tests/gpu/all_kernels.py              on the GPU; compute-sanitizer python … looks over its shoulder
    python tests/gpu/all_kernels.py --standin    on the stand-in

On the GPU every array gets memory of its own from CUDA, not a part of CuPy's pool, so that a step beyond its end is
one into nothing. Last it prints the names of the kernels that were launched, and fails where sources/ has another.
"""

import re
import sys
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from scratchgen import backend  # noqa: E402  the package beside these tests
from scratchgen.backend import formula, load_kernels, reference  # noqa: E402
from scratchgen.backend.geometry import Geometry, correlated_size  # noqa: E402
from scratchgen.functions import sigmoid  # noqa: E402

SOURCES = Path(backend.__file__).parent / "cupy_ops" / "sources"
SHAPES = [(1, 1), (3,), (2, 5), (7, 3), (257, 33), (2, 3, 4, 1), (5, 9, 7, 64), (3, 4, 4, 130), (70000, 3)]
WINDOWS = [  # kernel, stride, padding, dilation, large
    ((4, 4), (2, 2), (1, 1), (1, 1), (8, 8)),
    ((4, 4), (2, 2), (1, 1), (1, 1), (9, 7)),
    ((3, 3), (1, 1), (1, 1), (1, 1), (5, 6)),
    ((5, 2), (3, 1), (2, 0), (1, 2), (11, 9)),
    ((1, 1), (2, 2), (0, 0), (1, 1), (4, 5)),
    ((4, 4), (1, 1), (0, 0), (1, 1), (4, 4)),
]
CHANNELS = (1, 3, 4, 5, 64)


def kernel_names() -> set[str]:
    """Those in sources/."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCES.glob("*.cu")]
    return {name for text in texts for name in re.findall(r"__global__\s+void\s+(\w+)\s*\(", text)}


def run(ops) -> None:
    """All of them. AssertionError names the kernel, the shape and the dtype where a result is not the reference's."""
    rng = np.random.default_rng(0)
    for dtype, shape in product((np.float32, np.float64), SHAPES):
        _on_rows(ops, rng, shape, dtype)
    for dtype, window, channels in product((np.float32, np.float64), WINDOWS, CHANNELS):
        _on_patches(ops, rng, _geometry(window), channels, dtype)
    for dtype, count in product((np.float32, np.float64), (1, 5, 70)):
        _on_tensors(ops, rng, count, dtype)


def _on_rows(ops, rng, shape, dtype):
    x, y, mu, scale = (_integers(rng, s, dtype) for s in (shape, shape, shape[-1:], shape[-1:]))
    one = np.array(3, dtype)

    @formula
    def scale_and_shift(x, mu, scale):
        return (x - mu) * scale

    @formula
    def terms(x, y, mu):
        return x, (x - mu) * y

    @formula
    def loss(x, y, one):
        return x * y - one, y - x

    def case(name, rounding, *arguments):
        device = [ops.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
        _compare(f"{name} {shape}", getattr(ops, name)(*device), getattr(reference, name)(*arguments), rounding)

    case("elementwise", 0, scale_and_shift, x, mu, scale)
    case("elementwise", 10, sigmoid, x)
    case("channel_sum", 0, y)
    case("channel_sums", 0, terms, x, y, mu)
    case("sum_with_map", 0, loss, x, y, one)
    if x.size > shape[-1]:
        _compare(f"mean_and_variance {shape}", ops.mean_and_variance(ops.from_numpy(x)), _moments(x), 100)


def _moments(x):
    """Mean and variance over rows, of integers, from their exact sums."""
    rows = x.reshape(-1, x.shape[-1]).astype(np.int64)
    m, sums, squares = len(rows), rows.sum(axis=0), (rows * rows).sum(axis=0)
    return [a.astype(x.dtype) for a in (sums / m, (m * squares - sums * sums) / m**2)]


def _on_patches(ops, rng, g, channels, dtype):
    x = _integers(rng, (3, *g.large, channels), dtype)
    cols = _integers(rng, (3, *g.small, *g.kernel, channels), dtype)
    _compare(f"im2col {g} {channels}", ops.im2col(ops.from_numpy(x), g), reference.im2col(x, g), 0)
    _compare(f"col2im {g} {channels}", ops.col2im(ops.from_numpy(cols), g), reference.col2im(cols, g), 0)


def _on_tensors(ops, rng, count, dtype):
    shapes = [(int(n),) for n in rng.integers(1, 600, count - 1)] + [(3, 3000)]
    arrays = [[_integers(rng, s, dtype) for s in shapes] for _ in range(4)]
    arrays[3] = [np.abs(v) for v in arrays[3]]  # the second moments
    device = [[ops.from_numpy(a.copy()) for a in part] for part in arrays]
    settings = (1e-3, 0.9, 0.999, 1e-8, 7)
    _compare(f"square_sums {count}", ops.square_sums(device[1]), reference.square_sums(arrays[1]), 0)
    _compare(f"adam {count}", ops.adam(*device, *settings), reference.adam(*arrays, *settings), 10)
    for moment, there, here in zip("mv", device[2:], arrays[2:], strict=True):
        _compare(f"adam's {moment} {count}", there, here, 10)


def _geometry(window) -> Geometry:
    kernel, stride, padding, dilation, large = window
    small = tuple(map(correlated_size, large, kernel, stride, padding, dilation))
    return Geometry(kernel, stride, padding, dilation, large, small)


def _integers(rng, shape, dtype):
    """Small ones: their sums do not round in any order."""
    return rng.integers(-4, 5, shape).astype(dtype)


def _compare(what: str, found, expected, rounding: float) -> None:
    """Equal, or up to so many roundings of the largest number."""
    several = isinstance(expected, list | tuple)
    for a, b in zip(found if several else [found], expected if several else [expected], strict=True):
        a, b = a.get(), np.asarray(b)
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            raise AssertionError(f"{what}: got {a.dtype} {a.shape}, needs {b.dtype} {b.shape}")
        limit = rounding * np.finfo(b.dtype).eps * np.abs(b).max(initial=0)
        if not (np.abs(a - b) <= limit).all():
            raise AssertionError(f"{what} {b.dtype}: off by up to {np.abs(a - b).max()}")


def main() -> None:
    if "--standin" in sys.argv:
        import standin

        place = standin.installed()
    else:
        place = nullcontext()
    with place:
        import cupy

        launched = _noted(cupy)
        if "--standin" not in sys.argv:
            cupy.cuda.set_allocator(None)
        ops = load_kernels("cupy")
        run(ops)
        from scratchgen.backend.cupy_ops import convolution

        convolution.WORTH_A_KERNEL = 0  # the same with kernels made for each geometry, as for large images
        run(ops)
        cupy.cuda.runtime.deviceSynchronize()
    assert launched == kernel_names(), f"of sources/ were not launched: {sorted(kernel_names() - launched)}"
    print("launched", *sorted(launched))


def _noted(cupy) -> set[str]:
    """A set that fills with the names of all kernels that are taken from a module to be launched."""
    names, plain = set(), cupy.RawModule

    def module(**options):
        made = plain(**options)

        class Noted:
            def get_function(self, name):
                names.add(name)
                return made.get_function(name)

        return Noted()

    cupy.RawModule = module
    return names


if __name__ == "__main__":
    main()
