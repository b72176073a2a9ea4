"""Write a layer of your own, and see how a gradient check tells a right gradient from a nearly right one.

    python demos/own_layer.py                          the check of both layers below, and a picture
    scratchgen gradcheck demos/own_layer.py:Swish      the same check from the command line

The picture shows the difference between the hand-written and the numerical derivative for steps h of every size. For
a right gradient it falls as h² (Taylor), then rises as 1/h (rounding); the check uses the h at the bottom. A wrong
gradient stays where its error is, however good the step.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from scratchgen import Layer, Parameter, gradcheck
from scratchgen.paths import as_path


class Swish(Layer):
    """y = x σ(b x) with a learned slope b for each channel. (Ramachandran et al. 2017.)

    With s = σ(b x) and s′ = s (1 − s):  ∂y/∂x = s + b x s′,  ∂y/∂b = x² s′.
    """

    def __init__(self, channels: int = 3):
        self.b = Parameter("b", np.ones(channels, np.float32))

    def forward(self, x):
        b = self.b.value
        s = 1 / (1 + np.exp(-b * x))
        return x * s, self.pullback(
            x * s,
            dx=lambda dy: dy * (s + b * x * s * (1 - s)),
            grads={self.b: lambda dy: (dy * x * x * s * (1 - s)).sum(axis=tuple(range(x.ndim - 1)))},
        )


class NearlySwish(Swish):
    """The same with a small mistake: 0.99 in one term of dx."""

    def forward(self, x):
        b = self.b.value
        y, right = super().forward(x)
        s = 1 / (1 + np.exp(-b * x))

        def backward(dy):
            return right(dy) - 0.01 * dy * b * x * s * (1 - s)

        return y, backward


def errors(layer, x, dy, steps, dtype):
    """Relative difference between ⟨dx, u⟩ and the central difference along a direction u, for each step."""
    layer = layer.astype(dtype)
    x, dy = x.astype(dtype), dy.astype(dtype)
    u = np.random.default_rng(2).standard_normal(x.shape).astype(dtype)
    _, backward = layer.forward(x)
    exact = np.sum(backward(dy) * u)

    def loss(t):
        return np.sum(layer.predict(x + dtype(t) * u) * dy)

    return [abs((loss(h) - loss(-h)) / dtype(2 * h) - exact) / abs(exact) for h in steps]


def picture(path):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 5, 3))
    steps = np.logspace(-11, 0, 100)
    figure = Figure(figsize=(7, 4.2), dpi=140, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for layer, dtype, color, label in (
        (Swish(), np.float32, "#b8b8b8", "right, in float32"),
        (Swish(), np.float64, "#0b6fa4", "right, in float64"),
        (NearlySwish(), np.float64, "#c8442b", "nearly right, in float64"),
    ):
        axes.loglog(steps, errors(layer, x, dy, steps, dtype), color=color, label=label)
    axes.axvline(6e-6, color="#222222", linewidth=1, linestyle="--", label="the step of the check, 6e-6")
    axes.set_xlabel("step h of the central difference")
    axes.set_ylabel("relative difference from the hand-written gradient")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", default="own_layer.png", metavar="FILE", help="the picture (default: %(default)s)")
    args = parser.parse_args()
    x = np.random.default_rng(0).standard_normal((5, 3))
    for layer in (Swish(), NearlySwish()):
        print(gradcheck.check(layer, x, name=type(layer).__name__), end="\n\n")
    picture(as_path(args.out))
    print(f"picture  {args.out}")


if __name__ == "__main__":
    main()
