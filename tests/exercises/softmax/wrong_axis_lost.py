# cause: shapes \(4, 3\) and \(4,\) .* keepdims=True keeps it, as \(4, 1\)
import numpy as np

from scratchgen import Layer


class Softmax(Layer):
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)

        def backward(dy):
            return y * (dy - (dy * y).sum(axis=1))

        return y, backward
