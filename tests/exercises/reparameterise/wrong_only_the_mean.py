# cause: dlogvar.*not returned
import numpy as np


def reparameterise(mu, logvar, eps):
    std = np.exp(0.5 * logvar)
    z = mu + std * eps

    def backward(dz):
        return dz.copy()

    return z, backward
