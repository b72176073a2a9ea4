# cause: the KL is missing in dmu
import numpy as np

from scratchgen import Module, Parameter


class LinearVAE(Module):
    def __init__(self, features, latent):
        self.E = Parameter("E", np.zeros((features, 2 * latent)))
        self.V = Parameter("V", np.zeros((latent, features)))

    def loss(self, x, eps):
        E, V = self.E.value, self.V.value
        N, L = eps.shape
        h = x @ E
        mu, logvar = h[:, :L], h[:, L:]
        std = np.exp(0.5 * logvar)
        z = mu + std * eps
        y = z @ V
        loss = (0.5 * ((y - x) ** 2).sum() + 0.5 * (mu * mu + std * std - 1 - logvar).sum()) / N

        def backward():
            dy = (y - x) / N
            dz = dy @ V.T
            dmu = dz
            dlogvar = dz * eps * 0.5 * std + 0.5 * (std * std - 1) / N
            self.V.grad += z.T @ dy
            self.E.grad += x.T @ np.concatenate([dmu, dlogvar], axis=1)

        return loss, backward
