"""Our side: the five steps of `settings`, from a fixed batch to updated weights, the noise drawn anew each time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen import models
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


def make(setting: Setting, *, layout: str = "", seed: int = 0) -> Step:
    """The step of this setting, weights, batch and noise from `seed`; images are channels-last, there is no other
    `layout`."""
    rng = np.random.default_rng(seed)
    if setting.convolutional:
        return _dcgan(setting, rng)
    return {"ae": _autoencoder, "vae": _vae, "gan": _gan}[setting.step](setting, rng)


def _autoencoder(setting, rng):
    model = models.dense_autoencoder(rng=rng)
    optimizer = Adam(model.parameters(), lr=1e-3)
    x = rng.random((setting.batch, 28, 28, 1), np.float32)
    return Step(model, len(x), {"": optimizer}, lambda: None, lambda _: model.train_step(x, optimizer))


def _vae(setting, rng):
    model = models.dense_vae(rng=rng)
    optimizer = Adam(model.parameters(), lr=1e-3)
    x = rng.random((setting.batch, 28, 28, 1), np.float32)
    return Step(
        model,
        len(x),
        {"": optimizer},
        noise=lambda: rng.standard_normal((len(x), model.latent), np.float32),
        train=lambda eps: model.train_step(x, eps, optimizer),
    )


def _gan(setting, rng):
    return _game(models.dense_gan(rng=rng), (setting.batch, 28, 28, 1), rng)


def _dcgan(setting, rng):
    shape = (setting.size, setting.size, setting.channels)
    return _game(models.dcgan(shape, width=setting.width, smallest=SMALLEST, rng=rng), (setting.batch, *shape), rng)


def _game(model, shape, rng):
    d, g = models.dcgan_optimizers(model)  # Adam 2e-4, β₁ 0.5: the dense GAN's too
    x = 2 * rng.random(shape, np.float32) - 1
    return Step(
        model,
        len(x),
        {"discriminator": d, "generator": g},
        noise=lambda: model.noise(len(x), rng),
        train=lambda z: model.train_step(x, z, d, g),
    )
