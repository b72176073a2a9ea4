"""The parts of the diagnosis by themselves, and silence where a coincidence could pass for a cause."""

import cProfile
import time

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.gradcheck import check
from scratchgen.gradcheck.diagnosis import evidence, patterns
from scratchgen.gradcheck.diagnosis.fit import MOST_ROWS, Dictionary, Term, spelled, written
from scratchgen.gradcheck.diagnosis.words import axes_named, indices_named


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def hints(target, *inputs):
    """What is said of the wrong gradients, by name; the check must find one."""
    report = check(target, *inputs, rng=np.random.default_rng([0, 2]))
    assert not report.ok
    return {row.name: row.hint for row in report.tensors if row.verdict == "WRONG"}


# --- fit.py ---


def test_a_sum_of_two_terms_is_found_with_its_coefficients():
    a, b, c = (drawn(40, seed=k) for k in range(3))
    fit = Dictionary([Term("a", a, 1), Term("b", b, 1), Term("c", c, 1)]).fit(2 * a - c / 5, 1e-6)
    assert written(fit, {"the batch size": 5}) == "2 · a − 1/5 · c"


def test_the_shorter_of_two_names_for_the_same_values_is_kept():
    a = drawn(40)
    assert [t.text for t in Dictionary([Term("a·1·1", a, 3), Term("a", a, 1)]).terms] == ["a"]


def test_what_is_nearly_a_term_is_not_fitted():
    a = drawn(40)
    dictionary = Dictionary([Term("a", a, 1), Term("b", drawn(40, seed=1), 1)])
    assert dictionary.fit(a + 1e-3 * drawn(40, seed=2), 1e-5 * np.linalg.norm(a)) is None


def test_no_terms_and_a_target_of_zeros_fit_nothing():
    assert Dictionary([]).fit(drawn(10), 1e-9) is None
    assert Dictionary([Term("a", drawn(10), 1), Term("nan", np.full(10, np.nan), 0)]).fit(np.zeros(10), 1e-9) is None


def test_what_fits_a_part_of_the_rows_is_held_against_all():
    a = drawn(4 * MOST_ROWS)
    target, dictionary = 3 * a, Dictionary([Term("a", a, 1)])
    assert written(dictionary.fit(target, 1e-6), {}) == "3 · a"
    unseen = np.setdiff1d(np.arange(a.size), dictionary.rows)
    target[unseen[0]] += 1
    assert dictionary.fit(target, 1e-6) is None


@pytest.mark.parametrize(
    ("number", "text"), [(0.2, "1/5"), (-1.0, "−1"), (5**0.5, "√5"), (0.8, "(1 − 1/5)"), (7.3, "7.3")]
)
def test_a_coefficient_is_spelled_as_one_writes_it(number, text):
    assert spelled(number, {"the batch size": 5}) == text


# --- patterns.py, words.py ---


def test_axes_and_indices_in_words():
    assert (axes_named([1]), axes_named((0, 2))) == ("axis 1", "axes 0, 2")
    assert (indices_named([3]), indices_named(range(8))) == ("index 3", "indices 0, 1, 2, 3, 4, 5 …")


def test_one_element_tells_no_pattern():
    assert patterns.factor(np.array([3.7]), np.array([1.0]), {}) == ""


# --- what a hint must not say ---


def test_errors_of_small_elements_are_not_called_zero():
    def layer(x):
        slope = 1 / np.cosh(x) ** 2
        return np.tanh(x), lambda dy: dy * slope + 2e-8 * dy * (np.abs(x) > 1)

    assert "zero" not in hints(layer, 2 * drawn(3, 4))["dx"]


def test_what_writes_into_its_cache_does_not_draw_at_random():
    def layer(x):
        slope = np.cos(x)

        def backward(dy):
            slope.__imul__(dy)
            return -slope

        return np.sin(x), backward

    assert hints(layer, drawn(3, 4)) == {"dx": "the sign is wrong"}


def test_a_multiple_of_the_weights_is_no_projection():
    class Normed:
        def __init__(self):
            self.W = drawn(3, 4, seed=1)

        def forward(self, x):
            length = np.linalg.norm(self.W)
            V = self.W / length

            def backward(dy):
                dV = x.T @ dy
                self.dW = (dV - V * np.sum(V * dV)) / length + 0.3 * self.W
                return dy @ V.T

            return x @ V, backward

    assert "constant" not in hints(Normed(), drawn(5, 3))["W.grad"]


def test_elements_that_are_picked_by_their_place_are_no_maximum():
    picked = np.array([2, 0, 3, 1])

    def layer(x):
        def backward(dy):
            dx = np.empty_like(dy)
            dx[:, picked] = dy
            dx[:, picked[[1, 0, 3, 2]]] += dy
            return dx

        return x[:, picked], backward

    assert "maximum" not in hints(layer, drawn(3, 4))["dx"]


def test_a_maximum_that_gives_dy_to_others_is_named():
    def layer(x):
        at = x.argmax(1)

        def backward(dy):
            dx = np.zeros_like(x)
            dx[np.arange(len(x)), at] = dy
            dx[np.arange(len(x)), (at + 1) % x.shape[1]] += dy
            return dx

        return x.max(1), backward

    assert "as a maximum is, gives its dy to others too" in hints(layer, drawn(4, 4))["dx"]


def test_a_running_sum_does_not_depend_on_all_elements():
    said = hints(lambda x: (np.cumsum(np.arctan(x), 1), lambda dy: dy / (1 + x * x)), drawn(3, 5))["dx"]
    assert said.startswith("only the diagonal")
    assert "other elements along axis 1" in said


def test_a_sine_of_small_inputs_is_a_sine():
    said = hints(lambda x: (np.sin(x), lambda dy: dy * x), 0.01 * drawn(3, 4))["dx"]
    assert said == "backward gives dy · x; the gradient is dy · cos(x)"


def test_functions_that_are_nearly_alike_are_not_taken_for_each_other():
    def gelu(x):  # as most have it, by tanh; its gradient is not Φ(x) + x φ(x)
        t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + t), lambda dy: dy * x

    assert "Φ" not in hints(gelu, drawn(3, 4))["dx"]


def test_two_elements_are_fitted_by_no_formula():
    assert hints(lambda x: (np.sin(x) * x.sum(), lambda dy: dy * np.cos(x) * x.sum()), drawn(1, 2))["dx"] == ""


def test_a_scale_that_is_reversed_is_no_kernel():
    class Scale:
        def __init__(self):
            self.gamma = drawn(5, seed=1)

        def forward(self, x):
            def backward(dy):
                self.dgamma = (dy * x).sum(0)
                return dy * self.gamma[::-1]

            return x * self.gamma, backward

    assert hints(Scale(), drawn(4, 5))["dx"] == "it is the gradient of a layer whose gamma is reversed, along axis 0"


def test_an_input_that_is_called_y_is_not_the_output():
    def product(x, y):
        return np.tanh(x) * y, lambda dy: (dy * y, dy * np.tanh(x))

    assert "dy · y" not in hints(product, drawn(3, 4), drawn(3, 4, seed=1))["dx"]


def test_a_part_that_leaves_its_gradient_to_the_loss_hides_no_other():
    class Dense:
        def __init__(self, factor, seed):
            self.W, self.factor = drawn(4, 4, seed=seed) / 2, factor

        def forward(self, x):
            def backward(dy):
                self.dW = self.factor * (x.T @ dy)
                return dy @ self.W.T

            return x @ self.W, backward

    class Softmax:  # the gradient of the loss is that of its logits
        def forward(self, x):
            e = np.exp(x)
            return e / e.sum(1, keepdims=True), lambda dy: dy

    class Model:
        def __init__(self):
            self.first, self.second, self.softmax = Dense(2, 1), Dense(1, 2), Softmax()

        def forward(self, x, t):
            z, through_first = self.first.forward(x)
            s, through_second = self.second.forward(np.tanh(z))
            p, through_softmax = self.softmax.forward(s)

            def backward():
                ds = through_softmax((p - np.eye(4)[t]) / len(t))
                return through_first(through_second(ds) * (1 - np.tanh(z) ** 2)), None

            return -np.log(p[np.arange(len(t)), t]).mean(), backward

    (said,) = hints(Model(), drawn(5, 4), np.array([0, 1, 2, 3, 0])).values()
    assert "softmax, Softmax" in said
    assert "first, Dense: W.grad: exactly 2 times" in said


# --- what explaining costs, and what it leaves alone ---


def off(x):
    return np.sin(x), lambda dy: dy * np.sin(x)


def test_the_same_is_said_under_a_profiler():
    expected, profiler = hints(off, drawn(3, 4)), cProfile.Profile()
    profiler.enable()
    try:
        assert hints(off, drawn(3, 4)) == expected
    finally:
        profiler.disable()
    assert len(profiler.getstats()) > 50  # it went on


def test_the_global_generator_and_the_layer_stay_as_they_are():
    class Counting:
        def __init__(self):
            self.calls, self.W = 0, drawn(4, 4)

        def forward(self, x):
            self.calls += 1

            def backward(dy):
                self.dW = x.T @ dy
                return dy @ self.W

            return x @ self.W, backward

    layer, before = Counting(), np.random.get_state()[1].copy()  # noqa: NPY002  that one is meant
    hints(layer, drawn(4, 4))
    assert layer.calls == 0
    assert not hasattr(layer, "dW")
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_a_slow_layer_is_explained_in_time(monkeypatch):
    def slow(x):
        time.sleep(0.002)
        return np.tile(np.sin(x), (1, 120)), lambda dy: 0 * x

    monkeypatch.setattr(evidence, "SECONDS", 0.4)  # 200 evaluations
    calls = []
    matrix = evidence._as_matrix
    monkeypatch.setattr(evidence, "_as_matrix", lambda *args: calls.append(1) or matrix(*args))
    hints(slow, drawn(2, 4))
    assert not calls  # a matrix of 960 columns takes 4 seconds


def test_many_variables_of_forward_take_no_memory():
    def layer(x):
        a, b, c, d, e, g = np.sin(x), np.cos(x), np.tanh(x), np.exp(x / 3), np.arctan(x), x**2
        h, i, j = a * c, b * d, e * g
        k = h + i + j
        return k * j + np.sinh(x), lambda dy: dy * np.arctan(k) ** 2

    start = time.monotonic()
    assert hints(layer, drawn(8, 8))["dx"] == ""
    assert time.monotonic() - start < 10


def test_a_scale_without_axes_takes_no_hint_away():
    class Scaled(sg.Layer):
        def __init__(self):
            self.a = sg.Parameter("a", np.array(0.7))

        def forward(self, x):
            t, a = np.tanh(x), self.a.value

            def backward(dy):
                self.a.grad += (dy * t).sum()
                return dy * a * (1 - t)

            return a * t, backward

    report = check(Scaled(), np.random.default_rng(0).standard_normal((4, 3)))
    assert "(1 − t)" in report.tensors[0].hint
