"""Where gradients are checked besides the values given: at these alone a wrong gradient can look right.

Where a gate stands at 0, a scale at 1 or a bias at 0, whatever it multiplies or shifts drops out of the gradient; a
branch for |x| > 6 is never reached by normal numbers; and numbers drawn at random are never equal and never 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from scratchgen.layers.parameter import Parameter


@dataclass(frozen=True)
class Place:
    """Inputs, and values for parameters; `ties`: numbers among the inputs are equal, or 0, on purpose."""

    name: str
    inputs: list
    values: dict[Parameter, np.ndarray] = field(default_factory=dict)
    ties: bool = False


def drawn(array: np.ndarray, rng: np.random.Generator, spread: float = 0.5, factor=1.0) -> np.ndarray:
    """Numbers like those of the array, none of them special: times e^(spread · normal), and times `factor`.

    So they stay where the function may be defined alone: signs are kept, and what lies between 0 and 1 stays there.
    Zeros become numbers of the size of the others (of 1, where all are zeros), positive where no other is negative.
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


def nudged(array: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """A point beside, about `size` away in the scale of the numbers; none negative if none was."""
    moved = array + size * np.maximum(1, np.abs(array)) * rng.standard_normal(array.shape)
    return np.abs(moved) if np.all(array >= 0) else moved


def elsewhere(inputs: list, moved: set[int], parameters, rng: np.random.Generator) -> Iterator[list[Place]]:
    """The places in turn, each as a list of variants, of which the first where the target has a value is meant.

    `moved` are the indices of the inputs that are differentiated; other floats are constants and stay. Integers (as
    class labels and indices are) are repeated where inputs are tied.
    """

    def values(spread=0.5):
        return {p: drawn(p.value, rng, spread) for p in parameters}

    def each(change):
        return [change(x) if k in moved else x for k, x in enumerate(inputs)]

    def factors(x, low, high):
        return 10 ** rng.uniform(low, high, x.shape)

    both = " and ".join(["parameters"] * bool(parameters) + ["inputs"] * bool(moved))
    variants = [Place(f"{both} drawn at random", each(lambda x: drawn(x, rng)), values())]
    if moved and parameters:
        variants.append(Place("parameters drawn at random", inputs, values()))
    if parameters:
        variants.append(Place("parameters drawn near their values", inputs, values(0.05)))
    yield variants
    if moved:
        yield [Place("large inputs", each(lambda x: drawn(x, rng, factor=factors(x, 0, 1.5))), values())]
        small = each(lambda x: drawn(x, rng, factor=factors(x, -3, 0)))
        zeros = [_with_zeros(x, rng) if k in moved else x for k, x in enumerate(small)]
        yield [
            Place("small inputs and zeros", zeros, values(), ties=True),
            Place("small inputs", small, values()),
        ]
    tied = [
        _tied(drawn(x, rng), rng) if k in moved else _repeated(x, rng) if _is_integers(x) else x
        for k, x in enumerate(inputs)
    ]
    if any(x is not before for x, before in zip(tied, inputs, strict=True)):
        yield [Place("equal inputs", tied, values(), ties=True)]


def keeps_ties(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A direction in which equal numbers stay equal and zeros stay 0: along it max and relu are smooth on a tie."""
    unique, which = np.unique(x, return_inverse=True)
    steps = np.maximum(1, np.abs(unique)) * rng.standard_normal(unique.shape)
    return np.where(unique == 0, 0, steps)[which].reshape(x.shape)


def _with_zeros(x, rng):
    x = np.where(rng.random(x.shape) < 1 / 3, 0.0, x)
    if x.ndim and len(x) > 1:
        x[0] = 0
    return x


def _tied(x, rng):
    """Three numbers of x, over and over, and the last sample a copy of the first."""
    x = rng.choice(rng.choice(x.ravel(), min(3, x.size), replace=False), x.shape) if x.ndim else x
    return _repeated_last(x)


def _repeated(x, rng):
    """Samples drawn with repetition; a permutation stays one."""
    if np.array_equal(np.sort(x, axis=None), np.arange(x.size)):
        return x
    return _repeated_last(x[rng.integers(0, len(x), len(x))])


def _repeated_last(x):
    if x.ndim and len(x) > 1:
        x[-1] = x[0]
    return x


def _is_integers(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "iu" and x.ndim > 0
