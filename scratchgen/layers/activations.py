"""Functions that act on each number alone: y = f(x), so dx = dy · f′(x).

Each expresses f′ through y, which the next layer holds anyway, so that x can be let go. Any shape with a batch axis.
"""

from scratchgen import checks
from scratchgen.backend import kernels
from scratchgen.functions import sigmoid
from scratchgen.layers.layer import Layer


class ReLU(Layer):
    """Rectified linear unit: y = max(x, 0).

    y′ = 1 where x > 0, which is where y > 0, and 0 elsewhere; at the kink x = 0 we take 0. (Nair & Hinton 2010.)
    """

    def forward(self, x):
        self.check_input(x, "N", ...)
        ops = kernels(x)
        y = ops.rowwise(lambda x: ops.xp.maximum(x, 0), x)
        return y, self.pullback(y, dx=lambda dy: ops.rowwise(lambda dy, y: dy * (y > 0), dy, y))


class LeakyReLU(Layer):
    """ReLU that lets a share through below zero: y = x where x > 0, slope · x elsewhere.

    y′ = 1 where x > 0, which is where y > 0 as slope ≥ 0, and slope elsewhere, the kink x = 0 included.
    (Maas et al. 2013; slope 0.2 is DCGAN's.)
    """

    def __init__(self, slope: float = 0.2):
        self.slope = checks.real("LeakyReLU", "slope", slope, lambda x: x >= 0, "a number ≥ 0")

    def forward(self, x):
        self.check_input(x, "N", ...)
        ops, slope = kernels(x), self.slope
        xp = ops.xp
        if 0 < slope <= 1:  # the larger of the two: `where` takes ten times as long on a CPU when signs alternate
            y = ops.rowwise(lambda x: xp.maximum(x, slope * x), x)
            f_prime = lambda y: xp.maximum((y > 0).astype(y.dtype), slope)  # noqa: E731
        else:
            y = ops.rowwise(lambda x: xp.where(x > 0, x, slope * x), x)
            f_prime = lambda y: xp.where(y > 0, y.dtype.type(1), y.dtype.type(slope))  # noqa: E731
        return y, self.pullback(y, dx=lambda dy: ops.rowwise(lambda dy, y: dy * f_prime(y), dy, y))

    def __repr__(self):
        return f"LeakyReLU({self.slope})"


class Tanh(Layer):
    """Hyperbolic tangent: y = tanh(x) = sinh x / cosh x, so y′ = (cosh² x − sinh² x) / cosh² x = 1 − y²."""

    def forward(self, x):
        self.check_input(x, "N", ...)
        ops = kernels(x)
        y = ops.rowwise(ops.xp.tanh, x)
        return y, self.pullback(y, dx=lambda dy: ops.rowwise(lambda dy, y: dy * (1 - y * y), dy, y))


class Sigmoid(Layer):
    """Logistic function: y = 1 / (1 + e⁻ˣ), so y′ = e⁻ˣ / (1 + e⁻ˣ)² = y (1 − y).

    For a probability that goes into a cross-entropy use the loss that takes logits instead: it does not saturate.
    """

    def forward(self, x):
        self.check_input(x, "N", ...)
        ops = kernels(x)
        y = ops.rowwise(sigmoid, x)
        return y, self.pullback(y, dx=lambda dy: ops.rowwise(lambda dy, y: dy * y * (1 - y), dy, y))
