# cause: the first value is no loss but an array of shape \(5, 3\): return loss, dmu, dlogvar
import numpy as np


def gaussian_kl(mu, logvar):
    N = len(mu)
    var = np.exp(logvar)
    loss = 0.5 * (mu * mu + var - 1 - logvar).sum() / N
    dmu = mu / N
    dlogvar = 0.5 * (var - 1) / N
    return dmu, dlogvar, loss
