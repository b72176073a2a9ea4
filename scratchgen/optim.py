"""Optimizers: `step()` replaces every parameter's value by a better one and sets its gradient to zero.

A value is replaced, never written into: a pullback that still holds the old one stays right.
"""

from collections.abc import Iterable

import numpy as np

from scratchgen.backend import array_library, kernels
from scratchgen.layers.parameter import Parameter


class Optimizer:
    """Holds parameters, a learning rate `lr` (may be changed between steps), and the number of steps taken, `t`."""

    def __init__(self, parameters: Iterable[Parameter], lr: float):
        self.parameters = list(parameters)
        name = type(self).__name__
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(f"{name}: got {p!r} among the parameters, needs Parameters: layer.parameters()")
        if not self.parameters:
            raise ValueError(f"{name}: got no parameters to optimise")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{name}: got a parameter twice, it would take two steps at once")
        if not lr > 0:
            raise ValueError(f"{name}: lr is {lr}, needs a positive number")
        self.lr = lr
        self.t = 0

    def step(self) -> None:
        """One update of every parameter by its gradient, which is zero afterwards."""
        self._check()
        self.t += 1
        for i, p in enumerate(self.parameters):
            p.value = self._updated(i, p)
            p.zero_grad()

    def _updated(self, i: int, p: Parameter):
        """The new value of parameter number i."""
        raise NotImplementedError

    def _slots(self) -> dict[str, list]:
        """The arrays kept from step to step: for each name one a parameter."""
        return {}

    def _check(self) -> None:
        for name, arrays in self._slots().items():
            for p, a in zip(self.parameters, arrays, strict=True):
                if a.dtype != p.value.dtype or type(a) is not type(p.value):
                    raise TypeError(
                        f"{type(self).__name__}: {p!r} was moved or converted after the optimizer was made, "
                        f"its {name} is {type(a).__name__} of {a.dtype}: make the optimizer afterwards"
                    )

    # --- state: what a checkpoint holds ---

    def state(self) -> dict[str, object]:
        """Everything `load_state` needs to go on exactly: t, and each kept array by name and number, as "m.0"."""
        arrays = {f"{name}.{i}": a for name, kept in self._slots().items() for i, a in enumerate(kept)}
        return {"t": np.array(self.t), **arrays}

    def load_state(self, state) -> None:
        """Take over a state of an optimizer of the same kind over parameters of the same shapes, or ValueError."""
        mine = self.state()
        if set(state) != set(mine):
            odd = ", ".join(sorted(set(state) ^ set(mine)))
            raise ValueError(f"{type(self).__name__}: the state does not fit, it differs in {odd}")
        for name, a in mine.items():
            if state[name].shape != a.shape:
                raise ValueError(f"{type(self).__name__}: {name} has shape {state[name].shape}, needs {a.shape}")
        self.t = int(state["t"])
        for name, kept in self._slots().items():
            for i, a in enumerate(kept):
                a[...] = array_library(a).asarray(state[f"{name}.{i}"], a.dtype)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: u ← momentum · u + g, value ← value − lr · u.

    With momentum 0 it is value − lr · g. (Polyak 1964, in the form that Sutskever et al. 2013 compare.)
    """

    def __init__(self, parameters, lr: float, momentum: float = 0):
        super().__init__(parameters, lr)
        if not 0 <= momentum < 1:
            raise ValueError(f"SGD: momentum is {momentum}, needs a number ≥ 0 and below 1")
        self.momentum = momentum
        self.u = [array_library(p.value).zeros_like(p.value) for p in self.parameters] if momentum else []

    def _updated(self, i, p):
        if not self.momentum:
            return p.value - self.lr * p.grad
        self.u[i] *= self.momentum
        self.u[i] += p.grad
        return p.value - self.lr * self.u[i]

    def _slots(self):
        return {"u": self.u} if self.momentum else {}


class Adam(Optimizer):
    """Adaptive moments: a step of about lr in every coordinate, whatever the scale of its gradient.

        m ← β₁ m + (1 − β₁) g,     m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²,    v̂ = v / (1 − β₂ᵗ)
        value ← value − lr · m̂ / (√v̂ + eps)

    m and v start at 0, which pulls them towards 0 for the first steps; dividing by 1 − βᵗ undoes just that.
    (Kingma & Ba 2015, Algorithm 1.)
    """

    def __init__(self, parameters, lr: float = 1e-3, betas=(0.9, 0.999), eps: float = 1e-8):
        super().__init__(parameters, lr)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam: betas is {betas}, needs two numbers ≥ 0 and below 1")
        if not eps > 0:
            raise ValueError(f"Adam: eps is {eps}, needs a positive number")
        self.betas, self.eps = tuple(betas), eps
        self.m = [array_library(p.value).zeros_like(p.value) for p in self.parameters]
        self.v = [array_library(p.value).zeros_like(p.value) for p in self.parameters]

    def _updated(self, i, p):
        return kernels(p.value).adam(p.value, p.grad, self.m[i], self.v[i], self.lr, *self.betas, self.eps, self.t)

    def _slots(self):
        return {"m": self.m, "v": self.v}
