# cause: ^dx, dh, dc, Wx.grad, Wh.grad, b.grad: what comes from c_new is right, what comes from h_new is wrong
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
            dh_new, dc_new = dy
            dc_new = dc_new + dh_new * o  # c_new goes out by itself, and in h_new
            di, df, do, dg = dc_new * g, dc_new * c, dh_new * t, dc_new * i
            dz = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)], axis=1)
            self.Wx.grad += x.T @ dz
            self.Wh.grad += h.T @ dz
            self.b.grad += dz.sum(axis=0)
            return dz @ Wx.T, dz @ Wh.T, dc_new * f

        return (h_new, c_new), backward
