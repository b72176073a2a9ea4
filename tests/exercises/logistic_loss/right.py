import numpy as np


def logistic_loss(logits, target):
    N = len(logits)
    s = logits
    loss = (np.maximum(s, 0) - target * s + np.log1p(np.exp(-abs(s)))).sum() / N
    e = np.exp(-abs(s))
    p = np.where(s > 0, 1, e) / (1 + e)
    dlogits = (p - target) / N
    return loss, dlogits
