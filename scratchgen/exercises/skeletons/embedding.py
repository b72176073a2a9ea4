"""Embedding: each id stands for a row of a table that is learned.

    y_nt = W[ids_nt]                        ids (N, T) of integers from 0 to V − 1, W (V, D) → y (N, T, D)

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from y
further on. backward gets dy = ∂L/∂y (N, T, D) and adds ∂L/∂W, with +=, to self.W.grad. There is no gradient of ids,
so what it returns does not matter, and it may return nothing. An id may occur several times.

Check it:  scratchgen exercise check embedding.py
"""

import numpy as np

from scratchgen import Layer, Parameter


class Embedding(Layer):
    def __init__(self, count, features):
        self.W = Parameter("W", np.zeros((count, features)))

    def forward(self, ids):
        W = self.W.value
        y = W[ids]

        def backward(dy):
            raise NotImplementedError("write backward")

        return y, backward
