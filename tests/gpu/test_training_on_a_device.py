"""Training by the command line on a device: resumed exactly, near to the CPU's, and fed with the right batches."""

import contextlib

import numpy as np
import pytest
import tiny
from tiny import MODELS, run

from scratchgen.backend import to_host
from scratchgen.training.feed import feed


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with tiny data in it."""
    return tiny.folder_with_data(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["ae-conv", "vae", "points", "dcgan"])
def test_a_stopped_run_goes_on_bit_for_bit(name, here, device, monkeypatch):
    """As on the CPU: the same weights, statistics, moments, records."""
    command = ("train", *MODELS[name], "--epochs", "2", "--quiet", "--backend", "cupy")
    assert run(*command, "--out", "whole") == 0
    tiny.stop_after(monkeypatch, 3)
    assert run(*command, "--out", "stopped") == 130
    tiny.stop_after(monkeypatch, None)
    assert run("train", MODELS[name][0], "--resume", "stopped", "--quiet") == 0
    tiny.assert_same(tiny.outcome(here / "stopped"), tiny.outcome(here / "whole"))


@pytest.mark.parametrize("name", ["ae", "vae"])
def test_an_epoch_of_true_size_is_near_to_that_of_the_cpu(name, here, gpu):
    """The losses of an epoch on the 10,000 embedded digits; a GAN's would go other ways within it."""
    for backend, out in (("cupy", "device"), ("numpy", "host")):
        assert run("train", name, "--epochs", "1", "--quiet", "--backend", backend, "--out", out) == 0
    found, wanted = ([r for r in tiny.records(here / b) if r["kind"] == "epoch"][-1] for b in ("device", "host"))
    assert found.keys() == wanted.keys()
    numbers = [key for key, value in wanted.items() if isinstance(value, float) and key != "epoch"]
    assert numbers
    for key in numbers:
        assert found[key] == pytest.approx(wanted[key], rel=1e-2), key


@pytest.mark.parametrize("name", ["gan", "dcgan"])
def test_an_epoch_of_true_size_repeats_bit_for_bit(name, here, gpu):
    for out in ("first", "second"):
        width = ("--width", "32") if name == "dcgan" else ()
        assert run("train", name, *width, "--epochs", "1", "--quiet", "--backend", "cupy", "--out", out) == 0
    tiny.assert_same(tiny.outcome(here / "second"), tiny.outcome(here / "first"))


def test_what_the_feed_brings_while_the_device_is_busy(device):
    """Checksums of many batches: none came late, twice, or was overwritten before the work on it was done."""
    _check_feed(device, count=40, size=50, work=8)


def test_what_the_feed_brings_under_load(gpu):
    _check_feed(gpu, count=1000, size=128 * 28 * 28, work=4096)
    _check_feed(gpu, count=200, size=64 * 64 * 64 * 3, work=4096)


def _check_feed(backend, *, count: int, size: int, work: int) -> None:
    """The host's array is used again for each batch; a product of work³ is queued before each batch is read."""
    xp, rng = backend.xp, np.random.default_rng(0)
    weights = rng.integers(1, 1000, size).astype(np.float64)  # sums of whole numbers below 2⁵³ are exact
    there, busy = backend.array(weights), backend.array(rng.random((work, work), np.float32))
    batch, expected, found = np.empty(size, np.float32), [], []

    def batches():
        for i in range(count):
            batch[...] = rng.integers(0, 1000, size)
            n = size if i < count - 1 else size // 2 + 1  # the last one is smaller
            expected.append(float(batch[:n].astype(np.float64) @ weights[:n]))
            yield batch[:n]

    with contextlib.closing(feed(batches(), "cupy")) as fed:
        for moved in fed:
            busy @ busy
            found.append(xp.dot(moved.astype(np.float64), there[: len(moved)]).reshape(1))
    assert len(found) == count
    assert to_host(xp.concatenate(found)).tolist() == expected
