"""Which modes of a known mixture a generator reaches: the measure of mode collapse."""

from dataclasses import dataclass

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.measures.arrays import vectors

BLOCK = 1 << 22  # elements in a block of differences


@dataclass(frozen=True, eq=False)
class ModeCoverage:
    """What `mode_coverage` found; `counts (K,)` are the high-quality samples of each centre."""

    modes: int
    of: int
    high_quality: float
    reverse_kl: float
    counts: np.ndarray


def mode_coverage(points: Array, centres: Array, std: float, *, radius: float = 3.0) -> ModeCoverage:
    """How many modes of a mixture of K equal isotropic normals the points reach, and how evenly.

    A point belongs to its nearest centre, and is of high quality within radius · std of it (the edge counts).
        modes         centres with at least one high-quality point, out of `of` = K
        high_quality  share of the points that are of high quality
        reverse_kl    KL(p ‖ uniform) = Σ_k p_k log(K p_k) in nats, from 0 to log K, where p_k is the share of all
                      points, of whatever quality, that belong to centre k

    `points (N, D)`, `centres (K, D)`. TypeError or ValueError for other shapes, elements that are not finite, and
    unless std and radius are positive. modes and high_quality grow with std, radius and N: compare at equal ones.
    (Srivastava et al. 2017, VEEGAN, §4.1; the KL as Lin et al. 2018, PacGAN, §4.1.)
    """
    points, centres = vectors("mode_coverage", "points", points), vectors("mode_coverage", "centres", centres)
    if points.shape[1] != centres.shape[1]:
        raise ValueError(f"mode_coverage: points {points.shape} and centres {centres.shape} differ in dimension")
    std = checks.real("mode_coverage", "std", std, lambda x: x > 0, "a positive number")
    radius = checks.real("mode_coverage", "radius", radius, lambda x: x > 0, "a positive number")

    N, K = len(points), len(centres)
    belong, counts = np.zeros(K, np.int64), np.zeros(K, np.int64)
    step = max(1, BLOCK // centres.size)
    for i in range(0, N, step):
        difference = points[i : i + step, None] - centres  # (n, K, D): not ‖a‖² − 2a·b + ‖b‖², the edge is sharp
        distance = np.sqrt(np.square(difference).sum(axis=2))  # (n, K)
        nearest = distance.argmin(axis=1)
        good = distance.min(axis=1) <= radius * std
        belong += np.bincount(nearest, minlength=K)
        counts += np.bincount(nearest[good], minlength=K)
    p = belong[belong > 0] / N  # 0 log 0 = 0
    return ModeCoverage(
        modes=int((counts > 0).sum()),
        of=K,
        high_quality=float(counts.sum() / N),
        reverse_kl=max(0.0, float((p * np.log(K * p)).sum())),
        counts=counts,
    )
