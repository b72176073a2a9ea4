"""The arithmetic of a step, counted as it happens: two operations, × and +, for each product of two numbers.

Counted are the kernels that a step spends its arithmetic in, by the shapes they are called with. A convolution map
counts in its direct form, each tap at each small pixel, however the kernel goes about it.
"""

import threading
from collections.abc import Callable, Iterable
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
def listening(names: Iterable[str], tell: Callable[[str, tuple], None], backend: str = "numpy"):
    """Inside the block every call of these kernels by this thread is told, by name and arguments, before it runs.

    A kernel that one of them uses in turn, and whatever its worker threads call, is a part of it and not told.
    """
    ops = load_kernels(backend)
    plain = {name: getattr(ops, name) for name in names if hasattr(ops, name)}
    caller, busy = threading.get_ident(), False

    def heard(name):
        def kernel(*args, **options):
            nonlocal busy
            if busy or threading.get_ident() != caller:
                return plain[name](*args, **options)
            tell(name, args)
            busy = True
            try:
                return plain[name](*args, **options)
            finally:
                busy = False

        return kernel

    try:
        for name in plain:
            setattr(ops, name, heard(name))
        yield
    finally:
        for name, kernel in plain.items():
            setattr(ops, name, kernel)


def counting(add: Callable[[int], None], backend: str = "numpy"):
    """Inside the block every kernel called by this thread tells `add` its operations, before it runs."""
    return listening(OPERATIONS, lambda name, args: add(OPERATIONS[name](*args)), backend)


def operations(run: Callable[[], object], backend: str = "numpy") -> int:
    """How many operations one call of `run` does."""
    total = 0

    def add(n):
        nonlocal total
        total += n

    with counting(add, backend):
        run()
    return total
