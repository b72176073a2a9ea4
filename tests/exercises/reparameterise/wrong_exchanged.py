# cause: exchanged|swapped|each other's|in the place of
import numpy as np


def reparameterise(mu, logvar, eps):
    std = np.exp(0.5 * logvar)
    z = mu + std * eps

    def backward(dz):
        return dz * eps * 0.5 * std, dz.copy()

    return z, backward
