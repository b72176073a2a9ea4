"""Right layers, in the ways in which students write them: `test_student_layers.py` checks them, and spoils them."""

# ruff: noqa: B006, NPY002, RUF059  as they are found

from dataclasses import dataclass, field

import numpy as np

from scratchgen import Dense, Layer, Parameter, Tanh

rng0 = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- the library's own way: y, backward = forward(...) ---


class Add(Layer):
    def forward(self, a, b):
        return a + b, lambda dy: (dy, dy)


class Concat(Layer):
    def forward(self, a, b):
        n = a.shape[-1]
        return np.concatenate([a, b], -1), lambda dy: (dy[..., :n].copy(), dy[..., n:].copy())


class Split(Layer):
    def forward(self, x):
        h = x.shape[-1] // 2
        return (x[..., :h].copy(), x[..., h:].copy()), lambda dy: np.concatenate(dy, -1)


class SplitOfTwo(Layer):
    def forward(self, x):
        h = x.shape[-1] // 2
        return (x[..., :h].copy(), x[..., h:].copy()), lambda da, db: np.concatenate([da, db], -1)


class LSTMCell(Layer):
    def __init__(self, d=3, h=2, rng=None):
        rng = rng or np.random.default_rng()
        self.Wx = Parameter("Wx", rng.standard_normal((d, 4 * h)).astype("f"))
        self.Wh = Parameter("Wh", rng.standard_normal((h, 4 * h)).astype("f"))
        self.b = Parameter("b", np.zeros(4 * h, "f"))

    def forward(self, x, h, c):
        Wx, Wh, b = self.Wx.value, self.Wh.value, self.b.value
        z = x @ Wx + h @ Wh + b
        i, f, o, g = np.split(z, 4, axis=-1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        c2 = f * c + i * g
        t = np.tanh(c2)
        h2 = o * t

        def backward(dy):
            dh, dc = dy
            do = dh * t
            dc = dc + dh * o * (1 - t * t)
            df, dcp, di, dg = dc * c, dc * f, dc * g, dc * i
            dz = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)], -1)
            self.Wx.grad += x.T @ dz
            self.Wh.grad += h.T @ dz
            self.b.grad += dz.sum(0)
            return dz @ Wx.T, dz @ Wh.T, dcp

        return (h2, c2), backward


class GRUCell(Layer):
    def __init__(self, d=3, h=2, rng=None):
        self.W = Parameter("W", rng.standard_normal((d, 3 * h)).astype("f"))
        self.U = Parameter("U", rng.standard_normal((h, 3 * h)).astype("f"))

    def forward(self, x, h):
        W, U = self.W.value, self.U.value
        H = h.shape[1]
        a, u = x @ W, h @ U
        z = sigmoid(a[:, :H] + u[:, :H])
        r = sigmoid(a[:, H : 2 * H] + u[:, H : 2 * H])
        n = np.tanh(a[:, 2 * H :] + r * u[:, 2 * H :])
        y = (1 - z) * n + z * h

        def backward(dy):
            dz = dy * (h - n) * z * (1 - z)
            dn = dy * (1 - z) * (1 - n * n)
            dr = dn * u[:, 2 * H :] * r * (1 - r)
            da = np.hstack([dz, dr, dn])
            du = np.hstack([dz, dr, dn * r])
            self.W.grad += x.T @ da
            self.U.grad += h.T @ du
            return da @ W.T, dy * z + du @ U.T

        return y, backward


class Attention(Layer):
    def forward(self, q, k, v):
        s = q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5
        p = softmax(s)

        def backward(dy):
            dv = np.swapaxes(p, -1, -2) @ dy
            dp = dy @ np.swapaxes(v, -1, -2)
            ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
            return ds @ k, np.swapaxes(ds, -1, -2) @ q, dv

        return p @ v, backward


class SelfAttention3D(Layer):
    def __init__(self, d=4, rng=None):
        self.W = Parameter("W", rng.standard_normal((d, 3 * d)).astype("f"))

    def forward(self, x):
        n, t, d = x.shape
        W = self.W.value
        q, k, v = np.split(x @ W, 3, -1)
        s = q @ k.swapaxes(1, 2)
        p = softmax(s)

        def backward(dy):
            dv = p.swapaxes(1, 2) @ dy
            dp = dy @ v.swapaxes(1, 2)
            ds = p * (dp - (dp * p).sum(-1, keepdims=True))
            dqkv = np.concatenate([ds @ k, ds.swapaxes(1, 2) @ q, dv], -1)
            self.W.grad += np.einsum("nti,ntj->ij", x, dqkv)
            return dqkv @ W.T

        return p @ v, backward


class Embedding(Layer):
    def __init__(self, n=10, d=4, rng=None):
        self.W = Parameter("W", rng.standard_normal((n, d)).astype(np.float32))

    def forward(self, ids):
        W = self.W.value

        def backward(dy):
            g = np.zeros_like(W)
            np.add.at(g, ids, dy)
            self.W.grad += g

        return W[ids], backward


class TakeEmbedding(Embedding):
    def forward(self, ids):
        W = self.W.value

        def backward(dy):
            g = np.zeros_like(W)
            np.add.at(g, ids, dy)
            self.W.grad += g
            return None

        return np.take(W, ids, axis=0), backward


class MaxPool2(Layer):
    def forward(self, x):
        n, h, w, c = x.shape
        r = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
        y = r.max((2, 4))

        def backward(dy):
            m = r == y[:, :, None, :, None]
            g = m * dy[:, :, None, :, None] / m.sum((2, 4), keepdims=True)
            dx = np.zeros_like(x)
            dx[:, : h // 2 * 2, : w // 2 * 2] = g.reshape(n, h // 2 * 2, w // 2 * 2, c)
            return dx

        return y, backward


class DropoutGiven(Layer):
    def __init__(self, p=0.5):
        self.p = p

    def forward(self, x, mask):
        s = x.dtype.type(1 / (1 - self.p))
        return x * mask * s, lambda dy: dy * mask * s


class LayerNorm(Layer):
    def __init__(self, d=4):
        self.gamma = Parameter("gamma", np.ones(d, "f"))
        self.beta = Parameter("beta", np.zeros(d, "f"))

    def forward(self, x):
        g, b = self.gamma.value, self.beta.value
        ax = tuple(range(x.ndim - 1))
        mu = x.mean(-1, keepdims=True)
        s = 1 / np.sqrt(x.var(-1, keepdims=True) + x.dtype.type(1e-5))
        xh = (x - mu) * s

        def backward(dy):
            self.gamma.grad += (dy * xh).sum(ax)
            self.beta.grad += dy.sum(ax)
            d = dy * g
            return s * (d - d.mean(-1, keepdims=True) - xh * (d * xh).mean(-1, keepdims=True))

        return g * xh + b, backward


class Residual(Layer):
    def __init__(self, rng=None):
        self.inner = Dense(3, 3, rng=rng)
        self.act = Tanh()

    def forward(self, x):
        h, b1 = self.inner.forward(x)
        t, b2 = self.act.forward(h)
        return x + t, lambda dy: dy + b1(b2(dy))

    def predict(self, x):
        return x + self.act.predict(self.inner.predict(x))


@dataclass
class DataScale(Layer):
    factor: float = 2.0

    def forward(self, x):
        return self.factor * x, lambda dy: self.factor * dy


@dataclass
class DataDense(Layer):
    w: Parameter = field(default_factory=lambda: Parameter("w", np.ones(3, "f")))

    def forward(self, x):
        w = self.w.value

        def backward(dy):
            self.w.grad += (dy * x).sum(tuple(range(x.ndim - 1)))
            return dy * w

        return x * w, backward


class SumLoss(Layer):
    def forward(self, x):
        return x.sum(), lambda dy: dy * np.ones_like(x)


def norm_squared(x):
    return np.float64((x**2).sum()), lambda dy: 2 * dy * x


def mse(y, t):
    return float(((y - t) ** 2).mean()), 2 * (y - t) / y.size


# --- methods: y = layer.forward(x), dx = layer.backward(dy) ---


class DinputsDense:
    def __init__(self, n_inputs=3, n_neurons=2):
        self.weights = 0.1 * np.random.randn(n_inputs, n_neurons)
        self.biases = np.zeros((1, n_neurons))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)


class DinputsReLU:
    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.maximum(0, inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues.copy()
        self.dinputs[self.inputs <= 0] = 0


class DinputsDropout:
    def __init__(self, rate=0.1):
        self.rate = 1 - rate

    def forward(self, inputs, training):
        self.inputs = inputs
        if not training:
            self.output = inputs.copy()
            return
        r = np.random.default_rng(0)
        self.binary_mask = r.binomial(1, self.rate, size=inputs.shape) / self.rate
        self.output = inputs * self.binary_mask

    def backward(self, dvalues):
        self.dinputs = dvalues * self.binary_mask


class AffineWithLists:
    def __init__(self, D=3, H=2):
        self.params = [np.random.randn(D, H), np.zeros(H)]
        self.grads = [np.zeros((D, H)), np.zeros(H)]
        self.x = None

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        dx = np.dot(dout, W.T)
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return dx


class AffineWithDW:
    def __init__(self, D=3, H=2):
        self.W = np.random.randn(D, H)
        self.b = np.zeros(H)
        self.x = None
        self.dW = None
        self.db = None

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx


class NetOfLists:
    def __init__(self):
        self.layers = [AffineWithLists(3, 4), SigmoidWithLists(), AffineWithLists(4, 2)]
        self.params, self.grads = [], []
        for l in self.layers:
            self.params += l.params
            self.grads += l.grads

    def forward(self, x):
        for l in self.layers:
            x = l.forward(x)
        return x

    def backward(self, dout=1):
        for l in reversed(self.layers):
            dout = l.backward(dout)
        return dout


class SigmoidWithLists:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x):
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class LinearWithDLdW:
    def __init__(self, in_features=3, out_features=2):
        self.W = np.random.randn(out_features, in_features)
        self.b = np.random.randn(out_features, 1)
        self.dLdW = np.zeros_like(self.W)
        self.dLdb = np.zeros_like(self.b)

    def forward(self, A):
        self.A = A
        self.N = A.shape[0]
        self.Ones = np.ones((self.N, 1))
        return A @ self.W.T + self.Ones @ self.b.T

    def backward(self, dLdZ):
        self.dLdA = dLdZ @ self.W
        self.dLdW = dLdZ.T @ self.A
        self.dLdb = dLdZ.T @ self.Ones
        return self.dLdA


class LinearWithDicts:
    def __init__(self, n=3, m=2):
        self.params = {"weight": np.random.randn(n, m), "bias": np.zeros((1, m))}
        self.grads = {"weight": None, "bias": None}

    def forward(self, x):
        self.x = x
        return x @ self.params["weight"] + self.params["bias"]

    def backward(self, dout):
        self.grads = {"weight": self.x.T @ dout, "bias": dout.sum(0, keepdims=True)}
        return dout @ self.params["weight"].T


class DenseWithGradsDict:
    def __init__(self, n=3, m=2):
        self.W = np.random.randn(n, m).astype("f")
        self.b = np.zeros(m, "f")
        self.grads = {}

    def forward(self, x):
        self.cache = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.grads["dW"] = self.cache.T @ dy
        self.grads["db"] = dy.sum(0)
        return dy @ self.W.T


class DenseReturningAll:
    def __init__(self, n=3, m=2):
        self.W = np.random.randn(n, m)
        self.b = np.zeros(m)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        return dy @ self.W.T, self.x.T @ dy, dy.sum(0)


class DenseThatSteps:
    def __init__(self, input_size=3, output_size=2):
        self.weights = np.random.randn(output_size, input_size)
        self.bias = np.random.randn(output_size, 1)

    def forward(self, input):
        self.input = input
        return np.dot(self.weights, self.input) + self.bias

    def backward(self, output_gradient, learning_rate):
        weights_gradient = np.dot(output_gradient, self.input.T)
        input_gradient = np.dot(self.weights.T, output_gradient)
        self.weights -= learning_rate * weights_gradient
        self.bias -= learning_rate * output_gradient.sum(axis=1, keepdims=True)
        return input_gradient


class Param:
    def __init__(self, data):
        self.data = data
        self.grad = np.zeros_like(data)


class DenseOfOwnParams:
    def __init__(self, n=3, m=2):
        self.W = Param(np.random.randn(n, m))
        self.b = Param(np.zeros(m))

    def forward(self, x):
        self.x = x
        return x @ self.W.data + self.b.data

    def backward(self, dy):
        self.W.grad += self.x.T @ dy
        self.b.grad += dy.sum(0)
        return dy @ self.W.data.T

    def parameters(self):
        return [self.W, self.b]


class LayerWithMethods(Layer):
    def __init__(self, n=3, m=2):
        self.W = np.random.randn(n, m)
        self.b = np.zeros(m)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW = self.x.T @ dy
        self.db = dy.sum(0)
        return dy @ self.W.T


class CallStyle:
    def __call__(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2)


class LinearWithGradWeight:
    def __init__(self, n=3, m=2):
        self.weight = np.random.randn(m, n)
        self.bias = np.zeros(m)

    def forward(self, x):
        self.x = x
        return x @ self.weight.T + self.bias

    def backward(self, grad_output):
        self.grad_weight = grad_output.T @ self.x
        self.grad_bias = grad_output.sum(0)
        return grad_output @ self.weight


class DenseWithCache:
    def __init__(self, n=3, m=2):
        self.W = np.random.randn(n, m)

    def forward(self, x):
        return x @ self.W, (x,)

    def backward(self, dy, cache):
        (x,) = cache
        self.dW = x.T @ dy
        return dy @ self.W.T


class BatchNormMethods:
    def __init__(self, d=3):
        self.gamma = np.ones(d)
        self.beta = np.zeros(d)
        self.running_mean = np.zeros(d)
        self.momentum = 0.9
        self.eps = 1e-5

    def forward(self, x):
        mu, v = x.mean(0), x.var(0)
        self.running_mean = 0.9 * self.running_mean + 0.1 * mu
        self.s = 1 / np.sqrt(v + self.eps)
        self.xh = (x - mu) * self.s
        return self.gamma * self.xh + self.beta

    def backward(self, dy):
        self.dgamma = (dy * self.xh).sum(0)
        self.dbeta = dy.sum(0)
        d = dy * self.gamma
        return self.s * (d - d.mean(0) - self.xh * (d * self.xh).mean(0))


class LearnedSlope:
    def __init__(self):
        self.alpha = 0.25

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.alpha * x)

    def backward(self, dy):
        self.dalpha = (dy * np.where(self.x > 0, 0, self.x)).sum()
        return dy * np.where(self.x > 0, 1, self.alpha)


class MSELoss:
    def forward(self, y, t):
        self.d = y - t
        return 0.5 * np.sum(self.d**2)

    def backward(self):
        return self.d


class RNNCellMethods:
    def __init__(self, d=3, h=2):
        self.Wx = np.random.randn(d, h)
        self.Wh = np.random.randn(h, h)
        self.b = np.zeros(h)

    def forward(self, x, h):
        self.x, self.h = x, h
        self.y = np.tanh(x @ self.Wx + h @ self.Wh + self.b)
        return self.y

    def backward(self, dy):
        dz = dy * (1 - self.y**2)
        self.dWx = self.x.T @ dz
        self.dWh = self.h.T @ dz
        self.db = dz.sum(0)
        return dz @ self.Wx.T, dz @ self.Wh.T


# --- pairs of functions: y, cache = f_forward(x, w), dx, dw = f_backward(dy, cache) ---


def affine_forward(x, w, b):
    return x.reshape(len(x), -1) @ w + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, b = cache
    return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(0)


def relu_forward(x):
    return np.maximum(0, x), x


def relu_backward(dout, cache):
    return dout * (cache > 0)


def layernorm_forward(x, gamma, beta, ln_param={}):
    mu = x.mean(1, keepdims=True)
    s = 1 / np.sqrt(x.var(1, keepdims=True) + ln_param.get("eps", 1e-5))
    xh = (x - mu) * s
    return gamma * xh + beta, (xh, s, gamma)


def layernorm_backward(dout, cache):
    xh, s, gamma = cache
    d = dout * gamma
    return s * (d - d.mean(1, keepdims=True) - xh * (d * xh).mean(1, keepdims=True)), (dout * xh).sum(0), dout.sum(0)


def softmax_loss(x, y):
    n = len(x)
    p = softmax(x)
    loss = -np.log(p[np.arange(n), y]).mean()
    d = p.copy()
    d[np.arange(n), y] -= 1
    return loss, d / n


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return h, (x, prev_h, Wx, Wh, h)


def rnn_step_backward(dh, cache):
    x, ph, Wx, Wh, h = cache
    dz = dh * (1 - h * h)
    return dz @ Wx.T, dz @ Wh.T, x.T @ dz, ph.T @ dz, dz.sum(0)


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    z = x @ Wx + prev_h @ Wh + b
    H = prev_h.shape[1]
    i, f, o, g = sigmoid(z[:, :H]), sigmoid(z[:, H : 2 * H]), sigmoid(z[:, 2 * H : 3 * H]), np.tanh(z[:, 3 * H :])
    c = f * prev_c + i * g
    h = o * np.tanh(c)
    return h, c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, c)


def lstm_step_backward(dh, dc, cache):
    x, ph, pc, Wx, Wh, i, f, o, g, c = cache
    t = np.tanh(c)
    dc = dc + dh * o * (1 - t * t)
    dz = np.hstack([dc * g * i * (1 - i), dc * pc * f * (1 - f), dh * t * o * (1 - o), dc * i * (1 - g * g)])
    return dz @ Wx.T, dz @ Wh.T, dc * f, x.T @ dz, ph.T @ dz, dz.sum(0)


def linear_forward(A, W, b):
    return W @ A + b, (A, W, b)  # samples in columns


def linear_backward(dZ, cache):
    A, W, b = cache
    return W.T @ dZ, dZ @ A.T, dZ.sum(axis=1, keepdims=True)


def leaky(x, slope):
    return np.where(x > 0, x, slope * x), lambda dy: dy * np.where(x > 0, 1, slope)


def prelu(x, a):
    axes = tuple(range(x.ndim - 1))
    return np.where(x > 0, x, a * x), lambda dy: (dy * np.where(x > 0, 1, a), (dy * np.minimum(x, 0)).sum(axes))


def word_embedding_forward(x, W):
    return W[x], (x, W)


def word_embedding_backward(dout, cache):
    x, W = cache
    dW = np.zeros_like(W)
    np.add.at(dW, x, dout)
    return None, dW


W_global = Parameter("W", rng0.standard_normal((4, 2)).astype("f"))


def with_global(x):
    W = W_global.value

    def backward(dy):
        W_global.grad += x.T @ dy
        return dy @ W.T

    return x @ W, backward


def masked(x, mask):
    return np.where(mask, x, 0), lambda dy: np.where(mask, dy, 0)


def gather(x, mask):
    return x[mask], lambda dy: _scatter(x, mask, dy)


def _scatter(x, mask, dy):
    d = np.zeros_like(x)
    d[mask] = dy
    return d


class ConvNCHW:
    def __init__(self, cin=2, cout=3, k=3):
        self.W = np.random.randn(cout, cin, k, k)
        self.b = np.zeros(cout)

    def forward(self, x):
        n, c, h, w = x.shape
        k = self.W.shape[2]
        self.x = x
        assert c == self.W.shape[1]
        y = np.zeros((n, len(self.W), h - k + 1, w - k + 1))
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                y[:, :, i, j] = np.tensordot(x[:, :, i : i + k, j : j + k], self.W, ([1, 2, 3], [1, 2, 3])) + self.b
        return y

    def backward(self, dy):
        k = self.W.shape[2]
        dx = np.zeros_like(self.x)
        self.dW = np.zeros_like(self.W)
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                dx[:, :, i : i + k, j : j + k] += np.tensordot(dy[:, :, i, j], self.W, ([1], [0]))
                self.dW += np.tensordot(dy[:, :, i, j], self.x[:, :, i : i + k, j : j + k], ([0], [0]))
        self.db = dy.sum((0, 2, 3))
        return dx


class PositionalEncoding(Layer):
    def __init__(self, t=6, d=4):
        self.table = np.sin(np.arange(t * d, dtype="f").reshape(t, d))

    def forward(self, x):
        return x + self.table, lambda dy: dy.copy()


class LazyDense:
    def __init__(self):
        self.W = None

    def forward(self, x):
        if self.W is None:
            self.W = np.random.default_rng(0).standard_normal((x.shape[-1], 2))
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T


class SoftmaxWithMethods:
    def forward(self, x):
        self.y = softmax(x)
        return self.y

    def backward(self, grad):
        return self.y * (grad - (grad * self.y).sum(-1, keepdims=True))


class EmbeddingWithLists:
    def __init__(self, V=7, D=3):
        self.params = [np.random.randn(V, D)]
        self.grads = [np.zeros((V, D))]
        self.idx = None

    def forward(self, idx):
        (W,) = self.params
        self.idx = idx
        return W[idx]

    def backward(self, dout):
        (dW,) = self.grads
        dW[...] = 0
        np.add.at(dW, self.idx, dout)
        return None
