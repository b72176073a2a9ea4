# cause: gives dy · y; the gradient is dy · \(1 − y²\)|(is|equals) (dy · y|y · dy)\b(?!²)|taken as y\b
import numpy as np

from scratchgen import Layer


class Tanh(Layer):
    def forward(self, x):
        y = np.tanh(x)

        def backward(dy):
            return dy * y

        return y, backward
