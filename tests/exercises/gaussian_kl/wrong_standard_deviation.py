# cause: ½ ?logvar|logvar ?/ ?2|standard deviation|√|0\.5 logvar
import numpy as np


def gaussian_kl(mu, logvar):
    N = len(mu)
    var = np.exp(logvar)
    loss = 0.5 * (mu * mu + var - 1 - logvar).sum() / N
    dmu = mu / N
    dlogvar = 0.5 * (np.exp(0.5 * logvar) - 1) / N
    return loss, dmu, dlogvar
