# cause: mask|equals dy where|lets dy through|gives dy; .*dy · \[[xy] > 0\]
import numpy as np

from scratchgen import Layer


class ReLU(Layer):
    def forward(self, x):
        y = np.maximum(x, 0)

        def backward(dy):
            return dy * (y >= 0)

        return y, backward
