import numpy as np


class Adam:
    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.parameters = list(parameters)  # each has value and grad, arrays of one shape
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.t = 0
        self.m = [np.zeros_like(p.value) for p in self.parameters]
        self.v = [np.zeros_like(p.value) for p in self.parameters]

    def step(self):
        self.t = self.t + 1
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            m[...] = self.betas[0] * m + (1 - self.betas[0]) * p.grad
            v[...] = self.betas[1] * v + (1 - self.betas[1]) * np.square(p.grad)
            step = (
                self.lr
                * (m / (1 - self.betas[0] ** self.t))
                / (np.sqrt(v / (1 - self.betas[1] ** self.t)) + self.eps)
            )
            p.value = p.value - step
            p.zero_grad()
