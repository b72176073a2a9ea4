"""Models: networks and a loss. Each loss returns its pullback, so a whole model is proved like a layer."""

from scratchgen.models.autoencoder import Autoencoder, conv_autoencoder, dense_autoencoder
from scratchgen.models.dcgan import dcgan, dcgan_optimizers
from scratchgen.models.gan import GAN, dense_gan, point_gan
from scratchgen.models.likelihood import Bernoulli, Gaussian
from scratchgen.models.model import Model
from scratchgen.models.vae import VAE, conv_vae, dense_vae

__all__ = [
    "GAN",
    "VAE",
    "Autoencoder",
    "Bernoulli",
    "Gaussian",
    "Model",
    "conv_autoencoder",
    "conv_vae",
    "dcgan",
    "dcgan_optimizers",
    "dense_autoencoder",
    "dense_gan",
    "dense_vae",
    "point_gan",
]
