"""The autoencoder: a network that must reproduce its input through a bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np

from scratchgen import checks
from scratchgen.backend import Array
from scratchgen.functions import sigmoid
from scratchgen.layers import Layer
from scratchgen.layers.pullback import chain
from scratchgen.losses import bce_with_logits, mse
from scratchgen.models.model import Model
from scratchgen.models.networks import conv_networks, dense_networks
from scratchgen.optim import Optimizer

LOSSES = {"bernoulli": bce_with_logits, "squared-error": mse}


class Autoencoder(Model):
    """z = encoder(x), y = decoder(z), trained so that y describes x. Given x it always gives the same z.

    `loss="bernoulli"` takes y as the logits of pixels in [0, 1] (cross-entropy), `"squared-error"` takes y as the
    pixels themselves. With linear networks and squared error the best z spans the principal components (Baldi &
    Hornik 1989); what a deep network gains over PCA of the same dimension is what its non-linearity is worth.

    Chapter: demos/book/10-autoencoder.md
    """

    _instead = "use reconstruct(x), encode(x) or decode(z), or loss(x) for the loss and its pullback"
    inputs_like = MappingProxyType({"encoder": "decoder"})

    def __init__(self, encoder: Layer, decoder: Layer, *, loss: str = "bernoulli"):
        if loss not in LOSSES:
            raise ValueError(f"Autoencoder: loss is {loss!r}, needs one of {', '.join(map(repr, LOSSES))}")
        self.check_networks(encoder=encoder, decoder=decoder)
        self.encoder, self.decoder, self.loss_name = encoder, decoder, loss

    def loss(self, x: Array) -> tuple[Array, Callable[[], None]]:
        """loss, backward for a batch x; per sample, summed over its pixels. backward() returns nothing.

        ValueError where the loss is "bernoulli" and pixels are not in [0, 1]; on a GPU the loss is NaN then.
        """
        self._check_pixels(x)
        with self.unchanged_on_error():
            y, backward = chain(x, self.encoder, self.decoder)
            loss, dy = LOSSES[self.loss_name](y, x)
        return loss, lambda: backward(dy, need_dx=False)

    def train_step(self, x: Array, optimizer: Optimizer) -> Array:
        """One update on a batch; returns its loss before the update."""
        self.check_optimizer("optimizer", optimizer)
        loss, backward = self.loss(x)
        with self.no_gradient_on_error():
            backward()
        optimizer.step()
        return loss

    def predict_loss(self, x: Array) -> Array:
        """The loss of a batch for inference: nothing kept, BatchNorm by its running statistics."""
        self._check_pixels(x)
        loss, _ = LOSSES[self.loss_name](self.decoder.predict(self.encoder.predict(x)), x)
        return loss

    def encode(self, x: Array) -> Array:
        """The code z of each sample."""
        return self.encoder.predict(x)

    def decode(self, z: Array) -> Array:
        """The pixels that each code stands for: the mean of the pixel distribution."""
        y = self.decoder.predict(z)
        return sigmoid(y) if self.loss_name == "bernoulli" else y

    def reconstruct(self, x: Array) -> Array:
        """decode(encode(x))."""
        return self.decode(self.encode(x))

    def _check_pixels(self, x: Array) -> None:
        if self.loss_name == "bernoulli":
            checks.between("Autoencoder", "x", x, 0, 1, checks.UNIT)


def dense_autoencoder(
    image_shape: Sequence[int] = (28, 28, 1),
    *,
    latent: int = 32,
    hidden: Sequence[int] = (512, 128),
    loss: str = "bernoulli",
    rng: np.random.Generator | None = None,
) -> Autoencoder:
    """Fully connected: pixels → hidden … → latent, and the mirror image back, with ReLU between.

    The default is 784-512-128-32-128-512-784. (After Hinton & Salakhutdinov 2006.)
    """
    rng = checks.generator("dense_autoencoder", rng)
    networks = dense_networks("dense_autoencoder", image_shape, heads=1, latent=latent, hidden=hidden, rng=rng)
    return Autoencoder(*networks, loss=loss)


def conv_autoencoder(
    image_shape: Sequence[int] = (28, 28, 1),
    *,
    latent: int = 32,
    width: int = 32,
    loss: str = "bernoulli",
    rng: np.random.Generator | None = None,
) -> Autoencoder:
    """Convolutional: two strided convolutions down, one Dense to the code, two fractional-stride ones back up.

    Channels are width and 2·width; images of any size from 4×4 pixels. ReLU between.
    """
    rng = checks.generator("conv_autoencoder", rng)
    networks = conv_networks("conv_autoencoder", image_shape, heads=1, latent=latent, width=width, rng=rng)
    return Autoencoder(*networks, loss=loss)
