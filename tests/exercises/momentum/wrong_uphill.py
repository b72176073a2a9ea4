# cause: uphill|sign
import numpy as np


class SGD:
    def __init__(self, parameters, lr=0.1, momentum=0.9):
        self.parameters = list(parameters)  # each has value and grad, arrays of one shape
        self.lr = lr
        self.momentum = momentum
        self.u = [np.zeros_like(p.value) for p in self.parameters]

    def step(self):
        for i, p in enumerate(self.parameters):
            self.u[i] = self.momentum * self.u[i] + p.grad
            p.value = p.value + self.lr * self.u[i]
            p.zero_grad()
