# cause: clip|vanish|is 0 (there|where)
import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def discriminator_loss(real, fake):
    N, M = len(real), len(fake)
    loss = softplus(-real).sum() / N + softplus(fake).sum() / M
    p, q = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    dreal = np.where(p > 1e-4, p - 1, 0) / N
    dfake = np.where(q < 1 - 1e-4, q, 0) / M
    return loss, dreal, dfake
