# cause: repeat|filled|between|holes|copies
import numpy as np


def apply(x, padding, stride):
    padded = np.pad(x, ((0, 0), (padding, padding)))
    return padded[:, ::stride]


def adjoint(y, length, padding, stride):
    padded = np.repeat(y, stride, axis=1)[:, : length + 2 * padding]
    return padded[:, padding : padding + length]
