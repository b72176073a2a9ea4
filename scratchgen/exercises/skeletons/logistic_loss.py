"""Logistic loss (binary cross-entropy) from logits s, with p = σ(s) = 1 / (1 + e⁻ˢ).

    L = −1/N Σ_n Σ_i [t log p + (1 − t) log(1 − p)] = 1/N Σ_n Σ_i [log(1 + eˢ) − t s]

    logits s (N, D), target t (N, D) with elements in [0, 1] → L, a scalar

The loss is written so that nothing overflows: log(1 + eˢ) = max(s, 0) + log(1 + e^−|s|). Return the loss and its
gradient dlogits = ∂L/∂s, of the logits' shape. It must be finite for s = ±10 000, and not 0 there where p is wrong.

Check it:  scratchgen exercise check logistic_loss.py
"""

import numpy as np


def logistic_loss(logits, target):
    N = len(logits)
    s = logits
    loss = (np.maximum(s, 0) - target * s + np.log1p(np.exp(-abs(s)))).sum() / N
    # dlogits = ...
    # return loss, dlogits
    raise NotImplementedError("write dlogits")
