# cause: σ|std|exp\(logvar/2\) is missing|exp\(½|standard deviation|z − mu|\(y − mu\)
import numpy as np


def reparameterise(mu, logvar, eps):
    std = np.exp(0.5 * logvar)
    z = mu + std * eps

    def backward(dz):
        return dz.copy(), dz * eps * 0.5

    return z, backward
