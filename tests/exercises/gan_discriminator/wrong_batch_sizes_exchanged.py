# cause: N and M|batch size|other batch|number of (real|fake|generated)|1\.5 times|0\.6+7? times
import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def discriminator_loss(real, fake):
    N, M = len(real), len(fake)
    loss = softplus(-real).sum() / N + softplus(fake).sum() / M
    dreal = -1 / (1 + np.exp(real)) / M
    dfake = 1 / (1 + np.exp(-fake)) / N
    return loss, dreal, dfake
