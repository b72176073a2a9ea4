# cause: dy · y|y · dy|dy · x|x · dy|times [xy]\b
import numpy as np

from scratchgen import Layer


class ReLU(Layer):
    def forward(self, x):
        y = np.maximum(x, 0)

        def backward(dy):
            return dy * y

        return y, backward
