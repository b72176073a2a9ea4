"""What every model shares: it owns networks, and its loss keeps the contract of a layer.

    loss, backward = model.loss(batch)   # a number, and its pullback
    backward()                           # adds the gradient of every parameter of the model's own

So a whole model is checked against central differences just as a layer is.
"""

from collections.abc import Mapping
from types import MappingProxyType

from scratchgen.layers.layer import Layer, Module


class Model(Module):
    """A loss over networks. Parameters, `state`, `to` and `astype` are those of the networks together.

    Where players have losses of their own, `player` says whose each is: {"generator_loss": "generator"}. Its backward
    adds gradients of that network alone.
    """

    player: Mapping[str, str] = MappingProxyType({})

    def check_networks(self, **networks) -> None:
        """TypeError unless each of them is a Layer."""
        for name, network in networks.items():
            if not isinstance(network, Layer):
                raise TypeError(f"{type(self).__name__}: {name} is {network!r}, needs a Layer")

    def __repr__(self):
        networks = [f"{name}={network}".replace("\n", "\n    ") for name, network in self.members()]
        return "\n    ".join([f"{type(self).__name__}(", *(f"{network}," for network in networks)]) + "\n)"
