"""Our side: the five steps of `settings`, from a fixed batch to updated weights, the noise drawn anew each time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen import models
from scratchgen.backend import transfer
from scratchgen.backend.threads import get_threads, set_threads
from scratchgen.bench.settings import SMALLEST, Setting
from scratchgen.optim import Adam, Optimizer
from scratchgen.version import __version__


@dataclass
class Step:
    """`run()` is one training step. Its parts are attributes, so that a profile can time each of them."""

    model: models.Model
    images: int  # in a batch
    optimizers: Mapping[str, Optimizer]  # by the player whose weights they update; "" where there is one
    noise: Callable[[], np.ndarray | None]
    train: Callable[[np.ndarray | None], object]
    backend: str = "numpy"

    def run(self):
        return self.train(self.noise())

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.value.size for p in self.model.parameters())


def prepare(threads: int) -> dict:
    """Use so many threads; says what runs here, and how many threads it has by its own account."""
    set_threads(threads)
    return {
        "scratchgen": __version__,
        "numpy": np.__version__,
        "threads": get_threads(),
        "blas": [b.get("architecture", "unknown") for b in threadpool_info() if b["user_api"] == "blas"],
    }


def make(setting: Setting, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The step of this setting, weights, batch and noise from `seed`; images are channels-last, there is no other
    `layout`. Everything is drawn on the host: on `backend` "cupy" it is the same step, its noise moved each time."""
    rng = np.random.default_rng(seed)
    if setting.convolutional:
        return _dcgan(setting, rng, backend)
    return {"ae": _autoencoder, "vae": _vae, "gan": _gan}[setting.step](setting, rng, backend)


def _autoencoder(setting, rng, backend):
    model = models.dense_autoencoder(rng=rng).to(backend)
    optimizer = Adam(model.parameters(), lr=1e-3)
    x = transfer(rng.random((setting.batch, 28, 28, 1), np.float32), backend)
    return Step(model, len(x), {"": optimizer}, lambda: None, lambda _: model.train_step(x, optimizer), backend)


def _vae(setting, rng, backend):
    model = models.dense_vae(rng=rng).to(backend)
    optimizer = Adam(model.parameters(), lr=1e-3)
    x = transfer(rng.random((setting.batch, 28, 28, 1), np.float32), backend)
    return Step(
        model,
        len(x),
        {"": optimizer},
        noise=lambda: transfer(rng.standard_normal((len(x), model.latent), np.float32), backend),
        train=lambda eps: model.train_step(x, eps, optimizer),
        backend=backend,
    )


def _gan(setting, rng, backend):
    return _game(models.dense_gan(rng=rng), (setting.batch, 28, 28, 1), rng, backend)


def _dcgan(setting, rng, backend):
    shape = (setting.size, setting.size, setting.channels)
    model = models.dcgan(shape, width=setting.width, smallest=SMALLEST, rng=rng)
    return _game(model, (setting.batch, *shape), rng, backend)


def _game(model, shape, rng, backend):
    model.to(backend)
    d, g = models.dcgan_optimizers(model)  # Adam 2e-4, β₁ 0.5: the dense GAN's too
    x = transfer(2 * rng.random(shape, np.float32) - 1, backend)
    return Step(
        model,
        len(x),
        {"discriminator": d, "generator": g},
        noise=lambda: transfer(model.noise(len(x), rng), backend),
        train=lambda z: model.train_step(x, z, d, g),
        backend=backend,
    )
