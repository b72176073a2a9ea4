"""What loops do to a run of elements that lie side by side. Each is one vector loop, and writes one run: with more of
them the compiler could not tell that they do not overlap."""

from scratchgen.backend.arrays import Array


def clear(out: Array) -> None:
    for i in range(out.size):
        out[i] = 0


def copy(a: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = a[i]


def add(a: Array, b: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i]


def subtract(a: Array, b: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = a[i] - b[i]


def add_three(a: Array, b: Array, c: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] + c[i]


def add_subtract(a: Array, b: Array, c: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = a[i] + b[i] - c[i]


def subtract_two(a: Array, b: Array, c: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = a[i] - b[i] - c[i]


def add_multiple(out: Array, factor: float, a: Array) -> None:
    for i in range(out.size):
        out[i] += factor * a[i]
