"""How many of its latent dimensions a VAE uses."""

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.measures.arrays import vectors


def active_units(mu: Array, *, threshold: float = 0.01) -> tuple[int, np.ndarray]:
    """The number of latent dimensions whose posterior mean varies over the data, Var_x(mu_j) > threshold, and these
    variances (D,) in float64.

    A dimension that the decoder does not use has the posterior N(0, 1) whatever x is, so a mean that stays at 0.
    `mu (N, D)`: the encoder's means for N ≥ 2 samples. TypeError or ValueError for anything else and for elements
    that are not finite. (Burda et al. 2016, §5.2.)
    """
    mu = vectors("active_units", "mu", mu, least=2)
    threshold = checks.real("active_units", "threshold", threshold, lambda x: x >= 0, "a number ≥ 0")
    variances = mu.var(axis=0)
    return int((variances > threshold).sum()), variances
