"""Pooling by hand: ties, borders, what no window covers. The rest is in the generic tests and beside PyTorch."""

import numpy as np
import pytest
from backends import host
from comparing import assert_close, assert_equal

from scratchgen import AvgPool2d, MaxPool2d, gradcheck


def pooled(layer, backend, rows, dy=None):
    """y, and dx for dy, of one image of one channel: lists of rows."""
    x = backend.array(np.array(rows, float)[None, :, :, None])
    y, backward = layer.forward(x)
    dx = None if dy is None else host(backward(backend.array(np.array(dy, float)[None, :, :, None])))[0, :, :, 0]
    return host(y)[0, :, :, 0], dx


def test_the_largest_of_each_window_and_where_dy_goes(backend):
    rows = [[1, 5, 2, 0], [4, 3, 7, 8], [-1, -2, -5, -4], [-3, -4, -6, -7]]
    y, dx = pooled(MaxPool2d(2), backend, rows, [[10, 20], [30, 40]])
    assert_equal([y], [np.array([[5.0, 8], [-1, -4]])])
    assert_equal([dx], [np.array([[0.0, 10, 0, 0], [0, 0, 0, 20], [30, 0, 0, 40], [0, 0, 0, 0]])])


def test_overlapping_windows_add_up(backend):
    y, dx = pooled(MaxPool2d(2, stride=1), backend, [[0, 1, 0], [2, 9, 3], [0, 4, 0]], [[1, 2], [3, 4]])
    assert_equal([y, dx], [np.full((2, 2), 9.0), np.array([[0.0, 0, 0], [0, 10, 0], [0, 0, 0]])])


def test_of_equal_elements_the_first_gets_dy_once(backend):
    _, dx = pooled(MaxPool2d((2, 3)), backend, [[0, 3, 3], [3, 0, 3]], [[5]])
    assert_equal([dx], [np.array([[0.0, 5, 0], [0, 0, 0]])])


def test_padding_never_wins(backend):
    y, dx = pooled(MaxPool2d(2, padding=1), backend, [[-5, -6], [-7, -8]], [[1, 2], [3, 4]])
    assert_equal([y, dx], [np.array([[-5.0, -6], [-7, -8]]), np.array([[1.0, 2], [3, 4]])])


def test_an_average_counts_its_padding(backend):
    y, dx = pooled(AvgPool2d(2, padding=1), backend, [[4, 8], [12, 16]], [[4, 8], [12, 16]])
    assert_equal([y, dx], [np.array([[1.0, 2], [3, 4]])] * 2)


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
def test_pixels_under_no_window_get_nothing(pool, backend):
    x = np.random.default_rng(0).standard_normal((2, 6, 7, 3))
    layer = pool(2, stride=3)
    y, backward = layer.forward(backend.array(x))
    assert y.shape == (2, 2, 2, 3)  # the last column of pixels is left over
    dx = host(backward(y))
    assert not dx[:, 2].any()
    assert not dx[:, :, 2].any()
    assert not dx[:, :, 5:].any()
    assert dx.any()


@pytest.mark.parametrize("pool", [MaxPool2d, AvgPool2d])
def test_what_is_not_a_number_is_not_hidden(pool, backend):
    """A run watches for it."""
    for where in range(4):
        x = np.zeros((1, 2, 2, 1), np.float32)
        x[0, where // 2, where % 2] = np.nan
        with np.errstate(invalid="ignore"):
            assert np.isnan(host(pool(2).forward(backend.array(x))[0])).all()
            assert np.isnan(host(pool(2).predict(backend.array(x)))).all()


def test_a_window_over_all_of_it_is_the_mean_of_each_channel(backend):
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3))
    y, _ = AvgPool2d((5, 4)).forward(backend.array(x))
    assert_close([y], [x.mean(axis=(1, 2), keepdims=True)])


def test_what_is_kept_for_the_backward_is_small():
    """Not the patches, nor x: of a max one byte for each element of y."""
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    y, backward = MaxPool2d(3, stride=1).forward(x)
    held = [cell.cell_contents for cell in backward._dx.__closure__]
    arrays = [a for a in held if isinstance(a, np.ndarray)]
    assert [(a.dtype, a.shape) for a in arrays] == [(np.dtype(np.uint8), y.shape)]


def test_the_checker_is_content_with_ties():
    for pool in (MaxPool2d, AvgPool2d):
        assert gradcheck.check(pool(2), np.ones((2, 4, 4, 2))).ok


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (MaxPool2d(2), "MaxPool2d(kernel_size=2)"),
        (MaxPool2d(2, stride=2), "MaxPool2d(kernel_size=2)"),
        (MaxPool2d(3, stride=1, padding=1), "MaxPool2d(kernel_size=3, stride=1, padding=1)"),
        (
            AvgPool2d((3, 2), stride=(2, 1)),
            "AvgPool2d(kernel_size=(3, 2), stride=(2, 1))",
        ),
    ],
)
def test_a_pooling_is_written_as_it_is_made(layer, text):
    assert repr(layer) == text
    assert repr(eval(text)) == text
