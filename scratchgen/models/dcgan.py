"""The deep convolutional GAN, in the style and with the settings of Radford et al. 2016, for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchgen import checks, init
from scratchgen.layers import (
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Layer,
    LeakyReLU,
    ReLU,
    Reshape,
    Sequential,
    Tanh,
)
from scratchgen.models.gan import GAN
from scratchgen.optim import Adam


def dcgan(
    image_shape: Sequence[int] = (28, 28, 1),
    latent: int = 100,
    width: int = 64,
    *,
    smallest: int = 4,
    loss: str = "non-saturating",
    smoothing: float = 0.0,
    prior: str = "normal",
    rng: np.random.Generator | None = None,
) -> GAN:
    """A DCGAN for images (H, W, C) in [−1, 1] of any size from 8 pixels, square or not: 28, 32, 64, 128, 32×64.

        G   z → base             ConvT, kernel base: the "fully connected" layer as a convolution
              → twice the size   ConvT, kernel 4, stride 2, padding 1, until the image is reached
        D   the mirror image:    Conv, kernel 4, stride 2, padding 1, down to base, Conv, kernel base → 1 logit

    Both sides are halved together until both are at most `smallest`; what is left is the base (28 → 14 → 7 → 4; 32,
    64 and 128 → 4; 32×64 → 16×32 → 8×16 → 4×8 → 2×4). Along an odd side n the kernel is 3, which takes it to
    (n + 1)/2 and back. Next to the image there are `width` channels, and twice as many for each halving.

    D's last layer is linear in the features of its base. With `smallest=7`, 28 → 14 → 7, each of these has seen a
    patch of 10 pixels, and nothing but their sum judges whether strokes form a digit; the layer more that the default
    has sees the whole image, and digits hold together sooner (demos/RESULTS.md).

    Batch normalisation after every layer *except G's output and D's input*: there it would force each batch of images
    to mean 0 and variance 1 per channel, which real images do not have, and the paper found that samples then
    oscillate. A bias before BatchNorm would be cancelled by its mean, and none is used elsewhere. ReLU in G with tanh
    at its output, LeakyReLU 0.2 in D, weights N(0, 0.02²). (Radford et al. 2016, §3 and §4; their figure 1 has
    kernels of 5, width=128 and prior="uniform", today's usual kernels of 4 divide evenly by the stride.)
    `dcgan_optimizers` has the Adam settings that go with it. ValueError for images that are smaller, or not to be
    halved at all.

    Chapter: demos/book/15-dcgan.md
    """
    rng = checks.generator("dcgan", rng)
    H, W, C = checks.image_shape("dcgan", image_shape)
    latent = checks.integer("dcgan", "latent", latent)
    width = checks.integer("dcgan", "width", width)
    smallest = checks.integer("dcgan", "smallest", smallest, least=2)
    if min(H, W) < 8 or max(H, W) <= smallest:
        form = f"at least 8 pixels a side, and one of more than smallest = {smallest}"
        raise ValueError(f"dcgan: images are {H}×{W}, needs {form}")

    sizes = [(H, W)]  # of the feature maps, from the image inwards
    while max(sizes[-1]) > smallest:
        h, w = sizes[-1]
        sizes.append(((h + 1) // 2, (w + 1) // 2))
    base, channels = sizes[-1], [width * 2**i for i in range(len(sizes) - 1)]
    wide = channels[-1]
    options: dict[str, Any] = {"bias": False, "rng": rng}
    kernels = [(4 - h % 2, 4 - w % 2) for h, w in sizes[:-1]]
    doubling: list[dict[str, Any]] = [
        {"kernel_size": kernel, "stride": 2, "padding": 1, **options} for kernel in kernels
    ]

    up: list[Layer] = [Reshape(1, 1, latent), ConvTranspose2d(latent, wide, base, **options), BatchNorm(wide), ReLU()]
    for i in reversed(range(1, len(channels))):
        up += [ConvTranspose2d(channels[i], channels[i - 1], **doubling[i]), BatchNorm(channels[i - 1]), ReLU()]
    up += [ConvTranspose2d(width, C, **doubling[0]), Tanh()]

    down: list[Layer] = [Conv2d(C, width, **doubling[0]), LeakyReLU(0.2)]
    for i in range(1, len(channels)):
        down += [Conv2d(channels[i - 1], channels[i], **doubling[i]), BatchNorm(channels[i]), LeakyReLU(0.2)]
    down += [Conv2d(wide, 1, base, **options), Flatten()]

    model = GAN(Sequential(*up), Sequential(*down), latent, loss=loss, smoothing=smoothing, prior=prior)
    init.initialise(model, init.normal(0.02), rng)
    return model


def dcgan_optimizers(model: GAN, lr: float = 2e-4, betas: Sequence[float] = (0.5, 0.999)) -> tuple[Adam, Adam]:
    """(d_optimizer, g_optimizer): Adam as the paper sets it. β₁ = ½ forgets old gradients within a few steps, which
    calms a game whose gradients turn round."""
    d, g = model.discriminator.parameters(), model.generator.parameters()
    return Adam(d, lr, betas), Adam(g, lr, betas)
