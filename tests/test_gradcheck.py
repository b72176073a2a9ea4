"""The checker itself: it must find what is wrong, name it, pass what is right, and leave its subject alone."""

import copy

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.gradcheck import Report, check
from scratchgen.gradcheck.diagnosis.patterns import diagnose
from scratchgen.gradcheck.gallery import find
from scratchgen.gradcheck.judge import Judge
from scratchgen.gradcheck.numeric import Estimate, Probe

HINTS = {
    "a-thousandth-off": "exactly 1.001 times",
    "bias-gradient-forgotten": "zero everywhere",
    "bias-gradient-averaged": "divided by the batch size, 5",
    "weight-gradient-times-batch": "multiplied by the batch size, 5",
    "wrong-sign": "sign is wrong",
    "weight-gradient-transposed": "transposed",
    "weight-gradient-shape": "needs (3, 4)",
    "gradient-assigned": "does not add to W.grad",
    "cache-overwritten": "the cache is on the layer",
    "weights-read-late": "not as they were evaluated",
    "backward-returns-nothing": "is a return missing?",
    "kernel-flipped-in-dw": "the kernel is flipped",
    "dx-shifted": "shifted by one along axis 1",
    "last-row-forgotten": "part of the gradient is dropped",
    "batch-norm-mean-term": "the term through the mean is missing",
    "relu-writes-into-dy": "writes into dy",
    "mse-without-two": "a factor 2 is missing",
    "mse-averaged-over-features": "multiplied by the number of features, 3",
}


@pytest.mark.parametrize(("bug", "hint"), HINTS.items(), ids=HINTS)
def test_hints_name_the_bug(bug, hint):
    case = find(bug).make(np.random.default_rng(1))
    assert hint in str(check(case.wrong, *case.inputs))


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
    x = np.array([[2e-6, -3e-6, 1.0, 1.0, -1.0]])  # within the step of 6e-6, whose scale is that of the others
    (dx,) = check(sg.ReLU(), x).tensors
    assert (dx.verdict, dx.kinks) == ("right", 2)
    assert "step over a kink" in dx.hint

    class Wrong(sg.Layer):
        def forward(self, x):
            return np.maximum(x, 0), lambda dy: dy * 0.5

    assert not check(Wrong(), x).ok


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


def test_kinks_that_cancel_are_said_to_be_wrong_at_that_point_alone(rng):
    """relu(x) − relu(−x) is x, smooth at 0, where its backward gives 0: no other point shows a mistake."""
    target = function(lambda x: np.maximum(x, 0) - np.maximum(-x, 0), lambda x: 1.0 * (x != 0))
    for x in (rng.standard_normal((4, 3)), np.array([[-1.0, 0.0, 2.0]])):
        report = check(target, x)
        assert "right 0.001 beside it: at zeros or equal elements alone" in report.tensors[0].hint, report
    for slope in (lambda x: 0.0 * x, lambda x: 1.5 * (x != 0)):
        report = check(function(lambda x: np.maximum(x, 0) - np.maximum(-x, 0), slope), np.array([[-1.0, 0.0, 2.0]]))
        assert report.verdict == "WRONG"
        assert "beside it" not in str(report)


def test_a_report_of_nothing_is_not_right():
    assert (Report("nothing").verdict, Report("nothing").ok) == ("UNPROVED", False)


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
    with pytest.raises(TypeError, match="only a scalar"):
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

    assert "the term through the mean is missing" in str(check(layer_norm, rng.standard_normal((4, 5))))


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


# --- right code is right, and wrong code wrong, at every scale ---


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, lambda dy: y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def cross_entropy(x):
    """Of class labels 0, 1, 2, ...: log Σ eˣ − x, where two large numbers cancel."""
    rows, labels, top = np.arange(len(x)), np.arange(len(x)) % x.shape[1], x.max(axis=1)
    loss = (np.log(np.exp(x - top[:, None]).sum(axis=1)) + top - x[rows, labels]).sum()

    def backward(dy):
        dx = softmax(x)[0]
        dx[rows, labels] -= 1
        return dy * dx

    return loss, backward


def layer_norm(x, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    s = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    y = centred * s
    mean = lambda a: a.mean(axis=-1, keepdims=True)  # noqa: E731
    return y, lambda dy: s * (dy - mean(dy) - y * mean(dy * y))


def row_maximum(x):
    """The gradient goes to the first of several that are largest."""
    rows, at = np.arange(len(x)), x.argmax(axis=1)

    def backward(dy):
        dx = np.zeros_like(x)
        dx[rows, at] = dy
        return dx

    return x[rows, at], backward


def row_maximum_shared(x):
    y = x.max(axis=1, keepdims=True)
    largest = x == y
    return y, lambda dy: dy * largest / largest.sum(axis=1, keepdims=True)


def sort(x):
    order = np.argsort(x, axis=-1, kind="stable")

    def backward(dy):
        dx = np.zeros_like(x)
        np.put_along_axis(dx, order, dy, axis=-1)
        return dx

    return np.take_along_axis(x, order, axis=-1), backward


def attention(x):
    p, through_softmax = softmax(x @ x.T)

    def backward(dy):
        ds = through_softmax(dy @ x.T)
        return p.T @ dy + ds @ x + ds.T @ x

    return p @ x, backward


RIGHT = {
    "softplus": function(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), sigmoid),
    "abs": function(np.abs, np.sign),
    "relu": function(lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0)),
    "relu6": function(lambda x: np.clip(x, 0, 6), lambda x: 1.0 * ((x > 0) & (x < 6))),
    "huber": function(lambda x: np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5), lambda x: np.clip(x, -1, 1)),
    "tanh": function(np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "cube": function(lambda x: x**3, lambda x: 3 * x**2),
    "nearly linear": function(lambda x: 3 * x + 1e-3 * np.tanh(x), lambda x: 3 + 1e-3 / np.cosh(x) ** 2),
    "small": function(lambda x: 1e-9 * x, lambda x: 1e-9 + 0 * x),
    "noisy": function(lambda x: (x + 1e4) - 1e4, lambda x: 1 + 0 * x),
    "softmax": softmax,
    "cross-entropy": cross_entropy,
    "layer norm": layer_norm,
    "layer norm without eps": lambda x: layer_norm(x, 0),
    "max": row_maximum,
    "max, shared": row_maximum_shared,
    "sort": sort,
    "mean removed": lambda x: (x - x.mean(axis=0), lambda dy: dy - dy.mean(axis=0)),
    "attention": attention,
}
RIGHT_ABOVE_ZERO = {
    "sqrt": function(np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "log": function(np.log, lambda x: 1 / x),
    "1/x": function(lambda x: 1 / x, lambda x: -1 / x**2),
    "entropy": lambda x: (-(x * np.log(x)).sum(), lambda dy: -dy * (np.log(x) + 1)),
}


def changed(target, change):
    """The same with its gradient changed."""

    def wrong(x):
        y, backward = target(x)
        return y, lambda dy: change(np.array(backward(dy)))

    return wrong


def without_last(dx):
    dx[-1] = 0
    return dx


CHANGES = {
    "× (1 + 2e-6)": lambda dx: dx * (1 + 2e-6),
    "× (1 − 2e-6)": lambda dx: dx * (1 - 2e-6),
    "sign": lambda dx: -dx,
    "last row": without_last,
}


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
@pytest.mark.parametrize("name", [*RIGHT, *RIGHT_ABOVE_ZERO])
def test_right_at_every_scale_and_nothing_wrong_passes(name, scale):
    x = scale * np.random.default_rng(1).standard_normal((4, 3))
    target = RIGHT.get(name) or RIGHT_ABOVE_ZERO[name]
    x = np.abs(x) if name in RIGHT_ABOVE_ZERO else x
    saturated = scale == 1e6 and name in ("relu6", "tanh", "softmax")  # the gradient is 0 throughout
    noisy = scale == 1e-6 and name == "noisy"  # the noise is larger than x
    report = check(target, x)
    assert report.verdict == ("UNPROVED" if noisy else "right"), report
    for what, change in CHANGES.items():
        report = check(changed(target, change), x, contract_too=False)
        assert report.verdict == "WRONG" or saturated or noisy, (what, report)


@pytest.mark.parametrize("offset", [1e5, 1e6, 1e7, 1e8])
def test_what_rounding_hides_is_not_called_wrong(offset):
    """(x + c) − c is x, in steps of ε c: no number of y tells of the noise in it."""
    verdicts = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        target = function(lambda x: (x + offset) - offset, lambda x: 1 + 0 * x)
        verdicts.add(check(target, rng.standard_normal((1 + seed % 4, 2)), rng=rng, contract_too=False).verdict)
    assert verdicts <= {"right", "UNPROVED"}


HIDDEN_IN_PART = [
    (1e8, (2, 2), range(10)),
    (1e9, (2, 2), range(20)),
    (1e10, (1, 1), (37, 53, 56)),
    (1e10, (2, 2), range(20)),
    (1e12, (4, 3), (4, 34, 44)),
    (1e12, (5, 4), (4, 12, 17, 32, 34, 39, 40, 44, 49, 53)),
]


@pytest.mark.parametrize(("factor", "shape", "seeds"), HIDDEN_IN_PART)
def test_what_rounding_hides_of_a_part_of_y_is_not_called_wrong(factor, shape, seeds):
    """(x + c x) − c x is x in steps of ε c x: at zeros the noise shrinks with the step, elsewhere y stands still."""
    target = function(lambda x: (x + factor * x) - factor * x, lambda x: 1 + 0 * x)
    verdicts = set()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        verdicts.add(check(target, rng.standard_normal(shape), rng=rng, contract_too=False).verdict)
    assert verdicts <= {"right", "UNPROVED"}


@pytest.mark.parametrize(
    ("constant", "shape", "seed"),
    [(1e9, (1, 1), 48), (1e11, (1, 1), 4), (1e11, (2, 2), 13), (1e11, (1, 1), 40), (1e11, (2, 2), 53)],
)
def test_where_y_stands_still_since_its_changes_are_below_the_least_nothing_is_wrong(constant, shape, seed):
    """(x² + c) − c at small x does not move at all, by steps that would move it by less than ε c."""
    rng = np.random.default_rng(seed)
    target = function(lambda x: (x**2 + constant) - constant, lambda x: 2 * x)
    report = check(target, rng.standard_normal(shape), rng=rng, contract_too=False)
    assert report.verdict in ("right", "UNPROVED"), report


def test_a_large_constant_hides_no_wrong_gradient_and_no_right_one(rng):
    x = rng.standard_normal((4, 3))
    for offset in (1e4, 1e6, 1e8):
        assert check(function(lambda x, c=offset: x + c, lambda x: 1 + 0 * x), x).ok
        for factor in (0, 1.05, 1.001, -1):
            report = check(function(lambda x, c=offset: x + c, lambda x, f=factor: f + 0 * x), x)
            assert report.verdict == "WRONG", (offset, factor, report)
    assert "rounding of y leaves open" in str(check(function(lambda x: x + 1e8, lambda x: 1 + 0 * x), x))


def test_a_small_gradient_beside_large_ones_is_checked_as_well(rng):
    """y = x W + b with x around a million: the bias moves y a million times less than the weights do."""
    dense = sg.Dense(3, 2, rng=rng)

    class Off(sg.Dense):
        def forward(self, x):
            y, backward = super().forward(x)

            def spoiled(dy):
                before = self.b.grad.copy()
                dx = backward(dy)
                self.b.grad += 2e-6 * (self.b.grad - before)
                return dx

            return y, spoiled

    x = 1e6 * rng.standard_normal((4, 3))
    assert check(dense, x).ok
    assert [row.verdict for row in check(Off(3, 2, rng=rng), x).tensors] == ["right", "right", "WRONG"]


# --- one point is no proof ---


class Channels(sg.Layer):
    """A layer with parameters that start at special values; `wrong` forgets what these hide."""

    def __init__(self, channels, wrong=False):
        self.wrong = wrong
        for name, value in self.start.items():
            setattr(self, name, sg.Parameter(name, np.full(channels, value, np.float32)))


class Scale(Channels):  # y = w x, where w = 1 drops out of dx
    start = {"w": 1}

    def forward(self, x):
        w = self.w.value
        return x * w, self.pullback(
            x * w, dx=lambda dy: dy if self.wrong else dy * w, grads={self.w: lambda dy: (dy * x).sum(axis=0)}
        )


class ShiftAndScale(Channels):  # y = w (x + b), where b = 0 drops out of dw
    start = {"w": 2, "b": 0}

    def forward(self, x):
        w, b = self.w.value, self.b.value
        inside = x if self.wrong else x + b
        grads = {self.w: lambda dy: (dy * inside).sum(axis=0), self.b: lambda dy: (dy * w).sum(axis=0)}
        return w * (x + b), self.pullback(w * (x + b), dx=lambda dy: dy * w, grads=grads)


class Gate(Channels):  # y = x + a tanh(x), where a = 0 drops out of dx
    start = {"a": 0}

    def forward(self, x):
        a, t = self.a.value, np.tanh(x)
        y = x + a * t
        slope = 1 if self.wrong else 1 + a * (1 - t * t)
        return y, self.pullback(y, dx=lambda dy: dy * slope, grads={self.a: lambda dy: (dy * t).sum(axis=0)})


class Temperature(Channels):  # y = tanh(x / T), where T = 1 hides one of the two T of dT
    start = {"T": 1}

    def forward(self, x):
        T = self.T.value
        y = np.tanh(x / T)
        d = 1 - y * y
        grads = {self.T: lambda dy: -(dy * d * x / (T if self.wrong else T * T)).sum(axis=0)}
        return y, self.pullback(y, dx=lambda dy: dy * d / T, grads=grads)


class LayerNorm(Channels):  # gamma differs along the axis of the mean, so it is no factor of dx
    start = {"gamma": 1, "beta": 0}

    def forward(self, x):
        gamma = self.gamma.value
        y, backward = layer_norm(x)
        return gamma * y + self.beta.value, self.pullback(
            y,
            dx=lambda dy: gamma * backward(dy) if self.wrong else backward(gamma * dy),
            grads={self.gamma: lambda dy: (dy * y).sum(axis=0), self.beta: lambda dy: dy.sum(axis=0)},
        )


class FromTheIdentity(Channels):  # y = x W with W = 1 at first, which is its own transpose
    start = {"W": 0}

    def __init__(self, channels, wrong=False):
        super().__init__((channels, channels), wrong)
        self.W.value = np.eye(channels, dtype=np.float32)

    def forward(self, x):
        W = self.W.value
        return x @ W, self.pullback(
            x @ W, dx=lambda dy: dy @ (W if self.wrong else W.T), grads={self.W: lambda dy: x.T @ dy}
        )


class Slope(Channels):  # PReLU with a slope of 0 at first: a branch of zeros
    start = {"a": 0}

    def forward(self, x):
        a, below = self.a.value, x < 0
        y = np.where(below, a * x, x)
        slope = np.where(below, 0 if self.wrong else a, 1)
        return y, self.pullback(y, dx=lambda dy: dy * slope, grads={self.a: lambda dy: (dy * x * below).sum(axis=0)})


HIDDEN = [Scale, ShiftAndScale, Gate, Temperature, LayerNorm, FromTheIdentity, Slope]


@pytest.mark.parametrize("layer", HIDDEN)
def test_what_initial_values_hide_is_found(layer, rng):
    x = rng.standard_normal((5, 3))
    target = layer(3)
    before = [p.value for p in target.parameters()]
    report = check(target, x)
    assert report.ok, report
    assert "parameters and inputs drawn at random" in str(report)
    assert all(p.value is value for p, value in zip(target.parameters(), before, strict=True))

    report = check(layer(3, wrong=True), x)
    assert report.verdict == "WRONG", report
    assert "right at the values given, wrong with parameters and inputs drawn at random" in str(report)


def test_a_functions_parameters_are_put_back_as_they_were(rng):
    layer = Scale(3, wrong=True)
    value, grad = layer.w.value, layer.w.grad
    assert not check(lambda x: layer.forward(x), rng.standard_normal((5, 3)), parameters=layer).ok
    assert layer.w.value is value
    assert layer.w.grad is grad
    assert value.tolist() == [1, 1, 1]


class Embedding(sg.Layer):
    """The gradient of a row that is looked up twice is a sum of two; `grad[ids] += dy` keeps one of them."""

    def __init__(self, wrong=False):
        self.W, self.wrong = sg.Parameter("W", np.arange(30, dtype=np.float32).reshape(10, 3)), wrong

    def forward(self, ids):
        W = self.W.value

        def backward(dy):
            if self.wrong:
                self.W.grad[ids] += dy
            else:
                np.add.at(self.W.grad, ids, dy)

        return W[ids], backward


def several_inputs_of_a_sum(x):
    """Each distinct row once: np.unique takes rows together, so their gradients add up."""
    unique, which = np.unique(x, axis=0, return_inverse=True)
    return (unique[which] ** 2), lambda dy: 2 * dy * x


BRANCHES = {
    "beyond 6": (RIGHT["relu6"], function(lambda x: np.clip(x, 0, 6), lambda x: 1.0 * (x > 0))),
    "beyond ±10": (
        function(lambda x: np.clip(x, -10, 10), lambda x: 1.0 * (np.abs(x) < 10)),
        function(lambda x: np.clip(x, -10, 10), lambda x: 1 + 0 * x),
    ),
    "beyond 20": (
        function(
            lambda x: np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20)))),
            lambda x: np.where(x > 20, 1, sigmoid(x)),
        ),
        function(
            lambda x: np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20)))),
            lambda x: np.where(x > 20, 0, sigmoid(x)),
        ),
    ),
    "below 0.01": (
        function(
            lambda x: np.where(np.abs(x) < 0.01, 50 * x * x, np.abs(x) - 0.005), lambda x: np.clip(100 * x, -1, 1)
        ),
        function(lambda x: np.where(np.abs(x) < 0.01, 50 * x * x, np.abs(x) - 0.005), np.sign),
    ),
    "tied maxima": (
        row_maximum_shared,
        lambda x: (x.max(axis=1, keepdims=True), lambda dy: dy * (x == x.max(axis=1, keepdims=True))),
    ),
    "a mask that is read off y": (
        lambda x: (x * 1.0, lambda dy: dy * 1.0),
        lambda x: (x * 1.0, lambda dy: dy * (x != 0)),
    ),
    "0 / 0": (
        function(np.sinc, lambda x: np.where(x == 0, 0, (np.cos(np.pi * x) - np.sinc(x)) / np.where(x == 0, 1, x))),
        function(np.sinc, lambda x: (np.cos(np.pi * x) - np.sinc(x)) / x),
    ),
}


@pytest.mark.parametrize(("right", "wrong"), BRANCHES.values(), ids=BRANCHES)
def test_branches_and_ties_that_drawn_inputs_never_reach(right, wrong):
    x = 0.05 + np.random.default_rng(0).random((5, 4))
    x[0] *= -1
    report = check(right, x)
    assert report.ok, report
    report = check(wrong, x)
    assert report.verdict == "WRONG", report
    assert "large inputs" in str(report) or "zeros" in str(report) or "equal inputs" in str(report)


def test_rows_that_are_looked_up_twice(rng):
    ids = np.array([2, 5, 7, 1])
    assert check(Embedding(), ids).ok
    report = check(Embedding(wrong=True), ids)
    assert report.verdict == "WRONG", report
    assert "equal inputs" in str(report)


def test_inputs_of_one_sign_reach_the_other_branch_where_they_are_all_in_the_dead_one(rng):
    x = -rng.random((4, 3))
    assert check(sg.ReLU(), x).ok
    assert not check(function(lambda x: np.maximum(x, 0), lambda x: 0.5 * (x > 0)), x).ok


class Narrow(Channels):
    """y = x / σ, for σ > 0 alone."""

    start = {"sigma": 1}

    def forward(self, x):
        sigma = self.sigma.value
        if np.any(sigma <= 0):
            raise ValueError("needs sigma > 0")
        y = x / sigma
        return y, self.pullback(
            y, dx=lambda dy: dy / sigma, grads={self.sigma: lambda dy: -(dy * y / sigma).sum(axis=0)}
        )


class NarrowInterval(Channels):
    """y = x √((1.02 − a) (a − 0.98)): values near the first alone give numbers."""

    start = {"a": 1}

    def forward(self, x):
        a = self.a.value
        root = np.sqrt((1.02 - a) * (a - 0.98))
        return x * root, self.pullback(
            x * root, dx=lambda dy: dy * root, grads={self.a: lambda dy: (dy * x * (1 - a) / root).sum(axis=0)}
        )


def within_0_and_1(p):
    """A cross-entropy of probabilities whose gradient holds between 0 and 1 alone: beyond, the value is clipped."""
    return -np.log(np.clip(p, 1e-12, 1)).sum(), lambda dy: -dy / p


def test_a_narrow_domain_makes_no_right_layer_wrong(rng):
    x = rng.standard_normal((5, 3))
    assert check(Narrow(3), x).ok
    report = check(NarrowInterval(3), x)
    assert report.ok, report
    assert "not checked with parameters and inputs drawn at random: y is not finite there" in str(report)
    assert check(within_0_and_1, rng.uniform(0.1, 0.9, (5, 3))).ok
    report = check(function(np.log, lambda x: 1 / x), rng.uniform(0.1, 5, (5, 3)))
    assert report.ok, report
    assert "small inputs," in str(report), "zeros have no logarithm, small numbers have"
    assert check(lambda x: (np.sqrt((x * x).sum()), lambda dy: dy * x / np.sqrt((x * x).sum())), x).ok


def test_a_backward_that_raises_elsewhere_is_a_fault(rng):
    def picky(x):
        def backward(dy):
            if np.any(x == 0):
                raise ZeroDivisionError("x is 0")
            return 2 * dy * x

        return x * x, backward

    report = check(picky, rng.standard_normal((4, 3)))
    assert report.verdict == "WRONG"
    assert "with small inputs and zeros, backward raised ZeroDivisionError" in str(report)


# --- a proof of nothing ---


def forgets_to_return(x, t):
    def backward():
        2 * (x - t)

    return ((x - t) ** 2).sum(), backward


NOTHING = {
    "a loss without return dx": (forgets_to_return, 2, "is a return missing?"),
    "a loss with None for its gradient": (lambda x: ((x**2).sum(), None), 1, "is a return missing?"),
    "a layer without return dx": (lambda x: (2 * x, lambda dy: None), 1, "is a return missing?"),
}


@pytest.mark.parametrize(("target", "count", "says"), NOTHING.values(), ids=NOTHING)
def test_a_missing_gradient_is_wrong(target, count, says, rng):
    report = check(target, *rng.standard_normal((count, 4, 3)))
    assert (report.ok, report.verdict) == (False, "WRONG")
    assert says in str(report)


def test_what_was_not_checked_is_not_right():
    twice = lambda x: (2.0 * np.asarray(x), lambda dy: 2 * dy)  # noqa: E731
    for x in (np.arange(4), 3.0, np.array([True, False])):
        report = check(twice, x)
        assert (report.ok, report.verdict) == (False, "UNPROVED")
        assert "NOT CHECKED: anything: no input is an array of floats" in str(report)
    report = check(lambda x: (x.sum(axis=0), lambda dy: np.zeros((0, 3))), np.zeros((0, 3)))
    assert (report.ok, report.verdict) == (False, "UNPROVED")
    with pytest.raises(ValueError, match="has no elements"):
        check(twice, np.zeros((0, 3)))


def test_a_gradient_that_is_neither_right_nor_wrong_has_its_own_verdict(rng):
    hidden = function(lambda x: x + 1e17, lambda x: 1 + 0 * x)
    report = check(hidden, rng.standard_normal((4, 3)))
    assert (report.ok, report.verdict, report.tensors[0].verdict) == (False, "UNPROVED", "UNPROVED")
    assert "WRONG" not in str(report)
    small = check(function(lambda x: x + 1e8, lambda x: 1 + 0 * x), 1e-3 * rng.standard_normal((4, 3)))
    assert (small.verdict, small.tensors[0].verdict) == ("UNPROVED", "UNPROVED"), small
    assert check(AbsoluteValue(), rng.uniform(0, 1e6, (5, 4))).ok, "large numbers alone hide nothing"


class OfOneSlope:
    """A line on which every step shows the same slope, with the same bound on its error."""

    def __init__(self, slope, error):
        self.found = Estimate(slope, error, bend=0.0, moved=np.ones(1, bool), least=0.0)

    def estimate(self, probe, h):
        return self.found

    def rounding(self, probe, h):
        return 0.0

    def scatter(self, probe, h):
        return 0.0


@pytest.mark.parametrize(
    ("off", "error", "verdict"),
    [
        (0.9, 0.2, "right"),  # within what is allowed, 1
        (1.1, 0.2, "WRONG"),
        (1.1, 0.24, "WRONG"),  # a quarter of what is allowed: the step decides by itself
        (1.1, 0.26, "right"),  # beyond: the error may explain the difference
        (1.5, 0.26, "right"),
        (1.55, 0.26, "WRONG"),  # more than what is allowed and twice the error
        (11.9, 5.5, "right"),
        (12.1, 5.5, "WRONG"),
        (0.9, 5.9, "right"),  # as large an error is borne, 6
        (0.9, 6.1, "UNPROVED"),
        (12.9, 6.1, "UNPROVED"),
    ],
)
def test_when_a_difference_counts(off, error, verdict):
    deciding = Judge(OfOneSlope(0.0, error), Probe.coordinate(np.ones(1), (0,)), off, allowed=1.0, bearable=6.0)
    assert deciding.verdict()[0] == verdict


# --- words ---


def small_kl(mu, logvar):
    N = len(mu)
    loss = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum() / N
    return loss, mu / N, 0.5 * np.exp(logvar) / N  # − ½ / N is missing


@pytest.mark.parametrize("error", [2e-6, 4e-6, 6e-6, 1e-5, 3e-5, -2e-6])
def test_small_errors_are_wrong_and_are_called_by_their_name(error, rng):
    target = function(lambda x: 3 * x, lambda x: 3 * (1 + error) + 0 * x)
    (dx,) = check(target, rng.standard_normal((5, 4))).tensors
    assert dx.verdict == "WRONG"
    assert dx.hint.startswith(f"exactly {1 + error:.6f} times" if abs(error) < 1e-5 else "exactly 1.0000")
    (dx,) = check(changed(softmax, lambda dx: dx * (1 + error)), rng.standard_normal((5, 4))).tensors
    assert dx.hint.startswith("exactly")


def test_a_constant_that_is_left_out_is_no_mean(rng):
    mu, logvar = rng.standard_normal((2, 5, 4))
    row = check(small_kl, mu, logvar).tensors[1]
    assert row.hint.startswith("what is missing is −1/10: backward gives 1/10 · exp(logvar); the gradient is −1/10 +")
    per_channel = lambda x: (x**3, lambda dy: dy * 3 * x**2 + np.array([1.0, 2.0, -3.0]))  # noqa: E731
    assert check(per_channel, rng.standard_normal((5, 3))).tensors[0].hint == "it is off by one constant per channel"
    for wrong in (
        lambda x: (x**2, lambda dy: 2 * dy * x + dy.mean(axis=0)),
        lambda x: (x**2, lambda dy: 2 * dy * x + dy.mean(axis=1, keepdims=True)),
        lambda x: (softmax(x)[0], lambda dy: softmax(x)[0] * dy),
    ):
        assert "mean" not in check(wrong, rng.standard_normal((5, 4))).tensors[0].hint


def test_nothing_is_named_that_a_few_numbers_meet_by_chance(rng):
    """Two elements that change places are shifted, reversed and transposed. A single one is some factor at one dy,
    and the same at all of them only where it is one."""

    class Single(sg.Dense):
        def forward(self, x):
            y, backward = super().forward(x)

            def wrong(dy):
                dx = backward(dy)
                self.b.grad *= 1 + dy[0, 0] ** 2
                return dx

            return y, wrong

    assert check(Single(3, 1, rng=rng), rng.standard_normal((5, 3))).tensors[2].hint == ""
    swapped = lambda x: (x * x, lambda dy: (2 * dy * x)[:, ::-1])  # noqa: E731
    assert check(swapped, rng.standard_normal((1, 2))).tensors[0].hint == ""
    assert "reversed along axis 1" in check(swapped, rng.standard_normal((3, 4))).tensors[0].hint

    def one_batch_wrong(x):
        return x * x, lambda dy: 2 * dy * x * np.array([1.1, 1, 1, 1])[:, None]

    hint = check(one_batch_wrong, rng.standard_normal((4, 3))).tensors[0].hint
    assert "index 0 of axis 0" in hint
    assert "padding" not in hint, "the first sample is no border"


def test_no_hint_says_more_than_the_elements_show(rng):
    """Where several patterns fit, or the elements are too few to tell one, none is named."""
    rows = np.repeat(np.arange(1.0, 4)[:, None], 2, axis=1)  # reversed along axis 0, or along both
    assert diagnose("dx", rows[::-1], rows, np.ones((3, 2), bool), {}) == ""
    few = np.array([5.0, 4.0, 3.0])  # a shift by one leaves two elements to tell it by
    assert "shifted" not in diagnose("dx", np.array([1.0, 5.0, 4.0]), few, np.ones(3, bool), {})
    many = np.array([7.0, 5.0, 4.0, 3.0])
    assert "shifted" in diagnose("dx", np.array([1.0, 7.0, 5.0, 4.0]), many, np.ones(4, bool), {})
    kernel = rng.standard_normal((1, 3, 2, 2))  # a row is reversed, not flipped
    hint = diagnose("W.grad", kernel[:, ::-1], kernel, np.ones(kernel.shape, bool), {})
    assert hint == "it is reversed along axis 1"

    def place(shape, where):
        wrong = np.zeros(shape, bool)
        wrong[where] = True
        right = rng.standard_normal(shape)
        return diagnose("dx", right + wrong * rng.uniform(1, 2, shape), right, wrong, {})

    assert place((2, 4), 0) == "4 of 8 elements are wrong", "one of two rows is no place"
    assert place((3, 4), 0).endswith("they lie at index 0 of axis 0")
    assert "border" not in place((2, 3, 5, 2), (slice(None), [0, 2])), "of three rows two are no border"
    assert "the border of axis 1" in place((2, 4, 5, 2), (slice(None), [0, 3]))


# --- the contract, and rounding ---


class AddsUpInAnotherOrder(sg.Layer):
    """y = x + b with a bias whose gradient is 0 but for rounding, which is another one for another dy or call.

    As it is on another processor: 1e6 times dy is added and taken away again, in an order of its own.
    """

    def __init__(self, wrong=0.0):
        self.b, self.calls, self.wrong = sg.Parameter("b", np.zeros(3, np.float32)), 0, wrong

    def forward(self, x):
        def backward(dy):
            self.calls += 1
            terms = np.concatenate([1e6 * dy, -1e6 * dy])
            order = np.random.default_rng(self.calls).permutation(len(terms))
            self.b.grad += np.add.accumulate(terms[order], axis=0)[-1] + self.wrong * dy[0] * np.abs(dy[0])
            return dy * 1.0

        return x + self.b.value - self.b.value, backward


def test_the_contract_allows_for_rounding_and_for_no_more():
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal((40, 3))
        report = check(AddsUpInAnotherOrder(), x, rng=np.random.default_rng(seed))
        assert not report.faults, report
        report = check(AddsUpInAnotherOrder(wrong=1e-6), x, rng=np.random.default_rng(seed))
        assert "not linear in dy" in str(report)


@pytest.mark.parametrize(
    ("bend", "found"), [(0, False), (1e-8, True), (1e-11, True)], ids=["linear", "a little bent", "hardly bent"]
)
def test_a_backward_that_is_hardly_bent_is_not_linear(bend, found, rng):
    target = lambda x: (2 * x, lambda dy: 2 * dy + bend * dy * np.abs(dy))  # noqa: E731
    report = check(target, rng.standard_normal((4, 3)))
    assert report.tensors[0].ok
    assert any("not linear" in fault for fault in report.faults) == found


def test_predict_may_round_otherwise_but_not_differ(rng):
    class Other(sg.Layer):
        """y = (x + 1) − (x + 1) + small: what predict gives is rounded in another way."""

        def __init__(self, off=0.0):
            self.off = off

        def forward(self, x):
            return (1e3 * x + 1) - 1e3 * x, lambda dy: 0 * dy

        def predict(self, x):
            return (1e3 * x - 1e3 * x) + 1 + self.off

    x = rng.standard_normal((4, 3))
    assert not check(Other(), x).faults
    assert "predict does not give the y of forward" in str(check(Other(off=1e-7), x))


# --- models of a plain class ---


class PlainGAN:
    """Its losses freeze the other network, or do not."""

    def __init__(self, rng, freezes=True):
        self.generator = sg.Sequential(sg.Dense(3, 4, rng=rng), sg.Tanh(), sg.Dense(4, 2, rng=rng))
        self.discriminator = sg.Sequential(sg.Dense(2, 4, rng=rng), sg.Tanh(), sg.Dense(4, 1, rng=rng))
        self.frozen = [self.discriminator] if freezes else []

    def generator_loss(self, z):
        fake, generator_backward = self.generator.forward(z)
        with sg.frozen(*self.frozen):
            s, backward = self.discriminator.forward(fake)
        return (s**2).sum(), lambda: generator_backward(backward(2 * s))


class ModuleGAN(PlainGAN, sg.Module):
    pass


class Fixed(PlainGAN):
    """Of another name, so that only the freezing tells."""

    def loss(self, z):
        return self.generator_loss(z)


class Dead(PlainGAN):
    """The generator's own gradient is lost."""

    def generator_loss(self, z):
        with sg.frozen(self.generator):
            return super().generator_loss(z)


@pytest.mark.parametrize("kind", [PlainGAN, ModuleGAN, Fixed])
def test_what_is_frozen_while_a_loss_runs_is_left_out(kind, rng):
    gan = kind(rng)
    method = gan.loss if kind is Fixed else gan.generator_loss
    report = check(method, rng.standard_normal((5, 3)))
    assert report.ok, report
    assert len(report.tensors) == 5
    assert all(row.name.startswith("generator.") for row in report.tensors[1:])
    assert any(note.startswith("left out: discriminator.") for note in report.notes)
    assert gan.generator.layers[0].W.value.dtype == np.float32


def test_what_takes_a_gradient_is_checked_whoever_it_belongs_to(rng):
    report = check(PlainGAN(rng, freezes=False).generator_loss, rng.standard_normal((5, 3)))
    assert report.ok, report
    assert len(report.tensors) == 9


def test_the_player_of_a_loss_is_not_left_out(rng):
    report = check(Dead(rng).generator_loss, rng.standard_normal((5, 3)))
    assert report.verdict == "WRONG"


def test_parameters_may_be_named_where_others_are_closed_over(rng):
    gan, z = PlainGAN(rng), rng.standard_normal((5, 3))
    for parameters in (gan.generator, gan.generator.parameters()):
        assert check(gan.generator_loss, z, parameters=parameters).ok
        report = check(lambda z: gan.generator_loss(z), z, parameters=parameters)
        assert report.ok, report
        assert len(report.tensors) == 5
    assert gan.discriminator.layers[0].W.value.dtype == np.float32


def test_gradients_of_inputs_are_left_out_where_they_are_not_asked_for(rng):
    def loss(x):
        return (x**2).sum() + gan.generator_loss(x)[0], lambda: (0 * x, gan.generator_loss(x)[1]())[0]

    gan, z = PlainGAN(rng), rng.standard_normal((5, 3))
    assert check(loss, z, parameters=gan.generator).verdict == "WRONG"
    assert check(loss, z, parameters=gan.generator, parameters_only=True).ok
