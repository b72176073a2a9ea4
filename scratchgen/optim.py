"""Optimizers: `step()` replaces every parameter's value by a better one and sets its gradient to zero.

A value is replaced, never written into: a pullback that still holds the old one stays right.

Chapter: demos/book/07-optimizers.md
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array, array_library, backend_of, kernels, transfer
from scratchgen.layers.parameter import Parameter


class Optimizer:
    """Holds parameters, a learning rate `lr` (may be changed between steps), and the number of steps taken, `t`."""

    def __init__(self, parameters: Iterable[Parameter], lr: float):
        name = type(self).__name__
        if isinstance(parameters, Parameter) or not isinstance(parameters, Iterable):
            raise TypeError(f"{name}: got {parameters!r}, needs a list of Parameters: layer.parameters()")
        self.parameters = list(parameters)
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(f"{name}: got {p!r} among the parameters, needs Parameters: layer.parameters()")
        if not self.parameters:
            raise ValueError(f"{name}: got no parameters to optimise")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{name}: got a parameter twice, it would take two steps at once")
        self.lr = lr
        self.t = 0
        self.before_step: Callable[[Optimizer], None] | None = (
            None  # called with the optimizer when every gradient is there: to look, or to clip
        )

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = checks.real(type(self).__name__, "lr", value, lambda x: x > 0, "a positive number")

    def step(self) -> None:
        """One update of every parameter by its gradient, which is zero afterwards. What is frozen stays, also where
        momentum would carry it on."""
        self.check()
        if self.before_step is not None:
            self.before_step(self)
        self.t += 1
        for p, value in zip(self.parameters, self._updated(), strict=True):
            if not p.frozen:
                p.value = value
            p.zero_grad()

    def _updated(self) -> list[Array]:
        """The new value of every parameter."""
        raise NotImplementedError

    def _zeros(self) -> list[Array]:
        """A zero array for each parameter, in C order whatever the value's."""
        return [array_library(p.value).zeros(p.value.shape, p.value.dtype) for p in self.parameters]

    def _slots(self) -> dict[str, list[Array]]:
        """The arrays kept from step to step: for each name one per parameter."""
        return {}

    def check(self) -> None:
        """TypeError when a parameter was moved or converted after the optimizer was made."""
        for name, arrays in self._slots().items():
            for p, a in zip(self.parameters, arrays, strict=True):
                value = p.value
                if a.dtype != value.dtype or (type(a) is not type(value) and backend_of(a) != backend_of(value)):
                    raise TypeError(
                        f"{type(self).__name__}: {p!r} was moved or converted after the optimizer was made, "
                        f"its {name} is a {backend_of(a)} array of {a.dtype}: make the optimizer afterwards"
                    )

    # --- state: what a checkpoint holds ---

    def state(self) -> dict[str, Array]:
        """A copy of what `load_state` needs to go on exactly: t, and each kept array by name and index: "m.0"."""
        return {name: a.copy() for name, a in self._arrays().items()}

    def _arrays(self) -> dict[str, Array]:
        """What `state` copies."""
        arrays = {f"{name}.{i}": a for name, kept in self._slots().items() for i, a in enumerate(kept)}
        return {"t": np.array(self.t), **arrays}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take over the state of an optimizer of the same kind over parameters of the same shapes.

        ValueError or TypeError, before anything changes, when it does not fit.
        """
        checks.state(type(self).__name__, self._arrays(), state)
        if state["t"] < 0:
            raise ValueError(f"{type(self).__name__}: t is {state['t']}, needs a number of steps ≥ 0")
        self.t = int(state["t"])
        for name, kept in self._slots().items():
            for i, a in enumerate(kept):
                a[...] = transfer(state[f"{name}.{i}"], backend_of(a))


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: u ← momentum · u + g, value ← value − lr · u.

    With momentum 0 it is value − lr · g. (Polyak 1964, in the form that Sutskever et al. 2013 compare.)
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float, momentum: float = 0):
        super().__init__(parameters, lr)
        self.momentum = checks.real("SGD", "momentum", momentum, lambda x: 0 <= x < 1, "a number ≥ 0 and below 1")
        self.u = self._zeros() if momentum else []

    def _updated(self) -> list[Array]:
        if not self.momentum:
            return [p.value - self.lr * p.grad for p in self.parameters]
        for p, u in zip(self.parameters, self.u, strict=True):
            u *= self.momentum
            u += p.grad
        return [p.value - self.lr * u for p, u in zip(self.parameters, self.u, strict=True)]

    def _slots(self) -> dict[str, list[Array]]:
        return {"u": self.u} if self.momentum else {}


class Adam(Optimizer):
    """Adaptive moments: a step of about lr in every coordinate, whatever the scale of its gradient.

        m ← β₁ m + (1 − β₁) g,     m̂ = m / (1 − β₁ᵗ)
        v ← β₂ v + (1 − β₂) g²,    v̂ = v / (1 − β₂ᵗ)
        value ← value − lr · m̂ / (√v̂ + eps)

    m and v start at 0, which pulls them towards 0 for the first steps; dividing by 1 − βᵗ undoes just that.
    (Kingma & Ba 2015, Algorithm 1.)
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        name = type(self).__name__
        if not isinstance(betas, tuple | list):
            raise TypeError(f"{name}: betas is {betas!r}, needs two numbers")
        if len(betas) != 2:
            raise ValueError(f"{name}: betas is {betas!r}, needs two numbers")
        form = "two numbers ≥ 0 and below 1"
        self.betas = tuple(checks.real(name, "betas", beta, lambda x: 0 <= x < 1, form) for beta in betas)
        self.eps = checks.real(name, "eps", eps, lambda x: x > 0, "a positive number")
        self.m, self.v = self._zeros(), self._zeros()

    def _updated(self) -> list[Array]:
        return self._stepped([p.value for p in self.parameters])

    def _stepped(self, values: list[Array]) -> list[Array]:
        """A step from these values."""
        grads = [p.grad for p in self.parameters]
        ops = kernels(values[0])
        return ops.adam(values, grads, self.m, self.v, self.lr, *self.betas, self.eps, self.t)

    def _slots(self) -> dict[str, list[Array]]:
        return {"m": self.m, "v": self.v}


class AdamW(Adam):
    """Adam with decoupled weight decay: every step also shrinks the weights by the share lr · weight_decay.

        value ← value − lr · (m̂ / (√v̂ + eps) + weight_decay · value)         m̂ and v̂ as in Adam

    A penalty ½ weight_decay |value|² in the loss has the gradient weight_decay · value, which Adam would divide by √v̂
    with the rest of g, so that weights with large gradients would decay least. Here it is no part of g, m or v. It
    acts on every parameter that the optimizer is given, biases and BatchNorm's gamma and beta too.
    (Loshchilov & Hutter 2019, Algorithm 2, whose λ is lr · weight_decay.)
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(parameters, lr, betas, eps)
        self.weight_decay = checks.real(
            "AdamW", "weight_decay", weight_decay, lambda x: x >= 0, "a number of at least 0"
        )

    def _updated(self) -> list[Array]:
        left = 1 - self.lr * self.weight_decay
        return self._stepped([left * p.value for p in self.parameters])


class RMSprop(Optimizer):
    """Divides each gradient by the root of its running mean square: steps of about lr, whatever its scale.

        v ← beta · v + (1 − beta) · g²
        value ← value − lr · g / (√v + eps)

    v starts at 0 and nothing makes up for it: the first step is lr / √(1 − beta) long, three times lr. Adam is this
    with momentum, and with that corrected. (Hinton, Neural networks for machine learning, 2012, lecture 6e, without
    eps. It stands outside of the root, as in Adam.)
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float = 1e-3, beta: float = 0.9, eps: float = 1e-8):
        super().__init__(parameters, lr)
        self.beta = checks.real("RMSprop", "beta", beta, lambda x: 0 <= x < 1, "a number ≥ 0 and below 1")
        self.eps = checks.real("RMSprop", "eps", eps, lambda x: x > 0, "a positive number")
        self.v = self._zeros()

    def _updated(self) -> list[Array]:
        for p, v in zip(self.parameters, self.v, strict=True):
            v *= self.beta
            v += (1 - self.beta) * p.grad * p.grad
        sqrt = array_library(self.v[0]).sqrt
        pairs = zip(self.parameters, self.v, strict=True)
        return [p.value - self.lr * p.grad / (sqrt(v) + self.eps) for p, v in pairs]

    def _slots(self) -> dict[str, list[Array]]:
        return {"v": self.v}
