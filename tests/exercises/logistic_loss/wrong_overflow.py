# cause: not finite|nan|overflow
import numpy as np


def logistic_loss(logits, target):
    N = len(logits)
    s = logits
    loss = (np.maximum(s, 0) - target * s + np.log1p(np.exp(-abs(s)))).sum() / N
    p = np.exp(s) / (1 + np.exp(s))
    dlogits = (p - target) / N
    return loss, dlogits
