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


@wrong("log-cosh loss: tanh(r) is its derivative, here r", r"tanh|derivative of log|saturat")
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


@wrong("focal loss: (1 − p)^γ is taken for a constant, its own derivative is missing", r"missing|too much|γ|gamma|\(1\s*[−-]\s*p|product rule|constant|log")
def focal_weight_as_constant(rng):
    def focal(p):  # the probability of the right class
        loss = -((1 - p) ** 2 * np.log(p)).sum()
        dp = -((1 - p) ** 2) / p  # right: dp = -((1 - p) ** 2) / p + 2 * (1 - p) * np.log(p)
        return loss, dp

    return focal, (rng.uniform(0.2, 0.9, size=7),)


@wrong("triplet loss: the anchor's gradient lacks the path through the distance to the negative", r"negative|missing|path|\bn\b")
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


@wrong("the reparameterised sample: ∂σ/∂logvar = ½σ, the ½ is lost", r"½|1/2|half|exactly 2|twice|factor.*\b2\b|0\.5")
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


@wrong("KL between two Gaussians: the second mean gets no gradient", r"zero|missing|no gradient|dropped|lost|\bm2\b")
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


@wrong("KL between two Gaussians: the gradient in the second deviation lacks the squared distance of the means", r"missing|\bd²|\bd\^2|m1|mean|distance|squar")
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
    r"KL|mu|latent|encoder|missing|path|another loss|logvar|second",
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


@wrong("a VAE of library layers: the halves of the encoder's gradient are joined in the wrong order", r"order|swap|exchang|halves|concat|mix|mu|logvar|encoder")
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
    r"fake|missing|path|second|part|lost|branch|z\b",
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
    r"swap|exchang|other|real|fake|batch|mix|branch|second",
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


@wrong("the generator's loss: the discriminator's dx does not get back to G, which takes the scores' gradient spread out", r"generator|G\b|discriminator|path|missing|Jacobian|G\.")
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


@wrong("Wasserstein critic: the gradient of the mean over the fakes is divided by the number of reals", r"\b4\b|\b6\b|1\.5|0\.666|2/3|3/2|batch|mean|number|times")
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


@wrong("Gumbel softmax: the 1/τ of softmax((s + g)/τ) is lost", r"τ|tau|temperature|0\.5|\b2\b|factor|times")
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


@wrong("a network of two layers: ReLU's mask is missing in backward", r"mask|relu|Z1\s*[>≥]|activation|hidden|derivative|A1")
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


@wrong("the hidden sigmoid's derivative is taken of the pre-activation: z1(1 − z1) for a1(1 − a1)", r"z1|a1|pre-?activation|sigmoid|σ|activation|hidden|derivative")
def sigmoid_net_derivative_of_preactivation(rng):
    return SigmoidNet(rng), (rng.normal(size=(6, 4)),)


@wrong("the hidden layer's gradient is divided by m once more than the output layer's", r"\b6\b|1/6|0\.16|batch|twice|divided|first layer|layer 1|mean")
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


@wrong("a network of library layers: the hidden layer's activation is not gone back through", r"act\b|activation|tanh|layer|derivative|skip|missing|mask|1\s*[−-]")
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


@wrong("a network of square library layers: the pullbacks are called in forward's order", r"order|first|second|layer|swap|exchang")
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


@wrong("a residual branch scaled by 0.3: the scale is missing in backward", r"0\.3|3\.33|scale|factor|times|10/3")
def residual_scale_lost(rng):
    class Block(Layer):
        def __init__(self):
            self.fc = Dense(4, 4, rng=rng)

        def forward(self, x):
            h, back = self.fc.forward(np.tanh(x))
            return x + 0.3 * h, lambda dy: dy + back(dy) * (1 - np.tanh(x) ** 2)  # right: return x + 0.3 * h, lambda dy: dy + back(0.3 * dy) * (1 - np.tanh(x) ** 2)

    return Block(), (rng.normal(size=(5, 4)),)


@wrong("one custom layer of a Sequential is wrong: Scale's dx lacks the scale", r"Scale|layers?\W*1|scale|factor|\bs\b")
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


@wrong("a siamese network: both branches share one cache on self, the second forward overwrites the first's", r"cache|overwrit|second|other input|twice|shared|forward|exchang|last|b for a|of b\b|wrong input|self\.x")
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


@wrong("a highway layer: the gate's gradient lacks −x, the carry path", r"carry|−\s*x|- x|\bx\b|missing|path|1\s*[−-]\s*")
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


@wrong("squeeze and excitation: the path through the squeezed gate is missing in dx", r"gate|squeeze|path|missing|pool|mean|Σ")
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


@wrong("weights are read after a step: backward multiplies by the weights already updated", r"updat|weights? .*(chang|moved|after|step)|\+\s*0\.|writes|modif|changes|W")
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


@wrong("batch norm: eps is left out of backward's standard deviation", r"eps|ε|1e-0?5|0\.0|variance|factor|times")
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


@wrong("weight norm: dg takes v where the unit vector v/‖v‖ belongs", r"norm|‖v‖|unit|factor|length|divid|times")
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


@wrong("cosine similarity: da = b/(‖a‖‖b‖), the norm of a is taken for a constant; −cos · a/‖a‖² is missing", r"norm|‖a‖|missing|\ba\b|cos|constant|projection")
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


@wrong("the standard deviation with ddof=1: its gradient divides by N, not by N − 1", r"N\s*[−-]\s*1|ddof|\b4\b|\b5\b|0\.8|1\.25|factor|unbiased")
def std_ddof(rng):
    def std(x):
        s = x.std(axis=0, ddof=1)
        return s, lambda dy: dy * (x - x.mean(0)) / (s * len(x))  # right: return s, lambda dy: dy * (x - x.mean(0)) / (s * (len(x) - 1))

    return std, (rng.normal(size=(5, 3)),)
