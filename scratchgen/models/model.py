"""What every model shares: it owns networks, and its loss keeps the contract of a layer.

    loss, backward = model.loss(batch)   # a 0-d array, and its pullback
    backward()                           # adds the gradient of every parameter of the model's own

So a whole model is checked against central differences just as a layer is. ∂loss/∂loss = 1, so backward takes
nothing; the batch is data and takes no gradient, so it returns nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from scratchgen.layers.layer import Layer
from scratchgen.layers.module import Module
from scratchgen.optim import Optimizer


class Model(Module):
    """A loss over networks. Parameters, `state`, `to` and `astype` are those of the networks together.

    Where players have losses of their own, `player` says whose each is: {"generator_loss": "generator"}. Its backward
    adds gradients of that network alone. `inputs_like` says which network's input has the shape of another's output:
    {"discriminator": "generator"}.
    """

    player: Mapping[str, str] = MappingProxyType({})
    inputs_like: Mapping[str, str] = MappingProxyType({})

    def check_networks(self, **networks: Any) -> None:
        """TypeError unless each of them is a Layer."""
        for name, network in networks.items():
            if not isinstance(network, Layer):
                raise TypeError(f"{type(self).__name__}: {name} is {network!r}, needs a Layer")

    def check_optimizer(self, name: str, optimizer: Any, network: Layer | None = None) -> None:
        """Complains, before anything changes, unless the optimizer can step the network's (the model's) parameters.

        TypeError for what cannot step, or was made before its parameters were moved or converted; ValueError when it
        holds others, or lacks some that are not frozen: the network would not move, or another would.
        """
        owner = type(self).__name__
        if not callable(getattr(optimizer, "step", None)):
            raise TypeError(f"{owner}: {name} is {optimizer!r}, needs an optimizer such as Adam(model.parameters())")
        if isinstance(optimizer, Optimizer):
            optimizer.check()
            own = {id(p): p for p in (self if network is None else network)._parameters()}
            held = {id(p) for p in optimizer.parameters}
            if held == own.keys():
                return
            strangers = held - own.keys()
            if strangers:
                whose = "the model's" if network is None else "its player's (the discriminator's comes first)"
                count = f"{len(strangers)} of {len(held)}"
                raise ValueError(f"{owner}: {name} holds {count} parameters that are not {whose}")
            missing = [p for key, p in own.items() if key not in held and not p.frozen]
            if missing:
                raise ValueError(
                    f"{owner}: {name} lacks {len(missing)} of {len(own)} parameters, the first is {missing[0]!r}: "
                    "make it of all, or freeze those that are to stay as they are, `with frozen(...)`"
                )

    def __repr__(self) -> str:
        networks = [f"{name}={network}".replace("\n", "\n    ") for name, network in self.members()]
        return "\n    ".join([f"{type(self).__name__}(", *(f"{network}," for network in networks)]) + "\n)"
