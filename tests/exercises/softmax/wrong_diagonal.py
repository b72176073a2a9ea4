# cause: diagonal|whole row|((missing|gradient is).*(Σ|sum).*(axis|row))
import numpy as np

from scratchgen import Layer


class Softmax(Layer):
    def forward(self, x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)

        def backward(dy):
            return dy * y * (1 - y)

        return y, backward
