"""How far the code of a VAE is from its prior: KL(N(mu, σ²) ‖ N(0, 1)) with σ² = exp(logvar).

    L = 1/N Σ_n Σ_i ½ (mu² + σ² − 1 − logvar)                mu (N, D), logvar (N, D) → L, a scalar

logvar is the logarithm of the variance. Return the loss and its gradients dmu = ∂L/∂mu and dlogvar = ∂L/∂logvar, each
of the shape of what it is the gradient of.

Check it:  scratchgen exercise check gaussian_kl.py
"""

import numpy as np


def gaussian_kl(mu, logvar):
    N = len(mu)
    var = np.exp(logvar)
    loss = 0.5 * (mu * mu + var - 1 - logvar).sum() / N
    # dmu, dlogvar = ...
    # return loss, dmu, dlogvar
    raise NotImplementedError("write dmu and dlogvar")
