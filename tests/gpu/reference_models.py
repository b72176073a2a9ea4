"""Whole training steps of the five reference models, so that what two backends make of them can be compared.

    run = train("gan", small=True, backend="cupy", dtype=np.float32)

Weights, data and noise are drawn on the host from one seed, so they are the same everywhere.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scratchgen import GAN, Adam, BatchNorm, Dense, Flatten, LeakyReLU, Reshape, Sequential, Tanh, models
from scratchgen.backend import load_kernels, to_host, transfer

STEPS = 10
KINDS = ("ae", "vae", "gan", "dcgan28", "dcgan64")


@dataclass
class Run:
    """What came of it, on the host in float64. Arrays are by player ("model" where there is one), end to end.

    `idle` parameters are left out. BatchNorm takes away what a bias before it adds, so the gradient of that bias is 0
    but for rounding, and Adam, which looks at no gradient's size, makes steps of up to lr of this: nobody's error.
    """

    losses: np.ndarray  # (steps, losses)
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]  # of the first step, by parameter: Adam hides their scale, this does not
    bits: dict[str, bytes]  # all that the model is, statistics and idle parameters too


def train(kind: str, *, small: bool, backend: str, dtype, steps: int = STEPS, seed: int = 0) -> Run:
    """So many training steps on this backend, in float32 products where it is float32."""
    if backend == "cupy":
        load_kernels("cupy").set_precision("float32")
    rng = np.random.default_rng(seed)
    model, x, latent = _model(kind, small, rng)
    model.astype(dtype).to(backend)
    x = transfer(x.astype(dtype), backend)
    if isinstance(model, GAN):
        d, g = models.dcgan_optimizers(model)
        optimizers = {"discriminator": d, "generator": g}
    else:
        optimizers = {"model": Adam(model.parameters(), lr=1e-3)}
    names = {id(p): name for name, p in model.named_parameters().items()}
    live = {player: [p for p in o.parameters if id(p) not in _idle(model)] for player, o in optimizers.items()}

    def weights():
        return {
            player: np.concatenate([_exact(p.value).ravel() for p in parameters])
            for player, parameters in live.items()
        }

    gradients = {}

    def look(optimizer):
        if optimizer.t == 0:
            gradients.update(
                {names[id(p)]: _exact(p.grad) for p in optimizer.parameters if id(p) not in _idle(model)}
            )

    for optimizer in optimizers.values():
        optimizer.before_step = look
    before, losses = weights(), []
    for _ in range(steps):
        if latent is None:
            found = model.train_step(x, *optimizers.values())
        else:
            noise = transfer(rng.standard_normal((len(x), latent)).astype(dtype), backend)
            found = model.train_step(x, noise, *optimizers.values())
        losses.append(found if isinstance(found, tuple) else (found,))
    losses = np.array([[float(loss) for loss in step] for step in losses])
    bits = {name: to_host(array).tobytes() for name, array in model.state().items()}
    return Run(losses, before, weights(), gradients, bits)


def _exact(array) -> np.ndarray:
    return to_host(array).astype(np.float64)


def _idle(model) -> set[int]:
    """The ids of the biases that a BatchNorm follows."""
    chains = [module.layers for module in model.modules() if isinstance(module, Sequential)]
    pairs = [pair for layers in chains for pair in pairwise(layers)]
    biases = [layer.b for layer, following in pairs if isinstance(following, BatchNorm)]
    return {id(b) for b in biases if b is not None}


def _model(kind: str, small: bool, rng):
    """The model, its batch, and the size of its noise. `small` for where a step takes long."""
    shape = (6, 6, 1) if small else (28, 28, 1)
    if kind == "ae":
        model = models.dense_autoencoder(shape, **({"hidden": (12, 9), "latent": 4} if small else {}), rng=rng)
        return model, _images(rng, 5 if small else 128, *shape), None
    if kind == "vae":
        model = models.dense_vae(shape, **({"hidden": (12,), "latent": 3} if small else {}), rng=rng)
        return model, _images(rng, 5 if small else 128, *shape), model.latent
    if kind == "gan":
        model = _small_gan(rng) if small else models.dense_gan(rng=rng)
        batch = _images(rng, 6 if small else 64, *shape)
    elif kind == "dcgan28":
        model = models.dcgan((28, 28, 1), width=2 if small else 64, rng=rng)
        batch = _images(rng, 3 if small else 128, 28, 28, 1)
    else:
        model = models.dcgan((64, 64, 3), width=1 if small else 16, rng=rng)
        batch = _images(rng, 2 if small else 32, 64, 64, 3)
    return model, 2 * batch - 1, model.latent


def _images(rng, count: int, *shape):
    return rng.random((count, *shape))


def _small_gan(rng) -> GAN:
    """As `dense_gan`, narrower."""
    generator = Sequential(
        Dense(5, 8, rng=rng), LeakyReLU(0.2), Dense(8, 12, rng=rng), BatchNorm(12), LeakyReLU(0.2),
        Dense(12, 36, rng=rng), Tanh(), Reshape(6, 6, 1),
    )  # fmt: skip
    discriminator = Sequential(Flatten(), Dense(36, 10, rng=rng), LeakyReLU(0.2), Dense(10, 1, rng=rng))
    return GAN(generator, discriminator, 5)
