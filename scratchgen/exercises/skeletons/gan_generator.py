"""The generator's loss in a GAN, in the form that does not saturate: its images should get large logits.

    L = −1/N Σ_n log σ(fake_n) = 1/N Σ_n log(1 + e^−fake_n)

    logits fake (N, 1), of the discriminator on generated images → L, a scalar;      σ(s) = 1 / (1 + e⁻ˢ)

Return the loss and its gradient dfake = ∂L/∂fake, which goes on through the discriminator into the generator. It must
be finite for logits of ±10 000. Where the discriminator is sure that an image is generated, fake → −∞, it stays −1/N:
the minimax form, 1/N Σ log(1 − σ(fake)), has no gradient there.

Check it:  scratchgen exercise check gan_generator.py
"""

import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def generator_loss(fake):
    N = len(fake)
    loss = softplus(-fake).sum() / N
    # dfake = ...
    # return loss, dfake
    raise NotImplementedError("write dfake")
