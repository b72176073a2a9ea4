# cause: dlogvar.*(½|twice|2 times|factor)
import numpy as np


def reparameterise(mu, logvar, eps):
    std = np.exp(0.5 * logvar)
    z = mu + std * eps

    def backward(dz):
        return dz.copy(), dz * eps * std

    return z, backward
