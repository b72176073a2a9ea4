# cause: √
import math

import numpy as np


def attention(q, k, v):
    root = math.sqrt(q.shape[2])
    s = q @ k.transpose(0, 2, 1) / root
    e = np.exp(s - s.max(axis=2, keepdims=True))
    a = e / e.sum(axis=2, keepdims=True)
    y = a @ v

    def backward(dy):
        da = dy @ v.transpose(0, 2, 1)
        ds = a * (da - (da * a).sum(axis=2, keepdims=True)) / root**2
        dq = ds @ k
        dk = ds.transpose(0, 2, 1) @ q
        dv = a.transpose(0, 2, 1) @ dy
        return dq, dk, dv

    return y, backward
