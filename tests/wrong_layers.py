"""Wrong layers, losses and models as students write them, to measure what the gradient checker says about each.

They were written without a look at the checker's hints, so that the measure is an honest one (`blind.py`). Each has one
mistake, on a line that ends with its right version, `# right: ...`: with that in its place the check must find nothing.
`why` is the true cause in plain words; `cause` is a pattern that a hint pointing at this cause contains, in whatever
words, and a hint at another cause does not.
"""

# ruff: noqa: B023, F841, NPY002, RUF059, SIM108  as students write it

import ast
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen import BatchNorm, Conv2d, Dense, Flatten, Layer, LeakyReLU, Parameter, ReLU, Sequential, Sigmoid, Tanh
from scratchgen.losses import bce_with_logits, gaussian_kl, softmax_cross_entropy
from scratchgen.losses import mse as library_mse

WRONG: dict[str, "Wrong"] = {}


@dataclass
class Wrong:
    name: str
    why: str
    cause: str  # a regular expression, whatever the case
    make: Callable[[np.random.Generator], tuple[Any, tuple]]


def wrong(why: str, cause: str) -> Callable:
    def decorate(make: Callable) -> Callable:
        WRONG[make.__name__] = Wrong(make.__name__, why, cause, make)
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
    r"sum(med)? over (all|every|the (output|feature|channel|last)|axis 1|axes|both)|total|all (axes|elements)|"
    r"(also|too).*(last axis|features)|(axis 1|axes|last axis|features)",
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
    r"mask|x\s*[>≥<≤]\s*0|(positive|negative)|sign of (dy|the gradient)|where (x|the input|dy)",
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
    r"dy|constant|slope|not (linear|proportional)|depend",
)
def leaky_relu_slope_without_dy(rng):
    def leaky(x):
        return np.where(x > 0, x, 0.1 * x), lambda dy: np.where(x > 0, dy, 0.1)  # right: return np.where(x > 0, x, 0.1 * x), lambda dy: np.where(x > 0, dy, 0.1 * dy)

    return leaky, (rng.normal(size=(4, 3)),)


@wrong(
    "ELU's derivative for x < 0 is y + alpha, here y: the alpha is missing",
    r"alpha|y\s*\+|\+\s*1\.3|1\.3|exp|eˣ|e\^x|dy",
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


@wrong("SELU's scale is forgotten for x < 0", r"1\.05|0\.95|scale|lambda|λ|(factor|times)|x\s*[<≤]\s*0|negative")
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
    r"product rule|σ\(x\)|sigmoid|first term|\by\s*/\s*x|y\s*[·*]?\s*\(1|missing",
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
    r"product rule|φ|density|pdf|normal|exp\(|missing.*\bx\b|x\s*[·*]",
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


@wrong("softplus with sharpness β: its derivative is σ(βx), here multiplied by β once more", r"\b2\.5\b|0\.4|beta|β|twice|factor|times")
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
    r"clip|mask|outside|beyond|limit|where|saturat|range",
)
def clip_without_mask(rng):
    class Hardtanh(Layer):
        def forward(self, x):
            return np.clip(x, -1, 1), lambda dy: dy.copy()  # right: return np.clip(x, -1, 1), lambda dy: dy * (np.abs(x) < 1)

    return Hardtanh(), (rng.normal(size=(4, 4)) * 1.5,)


@wrong("softsign's derivative is 1/(1 + |x|)², here 1/(1 + |x|)", r"squar|²|\^2|\*\*\s*2|1\s*\+\s*\|x\||abs|1\s*[−-]\s*\|y\||power")
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
    r"mask|largest|max|only|winner|other|where",
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


@wrong("multiclass hinge: the right class's own column, minus the number of violations, is missing", r"correct|right class|label|target|count|column|true class|index|0 where|zero")
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
    r"mask|margin|where|threshold|< 1|> 1|0 where|zero",
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


@wrong("smooth L1 with β: inside, r² / 2β has the gradient r/β, here r", r"β|beta|0\.5|\b2\b|divid|factor|times|inside|small|quadratic")
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
