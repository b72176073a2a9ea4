# cause: (Σ|sum|mean|divided by)
import numpy as np

from scratchgen import Layer


class Softmax(Layer):
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)

        def backward(dy):
            return y * (dy - (dy * y).mean(axis=1, keepdims=True))

        return y, backward
