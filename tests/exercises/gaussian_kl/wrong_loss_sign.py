# cause: ^the loss has the wrong sign
import numpy as np


def gaussian_kl(mu, logvar):
    N = len(mu)
    var = np.exp(logvar)
    loss = 0.5 * (mu * mu + var - 1 - logvar).sum() / N
    dmu = mu / N
    dlogvar = 0.5 * (var - 1) / N
    return -loss, dmu, dlogvar
