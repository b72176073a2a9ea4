"""Functions of each element alone: y = f(x), so dx = dy · f′(x). Below f′(x) is called y′.

Each expresses f′ through y, which the next layer holds anyway, so that x can be let go. Any shape with a batch axis.

In `jvp`, u = y′ t, so that dt = y′ du; as y′ depends on x, dx = y′ dy + y″ t du, where y″ = ∂y′/∂x.

`@formula` marks a function of elements, which runs in one pass over memory on CPU and GPU; read it as plain NumPy.
"""

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, formula
from scratchgen.functions import sigmoid
from scratchgen.layers.layer import Layer
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TangentPullback


@formula
def relu(x):
    return np.maximum(x, 0)


@formula
def relu_pullback(dy, y):
    return dy * (y > 0)


class ReLU(Layer):
    """Rectified linear unit: y = max(x, 0).

    y′ = 1 where x > 0, which is where y > 0, and 0 elsewhere; at the kink x = 0 we take 0. (Nair & Hinton 2010.)

    Chapter: demos/book/03-activations.md
    """

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        y = relu(x)
        return y, self.pullback(y, dx=lambda dy: relu_pullback(dy, y))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """y″ = 0 but at the kink."""
        self.check_input(x, "N", ...)
        self.check_tangent(x, t)
        y = relu(x)
        u = relu_pullback(t, y)
        back = self.tangent_pullback(
            y,
            dx=lambda dy, du: relu_pullback(dy, y),
            dt=lambda dy, du: relu_pullback(du, y),
        )
        return y, u, back


@formula
def leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x)


@formula
def leaky_relu_pullback(dy, y, slope):
    return np.where(y > 0, dy, slope * dy)


class LeakyReLU(Layer):
    """ReLU that lets a share through below zero: y = x where x > 0, slope · x elsewhere.

    y′ = 1 where x > 0, which is where y > 0 as slope ≥ 0, and slope elsewhere, the kink x = 0 included.
    (Maas et al. 2013; slope 0.2 is DCGAN's.)

    Chapter: demos/book/03-activations.md
    """

    def __init__(self, slope: float = 0.2):
        self.slope = checks.real("LeakyReLU", "slope", slope, lambda x: x >= 0, "a number ≥ 0")

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        slope = self.slope
        y = leaky_relu(x, slope)
        return y, self.pullback(y, dx=lambda dy: leaky_relu_pullback(dy, y, slope))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """y″ = 0 but at the kink."""
        self.check_input(x, "N", ...)
        self.check_tangent(x, t)
        slope = self.slope
        y = leaky_relu(x, slope)
        u = leaky_relu_pullback(t, y, slope)
        back = self.tangent_pullback(
            y,
            dx=lambda dy, du: leaky_relu_pullback(dy, y, slope),
            dt=lambda dy, du: leaky_relu_pullback(du, y, slope),
        )
        return y, u, back

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})"


@formula
def tanh(x):
    return np.tanh(x)


@formula
def tanh_pullback(dy, y):
    return dy * (1 - y * y)


@formula
def tanh_second(dy, du, t, y):
    return (1 - y * y) * (dy - 2 * y * t * du)


class Tanh(Layer):
    """Hyperbolic tangent: y = tanh(x) = sinh x / cosh x, so y′ = (cosh² x − sinh² x) / cosh² x = 1 − y².

    Chapter: demos/book/03-activations.md
    """

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        y = tanh(x)
        return y, self.pullback(y, dx=lambda dy: tanh_pullback(dy, y))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """y″ = −2 y y′, so dx = (1 − y²)(dy − 2 y t du)."""
        self.check_input(x, "N", ...)
        self.check_tangent(x, t)
        y = tanh(x)
        u = tanh_pullback(t, y)
        back = self.tangent_pullback(
            y,
            dx=lambda dy, du: tanh_second(dy, du, t, y),
            dt=lambda dy, du: tanh_pullback(du, y),
        )
        return y, u, back


@formula
def sigmoid_pullback(dy, y):
    return dy * y * (1 - y)


@formula
def sigmoid_second(dy, du, t, y):
    return y * (1 - y) * (dy + (1 - 2 * y) * t * du)


class Sigmoid(Layer):
    """Logistic function: y = 1 / (1 + e⁻ˣ), so y′ = e⁻ˣ / (1 + e⁻ˣ)² = y (1 − y).

    For a probability that goes into a cross-entropy leave it out and give the loss x itself, the logit: the gradient
    of `bce_with_logits`, σ(x) − target, does not vanish where y is near 0 or 1 and wrong.

    Chapter: demos/book/03-activations.md
    """

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", ...)
        y = sigmoid(x)
        return y, self.pullback(y, dx=lambda dy: sigmoid_pullback(dy, y))

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TangentPullback]:
        """y″ = y′ (1 − 2y), so dx = y (1 − y)(dy + (1 − 2y) t du)."""
        self.check_input(x, "N", ...)
        self.check_tangent(x, t)
        y = sigmoid(x)
        u = sigmoid_pullback(t, y)
        back = self.tangent_pullback(
            y,
            dx=lambda dy, du: sigmoid_second(dy, du, t, y),
            dt=lambda dy, du: sigmoid_pullback(du, y),
        )
        return y, u, back
