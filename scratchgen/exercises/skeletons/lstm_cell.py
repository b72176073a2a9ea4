"""One step of an LSTM: a memory c that gates write to, keep and read.

    z = x Wx + h Wh + b                     (N, 4H), four blocks of H columns: z_i, z_f, z_o, z_g
    i, f, o = σ(z_i), σ(z_f), σ(z_o),   g = tanh(z_g)
    c_new = f · c + i · g,   h_new = o · tanh(c_new)

    x (N, D), h and c (N, H), Wx (D, 4H), Wh (H, 4H), b (4H,) → h_new and c_new (N, H)

forward is written; write backward, in the place of `raise`. L is the loss, some scalar that is computed from h_new
and c_new further on. backward gets the pair (∂L/∂h_new, ∂L/∂c_new) and returns dx, dh, dc. The gradients of the
parameters it adds, with +=, to self.Wx.grad, self.Wh.grad and self.b.grad.

Check it:  scratchgen exercise check lstm_cell.py
"""

import numpy as np

from scratchgen import Layer, Parameter


def sigmoid(z):
    e = np.exp(-abs(z))
    return np.where(z > 0, 1, e) / (1 + e)


class LSTMCell(Layer):
    def __init__(self, features, hidden):
        self.Wx = Parameter("Wx", np.zeros((features, 4 * hidden)))
        self.Wh = Parameter("Wh", np.zeros((hidden, 4 * hidden)))
        self.b = Parameter("b", np.zeros(4 * hidden))

    def forward(self, x, h, c):
        Wx, Wh = self.Wx.value, self.Wh.value
        z = x @ Wx + h @ Wh + self.b.value
        z_i, z_f, z_o, z_g = np.split(z, 4, axis=1)
        i, f, o, g = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o), np.tanh(z_g)
        c_new = f * c + i * g
        t = np.tanh(c_new)
        h_new = o * t

        def backward(dy):
            raise NotImplementedError("write backward")

        return (h_new, c_new), backward
