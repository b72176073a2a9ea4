"""The checker itself: it must find what is wrong, name it, pass what is right, and leave its subject alone."""

import copy

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.gradcheck import check
from scratchgen.gradcheck.mutants import mutants

GALLERY = list(mutants(np.random.default_rng(0)))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("mutant", GALLERY, ids=[m.bug for m in GALLERY])
def test_every_mutant_is_found(mutant):
    for seed in range(5):
        report = check(mutant.target, *mutant.inputs, rng=np.random.default_rng(seed))
        assert not report.ok, report
        assert "WRONG" in str(report) or "FAULT" in str(report)


HINTS = {
    "every gradient × 1.001": "exactly 1.001 times",
    "bias gradient forgotten": "zero everywhere",
    "bias gradient averaged over the batch": "divided by the batch size, 5",
    "weight gradient not divided by the batch size": "multiplied by the batch size, 5",
    "sign of dx": "sign is wrong",
    "weight gradient transposed": "transposed",
    "weight gradient of the wrong shape": "needs (3, 4)",
    "gradient assigned, not added": "does not add to W.grad",
    "cache on the layer, overwritten by the next forward": "the cache is on the layer",
    "backward reads the weights as they are now": "not as they were evaluated",
    "backward returns nothing": "is a return missing?",
    "kernel flipped in dW": "the kernel is flipped",
    "dx shifted by one pixel": "shifted by one along axis 1",
    "dx forgets the last row": "part of the gradient is dropped",
    "batch norm: mean term missing in dx": "the term through the mean is missing",
    "ReLU writes into dy": "writes into dy",
    "squared error without the 2": "a factor 2 is missing",
    "loss averaged over features too, gradient not": "multiplied by the number of features, 3",
}


@pytest.mark.parametrize(("bug", "hint"), HINTS.items(), ids=HINTS)
def test_hints_name_the_bug(bug, hint):
    (mutant,) = (m for m in GALLERY if m.bug == bug)
    assert hint in str(check(mutant.target, *mutant.inputs))


def test_report_says_which_gradient_where_and_by_how_much(rng):
    class Off(sg.Dense):
        def forward(self, x):
            y, backward = super().forward(x)

            def spoiled(dy):
                dx = backward(dy)
                self.W.grad[2, 1] += 0.5
                return dx

            return y, spoiled

    report = check(Off(3, 4, rng=rng), rng.standard_normal((5, 3)))
    good, bad, bias = report.tensors
    assert (good.verdict, bad.verdict, bias.verdict) == ("right", "WRONG", "right")
    assert (bad.name, bad.index) == ("W.grad", (2, 1))
    assert bad.analytic - bad.numeric == pytest.approx(0.5)
    assert "1 of 12 elements are wrong" in bad.hint
    assert "W.grad" in str(report)
    assert "(2, 1)" in str(report)


def test_nothing_of_the_callers_changes(rng):
    network = sg.Sequential(sg.Dense(3, 4, rng=rng), sg.BatchNorm(4))
    network.parameters()[0].grad += 1
    before = copy.deepcopy(network)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    kept = x.copy()
    assert check(network, x).ok
    np.testing.assert_array_equal(x, kept)
    for (name, a), (_, b) in zip(network.state().items(), before.state().items(), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b, err_msg=name)
    for p, q in zip(network.parameters(), before.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


def test_a_function_that_closes_over_parameters(rng):
    dense = sg.Dense(3, 2, rng=rng)
    dense.b.grad += 1

    def f(x, t):
        y, backward = dense.forward(x)
        loss, dy = sg.mse(y, t)
        return loss, lambda: backward(dy)

    values = [p.value for p in dense.parameters()]
    report = check(f, rng.standard_normal((4, 3)), rng.standard_normal((4, 2)), parameters=dense)
    assert report.ok, report
    assert {t.name for t in report.tensors} >= {"W.grad", "b.grad"}
    assert all(p.value is v and p.value.dtype == np.float32 for p, v in zip(dense.parameters(), values, strict=True))
    assert (dense.b.grad == 1).all()


def test_several_inputs_and_constants(rng):
    def product(x, y, labels):
        return x * y, lambda dy: (dy * y, dy * x)

    a, b = rng.standard_normal((2, 3, 2))
    report = check(product, a, b, np.arange(3))
    assert report.ok
    assert [t.name for t in report.tensors] == ["dx", "dy"]

    def half(x, y):
        return x * y, lambda dy: dy * y

    report = check(half, a, b)
    assert report.ok
    assert "gives no gradient" in report.notes[0]


def large(change):
    """A layer of 120,000 weights with one thing about the weights' gradient changed."""

    class Changed(sg.Dense):
        def forward(self, x):
            y, backward = super().forward(x)

            def changed(dy):
                self.W.grad -= (keep := self.W.grad.copy())
                dx = backward(dy)
                change(self.W.grad)
                self.W.grad += keep
                return dx

            return y, changed

    return Changed(300, 400, rng=np.random.default_rng(0))


def test_large_tensors_are_checked_along_directions_and_at_places(rng):
    x = rng.standard_normal((3, 300))
    assert check(large(lambda g: None), x, directions=3).ok

    def one_element(index):
        def change(g):
            g[index] *= 1.01

        return change

    def largest(g):
        g[np.unravel_index(np.abs(g).argmax(), g.shape)] *= 1.01

    changes = (lambda g: np.multiply(g, 1.001, out=g), largest, one_element((0, 0)), one_element((-1, -1)))
    for change in changes:
        report = check(large(change), x, directions=3)
        assert not report.ok
        assert "dir" in report.tensors[1].checked


class AbsoluteValue(sg.Layer):
    def __init__(self, at_zero=0.0):
        self.at_zero = at_zero

    def forward(self, x):
        return np.abs(x), lambda dy: dy * np.where(x == 0, self.at_zero, np.sign(x))


@pytest.mark.parametrize("at_zero", [-1, 0, 0.3, 1])
def test_on_a_kink_any_value_passes_if_it_is_right_beside_it(at_zero):
    x = np.array([[-1.0, 0.0, 2.0]])
    (dx,) = check(AbsoluteValue(at_zero), x).tensors
    assert dx.ok
    # At 0 the central difference gives 0, so that only the other values differ from it.
    assert (dx.kinks, dx.verdict) == ((1, "kink") if at_zero else (0, "right"))
    assert at_zero == 0 or "1 probes lie on a kink; the figures are from a point 0.001 beside it" in dx.hint


def test_a_wrong_value_at_a_smooth_point_is_no_kink(rng):
    """A slip at x = 0 alone, where the function is smooth, is not excused by being right beside it."""
    wrong_at_zero = function(lambda x: x**2 + x, lambda x: np.where(x == 0, 0.9, 2 * x + 1))
    assert not check(wrong_at_zero, np.array([[-1.0, 0.0, 2.0]])).ok


def test_beside_a_kink_the_true_side_passes_and_the_wrong_one_fails():
    class Hinge(sg.Layer):
        """max(x − 1, 0), its kink where the step is 6e-6."""

        def __init__(self, at):
            self.at = at

        def forward(self, x):
            return np.maximum(x - 1, 0), lambda dy: dy * (self.at if self.at else x > 1)

    x = 1 + np.array([[2e-6, -3e-6, 1.0]])  # within the step
    (dx,) = check(Hinge(None), x).tensors
    assert (dx.verdict, dx.kinks) == ("right", 2)
    assert "step over a kink" in dx.hint
    assert not check(Hinge(0.5), x).ok
    assert check(sg.ReLU(), x - 1).tensors[0].verdict == "right"  # a small x has smaller steps


def test_a_smooth_function_never_passes_for_a_kink(rng):
    """The excuse for kinks must not cover a wrong gradient: at no point, for no size of error."""

    class Steep(sg.Layer):
        def __init__(self, error):
            self.error = error

        def forward(self, x):
            y = np.tanh(1000 * x)  # nearly a kink
            return y, lambda dy: dy * 1000 * (1 - y * y) * (1 + self.error)

    x = rng.uniform(-3e-3, 3e-3, (40, 3))
    for error in (0.5, -0.5, 2, 0.01):
        (dx,) = check(Steep(error), x, tolerance=1e-4).tensors
        assert not dx.ok, (error, dx)
    assert check(Steep(0), x, tolerance=1e-4).ok


def test_zero_gradients_are_right(rng):
    """A bias before BatchNorm has gradient 0, rounding apart; all-ones dy would make dx of BatchNorm 0 as well."""
    network = sg.Sequential(sg.Dense(3, 4, rng=rng), sg.BatchNorm(4))
    report = check(network, rng.standard_normal((6, 3)))
    assert report.ok, report
    assert report.tensors[2].name == "0.b.grad"
    assert abs(report.tensors[2].analytic) < 1e-12


def test_what_cannot_be_checked_says_why(rng):
    x = rng.standard_normal((4, 3))
    with pytest.raises(TypeError, match="needs an instance"):
        check(sg.Dense, x)
    with pytest.raises(TypeError, match="needs a layer or a function"):
        check(3, x)
    with pytest.raises(TypeError, match="needs the pair y, backward"):
        check(np.tanh, x)
    with pytest.raises(ValueError, match="two values at one point"):
        check(lambda x: (x + rng.standard_normal(x.shape), lambda dy: dy), x)
    with pytest.raises(TypeError, match="made float32 of float64"):
        check(lambda x: (x.astype(np.float32), lambda dy: dy), x)
    with pytest.raises(ValueError, match="not finite"):
        check(lambda x: (np.full_like(x, np.inf), lambda dy: dy), x)
    with pytest.raises(ValueError, match=r"needs \(N, 5\)"):
        check(sg.Dense(5, 2), x)


def test_a_backward_that_raises_is_reported_with_its_line(rng):
    def broken(dy):
        raise KeyError("cols")

    report = check(lambda x: (x * 2, broken), rng.standard_normal((2, 2)))
    assert not report.ok
    assert "KeyError: 'cols'" in str(report)
    assert "test_gradcheck.py, line" in str(report)


def test_not_finite_gradients_are_wrong(rng):
    report = check(lambda x: (x * 2, lambda dy: dy * np.array([1, np.nan])), rng.standard_normal((3, 2)))
    assert not report.ok
    assert "3 of 6 elements are not finite" in str(report)


def test_contract_faults_beyond_the_gradient(rng):
    class WritesIntoX(sg.Layer):
        def forward(self, x):
            x *= 2
            return x.copy(), lambda dy: 2 * dy

    class WritesIntoW(sg.Dense):
        def forward(self, x):
            y, backward = super().forward(x)

            def step(dy):
                dx = backward(dy)
                self.W.value[...] = self.W.value - 1e-12 * self.W.grad
                return dx

            return y, step

    x = rng.standard_normal((4, 3))
    assert any("writes into x" in fault for fault in check(WritesIntoX(), x).faults)
    assert any("value of W" in fault for fault in check(WritesIntoW(3, 2, rng=rng), x).faults)
    assert check(WritesIntoW(3, 2, rng=rng), x, contract_too=False).ok


def test_frozen_holds_for_a_plain_backward_too(rng):
    class Plain(sg.Layer):
        def __init__(self):
            self.w = sg.Parameter("w", np.ones(3))

        def forward(self, x):
            w = self.w.value

            def backward(dy):
                self.w.grad += (dy * x).sum(axis=0)
                return dy * w

            return x * w, backward

    layer, x = Plain(), rng.standard_normal((4, 3))
    assert check(layer, x).ok
    network = sg.Sequential(sg.Tanh(), layer)
    with sg.frozen(layer):
        _, inside = network.forward(x)
        layer.forward(x)[1](x)
        assert check(layer, x).ok  # the check is of the layer as it is when it learns
    inside(x)
    assert not layer.w.grad.any()
    network.forward(x)[1](x)
    assert layer.w.grad.all()


# --- what a check could let pass, and what it could wrongly refuse ---


def function(f, df):
    """A function of x with the derivative df, as the checker takes it."""
    return lambda x: (f(x), lambda dy: dy * df(x))


class Buffered(sg.Layer):
    """y = 2x in an array that is used again."""

    def __init__(self, factor=2.0):
        self.y, self.factor = None, factor

    def forward(self, x):
        self.y = np.empty_like(x) if self.y is None or self.y.shape != x.shape else self.y
        np.multiply(x, 2, out=self.y)
        return self.y, lambda dy: self.factor * dy


def test_buffers_that_are_used_again_are_found(rng):
    x = rng.standard_normal((4, 3))
    assert "the y of the first" in str(check(Buffered(), x))
    assert not check(Buffered(0), x).tensors[0].ok

    buffer = np.empty((4, 3))
    reused = lambda x: (2 * x, lambda dy: np.multiply(dy, 2, out=buffer))  # noqa: E731
    assert "the dx of the first" in str(check(reused, x))


WRONG = {
    "a clipped gradient": lambda x: (2 * x, lambda dy: np.clip(2 * dy, -10, 10)),
    "a gradient that does not take dy": lambda x: ((x**2).sum(), lambda dy: 2 * x),
    "float32 in backward": lambda x: (2 * x, lambda dy: (2 * dy).astype(np.float32)),
    "float32 in the middle of backward": lambda x: (2 * x, lambda dy: (2 * dy).astype("f").astype("d") * (1 + 2e-6)),
    "hidden by rounding": lambda x: (x + 1e8, lambda dy: 1.05 * dy),
    "drowned by rounding": lambda x: (x + 1e10, lambda dy: 0 * dy),
    "off at one corner by little": lambda x: (2 * x, lambda dy: 2 * dy + 1e-4 * (np.indices(x.shape).sum(0) == 0)),
}


@pytest.mark.parametrize("target", WRONG.values(), ids=WRONG)
def test_wrong_layers_that_look_right(target, rng):
    report = check(target, rng.standard_normal((4, 3)))
    assert not report.ok, report
    assert "exactly 1 times" not in str(report)


def test_a_gradient_in_place_of_a_function_is_for_single_numbers(rng):
    x = rng.standard_normal((4, 3))
    with pytest.raises(TypeError, match="only a single number"):
        check(lambda x: (np.tanh(x), 1 - np.tanh(x) ** 2), x)
    with pytest.raises(TypeError, match="returned 3 things"):
        check(lambda x: (x, lambda dy: dy, "cache"), x)


@pytest.mark.parametrize("slope", [0.37, -1, 1.5])
def test_a_wrong_slope_that_is_a_subgradient_on_the_kink_fails_beside_it(slope):
    wrong = lambda x: (np.maximum(x, 0), lambda dy: slope * dy)  # noqa: E731
    report = check(wrong, np.zeros((3, 2)))
    assert not report.ok
    assert check(sg.ReLU(), np.zeros((3, 2))).ok


def test_images_with_a_black_background_are_right(rng):
    """Zero pixels and zero biases put whole maps exactly on the kink."""
    x = np.zeros((2, 8, 8, 1))
    x[:, 2:5, 3:6] = rng.random((2, 3, 3, 1))
    network = sg.Sequential(sg.Conv2d(1, 4, 3, padding=1, rng=rng), sg.ReLU(), sg.Conv2d(4, 2, 3, rng=rng), sg.ReLU())
    for elementwise in (400, 10):
        report = check(network, x, elementwise=elementwise)
        assert report.ok, report
        assert "kink" in str(report)


def test_large_networks_with_kinks_are_right_for_every_seed():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        report = check(sg.ReLU(), rng.standard_normal((16, 32, 32, 8)), rng=rng)
        assert report.ok, report


SHARP = {
    "1000 waves": (function(lambda x: np.sin(1000 * x), lambda x: 1000 * np.cos(1000 * x)), 0.01),
    "a pole": (function(lambda x: 1 / x, lambda x: -1 / x**2), 1e-3),
    "a logarithm": (function(np.log, lambda x: 1 / x), 1e-3),
    "a narrow bell": (
        function(lambda x: np.exp(-((1e3 * x) ** 2)), lambda x: -2e6 * x * np.exp(-((1e3 * x) ** 2))),
        1e-3,
    ),
}


@pytest.mark.parametrize(("target", "size"), SHARP.values(), ids=SHARP)
def test_sharp_but_smooth_functions_are_right_and_have_no_kinks(target, size, rng):
    report = check(target, size * (1 + rng.random((4, 3))), tolerance=1e-5)
    assert report.ok, report
    assert not report.tensors[0].kinks, report


def test_numbers_of_very_different_size_in_one_tensor(rng):
    x = rng.standard_normal((3, 200))
    x[0, 0] = 1e6
    assert check(sg.Tanh(), x).ok
    assert check(function(np.sin, np.cos), x).ok


def test_large_tensors_name_an_index(rng):
    def change(g):
        g[:40] *= 1.5

    report = check(large(change), rng.standard_normal((3, 300)), directions=3)
    (row, _), found = report.tensors[1].index, report.tensors[1]
    assert row < 40
    assert found.analytic / found.numeric == pytest.approx(1.5)
    assert "probes are wrong" in found.hint


def test_parameters_in_a_dict_and_arrays_that_are_none(rng):
    class InDict(sg.Layer):
        def __init__(self):
            self.weights = {"w": sg.Parameter("w", np.ones(3, np.float32))}

        def forward(self, x):
            p = self.weights["w"]
            return x * p.value, self.pullback(
                x * p.value, dx=lambda dy: dy, grads={p: lambda dy: dy.sum(axis=0) + 1e3}
            )

    assert [t.name for t in check(InDict(), rng.standard_normal((4, 3))).tensors] == ["dx", "weights.w.grad"]
    assert not check(InDict(), rng.standard_normal((4, 3))).ok

    class Raw(sg.Layer):
        def __init__(self):
            self.W = np.full(3, 2.0)

        def forward(self, x):
            return x * self.W, lambda dy: dy * self.W

    report = check(Raw(), rng.standard_normal((4, 3)))
    assert "W: it moves y, and backward gives no gradient for it; make it a Parameter" in str(report)
    assert "for float32 x, y comes out as float64" in str(report)


def test_a_float64_constant_in_a_pullback_is_named(rng):
    class Mask(sg.Layer):
        def __init__(self):
            self.mask = np.array([1.0, 0.0, 1.0])

        def forward(self, x):
            return x * self.mask, self.pullback(x * self.mask, dx=lambda dy: dy * self.mask)

    assert "for float32 x, y comes out as float64" in str(check(Mask(), rng.standard_normal((4, 3))))


def test_grads_are_keyed_by_the_parameter_itself(rng):
    class Keyed(sg.Dense):
        def forward(self, x):
            y, backward = super().forward(x)
            return y, self.pullback(y, dx=backward, grads={"W": lambda dy: x.T @ dy})

    with pytest.raises(TypeError, match="needs the Parameter itself"):
        check(Keyed(3, 2, rng=rng), rng.standard_normal((4, 3)))


def test_a_missing_mean_over_rows_is_named(rng):
    def layer_norm(x):
        s = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        y = (x - x.mean(axis=1, keepdims=True)) * s
        return y, lambda dy: s * (dy - y * (dy * y).mean(axis=1, keepdims=True))

    assert "constant per row" in str(check(layer_norm, rng.standard_normal((4, 5))))


def test_predict_must_agree_and_leave_running_statistics_alone(rng):
    class Other(sg.Tanh):
        def predict(self, x):
            return x

    class Residual(sg.Layer):
        def __init__(self):
            self.inner = sg.Sequential(sg.Dense(3, 3, rng=np.random.default_rng(0)), sg.BatchNorm(3))

        def forward(self, x):
            y, backward = self.inner.forward(x)
            return x + y, lambda dy: dy + backward(dy)

    x = rng.standard_normal((6, 3))
    assert "predict does not give the y of forward" in str(check(Other(), x))
    assert "predict changes running statistics" in str(check(Residual(), x))


def test_buffers_that_a_function_closes_over_are_as_before(rng):
    norm = sg.BatchNorm(3)
    before = norm.running_mean
    assert check(lambda x: norm.forward(x), rng.standard_normal((5, 3)), parameters=norm).ok
    assert norm.running_mean is before
    assert norm.predict(np.ones((1, 3), np.float32)).dtype == np.float32


def test_the_check_stays_in_the_domain_of_the_function(rng):
    def picky(x):
        if x.min() < 0.1 or x.max() > 0.9:
            raise ValueError("needs x from 0.1 to 0.9")
        return np.log(x), lambda dy: dy / x

    assert check(picky, rng.uniform(0.2, 0.8, (5, 3))).ok


def test_same_seed_same_report(rng):
    x = rng.standard_normal((5, 3))
    layer = sg.Dense(3, 4, rng=rng)
    first, second = (str(check(layer, x, rng=np.random.default_rng(3))) for _ in range(2))
    assert first == second
    assert first != str(check(layer, x, rng=np.random.default_rng(4)))
