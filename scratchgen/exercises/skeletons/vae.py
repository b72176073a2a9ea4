"""The whole loss of a small VAE: linear encoder and decoder, a sample between them, and two terms in the loss.

    h = x E,   mu = the first L columns of h,   logvar = the others,   σ = exp(½ logvar)
    z = mu + σ eps,   y = z V
    loss = 1/N Σ [½ |y − x|² + ½ Σ_l (mu² + σ² − 1 − logvar)]              the KL of N(mu, σ²) and N(0, 1)

    images x (N, D), noise eps (N, L), encoder E (D, 2L), decoder V (L, D) → loss, a scalar

loss is written; write backward. It is that of the loss itself, so no dy comes in and nothing needs to go out: it
adds, with +=, ∂loss/∂E to self.E.grad and ∂loss/∂V to self.V.grad.

Check it:  scratchgen exercise check vae.py
"""

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
            raise NotImplementedError("write backward")

        return loss, backward
