# cause: sign
import numpy as np


def logistic_loss(logits, target):
    N = len(logits)
    s = logits
    loss = (np.maximum(s, 0) - target * s + np.log1p(np.exp(-abs(s)))).sum() / N
    p = 1 / (1 + np.exp(-s))
    dlogits = (target - p) / N
    return loss, dlogits
