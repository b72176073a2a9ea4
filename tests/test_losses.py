"""What every loss keeps to: sums and means, gradients of its arguments' shape, one float, no clipping."""

import numpy as np
import pytest
from backends import host
from comparing import FLOATS, Watched, _strangers, assert_close, assert_equal, locals_watched, shares_memory

import scratchgen as sg
from scratchgen import bce_with_logits


@pytest.mark.parametrize(
    "loss", [sg.mse, sg.bce_with_logits, sg.softmax_cross_entropy, sg.gaussian_kl, sg.gaussian_nll]
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_losses_know_one_float_only(loss, dtype):
    arrays = [a.astype(dtype) for a in np.random.default_rng(0).random((3, 4, 5))][
        : 3 if loss is sg.gaussian_nll else 2
    ]
    arrays[1] /= arrays[1].sum(axis=1, keepdims=True)  # also probabilities of classes
    Watched.calls = []
    with locals_watched() as seen:
        results = loss(*(a.view(Watched) for a in arrays))
        if loss is sg.gaussian_nll:
            results += loss(arrays[0].view(Watched), 0.3, arrays[2])
    assert _strangers(dtype, seen) == set()
    assert {a.dtype for a in results} == {np.dtype(dtype)}


# --- losses -------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
LOSSES = {  # the loss, and its arguments as (N, features)
    "mse": (sg.mse, RNG.random((2, 4, 3))),
    "bce_with_logits": (bce_with_logits, RNG.random((2, 4, 3))),
    "gaussian_nll": (sg.gaussian_nll, RNG.random((3, 4, 3))),
    "gaussian_kl": (sg.gaussian_kl, RNG.random((2, 4, 3))),
    "softmax_cross_entropy": (sg.softmax_cross_entropy, RNG.dirichlet(np.ones(3), (2, 4))),
}
every_loss = pytest.mark.parametrize(("loss", "arguments"), LOSSES.values(), ids=LOSSES)


@every_loss
def test_a_loss_averages_over_the_batch_and_sums_over_features(loss, arguments, backend):
    value, *grads = map(host, loss(*backend.arrays(*arguments)))
    twice, *twice_grads = loss(*backend.arrays(*np.tile(arguments, (1, 2, 1))))
    assert_close([twice, *twice_grads], [value, *(np.tile(g, (2, 1)) / 2 for g in grads)])
    if loss is not sg.softmax_cross_entropy:  # whose features are one choice
        wide, *wide_grads = loss(*backend.arrays(*np.tile(arguments, 2)))
        assert_close([wide, *wide_grads], [2 * value, *(np.tile(g, 2) for g in grads)])


@every_loss
def test_a_loss_writes_into_nothing_and_returns_gradients_of_the_arguments_shape(loss, arguments, backend):
    given = backend.arrays(*arguments)
    for a in given if backend.is_host else ():
        a.setflags(write=False)
    _, *grads = loss(*given)
    assert_equal(given, arguments)
    assert all(g.shape == a.shape and not shares_memory(g, a) for g, a in zip(grads, given, strict=False))


@pytest.mark.parametrize("dtype", FLOATS)
def test_bce_is_finite_and_unclipped_far_out(dtype, backend):
    logits = np.array([[1e4, -1e4, 1e4, -1e4, 50, -50]], dtype)
    target = np.array([[0, 1, 1, 0, 0, 1]], dtype)
    loss, dlogits = map(host, bce_with_logits(*backend.arrays(logits, target)))
    assert loss == pytest.approx(2e4 + 100)
    np.testing.assert_allclose(dlogits, [[1, -1, 0, 0, 1, -1]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_cross_entropy_is_finite_and_unclipped_far_out(dtype, backend):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype)
    loss, dlogits = map(host, sg.softmax_cross_entropy(*backend.arrays(logits, np.array([1, 1]))))
    assert loss == pytest.approx(1e4)
    np.testing.assert_allclose(dlogits, [[0.5, -0.5, 0], [0, 0, 0]])


def test_small_probabilities_and_variances_are_not_lost(backend):
    for s, t in ((20.0, 1.0), (-20.0, 0.0)):
        arguments = backend.arrays(np.full((1, 1), s, np.float32), np.full((1, 1), t, np.float32))
        loss, ds = map(host, sg.bce_with_logits(*arguments))
        assert loss == pytest.approx(np.log1p(np.exp(-20)), rel=1e-6)
        assert abs(ds[0, 0]) == pytest.approx(1 / (1 + np.exp(20)), rel=1e-6)
    mu, logvar = backend.arrays(np.zeros((1, 1), np.float32), np.full((1, 1), -100, np.float32))
    results = sg.gaussian_nll(mu, logvar, mu)
    assert [float(r.sum()) for r in results] == pytest.approx([0.5 * (np.log(2 * np.pi) - 100), 0, 0.5])
