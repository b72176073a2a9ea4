"""The affine map on vectors."""

from __future__ import annotations

import numpy as np

from scratchgen import checks, init
from scratchgen.backend import Array, channel_sum, matmul
from scratchgen.layers.layer import Layer
from scratchgen.layers.parameter import Parameter
from scratchgen.layers.pullback import Pullback
from scratchgen.layers.tangent import TwoPullbacks


class Dense(Layer):
    """Fully connected: every output is a weighted sum of all inputs.

        y = x W + b                                (N, in) → (N, out)

    By index, y_nj = Σ_i x_ni W_ij + b_j, so with dy_nj = ∂L/∂y_nj the chain rule gives

        dx_ni = Σ_j dy_nj W_ij                     dx = dy Wᵀ
        dW_ij = Σ_n x_ni dy_nj                     dW = xᵀ dy
        db_j  = Σ_n dy_nj                          db = channel_sum(dy)

    x_ni affects row n of y alone; W_ij and b_j affect every row, so that their gradients are sums over the rows.
    `W (in, out)` starts Glorot-uniform from `rng`, `b (out,)` at 0; `bias=False` does without b.

    Chapter: demos/book/02-dense.md
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, rng: np.random.Generator | None = None
    ):
        self.in_features = checks.integer("Dense", "in_features", in_features)
        self.out_features = checks.integer("Dense", "out_features", out_features)
        self.fans = self.in_features, self.out_features  # fan_in, fan_out: `init` scales first weights by them
        rng = checks.generator("Dense", rng)
        self.W = Parameter("W", init.glorot((self.in_features, self.out_features), *self.fans, rng))
        self.b = Parameter("b", np.zeros(self.out_features, np.float32)) if bias else None

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        self.check_input(x, "N", self.in_features)
        W = self.W.value
        y = matmul(x, W)  # (N, out)
        if self.b is not None:
            y += self.b.value
        return y, self.pullback(
            y,
            dx=lambda dy: matmul(dy, W.T),  # (N, in)
            grads={
                self.W: lambda dy: matmul(x.T, dy),  # (in, out)
                self.b: channel_sum,  # (out,); a bias of None is passed over
            },
        )

    def jvp(self, x: Array, t: Array) -> tuple[Array, Array, TwoPullbacks]:
        """u = t W: dx = dy Wᵀ, dt = du Wᵀ, dW = xᵀ dy + tᵀ du, db = Σ dy."""
        return self.linear_jvp(x, t, self.b)

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features}{'' if self.b is not None else ', bias=False'})"
