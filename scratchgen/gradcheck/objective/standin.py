"""Networks whose values are known, in the place of a model's own: what its loss makes of them is then the loss alone.

The loss of a model is a function of what its networks say. With an encoder that always gives the same means and
variances, and a decoder that ignores its code, what is left of a VAE's loss is its KL term; with a discriminator that
gives the first feature of a sample as its logit, a GAN's losses are functions of logits that one chooses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from scratchgen.backend import Array
from scratchgen.layers.layer import Layer
from scratchgen.layers.parameter import Parameter


class CannotStandIn(ValueError):
    """The model does not work with another network in the place of its own; the message says why."""


class StandIn(Layer):
    """y = function(x) in the place of a network, in whose manner it answers: y and a backward, or y alone beside a
    method `backward`; y in one array, or in several. `seen` has the inputs of all calls. What else a model asks of
    the network, its layers for a weight decay, say, it still gets.
    """

    def __init__(self, function: Callable[[Array], Any], adjoint: Callable[[Array, Array], Array], like: "Answer"):
        self.of_original = lambda name: getattr(like.network, name)
        self.function, self.adjoint, self.manner = function, adjoint, like.manner
        self.seen: list[Array] = []
        self.of = Parameter("of", np.zeros(1))  # of no use but to say that the model is in float64

    def forward(self, x: Array) -> Any:
        self.seen.append(x)
        y = self.function(x)
        self.last = x
        if self.manner == "alone":
            return y
        if self.manner == "flat":
            return (*y, self.pulled(x))
        return y, self.pulled(x)

    def pulled(self, x: Array) -> Callable:
        return lambda *dy, **options: self.adjoint(x, dy[0])

    def predict(self, x: Array) -> Any:
        self.seen.append(x)
        return self.function(x)

    def backward(self, *dy: Array) -> Array:
        """For a model whose networks keep what they need on themselves."""
        return self.adjoint(self.last, dy[0])

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, Callable]:
        """For an affine function."""
        self.seen.append(x)
        u = self.function(t) - self.function(0 * t)
        return self.function(x), u, lambda dy, du: (self.adjoint(x, dy), self.adjoint(t, du))

    def __call__(self, x: Array) -> Any:
        return self.forward(x)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "of_original" not in vars(self):
            raise AttributeError(name)
        return self.of_original(name)


class Answer(NamedTuple):
    """What a network gave, and its manner: "pair" (y, backward), "flat" (y1, y2, backward) or "alone"."""

    network: Any
    manner: str
    y: Any


def answer_of(network: Any, x: Array) -> Answer:
    result = (network.forward if hasattr(network, "forward") else network)(x)
    if isinstance(result, tuple) and len(result) > 1 and callable(result[-1]):
        return Answer(network, "pair", result[0]) if len(result) == 2 else Answer(network, "flat", result[:-1])
    return Answer(network, "alone", result)


def constant(like: Answer, values: list[Array]) -> StandIn:
    """A network that ignores its input: of `values`, means and spreads of a code (N, latent), in one array side by
    side, or in several, as the original gives them."""
    if isinstance(like.y, tuple | list):
        if len(like.y) != len(values):
            raise CannotStandIn(f"the encoder gives {len(like.y)} arrays, which are not a mean and a spread")
        return StandIn(lambda x: tuple(values), lambda x, dy: np.zeros_like(x), like)
    return StandIn(lambda x: np.concatenate(values, axis=1), lambda x, dy: np.zeros_like(x), like)


def repeating(like: Answer) -> StandIn:
    """A network that gives for every sample what the original gave for its first."""
    return StandIn(lambda x: np.repeat(like.y[:1], len(x), axis=0), lambda x, dy: np.zeros_like(x), like)


def affine(like: Answer, W: Array, y0: Array) -> StandIn:
    """y = x W + y0 in the shape of y0's samples, for x of any shape."""

    def function(x: Array) -> Array:
        flat = x.reshape(len(x), -1)
        return (flat @ W).reshape(len(x), *y0.shape[1:]) + (y0 if len(y0) == len(x) else y0[:1])

    return StandIn(function, lambda x, dy: (dy.reshape(len(dy), -1) @ W.T).reshape(x.shape), like)


def check_shape(decoded: Answer, features: int) -> None:
    """CannotStandIn unless what a decoder makes is one array, with an element for each feature of a sample."""
    y = decoded.y
    if not isinstance(y, np.ndarray) or y[0].size != features:
        made = f"{y[0].size} elements" if isinstance(y, np.ndarray) else f"a {type(y).__name__}"
        raise CannotStandIn(f"its decoder makes {made} of a code, and a sample has {features} features")
