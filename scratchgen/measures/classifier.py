"""A small convolutional classifier, trained with this very library, by which generated images are measured."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from scratchgen import checks, init
from scratchgen.backend import Array, to_host
from scratchgen.backend.geometry import correlated_size
from scratchgen.data import Dataset, epoch_rng, to_float
from scratchgen.data.download import data_folder
from scratchgen.functions import softmax
from scratchgen.layers import BatchNorm, Conv2d, Dense, Flatten, ReLU, Sequential
from scratchgen.layers.pullback import chain
from scratchgen.losses import softmax_cross_entropy
from scratchgen.measures.arrays import blocks, finite
from scratchgen.measures.frechet import FeatureStatistics
from scratchgen.models.model import Model
from scratchgen.optim import Adam, Optimizer
from scratchgen.training import Settings, Training
from scratchgen.weights import load_weights, save_weights

VERSION = 1  # of the network and its training: a new number for every change of what either computes
FEATURES = 128
CONVOLUTIONS = ((16, 5), (32, 5), (64, 3))  # channels, kernel; each of stride 2
BATCH = 128
PEAK_LR = 3e-3
SHOWN = 180_000  # images by default: three times the 60,000 digits


class Classifier(Model):
    """Class probabilities p = softmax(head(features)), and 128 features, of images (N, H, W, C) of at least 8 × 8.

    features = three convolutions of stride 2 and a Dense layer, each with BatchNorm and ReLU; head = Dense. `labels`
    are those of the training images, ascending; column k of the probabilities is labels[k].

    Images are uint8, or floats in [0, 1] (a little more, as means of a normal decoder have it, is clipped). Every
    method raises TypeError or ValueError for other types, shapes and ranges and for elements that are not finite.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], labels: np.ndarray, *, rng: np.random.Generator | None = None
    ):
        self.image_shape = H, W, C = checks.image_shape("Classifier", image_shape)
        if min(H, W) < 8:
            raise ValueError(f"Classifier: images are {H}×{W}, needs at least 8×8")
        self.labels = np.unique(labels)
        if self.labels.size < 2 or self.labels.dtype.kind not in "iu":
            raise ValueError(f"Classifier: labels are {self.labels}, needs two or more different integers")
        rng = checks.generator("Classifier", rng)

        body = []
        for channels, kernel in CONVOLUTIONS:
            window = {"stride": 2, "padding": kernel // 2}
            body += [Conv2d(C, channels, kernel, **window, bias=False, rng=rng), BatchNorm(channels), ReLU()]
            H, W = (correlated_size(n, kernel, **window, dilation=1) for n in (H, W))  # half, rounded up
            C = channels
        body += [Flatten(), Dense(prod((H, W, C)), FEATURES, bias=False, rng=rng), BatchNorm(FEATURES), ReLU()]
        self.body = Sequential(*body)
        init.initialise(self.body, init.he, rng)
        self.head = Dense(FEATURES, len(self.labels), rng=rng)

    def loss(self, x: Array, index: Array) -> tuple[Array, Callable[[], None]]:
        """loss, backward: the cross-entropy in nats per image of x (N, H, W, C) and the true columns index (N,)."""
        with self.unchanged_on_error():
            logits, backward = chain(x, self.body, self.head)
            loss, dlogits = softmax_cross_entropy(logits, index)
        return loss, lambda: backward(dlogits, need_dx=False)

    def features(self, images: Array) -> np.ndarray:
        """What the last layer sees, (N, 128) float32, ≥ 0."""
        return np.concatenate([self.body.predict(x) for x in blocks(self._checked(images))])

    def classify(self, features: Array) -> np.ndarray:
        """Class probabilities (N, K) from features (N, 128)."""
        return softmax(self.head.predict(features))

    def predict_proba(self, images: Array) -> np.ndarray:
        """Class probabilities (N, K) float32 of images."""
        return self.classify(self.features(images))

    def accuracy(self, images: Array, labels: Array) -> float:
        """The share of images whose most probable class is their label; labels (N,)."""
        checks.library("Classifier", "labels", labels)
        if labels.shape != (len(images),):
            raise ValueError(f"Classifier: labels have shape {labels.shape}, needs ({len(images)},), one an image")
        found = self.labels[self.predict_proba(images).argmax(axis=1)]
        return float((found == to_host(labels)).mean())

    def statistics(self, images: Array) -> FeatureStatistics:
        """Mean and covariance of the features of N ≥ 2 images, for `frechet_distance` and `sample_quality`."""
        return FeatureStatistics.of(self.features(images))

    def _checked(self, images: Array) -> np.ndarray:
        """The images on the host: uint8 as they are, floats as float32 in [0, 1]."""
        checks.library("Classifier", "images", images)
        images = to_host(images)
        if images.ndim != 4 or images.shape[1:] != self.image_shape or len(images) == 0:
            form = ", ".join(map(str, self.image_shape))
            raise ValueError(f"Classifier: images have shape {images.shape}, needs (N, {form}) with N ≥ 1")
        if images.dtype == np.uint8:
            return images
        checks.float_array("Classifier", "images", images)
        low, high = finite("Classifier", "images", images).min(), images.max()
        if low < -0.5 or high > 1.5:
            raise ValueError(f"Classifier: images go from {low:g} to {high:g}, needs pixels in [0, 1]")
        return np.clip(images, 0, 1, dtype=np.float32, casting="same_kind")


def train_classifier(
    data: Dataset,
    *,
    epochs: int | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Classifier:
    """The classifier of the labelled Dataset `data`, trained on its training images, or read from the cache.

    The default is as many epochs as show 180,000 images: 3 for MNIST, 18 for its embedded sample. Images are shifted
    by up to a pixel, one way for a batch; Adam's rate rises for a tenth of the steps and then falls to 0, linearly.

    The weights are kept in the folder `cache`, by default `classifiers` in the directory SCRATCHGEN_CACHE if that
    variable is set, else in the user's cache directory, under a name that changes with the training images, their
    labels, the epochs, the seed and the version of this classifier. A damaged file is replaced, and a folder that
    cannot be written is done without; stderr says so.

    ValueError without labels, with fewer than two images or classes, and for images under 8 × 8; TypeError or
    ValueError unless epochs ≥ 1 and seed ≥ 0 are integers.
    """
    images, labels = data.train_images, data.train_labels
    if labels is None:
        raise ValueError(f"train_classifier: {data.name} has no labels")
    if len(images) < 2:
        raise ValueError(f"train_classifier: {data.name} has {len(images)} training images, needs two or more")
    epochs = -(-SHOWN // len(images)) if epochs is None else checks.integer("train_classifier", "epochs", epochs)
    seed = checks.integer("train_classifier", "seed", seed, least=0)
    classifier = Classifier(images.shape[1:], labels, rng=np.random.default_rng(seed))

    path = data_folder(cache, "classifiers") / f"{_fingerprint(images, labels, epochs, seed)}.safetensors"
    try:
        load_weights(classifier, path)
        return classifier
    except FileNotFoundError:
        pass
    except (ValueError, OSError) as error:
        _warn(f"{error}; the classifier is trained again")
    _train(classifier, images, labels, Settings(epochs=epochs, batch_size=BATCH, seed=seed), progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(classifier, path)
    except OSError as error:
        _warn(f"the classifier is not kept, {path} cannot be written: {error}")
    return classifier


def _train(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, settings: Settings, progress: bool
) -> None:
    for _ in _Training(_Recipe(classifier, images, labels, settings), images, settings).train(progress=progress):
        pass


class _Recipe:
    """A step of the classifier on a batch of indices; over all steps the rate rises for a tenth, and falls to 0."""

    def __init__(self, classifier: Classifier, images: np.ndarray, labels: np.ndarray, settings: Settings):
        self.model, self.images = classifier, images
        self.index = np.searchsorted(classifier.labels, labels)
        self.adam = Adam(classifier.parameters(), lr=PEAK_LR)
        self.optimizers: dict[str, Optimizer] = {"optimizer": self.adam}
        self.total = settings.epochs * -(-len(images) // settings.batch_size)  # steps

    def step(self, batch: np.ndarray, rng: np.random.Generator) -> dict[str, Array]:
        done = (self.adam.t + 0.5) / self.total
        self.adam.lr = PEAK_LR * min(done / 0.1, (1 - done) / 0.9)
        loss, backward = self.model.loss(_shifted(to_float(self.images[batch]), rng), self.index[batch])
        backward()
        self.adam.step()
        return {"loss": loss}

    def advice(self, *, updated: bool) -> str:
        return "the classifier cannot be trained on these images"


class _Training(Training):
    """Batches are indices, all of about one length, so that none has a single image, which BatchNorm refuses."""

    def batches(self) -> Iterator[np.ndarray]:
        self.rng = epoch_rng(self.settings.seed, self.epoch)
        return iter(np.array_split(self.rng.permutation(len(self.samples)), self.steps_per_epoch))


def _shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images (N, H, W, C) moved by −1, 0 or 1 pixel along each axis, all alike; zeros move in."""
    H, W = x.shape[1:3]
    i, j = rng.integers(0, 3, 2)
    return np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, i : i + H, j : j + W]


def _fingerprint(images: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> str:
    """The name of these weights: a SHA-256 of all that they are a function of."""
    digest = hashlib.sha256(f"classifier {VERSION}, {epochs} epochs, seed {seed}".encode())
    for array in (images, labels):
        digest.update(f", {array.dtype} {array.shape}: ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def _warn(text: str) -> None:
    print(f"scratchgen: {text}", file=sys.stderr)
