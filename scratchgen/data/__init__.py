"""Data: images and points from every source, and minibatches of them."""

from scratchgen.data.arrays import load_arrays
from scratchgen.data.augment import AUGMENTATIONS, augmented
from scratchgen.data.batches import epoch_rng, minibatches, to_float
from scratchgen.data.binarise import BINARISATIONS, binarise, to_signed, to_unit
from scratchgen.data.cifar import download_cifar10, load_cifar10
from scratchgen.data.dataset import Dataset, short_name
from scratchgen.data.download import DownloadError
from scratchgen.data.fashion import download_fashion_mnist, load_fashion_mnist
from scratchgen.data.folder import load_folder
from scratchgen.data.idx import IdxError, read_idx, write_idx
from scratchgen.data.load import FORMER, POINTS, SOURCES, load
from scratchgen.data.mnist import download_mnist, load_mnist, make_sample
from scratchgen.data.resize import resized
from scratchgen.data.toys import Points, grid, moons, ring

__all__ = [
    "AUGMENTATIONS",
    "BINARISATIONS",
    "FORMER",
    "POINTS",
    "SOURCES",
    "Dataset",
    "DownloadError",
    "IdxError",
    "Points",
    "augmented",
    "binarise",
    "download_cifar10",
    "download_fashion_mnist",
    "download_mnist",
    "epoch_rng",
    "grid",
    "load",
    "load_arrays",
    "load_cifar10",
    "load_fashion_mnist",
    "load_folder",
    "load_mnist",
    "make_sample",
    "minibatches",
    "moons",
    "read_idx",
    "resized",
    "ring",
    "short_name",
    "to_float",
    "to_signed",
    "to_unit",
    "write_idx",
]
