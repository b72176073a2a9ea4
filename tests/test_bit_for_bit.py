"""Two runs with one seed end with the same weights bit for bit: every model, on any number of threads, under load."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest

from scratchgen import Adam, dcgan, dcgan_optimizers, dense_autoencoder, dense_gan, dense_vae
from scratchgen.backend import threads
from scratchgen.backend.numpy_ops import dense, memory

BATCH, STEPS = 12, 2


def _autoencoder(rng):
    model = dense_autoencoder(rng=rng)
    optimizer = Adam(model.parameters())
    return model, lambda: model.train_step(rng.random((BATCH, 28, 28, 1), np.float32), optimizer)


def _vae(rng):
    model = dense_vae(rng=rng)
    optimizer = Adam(model.parameters())

    def step():
        x, eps = rng.random((BATCH, 28, 28, 1), np.float32), rng.standard_normal((BATCH, model.latent), np.float32)
        return model.train_step(x, eps, optimizer)

    return model, step


def _game(make, shape):
    def start(rng):
        model = make(rng)
        optimizers = dcgan_optimizers(model)

        def step():
            real = 2 * rng.random((BATCH, *shape), np.float32) - 1
            return model.train_step(real, model.noise(BATCH, rng), *optimizers)

        return model, step

    return start


MODELS = {
    "ae": _autoencoder,
    "vae": _vae,
    "gan": _game(lambda rng: dense_gan(rng=rng), (28, 28, 1)),
    "dcgan of 28": _game(lambda rng: dcgan((28, 28, 1), width=8, rng=rng), (28, 28, 1)),
    "dcgan of 64": _game(lambda rng: dcgan((64, 64, 3), width=8, smallest=4, rng=rng), (64, 64, 3)),
}


def run(start) -> dict[str, bytes]:
    """Every weight, statistic, loss and moment after some steps from one seed."""
    model, step = start(np.random.default_rng(7))
    losses = [np.array(step()) for _ in range(STEPS)]
    assert np.isfinite(losses).all()
    return {"losses": np.array(losses).tobytes(), **{name: a.tobytes() for name, a in model.state().items()}}


def same(a, b) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


@contextmanager
def meanwhile(work):
    """Another thread of the user's, which does this again and again."""
    stop, turns = threading.Event(), []

    def go_on():
        while not stop.is_set():
            work()
            turns.append(1)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert turns


def a_neighbour():
    """One step of a small model, which takes workers, memory and BLAS's threads as any other does."""
    rng = np.random.default_rng(1)
    return _game(lambda rng: dcgan((16, 16, 1), width=4, smallest=4, rng=rng), (16, 16, 1))(rng)[1]


@pytest.fixture
def cut(use_threads, monkeypatch):
    """cut(n): n threads for all work that is not tiny, and most arrays of memory that is used again."""

    def use(n):
        use_threads(n)
        monkeypatch.setattr(threads, "WORTH_WAKING", 2e4)
        monkeypatch.setattr(memory, "LARGE", 1 << 12)

    return use


@pytest.mark.parametrize("model", MODELS)
def test_any_number_of_threads(model, cut, monkeypatch):
    """On threads of ours; those of BLAS take part where NumPy is loaded after scratchgen: `test_threads`."""
    monkeypatch.setattr(dense, "BLAS_THREADS", False)
    cut(1)
    alone = run(MODELS[model])
    for n in (1, 2, 3, 8):
        cut(n)
        same(run(MODELS[model]), alone)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_on_a_busy_machine(model, cut):
    cut(2)
    alone = run(MODELS[model])
    a = np.ones((150, 150), np.float32)
    with meanwhile(lambda: (a @ a, sum(range(1000)))):
        same(run(MODELS[model]), alone)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_beside_another_one(model, cut):
    """Two threads of the user's train at once: each gets what it gets alone."""
    cut(2)
    alone = run(MODELS[model])
    with meanwhile(a_neighbour()):
        same(run(MODELS[model]), alone)
