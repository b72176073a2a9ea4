"""Densities in the plane, on which one sees at a glance whether a generative model finds every mode.

Sources of ring and grid: Srivastava, Valkov, Russell, Gutmann & Sutton 2017, VEEGAN: reducing mode collapse in
GANs using implicit variational learning, section 4.1; with these very means and variances Lin, Khetan, Fanti & Oh
2018, PacGAN: the power of two samples in generative adversarial networks, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from scratchgen import checks

Draw: TypeAlias = Callable[[int, np.random.Generator], NDArray[np.float32]]  # points `(count, 2)`


@dataclass(frozen=True, eq=False)
class Points:
    """Points in the plane for training `(N, 2)` and for testing `(M, 2)`, float32.

    Of a mixture of equal Gaussians, `centres (K, 2)` are the means and `std` the standard deviation in each
    direction; without centres, `std` is that of the noise around a curve.
    """

    name: str
    train: NDArray[np.float32] = field(repr=False)
    test: NDArray[np.float32] = field(repr=False)
    centres: NDArray[np.float64] | None = field(default=None, repr=False)
    std: float | None = field(default=None, repr=False)

    @property
    def samples(self) -> NDArray[np.float32]:
        """What is trained on."""
        return self.train


def ring(
    train: int = 100_000,
    test: int = 10_000,
    rng: np.random.Generator | None = None,
    *,
    modes: int = 8,
    radius: float = 1.0,
    std: float = 0.01,
) -> Points:
    """Equal Gaussians evenly on a circle about the origin, the first at angle 0.

    Raises TypeError or ValueError unless the counts are ≥ 1 and `radius` and `std` positive.
    """
    modes = checks.integer("ring", "modes", modes)
    radius = checks.real("ring", "radius", radius, lambda v: v > 0, "a positive number")
    angles = 2 * np.pi * np.arange(modes) / modes
    centres = radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    std = checks.real("ring", "std", std, lambda v: v > 0, "a positive number")
    title = f"{modes} Gaussians on a ring"
    return Points(*_named_points("ring", title, _gaussians(centres, std), train, test, rng), centres, std)


def grid(
    train: int = 100_000,
    test: int = 10_000,
    rng: np.random.Generator | None = None,
    *,
    side: int = 5,
    spacing: float = 2.0,
    std: float = 0.05,
) -> Points:
    """Equal Gaussians on a square grid about the origin, `side` × `side` of them, `spacing` apart.

    Raises TypeError or ValueError unless the counts are ≥ 1 and `spacing` and `std` positive.
    """
    side = checks.integer("grid", "side", side)
    spacing = checks.real("grid", "spacing", spacing, lambda v: v > 0, "a positive number")
    places = spacing * (np.arange(side) - (side - 1) / 2)
    centres = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    std = checks.real("grid", "std", std, lambda v: v > 0, "a positive number")
    title = f"{side * side} Gaussians on a grid"
    return Points(*_named_points("grid", title, _gaussians(centres, std), train, test, rng), centres, std)


def moons(
    train: int = 100_000, test: int = 10_000, rng: np.random.Generator | None = None, *, std: float = 0.05
) -> Points:
    """Two interleaved half circles of radius 1, evenly filled, with Gaussian noise of `std` in each direction.

    The upper one, (cos t, sin t), is about the origin; the lower one, (1 - cos t, 1/2 - sin t), about (1, 1/2);
    t goes from 0 to π.

    Raises TypeError or ValueError unless the counts are ≥ 1 and `std` ≥ 0.
    """
    std = checks.real("moons", "std", std, lambda v: v >= 0, "a number ≥ 0")

    def draw(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        t = np.pi * rng.random(count)
        upper = rng.integers(2, size=count) == 0
        x = np.where(upper, np.cos(t), 1 - np.cos(t))
        y = np.where(upper, np.sin(t), 0.5 - np.sin(t))
        return (np.stack((x, y), axis=1) + std * rng.standard_normal((count, 2))).astype(np.float32)

    return Points(*_named_points("moons", "two moons", draw, train, test, rng), None, std)


def _gaussians(centres: NDArray[np.float64], std: float) -> Draw:
    """Draws from the Gaussians with these centres, each as likely as the others."""

    def draw(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        chosen = centres[rng.integers(len(centres), size=count)]
        return (chosen + std * rng.standard_normal((count, 2))).astype(np.float32)

    return draw


def _named_points(
    owner: str, title: str, draw: Draw, train: int, test: int, rng: np.random.Generator | None
) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    """The first three fields of `Points`."""
    train, test = checks.integer(owner, "train", train), checks.integer(owner, "test", test)
    rng = checks.generator(owner, rng)
    return f"{title} ({train:,} training and {test:,} test points)", draw(train, rng), draw(test, rng)
