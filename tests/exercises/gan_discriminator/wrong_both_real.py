# cause: dfake.*(label|real|off by)
import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def discriminator_loss(real, fake):
    N, M = len(real), len(fake)
    loss = softplus(-real).sum() / N + softplus(fake).sum() / M
    dreal = -1 / (1 + np.exp(real)) / N
    dfake = -1 / (1 + np.exp(fake)) / M
    return loss, dreal, dfake
