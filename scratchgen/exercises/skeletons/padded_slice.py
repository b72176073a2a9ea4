"""An adjoint by hand: of padding with zeros and taking every s-th element.

    A: x (N, T) → y,    y_nr = x̄_n,rs       x̄ is x with p zeros before and after each row, s the stride

A is linear, and its adjoint is the linear map Aᵀ with ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ for all x and y, where ⟨a, b⟩ = Σ a · b.
It is what backward does: dx = Aᵀ dy. apply is A; write adjoint. y has the shape of apply(x, padding, stride), and
what it returns the shape of x, (N, length).

Check it:  scratchgen exercise check padded_slice.py
"""

import numpy as np


def apply(x, padding, stride):
    padded = np.pad(x, ((0, 0), (padding, padding)))
    return padded[:, ::stride]


def adjoint(y, length, padding, stride):
    raise NotImplementedError("write adjoint")
