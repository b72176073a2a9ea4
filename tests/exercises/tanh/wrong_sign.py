# cause: (sign.*(y²|y · y))|((y²|y · y).*(sign|added|twice|missing|too much|− ?2|-2))
import numpy as np

from scratchgen import Layer


class Tanh(Layer):
    def forward(self, x):
        y = np.tanh(x)

        def backward(dy):
            return dy * (1 + y * y)

        return y, backward
