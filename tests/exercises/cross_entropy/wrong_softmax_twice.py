# cause: softmax.*(twice|again|second)|(Σ|sum).*(axis|row)|pulled back
import numpy as np


def cross_entropy(logits, labels):
    N = len(logits)
    s = logits - logits.max(axis=1, keepdims=True)  # the loss does not change, and exp cannot overflow
    Z = np.exp(s).sum(axis=1, keepdims=True)
    log_p = s - np.log(Z)  # (N, K)
    loss = -log_p[np.arange(N), labels].sum() / N
    p = np.exp(log_p)
    dp = p.copy()
    dp[np.arange(N), labels] -= 1
    dlogits = p * (dp - (dp * p).sum(axis=1, keepdims=True)) / N
    return loss, dlogits
