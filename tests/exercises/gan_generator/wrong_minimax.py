# cause: minimax|saturat|log\(1 − σ
import numpy as np


def softplus(s):  # log(1 + eˢ), without overflow
    return np.maximum(s, 0) + np.log1p(np.exp(-abs(s)))


def generator_loss(fake):
    N = len(fake)
    loss = softplus(-fake).sum() / N
    dfake = -1 / (1 + np.exp(-fake)) / N
    return loss, dfake
