# cause: not kept|plain|without momentum
import numpy as np


class SGD:
    def __init__(self, parameters, lr=0.1, momentum=0.9):
        self.parameters = list(parameters)  # each has value and grad, arrays of one shape
        self.lr = lr
        self.momentum = momentum
        self.u = [np.zeros_like(p.value) for p in self.parameters]

    def step(self):
        for u, p in zip(self.u, self.parameters, strict=True):
            u = self.momentum * u + p.grad
            p.value = p.value - self.lr * u
            p.zero_grad()
