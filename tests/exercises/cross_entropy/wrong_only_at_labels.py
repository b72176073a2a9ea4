# cause: label|zero|0 where|dropped|other class
import numpy as np


def cross_entropy(logits, labels):
    N = len(logits)
    s = logits - logits.max(axis=1, keepdims=True)  # the loss does not change, and exp cannot overflow
    Z = np.exp(s).sum(axis=1, keepdims=True)
    log_p = s - np.log(Z)  # (N, K)
    loss = -log_p[np.arange(N), labels].sum() / N
    p = np.exp(log_p)
    dlogits = np.zeros_like(p)
    dlogits[np.arange(N), labels] = p[np.arange(N), labels] - 1
    dlogits /= N
    return loss, dlogits
