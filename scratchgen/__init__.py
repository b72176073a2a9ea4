"""scratchgen: layers with hand-written gradients, proved, and the generative models built on them.

Reading order:

    layers/layer.py, layers/pullback.py        the contract; layers/parameter.py: value and gradient
    layers/dense.py, layers/activations.py     the first derivations
    backend/formula.py, backend/reference.py   formulas, and the kernels as formulas
    layers/conv.py, backend/geometry.py        convolution, and which pixel is under which tap
    layers/pooling.py, layers/batchnorm.py, layers/sequential.py
    layers/random.py, layers/dropout.py        what is drawn in each pass; layers/augment.py: random changes of images
    losses.py, optim.py, schedules.py, init.py
    gradcheck/                                 the proof
    models/model.py, models/autoencoder.py     a model, differentiated and checked like a layer
    models/vae.py, models/likelihood.py        a random latent cause
    models/gan.py                              a game of two networks
    models/dcgan.py                            the convolutional architecture
    backend/numpy_ops/, backend/threads.py     the kernels again, fast; backend/compiled/: as loops in machine code
    training/, recipes/, measures/             the loop, what each model adds to it, and how good the result is
"""

from scratchgen import starting  # isort: skip  # noqa: F401  first of all: Ctrl-C may come at any moment
from scratchgen import blas  # isort: skip  # noqa: F401  before NumPy is loaded: it speaks to its BLAS
from typing import TYPE_CHECKING

from scratchgen.backend import Array, BackendUnavailable
from scratchgen.backend.threads import get_threads, set_threads
from scratchgen.init import initialise
from scratchgen.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2d,
    Module,
    Parameter,
    Random,
    RandomCutout,
    RandomFlip,
    RandomShift,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
    frozen,
)
from scratchgen.losses import bce_with_logits, gaussian_kl, gaussian_nll, mse, softmax_cross_entropy
from scratchgen.models import (
    GAN,
    VAE,
    Autoencoder,
    Bernoulli,
    Gaussian,
    conv_autoencoder,
    conv_vae,
    dcgan,
    dcgan_optimizers,
    dense_autoencoder,
    dense_gan,
    dense_vae,
    point_gan,
)
from scratchgen.optim import SGD, Adam, AdamW, RMSprop
from scratchgen.version import __version__
from scratchgen.weights import load_weights, save_weights

if TYPE_CHECKING:
    from scratchgen import gradcheck
    from scratchgen.commands.in_python import train
    from scratchgen.export import export_torch
    from scratchgen.plots.sheet import show
else:

    def __getattr__(name):
        """What training does without is loaded when it is first asked for."""
        from importlib import import_module

        if name == "gradcheck":
            return import_module("scratchgen.gradcheck")
        if name == "export_torch":
            return import_module("scratchgen.export").export_torch
        if name == "show":
            return import_module("scratchgen.plots.sheet").show
        if name == "train":
            return import_module("scratchgen.commands.in_python").train
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "GAN",
    "SGD",
    "VAE",
    "Adam",
    "AdamW",
    "Array",
    "Autoencoder",
    "AvgPool2d",
    "BackendUnavailable",
    "BatchNorm",
    "Bernoulli",
    "Conv2d",
    "ConvTranspose2d",
    "Dense",
    "Dropout",
    "Flatten",
    "Gaussian",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "MaxPool2d",
    "Module",
    "Parameter",
    "RMSprop",
    "Random",
    "RandomCutout",
    "RandomFlip",
    "RandomShift",
    "ReLU",
    "Reshape",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "__version__",
    "bce_with_logits",
    "conv_autoencoder",
    "conv_vae",
    "dcgan",
    "dcgan_optimizers",
    "dense_autoencoder",
    "dense_gan",
    "dense_vae",
    "export_torch",
    "frozen",
    "gaussian_kl",
    "gaussian_nll",
    "get_threads",
    "gradcheck",
    "initialise",
    "load_weights",
    "mse",
    "point_gan",
    "save_weights",
    "set_threads",
    "show",
    "softmax_cross_entropy",
    "train",
]
