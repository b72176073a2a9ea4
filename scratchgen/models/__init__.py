"""Models: networks and a loss. Each loss returns its pullback, so a whole model is proved like a layer."""

from scratchgen.models.autoencoder import Autoencoder, conv_autoencoder, dense_autoencoder
from scratchgen.models.model import Model

__all__ = ["Autoencoder", "Model", "conv_autoencoder", "dense_autoencoder"]
