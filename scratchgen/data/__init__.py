"""Data: IDX files, MNIST and minibatches."""

from scratchgen.data.batches import epoch_rng, minibatches, to_float
from scratchgen.data.dataset import Dataset
from scratchgen.data.idx import IdxError, read_idx, write_idx
from scratchgen.data.mnist import DownloadError, download_mnist, load_mnist, make_sample

__all__ = [
    "Dataset",
    "DownloadError",
    "IdxError",
    "download_mnist",
    "epoch_rng",
    "load_mnist",
    "make_sample",
    "minibatches",
    "read_idx",
    "to_float",
    "write_idx",
]
