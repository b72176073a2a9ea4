"""What the tests of the benchmark share: small steps, a count of their arithmetic by hand, sides in this process."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from scratchgen.backend.threads import get_threads, set_threads
from scratchgen.bench import ceilings, children, compare, kernels, launches, profile, steps, worker
from scratchgen.bench.settings import SETTINGS

SMALL = {
    "ae": SETTINGS["ae"].vary(batch=3),
    "vae": SETTINGS["vae"].vary(batch=3),
    "gan": SETTINGS["gan"].vary(batch=3),
    "dcgan28": SETTINGS["dcgan28"].vary(batch=2, width=2),
    "dcgan64": SETTINGS["dcgan64"].vary(batch=2, width=1),
}
AE, VAE = (784, 512, 128, 32, 128, 512, 784), ((784, 400, 40), (20, 400, 784))
GAN = (100, 128, 256, 512, 1024, 784), (784, 512, 256, 1)
QUICK = (
    (children, "TURN", 0.01),
    (children, "PAUSE", 0.0),
    (worker, "WARM", 0.0),
    (worker, "BLOCK", 1),
    (worker, "STEPS_HELD", 1),
    (profile, "QUEUED", 1),
    (profile, "LEAST_STEPS", 2),
    (kernels, "REPEATS", 2),
    (kernels, "READINGS", 1),
    (kernels, "AHEAD", 1),
    (ceilings, "COPIED", 1000),
    (compare, "SGEMM_SIZES", {"numpy": 64, "cupy": 16}),
)


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Short turns, small products and copies, elsewhere; the threads of the tests as they were."""
    monkeypatch.chdir(tmp_path)
    for place in QUICK:
        monkeypatch.setattr(*place)
    before = get_threads()
    yield
    set_threads(before)


def written(file) -> dict:
    return json.loads(Path(file).read_text(encoding="utf-8"))


# --- arithmetic by hand ---


def dense(sizes) -> list[int]:
    """Multiplications of each layer for one sample."""
    return [n_in * n_out for n_in, n_out in pairwise(sizes)]


def dcgan(setting) -> tuple[list[int], list[int]]:
    """Multiplications of each layer of G and of D for one image: (size of the small map)² · kernel² · in · out."""
    size, width, colours = setting.size, setting.width, setting.channels
    if size == 28:
        inner = [(14, 4, colours, width), (7, 4, width, 2 * width)]
        base, wide = 7, 2 * width
    else:
        inner = [(size >> k + 1, 4, width << k - 1 if k else colours, width << k) for k in range(4)]
        base, wide = 4, 8 * width
    maps = [n * n * k * k * c * o for n, k, c, o in inner]
    return [base * base * 100 * wide, *reversed(maps)], [*maps, base * base * wide]


def by_hand(setting) -> int:
    """Operations of one step: forward, dW, and dx but for the entrance; a frozen D needs no dW, but its dx."""
    name = setting.step
    if name in ("ae", "vae"):
        layers = dense(AE) if name == "ae" else dense(VAE[0]) + dense(VAE[1])
        total = 3 * sum(layers) - layers[0]
    else:
        g, d = map(dense, GAN) if name == "gan" else dcgan(setting)
        total = 3 * sum(g) - g[0] + 2 * (3 * sum(d) - d[0]) + 2 * sum(d)
    return 2 * setting.batch * total


# --- sides in this process, on the stand-in ---


class Inside:
    """A side that works in this process, and is asked in JSON as if it were another."""

    started: list[tuple[str, str | None]] = []

    def __init__(self, side, *, threads, blas=None, backend, precision):
        self.side, self.worker = side, worker.Worker(side, backend, precision)
        self.started.append((side, precision))
        about = self.ask("prepare", threads=threads)
        self.missing = about.get("missing")
        self.about = None if self.missing else about

    def ask(self, do, **arguments):
        return json.loads(json.dumps(getattr(self.worker, do)(**json.loads(json.dumps(arguments)))))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def close(self):
        pass


@pytest.fixture
def inside(strict, monkeypatch):
    """All sides in this process, without PyTorch, JAX and Numba; the list of those that were started."""
    plain = worker.load

    def load(side):
        if side in worker.OTHERS:
            raise ImportError("there is none")
        return plain(side)

    monkeypatch.setattr(worker, "load", load)
    monkeypatch.setattr(steps, "numba", lambda: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(compare, "Child", Inside)
    monkeypatch.setattr(Inside, "started", [])
    return Inside.started


class FakeTorch:
    """In the place of PyTorch's side on a GPU: a step is nothing."""

    parameters, images = 7, 2
    about = {"torch": "9.9", "cuda": "12.8", "cudnn": 91002, "device": "Stand-in for a GPU", "threads": 1}
    about |= {"tf32_products": False, "tf32_convolutions": False, "cudnn_benchmark": True}

    def __init__(self):
        self.made = []

    def prepare(self, threads, backend, precision):
        return self.about

    def make(self, setting, *, layout, seed, backend):
        self.made.append((setting, layout))
        return self

    def run(self):
        sum(range(2000))

    def wait(self):
        pass

    def pool(self):
        return self.wait, lambda: 64 * 2**20


@pytest.fixture
def with_torch(inside, monkeypatch):
    """PyTorch's side faked, and the profiler that counts."""
    fake, plain = FakeTorch(), worker.load
    monkeypatch.setattr(worker, "load", lambda side: fake if side == "torch" else plain(side))
    counted = iter([{"kernels": 90.0, "copies": 1.0}, {"kernels": 200.5, "copies": 0.0}, {"missing": "lost"}] * 9)
    monkeypatch.setattr(launches, "count", lambda run, wait: next(counted))
    return fake
