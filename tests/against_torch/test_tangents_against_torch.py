"""Gradients of gradients beside PyTorch's double backward, in float64: a gradient penalty of several critics."""

import numpy as np
import pytest

from scratchgen import (
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    LayerNorm,
    LeakyReLU,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    frozen,
)

torch = pytest.importorskip("torch", reason="PyTorch is the judge")
nn = torch.nn


class SampleNorm(nn.Module):
    """LayerNorm's twin: over all of a sample, with a scale and shift of each channel."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        axes = tuple(range(1, x.ndim))
        x_hat = (x - x.mean(axes, keepdim=True)) / torch.sqrt(x.var(axes, keepdim=True, unbiased=False) + 1e-5)
        return (x_hat.movedim(1, -1) * self.weight + self.bias).movedim(-1, 1)


ACTIVATIONS = {"relu": (ReLU, nn.ReLU), "tanh": (Tanh, nn.Tanh), "sigmoid": (Sigmoid, nn.Sigmoid)}
NORMS = {"none": None, "layer norm": (LayerNorm, SampleNorm), "batch norm": (BatchNorm, None)}


def critics(activation, norm, images):
    """The two critics, with the same weights."""
    rng = np.random.default_rng(0)
    ours, theirs = ACTIVATIONS[activation]
    if images:
        a, b = Conv2d(2, 3, 3, stride=2, padding=1, rng=rng), Dense(3 * 3 * 3, 1, rng=rng)
        c, d = nn.Conv2d(2, 3, 3, 2, 1), nn.Linear(27, 1)
        mine, other = [a], [c]
    else:
        a, b, c, d = Dense(4, 6, rng=rng), Dense(6, 1, rng=rng), nn.Linear(4, 6), nn.Linear(6, 1)
        mine, other = [a], [c]
    if NORMS[norm]:
        width, (own, twin) = 3 if images else 6, NORMS[norm]
        mine.append(own(width))
        other.append(twin(width) if twin else (nn.BatchNorm2d if images else nn.BatchNorm1d)(width))
    mine += [ours(), *([Flatten()] if images else []), b]
    other += [theirs(), *([nn.Flatten()] if images else []), d]
    mine, other = Sequential(*mine).astype(np.float64), nn.Sequential(*other).double()
    for p in mine.parameters():
        p.value = p.value + 0.3 * rng.standard_normal(p.value.shape)
    with torch.no_grad():
        c.weight.copy_(torch.tensor(a.W.value.transpose(3, 2, 0, 1) if images else a.W.value.T))
        c.bias.copy_(torch.tensor(a.b.value))
        W = b.W.value.reshape(3, 3, 3, 1).transpose(3, 2, 0, 1).reshape(1, 27) if images else b.W.value.T
        d.weight.copy_(torch.tensor(W))
        d.bias.copy_(torch.tensor(b.b.value))
        if NORMS[norm]:
            other[1].weight.copy_(torch.tensor(mine.layers[1].gamma.value))
            other[1].bias.copy_(torch.tensor(mine.layers[1].beta.value))
    return mine, other


@pytest.mark.parametrize("images", [False, True], ids=["vectors", "images"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_gradient_penalty_is_that_of_double_backward(activation, norm, images):
    mine, other = critics(activation, norm, images)
    x = np.random.default_rng(1).standard_normal((4, 6, 5, 2) if images else (5, 4))

    s, backward = mine.forward(x)
    with frozen(mine):
        g = backward(np.ones_like(s))
    length = np.sqrt((g * g).sum(axis=tuple(range(1, g.ndim)), keepdims=True))
    s, u, pull = mine.jvp(x, 2 * (1 - 1 / length) * g / len(x))
    mine.zero_grad()
    dx, _ = pull(np.zeros_like(s), np.ones_like(u))

    x_t = torch.tensor(x.transpose(0, 3, 1, 2) if images else x, requires_grad=True)
    g_t = torch.autograd.grad(other(x_t).sum(), x_t, create_graph=True)[0]
    penalty = ((g_t.flatten(1).norm(dim=1) - 1) ** 2).mean()
    penalty.backward()

    def close(a, b):
        np.testing.assert_allclose(a, np.zeros_like(a) if b is None else b.numpy(), rtol=1e-9, atol=1e-11)

    close(dx.transpose(0, 3, 1, 2) if images else dx, x_t.grad)
    W = mine.layers[0].W.grad
    close(W.transpose(3, 2, 0, 1) if images else W.T, other[0].weight.grad)
    close(mine.layers[0].b.grad, other[0].bias.grad)
    last = mine.layers[-1]
    close(
        last.W.grad.reshape(3, 3, 3, 1).transpose(3, 2, 0, 1).reshape(1, 27) if images else last.W.grad.T,
        other[-1].weight.grad,
    )
    assert not last.b.grad.any()
    if NORMS[norm]:
        close(mine.layers[1].gamma.grad, other[1].weight.grad)
        close(mine.layers[1].beta.grad, other[1].bias.grad)
    if activation == "relu" and norm == "none":
        assert not mine.layers[0].b.grad.any(), "a piecewise linear critic's biases move no gradient"


def test_leaky_relu_is_one_of_them(rng):
    layer, x, t, dy, du = LeakyReLU(0.2), *rng.standard_normal((4, 3, 2))
    _, u, backward = layer.jvp(x, t)
    x_t, t_t = (torch.tensor(a, requires_grad=True) for a in (x, t))
    u_t = torch.where(x_t > 0, t_t, 0.2 * t_t)
    np.testing.assert_allclose(u, u_t.detach().numpy())
    (torch.nn.functional.leaky_relu(x_t, 0.2) * torch.tensor(dy) + u_t * torch.tensor(du)).sum().backward()
    for a, b in zip(backward(dy, du), (x_t.grad, t_t.grad), strict=True):
        np.testing.assert_allclose(a, b.numpy())
