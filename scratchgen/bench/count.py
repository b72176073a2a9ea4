"""The arithmetic of a step, counted as it happens: two operations, × and +, for each product of two numbers.

Counted are the kernels that a step spends its arithmetic in, by the shapes they are called with. A convolution map
counts in its direct form, each tap at each small pixel, however the kernel goes about it.
"""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from math import prod

from scratchgen.backend import load_kernels


def _matmul(a, b, *_):
    return 2 * prod(a.shape) * b.shape[-1]


def _correlate(x, W, geometry, *_):
    return 2 * len(x) * prod(geometry.small) * prod(W.shape)


def _correlate_adjoint_W(x, dy, geometry, *_):
    return 2 * prod(dy.shape) * prod(geometry.kernel) * x.shape[-1]


OPERATIONS = {
    "matmul": _matmul,
    "correlate": _correlate,
    "correlate_adjoint_x": _correlate,
    "correlate_adjoint_W": _correlate_adjoint_W,
}


@contextmanager
def counting(add: Callable[[int], None]):
    """Inside the block every kernel called by this thread tells `add` its operations, before it runs.

    A kernel that one of them uses in turn, and whatever its worker threads call, is a part of it and not counted.
    """
    ops = load_kernels("numpy")
    plain = {name: getattr(ops, name) for name in OPERATIONS if hasattr(ops, name)}
    caller, busy = threading.get_ident(), False

    def counted(name):
        def kernel(*args, **options):
            nonlocal busy
            if busy or threading.get_ident() != caller:
                return plain[name](*args, **options)
            add(OPERATIONS[name](*args))
            busy = True
            try:
                return plain[name](*args, **options)
            finally:
                busy = False

        return kernel

    try:
        for name in plain:
            setattr(ops, name, counted(name))
        yield
    finally:
        for name, kernel in plain.items():
            setattr(ops, name, kernel)


def operations(run: Callable[[], object]) -> int:
    """How many operations one call of `run` does."""
    total = 0

    def add(n):
        nonlocal total
        total += n

    with counting(add):
        run()
    return total
