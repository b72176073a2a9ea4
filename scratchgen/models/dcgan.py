"""The deep convolutional GAN: the architecture and settings of Radford et al. 2016, for images of any depth."""

from itertools import pairwise

from scratchgen import checks, init
from scratchgen.layers import BatchNorm, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, ReLU, Reshape, Sequential, Tanh
from scratchgen.models.gan import GAN
from scratchgen.optim import Adam

SMALLEST, LARGEST = 4, 7  # pixels at the side of the smallest feature map


def dcgan(
    image_shape=(28, 28, 1),
    latent: int = 100,
    width: int = 64,
    *,
    loss: str = "non-saturating",
    smoothing: float = 0.0,
    prior: str = "normal",
    rng=None,
) -> GAN:
    """A DCGAN for square images (H, H, C) in [−1, 1]: 28, 32, 64, 128 pixels, or any 4 to 7 doubled once or more.

        G   z → base × base      ConvT kernel base, stride 1: the "fully connected" layer as a convolution
              → twice the size   ConvT kernel 4, stride 2, padding 1, until the image is reached
        D   the mirror image:    Conv kernel 4, stride 2, padding 1, down to base × base, Conv kernel base → 1 logit

    base is what halving leaves at 4 to 7 pixels (28 → 7, 32, 64 and 128 → 4). Next to the image there are `width`
    channels, and twice as many for each halving. Batch normalisation after every layer *except G's output and D's
    input*: there it would force each batch of images to mean 0 and variance 1 per channel, which real images do not
    have, and the paper found that samples then oscillate. A bias before BatchNorm would be cancelled by its mean, and
    none is used elsewhere. ReLU in G with tanh at its output, LeakyReLU 0.2 in D, weights N(0, 0.02²).
    (Radford et al. 2016, §3 and §4.) `dcgan_optimizers` has the Adam settings that go with it.
    """
    rng = checks.generator("dcgan", rng)
    H, W, C = checks.image_shape("dcgan", image_shape)
    latent = checks.integer("dcgan", "latent", latent)
    width = checks.integer("dcgan", "width", width)
    base, halvings = _halvings(H, W)
    channels = [width * 2**i for i in range(halvings)]  # from the image inwards
    wide = channels[-1]
    options = {"bias": False, "rng": rng}
    double = {"kernel_size": 4, "stride": 2, "padding": 1, **options}

    up = [Reshape(1, 1, latent), ConvTranspose2d(latent, wide, base, **options), BatchNorm(wide), ReLU()]
    down = [Conv2d(C, width, **double), LeakyReLU(0.2)]
    for outer, inner in pairwise(channels):
        down += [Conv2d(outer, inner, **double), BatchNorm(inner), LeakyReLU(0.2)]
    for inner, outer in zip(channels[:0:-1], channels[-2::-1], strict=True):
        up += [ConvTranspose2d(inner, outer, **double), BatchNorm(outer), ReLU()]
    up += [ConvTranspose2d(width, C, **double), Tanh()]
    down += [Conv2d(wide, 1, base, **options), Flatten()]

    model = GAN(Sequential(*up), Sequential(*down), latent, loss=loss, smoothing=smoothing, prior=prior)
    init.initialise(model, init.normal(0.02), rng)
    return model


def dcgan_optimizers(model: GAN, lr: float = 2e-4, betas=(0.5, 0.999)) -> tuple[Adam, Adam]:
    """(d_optimizer, g_optimizer): Adam as the paper sets it. β₁ = ½ forgets old gradients within a few steps, which
    calms a game whose gradients turn round."""
    d, g = model.discriminator.parameters(), model.generator.parameters()
    return Adam(d, lr, betas), Adam(g, lr, betas)


def _halvings(H: int, W: int) -> tuple[int, int]:
    """The side of the smallest map, and how many times it is doubled to reach the image."""
    base, count = H, 0
    while base > LARGEST and base % 2 == 0:
        base, count = base // 2, count + 1
    if H != W or not SMALLEST <= base <= LARGEST or count == 0:
        sizes = sorted(b * 2**k for b in range(SMALLEST, LARGEST + 1) for k in range(1, 20))
        below = max((n for n in sizes if n <= H), default=sizes[0])
        raise ValueError(
            f"dcgan: images are {H}×{W}, needs squares whose side can be halved down to {SMALLEST} to {LARGEST} "
            f"pixels: 28, 32, 64, 128, or near yours {below} and {next(n for n in sizes if n > below)}"
        )
    return base, count
