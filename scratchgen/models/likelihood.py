"""What a VAE's decoder says of the pixels: p(x|z), as a distribution with parameters y = decoder(z).

    loss, backward = likelihood.nll(y, x)   # −log p(x|z), per sample; dy = backward()
    likelihood.log_prob(y, x)               # log p(x|z) without a gradient, summed over the last axis
    likelihood.mean(y)                      # the expected pixels
    likelihood.domain                       # of x, which a VAE checks on the CPU; one of your own need not say it

Each is in nats for continuous pixels of [0, 1] or binary ones: a density, or a probability.
"""

from collections.abc import Callable
from math import inf, log, pi
from typing import Any

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library
from scratchgen.functions import sigmoid
from scratchgen.layers.module import Module
from scratchgen.layers.parameter import Parameter
from scratchgen.losses import bce_with_logits, gaussian_nll


class Bernoulli(Module):
    """Every pixel is a coin that falls on 1 with probability σ(y): log p(x|z) = Σ x·y − softplus(y).

    A likelihood for pixels that are 0 or 1. With grey ones, taken as probabilities of ink, the ELBO bounds the mean
    log-likelihood of the binary images that could be drawn from them, if loosely, as the encoder sees none of these;
    it is no log-density of grey pixels (`data.binarise`).

    Chapter: demos/book/12-likelihood.md
    """

    domain = 0, 1

    def nll(self, y: Array, x: Array) -> tuple[Array, Callable[[], Array]]:
        loss, dy = bce_with_logits(y, x)
        return loss, lambda: dy

    def log_prob(self, y: Array, x: Array) -> Array:
        checks.between("Bernoulli", "x", x, *self.domain, checks.UNIT)
        xp = array_library(y)  # the large terms together first, as in bce_with_logits
        return ((x * y - xp.maximum(y, 0)) - xp.log1p(xp.exp(-xp.abs(y)))).sum(axis=-1)

    def mean(self, y: Array) -> Array:
        return sigmoid(y)

    def __repr__(self) -> str:
        return "Bernoulli()"


class Gaussian(Module):
    """Every pixel is normal with mean y and one variance for all: log p(x|z) = −½ Σ [log 2πσ² + (x − y)²/σ²].

    σ weighs the pixels against the KL term, so that a wrong one blurs or overfits. Therefore log σ² is a parameter of
    the model, learned with the rest from σ = `std` (Rybkin et al. 2021); `learn=False` keeps it there.

    Chapter: demos/book/12-likelihood.md
    """

    domain = -inf, inf

    def __init__(self, std: float = 0.3, *, learn: bool = True):
        std = checks.real("Gaussian", "std", std, lambda x: x > 0, "a positive number")
        self.std, self.learn = std, learn
        self.logvar = Parameter("logvar", np.array([2 * log(std)], np.float32)) if learn else None

    def nll(self, y: Array, x: Array) -> tuple[Array, Callable[[], Array]]:
        loss, dy, dlogvar = gaussian_nll(y, self._logvar(), x)
        learned = None if self.logvar is None or self.logvar.frozen else self.logvar

        def backward():
            if learned is not None:
                learned.grad += dlogvar
            return dy

        return loss, backward

    def log_prob(self, y: Array, x: Array) -> Array:
        logvar = self._logvar()
        z = (x - y) * array_library(y).exp(-0.5 * array_library(y).asarray(logvar, y.dtype))
        return -0.5 * (z * z + (logvar + log(2 * pi))).sum(axis=-1)

    def mean(self, y: Array) -> Array:
        return y

    def _logvar(self) -> Array | float:
        return 2 * log(self.std) if self.logvar is None else self.logvar.value[0]

    def __repr__(self) -> str:
        return f"Gaussian(std={self.std:g}{'' if self.learn else ', learn=False'})"


LIKELIHOODS = {"bernoulli": Bernoulli, "gaussian": Gaussian}


def likelihood_of(owner: str, choice: Any) -> Any:
    """The likelihood of a name, or the one that was given; ValueError or TypeError for what is neither."""
    if isinstance(choice, str):
        if choice not in LIKELIHOODS:
            raise ValueError(f"{owner}: likelihood is {choice!r}, needs one of {', '.join(map(repr, LIKELIHOODS))}")
        return LIKELIHOODS[choice]()
    methods = ("nll", "log_prob", "mean")
    if isinstance(choice, type) or not all(callable(getattr(choice, method, None)) for method in methods):
        raise TypeError(f"{owner}: likelihood is {choice!r}, needs a name, or an object with nll, log_prob and mean")
    return choice
