"""Densities in the plane, binary pixels, and ranges of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from scratchgen.data import Points, binarise, grid, load, moons, ring, to_signed, to_unit

N = 100_000


def seeded(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


# ----------------------------------------------------------------------------------------------- mixtures

MIXTURES = {
    "ring": (ring, {}, 8, 0.01),
    "grid": (grid, {}, 25, 0.05),
    "other ring": (ring, {"modes": 5, "radius": 3.0, "std": 0.2}, 5, 0.2),
    "other grid": (grid, {"side": 2, "spacing": 4.0, "std": 0.5}, 4, 0.5),
}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("case", MIXTURES)
def test_moments_of_a_mixture(case: str, part: str) -> None:
    """Each bound is five standard errors wide: right for this seed, and far from a wrong std, mean or share."""
    draw, options, modes, std = MIXTURES[case]
    points = draw(N, N, seeded(), **options)
    values = getattr(points, part).astype(np.float64)
    assert values.shape == (N, 2)
    assert points.std == std
    assert points.centres.shape == (modes, 2)
    distances = np.linalg.norm(values[:, None] - points.centres, axis=2)
    nearest = distances.argmin(axis=1)
    assert distances.min(axis=1).max() < 5.5 * std  # of 100,000 draws, P(one beyond) is 3 in 100; and none between
    share = np.bincount(nearest, minlength=modes) / N
    assert abs(share - 1 / modes).max() < 5 * np.sqrt((1 - 1 / modes) / modes / N)
    deviations = values - points.centres[nearest]
    for k in range(modes):
        own = deviations[nearest == k]
        error = std / np.sqrt(len(own))
        assert abs(own.mean(axis=0)).max() < 5 * error
        assert abs(own.std(axis=0) - std).max() < 5 * error / np.sqrt(2)
        assert abs((own[:, 0] * own[:, 1]).mean()) < 5 * std * error  # the two directions are independent


def test_centres() -> None:
    half = np.sqrt(0.5)
    expected = [[1, 0], [half, half], [0, 1], [-half, half], [-1, 0], [-half, -half], [0, -1], [half, -half]]
    assert np.allclose(ring(1, 1).centres, expected, rtol=0, atol=1e-15)
    assert np.allclose(ring(1, 1, radius=2.0).centres, 2 * np.array(expected), rtol=0, atol=1e-15)
    assert sorted(grid(1, 1).centres.tolist()) == [[x, y] for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)]
    assert sorted(grid(1, 1, side=2, spacing=1.0).centres.tolist()) == [
        [x, y] for x in (-0.5, 0.5) for y in (-0.5, 0.5)
    ]
    assert grid(1, 1, side=1).centres.tolist() == [[0, 0]]
    assert grid(1, 1).centres.dtype == ring(1, 1).centres.dtype == np.float64


def to_half_circle(values: np.ndarray) -> np.ndarray:
    """Distances of points `(N, 2)` from the upper half of the unit circle."""
    ends = np.minimum(np.linalg.norm(values - (1, 0), axis=1), np.linalg.norm(values - (-1, 0), axis=1))
    return np.where(values[:, 1] >= 0, abs(np.linalg.norm(values, axis=1) - 1), ends)


def test_moons() -> None:
    """The mean of cos t is 0 and that of sin t is 2/π, t uniform in [0, π]; their variances 1/2 and 1/2 - 4/π²."""
    std = 0.05
    points = moons(N, 10, seeded(), std=std)
    assert points.centres is None
    assert points.std == std
    assert points.train.shape == (N, 2)
    assert points.test.shape == (10, 2)
    values = points.train.astype(np.float64)
    upper, lower = to_half_circle(values), to_half_circle((1, 0.5) - values)
    off = np.minimum(upper, lower)
    assert off.max() < 5.5 * std
    # Across a curve there is one direction of noise; its bend and its ends change little.
    assert abs(np.sqrt((off**2).mean()) / std - 1) < 0.02
    assert abs(values.mean(axis=0) - (0.5, 0.25)).max() < 5 / np.sqrt(N)
    variance = [0.5 + 0.25 + std**2, 0.5 - 4 / np.pi**2 + (2 / np.pi - 0.25) ** 2 + std**2]
    assert np.allclose(values.var(axis=0), variance, rtol=0, atol=5 / np.sqrt(N))
    first = values[upper < lower]
    assert abs(len(first) / N - 0.5) < 5 * 0.5 / np.sqrt(N)
    # Evenly filled: as many points in each tenth of the angle.
    angles = np.arctan2(first[:, 1], first[:, 0])
    tenths = np.histogram(angles, bins=8, range=(0.1 * np.pi, 0.9 * np.pi))[0] / len(first)
    assert abs(tenths - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / len(first))


def test_moons_without_noise_lie_on_the_curves() -> None:
    values = moons(1000, 1, seeded(), std=0.0).train.astype(np.float64)
    upper, lower = abs(np.linalg.norm(values, axis=1) - 1), abs(np.linalg.norm(values - (1, 0.5), axis=1) - 1)
    assert np.minimum(upper, lower).max() < 1e-6
    assert ((upper < 1e-6) & (values[:, 1] >= -1e-6)).sum() > 400
    assert ((lower < 1e-6) & (values[:, 1] <= 0.5 + 1e-6)).sum() > 400


@pytest.mark.parametrize("draw", [ring, grid, moons])
def test_points_are_the_generators(draw) -> None:
    one, same, other = draw(50, 20, seeded(3)), draw(50, 20, seeded(3)), draw(50, 20, seeded(4))
    assert isinstance(one, Points)
    assert one.train.dtype == one.test.dtype == np.float32
    assert np.array_equal(one.train, same.train)
    assert np.array_equal(one.test, same.test)
    assert not np.array_equal(one.train, other.train)
    assert not np.array_equal(one.test, other.test)
    assert not np.array_equal(one.train[:20], one.test)
    assert not np.array_equal(draw(50, 20).train, draw(50, 20).train)
    assert "50 training and 20 test points" in one.name
    assert "array" not in repr(one)
    default = draw(rng=seeded())
    assert (len(default.train), len(default.test)) == (100_000, 10_000)


@pytest.mark.parametrize("name", ["ring", "grid", "moons"])
def test_named_points_are_always_the_same(name: str) -> None:
    one, two = load(name), load(name)
    assert np.array_equal(one.train, two.train)
    assert np.array_equal(one.test, two.test)
    assert name in one.name
    plain = {"ring": ring, "grid": grid, "moons": moons}[name](rng=seeded(0))
    assert not np.array_equal(one.train, plain.train)  # not the stream of a run with seed 0


@pytest.mark.parametrize(
    ("draw", "arguments", "options", "error", "message"),
    [
        (ring, (0,), {}, ValueError, "ring: train is 0, needs at least 1"),
        (grid, (5, 0), {}, ValueError, "grid: test is 0, needs at least 1"),
        (moons, (5.0,), {}, TypeError, "moons: train is 5.0, needs an integer"),
        (ring, (5, 5, 0), {}, TypeError, "ring: rng is 0, needs a numpy.random.Generator"),
        (ring, (5, 5), {"modes": 0}, ValueError, "ring: modes is 0"),
        (ring, (5, 5), {"radius": 0.0}, ValueError, "ring: radius is 0.0, needs a positive number"),
        (ring, (5, 5), {"std": 0}, ValueError, "ring: std is 0, needs a positive number"),
        (grid, (5, 5), {"std": float("nan")}, ValueError, "grid: std is nan"),
        (grid, (5, 5), {"side": 1.5}, TypeError, "grid: side is 1.5, needs an integer"),
        (grid, (5, 5), {"spacing": -1.0}, ValueError, "grid: spacing is -1.0"),
        (moons, (5, 5), {"std": -0.1}, ValueError, "moons: std is -0.1, needs a number ≥ 0"),
    ],
)
def test_densities_refuse(draw, arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw(*arguments, **options)


# ------------------------------------------------------------------------------------------------ binarise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binarise_threshold(dtype: type) -> None:
    below = np.nextafter(dtype(0.5), dtype(0))
    images = np.array([[0, below], [0.5, 1]], dtype)
    binary = binarise(images, "threshold")
    assert binary.dtype == dtype
    assert binary.tolist() == [[0, 0], [1, 1]]
    assert images[0, 1] == below


def test_binarise_none_is_the_images() -> None:
    images = np.array([0.25], np.float32)
    assert binarise(images, "none") is images


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binarise_dynamic_has_the_pixel_as_frequency(dtype: type) -> None:
    levels = np.array([0, 1 / 255, 0.1, 0.5, 0.9, 254 / 255, 1], dtype)
    images = np.broadcast_to(levels, (N, len(levels)))
    binary = binarise(images, "dynamic", seeded())
    assert binary.dtype == dtype
    assert binary.shape == images.shape
    assert set(np.unique(binary)) == {0, 1}
    frequency = binary.mean(axis=0, dtype=np.float64)
    assert frequency[0] == 0
    assert frequency[-1] == 1
    assert (abs(frequency - levels) <= 5 * np.sqrt(levels * (1 - levels) / N)).all()
    # Independent from pixel to pixel.
    assert abs(np.corrcoef(binary[:, 3], binary[:, 4])[0, 1]) < 5 / np.sqrt(N)


def test_binarise_dynamic_draws_anew_from_the_generator() -> None:
    images = np.full((4, 28, 28, 1), 0.5, np.float32)
    rng = seeded(7)
    first, second = binarise(images, "dynamic", rng), binarise(images, "dynamic", rng)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, binarise(images, "dynamic", seeded(7)))
    # float32 images take float32 uniforms, half the random bits.
    other = seeded(7)
    for _ in range(2):
        other.random(images.shape, np.float32)
    assert rng.bit_generator.state == other.bit_generator.state
    for how in "none", "threshold":
        binarise(images, how, rng)
    assert rng.bit_generator.state == other.bit_generator.state


def test_binarise_of_nothing() -> None:
    for how in "none", "threshold", "dynamic":
        assert binarise(np.zeros((0, 2), np.float32), how, seeded()).shape == (0, 2)


@pytest.mark.parametrize(
    ("images", "how", "rng", "error", "message"),
    [
        (np.zeros(2), "Dynamic", None, ValueError, "how is 'Dynamic', needs one of none, threshold, dynamic"),
        (np.zeros(2), None, None, ValueError, "how is None"),
        (np.zeros(2), "dynamic", None, TypeError, "rng is None, dynamic needs a numpy.random.Generator"),
        (np.zeros(2), "dynamic", 3, TypeError, "rng is 3, dynamic needs"),
        (np.zeros(2, np.uint8), "threshold", None, TypeError, r"dtype uint8, needs float32 or .*to_float"),
        (np.zeros(2, np.uint8), "none", None, TypeError, "dtype uint8"),
        ([0.5], "threshold", None, TypeError, "must be a NumPy array, not list"),
        (np.array([0, 1.1]), "threshold", None, ValueError, r"pixels go from 0.0 to 1.1, needs 0 to 1"),
        (np.array([-0.1, 1]), "dynamic", np.random.default_rng(0), ValueError, "from -0.1 to 1.0"),
        (np.array([0, np.nan]), "dynamic", np.random.default_rng(0), ValueError, "from nan to nan"),
    ],
)
def test_binarise_refuses(images: object, how: object, rng: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        binarise(images, how, rng)


# -------------------------------------------------------------------------------------------------- ranges


def test_signed_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 4, 32, 1)
    signed = to_signed(pixels)
    assert signed.dtype == np.float32
    assert signed.shape == pixels.shape
    assert (signed.min(), signed.max()) == (-1, 1)
    assert np.allclose(signed.ravel(), np.linspace(-1, 1, 256), rtol=0, atol=1e-7)
    assert np.array_equal(np.rint(to_unit(signed) * 255).astype(np.uint8), pixels)
    for dtype in np.float32, np.float64:
        images = np.array([0, 0.25, 1], dtype)
        assert to_signed(images).tolist() == [-1, -0.5, 1]
        assert to_signed(images).dtype == to_unit(images).dtype == dtype
        assert images.tolist() == [0, 0.25, 1]
        signed = np.array([-3, -1, 0, 0.5, 1, 1.5], dtype)
        assert to_unit(signed).tolist() == [0, 0, 0.5, 0.75, 1, 1]
        assert signed[0] == -3


def test_ranges_refuse() -> None:
    with pytest.raises(TypeError, match="to_unit: images have dtype uint8"):
        to_unit(np.zeros(2, np.uint8))
    with pytest.raises(TypeError, match="must be a NumPy array, not list"):
        to_unit([0.5])
    with pytest.raises(TypeError, match="not int64"):
        to_signed(np.zeros(2, np.int64))
