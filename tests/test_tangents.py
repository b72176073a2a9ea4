"""`layer.jvp(x, t)`: the tangent u = J t, and the pullback of (x, t) ↦ (y, u)."""

import numpy as np
import pytest
from backends import host
from layer_table import every_layer

import scratchgen as sg
from scratchgen import gradcheck
from scratchgen.layers.tangent import TangentPullback


def tangent(x, seed=5):
    return np.random.default_rng(seed).standard_normal(x.shape)


@every_layer
def test_both_pullbacks_agree_with_differences(row):
    layer, x, _ = row.draw()
    report = gradcheck.check(layer.jvp, x, tangent(x), elementwise=60, directions=3)
    assert report.ok, report
    assert {t.name for t in report.tensors} >= {"dx", "dt"}
    assert report.error < 1e-6


@every_layer
def test_u_is_the_tangent_that_forward_has(row):
    """⟨du, J t⟩ = ⟨Jᵀ du, t⟩, and y is forward's."""
    layer, x, du = row.draw()
    t, counts = tangent(x), {m: {n: getattr(m, n) for n in type(m).counters} for m in layer.modules()}
    y, u, _ = layer.jvp(x, t)
    for m, held in counts.items():
        vars(m).update(held)
    same, backward = layer.forward(x)
    np.testing.assert_array_equal(y, same)
    assert u.shape == y.shape
    assert np.sum(du * u) == pytest.approx(np.sum(backward(du) * t), rel=1e-9, abs=1e-9)


@every_layer
def test_y_alone_goes_back_as_in_forward_and_statistics_move_once(row):
    layer, x, dy = row.draw()
    other = row.layer()
    _, backward = layer.forward(x)
    dx = backward(dy)
    _, u, both = other.jvp(x, tangent(x))
    dx_of_both, dt = both(dy, np.zeros_like(u))
    np.testing.assert_allclose(dx_of_both, dx, rtol=1e-9, atol=1e-12)
    assert not dt.any()
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(q.grad, p.grad, rtol=1e-9, atol=1e-12)
    for m, n in zip(layer.modules(), other.modules(), strict=True):
        for name in (*m.buffers, *type(m).counters):
            np.testing.assert_array_equal(getattr(n, name), getattr(m, name))


@every_layer
def test_gradients_are_added_and_are_arrays_of_their_own(row):
    layer, x, dy = row.draw()
    t, du = tangent(x), tangent(dy, 6)
    x_before, t_before, dy_before, du_before = x.copy(), t.copy(), dy.copy(), du.copy()
    y, u, backward = layer.jvp(x, t)
    dx, dt = backward(dy, du)
    once = [p.grad.copy() for p in layer.parameters()]
    again = backward(dy, du)
    for p, g in zip(layer.parameters(), once, strict=True):
        np.testing.assert_allclose(p.grad, 2 * g, rtol=1e-12)
    for a, b in zip((dx, dt), again, strict=True):
        np.testing.assert_array_equal(a, b)
    held = [x, t, dy, du, y, u, *(p.value for p in layer.parameters())]
    for a in (dx, dt):
        assert not any(np.shares_memory(a, b) for b in held)
    assert not np.shares_memory(dx, dt)
    for now, before in ((x, x_before), (t, t_before), (dy, dy_before), (du, du_before)):
        np.testing.assert_array_equal(now, before)


@every_layer
def test_float32_stays_and_frozen_parameters_take_nothing(row):
    layer, x, dy = row.layer(dtype=np.float32), *row.data(dtype=np.float32)
    t = tangent(x).astype(np.float32)
    with sg.frozen(layer):
        y, u, backward = layer.jvp(x, t)
        dx, dt = backward(dy, dy)
    assert {a.dtype for a in (y, u, dx, dt)} == {np.dtype(np.float32)}
    assert not any(p.grad.any() for p in layer.parameters())


@every_layer
def test_what_is_not_like_x_or_y_is_refused_before_anything_changes(row):
    layer, x, dy = row.draw()
    t = tangent(x)
    with pytest.raises(ValueError, match="t has shape"):
        layer.jvp(x, t[:1] if len(x) > 1 else np.concatenate([t, t]))
    with pytest.raises(TypeError, match="t has dtype float32, needs float64, the dtype of x"):
        layer.jvp(x, t.astype(np.float32))
    _, u, backward = layer.jvp(x, t)
    with pytest.raises((ValueError, TypeError), match=r"d[uy] has shape"):
        backward(dy, np.zeros((*u.shape, 1)))
    assert not any(p.grad.any() for p in layer.parameters())


@every_layer
def test_a_backend_gives_what_numpy_gives(row, backend):
    layer, x, dy = row.draw(backend)
    reference, x_host, dy_host = row.draw()
    t, du = tangent(x_host), tangent(dy_host, 6)
    y, u, backward = layer.jvp(x, backend.array(t))
    found = [y, u, *backward(dy, backend.array(du)), *(p.grad for p in layer.parameters())]
    y, u, backward = reference.jvp(x_host, t)
    wanted = [y, u, *backward(dy_host, du), *(p.grad for p in reference.parameters())]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(host(a), b, rtol=1e-9, atol=1e-11)


def test_a_layer_without_a_tangent_says_what_to_write(rng):
    class Square(sg.Layer):
        def forward(self, x):
            return x * x, lambda dy: 2 * dy * x

    with pytest.raises(TypeError, match=r"Square has no jvp\(x, t\), which a gradient penalty needs"):
        sg.Sequential(sg.Tanh(), Square()).jvp(rng.standard_normal((3, 2)), rng.standard_normal((3, 2)))
    assert "tangents" not in str(gradcheck.check(Square(), rng.standard_normal((3, 2))))


def test_a_layer_of_ones_own_joins_a_sequential(rng):
    class Square(sg.Layer):
        def forward(self, x):
            return x * x, lambda dy: 2 * dy * x

        def jvp(self, x, t):
            self.check_tangent(x, t)
            return x * x, 2 * x * t, lambda dy, du: (2 * (x * dy + t * du), 2 * x * du)

    net = sg.Sequential(sg.Dense(3, 4, rng=rng), Square(), sg.Dense(4, 2, rng=rng)).astype(np.float64)
    x = rng.standard_normal((5, 3))
    report = gradcheck.check(net.jvp, x, tangent(x))
    assert report.ok, report
    assert "its tangents" in str(gradcheck.check(net, x))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda y, u, t, b: (2 * u, b), "u is not J t"),
        (lambda y, u, t, b: (u, lambda dy, du: (dy * (1 - y * y), du * (1 - y * y))), "jvp dx"),
        (lambda y, u, t, b: (u, lambda dy, du: (b(dy, du)[0], 2 * du * (1 - y * y))), "jvp dt"),
        (
            lambda y, u, t, b: (u, lambda dy, du: (b(dy, du)[0] + 4 * y * t * du * (1 - y * y), b(dy, du)[1])),
            "jvp dx",
        ),
    ],
    ids=["u doubled", "no second derivative", "dt doubled", "its sign"],
)
def test_the_checker_finds_wrong_tangents(wrong, said, rng):
    class Wrong(sg.Tanh):
        def jvp(self, x, t):
            y, u, backward = super().jvp(x, t)
            u, backward = wrong(y, u, t, backward)
            return y, u, backward

    report = gradcheck.check(Wrong(), rng.standard_normal((4, 3)))
    assert not report.ok
    assert said in str(report)


def test_the_gradient_of_a_penalty_by_tangents(rng):
    """φ = Σ_n (‖g_n‖ − 1)² with g = ∇ₓ D: dθ by one tangent is that by differences of φ itself."""
    critic = sg.Sequential(sg.Dense(3, 5, rng=rng), sg.LayerNorm(5), sg.Tanh(), sg.Dense(5, 1, rng=rng))
    critic.astype(np.float64)
    x = rng.standard_normal((4, 3))

    def penalty(x):
        s, backward = critic.forward(x)
        with sg.frozen(critic):
            g = backward(np.ones_like(s))
        length = np.sqrt((g * g).sum(axis=1, keepdims=True))
        v = 2 * (1 - 1 / length) * g

        def pullback():
            s, u, backward = critic.jvp(x, v)
            return backward(np.zeros_like(s), np.ones_like(u))[0]

        return ((length - 1) ** 2).sum(), pullback

    report = gradcheck.check(penalty, x, parameters=critic)
    assert report.ok, report
    critic.zero_grad()
    penalty(x)[1]()
    assert not critic.layers[3].b.grad.any()
    assert isinstance(critic.layers[2].jvp(x[:, :1], x[:, :1])[2], TangentPullback)
