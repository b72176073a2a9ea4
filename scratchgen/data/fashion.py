"""Fashion-MNIST, pictures of clothes in the format of MNIST: local files or download.

Source: Xiao, Rasul & Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking machine learning
algorithms, arXiv:1708.07747.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scratchgen.data.dataset import Dataset
from scratchgen.data.download import data_folder, download_files
from scratchgen.data.idx import read_idx
from scratchgen.data.labelled import find_all, read
from scratchgen.paths import as_path

# Of the published .gz files.
SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # the hashes make up for the missing s
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
PLACES = ("fashion-mnist", "FashionMNIST/raw")  # in a folder: as here, as torchvision puts them
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# How the test labels begin, of this data set and of MNIST: ten labels agree by chance once in 10^10.
FIRST_LABELS = [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
FIRST_LABELS_MNIST = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def load_fashion_mnist(source: str | os.PathLike[str], *, progress: bool = True) -> Dataset:
    """Load Fashion-MNIST: uint8 images `(N, 28, 28, 1)` in 0 … 255 and uint8 labels `(N,)` in 0 … 9.

    source:
        "download"  all 70,000 images, downloaded once and cached (`download_fashion_mnist`, with a bar if
                    `progress`)
        other       a directory which holds the four original files, named as those of MNIST, gzipped or not,
                    itself or in `fashion-mnist/` or `FashionMNIST/raw/`; the files may hold any number of images

    Raises FileNotFoundError for missing files, IdxError or ValueError for files that are not Fashion-MNIST,
    DownloadError for a failed download.
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f'source must be "download" or a directory, not {type(source).__name__}.')
    folder = download_fashion_mnist(progress=progress) if source == "download" else as_path(source)
    advice = 'Give a directory with the four files, or "download" to fetch them.'
    paths = find_all(folder, *PLACES, title="Fashion-MNIST", advice=advice)
    train, test = read(paths[0], paths[1], "Fashion-MNIST"), read(paths[2], paths[3], "Fashion-MNIST")
    counts = f"{len(train[0]):,} training and {len(test[0]):,} test images"
    return Dataset(f"Fashion-MNIST ({counts} from {folder})", *train, *test, CLASSES)


def is_fashion(test_labels: Path) -> bool:
    """Whether test labels are Fashion-MNIST's rather than MNIST's: by the first ten, else by the names of the two
    folders around them, as in FashionMNIST/raw.
    """
    first = read_idx(test_labels)[:10].tolist()
    if first in (FIRST_LABELS, FIRST_LABELS_MNIST):
        return first == FIRST_LABELS
    return any("fashion" in part.lower() for part in test_labels.parts[-3:-1])


def download_fashion_mnist(
    folder: str | os.PathLike[str] | None = None, *, mirrors: Sequence[str] = MIRRORS, progress: bool = True
) -> Path:
    """Download the four original files into `folder`, unless they are there with the right SHA-256.

    `folder` defaults to `fashion-mnist` in the cache, as in `download_mnist`; mirrors, hashes and damaged files
    are dealt with as there.

    Raises DownloadError, which lists every mirror with its reason.
    """
    advice = "Try again where there is a network, or give a directory with the four Fashion-MNIST files."
    return download_files(SHA256, data_folder(folder, "fashion-mnist"), mirrors, advice=advice, progress=progress)
