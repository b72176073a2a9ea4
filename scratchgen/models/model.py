"""What every model shares: it owns networks, and its loss keeps the contract of a layer.

    loss, backward = model.loss(batch)   # a number, and its pullback
    backward()                           # adds the gradient of every parameter of the model's own

So a whole model is checked against central differences just as a layer is.
"""

from scratchgen.layers.layer import Module


class Model(Module):
    """A loss over networks. Parameters, `state`, `to` and `astype` are those of the networks together."""

    def __repr__(self):
        networks = [f"{name}={network}".replace("\n", "\n    ") for name, network in self.members()]
        return "\n    ".join([f"{type(self).__name__}(", *(f"{network}," for network in networks)]) + "\n)"
