"""Threads in the tests: one for matrix products, which are small here, and more for the kernels where a test asks.

And the array libraries that they run on: `backends`. README.md says which file holds what.
"""

import io
import signal
from contextlib import redirect_stderr

import numpy as np
import pytest
from backends import backend, device, strict  # noqa: F401  fixtures
from threadpoolctl import threadpool_limits

from scratchgen import Random
from scratchgen.backend import threads
from scratchgen.backend.compiled import compiler

threadpool_limits(1)
with redirect_stderr(io.StringIO()):  # whichever test is the first to compile: it is said in a process but once
    compiler._announce()
# In a shell's background or under nohup these are ignored, and so they would be by all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def torch():
    torch = pytest.importorskip("torch", reason="needs PyTorch, the judge: the extra `oracle`")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(autouse=True)
def _layers_of_the_table_repeat_their_draws(request):
    """These tests evaluate a layer again and again and compare: there a Random one does not count its passes."""
    if "row" not in request.fixturenames:
        return
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(Random, "draw", lambda self: np.random.default_rng((int(self.seed), int(self.passes))))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def use_threads(monkeypatch):
    """use_threads(n): the kernels work on n threads, and cut even the smallest work; as it was when the test ends."""
    before = threads.get_threads()
    libraries = threads.numpys_blas()
    blas_threads = [library.get_num_threads() for library in libraries]
    monkeypatch.setattr(threads, "WORTH_WAKING", 0)
    yield threads.set_threads
    threads.set_threads(before)
    for library, n in zip(libraries, blas_threads, strict=True):
        library.set_num_threads(n)
