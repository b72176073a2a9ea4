"""The arithmetic of a step, counted as it happens: two operations, × and +, for each product of two elements.

Counted are the kernels that a step spends its arithmetic in, by the shapes they are called with. A convolution map
counts in its direct form, each tap at each small pixel, however the kernel goes about it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from math import prod
from typing import Any

from scratchgen.backend import Array, load_kernels
from scratchgen.backend.geometry import Geometry


def _correlate(x: Array, W: Array, geometry: Geometry) -> int:
    return 2 * len(x) * prod(geometry.small) * prod(W.shape)


OPERATIONS: dict[str, Callable[..., int]] = {
    "matmul": lambda a, b: 2 * prod(a.shape) * b.shape[-1],
    "correlate": _correlate,
    "correlate_adjoint_x": _correlate,
    "correlate_adjoint_W": lambda x, dy, g: 2 * prod(dy.shape) * prod(g.kernel) * x.shape[-1],
}


@contextmanager
def instead(home: dict[str, Any], name: str, new: Any) -> Iterator[None]:
    """Put `new` under a name of an object's or module's dictionary; afterwards what was there, or nothing, is."""
    missing = object()
    before = home.get(name, missing)
    home[name] = new
    try:
        yield
    finally:
        if before is missing:
            del home[name]
        else:
            home[name] = before


@contextmanager
def listening(
    functions: Iterable[tuple[object, str]], tell: Callable[[str, Callable[..., Any], tuple[Any, ...]], None]
) -> Iterator[None]:
    """Inside the block every call of these functions, (module, name), by this thread is told before it runs: its
    name, the function itself, with its options, and its arguments.

    A function that one of them uses in turn, and whatever its worker threads call, is a part of it and not told.
    """
    caller, busy = threading.get_ident(), False

    def heard(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **options: Any) -> Any:
            nonlocal busy
            if busy or threading.get_ident() != caller:
                return plain(*args, **options)
            tell(name, partial(plain, **options), args)
            busy = True
            try:
                return plain(*args, **options)
            finally:
                busy = False

        return function

    with ExitStack() as undo:
        for module, name in functions:
            undo.enter_context(instead(vars(module), name, heard(name, getattr(module, name))))
        yield


def counting(add: Callable[[int], None], backend: str = "numpy") -> AbstractContextManager[None]:
    """Inside the block every kernel called by this thread tells `add` its operations, before it runs."""
    ops = load_kernels(backend)
    return listening([(ops, name) for name in OPERATIONS], lambda name, _, args: add(OPERATIONS[name](*args)))


def operations(run: Callable[[], object], backend: str = "numpy") -> int:
    """How many operations one call of `run` does."""
    counted: list[int] = []
    with counting(counted.append, backend):
        run()
    return sum(counted)
