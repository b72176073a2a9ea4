"""The array libraries that the suite runs on: a test that takes the fixture `backend` is run on each of them.

    def test_something(backend):
        layer, x = layer.to(backend.name), backend.array(x)  # in its memory
        y, backward = layer.forward(x)
        assert_close([y], [expected])  # what compares brings both sides to the host

numpy    the CPU.
standin  the strict stand-in for CuPy (package `standin`), on every machine: the library believes that it is CuPy.
cupy     CuPy itself on an NVIDIA GPU, marked `gpu`: left out unless asked for, pytest -m gpu.

A test without the fixture is about NumPy alone (subclasses that watch, pickles, lists), or about no array at all. One
that takes `device` in its place is about the difference, and runs on the last two; `strict` is the stand-in alone.

What the stand-in shows: the library calls no function, method or keyword that CuPy lacks; hands nothing of the device
to NumPy, and nothing of NumPy's to the device, but by the two doors `from_numpy` and `to_numpy`; reads no memory
before it is written; launches the kernels with arguments that fit them; and these, compiled for the CPU, together
with the code that calls them, give the gradients that PyTorch and central differences give. So a test of a formula
is one of the kernel, too.

What it cannot show: races between threads and blocks, and whatever else needs many at a time; exp, log, tanh and the
sums of cuBLAS as a GPU rounds them, TF32; memory that runs out; work that is queued when it should have been awaited,
but for copies; speed. For these there is the third.
"""

import copy
import functools
import inspect
import shutil
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import standin
from hypothesis import given, settings

from scratchgen import BackendUnavailable, Layer, Module
from scratchgen.backend import backend_of, load_kernels, to_host, transfer

FEWER = 5  # a stand-in takes this many times as long as NumPy, so it gets one example of so many


def host(value):
    """The NumPy array of a device's array; anything else as it is."""
    return to_host(value) if type(value).__module__.partition(".")[0] == "cupy" else value


def like(array, values):
    """These numbers in the library and the dtype of an array."""
    return transfer(np.asarray(values, array.dtype), backend_of(array))


@dataclass(frozen=True)
class Backend:
    """An array library by the name that ours has for it: "numpy" or "cupy"."""

    name: str

    @property
    def is_host(self) -> bool:
        return self.name == "numpy"

    @property
    def ops(self):
        """The module of its kernels, as the layers see it."""
        return load_kernels(self.name)

    @property
    def xp(self):
        return self.ops.xp

    def array(self, value):
        """A copy of a NumPy array in this library; what is no array as it is."""
        return self.ops.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value

    def arrays(self, *values) -> list:
        """A copy of each."""
        return [self.array(value) for value in values]

    host = staticmethod(host)

    def ferry(self, target):
        """A layer or a loss, of a model or not, that works here and is spoken to in NumPy, for a gradient check."""
        if self.is_host:
            return target
        if isinstance(target, Layer):
            return FerriedLayer(target, self)
        if isinstance(getattr(target, "__self__", None), Module):  # a loss of a model
            return getattr(FerriedModel(target.__self__, self), target.__name__)
        return _ferried_function(target, self)


NUMPY = Backend("numpy")


@pytest.fixture(params=["numpy", "standin", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """Each array library in turn."""
    yield from _installed(request.param)


@pytest.fixture(params=["standin", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request):
    """Each of those whose arrays are not NumPy's."""
    yield from _installed(request.param)


@pytest.fixture
def strict():
    """The stand-in alone: for what only it refuses, or counts."""
    yield from _installed("standin")


def _installed(which: str):
    if which == "numpy":
        yield NUMPY
    elif which == "standin":
        if shutil.which("g++") is None:
            pytest.skip("needs g++, which compiles the CUDA sources for the CPU")
        with standin.installed():
            yield Backend("cupy")
    else:
        try:
            with warnings.catch_warnings(action="ignore"):  # of CuPy's own
                load_kernels("cupy")
        except BackendUnavailable as error:
            pytest.skip(str(error))
        yield Backend("cupy")


# --- drawn examples ------------------------------------------------------------------------------------------------


def drawn(examples: int, *strategies, **named):
    """Run a test that takes `backend` on drawn examples, the same in every run; on fewer where that is not NumPy."""

    def decorate(test):
        many, few = (
            settings(max_examples=n, derandomize=True, deadline=None, database=None)(
                given(*strategies, **named)(test)
            )
            for n in (examples, max(1, examples // FEWER))
        )

        @functools.wraps(test, updated=())
        def run(backend, **others):
            (many if backend.is_host else few)(backend=backend, **others)

        run.__signature__ = inspect.signature(many)  # what pytest has to fill in
        return run

    return decorate


# --- ferries --------------------------------------------------------------------------------------------------------


class _Ferried(Module):
    """Its parameters and buffers are on the host; before each evaluation they are copied to a twin over there."""

    def __init__(self, module: Module, backend: Backend):
        self.module = module
        self.backend = backend
        twin = copy.deepcopy(module).to(backend.name)
        self.twin = lambda: twin  # not among its members

    def call(self, method: str, *arrays):
        """y, and a pullback that adds the gradients of the parameters here."""
        backend, here, there = self.backend, self.module, self.twin()
        for p, q in zip(here.parameters(), there.parameters(), strict=True):
            q.value = backend.array(p.value)
        pairs = list(zip(here.modules(), there.modules(), strict=True))
        for m, t in pairs:
            for name in type(m).counters:
                setattr(t, name, getattr(m, name))
        buffers = [(m, t, name) for m, t in pairs for name in m.buffers]
        for m, t, name in buffers:
            setattr(t, name, backend.array(getattr(m, name)))
        result = getattr(there, method)(*backend.arrays(*arrays))
        for m, t, name in buffers:
            setattr(m, name, host(getattr(t, name)))
        for m, t in pairs:
            for name in type(m).counters:
                setattr(m, name, getattr(t, name))
        if method == "predict":
            return host(result)
        y, backward = result

        def pull(*dy):
            there.zero_grad()
            dx = backward(*backend.arrays(*dy))
            for p, q in zip(here.parameters(), there.parameters(), strict=True):
                p.grad += host(q.grad)
            return host(dx)

        return host(y), pull

    def __repr__(self):
        return f"{self.module!r} on {self.backend.name}"


class FerriedLayer(_Ferried, Layer):
    def forward(self, x):
        y, pull = self.call("forward", x)
        return y, lambda dy: pull(dy)

    def predict(self, x):
        return self.call("predict", x)


class FerriedModel(_Ferried):
    @property
    def player(self):
        return {loss: f"module.{network}" for loss, network in getattr(self.module, "player", {}).items()}

    def loss(self, *batch):
        return self._loss("loss", *batch)

    def discriminator_loss(self, *batch):
        return self._loss("discriminator_loss", *batch)

    def generator_loss(self, *batch):
        return self._loss("generator_loss", *batch)

    def _loss(self, method, *batch):
        value, pull = self.call(method, *batch)
        return value, lambda: pull()


def _ferried_function(loss, backend):
    @functools.wraps(loss)
    def ferried(*arguments):
        return tuple(map(host, loss(*backend.arrays(*arguments))))

    return ferried
