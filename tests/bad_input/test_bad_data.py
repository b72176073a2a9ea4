"""Bad input to what reads, holds and hands out data: at the call, before anything is read, drawn or written.

What is wrong inside of files is in test_data*.py, beside what is right there.
"""

import os

import numpy as np
import pytest

from scratchgen.data import Dataset, epoch_rng, load, load_folder, minibatches, resized, write_idx

RNG = np.random.default_rng(0)


def images(n: int = 2, size: int = 4) -> np.ndarray:
    return np.zeros((n, size, size, 3), np.uint8)


def labels(*shape: int) -> np.ndarray:
    return np.zeros(shape or 2, np.uint8)


def _named(train, test, classes):
    parts = (None if part is None else np.array(part, np.uint8) for part in (train, test))
    return images(), next(parts), images(), next(parts), classes


DATASETS = [  # what a Dataset is made of, the error, and what it says
    ((images() / 255, labels(), images(), labels()), TypeError, "train images must be a uint8 .*float64"),
    ((images(), [1, 2], images(), labels()), TypeError, "train labels must be a uint8 .*not list"),
    ((images(), labels(), images()[..., 0], labels()), ValueError, "test images need shape"),
    ((images(), labels(3), images(), labels()), ValueError, r"2 train images .*\(2,\), not \(3,\)"),
    ((images(), labels(), images(), labels(2, 1)), ValueError, r"2 test images .*not \(2, 1\)"),
    ((images(), labels(), images(2, 5), labels()), ValueError, r"must be \(4, 4, 3\) .*not \(5, 5, 3\)"),
    (_named(None, [0, 1], ()), ValueError, "labels are needed in both parts or in none"),
    (_named([0, 1], None, ()), ValueError, "both parts or in none"),
    (_named(None, None, ("a",)), ValueError, "names of classes need labels"),
    (_named([0, 2], [0, 1], ("a", "b")), ValueError, "train labels go up to 2; 2 classes are named"),
    (_named([0, 1], [0, 2], ("a", "b")), ValueError, "test labels go up to 2; 2 classes are named"),
    (_named([0, 1, 0], [0, 1], ("a", "b")), ValueError, r"2 train images need labels of shape \(2,\)"),
]
ARRAYS = [  # what write_idx is to write
    ([1, 2], TypeError, "holds a NumPy array, not list"),
    (np.zeros(3, np.int64), TypeError, "cannot hold int64; it holds uint8, int8, int16"),
    (np.zeros(3, bool), TypeError, "cannot hold bool"),
    (np.zeros(3, np.float16), TypeError, "cannot hold float16"),
    (np.zeros((), np.uint8), ValueError, r"1 or more sizes .* not shape \(\)"),
    (np.broadcast_to(np.uint8(0), (2**32,)), ValueError, r"at most 4294967295, not shape \(4294967296,\)"),
]
BATCHES = [  # the arguments of minibatches
    (([1, 2], 1, RNG), {}, TypeError, "images must be a NumPy array, not list"),
    ((np.zeros((0, 28, 28, 1), np.uint8), 1, RNG), {}, ValueError, "at least one image"),
    ((np.zeros((3, 0)), 1, RNG), {}, ValueError, r"at least one image, not shape \(3, 0\)"),
    ((np.float32(1)[...], 1, RNG), {}, ValueError, r"at least one image, not shape \(\)"),
    ((np.zeros(3, np.int64), 1, RNG), {}, TypeError, "must be uint8, float32 or float64, not int64"),
    ((np.zeros(3, np.float16), 1, RNG), {}, TypeError, "not float16"),
    ((np.zeros(3), 0, RNG), {}, ValueError, "batch_size is 0, needs at least 1"),
    ((np.zeros(3), -2, RNG), {}, ValueError, "batch_size is -2, needs at least 1"),
    ((np.zeros(3), 1.0, RNG), {}, TypeError, "batch_size is 1.0, needs an integer"),
    ((np.zeros(3), True, RNG), {}, TypeError, "batch_size is True, needs an integer"),
    ((np.zeros(3), "2", RNG), {}, TypeError, "batch_size is '2', needs an integer"),
    ((np.zeros(3), 1, 0), {}, TypeError, "rng must be a numpy.random.Generator, not int"),
    ((np.zeros(3), 1, np.random), {}, TypeError, "rng must be a numpy.random.Generator, not module"),
    ((np.zeros(3), 2, RNG), {"start": -1}, ValueError, "start is -1, needs at least 0"),
    ((np.zeros(3), 2, RNG), {"start": 3}, ValueError, "start must be 0 to 2, the number of batches, not 3"),
    ((np.zeros(3), 2, RNG), {"start": 2, "drop_last": True}, ValueError, "start must be 0 to 1"),
    ((np.zeros(3), 2, RNG), {"start": 0.5}, TypeError, "start is 0.5, needs an integer"),
    ((np.zeros(3), 4, RNG), {"drop_last": True}, ValueError, "leaves no batch: 3 images, batch_size 4"),
]
EPOCHS = [  # seed and epoch
    ((-1, 0), ValueError, "seed is -1, needs at least 0"),
    ((0, -1), ValueError, "epoch is -1, needs at least 0"),
    ((0.0, 0), TypeError, "seed is 0.0, needs an integer"),
    ((None, 0), TypeError, "seed is None, needs an integer"),
    ((0, True), TypeError, "epoch is True, needs an integer"),
]
FOLDERS = [  # the arguments of load_folder
    (3, {}, TypeError, "path must be a directory, not int"),
    ("nowhere", {}, FileNotFoundError, "nowhere: is not a directory"),
    (".", {"size": 0}, ValueError, "load_folder: size is 0, needs at least 1"),
    (".", {"size": 1.5}, TypeError, "load_folder: size is 1.5, needs an integer"),
    (".", {"size": (64,)}, ValueError, r"load_folder: size is \(64,\), needs one side in pixels, or \(height"),
    (".", {"size": (32, 0)}, ValueError, "load_folder: size is 0, needs at least 1"),
    (".", {"size": "32x64"}, TypeError, "load_folder: size is '32x64', needs an integer"),
    (".", {"channels": 2}, ValueError, "load_folder: channels is 2, needs 1 .* or 3"),
    (".", {"channels": "RGB"}, TypeError, "load_folder: channels is 'RGB'"),
]
SOURCES = [  # the arguments of load
    (3, {}, TypeError, "source must be None, a name or a directory, not int"),
    ("sample", {"image_size": 0}, ValueError, "load: image_size is 0, needs at least 1"),
    ("nowhere", {"image_size": "64"}, TypeError, "load: image_size is '64', needs an integer"),
    ("sample", {"channels": 4}, ValueError, "load: channels is 4, needs 1 .* or 3"),
    ("sample", {"image_size": (32, 64, 3)}, ValueError, r"load: image_size is \(32, 64, 3\), needs one side"),
    ("ring", {"image_size": 32}, ValueError, "ring: points have neither image_size nor channels"),
    ("moons", {"channels": 1}, ValueError, "moons: points have neither"),
]
SIZES = [((0,), ValueError), ((4.0,), TypeError), ((4, 2), ValueError), ((4, True), TypeError)]  # of resized
SQUARES = Dataset("squares", images(), labels(), images(), labels())
CALLS = [
    *((Dataset, ("squares", *parts), {}, error, f"squares: .*{says}") for parts, error, says in DATASETS),
    *((write_idx, ("a.idx", array), {}, error, rf"a\.idx: .*{says}") for array, error, says in ARRAYS),
    *((minibatches, *rest) for rest in BATCHES),
    *((epoch_rng, arguments, {}, error, says) for arguments, error, says in EPOCHS),
    *((load_folder, (path,), options, error, says) for path, options, error, says in FOLDERS),
    *((load, (source,), options, error, says) for source, options, error, says in SOURCES),
    *((resized, (SQUARES, *size), {}, error, "resized: ") for size, error in SIZES),
]


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error", "says"),
    CALLS,
    ids=[f"{call[0].__name__}-{i}" for i, call in enumerate(CALLS)],
)
def test_bad_arguments_are_refused_at_the_call(function, arguments, options, error, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = RNG.bit_generator.state
    with pytest.raises(error, match=says):
        function(*arguments, **options)
    assert RNG.bit_generator.state == state  # nothing was drawn
    assert os.listdir(tmp_path) == []
