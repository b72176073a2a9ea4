"""Initial weights, drawn on the host from the Generator that is passed in.

A rule is a function `rule(shape, fan_in, fan_out, rng)` that returns a float32 array. fan_in is the number of
inputs that one output sums over, fan_out the number of outputs that one input reaches.

Chapter: demos/book/08-initialisation.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scratchgen import checks

if TYPE_CHECKING:
    from scratchgen.layers.module import Module

Rule: TypeAlias = "Callable[[tuple[int, ...], float, float, np.random.Generator], np.ndarray]"


def glorot(shape: tuple[int, ...], fan_in: float, fan_out: float, rng: np.random.Generator) -> np.ndarray:
    """Uniform on ±√(6 / (fan_in + fan_out)): the variance of signals, and of gradients, stays about the same
    from layer to layer of a linear or tanh network. (Glorot & Bengio 2010, eq. 16.)"""
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def he(shape: tuple[int, ...], fan_in: float, fan_out: float, rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 2 / fan_in: the 2 makes up for the half that ReLU cuts off. (He et al. 2015, eq. 10.)"""
    return (rng.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32)


def normal(std: float = 0.02) -> Rule:
    """The rule N(0, std²) whatever the fans; 0.02 is DCGAN's. (Radford et al. 2016, §4.)"""
    std = checks.real("normal", "std", std, lambda x: x > 0, "a positive number")

    def rule(shape: tuple[int, ...], fan_in: float, fan_out: float, rng: np.random.Generator) -> np.ndarray:
        return (rng.standard_normal(shape) * std).astype(np.float32)

    return rule


def initialise(network: Module, rule: Rule, rng: np.random.Generator) -> None:
    """Draw the weights W of every Dense, Conv2d and ConvTranspose2d in the network anew by the rule, biases 0.

    Draws in the order of the layers; keeps each parameter's dtype and array library. BatchNorm is left alone.
    """
    rng = checks.generator("initialise", rng)
    layers: list[Any] = [layer for layer in network.modules() if hasattr(layer, "fans")]
    weights = [rule(layer.W.value.shape, layer.fans[0], layer.fans[1], rng) for layer in layers]
    for layer, W in zip(layers, weights, strict=True):
        checks.float_array("initialise", f"what the rule drew for {layer}", W)
        if W.shape != layer.W.value.shape:
            raise ValueError(f"initialise: W of {layer} was drawn with shape {W.shape}, needs {layer.W.value.shape}")
    for layer, W in zip(layers, weights, strict=True):
        layer.W.assign(W)
        if layer.b is not None:
            layer.b.assign(np.zeros(layer.b.value.shape, np.float32))
