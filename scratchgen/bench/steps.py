"""Our side: the five steps of `settings`, from a fixed batch to updated weights, the noise drawn anew each time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from scratchgen import models
from scratchgen.backend import Array, fast, load_kernels, transfer
from scratchgen.backend.threads import get_threads, set_threads
from scratchgen.bench.settings import SMALLEST, Setting
from scratchgen.optim import Adam, Optimizer
from scratchgen.version import __version__


@dataclass
class Step:
    """`run()` is one training step. Its parts are attributes, so that a profile can time each of them."""

    model: Any  # a models.Model
    images: int  # in a batch
    optimizers: Mapping[str, Optimizer]  # by the player whose weights they update; "" where there is one
    noise: Callable[[], Array | None]
    train: Callable[[Array | None], object]
    backend: str = "numpy"

    def run(self) -> object:
        return self.train(self.noise())

    @property
    def parameters(self) -> int:
        """How many elements are learned."""
        return sum(p.value.size for p in self.model.parameters())


def prepare(threads: int, backend: str = "numpy", precision: str = "float32") -> dict[str, Any]:
    """Use so many threads, and multiply in this precision on a GPU; says what runs here, and how many threads it has
    by its own account."""
    set_threads(threads)
    blas = [b.get("architecture", "unknown") for b in threadpool_info() if b["user_api"] == "blas"]
    about = {"scratchgen": __version__, "numpy": np.__version__, "threads": get_threads(), "blas": blas}
    about["numba"] = numba()
    return about | gpu(precision) if backend == "cupy" else about


def numba() -> str | None:
    """The version of Numba, where it compiles the kernels on a CPU."""
    if not fast.available():
        return None
    from importlib import metadata  # with what it imports 3 MiB, which are no part of a step

    return metadata.version("numba")


def make(setting: Setting, *, layout: str = "", seed: int = 0, backend: str = "numpy") -> Step:
    """The step of this setting, weights, batch and noise from `seed`; images are channels-last, there is no other
    `layout`. Everything is drawn on the host: on `backend` "cupy" it is the same step, its noise moved each time."""
    rng = np.random.default_rng(seed)
    shape = setting.size, setting.size, setting.channels
    if setting.width is not None:
        model: Any = models.dcgan(shape, width=setting.width, smallest=SMALLEST, rng=rng)
    else:
        dense: dict[str, Any] = {
            "ae": models.dense_autoencoder,
            "vae": models.dense_vae,
            "gan": models.dense_gan,
        }
        model = dense[setting.step](shape, rng=rng)
    model.to(backend)
    batch = rng.random((setting.batch, *shape), np.float32)
    if isinstance(model, models.GAN):
        batch = 2 * batch - 1
        d, g = models.dcgan_optimizers(model)  # Adam 2e-4, β₁ 0.5: the dense GAN's too
        optimizers = {"discriminator": d, "generator": g}
    else:
        optimizers = {"": Adam(model.parameters(), lr=1e-3)}
    x = transfer(batch, backend)

    def noise() -> Array | None:
        return None if setting.step == "ae" else transfer(model.noise(len(x), rng), backend)

    def train(noise: Array | None) -> object:
        return model.train_step(x, *(() if noise is None else (noise,)), *optimizers.values())

    return Step(model, len(x), optimizers, noise, train, backend)


# --- on a GPU ---


def gpu(precision: str) -> dict[str, Any]:
    """Multiply in this precision; says what the GPU is."""
    ops = load_kernels("cupy")
    ops.set_precision(precision)
    return {**ops.about(), "precision": precision}


def wait() -> None:
    """Return when all that is queued is done."""
    load_kernels("cupy").synchronize()


def pool() -> tuple[Callable[[], None], Callable[[], int]]:
    """Two functions: CuPy's memory pool gives back what is free; how many bytes it has taken from the GPU."""
    memory = load_kernels("cupy").xp.get_default_memory_pool()
    return memory.free_all_blocks, memory.total_bytes
