"""The discriminator's loss in a GAN: real images should get large logits, generated ones small logits.

    L = −1/N Σ_n log σ(real_n) − 1/M Σ_m log(1 − σ(fake_m))
      =  1/N Σ_n log(1 + e^−real_n) + 1/M Σ_m log(1 + e^fake_m)

    logits real (N, 1), fake (M, 1) → L, a scalar;           σ(s) = 1 / (1 + e⁻ˢ)

Return the loss and its gradients dreal = ∂L/∂real and dfake = ∂L/∂fake. They must be finite for logits of ±10 000,
and not 0 where the discriminator is wrong.

Check it:  scratchgen exercise check gan_discriminator.py
"""

import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def discriminator_loss(real, fake):
    N, M = len(real), len(fake)
    loss = softplus(-real).sum() / N + softplus(fake).sum() / M
    # dreal, dfake = ...
    # return loss, dreal, dfake
    raise NotImplementedError("write dreal and dfake")
