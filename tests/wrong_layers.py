"""Wrong layers, losses and models as students write them, to measure what the gradient checker says about each.

They were written without a look at the checker's hints, so that the measure is an honest one (`blind.py`). Each has one
mistake, on a line that ends with its right version, `# right: ...`: with that in its place the check must find nothing.
`why` is the true cause in plain words; `cause` is a pattern that a hint pointing at this cause contains, in whatever
words, and a hint at another cause does not.
"""

# ruff: noqa: E501, F841, PIE790, RUF059  as students write it
# A wrong line and its right version stay on one line.
# fmt: off

import ast
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen import BatchNorm, Conv2d, Dense, Flatten, Layer, LeakyReLU, Parameter, ReLU, Sequential, Sigmoid, Tanh
from scratchgen.losses import bce_with_logits, gaussian_kl
from scratchgen.losses import mse as library_mse

WRONG: dict[str, "Wrong"] = {}


@dataclass
class Wrong:
    name: str
    why: str
    cause: str  # a regular expression, whatever the case
    make: Callable[[np.random.Generator], tuple[Any, tuple]]
    never: str = ""  # what was once said, and is false or leads astray


def wrong(why: str, cause: str, never: str = "") -> Callable:
    def decorate(make: Callable) -> Callable:
        WRONG[make.__name__] = Wrong(make.__name__, why, cause, make, never)
        return make

    return decorate


def mended(name: str) -> Callable[[np.random.Generator], tuple[Any, tuple]]:
    """The factory of the same layer with the right lines in the places of the wrong ones."""
    source = Path(__file__).read_text()
    lines = source.splitlines()
    start = lines.index("# --- dense layers ---")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name in WRONG:
            if node.name == name:
                break
            start = node.end_lineno
    found = [i for i in range(start, node.end_lineno) if "# right: " in lines[i]]
    if not found:
        raise ValueError(f"{name}: no line says what is right")
    for i in found:
        indent = lines[i][: len(lines[i]) - len(lines[i].lstrip())]
        lines[i] = indent + lines[i].split("# right: ")[1]
    module = sys.modules[f"mended_{name}"] = types.ModuleType(f"mended_{name}")
    module.__file__ = __file__
    exec(compile("\n".join(lines), f"<{name} mended>", "exec"), module.__dict__)
    return module.WRONG[name].make


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(s, axis=-1):
    e = np.exp(s - s.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def one_hot(labels, classes):
    return np.eye(classes)[labels]


# --- dense layers ---


class MyLinear:
    def __init__(self, n_in, n_out, rng):
        self.W = rng.normal(size=(n_in, n_out))
        self.b = rng.normal(size=n_out)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = dout.mean(axis=0)  # right: self.db = dout.sum(axis=0)
        return dout @ self.W.T


@wrong(
    "the bias gradient is averaged over the batch, where dy is to be summed over it",
    r"mean|averag|divid|batch size|1/5|1/N|number of samples|5 times|factor.*\b5\b|sum(med)? over (the )?(batch|axis 0|samples)",
)
def linear_bias_mean(rng):
    return MyLinear(4, 3, rng), (rng.normal(size=(5, 4)),)


@wrong("dW is transposed: dyᵀx for xᵀdy; W is square, so that shapes do not tell", r"transpos|ᵀ|\.T\b")
def square_dense_dW_transposed(rng):
    class Square(Layer):
        def __init__(self):
            self.weight = Parameter("weight", rng.normal(size=(4, 4)))

        def forward(self, x):
            W = self.weight.value

            def backward(dy):
                self.weight.grad += dy.T @ x  # right: self.weight.grad += x.T @ dy
                return dy @ W.T

            return x @ W, backward

    return Square(), (rng.normal(size=(5, 4)),)


@wrong("dx multiplies by W instead of by its transpose", r"transpos|ᵀ|\.T\b")
def square_dense_dx_without_transpose(rng):
    W = rng.normal(size=(3, 3))

    def layer(x):
        def backward(dy):
            return dy @ W  # right: return dy @ W.T

        return np.tanh(x) @ W @ W.T if False else x @ W, backward

    return layer, (rng.normal(size=(4, 3)),)


def affine_forward(x, w, b):
    out = x.reshape(x.shape[0], -1) @ w + b
    cache = (x, w, b)
    return out, cache


def affine_backward(dout, cache):
    x, w, b = cache
    dx = (dout @ w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T @ dout
    db = dout[0]  # right: db = dout.sum(axis=0)
    return dx, dw, db


@wrong(
    "the bias gradient is that of the first sample alone, not summed over the batch",
    r"first (row|sample|element|of)|sum(med)? over|missing.*(batch|samples|axis 0)|only.*(first|one|row 0|sample|\[0\])|dy\[0\]",
)
def affine_pair_bias_of_first_sample(rng):
    return affine_forward, (rng.normal(size=(4, 3, 2)), rng.normal(size=(6, 5)), rng.normal(size=5))


@wrong(
    "the bias gradient is summed over everything, so each element gets the total; it is to be summed over the batch only",
    r"gets the same|sum(med)? over (all|every|the (output|feature|channel|last)|axis 1|axes|both)|total|all (axes|elements)", never=r"averaged",
)
def dense_bias_summed_over_all(rng):
    class Linear(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(3, 4)))
            self.b = Parameter("b", rng.normal(size=4))

        def forward(self, x):
            W, b = self.W.value, self.b.value

            def backward(dy):
                self.W.grad += x.T @ dy
                self.b.grad += np.sum(dy)  # right: self.b.grad += np.sum(dy, axis=0)
                return dy @ W.T

            return x @ W + b, backward

    return Linear(), (rng.normal(size=(5, 3)),)


@wrong(
    "a batch of sequences: dW takes the last time step only; it is to be summed over time too",
    r"time|axis 1|last (step|position)|sum(med)? over|missing.*(positions|steps)",
)
def sequence_dense_last_step(rng):
    class TimeDistributed:
        def __init__(self):
            self.W = rng.normal(size=(3, 4))

        def forward(self, x):
            self.x = x
            return x @ self.W

        def backward(self, dout):
            x, d = self.x[:, -1], dout[:, -1]  # right: x, d = self.x.reshape(-1, 3), dout.reshape(-1, 4)
            self.dW = x.T @ d
            return dout @ self.W.T

    return TimeDistributed(), (rng.normal(size=(2, 5, 3)),)


@wrong(
    "the layer before gets W of shape (in, out) read in the wrong order: a reshape stands where a transpose belongs",
    r"transpos|ᵀ|\.T\b|reshape|order",
)
def dense_dx_reshape_for_transpose(rng):
    class Dense2(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(3, 5)))

        def forward(self, x):
            W = self.W.value

            def backward(dy):
                self.W.grad += x.T @ dy
                return dy @ W.reshape(5, 3)  # right: return dy @ W.T

            return x @ W, backward

    return Dense2(), (rng.normal(size=(4, 3)),)


# --- activations ---


@wrong(
    "sigmoid's derivative is taken of the input, x(1 − x), where it is y(1 − y) of the output",
    r"\by\s*[·*]?\s*\(1\s*[−-]\s*y\)|output|sigmoid|σ|x\s*[·*]?\s*\(1\s*[−-]\s*x\)|\bx for y\b",
)
def sigmoid_derivative_of_input(rng):
    class Sigmoid_:
        def forward(self, z):
            self.z = z
            return sigmoid(z)

        def backward(self, dA):
            return dA * self.z * (1 - self.z)  # right: return dA * sigmoid(self.z) * (1 - sigmoid(self.z))

    return Sigmoid_(), (rng.normal(size=(4, 3)),)


@wrong("tanh's derivative is 1 − y², here 1 − y: the square is missing", r"y²|y\^2|y\s*\*\*\s*2|y\s*[·*]\s*y|squar|1\s*[−-]\s*y|tanh")
def tanh_without_square(rng):
    def tanh_layer(x):
        y = np.tanh(x)
        return y, lambda dy: dy * (1 - y)  # right: return y, lambda dy: dy * (1 - y * y)

    return tanh_layer, (rng.normal(size=(3, 4)),)


@wrong(
    "ReLU's mask is made from the gradient's sign, not from the input's",
    r"linear in dy|mask|x\s*[>≥<≤]\s*0|sign of (dy|the gradient)|where (x|the input|dy)", never=r"right at the values given",
)
def relu_masks_by_gradient(rng):
    class Relu(Layer):
        def forward(self, x):
            def backward(dy):
                dx = dy.copy()
                dx[dy <= 0] = 0  # right: dx[x <= 0] = 0
                return dx

            return np.maximum(x, 0), backward

    return Relu(), (rng.normal(size=(4, 5)),)


@wrong(
    "on the negative side LeakyReLU's dx is the slope itself, not slope · dy",
    r"linear in dy|without dy|factor dy|slope|constant|does not depend",
)
def leaky_relu_slope_without_dy(rng):
    def leaky(x):
        return np.where(x > 0, x, 0.1 * x), lambda dy: np.where(x > 0, dy, 0.1)  # right: return np.where(x > 0, x, 0.1 * x), lambda dy: np.where(x > 0, dy, 0.1 * dy)

    return leaky, (rng.normal(size=(4, 3)),)


@wrong(
    "ELU's derivative for x < 0 is y + alpha, here y: the alpha is missing",
    r"alpha|1\.3",
)
def elu_without_alpha(rng):
    class ELU:
        def __init__(self, alpha=1.3):
            self.alpha = alpha

        def forward(self, x):
            self.x = x
            self.out = np.where(x > 0, x, self.alpha * (np.exp(x) - 1))
            return self.out

        def backward(self, dout):
            return dout * np.where(self.x > 0, 1.0, self.out)  # right: return dout * np.where(self.x > 0, 1.0, self.out + self.alpha)

    return ELU(), (rng.normal(size=(4, 5)),)


@wrong("SELU's scale is forgotten for x < 0", r"x\s*[<≤]\s*0|1\.05|0\.95|negative")
def selu_scale_one_side(rng):
    scale, alpha = 1.0507, 1.67326

    def selu(x):
        y = scale * np.where(x > 0, x, alpha * (np.exp(x) - 1))

        def backward(dy):
            negative = alpha * np.exp(x)  # right: negative = scale * alpha * np.exp(x)
            return dy * np.where(x > 0, scale, negative)

        return y, backward

    return selu, (rng.normal(size=(4, 4)),)


@wrong(
    "SiLU, x σ(x): the product rule's first term, dy · σ(x), is missing",
    r"product rule|σ\(x\)|sigmoid|first term|\by\s*/\s*x|y\s*[·*]?\s*\(1",
)
def silu_misses_product_rule(rng):
    class SiLU(Layer):
        def forward(self, x):
            s = sigmoid(x)

            def backward(dy):
                return dy * x * s * (1 - s)  # right: return dy * (s + x * s * (1 - s))

            return x * s, backward

    return SiLU(), (rng.normal(size=(3, 5)),)


def gelu(x):
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (1 + t), (x, t)


def gelu_backward(dy, cache):
    x, t = cache
    c = np.sqrt(2 / np.pi)
    inner = c  # right: inner = c * (1 + 3 * 0.044715 * x**2)
    return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)


@wrong(
    "GELU by tanh: the inner derivative lacks the cubic term's 3 · 0.044715 x²",
    r"0\.044|0\.134|0\.107|inner|cubic|chain rule|x²|x\^2|x\*\*2|x³",
)
def gelu_inner_derivative(rng):
    return gelu, (rng.normal(size=(4, 3)) * 1.5,)


@wrong(
    "GELU exact: x · density is missing, the derivative is Φ(x) + x φ(x)",
    r"product rule|φ|density|pdf|normal|exp\(|missing.*\bx\b|x\s*[·*]", never=r"tanh|sin\(",
)
def gelu_exact_misses_density(rng):
    from math import erf

    cdf = np.vectorize(lambda v: 0.5 * (1 + erf(v / np.sqrt(2))))

    def gelu_layer(x):
        p = cdf(x)

        def backward(dy):
            return dy * p  # right: return dy * (p + x * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi))

        return x * p, backward

    return gelu_layer, (rng.normal(size=(3, 4)),)


@wrong("softplus with sharpness β: its derivative is σ(βx), here multiplied by β once more", r"\b2\.5\b|beta|β")
def softplus_extra_beta(rng):
    class Softplus:
        def __init__(self, beta=2.5):
            self.beta = beta

        def forward(self, x):
            self.x = x
            return np.log1p(np.exp(self.beta * x)) / self.beta

        def backward(self, dy):
            return dy * self.beta * sigmoid(self.beta * self.x)  # right: return dy * sigmoid(self.beta * self.x)

    return Softplus(), (rng.normal(size=(4, 3)),)


@wrong(
    "clipping passes the gradient everywhere; it is 0 where x was clipped",
    r"clip|mask|outside|beyond|limit|saturat|\[.*[<>].*\]|dy as it is",
)
def clip_without_mask(rng):
    class Hardtanh(Layer):
        def forward(self, x):
            return np.clip(x, -1, 1), lambda dy: dy.copy()  # right: return np.clip(x, -1, 1), lambda dy: dy * (np.abs(x) < 1)

    return Hardtanh(), (rng.normal(size=(4, 4)) * 1.5,)


@wrong("softsign's derivative is 1/(1 + |x|)², here 1/(1 + |x|)", r"squar|²|\^2|\*\*\s*2|1\s*\+\s*\|x\||abs|1\s*[−-]\s*\|y\||power", never=r"as σ or a gate")
def softsign_without_square(rng):
    def softsign(x):
        d = 1 + np.abs(x)
        return x / d, lambda dy: dy / d  # right: return x / d, lambda dy: dy / d**2

    return softsign, (rng.normal(size=(4, 3)),)


@wrong("the derivative of x^p is p x^(p−1), here p x^p", r"power|exponent|p\s*[−-]\s*1|x²|x\^|x\*\*|/\s*x|divid|factor x|times x")
def power_exponent_not_lowered(rng):
    class Power(Layer):
        def __init__(self, p):
            self.p = p

        def forward(self, x):
            return x**self.p, lambda dy: dy * self.p * x**self.p  # right: return x**self.p, lambda dy: dy * self.p * x ** (self.p - 1)

    return Power(3), (rng.normal(size=(3, 4)),)


@wrong(
    "PReLU: the slope's gradient sums dy · x over all elements, not over those with x < 0 only",
    r"negative|x\s*[<≤>≥]\s*0|mask|where|min\(",
)
def prelu_slope_over_all(rng):
    class PReLU(Layer):
        def __init__(self, channels):
            self.alpha = Parameter("alpha", np.full(channels, 0.25))

        def forward(self, x):
            a = self.alpha.value
            negative = x < 0

            def backward(dy):
                self.alpha.grad += (dy * x).sum(axis=0)  # right: self.alpha.grad += (dy * x * negative).sum(axis=0)
                return dy * np.where(negative, a, 1)

            return np.where(negative, a * x, x), backward

    return PReLU(3), (rng.normal(size=(6, 3)),)


@wrong(
    "gated linear unit: the gate's derivative is taken at the pre-activation, b(1 − b) for σ(b)(1 − σ(b))",
    r"sigmoid|σ|pre-?activation|gate|\(1\s*[−-]\s*|output",
)
def glu_gate_of_preactivation(rng):
    class GLU(Layer):
        def forward(self, a, b):
            g = sigmoid(b)

            def backward(dy):
                return dy * g, dy * a * b * (1 - b)  # right: return dy * g, dy * a * g * (1 - g)

            return a * g, backward

    return GLU(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong(
    "maxout: every piece gets the gradient, not only the largest",
    r"mask|largest|\bmax|winner", never=r"averaged",
)
def maxout_gives_to_all(rng):
    class Maxout:
        def forward(self, x):  # (N, units, pieces)
            self.x = x
            self.y = x.max(axis=2)
            return self.y

        def backward(self, dy):
            g = np.ones_like(self.x)  # right: g = one_hot(self.x.argmax(2), self.x.shape[2])
            return g * dy[:, :, None]

    return Maxout(), (rng.normal(size=(3, 4, 5)),)


@wrong("squared ReLU: 2x without the mask, so that negative inputs get a gradient", r"mask|negative|x\s*[<≤>≥]\s*0|relu|where|positive")
def squared_relu_without_mask(rng):
    def squared_relu(x):
        y = np.maximum(x, 0) ** 2
        return y, lambda dy: 2 * x * dy  # right: return y, lambda dy: 2 * np.maximum(x, 0) * dy

    return squared_relu, (rng.normal(size=(4, 3)),)


@wrong(
    "Mish, x tanh(softplus x): the derivative of softplus, σ(x), is missing inside",
    r"sigmoid|σ|softplus|inner|chain rule",
)
def mish_misses_inner_sigmoid(rng):
    class Mish(Layer):
        def forward(self, x):
            t = np.tanh(np.log1p(np.exp(x)))

            def backward(dy):
                inner = 1 - t * t  # right: inner = (1 - t * t) * sigmoid(x)
                return dy * (t + x * inner)

            return x * t, backward

    return Mish(), (rng.normal(size=(4, 3)),)


# --- softmax and its losses ---


@wrong("log-softmax: dx = dy − p · Σ dy, here the sum over the row is missing", r"sum|Σ|row|last axis|axis (1|-1|−1)")
def log_softmax_without_sum(rng):
    class LogSoftmax(Layer):
        def forward(self, x):
            p = softmax(x)
            return np.log(p), lambda dy: dy - p * dy  # right: return np.log(p), lambda dy: dy - p * dy.sum(-1, keepdims=True)

    return LogSoftmax(), (rng.normal(size=(4, 5)),)


@wrong("log-softmax: the mean of dy stands for its sum", r"mean|sum|Σ|averag|factor")
def log_softmax_mean_for_sum(rng):
    class LogSoftmax:
        def forward(self, x):
            self.out = x - x.max(1, keepdims=True)
            self.out = self.out - np.log(np.exp(self.out).sum(1, keepdims=True))
            return self.out

        def backward(self, d):
            return d - np.exp(self.out) * d.mean(1, keepdims=True)  # right: return d - np.exp(self.out) * d.sum(1, keepdims=True)

    return LogSoftmax(), (rng.normal(size=(3, 5)),)


@wrong(
    "softmax runs over the last axis, its backward sums over the batch axis",
    r"axis|axes|row|column|batch",
)
def softmax_backward_wrong_axis(rng):
    class Softmax(Layer):
        def forward(self, x):
            p = softmax(x)

            def backward(dy):
                return p * (dy - (dy * p).sum(axis=0))  # right: return p * (dy - (dy * p).sum(axis=-1, keepdims=True))

            return p, backward

    return Softmax(), (rng.normal(size=(3, 5)),)


@wrong("the temperature: softmax(x / T), backward without 1/T", r"0\.7|1\.428|1\.43|temperature|\bT\b|factor|times|scale")
def softmax_temperature_lost(rng):
    T = 0.7

    def soft(x):
        p = softmax(x / T)

        def backward(dy):
            return p * (dy - (dy * p).sum(-1, keepdims=True))  # right: return p * (dy - (dy * p).sum(-1, keepdims=True)) / T

        return p, backward

    return soft, (rng.normal(size=(4, 3)),)


@wrong(
    "softmax's backward as p(1 − p)dy, its diagonal only: what the other elements of the row do is missing",
    r"diagonal|row|sum|Σ|elementwise|other elements",
)
def softmax_jacobian_diagonal(rng):
    class Softmax:
        def forward(self, x):
            self.p = softmax(x)
            return self.p

        def backward(self, dout):
            return dout * self.p * (1 - self.p)  # right: return self.p * (dout - (dout * self.p).sum(-1, keepdims=True))

    return Softmax(), (rng.normal(size=(4, 3)),)


@wrong("cross-entropy: the loss is a mean over the batch, its gradient is not divided by N", r"\b5\b|N\b|batch|mean|divid|factor|samples")
def cross_entropy_not_divided(rng):
    y = rng.integers(0, 4, size=5)

    def softmax_loss(x):
        N = x.shape[0]
        probs = softmax(x)
        loss = -np.mean(np.log(probs[np.arange(N), y]))
        dx = probs.copy()
        dx[np.arange(N), y] -= 1
        return loss, dx  # right: return loss, dx / N

    return softmax_loss, (rng.normal(size=(5, 4)),)


@wrong(
    "cross-entropy: p[:, y] −= 1 takes 1 off at the labels of all samples in each row, not p[i, y_i]",
    r"label|index|target|one.?hot|−\s*1|- 1|rows?\b|class",
)
def cross_entropy_indexes_all_rows(rng):
    y = np.array([0, 2, 3, 2, 0])

    class CrossEntropy(Layer):
        def forward(self, x):
            N = len(x)
            p = softmax(x)
            loss = -np.log(p[np.arange(N), y]).mean()

            def backward(dloss=1.0):
                d = p.copy()
                d[:, y] -= 1  # right: d[np.arange(N), y] -= 1
                return dloss * d / N

            return loss, backward

    return CrossEntropy(), (rng.normal(size=(5, 4)),)


@wrong(
    "label smoothing is in the loss, the gradient takes the hard labels",
    r"smooth|label|target|one.?hot|0\.2|constant",
)
def label_smoothing_only_forward(rng):
    labels = rng.integers(0, 5, size=4)

    def smoothed(logits):
        hard = one_hot(labels, 5)
        soft = 0.8 * hard + 0.2 / 5
        p = softmax(logits)
        loss = -(soft * np.log(p)).sum() / len(p)
        return loss, (p - hard) / len(p)  # right: return loss, (p - soft) / len(p)

    return smoothed, (rng.normal(size=(4, 5)),)


@wrong("multiclass hinge: the right class's own column, minus the number of violations, is missing", r"correct|right class|label|target|count|column|true class|index")
def svm_without_correct_class(rng):
    y = rng.integers(0, 4, size=5)

    def svm_loss(x):
        n = len(x)
        margins = np.maximum(0, x - x[np.arange(n), y][:, None] + 1.0)
        margins[np.arange(n), y] = 0
        dx = (margins > 0).astype(float)
        dx[np.arange(n), y] = 0  # right: dx[np.arange(n), y] = -dx.sum(axis=1)
        return margins.sum() / n, dx / n

    return svm_loss, (rng.normal(size=(5, 4)),)


@wrong(
    "hinge: the mask asks for a margin below 0, the loss for one below 1: violations within the margin get no gradient",
    r"mask|margin|threshold|\[.*[<>].*\]",
)
def hinge_mask_without_margin(rng):
    t = np.array([1.0, -1, 1, -1, 1, 1])

    def hinge(s):
        loss = np.maximum(0, 1 - t * s).mean()
        ds = np.where(t * s < 0, -t, 0) / len(s)  # right: ds = np.where(t * s < 1, -t, 0) / len(s)
        return loss, ds

    return hinge, (np.array([0.4, -0.3, -0.8, 0.6, 1.7, 0.2]),)


@wrong("binary cross-entropy of probabilities: the gradient p − t is that of the logits; 1/(p(1 − p)) is missing", r"p\s*\(1|x\s*[·*]?\s*\(1|1\s*[−-]\s*[xp]|logit|sigmoid|divid|/")
def bce_of_probabilities_as_logits(rng):
    t = np.array([1.0, 0, 0, 1, 1, 0])

    def bce(p):
        loss = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        return loss, p - t  # right: return loss, (p - t) / (p * (1 - p))

    return bce, (rng.uniform(0.1, 0.9, size=6),)


# --- regression losses ---


@wrong("mean squared error over all elements, its gradient divided by the batch size alone", r"\b3\b|0\.333|features|mean|elements|\b12\b|size|divid|factor")
def mse_divides_by_batch_only(rng):
    t = rng.normal(size=(4, 3))

    def mse(y):
        d = y - t
        return (d**2).mean(), 2 * d / len(y)  # right: return (d**2).mean(), 2 * d / y.size

    return mse, (rng.normal(size=(4, 3)),)


@wrong("Huber: outside the quadratic zone the gradient is δ · sign(r), here r", r"sign|δ|delta|clip|bound|linear|outside|large|where|limit")
def huber_without_clip(rng):
    t = np.zeros(6)

    class Huber:
        delta = 0.8

        def forward(self, y):
            self.r = y - t
            a = np.abs(self.r)
            return np.where(a <= self.delta, 0.5 * a**2, self.delta * (a - 0.5 * self.delta)).sum()

        def backward(self, dloss=1.0):
            return dloss * self.r  # right: return dloss * np.clip(self.r, -self.delta, self.delta)

    return Huber(), (np.array([0.3, -1.7, 2.1, -0.5, 0.9, 0.1]),)


@wrong("smooth L1 with β: inside, r² / 2β has the gradient r/β, here r", r"β|beta|(0\.5|½) times|factor (of )?(2|½|0\.5)|/\s*(β|0\.5)|\b2\b.*\[|\[.*\b2\b")
def smooth_l1_without_beta(rng):
    def smooth_l1(y, t, beta=0.5):
        r = y - t
        a = np.abs(r)
        loss = np.where(a < beta, 0.5 * r**2 / beta, a - 0.5 * beta).sum()
        d = np.where(a < beta, r, np.sign(r))  # right: d = np.where(a < beta, r / beta, np.sign(r))
        return loss, (d, -d)

    return smooth_l1, (np.array([0.2, -1.3, 0.9, 0.4, -0.3]), np.array([0.0, 0.1, 0.1, 0.2, -0.1]))


@wrong("quantile loss: both sides weigh q; below it is −(1 − q)", r"sign|where|negative|positive|0\.3|0\.7|side|1\s*[−-]\s*q|mask")
def quantile_loss_one_weight(rng):
    t = rng.normal(size=7)

    def pinball(y, q=0.3):
        r = t - y
        loss = np.maximum(q * r, (q - 1) * r).mean()
        return loss, np.where(r > 0, -q, q) / len(y)  # right: return loss, np.where(r > 0, -q, 1 - q) / len(y)

    return pinball, (rng.normal(size=7),)


@wrong("Poisson loss, exp(s) − t s: the gradient keeps s where exp(s) belongs", r"exp|eˣ|e\^|rate")
def poisson_without_exp(rng):
    t = np.array([0.0, 2, 1, 3, 0, 1])

    def poisson_nll(s):
        return (np.exp(s) - t * s).mean(), (s - t) / len(s)  # right: return (np.exp(s) - t * s).mean(), (np.exp(s) - t) / len(s)

    return poisson_nll, (rng.normal(size=6),)


@wrong("squared error with weight decay λ‖W‖²: its gradient is 2λW, here λW", r"decay|regular|0\.1|0\.05|λ|\bW\b|2\b|half|factor")
def ridge_decay_without_two(rng):
    class Ridge(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(3, 2)))

        def forward(self, x):
            W, n = self.W.value, len(x)
            r = x @ W - t.astype(x.dtype)
            loss = (r**2).sum() / n + 0.1 * (W**2).sum()

            def backward():
                self.W.grad += 2 * x.T @ r / n + 0.1 * W  # right: self.W.grad += 2 * x.T @ r / n + 0.2 * W
                return 2 * r @ W.T / n

            return loss, backward

    t = rng.normal(size=(5, 2))
    return Ridge(), (rng.normal(size=(5, 3)),)


@wrong("log-cosh loss: tanh(r) is its derivative, here r", r"tanh|derivative of log|saturat", never=r"the gradient is −d[ty]")
def log_cosh_without_tanh(rng):
    class LogCosh(Layer):
        def forward(self, y, t):
            r = y - t
            n = len(y)

            def backward():
                d = r / n  # right: d = np.tanh(r) / n
                return d, -d

            return np.log(np.cosh(r)).sum() / n, backward

    return LogCosh(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong("the target's gradient has the sign of the prediction's", r"sign|−1|-1 times|negat")
def squared_distance_target_sign(rng):
    def squared_distance(a, b):
        d = a - b
        return (d * d).sum(), (2 * d, 2 * d)  # right: return (d * d).sum(), (2 * d, -2 * d)

    return squared_distance, (rng.normal(size=(3, 4)), rng.normal(size=(3, 4)))


@wrong("focal loss: (1 − p)^γ is taken for a constant, its own derivative is missing", r"γ|gamma|log\(|product rule|\(1\s*−\s*p\)")
def focal_weight_as_constant(rng):
    def focal(p):  # the probability of the right class
        loss = -((1 - p) ** 2 * np.log(p)).sum()
        dp = -((1 - p) ** 2) / p  # right: dp = -((1 - p) ** 2) / p + 2 * (1 - p) * np.log(p)
        return loss, dp

    return focal, (rng.uniform(0.2, 0.9, size=7),)


@wrong("triplet loss: the anchor's gradient lacks the path through the distance to the negative", r"negative|path|\bn\b|\bdn\b")
def triplet_anchor_one_path(rng):
    class Triplet(Layer):
        def forward(self, a, p, n):
            dp, dn = a - p, a - n
            margin = (dp**2).sum(1) - (dn**2).sum(1) + 4
            active = (margin > 0)[:, None].astype(a.dtype)

            def backward():
                da = 2 * dp * active  # right: da = 2 * (dp - dn) * active
                return da, -2 * dp * active, 2 * dn * active

            return (margin * active[:, 0]).sum(), backward

    return Triplet(), tuple(rng.normal(size=(5, 3)) * 0.7 for _ in range(3))


@wrong("contrastive loss: the keys' gradient is not transposed, the logits' row and column are mixed up", r"transpos|ᵀ|\.T\b|row|swapped")
def info_nce_keys_transposed(rng):
    class InfoNCE:
        def forward(self, q, k):
            self.q, self.k = q, k
            self.p = softmax(q @ k.T)
            return -np.log(np.diag(self.p)).mean()

        def backward(self, dloss=1.0):
            ds = (self.p - np.eye(len(self.p))) / len(self.p) * dloss
            return ds @ self.k, ds @ self.q  # right: return ds @ self.k, ds.T @ self.q

    return InfoNCE(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


# --- generative models ---


@wrong("the KL's gradient in logvar is ½(e^logvar − 1); the −½ is missing", r"constant|1/2|½|0\.5|−1|- 1|\b1/8|0\.125|the same")
def kl_logvar_misses_minus_one(rng):
    def kl(mu, logvar):
        n = len(mu)
        loss = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum() / n
        dlogvar = 0.5 * np.exp(logvar) / n  # right: dlogvar = 0.5 * (np.exp(logvar) - 1) / n
        return loss, (mu / n, dlogvar)

    return kl, (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong("the reparameterised sample: ∂σ/∂logvar = ½σ, the ½ is lost", r"½|1/2|half|exactly 2|twice", never=r"√4")
def reparameterise_without_half(rng):
    eps = rng.normal(size=(4, 3))

    class Sample(Layer):
        def forward(self, mu, logvar):
            std = np.exp(0.5 * logvar)
            e = eps.astype(mu.dtype)
            return mu + std * e, lambda dz: (dz.copy(), dz * e * std)  # right: return mu + std * e, lambda dz: (dz.copy(), 0.5 * dz * e * std)

    return Sample(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong("the reparameterised sample: the noise is missing in dlogvar", r"eps|ε|noise|factor of its own|constant")
def reparameterise_without_eps(rng):
    def sample(mu, logvar, eps):
        std = np.exp(logvar / 2)
        return mu + std * eps, lambda dz: (dz.copy(), 0.5 * std * dz)  # right: return mu + std * eps, lambda dz: (dz.copy(), 0.5 * std * eps * dz)

    return sample, (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong(
    "Gaussian negative log-likelihood: dlogvar keeps the squared error's part and lacks the +½ of the normaliser",
    r"constant|½|1/2|0\.5|normali[sz]|the same|1/10|0\.1\b",
)
def gaussian_nll_misses_normaliser(rng):
    t = rng.normal(size=(5, 3))

    def nll(mu, logvar):
        r = mu - t
        inv = np.exp(-logvar)
        loss = 0.5 * (r**2 * inv + logvar).sum() / len(mu)
        dlogvar = -0.5 * r**2 * inv  # right: dlogvar = 0.5 - 0.5 * r**2 * inv
        return loss, (r * inv / len(mu), dlogvar / len(mu))

    return nll, (rng.normal(size=(5, 3)), rng.normal(size=(5, 3)))


@wrong("KL between two Gaussians: the second mean gets no gradient", r"zero|no gradient|dropped|lost|m2")
def kl_two_gaussians_second_mean(rng):
    def kl(m1, s1, m2, s2):  # standard deviations
        d = m1 - m2
        loss = (np.log(s2 / s1) + (s1**2 + d**2) / (2 * s2**2) - 0.5).sum()
        dm1 = d / s2**2
        ds1 = -1 / s1 + s1 / s2**2
        dm2 = np.zeros_like(dm1)  # right: dm2 = -dm1
        ds2 = 1 / s2 - (s1**2 + d**2) / s2**3
        return loss, (dm1, ds1, dm2, ds2)

    m, s = rng.normal(size=(2, 3, 4)), rng.uniform(0.5, 2, size=(2, 3, 4))
    return kl, (m[0], s[0], m[1], s[1])


@wrong("KL between two Gaussians: the gradient in the second deviation lacks the squared distance of the means", r"d²|d\^2|m1|distance|squar|means")
def kl_two_gaussians_second_deviation(rng):
    class KL(Layer):
        def forward(self, m1, s1, m2, s2):
            d = m1 - m2

            def backward():
                ds2 = 1 / s2 - s1**2 / s2**3  # right: ds2 = 1 / s2 - (s1**2 + d**2) / s2**3
                return d / s2**2, -1 / s1 + s1 / s2**2, -d / s2**2, ds2

            return (np.log(s2 / s1) + (s1**2 + d**2) / (2 * s2**2) - 0.5).sum(), backward

    m, s = rng.normal(size=(2, 3, 4)), rng.uniform(0.5, 2, size=(2, 3, 4))
    return KL(), (m[0], s[0], m[1], s[1])


@wrong(
    "a VAE of library layers: the encoder gets the reconstruction's gradient and not the KL's",
    r"KL|\bmu\b",
)
def vae_kl_not_backpropagated(rng):
    class MyVAE(Layer):
        def __init__(self):
            self.encoder = Sequential(Dense(5, 4, rng=rng), Tanh(), Dense(4, 6, rng=rng))
            self.decoder = Sequential(Dense(3, 4, rng=rng), Tanh(), Dense(4, 5, rng=rng))

        def forward(self, x, eps):
            h, encoder_backward = self.encoder.forward(x)
            mu, logvar = h[:, :3], h[:, 3:]
            std = np.exp(0.5 * logvar)
            y, decoder_backward = self.decoder.forward(mu + std * eps)
            reconstruction, dy = library_mse(y, x)
            kl, dmu_kl, dlogvar_kl = gaussian_kl(mu, logvar)

            def backward():
                dz = decoder_backward(dy)
                dmu = dz  # right: dmu = dz + dmu_kl
                dlogvar = dz * eps * 0.5 * std  # right: dlogvar = dz * eps * 0.5 * std + dlogvar_kl
                encoder_backward(np.concatenate([dmu, dlogvar], axis=1))

            return reconstruction + kl, backward

    return MyVAE(), (rng.normal(size=(4, 5)), rng.normal(size=(4, 3)))


@wrong("a VAE of library layers: the halves of the encoder's gradient are joined in the wrong order", r"order|swap|exchang|halves")
def vae_halves_exchanged(rng):
    class MyVAE(Layer):
        def __init__(self):
            self.encoder = Sequential(Dense(4, 5, rng=rng), ReLU(), Dense(5, 6, rng=rng))
            self.decoder = Sequential(Dense(3, 5, rng=rng), ReLU(), Dense(5, 4, rng=rng), Sigmoid())

        def forward(self, x, eps):
            h, encoder_backward = self.encoder.forward(x)
            mu, logvar = h[:, :3], h[:, 3:]
            std = np.exp(0.5 * logvar)
            y, decoder_backward = self.decoder.forward(mu + std * eps)
            reconstruction, dy = library_mse(y, x)
            kl, dmu_kl, dlogvar_kl = gaussian_kl(mu, logvar)

            def backward():
                dz = decoder_backward(dy)
                dmu = dz + dmu_kl
                dlogvar = dz * eps * 0.5 * std + dlogvar_kl
                encoder_backward(np.concatenate([dlogvar, dmu], axis=1))  # right: encoder_backward(np.concatenate([dmu, dlogvar], axis=1))

            return reconstruction + kl, backward

    return MyVAE(), (rng.normal(size=(4, 4)), rng.normal(size=(4, 3)))


@wrong(
    "a GAN's discriminator loss: only the real batch is backpropagated, the fakes' path is missing",
    r"never used|fake|lost",
)
def discriminator_loss_misses_fakes(rng):
    class GanD(Layer):
        def __init__(self):
            self.D = Sequential(Dense(3, 4, rng=rng), LeakyReLU(), Dense(4, 1, rng=rng))

        def forward(self, real, fake):
            s_real, back_real = self.D.forward(real)
            s_fake, back_fake = self.D.forward(fake)
            loss_real, ds_real = bce_with_logits(s_real, np.ones_like(s_real))
            loss_fake, ds_fake = bce_with_logits(s_fake, np.zeros_like(s_fake))

            def backward():
                dreal = back_real(ds_real)
                return dreal, np.zeros_like(fake)  # right: return dreal, back_fake(ds_fake)

            return loss_real + loss_fake, backward

    return GanD(), (rng.normal(size=(4, 3)), rng.normal(size=(5, 3)))


@wrong(
    "a GAN's discriminator loss: the pullback of the real batch is called with the fakes' gradient, and the other way round",
    r"swap|exchang|other|fake|batch|mix|branch|call 1.*call 2|call 2.*call 1",
)
def discriminator_branches_exchanged(rng):
    class GanD(Layer):
        def __init__(self):
            self.D = Sequential(Dense(3, 5, rng=rng), Tanh(), Dense(5, 1, rng=rng))

        def forward(self, real, fake):
            s_real, back_real = self.D.forward(real)
            s_fake, back_fake = self.D.forward(fake)
            loss_real, ds_real = bce_with_logits(s_real, np.ones_like(s_real))
            loss_fake, ds_fake = bce_with_logits(s_fake, np.zeros_like(s_fake))

            def backward():
                dreal = back_real(ds_fake)  # right: dreal = back_real(ds_real)
                dfake = back_fake(ds_real)  # right: dfake = back_fake(ds_fake)
                return dreal, dfake

            return loss_real + loss_fake, backward

    return GanD(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong("the generator's loss: the discriminator's dx does not get back to G, which takes the scores' gradient spread out", r"discriminator|\bD\b.*gradient|input of D|Jacobian")
def generator_skips_discriminator(rng):
    class GanG(Layer):
        def __init__(self):
            self.G = Sequential(Dense(2, 4, rng=rng), Tanh(), Dense(4, 3, rng=rng))
            self.D = Sequential(Dense(3, 4, rng=rng), LeakyReLU(), Dense(4, 1, rng=rng))

        def forward(self, z):
            fake, back_G = self.G.forward(z)
            s, back_D = self.D.forward(fake)
            loss, ds = bce_with_logits(s, np.ones_like(s))

            def backward():
                dfake = back_D(ds)
                dfake = ds * np.ones_like(fake)  # right: pass
                return back_G(dfake)

            return loss, backward

    return GanG(), (rng.normal(size=(5, 2)),)


@wrong("the non-saturating loss −log σ(s): the gradient is that of the saturating one, σ(s), not σ(s) − 1", r"−\s*1|- 1|constant|1/4|0\.25|1/6|1\s*[−-]\s*|sign")
def generator_loss_gradient_of_other_label(rng):
    def generator_loss(s):
        p = sigmoid(s)
        return -np.log(p).mean(), p / len(s)  # right: return -np.log(p).mean(), (p - 1) / len(s)

    return generator_loss, (rng.normal(size=6),)


@wrong("Wasserstein critic: the gradient of the mean over the fakes is divided by the number of reals", r"\b4\b|\b6\b|2/3|3/2|number of|batch")
def critic_divides_by_other_batch(rng):
    def critic_loss(real, fake):
        loss = fake.mean() - real.mean()
        dreal = np.full_like(real, -1 / real.size)
        dfake = np.full_like(fake, 1 / real.size)  # right: dfake = np.full_like(fake, 1 / fake.size)
        return loss, (dreal, dfake)

    return critic_loss, (rng.normal(size=(4, 1)), rng.normal(size=(6, 1)))


@wrong("an autoencoder with tied weights: W takes the decoder's gradient only, the encoder's share is missing", r"encoder|twice|missing|share|path|both|second|other use|lost")
def tied_autoencoder_one_share(rng):
    class Tied(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(5, 3)))

        def forward(self, x):
            W = self.W.value
            h = np.tanh(x @ W)
            y = h @ W.T

            def backward(dy):
                dz = (dy @ W) * (1 - h * h)
                self.W.grad += dy.T @ h  # right: self.W.grad += dy.T @ h + x.T @ dz
                return dz @ W.T

            return y, backward

    return Tied(), (rng.normal(size=(4, 5)),)


@wrong("Gumbel softmax: the 1/τ of softmax((s + g)/τ) is lost", r"τ|tau|temperature|0\.5 times|factor 2")
def gumbel_softmax_temperature(rng):
    def gumbel_softmax(s, noise, tau=0.5):
        y = softmax((s + noise) / tau)

        def backward(dy):
            ds = y * (dy - (dy * y).sum(-1, keepdims=True))
            return ds, ds / tau  # right: return ds / tau, ds / tau

        return y, backward

    return gumbel_softmax, (rng.normal(size=(4, 3)), rng.gumbel(size=(4, 3)))


# --- networks ---


class TwoLayerNet:
    def __init__(self, n_in, n_hidden, n_out, rng):
        self.W1 = rng.normal(size=(n_in, n_hidden))
        self.b1 = rng.normal(size=n_hidden)
        self.W2 = rng.normal(size=(n_hidden, n_out))
        self.b2 = rng.normal(size=n_out)

    def forward(self, X):
        self.X = X
        self.Z1 = X @ self.W1 + self.b1
        self.A1 = np.maximum(self.Z1, 0)
        return self.A1 @ self.W2 + self.b2

    def backward(self, dZ2):
        self.dW2 = self.A1.T @ dZ2
        self.db2 = dZ2.sum(0)
        dA1 = dZ2 @ self.W2.T
        dZ1 = dA1  # right: dZ1 = dA1 * (self.Z1 > 0)
        self.dW1 = self.X.T @ dZ1
        self.db1 = dZ1.sum(0)
        return dZ1 @ self.W1.T


@wrong("a network of two layers: ReLU's mask is missing in backward", r"mask|relu|> 0\]|activation|derivative")
def two_layer_net_without_mask(rng):
    return TwoLayerNet(4, 5, 3, rng), (rng.normal(size=(6, 4)),)


class SigmoidNet:
    def __init__(self, rng):
        self.params = {"W1": rng.normal(size=(4, 5)), "b1": rng.normal(size=5), "W2": rng.normal(size=(5, 3))}
        self.grads = {}

    def forward(self, x):
        self.x = x
        self.z1 = x @ self.params["W1"] + self.params["b1"]
        self.a1 = sigmoid(self.z1)
        return self.a1 @ self.params["W2"]

    def backward(self, dout):
        self.grads["W2"] = self.a1.T @ dout
        da1 = dout @ self.params["W2"].T
        dz1 = da1 * self.z1 * (1 - self.z1)  # right: dz1 = da1 * self.a1 * (1 - self.a1)
        self.grads["W1"] = self.x.T @ dz1
        self.grads["b1"] = dz1.sum(axis=0)
        return dz1 @ self.params["W1"].T


@wrong("the hidden sigmoid's derivative is taken of the pre-activation: z1(1 − z1) for a1(1 − a1)", r"z1|a1|pre-?activation|sigmoid|σ|activation|derivative")
def sigmoid_net_derivative_of_preactivation(rng):
    return SigmoidNet(rng), (rng.normal(size=(6, 4)),)


@wrong("the hidden layer's gradient is divided by m once more than the output layer's", r"\b6\b|1/6|0\.16|batch|twice")
def two_layer_net_divides_twice(rng):
    class Net(Layer):
        def __init__(self):
            self.W1 = Parameter("W1", rng.normal(size=(3, 4)))
            self.W2 = Parameter("W2", rng.normal(size=(4, 2)))

        def forward(self, x, t):
            W1, W2, m = self.W1.value, self.W2.value, len(x)
            a = np.tanh(x @ W1)
            r = a @ W2 - t

            def backward():
                dz2 = 2 * r / m
                self.W2.grad += a.T @ dz2
                dz1 = dz2 @ W2.T * (1 - a * a)
                self.W1.grad += x.T @ dz1 / m  # right: self.W1.grad += x.T @ dz1
                return dz1 @ W1.T, -dz2

            return (r * r).sum() / m, backward

    return Net(), (rng.normal(size=(6, 3)), rng.normal(size=(6, 2)))


@wrong("a network of library layers: the hidden layer's activation is not gone back through", r"\bact\b|activation|tanh")
def mlp_skips_activation(rng):
    class MLP(Layer):
        def __init__(self):
            self.first = Dense(4, 5, rng=rng)
            self.act = Tanh()
            self.second = Dense(5, 3, rng=rng)

        def forward(self, x):
            h, back1 = self.first.forward(x)
            a, back_act = self.act.forward(h)
            y, back2 = self.second.forward(a)

            def backward(dy):
                return back1(back2(dy))  # right: return back1(back_act(back2(dy)))

            return y, backward

    return MLP(), (rng.normal(size=(5, 4)),)


@wrong("a network of square library layers: the pullbacks are called in forward's order", r"order|swap|exchang|input of first")
def mlp_backward_in_forward_order(rng):
    class MLP(Layer):
        def __init__(self):
            self.first = Dense(4, 4, rng=rng)
            self.second = Dense(4, 4, rng=rng)

        def forward(self, x):
            h, back1 = self.first.forward(x)
            y, back2 = self.second.forward(np.sin(h))
            return y, lambda dy: back2(back1(dy) * np.cos(h))  # right: return y, lambda dy: back1(back2(dy) * np.cos(h))

    return MLP(), (rng.normal(size=(5, 4)),)


@wrong("a residual block: the skip path is missing in backward", r"skip|path|missing is dy|dy|identity|residual")
def residual_without_skip(rng):
    class Block(Layer):
        def __init__(self):
            self.body = Sequential(Dense(4, 5, rng=rng), ReLU(), Dense(5, 4, rng=rng))

        def forward(self, x):
            h, back = self.body.forward(x)
            return x + h, lambda dy: back(dy)  # right: return x + h, lambda dy: dy + back(dy)

    return Block(), (rng.normal(size=(5, 4)),)


@wrong("a residual branch scaled by 0.3: the scale is missing in backward", r"0\.3|3\.33|10/3")
def residual_scale_lost(rng):
    class Block(Layer):
        def __init__(self):
            self.fc = Dense(4, 4, rng=rng)

        def forward(self, x):
            h, back = self.fc.forward(np.tanh(x))
            return x + 0.3 * h, lambda dy: dy + back(dy) * (1 - np.tanh(x) ** 2)  # right: return x + 0.3 * h, lambda dy: dy + back(0.3 * dy) * (1 - np.tanh(x) ** 2)

    return Block(), (rng.normal(size=(5, 4)),)


@wrong("one custom layer of a Sequential is wrong: Scale's dx lacks the scale", r"Scale.*factor s|factor s|lacks.*\bs\b")
def sequential_with_wrong_scale(rng):
    class Scale(Layer):
        def __init__(self, n):
            self.s = Parameter("s", rng.normal(size=n))

        def forward(self, x):
            s = self.s.value

            def backward(dy):
                self.s.grad += (dy * x).sum(0)
                return dy.copy()  # right: return dy * s

            return x * s, backward

    return Sequential(Dense(4, 5, rng=rng), Scale(5), Tanh(), Dense(5, 3, rng=rng)), (rng.normal(size=(6, 4)),)


@wrong("a siamese network: both branches share one cache on self, the second forward overwrites the first's", r"cache|overwrit|other input|shared|last call|b for a|of b\b|wrong input|self\.x|exchang", never=r"whose own backward is wrong")
def siamese_cache_overwritten(rng):
    class Branch:
        def __init__(self):
            self.W = rng.normal(size=(3, 4))

        def forward(self, x):
            self.x = x
            return x @ self.W

        def backward(self, d, x):
            return self.x.T @ d, d @ self.W.T  # right: return x.T @ d, d @ self.W.T

    class Siamese:
        def __init__(self):
            self.branch = Branch()
            self.W = self.branch.W

        def forward(self, a, b):
            self.branch.W = self.W
            self.a, self.b = a, b
            self.d = self.branch.forward(a) - self.branch.forward(b)
            return self.d**2

        def backward(self, dy):
            d = 2 * self.d * dy
            dWa, da = self.branch.backward(d, self.a)
            dWb, db = self.branch.backward(-d, self.b)
            self.dW = dWa + dWb
            return da, db

    return Siamese(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3)))


@wrong("a highway layer: the gate's gradient lacks −x, the carry path", r"carry|−\s*x\b|missing is .*x\b|path|\(h − x\)")
def highway_gate_misses_carry(rng):
    class Highway(Layer):
        def __init__(self):
            self.H, self.T = Dense(4, 4, rng=rng), Dense(4, 4, rng=rng)

        def forward(self, x):
            h, back_h = self.H.forward(x)
            g, back_g = self.T.forward(x)
            t = sigmoid(g)

            def backward(dy):
                dt = dy * h  # right: dt = dy * (h - x)
                return back_h(dy * t) + back_g(dt * t * (1 - t)) + dy * (1 - t)

            return h * t + x * (1 - t), backward

    return Highway(), (rng.normal(size=(5, 4)),)


@wrong("squeeze and excitation: the path through the squeezed gate is missing in dx", r"gate|squeeze|path|pool|mean|Σ")
def squeeze_excite_one_path(rng):
    class SqueezeExcite(Layer):
        def __init__(self):
            self.fc = Dense(3, 3, rng=rng)

        def forward(self, x):  # (N, H, W, C)
            g, back = self.fc.forward(x.mean((1, 2)))
            s = sigmoid(g)[:, None, None, :]

            def backward(dy):
                ds = (dy * x).sum((1, 2))
                dpool = back(ds * s[:, 0, 0] * (1 - s[:, 0, 0]))[:, None, None, :]
                return dy * s  # right: return dy * s + dpool / (x.shape[1] * x.shape[2]) * np.ones_like(x)

            return x * s, backward

    return SqueezeExcite(), (rng.normal(size=(3, 4, 5, 3)),)


@wrong("a sum of two uses of one library layer: its second use is not gone back through, = for +=", r"path|missing|second|other|use|twice|lost|dropped")
def shared_layer_second_use_lost(rng):
    class Twice(Layer):
        def __init__(self):
            self.fc = Dense(3, 3, rng=rng)

        def forward(self, x):
            a, back_a = self.fc.forward(x)
            b, back_b = self.fc.forward(np.tanh(a))

            def backward(dy):
                da = dy
                da = back_b(dy) * (1 - np.tanh(a) ** 2)  # right: da = da + back_b(dy) * (1 - np.tanh(a) ** 2)
                return back_a(da)

            return a + b, backward

    return Twice(), (rng.normal(size=(5, 3)),)


@wrong("weights are read after a step: backward multiplies by the weights already updated", r"updat|weights? .*(chang|moved|after|step)|quadratic|dW2")
def net_uses_updated_weights(rng):
    class Net(Layer):
        def __init__(self):
            self.W1 = Parameter("W1", rng.normal(size=(3, 5)))
            self.W2 = Parameter("W2", rng.normal(size=(5, 4)))

        def forward(self, x):
            W1, W2 = self.W1.value, self.W2.value
            h = np.tanh(x @ W1)

            def backward(dy):
                dW2 = h.T @ dy
                self.W2.grad += dW2
                dh = dy @ (W2 - 0.1 * dW2).T  # right: dh = dy @ W2.T
                dz = dh * (1 - h * h)
                self.W1.grad += x.T @ dz
                return dz @ W1.T

            return h @ W2, backward

    return Net(), (rng.normal(size=(4, 3)),)


# --- normalisation ---


@wrong("layer norm: the path through the variance is missing", r"variance|std|standard deviation|xhat|xh|x_hat|x̂|Σ dy·|mean.*(dy|d).*(y|x)|projection|norm")
def layer_norm_without_variance_path(rng):
    class LayerNorm(Layer):
        def __init__(self, n):
            self.gamma = Parameter("gamma", rng.normal(size=n))
            self.beta = Parameter("beta", rng.normal(size=n))

        def forward(self, x):
            g, b = self.gamma.value, self.beta.value
            mu = x.mean(-1, keepdims=True)
            inv = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            xhat = (x - mu) * inv

            def backward(dy):
                self.gamma.grad += (dy * xhat).sum(0)
                self.beta.grad += dy.sum(0)
                d = dy * g
                m = d.mean(-1, keepdims=True)
                return inv * (d - m)  # right: return inv * (d - m - xhat * (d * xhat).mean(-1, keepdims=True))

            return g * xhat + b, backward

    return LayerNorm(5), (rng.normal(size=(4, 5)),)


def layernorm_forward(x, gamma, beta, eps=1e-5):
    mean = x.mean(axis=1, keepdims=True)
    var = x.var(axis=1, keepdims=True)
    xn = (x - mean) / np.sqrt(var + eps)
    return gamma * xn + beta, (x, xn, gamma, var, eps)


def layernorm_backward(dout, cache):
    x, xn, gamma, var, eps = cache
    N = x.shape[0]  # right: N = x.shape[1]
    dgamma = (dout * xn).sum(axis=0)
    dbeta = dout.sum(axis=0)
    dxn = dout * gamma
    dx = (N * dxn - dxn.sum(1, keepdims=True) - xn * (dxn * xn).sum(1, keepdims=True)) / N / np.sqrt(var + eps)
    return dx, dgamma, dbeta


@wrong("layer norm copied from batch norm: the sums are divided by the batch size, not by the number of features", r"\b4\b|\b5\b|1/4|1/5|batch|features|size|mean")
def layer_norm_divides_by_batch(rng):
    return layernorm_forward, (rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=5))


@wrong("layer norm: gamma is forgotten in dx", r"gamma|γ|factor of its own|scale")
def layer_norm_dx_without_gamma(rng):
    class LN:
        def __init__(self, d):
            self.gamma = rng.normal(size=d)
            self.beta = np.zeros(d)

        def forward(self, x):
            mu, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            self.inv = 1 / np.sqrt(var + 1e-5)
            self.xhat = (x - mu) * self.inv
            return self.gamma * self.xhat + self.beta

        def backward(self, dy):
            self.dgamma = (dy * self.xhat).sum(0)
            self.dbeta = dy.sum(0)
            d = dy  # right: d = dy * self.gamma
            return self.inv * (
                d - d.mean(-1, keepdims=True) - self.xhat * (d * self.xhat).mean(-1, keepdims=True)
            )

    return LN(5), (rng.normal(size=(4, 5)),)


def batchnorm_forward(x, gamma, beta):
    mu = x.mean(axis=0)
    var = x.var(axis=0)
    inv = 1 / np.sqrt(var + 1e-5)
    xhat = (x - mu) * inv
    return gamma * xhat + beta, (x, xhat, gamma, inv)


def batchnorm_backward(dout, cache):
    x, xhat, gamma, inv = cache
    m = len(x)
    dbeta = dout.sum(0)
    dgamma = (dout * x).sum(0)  # right: dgamma = (dout * xhat).sum(0)
    dx = gamma * inv * (dout - dbeta / m - xhat * (dout * xhat).sum(0) / m)
    return dx, dgamma, dbeta


@wrong("batch norm: dgamma sums dy · x, of the input before it is normalised, where dy · xhat belongs", r"xhat|x̂|normali[sz]|\bx\b|before")
def batch_norm_dgamma_of_raw_x(rng):
    return batchnorm_forward, (rng.normal(size=(6, 3)), rng.normal(size=3), rng.normal(size=3))


@wrong("batch norm on images: the sums over N, H, W are divided by N alone", r"H\s*[·*×]\s*W|\b12\b|\b3\b|pixels|batch|positions|mean|size|number|count|1/")
def batch_norm_images_divided_by_n(rng):
    class SpatialBN(Layer):
        def __init__(self, channels):
            self.gamma = Parameter("gamma", rng.normal(size=channels))

        def forward(self, x):
            g, axes = self.gamma.value, (0, 1, 2)
            inv = 1 / np.sqrt(x.var(axes) + 1e-5)
            xhat = (x - x.mean(axes)) * inv

            def backward(dy):
                self.gamma.grad += (dy * xhat).sum(axes)
                m = x.shape[0]  # right: m = x.size // x.shape[-1]
                return g * inv * (dy - dy.sum(axes) / m - xhat * (dy * xhat).sum(axes) / m)

            return g * xhat, backward

    return SpatialBN(3), (rng.normal(size=(2, 3, 4, 3)),)


@wrong("batch norm: eps is left out of backward's standard deviation", r"eps|ε|variance", never=r"as σ or a gate|every element")
def batch_norm_backward_without_eps(rng):
    class BN:
        def __init__(self, c):
            self.gamma, self.eps = rng.normal(size=c), 1e-2

        def forward(self, x):
            self.xc = x - x.mean(0)
            self.var = x.var(0)
            self.inv = 1 / np.sqrt(self.var + self.eps)
            self.xhat = self.xc * self.inv
            return self.gamma * self.xhat

        def backward(self, dy):
            self.dgamma = (dy * self.xhat).sum(0)
            d = dy * self.gamma
            inv = 1 / np.sqrt(self.var)  # right: inv = self.inv
            return inv * (d - d.mean(0) - self.xhat * (d * self.xhat).mean(0))

    return BN(3), (rng.normal(size=(6, 3)),)


@wrong("batch norm backward as in evaluation: the statistics are taken for constants", r"statistic|constant|mean|variance|Σ|batch|other samples")
def batch_norm_statistics_constant(rng):
    class MyBN(Layer):
        def __init__(self, c):
            self.gamma = Parameter("gamma", rng.normal(size=c))
            self.beta = Parameter("beta", rng.normal(size=c))

        def forward(self, x):
            g = self.gamma.value
            inv = 1 / np.sqrt(x.var(axis=0) + 1e-5)
            xhat = (x - x.mean(axis=0)) * inv

            def backward(dy):
                self.gamma.grad += (dy * xhat).sum(axis=0)
                self.beta.grad += dy.sum(axis=0)
                return dy * g * inv  # right: return inv * (dy * g - (dy * g).mean(0) - xhat * (dy * g * xhat).mean(0))

            return g * xhat + self.beta.value, backward

    return MyBN(4), (rng.normal(size=(5, 4)),)


@wrong("RMS norm: the sum that belongs to the root mean square is missing, dx = dy/rms only", r"rms|Σ|sum|mean|row|projection|missing|root|norm")
def rms_norm_without_projection(rng):
    class RMSNorm(Layer):
        def forward(self, x):
            r = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
            y = x / r

            def backward(dy):
                return dy / r  # right: return (dy - y * (dy * y).mean(-1, keepdims=True)) / r

            return y, backward

    return RMSNorm(), (rng.normal(size=(4, 5)),)


@wrong("RMS norm copied from layer norm: the mean of dy is subtracted, too, though nothing is centred", r"mean|Σ dy\b|too much|subtract|centr|layer norm")
def rms_norm_subtracts_mean(rng):
    class RMS:
        def __init__(self, d):
            self.g = rng.normal(size=d)

        def forward(self, x):
            self.r = np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
            self.n = x / self.r
            return self.n * self.g

        def backward(self, dy):
            self.dg = (dy * self.n).sum(0)
            d = dy * self.g
            p = self.n * (d * self.n).mean(-1, keepdims=True)
            return (d - d.mean(-1, keepdims=True) - p) / self.r  # right: return (d - p) / self.r

    return RMS(5), (rng.normal(size=(4, 5)),)


@wrong("group norm: backward's means run over all channels, not over the channels of a group", r"group|axis|axes|channels")
def group_norm_means_over_all_channels(rng):
    class GroupNorm(Layer):
        def __init__(self, groups):
            self.groups = groups

        def forward(self, x):  # (N, L, C)
            n, L, c = x.shape
            r = x.reshape(n, L, self.groups, -1)
            axes = (1, 3)
            inv = 1 / np.sqrt(r.var(axes, keepdims=True) + 1e-5)
            xhat = (r - r.mean(axes, keepdims=True)) * inv

            def backward(dy):
                d = dy.reshape(r.shape)
                over = (1, 2, 3)  # right: over = axes
                dr = inv * (d - d.mean(over, keepdims=True) - xhat * (d * xhat).mean(over, keepdims=True))
                return dr.reshape(x.shape)

            return xhat.reshape(x.shape), backward

    return GroupNorm(2), (rng.normal(size=(3, 4, 6)),)


@wrong("instance norm: backward's means also run over the batch, as batch norm's", r"batch|axis 0|axes|axis|samples")
def instance_norm_means_over_batch(rng):
    class InstanceNorm(Layer):
        def forward(self, x):  # (N, H, W, C)
            inv = 1 / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
            y = (x - x.mean((1, 2), keepdims=True)) * inv

            def backward(dy):
                ax = (0, 1, 2)  # right: ax = (1, 2)
                return inv * (dy - dy.mean(ax, keepdims=True) - y * (dy * y).mean(ax, keepdims=True))

            return y, backward

    return InstanceNorm(), (rng.normal(size=(3, 4, 3, 2)),)


@wrong("weight norm, W = g v/‖v‖: dv lacks the projection off v", r"projection|v\b.*Σ|Σ|norm|missing|sum|column")
def weight_norm_without_projection(rng):
    class WeightNormDense(Layer):
        def __init__(self):
            self.v = Parameter("v", rng.normal(size=(4, 3)))
            self.g = Parameter("g", rng.normal(size=3))

        def forward(self, x):
            v, g = self.v.value, self.g.value
            norm = np.sqrt((v * v).sum(0))
            u = v / norm

            def backward(dy):
                dW = x.T @ dy
                dg = (dW * u).sum(0)
                self.g.grad += dg
                self.v.grad += g / norm * dW  # right: self.v.grad += g / norm * (dW - dg * u)
                return dy @ (g * u).T

            return x @ (g * u), backward

    return WeightNormDense(), (rng.normal(size=(5, 4)),)


@wrong("weight norm: dg takes v where the unit vector v/‖v‖ belongs", r"‖v‖|unit|length|norm of|factor", never=r"small term")
def weight_norm_dg_not_unit(rng):
    class WN:
        def __init__(self):
            self.v = rng.normal(size=(4, 3))
            self.g = rng.normal(size=3)

        def forward(self, x):
            self.x = x
            self.norm = np.linalg.norm(self.v, axis=0)
            self.w = self.g * self.v / self.norm
            return x @ self.w

        def backward(self, dy):
            dw = self.x.T @ dy
            self.dg = (dw * self.v).sum(0)  # right: self.dg = (dw * self.v).sum(0) / self.norm
            self.dv = self.g / self.norm * (dw - self.v * (dw * self.v).sum(0) / self.norm**2)
            return dy @ self.w.T

    return WN(), (rng.normal(size=(5, 4)),)


@wrong("spectral norm, W/σ: σ is taken for a constant of W", r"σ|sigma|spectral|constant|u v|missing|norm|Σ")
def spectral_norm_sigma_constant(rng):
    class SpectralDense(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(4, 3)))

        def forward(self, x):
            W = self.W.value
            U, S, V = np.linalg.svd(W, full_matrices=False)
            s, uv = S[0], np.outer(U[:, 0], V[0])

            def backward(dy):
                dWn = x.T @ dy
                self.W.grad += dWn / s  # right: self.W.grad += (dWn - (dWn * W).sum() / s * uv) / s
                return dy @ W.T / s

            return x @ W / s, backward

    return SpectralDense(), (rng.normal(size=(5, 4)),)


@wrong("normalising to unit length: the projection off y is missing", r"projection|Σ|sum|row|length|norm|missing")
def l2_normalise_without_projection(rng):
    def normalise(x):
        n = np.linalg.norm(x, axis=1, keepdims=True)
        y = x / n
        return y, lambda dy: dy / n  # right: return y, lambda dy: (dy - y * (dy * y).sum(1, keepdims=True)) / n

    return normalise, (rng.normal(size=(4, 3)) * 2,)


@wrong("normalising to unit length: the projection takes x where y belongs, 1/n² is missing", r"1/n²|norm|‖|length|\bx\b|\by\b|factor")
def l2_normalise_projects_on_x(rng):
    class Normalise:
        def forward(self, x):
            self.x = x
            self.n = np.linalg.norm(x, axis=-1, keepdims=True)
            return x / self.n

        def backward(self, dy):
            y = self.x  # right: y = self.x / self.n
            return (dy - y * (dy * y).sum(-1, keepdims=True)) / self.n

    return Normalise(), (rng.normal(size=(4, 5)) * 1.5,)


@wrong("cosine similarity: da = b/(‖a‖‖b‖), the norm of a is taken for a constant; −cos · a/‖a‖² is missing", r"norm|‖a‖|what is missing|cos\b|projection", never=r"factor of its own")
def cosine_similarity_norm_constant(rng):
    class Cosine(Layer):
        def forward(self, a, b):
            na, nb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
            c = (a * b).sum(1) / (na * nb)

            def backward(dc):
                k = (dc / (na * nb))[:, None]
                da = k * b  # right: da = k * b - (dc * c / na**2)[:, None] * a
                db = k * a - (dc * c / nb**2)[:, None] * b
                return da, db

            return c, backward

    return Cosine(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong("subtracting the mean: its own path, − mean of dy, is missing", r"mean|averag|Σ dy|path")
def centre_without_mean_path(rng):
    class Centre(Layer):
        def forward(self, x):
            return x - x.mean(0), lambda dy: dy.copy()  # right: return x - x.mean(0), lambda dy: dy - dy.mean(0)

    return Centre(), (rng.normal(size=(5, 3)),)


@wrong("the standard deviation with ddof=1: its gradient divides by N, not by N − 1", r"N\s*[−-]\s*1|ddof|4/5|5/4|unbiased|divid")
def std_ddof(rng):
    def std(x):
        s = x.std(axis=0, ddof=1)
        return s, lambda dy: dy * (x - x.mean(0)) / (s * len(x))  # right: return s, lambda dy: dy * (x - x.mean(0)) / (s * (len(x) - 1))

    return std, (rng.normal(size=(5, 3)),)


# --- convolution and pooling ---


@wrong("conv1d: dx uses the kernel not flipped", r"flip|revers|kernel|mirror|order of the taps|turned")
def conv1d_dx_not_flipped(rng):
    class Conv1d(Layer):
        def __init__(self, k):
            self.w = Parameter("w", rng.normal(size=k))

        def forward(self, x):  # (N, L), "same" for an odd kernel
            w, k = self.w.value, len(self.w.value)
            p = k // 2
            xp = np.pad(x, ((0, 0), (p, p)))
            cols = np.stack([xp[:, j : j + x.shape[1]] for j in range(k)], axis=-1)

            def backward(dy):
                self.w.grad += np.einsum("nl,nlk->k", dy, cols)
                dp = np.pad(dy, ((0, 0), (p, p)))
                dcols = np.stack([dp[:, j : j + x.shape[1]] for j in range(k)], axis=-1)
                return dcols @ w  # right: return dcols @ w[::-1]

            return cols @ w, backward

    return Conv1d(3), (rng.normal(size=(3, 7)),)


@wrong("conv1d: dW's range ends one step early, so that the last output position is left out", r"last|index|position|range|dropped|axis 1|edge|off.by|one")
def conv1d_dw_range_too_short(rng):
    class Conv1d:
        def __init__(self):
            self.W = rng.normal(size=(3, 2, 4))  # taps, in, out

        def forward(self, x):
            self.x = x
            self.L = x.shape[1] - 2
            y = np.zeros((len(x), self.L, 4), x.dtype)
            for t in range(self.L):
                y[:, t] = np.einsum("nkc,kco->no", x[:, t : t + 3], self.W)
            return y

        def backward(self, dy):
            self.dW = np.zeros_like(self.W)
            dx = np.zeros_like(self.x)
            for t in range(self.L):
                dx[:, t : t + 3] += np.einsum("no,kco->nkc", dy[:, t], self.W)
            for t in range(self.L - 1):  # right: for t in range(self.L):
                self.dW += np.einsum("nkc,no->kco", self.x[:, t : t + 3], dy[:, t])
            return dx

    return Conv1d(), (rng.normal(size=(3, 6, 2)),)


def conv_forward_naive(x, w, b, stride=2, pad=1):
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    Ho, Wo = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    out = np.zeros((N, F, Ho, Wo), x.dtype)
    for i in range(Ho):
        for j in range(Wo):
            window = xp[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            out[:, :, i, j] = np.tensordot(window, w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, b, xp, stride, pad)


def conv_backward_naive(dout, cache):
    x, w, b, xp, stride, pad = cache
    _, _, HH, WW = w.shape
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    db = dout.sum(axis=(0, 2, 3))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            h, v = i * stride, j * stride
            d = dout[:, :, i, j]
            dw += np.tensordot(d, xp[:, :, h : h + HH, v : v + WW], axes=([0], [0]))
            dxp[:, :, h : h + HH, v : v + WW] += np.tensordot(d, w, axes=([1], [0]))
    dx = dxp[:, :, : -2 * pad, : -2 * pad]  # right: dx = dxp[:, :, pad:-pad, pad:-pad]
    return dx, dw, db


@wrong("conv2d: the padding is cut off at the end only, dx is shifted by the padding", r"pad|shift|slice|offset|cut|crop")
def conv_padding_cropped_at_end(rng):
    return conv_forward_naive, (rng.normal(size=(2, 2, 5, 6)), rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3))


@wrong("conv2d: dx is written to the window at i, j; the stride is forgotten there", r"stride|i · 2|step|spaced|every 2|shift")
def conv2d_dx_without_stride(rng):
    class Conv(Layer):
        def __init__(self, stride):
            self.W = Parameter("W", rng.normal(size=(2, 2, 2, 3)))
            self.stride = stride

        def forward(self, x):  # (N, H, W, C)
            W, s = self.W.value, self.stride
            n, h, w, c = x.shape
            ho, wo = (h - 2) // s + 1, (w - 2) // s + 1
            y = np.zeros((n, ho, wo, 3), x.dtype)
            for i in range(ho):
                for j in range(wo):
                    y[:, i, j] = np.tensordot(x[:, i * s : i * s + 2, j * s : j * s + 2], W, 3)

            def backward(dy):
                dx = np.zeros_like(x)
                for i in range(ho):
                    for j in range(wo):
                        patch = x[:, i * s : i * s + 2, j * s : j * s + 2]
                        self.W.grad += np.einsum("nabc,no->abco", patch, dy[:, i, j])
                        dpatch = np.einsum("abco,no->nabc", W, dy[:, i, j])
                        dx[:, i : i + 2, j : j + 2] += dpatch  # right: dx[:, i * s : i * s + 2, j * s : j * s + 2] += dpatch
                return dx

            return y, backward

    return Conv(2), (rng.normal(size=(2, 5, 7, 2)),)


@wrong("a dilated convolution: dW reads x without the dilation", r"dilat|spac|stride|shift|position|tap")
def dilated_conv_dw_without_dilation(rng):
    class Dilated(Layer):
        def __init__(self, d):
            self.w, self.d = Parameter("w", rng.normal(size=(3, 2))), d

        def forward(self, x):  # (N, L, C), one output channel
            w, d = self.w.value, self.d
            L = x.shape[1] - 2 * d
            y = sum(x[:, k * d : k * d + L] @ w[k] for k in range(3))

            def backward(dy):
                dx = np.zeros_like(x)
                for k in range(3):
                    dx[:, k * d : k * d + L] += dy[:, :, None] * w[k]
                    self.w.grad[k] += np.einsum("nl,nlc->c", dy, x[:, k : k + L])  # right: self.w.grad[k] += np.einsum("nl,nlc->c", dy, x[:, k * d : k * d + L])
                return dx

            return y, backward

    return Dilated(2), (rng.normal(size=(3, 8, 2)),)


@wrong("col2im writes with = where overlapping patches must be added with +=", r"overlap|overwr|add|\+=|last|patch|accumulat|window|once")
def col2im_overwrites(rng):
    class ConvCols(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(9, 2)))

        def forward(self, x):  # (N, H, W) in one channel
            W = self.W.value
            n, h, w = x.shape
            spots = [(i, j) for i in range(h - 2) for j in range(w - 2)]
            cols = np.stack([x[:, i : i + 3, j : j + 3].reshape(n, 9) for i, j in spots], axis=1)

            def backward(dy):
                self.W.grad += np.einsum("nlk,nlo->ko", cols, dy)
                dcols = dy @ W.T
                dx = np.zeros_like(x)
                for l, (i, j) in enumerate(spots):
                    dx[:, i : i + 3, j : j + 3] = dcols[:, l].reshape(n, 3, 3)  # right: dx[:, i : i + 3, j : j + 3] += dcols[:, l].reshape(n, 3, 3)
                return dx

            return cols @ W, backward

    return ConvCols(), (rng.normal(size=(2, 4, 5)),)


@wrong("a depthwise convolution: the kernel's gradient is summed over channels, each channel has its own", r"channel|axis|axes|sum(med)? over|same", never=r"averaged")
def depthwise_dw_summed_over_channels(rng):
    class Depthwise(Layer):
        def __init__(self, c):
            self.W = Parameter("W", rng.normal(size=(3, c)))

        def forward(self, x):  # (N, L, C)
            W, L = self.W.value, x.shape[1] - 2

            def backward(dy):
                dx = np.zeros_like(x)
                for k in range(3):
                    dx[:, k : k + L] += dy * W[k]
                    self.W.grad[k] += (dy * x[:, k : k + L]).sum()  # right: self.W.grad[k] += (dy * x[:, k : k + L]).sum((0, 1))
                return dx

            return sum(x[:, k : k + L] * W[k] for k in range(3)), backward

    return Depthwise(4), (rng.normal(size=(2, 6, 4)),)


@wrong("a convolution's bias: summed over the batch and rows, one column of pixels left out: only W index 0", r"axis|pixel|position|column|sum|dropped|width|index")
def conv_bias_misses_columns(rng):
    class BiasNHWC:
        def __init__(self, c):
            self.b = rng.normal(size=c)

        def forward(self, x):
            return x + self.b

        def backward(self, dout):
            self.db = dout[:, :, 0].sum(axis=(0, 1))  # right: self.db = dout.sum(axis=(0, 1, 2))
            return dout.copy()

    return BiasNHWC(3), (rng.normal(size=(2, 3, 4, 3)),)


@wrong("a transposed convolution: dx reads dy[i], not dy[i · stride]", r"stride|spac|step|every|shift|index|position|slice")
def conv_transpose_dx_without_stride(rng):
    class ConvTranspose1d(Layer):
        def __init__(self):
            self.w = Parameter("w", rng.normal(size=3))

        def forward(self, x):  # (N, L)
            w, s, L = self.w.value, 2, x.shape[1]
            y = np.zeros((len(x), (L - 1) * s + 3), x.dtype)
            for i in range(L):
                y[:, i * s : i * s + 3] += x[:, i, None] * w

            def backward(dy):
                dx = np.zeros_like(x)
                for i in range(L):
                    dx[:, i] = dy[:, i : i + 3] @ w  # right: dx[:, i] = dy[:, i * s : i * s + 3] @ w
                    self.w.grad += x[:, i] @ dy[:, i * s : i * s + 3]
                return dx

            return y, backward

    return ConvTranspose1d(), (rng.normal(size=(3, 5)),)


@wrong("nearest upsampling: dx takes one of the four copies' gradients instead of their sum", r"only the first|sum|copies|four|\b4\b", never=r"here one overwrites")
def upsample_takes_one_of_four(rng):
    class Upsample(Layer):
        def forward(self, x):  # (N, H, W, C)
            y = x.repeat(2, axis=1).repeat(2, axis=2)

            def backward(dy):
                return dy[:, ::2, ::2].copy()  # right: return dy[:, ::2, ::2] + dy[:, 1::2, ::2] + dy[:, ::2, 1::2] + dy[:, 1::2, 1::2]

            return y, backward

    return Upsample(), (rng.normal(size=(2, 3, 4, 2)),)


@wrong("pixel shuffle: backward's transpose is not the inverse of forward's, the two block axes are exchanged", r"exchang|swap|permut|transpos|order|axes|moved|place|rearrang")
def pixel_shuffle_wrong_inverse(rng):
    class PixelShuffle:
        def forward(self, x):  # (N, H, W, 4C)
            n, h, w, c = x.shape
            self.shape = x.shape
            return x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)

        def backward(self, dy):
            n, h, w, c = self.shape
            d = dy.reshape(n, h, 2, w, 2, c // 4).transpose(0, 1, 3, 4, 2, 5)  # right: d = dy.reshape(n, h, 2, w, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
            return d.reshape(self.shape)

    return PixelShuffle(), (rng.normal(size=(2, 3, 4, 8)),)


@wrong("average pooling: the gradient is spread without dividing by the window's four elements", r"window|kernel area|exactly 4|divid|average")
def average_pool_not_divided(rng):
    class AvgPool(Layer):
        def forward(self, x):  # (N, H, W, C)
            n, h, w, c = x.shape
            y = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
            return y, lambda dy: dy.repeat(2, 1).repeat(2, 2)  # right: return y, lambda dy: dy.repeat(2, 1).repeat(2, 2) / 4

    return AvgPool(), (rng.normal(size=(2, 4, 6, 3)),)


@wrong("overlapping average pooling: the windows' gradients overwrite each other, = for +=", r"overlap|overwr|add|\+=|last|accumulat|window|once|path")
def average_pool_overlap_overwritten(rng):
    class AvgPool1d:
        def forward(self, x):  # (N, L), window 3, stride 1
            self.x = x
            return np.stack([x[:, i : i + 3].mean(1) for i in range(x.shape[1] - 2)], axis=1)

        def backward(self, dy):
            dx = np.zeros_like(self.x)
            for i in range(dy.shape[1]):
                dx[:, i : i + 3] = dy[:, i, None] / 3  # right: dx[:, i : i + 3] += dy[:, i, None] / 3
            return dx

    return AvgPool1d(), (rng.normal(size=(3, 7)),)


@wrong("global average pooling: divided by H, not by H · W", r"\b5\b|\b20\b|\b4\b|W\b|width|divid|H\s*[·*×]|factor|pixels|area")
def global_average_pool_divides_by_height(rng):
    def global_average_pool(x):
        n, h, w, c = x.shape
        return x.mean((1, 2)), lambda dy: np.broadcast_to(dy[:, None, None], x.shape) / h  # right: return x.mean((1, 2)), lambda dy: np.broadcast_to(dy[:, None, None], x.shape) / (h * w)

    return global_average_pool, (rng.normal(size=(2, 4, 5, 3)),)


@wrong("max pooling: the flat argmax is unravelled with rows and columns exchanged", r"argmax|position|swap|exchang|transpos|row|column|wrong element|place|moved|other")
def max_pool_argmax_exchanged(rng):
    class MaxPool:
        def forward(self, x):  # (N, H, W), windows 2 × 3
            n, h, w = x.shape
            self.shape = x.shape
            r = x.reshape(n, h // 2, 2, w // 3, 3).transpose(0, 1, 3, 2, 4).reshape(n, h // 2, w // 3, 6)
            self.arg = r.argmax(-1)
            return r.max(-1)

        def backward(self, dy):
            n, h, w = self.shape
            dx = np.zeros(self.shape, dy.dtype)
            for b, i, j in np.ndindex(dy.shape):
                a, c = divmod(self.arg[b, i, j], 3)
                a, c = self.arg[b, i, j] % 2, self.arg[b, i, j] // 2  # right: pass
                dx[b, 2 * i + a, 3 * j + c] += dy[b, i, j]
            return dx

    return MaxPool(), (rng.normal(size=(2, 4, 6)),)


@wrong("max pooling: with ties each of the equal elements gets the whole gradient", r"\btie|equal|counted|several|shared|largest")
def max_pool_ties_counted_twice(rng):
    class MaxOverTime(Layer):
        def forward(self, x):  # (N, T, C)
            y = x.max(axis=1)

            def backward(dy):
                mask = (x == y[:, None]).astype(x.dtype)
                return mask * dy[:, None]  # right: return mask * dy[:, None] / mask.sum(axis=1, keepdims=True)

            return y, backward

    return MaxOverTime(), (rng.integers(0, 3, size=(3, 5, 2)).astype(float),)


@wrong("max pooling with stride: only the first window of each row is gone through, the loop returns early", r"first|window|dropped|only|zero|index|part|columns")
def max_pool_returns_in_loop(rng):
    class MaxPool1d:
        def forward(self, x):
            self.x = x
            return np.stack([x[:, i : i + 2].max(1) for i in range(0, x.shape[1] - 1, 2)], axis=1)

        def backward(self, dy):
            dx = np.zeros_like(self.x)
            for k in range(dy.shape[1]):
                w = self.x[:, 2 * k : 2 * k + 2]
                dx[:, 2 * k : 2 * k + 2] = (w == w.max(1, keepdims=True)) * dy[:, k, None] / (w == w.max(1, keepdims=True)).sum(1, keepdims=True)
                return dx  # right: pass
            return dx

    return MaxPool1d(), (rng.normal(size=(3, 8)),)


@wrong("padding: the gradient's slice is off by one", r"slice|shift|off.by.one|pad|index|by one|moved")
def pad_slice_off_by_one(rng):
    class Pad(Layer):
        def forward(self, x):  # (N, L)
            L = x.shape[1]
            return np.pad(x, ((0, 0), (2, 3))), lambda dy: dy[:, 3 : L + 3].copy()  # right: return np.pad(x, ((0, 0), (2, 3))), lambda dy: dy[:, 2 : L + 2].copy()

    return Pad(), (rng.normal(size=(3, 5)),)


@wrong("reflection padding: the mirrored edges' gradients are dropped instead of added back", r"edge|border|mirror|reflect|dropped|missing|index|path|copies|outputs give no gradient")
def reflect_pad_drops_edges(rng):
    def reflect_pad(x):
        L = x.shape[1]
        y = np.pad(x, ((0, 0), (1, 1)), mode="reflect")

        def backward(dy):
            dx = dy[:, 1 : L + 1].copy()
            pass  # right: dx[:, 1] += dy[:, 0]
            pass  # right: dx[:, -2] += dy[:, -1]
            return dx

        return y, backward

    return reflect_pad, (rng.normal(size=(3, 6)),)


# --- indexing, gathering, joining ---


@wrong("an embedding: W.grad[ids] += dy counts repeated ids once only", r"repeat|same id|several times|twice|once|add\.at|overwr|duplicate|occurs|last|more than")
def embedding_repeats_lost(rng):
    class Embedding(Layer):
        def __init__(self, n, d):
            self.W = Parameter("W", rng.normal(size=(n, d)))

        def forward(self, ids):
            def backward(dy):
                self.W.grad[ids] += dy  # right: np.add.at(self.W.grad, ids, dy)

            return self.W.value[ids], backward

    return Embedding(6, 3), (np.array([[1, 4, 1, 0], [2, 4, 4, 5]]),)


@wrong("a positional embedding: the gradient is averaged over the batch instead of summed", r"mean|averag|batch|1/3|\b3\b|sum|factor")
def positional_embedding_mean(rng):
    class Positions(Layer):
        def __init__(self, t, d):
            self.P = Parameter("P", rng.normal(size=(t, d)))

        def forward(self, x):  # (N, T, D)
            def backward(dy):
                self.P.grad += dy.mean(0)  # right: self.P.grad += dy.sum(0)
                return dy.copy()

            return x + self.P.value, backward

    return Positions(4, 5), (rng.normal(size=(3, 4, 5)),)


@wrong("gathering with repeated indices: put_along_axis overwrites where it must add", r"repeat|several times|overwr|last|once|twice|same (index|element)|duplicate|add|more than")
def gather_overwrites(rng):
    index = np.array([[0, 2, 2, 4], [1, 1, 1, 3], [5, 0, 5, 2]])

    def gather(x):
        y = np.take_along_axis(x, index, axis=1)

        def backward(dy):
            dx = np.zeros_like(x)
            np.put_along_axis(dx, index, dy, axis=1)  # right: np.add.at(dx, (np.arange(3)[:, None], index), dy)
            return dx

        return y, backward

    return gather, (rng.normal(size=(3, 6)),)


@wrong("mean over segments: the gradient is not divided by the number of elements in the segment", r"count|number of elements|divid|segment|mean", never=r"depends on the inputs|as σ or a gate")
def segment_mean_not_divided(rng):
    segment = np.array([0, 0, 1, 2, 2, 2, 1])

    class SegmentMean(Layer):
        def forward(self, x):  # (N, D)
            counts = np.bincount(segment).astype(x.dtype)[:, None]
            y = np.zeros((3, x.shape[1]), x.dtype)
            np.add.at(y, segment, x)
            return y / counts, lambda dy: dy[segment]  # right: return y / counts, lambda dy: (dy / counts)[segment]

    return SegmentMean(), (rng.normal(size=(7, 3)),)


@wrong("concatenation: the two parts of dy are handed back in the wrong order", r"order|swap|exchang|other")
def concat_parts_exchanged(rng):
    class Concat(Layer):
        def forward(self, a, b):
            def backward(dy):
                da, db = np.split(dy, 2, axis=1)
                return db, da  # right: return da, db

            return np.concatenate([a, b], axis=1), backward

    return Concat(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))


@wrong("concatenation: dy is cut at the wrong place, one column too early", r"shift|slice|cut|off.by.one|split|place|index|by one|moved|column")
def concat_cut_one_early(rng):
    def join(a, b, c):
        n, m = a.shape[1], a.shape[1] + b.shape[1]
        y = np.concatenate([a, b, c], axis=1)

        def backward(dy):
            return dy[:, :n].copy(), dy[:, n - 1 : m - 1].copy(), dy[:, m:].copy()  # right: return dy[:, :n].copy(), dy[:, n:m].copy(), dy[:, m:].copy()

        return y, backward

    return join, (rng.normal(size=(3, 4)), rng.normal(size=(3, 3)), rng.normal(size=(3, 2)))


@wrong("cumulative sum: backward sums from the start, where it must sum from the end", r"revers|from the (end|start)|flip|cumul|direction|transpos|later|triang|before|after|other way")
def cumsum_not_reversed(rng):
    def cumsum(x):
        return x.cumsum(1), lambda dy: dy.cumsum(1)  # right: return x.cumsum(1), lambda dy: dy[:, ::-1].cumsum(1)[:, ::-1]

    return cumsum, (rng.normal(size=(3, 5)),)


@wrong("differences x[t+1] − x[t]: the − x[t] path is missing", r"only the first|missing|path|−\s*dy|sign|dropped|term", never=r"here one overwrites")
def difference_one_path(rng):
    class Diff(Layer):
        def forward(self, x):
            def backward(dy):
                dx = np.zeros_like(x)
                dx[:, 1:] += dy
                pass  # right: dx[:, :-1] -= dy
                return dx

            return x[:, 1:] - x[:, :-1], backward

    return Diff(), (rng.normal(size=(3, 6)),)


@wrong("np.roll: backward rolls on in the same direction", r"shift|roll|direction|stands where")
def roll_same_direction(rng):
    def roll(x):
        return np.roll(x, 1, axis=-1), lambda dy: np.roll(dy, 1, axis=-1)  # right: return np.roll(x, 1, axis=-1), lambda dy: np.roll(dy, -1, axis=-1)

    return roll, (rng.normal(size=(3, 5)),)


@wrong("broadcasting: a (N, 1) is added to b (N, D); da is the mean over D instead of the sum", r"mean|averag|sum|\b4\b|1/4|factor|features|axis")
def broadcast_column_mean(rng):
    class AddColumn(Layer):
        def forward(self, a, b):
            return a + b, lambda dy: (dy.mean(1, keepdims=True), dy.copy())  # right: return a + b, lambda dy: (dy.sum(1, keepdims=True), dy.copy())

    return AddColumn(), (rng.normal(size=(3, 1)), rng.normal(size=(3, 4)))


@wrong("broadcasting: the scale's gradient is not summed over the broadcast axis, its shape is that of x", r"shape|broadcast|sum")
def broadcast_scale_not_summed(rng):
    def scale(x, s):
        return x * s, lambda dy: (dy * s, dy * x)  # right: return x * s, lambda dy: (dy * s, (dy * x).sum(0))

    return scale, (rng.normal(size=(5, 3)), rng.normal(size=3))


@wrong("a channel scale: its gradient sums dy, the factor x is forgotten", r"\bx\b|input|dy·x|factor")
def channel_scale_without_x(rng):
    class ChannelScale(Layer):
        def __init__(self, c):
            self.gamma = Parameter("gamma", rng.normal(size=c))

        def forward(self, x):
            g = self.gamma.value

            def backward(dy):
                self.gamma.grad += dy.sum(axis=(0, 1))  # right: self.gamma.grad += (dy * x).sum(axis=(0, 1))
                return dy * g

            return x * g, backward

    return ChannelScale(3), (rng.normal(size=(4, 5, 3)),)


@wrong("a bilinear layer x W z: dz multiplies by W where its transpose belongs", r"transpos|ᵀ|\.T\b|x W|W")
def bilinear_dz_transposed(rng):
    class Bilinear(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(3, 3)))

        def forward(self, x, z):
            W = self.W.value

            def backward(dy):
                self.W.grad += np.einsum("n,ni,nj->ij", dy, x, z)
                return dy[:, None] * (z @ W.T), dy[:, None] * (x @ W.T)  # right: return dy[:, None] * (z @ W.T), dy[:, None] * (x @ W)

            return np.einsum("ni,ij,nj->n", x, W, z), backward

    return Bilinear(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3)))


@wrong("a product of two inputs: their gradients are exchanged, da = dy·a", r"exchang|swap|\bb\b|\ba\b|other input")
def product_factors_exchanged(rng):
    class Mul:
        def forward(self, a, b):
            self.a, self.b = a, b
            return a * b

        def backward(self, dout):
            return dout * self.a, dout * self.b  # right: return dout * self.b, dout * self.a

    return Mul(), (rng.normal(size=(3, 4)), rng.normal(size=(3, 4)))


@wrong("a quotient: db = −dy a/b², here the square is missing", r"b²|squar|1/b|factor|divid|b\^2|/ ?b")
def quotient_without_square(rng):
    def divide(a, b):
        return a / b, lambda dy: (dy / b, -dy * a / b)  # right: return a / b, lambda dy: (dy / b, -dy * a / b**2)

    return divide, (rng.normal(size=(3, 4)), rng.uniform(0.5, 2, size=(3, 4)))


@wrong("log-sum-exp: the exponentials are divided by the sum over everything, not by their row's", r"row|axis|softmax|sum|Σ|normali[sz]")
def logsumexp_normalised_over_all(rng):
    def logsumexp(x):
        e = np.exp(x)
        return np.log(e.sum(1)), lambda dy: dy[:, None] * e / e.sum()  # right: return np.log(e.sum(1)), lambda dy: dy[:, None] * e / e.sum(1, keepdims=True)

    return logsumexp, (rng.normal(size=(3, 5)),)


@wrong("the variance over the features: 2(x − mean)/D, here 2x/D", r"mean|centr|Σ|μ|averag")
def variance_not_centred(rng):
    def variance(x):
        d = x.shape[1]
        return x.var(axis=1), lambda dy: dy[:, None] * 2 * x / d  # right: return x.var(axis=1), lambda dy: dy[:, None] * 2 * (x - x.mean(1, keepdims=True)) / d

    return variance, (rng.normal(size=(4, 5)) + 0.5,)


@wrong("Fourier features cos(xB): the derivative −sin lacks its minus", r"sign|minus|−1|-1")
def fourier_cosine_sign(rng):
    B = rng.normal(size=(2, 4))

    class Fourier(Layer):
        def forward(self, x):
            z = x @ B.astype(x.dtype)

            def backward(dy):
                ds, dc = dy[:, :4], dy[:, 4:]
                dz = ds * np.cos(z) + dc * np.sin(z)  # right: dz = ds * np.cos(z) - dc * np.sin(z)
                return dz @ B.T.astype(x.dtype)

            return np.concatenate([np.sin(z), np.cos(z)], axis=1), backward

    return Fourier(), (rng.normal(size=(5, 2)),)


@wrong("a Gaussian kernel exp(−‖x − c‖²/2s²): the centres' gradient is not summed over the batch's own weights, its sign is x's", r"sign|−1 times|negat|minus")
def rbf_centres_sign(rng):
    class RBF(Layer):
        def __init__(self):
            self.c = Parameter("c", rng.normal(size=(4, 3)))

        def forward(self, x):
            d = x[:, None] - self.c.value  # (N, K, D)
            y = np.exp(-0.5 * (d * d).sum(-1))

            def backward(dy):
                w = (dy * y)[:, :, None] * d
                self.c.grad -= w.sum(0)  # right: self.c.grad += w.sum(0)
                return -w.sum(1)

            return y, backward

    return RBF(), (rng.normal(size=(5, 3)) * 0.7,)


# --- dropout, attention, recurrence ---


@wrong("inverted dropout: the kept elements are scaled by 1/(1 − p) in forward and not in backward", r"1\.428|1/\(1|scale|keep")
def dropout_scale_lost(rng):
    class Dropout(Layer):
        def __init__(self, p=0.3):
            self.p = p

        def forward(self, x):
            mask = np.random.default_rng(3).random(x.shape) >= self.p
            return x * mask / x.dtype.type(1 - self.p), lambda dy: dy * mask  # right: return x * mask / x.dtype.type(1 - self.p), lambda dy: dy * mask / x.dtype.type(1 - self.p)

    return Dropout(), (rng.normal(size=(4, 5)),)


@wrong("dropout: backward draws a mask of its own", r"mask|drawn|random|other elements|same mask|differ|each call|again")
def dropout_draws_again(rng):
    class Dropout:
        def forward(self, x):
            self.rng = np.random.default_rng(1)
            self.mask = self.rng.random(x.shape) < 0.6
            return x * self.mask / 0.6

        def backward(self, dout):
            mask = np.random.default_rng(2).random(dout.shape) < 0.6  # right: mask = self.mask
            return dout * mask / 0.6

    return Dropout(), (rng.normal(size=(4, 5)),)


@wrong("attention: dv multiplies by the weights p where pᵀ belongs; queries and keys are equally many", r"transpos|ᵀ|\.T\b")
def attention_dv_not_transposed(rng):
    class Attention(Layer):
        def forward(self, q, k, v):  # (N, T, D)
            root = q.shape[-1] ** 0.5
            p = softmax(q @ k.swapaxes(1, 2) / root)

            def backward(dy):
                dv = p @ dy  # right: dv = p.swapaxes(1, 2) @ dy
                dp = dy @ v.swapaxes(1, 2)
                ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / root
                return ds @ k, ds.swapaxes(1, 2) @ q, dv

            return p @ v, backward

    return Attention(), tuple(rng.normal(size=(2, 4, 3)) for _ in range(3))


@wrong("attention: the 1/√d is lost in the keys' gradient", r"√|sqrt|root|1\.73|0\.577|scale")
def attention_dk_without_scale(rng):
    class Attention:
        def forward(self, Q, K, V):
            self.Q, self.K, self.V = Q, K, V
            self.A = softmax(Q @ K.T / np.sqrt(Q.shape[1]))
            return self.A @ V

        def backward(self, dO):
            dA = dO @ self.V.T
            dS = self.A * (dA - (dA * self.A).sum(1, keepdims=True))
            root = np.sqrt(self.Q.shape[1])
            return dS @ self.K / root, dS.T @ self.Q, self.A.T @ dO  # right: return dS @ self.K / root, dS.T @ self.Q / root, self.A.T @ dO

    return Attention(), (rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))


@wrong("attention: the softmax's backward sums over the queries, where it is to sum over the keys", r"axis|row|column|keys|queries|softmax")
def attention_softmax_axis(rng):
    def attention(q, k, v):
        p = softmax(q @ k.T)

        def backward(dy):
            dp = dy @ v.T
            ds = p * (dp - (dp * p).sum(0, keepdims=True))  # right: ds = p * (dp - (dp * p).sum(1, keepdims=True))
            return ds @ k, ds.T @ q, p.T @ dy

        return p @ v, backward

    return attention, (rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))


@wrong("attention: the softmax between scores and weights is passed over, dS = dA", r"softmax|dp|weights|scores|Jacobian|p\b.*Σ|passed")
def attention_skips_softmax(rng):
    class SelfAttention(Layer):
        def __init__(self, d):
            self.Wq = Parameter("Wq", rng.normal(size=(d, d)))
            self.Wk = Parameter("Wk", rng.normal(size=(d, d)))

        def forward(self, x):  # (T, D)
            Wq, Wk = self.Wq.value, self.Wk.value
            q, k = x @ Wq, x @ Wk
            p = softmax(q @ k.T)

            def backward(dy):
                dp = dy @ x.T
                ds = dp  # right: ds = p * (dp - (dp * p).sum(-1, keepdims=True))
                dq, dk = ds @ k, ds.T @ q
                self.Wq.grad += x.T @ dq
                self.Wk.grad += x.T @ dk
                return dq @ Wq.T + dk @ Wk.T + p.T @ dy

            return p @ x, backward

    return SelfAttention(3), (rng.normal(size=(5, 3)),)


@wrong("self-attention: x is query, key and value at once; the value's path is missing in dx", r"value|path|missing|pᵀ|\bv\b|third|lost")
def self_attention_value_path(rng):
    class SelfAttention(Layer):
        def forward(self, x):  # (N, T, D)
            p = softmax(x @ x.swapaxes(1, 2))

            def backward(dy):
                dp = dy @ x.swapaxes(1, 2)
                ds = p * (dp - (dp * p).sum(-1, keepdims=True))
                dx = ds @ x + ds.swapaxes(1, 2) @ x
                return dx  # right: return dx + p.swapaxes(1, 2) @ dy

            return p @ x, backward

    return SelfAttention(), (rng.normal(size=(2, 4, 3)),)


@wrong("multi-head attention: the heads are put together by reshape without the transpose", r"reshape|transpos|permut|order|head|axes|swap|exchang|place|moved|rearrang")
def heads_merged_without_transpose(rng):
    class SplitHeads(Layer):
        def __init__(self, heads):
            self.h = heads

        def forward(self, x):  # (N, T, D) -> (N, heads, T, D/heads)
            n, t, d = x.shape
            y = x.reshape(n, t, self.h, d // self.h).transpose(0, 2, 1, 3).copy()

            def backward(dy):
                return dy.reshape(n, t, d)  # right: return dy.transpose(0, 2, 1, 3).reshape(n, t, d)

            return y, backward

    return SplitHeads(2), (rng.normal(size=(2, 3, 6)),)


def lstm_cell(rng):
    return rng.normal(size=(4, 3)), rng.normal(size=(4, 2)), rng.normal(size=(4, 2))


class LSTMBase(Layer):
    def __init__(self, rng, d=3, h=2):
        self.Wx = Parameter("Wx", rng.normal(size=(d, 4 * h)))
        self.Wh = Parameter("Wh", rng.normal(size=(h, 4 * h)))

    def gates(self, x, h):
        i, f, o, g = np.split(x @ self.Wx.value + h @ self.Wh.value, 4, axis=1)
        return sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)

    def spread(self, x, h, dz, Wx, Wh):
        self.Wx.grad += x.T @ dz
        self.Wh.grad += h.T @ dz
        return dz @ Wx.T, dz @ Wh.T


@wrong("LSTM: the forget gate's gradient multiplies by the new cell state, not by the previous one", r"c_?prev|previous|old|\bc\b|cell|forget", never=r"small term")
def lstm_forget_gate_new_state(rng):
    class LSTM(LSTMBase):
        def forward(self, x, h, c):
            Wx, Wh = self.Wx.value, self.Wh.value
            i, f, o, g = self.gates(x, h)
            c2 = f * c + i * g
            t = np.tanh(c2)

            def backward(dy):
                dh, dc = dy
                dc = dc + dh * o * (1 - t * t)
                di, df, do, dg = dc * g, dc * c2, dh * t, dc * i  # right: di, df, do, dg = dc * g, dc * c, dh * t, dc * i
                dz = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)], 1)
                return (*self.spread(x, h, dz, Wx, Wh), dc * f)

            return (o * t, c2), backward

    return LSTM(rng), lstm_cell(rng)


@wrong("LSTM: the cell's gradient lacks the path from h through tanh", r"path|missing|tanh|dh|output|\bh\b|second|through|lost|o\b.*\(1")
def lstm_cell_path_from_h(rng):
    class LSTM(LSTMBase):
        def forward(self, x, h, c):
            Wx, Wh = self.Wx.value, self.Wh.value
            i, f, o, g = self.gates(x, h)
            c2 = f * c + i * g
            t = np.tanh(c2)

            def backward(dy):
                dh, dc = dy
                pass  # right: dc = dc + dh * o * (1 - t * t)
                di, df, do, dg = dc * g, dc * c, dh * t, dc * i
                dz = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)], 1)
                return (*self.spread(x, h, dz, Wx, Wh), dc * f)

            return (o * t, c2), backward

    return LSTM(rng), lstm_cell(rng)


@wrong("LSTM: the candidate's derivative is sigmoid's, g(1 − g), where g is a tanh", r"tanh|1\s*[−-]\s*g|g²|g\^2|candidate|sigmoid|σ")
def lstm_candidate_as_sigmoid(rng):
    class LSTM(LSTMBase):
        def forward(self, x, h, c):
            Wx, Wh = self.Wx.value, self.Wh.value
            i, f, o, g = self.gates(x, h)
            c2 = f * c + i * g
            t = np.tanh(c2)

            def backward(dy):
                dh, dc = dy
                dc = dc + dh * o * (1 - t * t)
                di, df, do, dg = dc * g, dc * c, dh * t, dc * i
                dz = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * g * (1 - g)], 1)  # right: dz = np.concatenate([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g * g)], 1)
                return (*self.spread(x, h, dz, Wx, Wh), dc * f)

            return (o * t, c2), backward

    return LSTM(rng), lstm_cell(rng)


@wrong("GRU: the previous state also passes straight on, dy·z; this path is missing in dh", r"path|missing|\bz\b|update gate|carry|previous|straight")
def gru_carry_path(rng):
    class GRU(Layer):
        def __init__(self, d, h):
            self.W = Parameter("W", rng.normal(size=(d, 3 * h)))
            self.U = Parameter("U", rng.normal(size=(h, 3 * h)))

        def forward(self, x, h):
            W, U, H = self.W.value, self.U.value, h.shape[1]
            a, u = x @ W, h @ U
            z, r = sigmoid(a[:, :H] + u[:, :H]), sigmoid(a[:, H : 2 * H] + u[:, H : 2 * H])
            n = np.tanh(a[:, 2 * H :] + r * u[:, 2 * H :])

            def backward(dy):
                dz = dy * (h - n) * z * (1 - z)
                dn = dy * (1 - z) * (1 - n * n)
                dr = dn * u[:, 2 * H :] * r * (1 - r)
                da, du = np.concatenate([dz, dr, dn], 1), np.concatenate([dz, dr, dn * r], 1)
                self.W.grad += x.T @ da
                self.U.grad += h.T @ du
                dh = du @ U.T
                return da @ W.T, dh  # right: return da @ W.T, dh + dy * z

            return (1 - z) * n + z * h, backward

    return GRU(3, 2), (rng.normal(size=(4, 3)), rng.normal(size=(4, 2)))


@wrong("a recurrent network: dh is not carried on to the step before", r"step|time|earlier|carr|later|through time|previous|path|missing")
def rnn_no_gradient_through_time(rng):
    class RNN(Layer):
        def __init__(self, d, h):
            self.Wx = Parameter("Wx", rng.normal(size=(d, h)))
            self.Wh = Parameter("Wh", rng.normal(size=(h, h)))

        def forward(self, x):  # (N, T, D)
            Wx, Wh = self.Wx.value, self.Wh.value
            hs = [np.zeros((len(x), Wh.shape[0]), x.dtype)]
            for t in range(x.shape[1]):
                hs.append(np.tanh(x[:, t] @ Wx + hs[-1] @ Wh))

            def backward(dy):
                dx, dh = np.zeros_like(x), np.zeros_like(hs[0])
                for t in reversed(range(x.shape[1])):
                    dz = dy[:, t] * (1 - hs[t + 1] ** 2)  # right: dz = (dy[:, t] + dh) * (1 - hs[t + 1] ** 2)
                    self.Wx.grad += x[:, t].T @ dz
                    self.Wh.grad += hs[t].T @ dz
                    dx[:, t] = dz @ Wx.T
                    dh = dz @ Wh.T
                return dx

            return np.stack(hs[1:], axis=1), backward

    return RNN(3, 2), (rng.normal(size=(3, 4, 3)),)


@wrong("a recurrent network: dWh takes the state after the step, h_t, where h_(t−1) belongs", r"h_|previous|state|step|before|shift|index|off.by|earlier|time")
def rnn_dwh_takes_new_state(rng):
    class RNN:
        def __init__(self):
            self.Wx, self.Wh = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))

        def forward(self, x):  # (N, T, D)
            self.x, self.h = x, np.zeros((len(x), x.shape[1] + 1, 3))
            for t in range(x.shape[1]):
                self.h[:, t + 1] = np.tanh(x[:, t] @ self.Wx + self.h[:, t] @ self.Wh)
            return self.h[:, 1:].copy()

        def backward(self, dy):
            self.dWx, self.dWh = np.zeros_like(self.Wx), np.zeros_like(self.Wh)
            dx, dh = np.zeros_like(self.x), 0
            for t in reversed(range(dy.shape[1])):
                dz = (dy[:, t] + dh) * (1 - self.h[:, t + 1] ** 2)
                self.dWx += self.x[:, t].T @ dz
                self.dWh += self.h[:, t + 1].T @ dz  # right: self.dWh += self.h[:, t].T @ dz
                dx[:, t], dh = dz @ self.Wx.T, dz @ self.Wh.T
            return dx

    return RNN(), (rng.normal(size=(3, 4, 2)),)


@wrong("a recurrent cell: tanh's derivative is taken of the pre-activation, 1 − z²", r"1\s*[−-]\s*y²|1\s*[−-]\s*h|tanh|output|pre-?activation|y²|derivative")
def rnn_cell_derivative_of_preactivation(rng):
    def cell(x, h, Wx, Wh):
        z = x @ Wx + h @ Wh
        y = np.tanh(z)

        def backward(dy):
            dz = dy * (1 - z * z)  # right: dz = dy * (1 - y * y)
            return dz @ Wx.T, dz @ Wh.T, x.T @ dz, h.T @ dz

        return y, backward

    return cell, (rng.normal(size=(4, 3)) / 2, rng.normal(size=(4, 2)) / 2, rng.normal(size=(3, 2)), rng.normal(size=(2, 2)))


@wrong("gradients are assigned, = for +=: a layer used twice in one network keeps one share only", r"\+=|\badd|accumul|overwr|assign|share")
def parameter_gradient_assigned(rng):
    class Dense1(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(3, 3)))

        def forward(self, x):
            W = self.W.value

            def backward(dy):
                self.W.grad[...] = x.T @ dy  # right: self.W.grad += x.T @ dy
                return dy @ W.T

            return x @ W, backward

    class Net(Layer):
        def __init__(self):
            self.fc = Dense1()

        def forward(self, x):
            a, back1 = self.fc.forward(x)
            y, back2 = self.fc.forward(np.tanh(a))
            return y, lambda dy: back1(back2(dy) * (1 - np.tanh(a) ** 2))

    return Net(), (rng.normal(size=(4, 3)),)


@wrong("a convolutional classifier of library layers with its own loss layer: the loss is not divided by N in backward", r"exactly 3 times.*batch", never=r"√9")
def classifier_loss_not_divided(rng):
    labels = one_hot(np.array([0, 2, 1]), 3)

    class Classifier(Layer):
        def __init__(self):
            self.net = Sequential(Conv2d(1, 2, 3, rng=rng), ReLU(), Flatten(), Dense(8, 3, rng=rng))

        def forward(self, x):
            s, back = self.net.forward(x)
            p = softmax(s)
            loss = -(labels * np.log(p)).sum() / len(x)

            def backward():
                ds = p - labels  # right: ds = (p - labels) / len(x)
                return back(ds.astype(x.dtype))

            return loss.astype(x.dtype), backward

    return Classifier(), (rng.normal(size=(3, 4, 4, 1)),)


@wrong("two heads on one trunk of library layers: the second head's gradient does not reach the trunk", r"head|second|path|missing|lost|never used|trunk|aux")
def two_heads_one_gradient(rng):
    class TwoHeads(Layer):
        def __init__(self):
            self.trunk = Sequential(Dense(4, 5, rng=rng), BatchNorm(5), Tanh())
            self.cls, self.reg = Dense(5, 3, rng=rng), Dense(5, 2, rng=rng)

        def forward(self, x):
            h, back_trunk = self.trunk.forward(x)
            a, back_cls = self.cls.forward(h)
            b, back_reg = self.reg.forward(h)

            def backward(dy):
                da, db = dy
                dh = back_cls(da)
                back_reg(db)  # right: dh = dh + back_reg(db)
                return back_trunk(dh)

            return (a, b), backward

        def predict(self, x):
            h = self.trunk.predict(x)
            return self.cls.predict(h), self.reg.predict(h)

    return TwoHeads(), (rng.normal(size=(6, 4)),)


@wrong("an entropy bonus is in the loss and is left out of the gradient", r"entropy|log|Σ|second")
def policy_loss_without_entropy_gradient(rng):
    action = np.array([0, 2, 1, 3])
    advantage = np.array([0.5, -1.2, 2.0, 0.3])

    def policy_loss(logits, beta=0.1):
        p = softmax(logits)
        logp = np.log(p)
        n = len(logits)
        entropy = -(p * logp).sum(1)
        loss = (-advantage * logp[np.arange(n), action] - beta * entropy).mean()
        ds = advantage[:, None] * (p - one_hot(action, 4)) / n
        return loss, ds  # right: return loss, ds + beta * p * (logp + entropy[:, None]) / n

    return policy_loss, (rng.normal(size=(4, 4)),)


@wrong("total variation of an image: the vertical differences get no gradient", r"axis 1|vertical|rows|missing|path|dropped|part|term|sign")
def total_variation_one_direction(rng):
    class TotalVariation(Layer):
        def forward(self, x):  # (N, H, W)
            v, h = x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]

            def backward():
                dx = np.zeros_like(x)
                dx[:, :, 1:] += 2 * h
                dx[:, :, :-1] -= 2 * h
                pass  # right: dx[:, 1:] += 2 * v
                pass  # right: dx[:, :-1] -= 2 * v
                return dx

            return (v * v).sum() + (h * h).sum(), backward

    return TotalVariation(), (rng.normal(size=(2, 3, 4)),)


@wrong("the elastic net's L1 part: its gradient is λ W, where it is λ sign(W)", r"sign|\|W\||L1|abs")
def l1_penalty_gradient_is_w(rng):
    class Lasso(Layer):
        def __init__(self):
            self.w = Parameter("w", rng.normal(size=(4, 2)))

        def forward(self, x):
            w, n = self.w.value, len(x)
            y = x @ w
            loss = (y * y).sum() / n + 0.3 * np.abs(w).sum()

            def backward():
                dy = 2 * y / n
                self.w.grad += x.T @ dy + 0.3 * w  # right: self.w.grad += x.T @ dy + 0.3 * np.sign(w)
                return dy @ w.T

            return loss, backward

    return Lasso(), (rng.normal(size=(5, 4)),)


@wrong("gradient clipping left inside backward: dx is cut to ±0.5", r"clip|cut|linear in dy|bound|limit")
def backward_clips_gradient(rng):
    class Clipped(Layer):
        def __init__(self):
            self.W = Parameter("W", rng.normal(size=(3, 4)))

        def forward(self, x):
            W = self.W.value

            def backward(dy):
                self.W.grad += x.T @ dy
                return np.clip(dy @ W.T, -0.5, 0.5)  # right: return dy @ W.T

            return x @ W, backward

    return Clipped(), (rng.normal(size=(4, 3)),)


@wrong("a normalised map x/Σx over the row (attention by counts): the sum is taken for a constant", r"sum|Σ|row|constant|normali[sz]|axis")
def row_normalise_sum_constant(rng):
    def row_normalise(x):
        s = x.sum(1, keepdims=True)
        y = x / s
        return y, lambda dy: dy / s  # right: return y, lambda dy: (dy - (dy * y).sum(1, keepdims=True)) / s

    return row_normalise, (rng.uniform(0.5, 2, size=(4, 3)),)


@wrong("a Gram matrix xᵀx (style loss): dx is x·dG, where the symmetric part, x (dG + dGᵀ), is needed", r"transpos|ᵀ|\.T\b|symmetr|half|twice|both|missing|path|second")
def gram_matrix_one_side(rng):
    class Gram:
        def forward(self, x):  # (positions, channels)
            self.x = x
            return x.T @ x / len(x)

        def backward(self, dG):
            return self.x @ dG / len(self.x)  # right: return self.x @ (dG + dG.T) / len(self.x)

    return Gram(), (rng.normal(size=(5, 3)),)


@wrong("linear interpolation between a and b by a learned t: dt is summed over all, where every feature has its own t", r"sum|axis|same|each has|total|features", never=r"averaged")
def mixture_weight_summed(rng):
    class Mix(Layer):
        def __init__(self, d):
            self.t = Parameter("t", rng.uniform(size=d))

        def forward(self, a, b):
            t = self.t.value

            def backward(dy):
                self.t.grad += (dy * (a - b)).sum()  # right: self.t.grad += (dy * (a - b)).sum(0)
                return dy * t, dy * (1 - t)

            return t * a + (1 - t) * b, backward

    return Mix(4), (rng.normal(size=(5, 4)), rng.normal(size=(5, 4)))
