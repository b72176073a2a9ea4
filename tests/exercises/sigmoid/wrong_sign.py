# cause: (sign.*(y²|y · y))|((y²|y · y).*(sign|added|twice|missing|− ?2|-2))|1 \+ y
import numpy as np

from scratchgen import Layer


class Sigmoid(Layer):
    def forward(self, x):
        e = np.exp(-abs(x))
        y = np.where(x > 0, 1, e) / (1 + e)

        def backward(dy):
            return dy * y * (1 + y)

        return y, backward
