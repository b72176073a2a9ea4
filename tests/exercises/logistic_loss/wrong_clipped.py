# cause: clip|vanish|is 0 (there|where)
import numpy as np


def logistic_loss(logits, target):
    N = len(logits)
    s = logits
    loss = (np.maximum(s, 0) - target * s + np.log1p(np.exp(-abs(s)))).sum() / N
    p = 1 / (1 + np.exp(-s))
    inside = (p > 1e-3) & (p < 1 - 1e-3)
    dlogits = np.where(inside, p - target, 0) / N
    return loss, dlogits
