# cause: eps
import numpy as np


def reparameterise(mu, logvar, eps):
    std = np.exp(0.5 * logvar)
    z = mu + std * eps

    def backward(dz):
        return dz.copy(), dz * 0.5 * std

    return z, backward
