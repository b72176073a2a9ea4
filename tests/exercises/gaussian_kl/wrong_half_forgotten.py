# cause: dlogvar.*(½|twice|2 times|factor)
import numpy as np


def gaussian_kl(mu, logvar):
    N = len(mu)
    var = np.exp(logvar)
    loss = 0.5 * (mu * mu + var - 1 - logvar).sum() / N
    dmu = mu / N
    dlogvar = (var - 1) / N
    return loss, dmu, dlogvar
