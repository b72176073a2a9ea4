"""The autoencoder: a network that must reproduce its input through a narrow waist."""

from itertools import pairwise
from math import prod

from scratchgen import checks, init
from scratchgen.backend.geometry import correlated_size, transposed_size
from scratchgen.functions import sigmoid
from scratchgen.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Layer, ReLU, Reshape, Sequential
from scratchgen.layers.pullback import Chain
from scratchgen.losses import bce_with_logits, mse
from scratchgen.models.model import Model

LOSSES = {"bernoulli": bce_with_logits, "squared-error": mse}


class Autoencoder(Model):
    """z = encoder(x), y = decoder(z), trained so that y describes x. Given x it always gives the same z.

    `loss="bernoulli"` takes y as the logits of pixels in [0, 1] (cross-entropy), `"squared-error"` takes y as the
    pixels themselves. With linear networks and squared error the best z spans the principal components (Baldi &
    Hornik 1989); what a deep network gains over PCA of the same dimension is what its non-linearity is worth.
    """

    def __init__(self, encoder: Layer, decoder: Layer, *, loss: str = "bernoulli"):
        if loss not in LOSSES:
            raise ValueError(f"Autoencoder: loss is {loss!r}, needs one of {', '.join(map(repr, LOSSES))}")
        for name, network in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(network, Layer):
                raise TypeError(f"Autoencoder: {name} is {network!r}, needs a Layer")
        self.encoder, self.decoder, self.loss_name = encoder, decoder, loss

    def loss(self, x):
        """loss, backward for a batch x; per sample, summed over its pixels. backward() returns nothing."""
        with self.unchanged_on_error():
            z, encoder_backward = self.encoder.forward(x)
            y, decoder_backward = self.decoder.forward(z)
            loss, dy = LOSSES[self.loss_name](y, x)

        chain = Chain([encoder_backward, decoder_backward])
        return loss, lambda: chain(dy, need_dx=False)

    def train_step(self, x, optimizer):
        """One update on a batch; returns its loss before the update."""
        loss, backward = self.loss(x)
        backward()
        optimizer.step()
        return loss

    def predict_loss(self, x):
        """The loss of a batch for inference: nothing kept, BatchNorm by its running statistics."""
        loss, _ = LOSSES[self.loss_name](self.decoder.predict(self.encoder.predict(x)), x)
        return loss

    def encode(self, x):
        """The code z of each sample."""
        return self.encoder.predict(x)

    def decode(self, z):
        """The pixels that each code stands for: the mean of the pixel distribution."""
        y = self.decoder.predict(z)
        return sigmoid(y) if self.loss_name == "bernoulli" else y

    def reconstruct(self, x):
        """decode(encode(x))."""
        return self.decode(self.encode(x))


def dense_autoencoder(
    image_shape=(28, 28, 1), *, latent: int = 32, hidden=(512, 128), loss: str = "bernoulli", rng=None
) -> Autoencoder:
    """Fully connected: pixels → hidden … → latent, and the mirror image back, with ReLU between.

    The default is 784-512-128-32-128-512-784. (After Hinton & Salakhutdinov 2006.)
    """
    rng = checks.generator("dense_autoencoder", rng)
    image_shape = checks.image_shape("dense_autoencoder", image_shape)
    pixels = prod(image_shape)
    encoder = Sequential(Flatten(), *_stack([pixels, *hidden, latent], rng))
    decoder = Sequential(*_stack([latent, *reversed(hidden), pixels], rng), Reshape(*image_shape))
    return _with_first_weights(Autoencoder(encoder, decoder, loss=loss), rng)


def conv_autoencoder(
    image_shape=(28, 28, 1), *, latent: int = 32, width: int = 32, loss: str = "bernoulli", rng=None
) -> Autoencoder:
    """Convolutional: two strided convolutions down, one Dense to the code, two fractional-stride ones back up.

    Channels are width and 2·width; images of any size from 4×4 pixels. ReLU between.
    """
    rng = checks.generator("conv_autoencoder", rng)
    H, W, C = checks.image_shape("conv_autoencoder", image_shape)
    down = {"kernel_size": 4, "stride": 2, "padding": 1, "rng": rng}
    half = _halved((H, W))
    quarter = _halved(half)
    if min(quarter) < 1:
        raise ValueError(f"conv_autoencoder: images are {H}×{W}, needs at least 4×4")
    code = (*quarter, 2 * width)
    encoder = Sequential(
        Conv2d(C, width, **down),  # half the size
        ReLU(),
        Conv2d(width, 2 * width, **down),  # a quarter
        ReLU(),
        Flatten(),
        Dense(prod(code), latent, rng=rng),
    )
    decoder = Sequential(
        Dense(latent, prod(code), rng=rng),
        ReLU(),
        Reshape(*code),
        ConvTranspose2d(2 * width, width, **down, output_padding=_left_over(half, quarter)),
        ReLU(),
        ConvTranspose2d(width, C, **down, output_padding=_left_over((H, W), half)),
    )
    return _with_first_weights(Autoencoder(encoder, decoder, loss=loss), rng)


def _stack(sizes, rng) -> list[Layer]:
    """Dense layers of these sizes with ReLU between them, none after the last."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [Dense(n_in, n_out, rng=rng), ReLU()]
    return layers[:-1]


def _with_first_weights(model: Autoencoder, rng) -> Autoencoder:
    """He weights where a ReLU follows, Glorot ones at the code, and the output layer near 0.

    An output of large random weights makes large first errors, and the steps against them leave many ReLU units dead.
    """
    for network in (model.encoder, model.decoder):
        for layer, following in pairwise(network.layers):
            if isinstance(following, ReLU):
                init.initialise(layer, init.he, rng)
    output = [layer for layer in model.decoder.layers if hasattr(layer, "fans")][-1]
    init.initialise(output, init.normal(1e-3), rng)
    return model


def _halved(size):
    return tuple(correlated_size(n, kernel=4, stride=2, padding=1, dilation=1) for n in size)


def _left_over(size, half):
    """The output_padding with which a layer that doubles `half` gives `size`."""
    return tuple(
        n - transposed_size(h, kernel=4, stride=2, padding=1, dilation=1, output_padding=0)
        for n, h in zip(size, half, strict=True)
    )
