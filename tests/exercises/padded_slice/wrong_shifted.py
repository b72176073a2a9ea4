# cause: shifted|padding
import numpy as np


def apply(x, padding, stride):
    padded = np.pad(x, ((0, 0), (padding, padding)))
    return padded[:, ::stride]


def adjoint(y, length, padding, stride):
    padded = np.zeros((len(y), length + 2 * padding))
    padded[:, ::stride] = y
    return padded[:, :length]
