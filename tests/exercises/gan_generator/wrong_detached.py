# cause: zero
import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def generator_loss(fake):
    N = len(fake)
    loss = softplus(-fake).sum() / N
    dfake = np.zeros_like(fake)
    return loss, dfake
