"""The sample of a VAE: z is normal with mean mu and variance exp(logvar), and yet a function of both.

    z = mu + σ eps,   σ = exp(½ logvar)     mu, logvar and the noise eps (N, D) → z (N, D)

eps is drawn outside, from N(0, 1), and is a constant here.

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from z
further on. backward gets dz = ∂L/∂z and returns dmu = ∂L/∂mu and dlogvar = ∂L/∂logvar.

Check it:  scratchgen exercise check reparameterise.py
"""

import numpy as np


def reparameterise(mu, logvar, eps):
    std = np.exp(0.5 * logvar)
    z = mu + std * eps

    def backward(dz):
        raise NotImplementedError("write backward")

    return z, backward
