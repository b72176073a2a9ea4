"""What the tests of exports share: models with everything drawn, and what export_torch writes of them."""

import numpy as np
from safetensors.numpy import load_file

from scratchgen import BatchNorm, Module, Parameter
from scratchgen.export import export_torch


def drawn(model, dtype=np.float64, seed: int = 0):
    """The model itself, everything in it drawn so that signals keep their size: a saturated output hides faults."""
    rng = np.random.default_rng(seed)
    model.astype(dtype)
    for module in model.modules():
        if hasattr(module, "fans"):
            module.W.value = rng.normal(0, module.fans[0] ** -0.5, module.W.value.shape).astype(dtype)
        if getattr(module, "b", None) is not None:
            module.b.value = rng.normal(0, 0.5, module.b.value.shape).astype(dtype)
        if isinstance(module, BatchNorm):
            module.gamma.value = rng.uniform(0.5, 1.5, module.channels).astype(dtype)
            module.beta.value = rng.normal(0, 0.5, module.channels).astype(dtype)
            module.running_mean = rng.normal(0, 0.5, module.channels).astype(dtype)
            module.running_var = rng.uniform(0.5, 2, module.channels).astype(dtype)
    return model


def exported(layer, path, shape=None):
    """The arrays of the file that a layer gives."""
    export_torch(layer, path / "net.safetensors", input_shapes=shape and {"network": shape})
    return load_file(path / "net.safetensors")


class Laplace(Module):
    """A likelihood of one's own, with a parameter."""

    def __init__(self):
        self.scale = Parameter("scale", np.array([0.5, 2], np.float32))

    def nll(self, y, x):
        raise NotImplementedError

    log_prob = mean = nll
