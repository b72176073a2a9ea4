# cause: not linear|sign of dy|dy > 0|where dy is
import numpy as np

from scratchgen import Layer


class ReLU(Layer):
    def forward(self, x):
        y = np.maximum(x, 0)

        def backward(dy):
            return dy * (x > 0) * (dy > 0)

        return y, backward
