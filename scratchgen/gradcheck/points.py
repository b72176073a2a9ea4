"""Where gradients are checked besides the values given: at these alone a wrong gradient can look right.

Where a gate stands at 0, a scale at 1 or a bias at 0, whatever it multiplies or shifts drops out of the gradient; a
branch for |x| > 6 is never reached by normally distributed inputs; and what is drawn is never equal and never 0.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from scratchgen.backend import Array
from scratchgen.gradcheck.numeric import scale_of


@dataclass(frozen=True)
class Point:
    """Inputs, and values for parameters, which stay as they are where there are none.

    `ties`: elements of the inputs are equal, or 0, on purpose.
    """

    name: str
    inputs: list
    values: dict = field(default_factory=dict)  # parameter: array
    ties: bool = False


def other_points(inputs: list, moved: set, parameters: Collection, rng: np.random.Generator) -> Iterator[list[Point]]:
    """The points in turn, each as a list of variants, of which the first where the target has a value is meant.

    `moved` are the indices of the inputs that are differentiated; other floats are constants and stay. Integers (as
    class labels and indices are) are repeated where inputs are tied.
    """

    def values(spread=0.5):
        return {p: drawn(p.value, rng, spread) for p in parameters}

    def each(change):
        return [change(x) if k in moved else x for k, x in enumerate(inputs)]

    def scaled(low, high):
        return each(lambda x: drawn(x, rng, factor=10 ** rng.uniform(low, high, x.shape)))

    moving = moved & set(range(len(inputs)))
    both = " and ".join(["parameters"] * bool(parameters) + ["inputs"] * bool(moving))
    variants = [Point(f"{both} drawn at random", each(lambda x: drawn(x, rng)), values())]
    if moving and parameters:
        variants.append(Point("parameters drawn at random", inputs, values()))
    if parameters:
        variants.append(Point("parameters drawn near their values", inputs, values(0.05)))
    yield variants
    if moving:
        yield [Point("large inputs", scaled(0, 1.5), values())]
        small = scaled(-3, 0)
        zeros = [_with_zeros(x, rng) if k in moved else x for k, x in enumerate(small)]
        yield [Point("small inputs and zeros", zeros, values(), ties=True), Point("small inputs", small, values())]
    equal = [
        _tied(drawn(x, rng), rng) if k in moved else _repeated(x, rng) if _is_integers(x) else x
        for k, x in enumerate(inputs)
    ]
    if any(x is not before for x, before in zip(equal, inputs, strict=True)):
        yield [Point("equal inputs", equal, values(), ties=True)]


def other_sign(inputs: list, moved: set, rng: np.random.Generator) -> list[Point]:
    """Where y may depend on inputs if it does so nowhere else: relu is 0 below 0, and so is its gradient."""
    opposite = [-drawn(x, rng) if k in moved else x for k, x in enumerate(inputs)]
    return [Point("inputs of the other sign", opposite)]


def drawn(array: Array, rng: np.random.Generator, spread: float = 0.5, factor: float | Array = 1.0) -> Array:
    """Elements like those of the array, none of them special: times e^(spread · normal), and times `factor`.

    So they stay where alone the function may be defined: signs are kept, and what lies between 0 and 1 stays there.
    Zeros become as large as the others are (1, where all are zeros), and positive where no other is negative.
    """
    others = array[array != 0]
    size = np.sqrt(np.mean(others**2)) if others.size else 1.0
    fresh = size * spread * rng.standard_normal(array.shape)
    if others.size and (np.all(others > 0) or np.all(others < 0)):
        fresh = np.copysign(fresh, others.flat[0])
    moved = np.where(array == 0, fresh, array * np.exp(spread * rng.standard_normal(array.shape))) * factor
    if others.size and np.all((array >= 0) & (array <= 1)):
        moved = np.where(moved > 1, 1 / moved, moved)
    return np.asarray(moved)


def nudged(array: Array, rng: np.random.Generator, size: float) -> Array:
    """A point beside, about `size` away in the scale of the elements; none negative if none was."""
    moved = array + size * scale_of(array) * rng.standard_normal(array.shape)
    return np.abs(moved) if np.all(array >= 0) else moved


def keeps_ties(x: Array, rng: np.random.Generator) -> Array:
    """A direction in which equal elements stay equal and zeros stay 0: along it max and relu are smooth on a tie."""
    unique, which = np.unique(x, return_inverse=True)
    steps = scale_of(unique) * rng.standard_normal(unique.shape)
    return np.where(unique == 0, 0, steps)[which].reshape(x.shape)


def _with_zeros(x, rng):
    x = np.where(rng.random(x.shape) < 1 / 3, 0.0, x)
    if x.ndim and len(x) > 1:
        x[0] = 0
    return x


def _tied(x, rng):
    """Three elements of x, over and over, and the last sample a copy of the first."""
    x = rng.choice(rng.choice(x.ravel(), min(3, x.size), replace=False), x.shape) if x.ndim else x
    return _with_last_as_first(x)


def _repeated(x, rng):
    """Samples drawn with repetition; a permutation stays one."""
    if np.array_equal(np.sort(x, axis=None), np.arange(x.size)):
        return x
    return _with_last_as_first(x[rng.integers(0, len(x), len(x))])


def _with_last_as_first(x):
    if x.ndim and len(x) > 1:
        x[-1] = x[0]
    return x


def _is_integers(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "iu" and x.ndim > 0 and x.size > 0
