"""The Fréchet distance between two sets of features, as if both were normally distributed."""

from dataclasses import dataclass

import numpy as np

from scratchgen.backend import Array
from scratchgen.measures.arrays import finite, vectors


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean `(D,)` and covariance `(D, D)` of features, in float64: all that `frechet_distance` looks at.

    TypeError or ValueError unless they are finite, fit each other, and the covariance is symmetric.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        owner = "FeatureStatistics"
        covariance = vectors(owner, "covariance", self.covariance)
        mean = finite(owner, "mean", np.asarray(self.mean, np.float64))
        if covariance.shape != (mean.size, mean.size) or mean.ndim != 1:
            raise ValueError(f"{owner}: mean {mean.shape} and covariance {covariance.shape}, needs (D,) and (D, D)")
        if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-6 * np.abs(covariance).max()):
            raise ValueError(f"{owner}: covariance is not symmetric")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @classmethod
    def of(cls, features: Array) -> "FeatureStatistics":
        """The statistics of features (N, D), N ≥ 2; the covariance is the unbiased one, divided by N − 1."""
        f = vectors("FeatureStatistics", "features", features, least=2)
        mean = f.mean(axis=0)
        f -= mean
        return cls(mean, f.T @ f / (len(f) - 1))


def frechet_distance(a: Array | FeatureStatistics, b: Array | FeatureStatistics) -> float:
    """The squared Fréchet (Wasserstein-2) distance of two normal distributions fitted to features a and b:

        |μa − μb|² + tr(Σa + Σb − 2 (Σa^½ Σb Σa^½)^½)                             ≥ 0, of the features' unit squared

    The matrix under the root is M Mᵀ with M = Σa^½ Σb^½, so the trace of its root is the sum of M's singular values.
    Taken so, rounding enters as eps; as roots of the eigenvalues of M Mᵀ it would enter as √eps, and covariances
    without full rank (fewer samples than D) would have a distance from themselves. A factor F with F Fᵀ = Σ serves
    for Σ^½: they differ by an orthogonal matrix, which moves no singular value.

    `a (N, D)`, `b (M, D)`, N and M ≥ 2, or the FeatureStatistics of either, to be computed once where one side stays.
    TypeError or ValueError for anything else and for elements that are not finite.
    (Dowson & Landau 1982; on features of images, Heusel et al. 2017, eq. 6.)
    """
    a, b = (s if isinstance(s, FeatureStatistics) else FeatureStatistics.of(s) for s in (a, b))
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"frechet_distance: features of dimension {a.mean.size} and {b.mean.size}, needs equal ones")
    root = np.linalg.svd(_factor(a.covariance).T @ _factor(b.covariance), compute_uv=False).sum()
    apart = np.square(a.mean - b.mean).sum()
    return max(0.0, float(apart + (np.trace(a.covariance) + np.trace(b.covariance) - 2 * root)))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F (D, D) with F Fᵀ = covariance, by its eigenvectors; eigenvalues that are nothing but rounding are 0."""
    values, axes = np.linalg.eigh(covariance)
    values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0
    return axes * np.sqrt(np.maximum(values, 0))
